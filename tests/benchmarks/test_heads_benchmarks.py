"""How fast streams of heads are, beside a plain loop over one DRAM channel of as many reads.

`pytest tests/benchmarks --benchmark-columns=min,median` prints the figures; nothing here asserts a wall time.
"""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cascadesim.accelerators.dram.delivery import read_stream
from cascadesim.accelerators.dram.standards import standard
from cascadesim.accelerators.spatten.harness import gathered_keys
from cascadesim.accelerators.spatten.rtl.run import run_heads
from cascadesim.accelerators.spatten.spec import GatherDesign, HeadRow, HeadStream

pytestmark = pytest.mark.slow

SMALL = GatherDesign(64, 2048, 2, 4, 1)
LARGE = GatherDesign(512, 256, 16, 32, 8, count_multiple=32)
HEADS = 200


def stream(design: GatherDesign, keys: int, step: int) -> HeadStream:
    """HEADS dense heads of `keys` keys on average; neighbours differ by `step` keys, by turns of three."""
    counts = [keys + step * (number % 3 - 1) + step * (number % 7) for number in range(HEADS)]
    rows = tuple(HeadRow(number, count, count, 8, 8) for number, count in enumerate(counts))
    order = gathered_keys(keys + 8 * step + 32, design.fetch_channels, design.largest_keys)
    return HeadStream(design, rows, gathered=order)


@pytest.mark.benchmark(group="a dense stream of 200 heads")
@pytest.mark.parametrize(("design", "keys"), [(SMALL, 800), (LARGE, 800)], ids=["64", "512"])
def test_unequal_heads_cycle_by_cycle(benchmark: BenchmarkFixture, design: GatherDesign, keys: int) -> None:
    found = benchmark(run_heads, stream(design, keys, 8))
    assert found.simulated_heads == HEADS


@pytest.mark.benchmark(group="a dense stream of 200 heads")
@pytest.mark.parametrize(("design", "keys"), [(SMALL, 800), (LARGE, 800)], ids=["64", "512"])
def test_equal_heads_of_which_few_are_stepped(benchmark: BenchmarkFixture, design: GatherDesign, keys: int) -> None:
    found = benchmark(run_heads, stream(design, keys, 0))
    assert found.simulated_heads < HEADS / 2


@pytest.mark.benchmark(group="a dense stream of 200 heads")
def test_one_dram_channel_alone(benchmark: BenchmarkFixture) -> None:
    """Keys and values of 200 heads, 4 reads of a key and its value, the half of them that go to one of two channels."""
    addresses = 32 * np.arange(HEADS * 800 * 4 // 2)
    assert benchmark(read_stream, standard("hbm2"), addresses).reads == len(addresses)
