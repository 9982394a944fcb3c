"""Traffic of tiles through DRAM channels: requests by hand, bounds, and what FuseMax's would get."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.dram.delivery import channels_for, delivered, of_channel, read_stream
from cascadesim.accelerators.dram.standards import HBM2, STANDARDS
from cascadesim.accelerators.program import Program, Queue, Repeat, Task, TileRun
from cascadesim.accelerators.protocol import Phase, Traffic
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.cli.commands import cascadesim, exit_code


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
    for standard in STANDARDS.values():
        found = delivered(phase(*cycles, tiles=tiles), standard, channels)
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
