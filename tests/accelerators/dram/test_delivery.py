"""Traffic of tiles through DRAM channels: requests by hand, bounds, and what FuseMax's would get."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.dram.delivery import DramRun, channels_for, delivered, of_channel, read_stream
from cascadesim.accelerators.dram.standards import HBM2, STANDARDS, standard
from cascadesim.accelerators.program import Program, Queue, Repeat, Task, TileRun
from cascadesim.accelerators.protocol import Phase, Traffic
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.cli.commands import cascadesim, exit_code


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


def phase(*cycles: int, tiles: int, bytes_per_cycle: int = 64) -> Phase:
    """Tiles of one DRAM task for each of `cycles`, in turn."""
    tasks = tuple(Task(f"load {place}", "dram") for place in range(len(cycles)))
    program = Program(tasks, (cycles,), (Repeat(1, (TileRun(0, tiles),)),), (Queue("slots", 1),))
    return Phase("loads", (), Traffic(bytes_per_cycle * sum(cycles) * tiles), 0.0, lambda: program)


def test_one_task_reads_its_region_from_front_to_back() -> None:
    """16 tiles of 8 cycles of 64 bytes: 256 requests of 32 bytes, which is one stream on one channel."""
    found = delivered(phase(8, tiles=16), HBM2, 1)
    assert found.bytes == 16 * 8 * 64
    assert found.run.cycles == read_stream(HBM2, np.arange(256) * 32).cycles


def test_requests_go_round_the_channels() -> None:
    """Requests 0 to 7 on two channels: 0, 2, 4, 6 and 1, 3, 5, 7, side by side within each."""
    requests = np.arange(8) * 32
    assert [of_channel(requests, channel, 2, 32).tolist() for channel in (0, 1)] == [[0, 32, 64, 96]] * 2


def test_two_regions_in_turn_open_more_rows_than_one() -> None:
    """A row has 512 bytes side by side, 16 requests; two regions take turns every 128 bytes, on the same banks."""
    together, apart = delivered(phase(4, tiles=512), HBM2, 1), delivered(phase(2, 2, tiles=512), HBM2, 1)
    assert together.bytes == apart.bytes
    assert apart.run.row_hit_rate < together.run.row_hit_rate


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=3), st.integers(1, 20), st.integers(1, 4))
def test_no_more_than_the_peak_is_delivered(cycles: list[int], tiles: int, channels: int) -> None:
    for each in STANDARDS.values():
        found = delivered(phase(*cycles, tiles=tiles), each, channels)
        assert 0 < found.bandwidth_bytes_per_s <= found.peak_bytes_per_s


def test_as_many_channels_as_the_bandwidth_needs() -> None:
    """hbm2: 32 bytes of each of two pseudo-channels in 4 cycles at 1 GHz: 16 GB/s."""
    assert channels_for(HBM2, 256e9) == 16
    assert channels_for(HBM2, 257e9) == 17


def test_what_cannot_run_says_why() -> None:
    with pytest.raises(CascadeSimError, match="at least one channel, got 0"):
        delivered(phase(8, tiles=1), HBM2, 0)
    with pytest.raises(CascadeSimError, match="no tiles whose traffic"):
        delivered(replace(phase(8, tiles=1), program=None), HBM2, 1)
    idle = Program((Task("x", "array"),), ((4,),), (TileRun(0, 1),))
    with pytest.raises(CascadeSimError, match="no task moves anything"):
        delivered(Phase("idle", (), Traffic(), 0.0, lambda: idle), HBM2, 1)


def test_fusemax_gets_four_fifths_of_hbm2(capsys: pytest.CaptureFixture[str]) -> None:
    """A sequential stream of the RTL's memory gets 0.40 of 0.5 requests a cycle (SpAtten's description, section 5)."""
    machine = load("fusemax")
    found = load_workload("bert").operations(sequence_length=1024, scope="attention", attention=machine.attention)
    operation = next(one for one in found if one.kind == "attention")
    (one,) = machine.plan(operation, "physical").phases
    got = delivered(one, HBM2, 16)
    assert got.bandwidth_bytes_per_s / got.peak_bytes_per_s == pytest.approx(0.8, abs=0.03)
    arguments = ["--arch", "fusemax", "--workload", "bert", "--scope", "attention", "--show", "dram"]
    assert exit_code(cascadesim, "cascadesim", ["simulate", *arguments]) == 0
    assert "hbm2e" in capsys.readouterr().out
