"""The public behavioural simulator: layers summed by hand, runs of the original, its undefined layers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.accelerators.spatten.behavioural import (
    DRAIN_CYCLES,
    BehaviouralDesign,
    Head,
    layer_cycles,
    selection_lengths,
    total_cycles,
)

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
