"""Exploring ten million designs, beside what a user would take otherwise: the same formula in a Python loop.

Ratios in one process do not depend on the machine; `extra_info` has seconds, designs per second and memory.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cascadesim.simulator.explore import explore
from cascadesim.simulator.explore_engine import cores
from cascadesim.simulator.explore_front import front
from cascadesim.simulator.explore_models import ArchitectureModel
from cascadesim.simulator.explore_problem import problem
from cascadesim.simulator.explore_space import space_from

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

TEN_MILLION: dict[str, Any] = {
    "question": "Which of ten million FuseMax designs?",
    "architecture": "fusemax",
    "vary": {
        "pe_array.rows": {"powers_of_two": [16, 512]},
        "pe_array.columns": {"powers_of_two": [16, 512]},
        "vector_array.lanes": {"powers_of_two": [16, 512]},
        "global_buffer.capacity_bytes": {"log_range": [262_144, 134_217_728, 25]},
        "dram.bandwidth_bytes_per_s": {"log_range": [5.0e10, 4.0e12, 75]},
        "clock_hz": {"log_range": [5.0e8, 2.0e9, 25]},
    },
    "derive": {"global_buffer.row_bytes": "2 * pe_array.columns"},
    "workloads": [{"workload": "bert", "scope": "attention", "sequence_length": "256K"}],
    "objectives": ["latency_s", "energy_j", "area_um2"],
}
LEAST_RATIO = 100  # times faster than planning designs one by one
MOST_BYTES = 4 * 2**30  # of the largest process


@pytest.mark.slow
def test_ten_million_designs_three_objectives(benchmark: BenchmarkFixture) -> None:
    before = _cpu_s()
    frame = benchmark.pedantic(explore, (TEN_MILLION,), {"cycle_level": False}, rounds=1)
    spent_s = _cpu_s() - before
    designs = frame.counts.designs
    assert designs > 10_000_000
    ratio = _planned_s_per_design() / (spent_s / designs)
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * 1024
    benchmark.extra_info.update(designs=designs, cores=cores(), cpu_s=spent_s, on_front=len(frame),
                                largest_process_bytes=largest, times_faster_than_one_by_one=ratio)
    assert ratio > LEAST_RATIO
    assert largest < MOST_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [2, 3])
def test_the_front_of_twenty_million_designs(benchmark: BenchmarkFixture, objectives: int) -> None:
    """Against a loop over the front so far, on the first twenty thousand."""
    costs = np.random.default_rng(0).uniform(1, 2, (20_000_000, objectives))
    found = benchmark.pedantic(front, (costs,), rounds=1, warmup_rounds=0)
    per_design_s = _least_s(benchmark) / len(costs)
    benchmark.extra_info["times_faster_than_a_loop"] = ratio = _loop_s_per_design(costs[:20_000]) / per_design_s
    assert len(found) > 1
    assert ratio > 3


def _planned_s_per_design() -> float:
    made = problem(space_from(TEN_MILLION, "space"), "space")
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


@pytest.mark.slow
def test_beside_zigzag(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """What ZigZag (pip install zigzag-dse six) needs for one design of one product, 256 x 256 x 64, mapping search
    included, against one FuseMax design of ten million with the whole attention of BERT: not the same question, but
    the same use. Its own example hardware and mapping."""
    zigzag = pytest.importorskip("zigzag")
    api = pytest.importorskip("zigzag.api")
    inputs = Path(zigzag.__file__ or next(iter(zigzag.__path__))).parent / "inputs"
    workload = tmp_path / "product.yaml"
    workload.write_text(PRODUCT, encoding="utf-8")

    def one_design() -> None:
        api.get_hardware_performance_zigzag(
            workload=str(workload), accelerator=str(inputs / "hardware" / "gemm_l1.yaml"),
            mapping=str(inputs / "mapping" / "default.yaml"), opt="latency", dump_folder=str(tmp_path / "dump"),
            pickle_filename=str(tmp_path / "layers.pickle"),
        )  # fmt: skip

    benchmark.pedantic(one_design, rounds=3, warmup_rounds=1)
    designs = 2**17
    made = problem(space_from(TEN_MILLION, "space"), "space")
    made.judge(made.digits_of(0, designs))
    start = time.perf_counter()
    made.judge(made.digits_of(5_000_000, 5_000_000 + designs))
    ours_s = (time.perf_counter() - start) / designs
    ratio = _least_s(benchmark) / ours_s
    benchmark.extra_info.update(zigzag_designs_per_s=1 / _least_s(benchmark), designs_per_s=1 / ours_s,
                                times_faster=ratio)
    assert ratio > 1000


PRODUCT = """
- id: 0
  operator_type: Gemm
  equation: O[b][k]+=W[k][c]*I[b][c]
  dimension_relations: []
  loop_dims: [B, K, C]
  loop_sizes: [256, 256, 64]
  operand_precision: {O: 32, O_final: 16, W: 16, I: 16}
  operand_source: {I: 0, W: 0}
"""
