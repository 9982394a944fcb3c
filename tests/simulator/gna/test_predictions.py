"""Times of neighborhoods on devices: constants from published times, waves, permutations, whole models."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np
import pytest

from cascadesim.accelerators.gpu.natten import DEVICES
from cascadesim.accelerators.neighborhood_kernels import device
from cascadesim.einsum_cascades.sparsity.masks import neighborhood
from cascadesim.simulator.gna.neighborhood import (
    Question,
    end_to_end,
    end_to_end_layers,
    kernel_s,
    permuted_bytes,
    predict,
    question,
)


def flux(stride: int, query_tile: tuple[int, int]) -> Question:
    return question(neighborhood((256, 256), (80, 80), (stride, stride)), query_tile, (16, 8))


def line(stride: int, query_tile: int) -> Question:
    return question(neighborhood((32768,), (2048,), (stride,)), (query_tile,), (128,))

# NATTEN docs/profiler.md: (question, heads, seconds) of FLUX 16x16, 1-D stride 256, FLUX 1x1
CALIBRATION = {
    "h100-sxm": (
        (flux(16, (16, 8)), 24, 7.914e-3), (line(256, 128), 1, 62.687e-6), (flux(1, (16, 8)), 24, 16.201e-3),
    ),
    "b200": (
        (flux(16, (16, 16)), 24, 4.114e-3), (line(256, 256), 1, 37.888e-6), (flux(1, (16, 16)), 24, 8.692e-3),
    ),
}  # fmt: skip


def terms(asked: Question, heads: int, multiprocessors: int) -> tuple[float, float]:
    """Of time = work x (mean visited tiles + overhead) / rate: work and mean."""
    visits = asked.visits("multidim_static")
    waves = ceil(visits.query_tiles * heads / multiprocessors)
    work = waves * 4 * asked.tiles.queries * asked.tiles.keys * 128 * multiprocessors
    return work, visits.total / visits.query_tiles


@pytest.mark.parametrize("name", CALIBRATION)
def test_constants_follow_from_three_published_times(name: str) -> None:
    """Two unmasked kernels give rate and overhead (two linear equations), a masked one the cost of masking.

    Each after the launch that every kernel of the device takes.
    """
    on = DEVICES[name]
    (large, heads, large_all_s), (small, one, small_all_s), (masked, many, masked_all_s) = CALIBRATION[name]
    large_s, small_s, masked_s = (all_s - on.launch_s for all_s in (large_all_s, small_all_s, masked_all_s))
    assert large.block_sparse
    assert small.block_sparse
    assert not masked.block_sparse
    (a, m), (b, n) = (terms(*case, on.streaming_multiprocessors) for case in ((large, heads), (small, one)))
    overhead, rate = np.linalg.solve(np.array([[a, -large_s], [b, -small_s]]), [-a * m, -b * n])
    work, mean = terms(masked, many, on.streaming_multiprocessors)
    masked_cost = (masked_s * rate / work - overhead) / mean
    assert on.tile_flops_per_s == pytest.approx(rate, rel=1e-3)
    assert on.overhead_tiles == pytest.approx(overhead, rel=1e-3)
    assert on.masked_cost == pytest.approx(masked_cost, rel=1e-3)


def test_one_wave_by_hand() -> None:
    """132 query tiles on 132 SMs, each visiting one full tile: one wave of 1 + overhead tiles."""
    on = replace(DEVICES["h100-sxm"], tile_flops_per_s=132e12, overhead_tiles=0.5, launch_s=0.0)
    asked = question(neighborhood((132 * 128,), (128,), (128,)), (128,), (128,))
    assert asked.block_sparse
    tile_s = 4 * 128 * 128 * 128 / 1e12
    assert kernel_s(asked, on, heads=1, head_dim=128, batch=1) == pytest.approx(1.5 * tile_s)
    assert kernel_s(asked, on, heads=2, head_dim=128, batch=1) == pytest.approx(3.0 * tile_s)


def test_a_pattern_with_one_partial_tile_is_masked_throughout() -> None:
    """NATTEN decides once per launch."""
    on = replace(DEVICES["h100-sxm"], overhead_tiles=0.0, launch_s=0.0)
    free = question(neighborhood((4096,), (512,), (256,)), (128,), (128,))
    masked = question(neighborhood((4096,), (512,), (128,)), (128,), (128,))
    assert free.block_sparse
    assert not masked.block_sparse
    ratio = kernel_s(masked, on, 1, 128, 1) / kernel_s(free, on, 1, 128, 1)
    visited = masked.bound("multidim_static").total / free.bound("multidim_static").total
    assert ratio == pytest.approx(visited * on.masked_cost)


def test_permutation_moves_eight_times_the_tokens_where_nothing_is_padded() -> None:
    """FLUX 4K, 24 heads of 128, 2 bytes: 8 x 65536 x 24 x 128 x 2 = 3.22 GB."""
    assert permuted_bytes(flux(16, (16, 16)), 24, 128, 1, 2) == 8 * 65536 * 24 * 128 * 2
    assert permuted_bytes(line(256, 128), 1, 128, 1, 2) == 0


def test_a_permutation_at_entry_and_exit_is_shared_by_all_layers() -> None:
    each, shared = (predict(flux(16, (16, 16)), device("b200"), layers_per_permutation=n) for n in (1, 57))
    assert shared.permute_s == each.permute_s / 57
    assert shared.kernel_s == each.kernel_s


def test_a_prediction_is_consistent() -> None:
    found = predict(flux(16, (16, 16)), device("b200"))
    assert found.total_s == found.kernel_s + found.permute_s
    assert found.speedup < found.kernel_speedup < 12


@pytest.mark.parametrize(
    ("share", "sparse", "steps", "speedup", "published"),
    [
        (0.518, 28, 28, 10.2, 1.88),  # GNA, table 2: FLUX, FLOP-wise bound
        (0.607, 50, 50, 11.1, 2.23),  # table 4: HunyuanVideo 18x24x24
        (0.607, 35, 50, 11.1, 1.63),
        (0.587, 35, 35, 2.3, 1.50),  # table 3: Cosmos 16x32x48
    ],
)
def test_amdahl_gives_the_end_to_end_bounds_of_the_paper(
    share: float, sparse: int, steps: int, speedup: float, published: float
) -> None:
    assert end_to_end(speedup, share, sparse, steps) == pytest.approx(published, abs=0.006)


def test_several_layers_share_the_attention_time() -> None:
    """Half of the layers twice as fast, half unchanged: attention takes 3/4, the run 1 - 0.8/4."""
    assert end_to_end_layers([(2.0, 10), (1.0, 10)], 0.8) == pytest.approx(1 / (1 - 0.2))


@pytest.mark.parametrize(("layout", "window", "tiles", "heads", "head_dim"), [
    ((1024,), (1024,), ((128,), (128,)), 16, 128), ((14, 14), (7, 7), ((16, 8), (16, 8)), 16, 32),
    ((64,), (8,), ((64,), (128,)), 24, 7), ((2**20,), (16,), ((128,), (16,)), 24, 128),
])  # fmt: skip
def test_no_kernel_is_below_the_time_of_its_bytes_or_of_any_kernel(
    layout: tuple[int, ...], window: tuple[int, ...], tiles: tuple[tuple[int, ...], tuple[int, ...]], heads: int,
    head_dim: int,
) -> None:  # fmt: skip
    """Q, K, V and O pass by DRAM once; small calls wait as any kernel does."""
    asked = question(neighborhood(layout, window), *tiles)
    found = predict(asked, DEVICES["h100-sxm"], heads, head_dim)
    assert found.kernel_s >= 4 * asked.pattern.tokens * heads * head_dim * 2 / 3.35e12
    assert found.kernel_s > 3e-6
