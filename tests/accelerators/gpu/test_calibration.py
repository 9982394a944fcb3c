"""The calibrated constants: few, named, inside their physical range."""

from __future__ import annotations

from typing import get_args

from cascadesim.accelerators.gpu.calibration import NEAREST, Constants, constants, estimates
from cascadesim.accelerators.gpu.spec import Generation


def test_an_architecture_has_at_most_twelve_constants() -> None:
    assert len(Constants.model_fields) <= 12
    assert all(set(found) == set(Constants.model_fields) for found in estimates().values())


def test_every_fraction_is_below_one_and_every_latency_some_microseconds() -> None:
    for found in estimates().values():
        for name, estimate in found.items():
            assert 0 <= estimate.value < (3e-5 if name.endswith("_s") else 1), name


def test_every_generation_has_constants_of_its_own_or_of_the_nearest() -> None:
    for generation in get_args(Generation):
        assert 0 < constants(generation).dram_fraction < 1
    assert set(estimates()) | set(NEAREST) == set(get_args(Generation))
