"""Exploring ten million designs, beside planning them one by one; fronts beside a loop.

Other tools: `test_other_tools`.
Ratios in one process do not depend on the machine; `extra_info` has seconds, designs per second and memory.
"""

from __future__ import annotations

import resource
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cascadesim.simulator.explore.explore import explore
from cascadesim.simulator.explore.front import front
from cascadesim.simulator.explore.models import ArchitectureModel
from cascadesim.simulator.explore.problem import problem
from cascadesim.simulator.explore.space import space_from
from cascadesim.simulator.explore.workers import cores

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

LEAST_RATIO = 100  # times faster than planning designs one by one
MOST_BYTES = 4 * 2**30  # of the largest process


@pytest.mark.nightly
def test_ten_million_designs_three_objectives(benchmark: BenchmarkFixture, ten_million: dict[str, Any]) -> None:
    before = _cpu_s()
    frame = benchmark.pedantic(explore, (ten_million,), {"cycle_level": False}, rounds=1)
    spent_s = _cpu_s() - before
    designs = frame.counts.designs
    assert designs > 10_000_000
    ratio = _planned_s_per_design(ten_million) / (spent_s / designs)
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * 1024
    benchmark.extra_info.update(tool="cascadesim", version=version("cascadesim"), designs=designs,
                                designs_per_s=designs / _least_s(benchmark),
                                one_design="latency, energy and area of a FuseMax design running BERT's attention at "
                                           "256K tokens, one of ten million, their front included; all cores",
                                cores=cores(), cpu_s=spent_s, on_front=len(frame),
                                largest_process_bytes=largest, times_faster_than_one_by_one=ratio)
    assert ratio > LEAST_RATIO
    assert largest < MOST_BYTES


@pytest.mark.parametrize("objectives", [2, 3])
def test_the_front_of_twenty_million_designs(benchmark: BenchmarkFixture, objectives: int) -> None:
    """Against a loop over the front so far, on the first twenty thousand."""
    costs = np.random.default_rng(0).uniform(1, 2, (20_000_000, objectives))
    found = benchmark.pedantic(front, (costs,), rounds=1, warmup_rounds=0)
    per_design_s = _least_s(benchmark) / len(costs)
    benchmark.extra_info["times_faster_than_a_loop"] = ratio = _loop_s_per_design(costs[:20_000]) / per_design_s
    assert len(found) > 1
    assert ratio > 3


def _planned_s_per_design(space: dict[str, Any]) -> float:
    made = problem(space_from(space, "space"), "space")
    assert isinstance(made.model, ArchitectureModel)
    columns = made.columns(made.digits_of(5_000_000, 5_000_050))
    start = time.perf_counter()
    made.model._planned({name: column for name, column in columns.items() if name in made.model.fields})
    return (time.perf_counter() - start) / 50


def _loop_s_per_design(costs: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    best: list[tuple[float, ...]] = []
    start = time.perf_counter()
    for cost in map(tuple, costs.tolist()):
        if not any(all(a <= b for a, b in zip(other, cost, strict=True)) for other in best):
            best = [other for other in best if not all(a <= b for a, b in zip(cost, other, strict=True))]
            best.append(cost)
    return (time.perf_counter() - start) / len(costs)


def _least_s(benchmark: BenchmarkFixture) -> float:
    assert benchmark.stats is not None  # it has run
    return float(benchmark.stats.stats.min)


def _cpu_s() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)
