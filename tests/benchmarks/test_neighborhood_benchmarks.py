"""Speed of the neighborhood simulator, in ratios that hold on any machine: sizes change little, searches stay small.

`pytest tests/benchmarks --benchmark-only` prints the times: a query is to stay under 5 ms, the sweep over all strides
under 0.2 s, the search over strides and legal tiles under 2 s. The ratios asserted are those of these limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from cascadesim.accelerators.gpu.natten import BACKENDS
from cascadesim.accelerators.neighborhood_kernels import legal_tiles
from cascadesim.einsum_cascades.sparsity import masks as patterns
from cascadesim.simulator.gna import visits as neighborhood_axis
from cascadesim.simulator.gna.neighborhood import MODES, Question, question
from cascadesim.simulator.gna.recommend import stride_frontier, tile_frontier

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


def hunyuan() -> Question:
    return question(patterns.neighborhood((30, 48, 80), (18, 24, 24)), (4, 8, 8), (2, 8, 8))


def query() -> None:
    """What one answer needs: all four tilings and the backward pass."""
    asked = hunyuan()
    for mode in MODES:
        asked.bound(mode)
    asked.backward()


def separable(layout: tuple[int, int, int]) -> None:
    asked = question(patterns.neighborhood(layout, (8, 8, 8)), (4, 8, 8), (2, 8, 8))
    asked.bound("multidim_static")
    asked.bound("multidim_dynamic")
    asked.backward()


def sweep() -> None:
    """All 18 x 24 x 24 strides."""
    stride_frontier(hunyuan())


def search() -> None:
    """All strides on every legal tile shape of every backend."""
    for name, backend in BACKENDS.items():
        tile_frontier(hunyuan(), legal_tiles(name, 3), backend.mode)


def forget() -> None:
    """Each run counts anew."""
    patterns._spans.cache_clear()
    neighborhood_axis.group_tiles.cache_clear()


def fastest(work: Callable[[], None], runs: int = 7) -> float:
    found = []
    for _ in range(runs):
        forget()
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return min(found)


@pytest.mark.parametrize("work", [query, sweep, search])
def test_times(work: Callable[[], None], benchmark: BenchmarkFixture) -> None:
    benchmark.pedantic(work, setup=forget, rounds=5)  # type: ignore[no-untyped-call]


def test_a_million_tokens_cost_no_more_than_ten_times_a_small_layout() -> None:
    assert fastest(lambda: separable((100, 100, 100))) <= 10 * fastest(lambda: separable((8, 8, 8)))


def test_a_sweep_over_all_strides_costs_a_few_queries() -> None:
    """0.2 s against 5 ms."""
    assert fastest(sweep) <= 40 * fastest(query)


def test_a_search_over_strides_and_tiles_costs_less_than_400_queries() -> None:
    """2 s against 5 ms."""
    assert fastest(search, 3) <= 400 * fastest(query)
