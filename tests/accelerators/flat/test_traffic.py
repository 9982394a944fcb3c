"""Words under FLAT's loop nests against closed forms, and many block sizes at once against one at a time."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.binding import bind_attention
from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.flat.accelerator import Flat
from cascadesim.accelerators.flat.geometry import FlatCase
from cascadesim.accelerators.flat.search import evaluate
from cascadesim.accelerators.flat.spec import Dataflow, FlatArray, Stationarity
from cascadesim.accelerators.flat.traffic import contraction_cycles, contraction_table
from cascadesim.accelerators.spatial.attention_tiles import AttentionShape
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_3PASS

BINDING = bind_attention(ATTENTION_3PASS)
S, E, SIDE = 1024, 64, 256  # one head on the cloud array: 4 x 4 score tiles


def spec(name: str = "flat") -> FlatArray:
    return cast(Flat, load(name)).spec


def dram(on_chip: str, qk: Stationarity, av: Stationarity, *, exact: bool, rows: int = S) -> tuple[float, float]:
    case = FlatCase(AttentionShape(1, S, S, E, E), spec(), exact)
    costs = evaluate(case, BINDING, Dataflow(frozenset(on_chip.split()), qk, av, "row", rows)).costs
    return float(costs.qk.dram[0]), float(costs.av.dram[0])


@pytest.mark.parametrize("exact", [False, True])
def test_streamed_operands_are_fetched_once_per_tile_of_the_other(exact: bool) -> None:
    # output-stationary, nothing but scores on chip: Q once per key tile, K once per query tile (4 each); in AV the
    # same for V, AV leaves once
    assert dram("QK A", "output", "output", exact=exact) == ((4 + 4) * S * E, (4 + 1) * S * E)


@pytest.mark.parametrize("exact", [False, True])
def test_kept_keys_are_fetched_once_and_blocks_fetch_them_again(exact: bool) -> None:
    assert dram("Q K QK A V AV", "output", "output", exact=exact) == (2 * S * E, 2 * S * E)
    # weight-stationary, K streamed: once per block of rows, 2 blocks of 512
    assert dram("Q QK A AV", "weight", "weight", exact=exact, rows=512) == ((1 + 2) * S * E, (2 + 1) * S * E)


@pytest.mark.parametrize("exact", [False, True])
def test_scores_off_chip_leave_once_and_come_back(exact: bool) -> None:
    qk, av = dram("Q K V AV", "output", "output", exact=exact)
    assert qk - 2 * S * E == S * S
    assert av - 2 * S * E == S * S


@pytest.mark.parametrize(("length", "head"), [(8192, 64), (16384, 64), (8192, 128)])
def test_edge_rows_follow_the_closed_form_of_flats_own_simulator(length: int, head: int) -> None:
    # words of a head with QK off chip, weight-stationary, P1 = 128 rows on a 32 x 32 array: scores leave once and
    # weights come once per 32 columns of V; K and V once per block; Q and AV once. Matches FLAT's rows to 3e-7.
    case = FlatCase(AttentionShape(1, length, length, head, head), spec("flat-edge"))
    costs = evaluate(case, BINDING, Dataflow(frozenset({"Q"}), "weight", "weight", "row", 128)).costs
    expected = (1 + head / 32) * length**2 + 2 * length * head * (length / 128) + 2 * length * head
    assert costs.qk.dram[0] + costs.av.dram[0] == expected


def test_softmax_reads_scores_from_dram_once_and_leaves_weights_there() -> None:
    case = FlatCase(AttentionShape(1, S, S, E, E), spec())
    costs = evaluate(case, BINDING, Dataflow(frozenset(), "output", "output", "row", 256)).costs
    assert (costs.softmax.dram_read[0], costs.softmax.dram_write[0]) == (S * S, S * S)


@settings(max_examples=25, deadline=None)
@given(
    queries=st.integers(1, 400), keys=st.integers(1, 400), depth=st.integers(1, 70), group=st.integers(1, 3),
    causal=st.booleans(),
)  # fmt: skip
def test_many_block_sizes_at_once_count_like_each_alone(
    queries: int, keys: int, depth: int, group: int, causal: bool
) -> None:
    shape = AttentionShape(2, queries, keys, depth, depth, group, CAUSAL if causal else FULL)
    case = FlatCase(shape, spec("flat-edge"))
    sizes = tuple(sorted({1, min(2, case.query_tiles), case.query_tiles}))
    for einsum in (BINDING.scores, BINDING.output):
        together = contraction_table(case, BINDING, einsum, sizes)
        alone = [contraction_table(case, BINDING, einsum, (size,))[0] for size in sizes]
        assert np.array_equal(together, np.array(alone))
        cycles = [contraction_cycles(case, BINDING, einsum, (size,))[0] for size in sizes]
        assert np.array_equal(contraction_cycles(case, BINDING, einsum, sizes), np.array(cycles))


@settings(max_examples=20, deadline=None)
@given(tiles=st.sampled_from([1, 2, 4]), stationarity=st.sampled_from(["output", "weight", "input"]))
def test_ragged_counts_equal_rectangular_ones_where_nothing_is_ragged(tiles: int, stationarity: Stationarity) -> None:
    shape = AttentionShape(3, S, S, E, E)
    dataflow = Dataflow(frozenset({"Q", "QK"}), stationarity, "output", "row", tiles * SIDE)
    ragged, exact = (evaluate(FlatCase(shape, spec(), quirks), BINDING, dataflow).costs for quirks in (False, True))
    assert ragged.qk.dram[0] == exact.qk.dram[0]
    assert ragged.qk_cycles[0] == exact.qk_cycles[0]
    assert ragged.vector_cycles == exact.vector_cycles == 4 * 3 * S * (S // SIDE)
