"""The behavioural simulator as an architecture: the cycles of its layers, closed forms only."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.protocol import Prepares
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.texts.attention import ATTENTION_3PASS


def attention(heads: int, keys: int, queries: int, depth: int = 64) -> Operation:
    extents = {"b": 1, "h": heads, "g": 1, "m": keys, "p": queries, "e": depth, "f": depth}
    return Operation("attention", "attention", ATTENTION_3PASS, tuple(extents.items()))


@pytest.mark.parametrize(
    ("keys", "queries", "cycles"), [(1, 1, 107), (8, 8, 114), (1024, 1024, 131559), (31, 128, 627)]
)
def test_a_head_takes_the_cycles_of_the_original(keys: int, queries: int, cycles: int) -> None:
    """bert.cpp of mit-han-lab/spatten, 16 channels, 512 multipliers, 8 bits, no top-k."""
    plan = load("spatten-behavioural").plan(attention(1, keys, queries), "physical")
    assert plan.phases[0].analytical_cycles == cycles


def test_it_has_closed_forms_only_and_no_energy() -> None:
    machine = load("spatten-behavioural")
    assert not machine.capabilities.cycle_level
    assert isinstance(machine, Prepares)
    plan = machine.plan(attention(2, 64, 64), "physical")
    assert plan.dynamic_energy_j is None
    assert plan.phases[0].program is plan.phases[0].model is None
    assert machine.area_um2() is None


def test_a_head_of_128_is_two_heads() -> None:
    machine = load("spatten-behavioural")
    wide, two = (machine.plan(attention(heads, 64, 64, depth), "physical") for heads, depth in ((1, 128), (2, 64)))
    assert wide.phases[0].analytical_cycles == two.phases[0].analytical_cycles
