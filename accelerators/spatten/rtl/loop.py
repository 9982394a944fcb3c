"""The loop over cycles of a stream of heads, compiled: every stage once a cycle, the last ones first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from cascadesim.accelerators import compiled as compilation
from cascadesim.accelerators.compiled import compiled_entry, version_of
from cascadesim.accelerators.dram import channel as dram_channel
from cascadesim.accelerators.dram import commands as dram_commands
from cascadesim.accelerators.dram import commands as dram_layout
from cascadesim.accelerators.spatten.rtl import back as heads_back
from cascadesim.accelerators.spatten.rtl import fetch as heads_fetch
from cascadesim.accelerators.spatten.rtl import front as heads_front
from cascadesim.accelerators.spatten.rtl import queue as heads_queue
from cascadesim.accelerators.spatten.rtl import returns as heads_return
from cascadesim.accelerators.spatten.rtl import state as heads_state
from cascadesim.accelerators.spatten.rtl.back import multiply, select, stream
from cascadesim.accelerators.spatten.rtl.fetch import arbitrate, load, memory, split
from cascadesim.accelerators.spatten.rtl.front import accept, fork, read, report
from cascadesim.accelerators.spatten.rtl.returns import beat, regroup, returns
from cascadesim.accelerators.spatten.rtl.state import DONE_HEADS, TIME, Pipeline

Loop: TypeAlias = Callable[[Pipeline, int, int], bool]


def _entry_point(version: int) -> Loop:
    """Until `heads` heads have their results; False where that takes more than `longest` cycles."""

    def run(p: Pipeline, longest: int, heads: int) -> bool:
        p.now[TIME] += 0 * version
        while p.now[DONE_HEADS] < heads:
            if p.now[TIME] >= longest:
                return False
            returns(p)
            regroup(p)
            beat(p)
            memory(p)
            split(p)
            load(p)
            arbitrate(p)
            multiply(p)
            select(p)
            stream(p)
            report(p)
            read(p)
            fork(p)
            accept(p)
            p.now[TIME] += 1
        return True

    return compiled_entry("the engine for streams of heads", about_s=20)(run)


run = _entry_point(
    version_of(
        __file__, compilation, dram_channel, dram_commands, dram_layout, heads_back, heads_fetch, heads_front,
        heads_queue, heads_return, heads_state,
    )
)  # fmt: skip
