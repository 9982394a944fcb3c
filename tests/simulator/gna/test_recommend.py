"""Frontiers: the strides that the paper chose, exactly; every list sorted, every entry faster than all before."""

from __future__ import annotations

import itertools
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.neighborhood_kernels import legal_tiles
from cascadesim.einsum_cascades.sparsity.masks import Axis, neighborhood
from cascadesim.simulator.gna import visits as neighborhood_axis
from cascadesim.simulator.gna.neighborhood import question
from cascadesim.simulator.gna.recommend import (
    dilation_frontier,
    stride_frontier,
    tile_frontier,
    window_frontier,
    with_stride,
)
from cascadesim.simulator.gna.visits import axis_tiles, stride_sweep

# Layout, window, query tile, key tile, then the strides of GNA's tables 2-4 with the speedup the simulator gave them.
# 30x40x40 and Cosmos: tile shapes inferred. 1-D 32K: NATTEN's docs/profiler.md, "256 is the minimum".
PUBLISHED = [
    ((256, 256), (80, 80), (16, 16), (16, 8), {(1, 1): 6.10, (16, 1): 8.53, (16, 16): 10.24}),
    ((30, 48, 80), (18, 24, 24), (4, 8, 8), (2, 8, 8), {
        (1, 1, 1): 3.27, (2, 1, 1): 3.6, (1, 1, 8): 5.45, (2, 1, 8): 6.0, (1, 8, 8): 9.09, (2, 8, 8): 10.0,
        (16, 8, 8): 11.11}),
    ((30, 48, 80), (30, 40, 40), (2, 16, 8), (2, 8, 8), {(1, 1, 1): 1.43, (1, 1, 8): 2.0, (1, 32, 8): 2.4}),
    ((16, 44, 80), (16, 32, 48), (8, 4, 8), (4, 4, 8), {
        (1, 1, 1): 1.75, (1, 8, 1): 1.96, (1, 1, 16): 2.04, (1, 8, 16): 2.29}),
    ((16, 44, 80), (16, 24, 16), (8, 4, 8), (4, 4, 8), {
        (1, 1, 1): 5.24, (1, 8, 1): 6.11, (1, 1, 16): 7.86, (1, 8, 16): 9.17}),
    ((32768,), (2048,), (128,), (128,), {(1,): 15.06, (256,): 16.0}),
    ((32768,), (2048,), (256,), (128,), {(1,): 14.22, (256,): 16.0}),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "window", "query_tile", "key_tile", "strides"), PUBLISHED)
def test_the_strides_that_the_paper_chose(
    layout: tuple[int, ...],
    window: tuple[int, ...],
    query_tile: tuple[int, ...],
    key_tile: tuple[int, ...],
    strides: dict[tuple[int, ...], float],
) -> None:
    found = stride_frontier(question(neighborhood(layout, window), query_tile, key_tile))
    assert [option.question.pattern.stride for option in found] == list(strides)
    assert [round(option.bound.worst, 2) for option in found] == list(strides.values())
    assert found[-1].block_sparse


def test_the_stride_32_of_the_paper_is_an_artefact_of_its_tile() -> None:
    """30x40x40 with query tiles 4x8x8 instead of 2x16x8 is block-sparse at 1x8x8 already."""
    found = stride_frontier(question(neighborhood((30, 48, 80), (30, 40, 40)), (4, 8, 8), (2, 8, 8)))
    assert found[-1].question.pattern.stride == (1, 8, 8)
    assert found[-1].block_sparse


@settings(deadline=None)
@given(st.integers(1, 40), st.data())
def test_a_sweep_is_every_stride_counted_by_itself(length: int, data: st.DataObject) -> None:
    window = data.draw(st.integers(1, length))
    dilation, causal = data.draw(st.integers(1, length // window)), data.draw(st.booleans())
    query_tile, key_tile = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    tiling = data.draw(st.sampled_from(["static", "dynamic"]))
    axis = Axis(length, window, 1, dilation, causal)
    largest, total = stride_sweep(axis, query_tile, key_tile, tiling)
    single = [
        axis_tiles(Axis(length, window, stride, dilation, causal), query_tile, key_tile, tiling)
        for stride in range(1, len(largest) + 1)
    ]
    assert [tiles.largest for tiles in single] == largest.tolist()
    assert [tiles.total for tiles in single] == total.tolist()


@pytest.mark.parametrize(("length", "window", "tile"), [(96, 64, 8), (97, 60, 7), (128, 100, 16), (60, 59, 5)])
def test_a_sweep_in_parts_ends_only_where_no_stride_is_better(
    length: int, window: int, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    axis = Axis(length, window, 1, 1, False)
    strided = [Axis(length, window, stride, 1, False) for stride in range(1, window + 1)]
    fully = [axis_tiles(each, tile, tile, "static") for each in strided]
    monkeypatch.setattr(neighborhood_axis, "SWEEP_ELEMENTS", 1)
    largest, total = stride_sweep(axis, tile, tile, "static")
    assert largest.min() == min(tiles.largest for tiles in fully)
    assert total.min() == min(tiles.total for tiles in fully)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_frontier_is_that_of_all_strides(data: st.DataObject) -> None:
    """Against the whole product of strides: nothing better is missed, and finer strides come first."""
    layout = tuple(data.draw(st.lists(st.integers(2, 12), min_size=1, max_size=2)))
    window = tuple(data.draw(st.integers(1, side)) for side in layout)
    tiles = [tuple(data.draw(st.integers(1, 4)) for _ in layout) for _ in range(2)]
    asked = question(neighborhood(layout, window), *tiles)
    found = stride_frontier(asked)
    everything = sorted(
        (prod(stride), -with_stride(asked, stride).bound("multidim_static").worst)
        for stride in itertools.product(*(range(1, size + 1) for size in window))
    )
    best, expected = np.inf, []
    for coarseness, cost in everything:
        if cost < best:
            best = cost
            expected.append((coarseness, -cost))
    assert [(option.coarseness, option.bound.worst) for option in found] == expected


def test_causal_dimensions_are_ranked_by_the_mean() -> None:
    """The last query tile sees everything, so that the worst bound of dimension 1 is 1 whatever the stride.

    Dimension 2, window 16 on tiles of 8: stride 8 starts its windows at 8g + 4 - 8, off the grid by 4, and touches 3
    tiles; stride 16 starts at 16g + 8 - 8 and touches 2.
    """
    found = stride_frontier(question(neighborhood((64, 64), (64, 16), causal=(True, False)), (8, 8), (8, 8)))
    means = [option.bound.mean for option in found]
    assert means == sorted(means)
    assert found[-1].question.pattern.stride[1] == 16


def test_a_window_that_is_no_multiple_of_the_tile_is_rounded() -> None:
    """Window 20 on key tiles of 8: 16 and 24 are the neighbours; 16 with stride 8 visits 2 tiles, 24 visits 3."""
    asked = question(neighborhood((256,), (20,)), (8,), (8,))
    found = window_frontier(asked)
    assert [option.question.pattern.window for option in found] == [(24,), (16,)]
    assert [option.block_sparse for option in found] == [True, True]


def test_a_dilation_that_fills_the_dimension_makes_groups_dense() -> None:
    """44x80, window 4x16: dilation 11x5 has 55 groups of exactly one window each (Cosmos-Predict2, layers 0-1)."""
    asked = question(neighborhood((44, 80), (4, 16)), (4, 8), (4, 8))
    best = dilation_frontier(asked)[-1]
    assert best.question.pattern.dilation == (11, 5)
    assert best.block_sparse
    assert best.bound.worst == 55.0


@pytest.mark.parametrize("backend", ["hopper-fna", "blackwell-fna", "cutlass-fna"])
def test_a_search_over_tile_shapes_is_sorted_from_fine_to_fast(backend: str) -> None:
    mode = "multidim_dynamic" if backend == "cutlass-fna" else "multidim_static"
    asked = question(neighborhood((30, 48, 80), (18, 24, 24)), (4, 8, 8), (2, 8, 8))
    found = tile_frontier(asked, legal_tiles(backend, 3), mode)
    assert [option.coarseness for option in found] == sorted(option.coarseness for option in found)
    speeds = [option.speed for option in found]
    assert all(earlier < later for earlier, later in itertools.pairwise(speeds))
    assert round(speeds[-1], 2) == 11.11
