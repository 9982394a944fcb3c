"""The public behavioural simulator: layers summed by hand, runs of the original, its undefined layers."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.protocol import Prepares
from cascadesim.accelerators.spatten.behavioural import (
    DRAIN_CYCLES,
    BehaviouralDesign,
    Head,
    layer_cycles,
    mersenne_twister,
    selection_lengths,
    total_cycles,
    uniform_int,
)
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_3PASS

DESIGN = BehaviouralDesign()


def test_one_query_over_one_key() -> None:
    """One line of 8 vectors: 8 x 64 bytes = 16 transactions on 16 channels, for K and V: 2 cycles; fill 1 x 1; drain
    103 + 1. The original prints 107."""
    found = layer_cycles([Head(1, 1, 8, 8)], DESIGN)
    assert (found.dram, found.fill, found.drain, found.topk) == (2, 1, DRAIN_CYCLES + 1, 0)
    assert found.total == 107


def test_every_head_is_fetched_and_filled_and_one_drains() -> None:
    """3 heads, 10 queries, 20 keys: 3 lines each. DRAM 3 x 2 x 3, fill 3 x 10 x 3, drain 103 + 3."""
    found = layer_cycles([Head(10, 20, 8, 8)] * 3, DESIGN)
    assert (found.dram, found.fill, found.drain) == (18, 90, 106)


def test_bits_shorten_the_fetch_and_six_are_stored_as_eight() -> None:
    """64 keys: 64 x 64 x bits / 8 / 32 transactions: 64 at 4 bits, 128 at 8, over 16 channels."""
    fetch = {bits: layer_cycles([Head(1, 64, bits, 4)], DESIGN).dram - 4 for bits in (4, 6, 8, 12, -1)}
    assert fetch == {4: 4, 6: 8, 8: 8, 12: 8, -1: 8}


# bert.cpp of mit-han-lab/spatten (commit a0f1388): queries, keys, topk, cycles of a layer of one head
PUBLISHED = [(1, 1, None, 107), (8, 8, None, 114), (8, 8, 4, 126), (1024, 1024, None, 131559),
             (128, 7, None, 234), (128, 17, None, 496), (128, 31, None, 627)]  # fmt: skip


@pytest.mark.parametrize(("queries", "keys", "topk", "cycles"), PUBLISHED)
def test_layers_take_the_cycles_of_the_original(queries: int, keys: int, topk: int | None, cycles: int) -> None:
    assert layer_cycles([Head(queries, keys, 8, 8, topk)], DESIGN).total == cycles


def test_selecting_heads_of_a_layer_take_the_next_seed_each() -> None:
    alone = layer_cycles([Head(1, 30, 8, 8, 9)], DESIGN).topk
    both = layer_cycles([Head(1, 30, 8, 8, 9)] * 2, DESIGN).topk
    lengths = [selection_lengths(30, 9, seed) for seed in (0, 1)]
    assert None not in lengths
    rounds = [sum(length // 4 + 4 for length in found or ()) + 4 + 2 for found in lengths]  # lines in, lines out
    assert alone == rounds[0]
    assert both == sum(rounds)


def test_a_layer_that_the_original_leaves_undefined_has_no_cycles() -> None:
    """A pivot index may be one past the end: probability 1 / (n + 1) a round, so some seed of few keys meets it."""
    seed = next(seed for seed in range(100) if selection_lengths(3, 1, seed) is None)
    found = layer_cycles([Head(1, 3, 8, 8, 1)] * (seed + 1), DESIGN)
    assert found.topk is None
    assert found.total is None
    assert total_cycles([found]) is None


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 16))
def test_cycles_grow_with_queries_and_keys(queries: int, keys: int, channels: int) -> None:
    design = BehaviouralDesign(dram_channels=channels)
    least, *larger = (
        layer_cycles([Head(*shape, 8, 8)], design).total or 0
        for shape in ((queries, keys), (queries + 1, keys), (queries, keys + 1))
    )
    assert 0 < least <= min(larger)


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


def test_the_mersenne_twister_is_the_standards() -> None:
    """C++ standard, [rand.predef]: the 10000th output of a default-constructed mt19937 (seed 5489) is 4123659995."""
    draws = list(islice(mersenne_twister(5489), 10_000))
    assert draws[0] == 3499211612
    assert draws[-1] == 4123659995


def test_uniform_draws_take_the_upper_half_of_a_product() -> None:
    """3499211612 x 10 = 8 x 2^32 + 632376832: the first draw of 0 .. 9 is 8, and the remainder is no low one."""
    assert uniform_int(mersenne_twister(5489), 0, 9) == 8


def test_uniform_draws_reject_a_low_remainder() -> None:
    """Range 3: 2^32 mod 3 = 1, so only a remainder of 0 is drawn again: draw 0 is, draw 2^31 gives 1."""
    assert uniform_int(iter([0, 1 << 31]), 0, 2) == 1


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 2**32 - 1))
def test_uniform_draws_stay_in_their_range(low: int, size: int, seed: int) -> None:
    assert low <= uniform_int(mersenne_twister(seed), low, low + size) <= low + size
