"""DRAM channels: commands spaced by their constraints, streams timed as ramulator2 times them, standards as data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.dram.delivery import DramRun, read_stream
from cascadesim.accelerators.dram.standards import HBM2, STANDARDS, standard
from cascadesim.einsum_cascades.notation.errors import CascadeSimError


def stream(pattern: str, reads: int, stride: int, gap: int = 0) -> DramRun:
    """The request patterns of the reference runs: `seq` i x stride, `burst` pairs of 32-byte halves."""
    index = np.arange(reads)
    addresses = index * stride if pattern == "seq" else index // 2 * stride + index % 2 * 32
    return read_stream(HBM2, addresses, gap)


def test_one_read_of_a_closed_bank() -> None:
    """Pushed in cycle 0; ACT in tick 1; RD 7 later in tick 8; data 11 later in tick 19; taken in cycle 19."""
    found = stream("seq", 1, 0)
    assert found.first_latency_cycles == 1 + 7 + 11
    assert (found.cycles, found.commands) == (20, 2)


def test_a_row_that_is_open_is_read_every_fourth_cycle() -> None:
    """tRD-RD of 4 on the one pseudo-channel that addresses 0, 32, 64, ... below 512 use: 20 + 15 x 4."""
    found = stream("seq", 16, 32)
    assert found.cycles == 20 + 15 * 4
    assert found.row_hit_rate == 15 / 16


# ramulator2 v2.0 (8279985) behind the memory driver of mit-han-lab/spatten:
# pattern, reads, stride, cycles, cycle of the first pop, reads out of order
REFERENCE = [
    ("burst", 1000, 64, 2347, 19, 812),
    ("burst", 1000, 96, 2272, 19, 818),
    ("burst", 1000, 128, 2214, 19, 808),
    ("burst", 1000, 256, 2195, 19, 732),
    ("burst", 1000, 1024, 4016, 19, 998),
    ("seq", 16, 32, 80, 19, 0),
]


@pytest.mark.parametrize(("pattern", "reads", "stride", "cycles", "first", "out_of_order"), REFERENCE)
def test_streams_take_the_cycles_of_the_reference(
    pattern: str, reads: int, stride: int, cycles: int, first: int, out_of_order: int
) -> None:
    found = stream(pattern, reads, stride)
    assert (found.cycles, found.first_latency_cycles, found.out_of_order) == (cycles, first, out_of_order)


def test_bank_conflicts_cost_a_row_cycle_each() -> None:
    """Every read another row of one bank (stride 16 KiB): a read per tRC-bound row cycle of 24 cycles."""
    found = stream("seq", 200, 1 << 14)
    assert found.cycles / 200 == pytest.approx(7 + 17, abs=0.5)  # ACT -> PRE 17, PRE -> ACT 7


@pytest.mark.parametrize("name", STANDARDS)
def test_no_standard_exceeds_its_peak(name: str) -> None:
    for stride in (32, 256, 4096):
        found = read_stream(STANDARDS[name], np.arange(2000) * stride)
        assert 0 < found.bandwidth_bytes_per_s <= STANDARDS[name].peak_bytes_per_s


@pytest.mark.parametrize("name", STANDARDS)
def test_every_constraint_has_a_reason(name: str) -> None:
    assert all(one.reason and one.cycles >= 0 for one in STANDARDS[name].constraints)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 1 << 20), min_size=1, max_size=60), st.integers(0, 5))
def test_reads_are_conserved_and_gaps_never_shorten(blocks: list[int], gap: int) -> None:
    addresses = np.array(blocks) * 32
    found = read_stream(HBM2, addresses, gap)
    assert found.reads == len(blocks)
    assert found.cycles >= (len(blocks) - 1) * (gap + 1) + HBM2.read_latency + 1  # the last one pushed, read, taken
    assert found.commands >= found.reads + 1


def test_bad_streams_are_refused() -> None:
    with pytest.raises(CascadeSimError, match="at least one address"):
        read_stream(HBM2, np.array([], dtype=np.int64))
    with pytest.raises(CascadeSimError, match="gap must be at least 0"):
        read_stream(HBM2, np.array([0]), gap=-1)
    with pytest.raises(CascadeSimError, match="did you mean 'lpddr5'"):
        standard("lpdr5")


def test_a_refresh_closes_all_rows_and_holds_up_the_channel() -> None:
    """One read a row, pushed at once; a refresh every 100 cycles for 50 halves what remains of the time."""
    refreshed = replace(HBM2, refresh_interval=100, refresh_cycles=50)
    addresses = np.arange(400) * 32
    plain, slower = read_stream(HBM2, addresses), read_stream(refreshed, addresses)
    assert slower.cycles == pytest.approx(2 * plain.cycles, rel=0.15)
    assert slower.activates > plain.activates


def test_a_standard_larger_than_a_channel_can_be_is_refused() -> None:
    with pytest.raises(CascadeSimError, match="at most 4 pseudo-channels"):
        read_stream(replace(HBM2, largest_outstanding=64), np.array([0]))
