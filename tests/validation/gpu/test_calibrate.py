"""Calibration reads its own rows only, keeps constants physical, says how sure it is, and gives the same file again."""

from __future__ import annotations

import numpy as np
import pytest

from cascadesim.accelerators.gpu.calibration import FILE, Constants, estimates
from cascadesim.einsum_cascades.notation.schema import parse_yaml
from cascadesim.validation.gpu import left_out as gpu_left_out
from cascadesim.validation.gpu.calibrate import (
    ARCHITECTURES,
    STATED,
    Calibrated,
    calibrate,
    calibration_rows,
    text,
    without,
)


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
    one = Calibrated(values, dict.fromkeys(values, 0.7), dict.fromkeys(values, 40))
    entry = parse_yaml(text({"hopper": one}), "test")["hopper"]["tensor_fraction"]
    assert entry == {"value": 0.5, "low": 0.0, "high": 1.0, "rows": 40}


@pytest.mark.slow
def test_the_constants_are_what_calibration_finds_today() -> None:
    """If not: python -m cascadesim.validation.gpu.calibrate. Ada is the quickest; four digits are kept."""
    found = calibrate(calibration_rows("ada"), intervals=False).values
    kept = estimates()["ada"]
    assert FILE.read_text(encoding="utf-8").startswith("# Written by")
    for name, value in found.items():
        assert kept[name].value == pytest.approx(value, rel=2e-3, abs=1e-4 if not name.endswith("_s") else 1e-9)


@pytest.mark.slow
def test_the_constants_without_a_device_are_what_calibration_finds_today() -> None:
    kept = gpu_left_out.left_out_constants()["rtx4090"]
    for name, value in without("rtx4090").items():
        assert getattr(kept, name) == pytest.approx(value, rel=2e-3)


def test_constants_that_have_not_seen_a_device_differ_from_those_that_have() -> None:
    unseen, seen = gpu_left_out.left_out_constants()["b200"], estimates()["blackwell"]
    assert np.any([getattr(unseen, name) != pytest.approx(one.value, rel=1e-2) for name, one in seen.items()])
