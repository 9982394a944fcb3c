"""The loop over cycles of one stream of reads on one channel, compiled. Its meaning is in `reads`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from cascadesim.accelerators import compiled as compilation
from cascadesim.accelerators.compiled import compiled_entry, version_of
from cascadesim.accelerators.dram import channel as dram_channel
from cascadesim.accelerators.dram import commands as dram_commands
from cascadesim.accelerators.dram import state as dram_layout
from cascadesim.accelerators.dram.channel import pop, push, tick
from cascadesim.accelerators.dram.state import ISSUED, Channels, Integers

Loop: TypeAlias = Callable[[Channels, Integers, int], tuple[int, int, int, int]]


def _entry_point(version: int) -> Loop:
    """(cycles, cycle of the first pop, reads out of order, commands)."""

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


run_stream = _entry_point(version_of(__file__, compilation, dram_channel, dram_commands, dram_layout))
