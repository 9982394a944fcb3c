"""How fast the engine is: against the plain interpreter of its rules, and on a long attention pipeline.

`pytest tests/benchmarks --benchmark-columns=min,median` prints the figures; nothing here asserts a wall time.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cascadesim.accelerators.program import After, Program, Queue, Repeat, Task, TileRun
from cascadesim.simulator.engine.engine import record, run

pytestmark = pytest.mark.slow


def attention_like(instances: int, groups: int, key_tiles: int, query_tiles: int) -> Program:
    """A pipeline of the shape of FuseMax: two arrays, a running value per query tile, keys loaded once per row."""
    tasks = (
        Task("load", "dram", takes=("keys",)),
        Task("QK", "2d", (After("load", latest=True),), stage=1),
        Task("LM", "2d", (After("QK"),), stage=1),
        Task("RM", "1d", (After("LM", 256), After("RM", same_column=True)), stage=2),
        Task("SLN", "2d", (After("RM"),), stage=2),
        Task("SLNV", "2d", (After("SLN"),), stage=3, gives_back=("keys",)),
        Task("RNV", "1d", (After("SLNV", 256, streaming=True), After("RNV", same_column=True)), stage=4),
    )
    first, middle, last = (64, 64, 1, 1, 8, 64, 128), (0, 64, 1, 1, 8, 64, 128), (0, 64, 1, 1, 8, 64, 128)
    row = (TileRun(0, 1, 0), TileRun(1, query_tiles - 2, 1), TileRun(2, 1, query_tiles - 1))
    stream = (Repeat(instances * groups, (Repeat(key_tiles, row),)),)
    keeps = (("keys",), ("keys",), ())
    return Program(tasks, (first, middle, last), stream, (Queue("keys", 2),), keeps=keeps)


def _reference() -> ModuleType:
    path = Path(__file__).parents[1] / "simulator" / "engine" / "reference_engine.py"
    spec = importlib.util.spec_from_file_location("reference_engine_of_benchmarks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SMALL = attention_like(instances=2, groups=2, key_tiles=6, query_tiles=8)
LONG = attention_like(instances=768, groups=32, key_tiles=4096, query_tiles=128)  # BERT, 1M tokens, batch 64


@pytest.mark.benchmark(group="small program, every tile stepped")
def test_the_engine_tile_by_tile(benchmark: BenchmarkFixture) -> None:
    slices = benchmark(record, SMALL, SMALL.tiles)
    assert len(slices) == SMALL.tiles * 6 + 2 * 2 * 6


@pytest.mark.benchmark(group="small program, every tile stepped")
def test_the_plain_interpreter(benchmark: BenchmarkFixture) -> None:
    reference = benchmark(lambda: _reference().Reference(SMALL).run())
    assert reference.cycles == run(SMALL).cycles


@pytest.mark.benchmark(group="a million tokens")
def test_a_million_tokens_of_bert(benchmark: BenchmarkFixture) -> None:
    """1.3e10 tiles, of which a few thousand are stepped through."""
    schedule = benchmark(run, LONG)
    assert schedule.tiles == 768 * 32 * 4096 * 128
    assert schedule.simulated_tiles < 10_000
    assert schedule.cycles >= schedule.unit(schedule.bound_by).busy_cycles
