"""Calibration reads its own rows only, keeps constants physical, says how sure it is, and gives the same file again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cascadesim.accelerators.gpu.calibration import FILE, Constants, CycleConstants, estimates
from cascadesim.accelerators.gpu.spec import Generation
from cascadesim.einsum_cascades.notation.schema import parse_yaml
from cascadesim.validation.gpu.calibrate import (
    ARCHITECTURES,
    RANGES,
    FittedConstants,
    Floats,
    Range,
    beginning,
    calibrate,
    calibrate_cycle_level,
    calibration_rows,
    cycle_residuals,
    cycle_rows,
    fit,
    jackknife,
    joined,
    ranges,
    readers,
    sections,
    text,
    without,
)
from cascadesim.validation.gpu.model import left_out_constants, predicted_cycle_level_s


def test_only_calibration_rows_are_read() -> None:
    rows = calibration_rows()
    assert set(rows.split.tolist()) == {"calibration"}
    assert set(rows.architecture.tolist()) == set(ARCHITECTURES)


def test_a_device_left_out_is_left_out() -> None:
    assert "h100-sxm" not in calibration_rows("h100-sxm").device
    assert "blackwell" not in calibration_rows("b200").architecture


def test_every_constant_has_a_range_and_is_inside_it() -> None:
    assert set(RANGES) == {*Constants.model_fields, *CycleConstants.model_fields}
    for section, names in sections().items():
        found = estimates()[section]  # type: ignore[index]
        assert set(found) == {*names, *(CycleConstants.model_fields if section != "shared" else ())}
        for name, one in found.items():
            assert one.low <= one.value <= one.high
            assert 0 < one.value < RANGES[name][0]
            assert one.rows > 0, name


@pytest.mark.slow
def test_a_row_reads_the_constants_of_its_architecture_and_the_shared_ones() -> None:
    """A product: its own rate, DRAM and L2."""
    rows, bounds = calibration_rows(), ranges()
    read = {(one.section, one.name): column for one, column in zip(bounds, readers(rows, bounds).T, strict=True)}
    product = rows.operation == "gemm"
    assert not read["shared", "block_latency_s"][product].any()
    assert not read["shared", "special_fraction"][product].any()
    assert read["shared", "gemm_fraction"][product].any()
    assert read["hopper", "dram_ramp_s"][product & (rows.architecture == "hopper")].any()
    assert read["shared", "l2_fraction"][product].any()
    for (section, name), column in read.items():
        assert column.any(), (section, name)
        assert section == "shared" or set(rows.architecture[column].tolist()) == {section}


def test_the_file_reads_back_as_it_was_written() -> None:
    values = dict.fromkeys(Constants.model_fields, 0.5)
    one = FittedConstants(values, dict.fromkeys(values, 0.7), dict.fromkeys(values, 40))
    entry = parse_yaml(text({"hopper": one}), "test")["hopper"]["tensor_fraction"]
    assert entry == {"value": 0.5, "low": 0.0, "high": 1.0, "rows": 40}


@pytest.mark.slow
@pytest.mark.parametrize("anew", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_the_constants_are_what_calibration_finds_today(anew: bool) -> None:
    """If not: python -m cascadesim.validation.gpu.calibrate. Compilers round otherwise: a tenth of each interval.

    From the file's own, which a fit leaves at its first step if it is no longer best; each night as the file was made.
    """
    assert FILE.read_text(encoding="utf-8").startswith("# Written by")
    own = {section: {name: one.value for name, one in known.items()} for section, known in estimates().items()}
    for section, found in calibrate(calibration_rows(), intervals=False, start=None if anew else own).items():
        for name, value in found.values.items():
            kept = estimates()[section][name]  # type: ignore[index]
            assert abs(kept.value - value) <= 0.1 * (kept.high - kept.low) + 1e-3 * value, (section, name)


@pytest.mark.slow
def test_the_cycle_level_is_fitted_to_its_own_predictions() -> None:
    """Known constants are found again from times that they predict; the closed form has no part in it."""
    rows = cycle_rows("hopper")
    rows = rows.at(np.arange(0, len(rows), 12))
    bounds = tuple(Range(name, *RANGES[name], "hopper") for name in CycleConstants.model_fields)
    known = CycleConstants(cycle_tensor_fraction=0.6, cycle_exponential_share=0.5)
    made = replace(rows, latency_s=predicted_cycle_level_s(rows, {"hopper": known}))
    found = fit(cycle_residuals(made, bounds), bounds, np.ones(len(made)), difference=0.05)
    assert found == pytest.approx([0.6, 0.5], abs=0.06)
    assert set(rows.split.tolist()) == {"calibration"}


@pytest.mark.slow
@pytest.mark.parametrize(("section", "anew"), [
    ("ada", False), *(pytest.param(name, True, marks=pytest.mark.nightly) for name in ARCHITECTURES),
])  # fmt: skip
def test_the_constants_of_the_cycle_level_are_what_calibration_finds_today(section: Generation, anew: bool) -> None:
    """From the file's own; each night from the best of a grid, as the file was made."""
    own = {name: estimates()[section][name].value for name in CycleConstants.model_fields}
    found = calibrate_cycle_level(intervals=False, architectures=(section,), start=None if anew else {section: own})
    for name, value in found[section].values.items():
        kept = estimates()[section][name]
        assert abs(kept.value - value) <= 0.1 * (kept.high - kept.low) + 0.02 * value, name


def test_the_file_has_the_constants_of_both_levels() -> None:
    one = FittedConstants({"a": 1.0}, {"a": 0.1}, {"a": 3})
    both = joined({"shared": one, "ada": one}, {"ada": FittedConstants({"b": 2.0}, {"b": 0.2}, {"b": 4})})
    assert both["shared"] == one
    assert both["ada"] == FittedConstants({"a": 1.0, "b": 2.0}, {"a": 0.1, "b": 0.2}, {"a": 3, "b": 4})


@pytest.mark.nightly
def test_the_constants_without_a_device_are_what_calibration_finds_today() -> None:
    kept = left_out_constants()["rtx4090"]
    found = {**estimates()["shared"], **estimates()["ada"]}
    for name, value in without("rtx4090").items():
        assert abs(getattr(kept, name) - value) <= 0.1 * (found[name].high - found[name].low) + 2e-3 * value, name


def test_constants_that_have_not_seen_a_device_differ_from_those_that_have() -> None:
    unseen, seen = left_out_constants()["b200"], estimates()["blackwell"]
    assert np.any([getattr(unseen, name) != pytest.approx(seen[name].value, rel=1e-2)
                   for name in Constants.model_fields if name in seen])


WORK = np.linspace(1.0, 50.0, 40)
KNOWN = (Range("fraction", 1.0, 0.5), Range("latency", 10.0, 1.0))


def seconds(constants: Floats) -> Floats:
    """Work at a fraction of a rate of 1, after a latency."""
    fraction, latency = constants
    return np.asarray(latency + WORK / fraction)


def found(measured: Floats, weights: Floats | None = None) -> Floats:
    return fit(lambda constants: np.log(seconds(constants) / measured), KNOWN,
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


def test_knowing_which_row_reads_which_constant_finds_the_same() -> None:
    """Two devices of a fraction each, and one latency for both: columns of the Jacobian that no row shares are one."""
    both, second = np.concatenate([WORK, WORK]), np.repeat([False, True], len(WORK))
    ranges_ = (Range("first", 1.0, 0.5), Range("second", 1.0, 0.5), Range("latency", 10.0, 1.0))

    def residuals(values: Floats) -> Floats:
        predicted = values[2] + both / np.where(second, values[1], values[0])
        return np.asarray(np.log(predicted / (3.0 + both / np.where(second, 0.6, 0.8))))

    read = np.stack([~second, second, np.ones(len(both), dtype=bool)], axis=1)
    found_ = fit(residuals, ranges_, np.ones(len(both)), read=read)
    assert found_ == pytest.approx([0.8, 0.6, 3.0], rel=0.02)
    assert found_ == pytest.approx(fit(residuals, ranges_, np.ones(len(both))), rel=1e-2)


def test_a_constant_that_no_row_speaks_of_stays_where_it_starts() -> None:
    measured = WORK / 0.8
    ranges_ = (*KNOWN, Range("unused", 1.0, 0.3))
    one = fit(lambda constants: np.log(seconds(constants[:2]) / measured), ranges_, np.ones(len(WORK)))
    assert one[2] == pytest.approx(0.3)


def test_a_fit_that_begins_at_the_best_of_a_grid_leaves_a_hollow() -> None:
    """Residuals of 0.1 at 0.3, rising on both sides to 0.4 at 0.5, and none at 0.85: downhill from 0.4 ends at 0.3."""
    only = (Range("share", 1.0, 0.4),)

    def residuals(values: Floats) -> Floats:
        hollow = np.interp(values, [0.0, 0.3, 0.5, 0.85, 1.0], [0.6, 0.1, 0.4, 0.0, 0.3])
        return np.repeat(hollow, 10)

    begun = beginning(residuals, only, np.ones(10))
    assert fit(residuals, only, np.ones(10)) == pytest.approx([0.3], abs=0.03)
    assert fit(residuals, only, np.ones(10), begun) == pytest.approx([0.85], abs=0.03)
