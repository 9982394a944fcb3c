"""The calibrated constants: few, named, inside their physical range."""

from __future__ import annotations

from typing import get_args

import pytest

from cascadesim.accelerators.gpu.calibration import NEAREST, SHARED, Constants, CycleConstants, constants, estimates
from cascadesim.accelerators.gpu.spec import Generation


def test_an_architecture_has_five_constants_two_of_the_cycle_level_and_shares_fourteen() -> None:
    own, cycle_level = set(Constants.model_fields) - set(SHARED), set(CycleConstants.model_fields)
    assert (len(own), len(cycle_level), len(SHARED)) == (5, 2, 14)
    assert set(estimates()["shared"]) == set(SHARED)
    assert all(set(found) == own | cycle_level for section, found in estimates().items() if section != "shared")


def test_every_fraction_is_below_one_and_every_latency_some_microseconds() -> None:
    fractions = {name for name, field in Constants.model_fields.items() if field.metadata and field.annotation is float
                 and any(getattr(one, "lt", None) == 1 for one in field.metadata)}  # fmt: skip
    assert {"tensor_fraction", "memory_overlap", "spilled_rate"} <= fractions
    for found in estimates().values():
        for name, estimate in found.items():
            highest = 1 if name in fractions else 3e-5 if name.endswith("_s") else 30
            assert 0 <= estimate.value < highest, name


def test_every_generation_has_constants_of_its_own_or_of_the_nearest() -> None:
    for generation in get_args(Generation):
        assert 0 < constants(generation).dram_fraction < 1
    assert set(estimates()) - {"shared"} | set(NEAREST) == set(get_args(Generation))


def test_shared_constants_are_the_same_on_every_generation() -> None:
    hopper, ada = constants("hopper"), constants("ada")
    assert all(getattr(hopper, name) == getattr(ada, name) for name in SHARED)
    assert hopper.tensor_fraction != pytest.approx(ada.tensor_fraction, rel=1e-3)
