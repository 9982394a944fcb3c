"""Calibration reads its own rows only, keeps constants physical, says how sure it is, and gives the same file again."""

from __future__ import annotations

import numpy as np
import pytest

from cascadesim.accelerators.gpu.calibration import FILE, Constants, estimates
from cascadesim.einsum_cascades.notation.schema import parse_yaml
from cascadesim.validation.gpu.calibrate import (
    ARCHITECTURES,
    STATED,
    FittedConstants,
    Floats,
    Range,
    calibrate,
    calibration_rows,
    fit,
    jackknife,
    text,
    without,
)
from cascadesim.validation.gpu.model import left_out_constants


def test_only_calibration_rows_are_read() -> None:
    for architecture in ARCHITECTURES:
        rows = calibration_rows(architecture)
        assert set(rows.split.tolist()) == {"calibration"}
        assert set(rows.architecture.tolist()) == {architecture}


def test_a_device_left_out_is_left_out() -> None:
    assert "h100-sxm" not in calibration_rows("hopper", "h100-sxm").device
    assert len(calibration_rows("blackwell", "b200")) == 0


def test_at_most_twelve_constants_are_calibrated_and_all_are_physical() -> None:
    for architecture in ARCHITECTURES:
        found = estimates()[architecture]  # type: ignore[index]
        calibrated = [name for name, one in found.items() if one.rows > 0]
        assert len(calibrated) <= 12
        assert not set(calibrated) & set(STATED[architecture])
        for name, one in found.items():
            assert one.low <= one.value <= one.high
            assert 0 < one.value < (1e-5 if name.endswith("_s") else 1)


def test_the_file_reads_back_as_it_was_written() -> None:
    values = dict.fromkeys(Constants.model_fields, 0.5)
    one = FittedConstants(values, dict.fromkeys(values, 0.7), dict.fromkeys(values, 40))
    entry = parse_yaml(text({"hopper": one}), "test")["hopper"]["tensor_fraction"]
    assert entry == {"value": 0.5, "low": 0.0, "high": 1.0, "rows": 40}


@pytest.mark.slow
def test_the_constants_are_what_calibration_finds_today() -> None:
    """If not: python -m cascadesim.validation.gpu.calibrate. Ada is the quickest.

    The file was written by a search of our own with the same objective; the least squares of scipy end elsewhere in
    the same flat valley, by less than a quarter of each constant's 95 % interval.
    """
    found = calibrate(calibration_rows("ada"), intervals=False).values
    kept = estimates()["ada"]
    assert FILE.read_text(encoding="utf-8").startswith("# Written by")
    for name, value in found.items():
        assert abs(kept[name].value - value) <= 0.25 * (kept[name].high - kept[name].low) + 1e-9, name


@pytest.mark.slow
def test_the_constants_without_a_device_are_what_calibration_finds_today() -> None:
    kept = left_out_constants()["rtx4090"]
    width = {name: one.high - one.low for name, one in estimates()["ada"].items()}
    for name, value in without("rtx4090").items():
        assert abs(getattr(kept, name) - value) <= 0.5 * width[name] + 2e-3 * value, name


def test_constants_that_have_not_seen_a_device_differ_from_those_that_have() -> None:
    unseen, seen = left_out_constants()["b200"], estimates()["blackwell"]
    assert np.any([getattr(unseen, name) != pytest.approx(one.value, rel=1e-2) for name, one in seen.items()])


WORK = np.linspace(1.0, 50.0, 40)
RANGES = (Range("fraction", 1.0, 0.5), Range("latency", 10.0, 1.0))


def seconds(constants: Floats) -> Floats:
    """Work at a fraction of a rate of 1, after a latency."""
    fraction, latency = constants
    return np.asarray(latency + WORK / fraction)


def found(measured: Floats, weights: Floats | None = None) -> Floats:
    return fit(lambda constants: np.log(seconds(constants) / measured), RANGES,
               np.ones(len(WORK)) if weights is None else weights)  # fmt: skip


def test_known_constants_are_found() -> None:
    assert found(seconds(np.array([0.8, 3.0]))) == pytest.approx([0.8, 3.0], rel=0.02)


def test_three_rows_ten_times_too_slow_hardly_matter() -> None:
    measured = seconds(np.array([0.8, 3.0]))
    measured[[5, 20, 30]] *= 10
    assert found(measured) == pytest.approx([0.8, 3.0], rel=0.05)


def test_a_row_without_weight_does_not_count() -> None:
    measured, weights = seconds(np.array([0.8, 3.0])), np.ones(len(WORK))
    measured[:10] *= 2
    weights[:10] = 0
    assert found(measured, weights) == pytest.approx([0.8, 3.0], rel=0.03)


def test_a_device_faster_than_its_peak_stays_below_1() -> None:
    """Measured at 1.5 times the rate: the fraction goes to its end and not beyond."""
    fraction, latency = found(WORK / 1.5)
    assert 0.99 < fraction < 1
    assert 0 < latency < 0.1


def test_the_interval_is_the_scatter_of_fits_without_a_group() -> None:
    """Means of 1, 2, 3 without one: 2.5, 2, 1.5; variance 2/3 x (0.25 + 0 + 0.25) = 1/3; 1.96 / sqrt(3)."""
    rows = np.array([1.0, 2.0, 3.0])
    half = jackknife(lambda kept: np.array([rows[kept].mean()]), np.array([0, 1, 2]), np.array([2.0]))
    assert half == pytest.approx([1.96 / 3**0.5])


def test_a_constant_that_no_row_speaks_of_stays_where_it_starts() -> None:
    measured = WORK / 0.8
    ranges = (*RANGES, Range("unused", 1.0, 0.3))
    one = fit(lambda constants: np.log(seconds(constants[:2]) / measured), ranges, np.ones(len(WORK)))
    assert one[2] == pytest.approx(0.3)
