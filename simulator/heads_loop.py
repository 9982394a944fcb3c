"""The loop over cycles of a stream of heads, compiled: every stage once a cycle, the last ones first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from cascadesim.simulator import (
    compilation,
    dram_channel,
    dram_commands,
    dram_layout,
    heads_back,
    heads_fetch,
    heads_front,
    heads_queue,
    heads_return,
    heads_state,
)
from cascadesim.simulator.compilation import compiled_entry, version_of
from cascadesim.simulator.heads_back import multiply, select, stream
from cascadesim.simulator.heads_fetch import arbitrate, load, memory, split
from cascadesim.simulator.heads_front import accept, fork, read, report
from cascadesim.simulator.heads_return import beat, regroup, returns
from cascadesim.simulator.heads_state import DONE_HEADS, TIME, Pipeline

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
