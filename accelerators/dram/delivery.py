"""What a DRAM standard delivers: streams of reads through its channels, and a phase's tiles as such streams.

One request is pushed and one finished read taken per channel and cycle, as SpAtten's memory driver does, command by
command (`channel`), compiled. Every task on the unit `dram` reads a region of its own from front to back, as many
bytes a tile as its cycles carry; tasks follow in the order of the program, requests go round the channels. Writes run
as reads (assumed: bursts of writes take the data bus as long; the turnaround between them is not modelled).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeAlias

import numpy as np

from cascadesim.accelerators import compiled as compilation
from cascadesim.accelerators.compiled import compiled_entry, version_of
from cascadesim.accelerators.dram import channel as dram_channel
from cascadesim.accelerators.dram import commands as dram_commands
from cascadesim.accelerators.dram.channel import pop, push, tick
from cascadesim.accelerators.dram.commands import ISSUED, Channels, Integers, channels
from cascadesim.accelerators.dram.standards import DramStandard
from cascadesim.accelerators.program import Program, Repeat, TileRun
from cascadesim.accelerators.protocol import Phase
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

StreamLoop: TypeAlias = Callable[[Channels, Integers, int], tuple[int, int, int, int]]
UNIT = "dram"
REGION_BYTES = 1 << 36  # between the regions of two tasks: they share no row
FIRST_BYTES = 1 << 18  # of each channel, after which the rest is taken to be alike


@dataclass(frozen=True)
class DramRun:
    """The reads of one channel are all done. Cycles count from the first push."""

    standard: DramStandard
    cycles: int
    first_latency_cycles: int  # until the first read is taken
    out_of_order: int  # reads taken in another place than they were asked for
    reads: int
    commands: int  # activates, precharges and reads

    @property
    def bandwidth_bytes_per_s(self) -> float:
        return self.reads * self.standard.request_bytes / self.cycles * self.standard.clock_hz

    @property
    def row_hit_rate(self) -> float:
        """The share of reads that found their row open: every other one cost an activate."""
        return 1 - self.activates / self.reads

    @property
    def activates(self) -> int:
        """Commands that are no reads come in pairs of precharge and activate, but for the first of each bank."""
        return (self.commands - self.reads + 1) // 2


def read_stream(standard: DramStandard, addresses: Integers, gap: int = 0) -> DramRun:
    """Read channel-local byte `addresses`, (reads,) int64, in order, with `gap` idle cycles after each accepted push.

    Raises CascadeSimError for no address, a negative one, or a negative gap.
    """
    if len(addresses) == 0 or int(np.min(addresses)) < 0:
        raise CascadeSimError("a stream of reads needs at least one address, all of them at least 0")
    if gap < 0:
        raise CascadeSimError(f"gap must be at least 0 cycles, got {gap}")
    wanted = np.asarray(addresses, dtype=np.int64)
    cycles, first, out_of_order, commands = _run_stream(channels(standard, 1), wanted, gap)
    return DramRun(standard, cycles, first, out_of_order, len(addresses), commands)


def _entry_point(version: int) -> StreamLoop:
    """Compile the loop over cycles: (cycles, cycle of the first pop, reads out of order, commands)."""

    def run_stream(state: Channels, addresses: Integers, gap: int) -> tuple[int, int, int, int]:
        total, one = len(addresses), state[0]
        asked, taken, wait, cycle, first, out_of_order = 0 * version, 0, 0, 0, -1, 0
        while taken < total:
            if asked < total:
                if wait > 0:
                    wait -= 1
                elif push(one, addresses[asked], cycle + 1):
                    asked += 1
                    wait = gap
            number = pop(one, cycle + 1)
            if number >= 0:
                first = cycle if first < 0 else first
                out_of_order += number != taken
                taken += 1
            cycle += 1
            tick(one, cycle)
        return cycle, first, out_of_order, state[0, ISSUED]

    return compiled_entry("the DRAM channel", about_s=5)(run_stream)


_run_stream = _entry_point(version_of(__file__, compilation, dram_channel, dram_commands))


@dataclass(frozen=True)
class Delivery:
    """What the first tiles of a phase took. `run`: the slowest channel, in whose time all have finished."""

    standard: DramStandard
    channels: int
    bytes: int
    run: DramRun

    @property
    def peak_bytes_per_s(self) -> float:
        return self.channels * self.standard.peak_bytes_per_s

    @property
    def bandwidth_bytes_per_s(self) -> float:
        return self.bytes / (self.run.cycles / self.standard.clock_hz)


def delivered(phase: Phase, standard: DramStandard, channels: int) -> Delivery:
    """Run the first tiles of a phase through `channels` channels.

    Raises CascadeSimError where the phase has no program with DRAM tasks, or for less than one channel.
    """
    if channels < 1:
        raise CascadeSimError(f"DRAM needs at least one channel, got {channels}")
    program, carried = _carried(phase)
    requests = _requests(program, carried, standard.request_bytes, FIRST_BYTES * channels)
    total = len(requests) * standard.request_bytes
    runs = [read_stream(standard, of_channel(requests, channel, channels, standard.request_bytes))
            for channel in range(min(channels, len(requests)))]  # fmt: skip
    return Delivery(standard, channels, total, max(runs, key=lambda run: run.cycles))


def channels_for(standard: DramStandard, bandwidth_bytes_per_s: float) -> int:
    """Find the fewest channels whose peak is at least that."""
    return max(1, ceil(bandwidth_bytes_per_s / standard.peak_bytes_per_s - 1e-9))


def carried_bytes_per_s(phase: Phase, clock_hz: float) -> float:
    """Tell what the program takes its DRAM unit to deliver while it is busy."""
    return _carried(phase)[1] * clock_hz


def of_channel(requests: Integers, channel: int, channels: int, request_bytes: int) -> Integers:
    """Select the requests that a channel serves, in order, as channel-local addresses."""
    number = requests // request_bytes
    own: Integers = number[number % channels == channel] // channels
    return own * request_bytes


def _carried(phase: Phase) -> tuple[Program, float]:
    """Make the program of the phase, and divide its bytes by the busy cycles of its DRAM unit."""
    if phase.program is None:
        raise CascadeSimError(f"{phase.name}: no tiles whose traffic could run through DRAM")
    program = phase.program()
    busy = program.busy_cycles()
    cycles = sum(busy[task.name] for task in program.tasks if task.unit == UNIT)
    if cycles == 0:
        raise CascadeSimError(f"{phase.name}: no task moves anything to or from DRAM")
    return program, phase.traffic.total_bytes / cycles


def _requests(program: Program, bytes_per_cycle: float, request_bytes: int, most_bytes: int) -> Integers:
    """List the byte addresses of the first tiles' requests."""
    places = [place for place, task in enumerate(program.tasks) if task.unit == UNIT]
    done = dict.fromkeys(places, 0)  # requests of each task so far
    parts: list[Integers] = []
    total = 0
    for tile_class in _classes(program.stream):
        for place in places:
            cycles = program.tile_classes[tile_class][place]
            count = ceil(cycles * bytes_per_cycle / request_bytes)
            parts.append(REGION_BYTES * place + request_bytes * np.arange(done[place], done[place] + count))
            done[place] += count
            total += count * request_bytes
        if total >= most_bytes:
            break
    return np.concatenate(parts)


def _classes(stream: Sequence[TileRun | Repeat]) -> Iterator[int]:
    """Yield the class of every tile in order."""
    for item in stream:
        if isinstance(item, TileRun):
            yield from (item.tile_class for _ in range(item.tiles))
        else:
            for _ in range(item.times):
                yield from _classes(item.body)
