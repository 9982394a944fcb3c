"""Streams of reads through DRAM channels: how long they take, cycle by cycle, compiled.

The channel is `channel`, its timing `standards`. One request is pushed and one finished read taken per channel and
cycle, as SpAtten's memory driver does. Knows addresses; knows neither caches nor accelerators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from cascadesim.accelerators import compiled as compilation
from cascadesim.accelerators.compiled import compiled_entry, version_of
from cascadesim.accelerators.dram import channel as dram_channel
from cascadesim.accelerators.dram import commands as dram_commands
from cascadesim.accelerators.dram.channel import pop, push, tick
from cascadesim.accelerators.dram.commands import ISSUED, Channels, Integers, channels
from cascadesim.accelerators.dram.standards import DramStandard
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

StreamLoop: TypeAlias = Callable[[Channels, Integers, int], tuple[int, int, int, int]]


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
    found = _run_stream(channels(standard, 1), np.asarray(addresses, dtype=np.int64), gap)
    cycles, first, out_of_order, commands = found
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
