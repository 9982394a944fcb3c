"""The loop over cycles of one stream of reads on one channel, compiled. Its meaning is in `dram`."""

from __future__ import annotations

from cascadesim.simulator.dram_channel import ISSUED, Channels, Integers, compiled, pop, push, tick


@compiled
def run_stream(state: Channels, addresses: Integers, gap: int) -> tuple[int, int, int, int]:
    """(cycles, cycle of the first pop, reads out of order, commands)."""
    total = len(addresses)
    asked, taken, wait, cycle, first, out_of_order = 0, 0, 0, 0, -1, 0
    while taken < total:
        if asked < total:
            if wait > 0:
                wait -= 1
            elif push(state, 0, asked, addresses[asked]):
                asked += 1
                wait = gap
        number = pop(state, 0)
        if number >= 0:
            first = cycle if first < 0 else first
            out_of_order += number != taken
            taken += 1
        tick(state, 0)
        cycle += 1
    return cycle, first, out_of_order, state[0, ISSUED]
