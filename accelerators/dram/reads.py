"""Streams of reads through DRAM channels: how long they take, cycle by cycle.

The channel is `channel`, its timing `standards`. One request is pushed and one finished read taken per
channel and cycle, as SpAtten's memory driver does. Knows addresses; knows neither caches nor accelerators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.dram.standards import DramStandard
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

if TYPE_CHECKING:
    from cascadesim.accelerators.dram.state import Channels

Addresses = NDArray[np.int64]


@dataclass(frozen=True)
class DramRun:
    """Reads of one channel, all done. Cycles count from the first push."""

    standard: DramStandard
    cycles: int
    first_latency_cycles: int  # until the first read is taken
    out_of_order: int  # reads taken in another place than they were asked for
    reads: int
    commands: int  # activates, precharges and reads

    @property
    def bytes_per_cycle(self) -> float:
        return self.reads * self.standard.request_bytes / self.cycles

    @property
    def bandwidth_bytes_per_s(self) -> float:
        return self.bytes_per_cycle * self.standard.clock_hz

    @property
    def row_hit_rate(self) -> float:
        """Share of reads that found their row open: every other one cost an activate."""
        return 1 - self.activates / self.reads

    @property
    def activates(self) -> int:
        """Commands that are no reads come in pairs of precharge and activate, but for the first of each bank."""
        return (self.commands - self.reads + 1) // 2


def read_stream(standard: DramStandard, addresses: Addresses, gap: int = 0) -> DramRun:
    """Channel-local byte `addresses` in order, with `gap` idle cycles after each accepted push."""
    if len(addresses) == 0 or int(np.min(addresses)) < 0:
        raise CascadeSimError("a stream of reads needs at least one address, all of them at least 0")
    if gap < 0:
        raise CascadeSimError(f"gap must be at least 0 cycles, got {gap}")
    from cascadesim.accelerators.dram.state import channels

    state = channels(standard, 1)
    cycles, first, out_of_order, commands = _run(state, np.asarray(addresses, dtype=np.int64), gap)
    return DramRun(standard, cycles, first, out_of_order, len(addresses), commands)


def _run(state: Channels, addresses: Addresses, gap: int) -> tuple[int, int, int, int]:
    from cascadesim.accelerators.dram.stream import run_stream

    found: tuple[int, int, int, int] = run_stream(state, addresses, gap)
    return found
