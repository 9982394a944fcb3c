"""The loop over cycles of a stream of heads, compiled, and the exact shortcut through a stream of equal heads.

Every stage runs once a cycle, the last ones first. After each head of a stretch of equal heads the state is compared
with earlier ones (`snapshot`). Where two are equal and so are the heads to come, whole periods are cut out of the
stream, and put back into its times. Knows no stage from within.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from cascadesim.accelerators import compiled
from cascadesim.accelerators.compiled import compiled_entry, version_of
from cascadesim.accelerators.dram import channel as dram_channel
from cascadesim.accelerators.dram import commands as dram_commands
from cascadesim.accelerators.dram.commands import BANK_BITS, COLUMN_BITS, GROUP_BITS, PSEUDO_BITS, Integers
from cascadesim.accelerators.spatten.rtl import fetch, pipeline
from cascadesim.accelerators.spatten.rtl import state as at
from cascadesim.accelerators.spatten.rtl.fetch import arbitrate, beat, load, memory, receive, regroup, split
from cascadesim.accelerators.spatten.rtl.pipeline import accept, branch, multiply, read, report, select, stream
from cascadesim.accelerators.spatten.rtl.snapshot import snapshot
from cascadesim.accelerators.spatten.rtl.state import HeadPipeline, Ring


def _entry_point(version: int) -> Callable[[HeadPipeline, int, int], bool]:
    """The loop runs until `heads` heads have their results; False where that takes more than `longest` cycles."""

    def run(p: HeadPipeline, longest: int, heads: int) -> bool:
        p.now[at.TIME] += 0 * version
        while p.now[at.DONE_HEADS] < heads:
            if p.now[at.TIME] >= longest:
                return False
            receive(p)
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
            branch(p)
            accept(p)
            p.now[at.TIME] += 1
        return True

    return compiled_entry("the engine for streams of heads", about_s=20)(run)


run = _entry_point(version_of(__file__, compiled, dram_channel, dram_commands, pipeline, fetch, at))

BASES = [at.KEY_BASE, at.VALUE_BASE, at.LOW_BASE]
PATIENCE = 6  # equal heads in front of the pipeline below which no state is compared
MOST_IN_FLIGHT = at.SLOTS // 2  # more heads that wait are not compared
MOST_SNAPSHOTS = 64  # of one stretch, which ends without a cut when none of them returns


@dataclass(frozen=True)
class _Moment:
    """The place of a stream when a head is done."""

    head: int
    next_head: int
    origin: int  # address of its keys
    counts: Integers  # the cycle, reads or lines so far, for each column of the times


@dataclass(frozen=True)
class _Cut:
    """`periods` periods of `heads` heads, left out while `head` was the first one not done and `next_head` to come."""

    head: int
    next_head: int
    heads: int
    periods: int
    shift: int  # of the addresses, from one period to the next
    added: Integers  # by a period to each column of the times
    times: Integers  # of the heads in front of `next_head`, as far as they were known


def run_to_end(state: HeadPipeline, longest: int) -> tuple[Integers, int] | None:
    """(times of all heads, heads that were simulated); None where that takes more than `longest` cycles."""
    cuts: list[_Cut] = []
    while state.now[at.DONE_HEADS] < len(state.heads):
        stretch = _stretch(state)
        if not run(state, longest, stretch):
            return None
        cut = _cut(state, longest) if stretch < len(state.heads) else None
        if cut is not None:
            cuts.append(cut)
            after = state.heads[cut.next_head + cut.periods * cut.heads :].copy()
            after[:, BASES] -= cut.periods * cut.shift
            state = state._replace(heads=np.concatenate([state.heads[: cut.next_head], after]))
    times = state.times[: len(state.heads)]
    for cut in reversed(cuts):
        times = _put_back(times, cut)
    return times, len(state.heads)


def _stretch(state: HeadPipeline) -> int:
    """How many heads to finish until the next PATIENCE heads are alike; all of them where heads run alone."""
    if state.sizes[at.GAP] >= 0:
        return len(state.heads)
    alike = _alike(state.heads)[state.now[at.NEXT] :]
    if len(alike) < PATIENCE:
        return len(state.heads)
    places = np.flatnonzero(sliding_window_view(alike, PATIENCE).all(axis=1))
    return int(state.now[at.DONE_HEADS] + 1 + places[0]) if len(places) else len(state.heads)


def _alike(heads: Integers) -> NDArray[np.bool_]:
    """Whether a head equals the one before it, or before that, but for its addresses."""
    what = np.delete(heads, BASES, axis=1)
    found = np.zeros(len(heads), dtype=np.bool_)
    for before in (1, 2):
        found[before:] |= (what[before:] == what[:-before]).all(axis=1)
    return found


def _cut(state: HeadPipeline, longest: int) -> _Cut | None:
    """Runs on, head by head, until a state returns and the heads to come allow to leave out a period."""
    seen: dict[bytes, _Moment] = {}
    out = np.empty(_most_words(state), dtype=np.int64)
    alike, bits = _alike(state.heads), state.dram[0][[COLUMN_BITS, PSEUDO_BITS, GROUP_BITS, BANK_BITS]]
    span = 1 << int(state.sizes[at.CHANNEL_BITS] + bits.sum())
    while len(seen) < MOST_SNAPSHOTS:
        now, head = state.now, int(state.now[at.DONE_HEADS])
        counts = np.array([*[now[at.TIME]] * at.READS, now[at.TOTAL_READS], now[at.LINES_DONE]])
        origin = int(state.heads[min(head, len(state.heads) - 1), at.KEY_BASE])
        moment = _Moment(head, int(now[at.NEXT]), origin, counts)
        to_come = alike[moment.next_head : moment.next_head + PATIENCE]
        if len(to_come) < PATIENCE or not to_come.all() or moment.next_head - moment.head > MOST_IN_FLIGHT:
            return None
        words = snapshot(state, out, moment.origin)
        place = moment.origin % span  # addresses this far apart are in the same place of the same bank, in another row
        key = out[1 : words + 1].tobytes() + place.to_bytes(8)
        cut = _between(state, seen[key], moment) if key in seen else None
        if cut is not None:
            return cut
        seen.setdefault(key, moment)
        if not run(state, longest, moment.head + 1):
            return None
    return None


def _most_words(state: HeadPipeline) -> int:
    """More than any snapshot has."""
    lines = state.written[:, :, 0].size + state.value_lines.shape[1]
    queues = sum(queue.entries.size for queue in state if isinstance(queue, Ring))
    return int(
        (MOST_IN_FLIGHT + 1) * (lines + 8) + 12 * queues + 2 * at.ROWS * (state.fetch.lanes.size + 4)
        + 2 * state.dram.size + 2 * state.fetch.crossbar.size + 4096
    )  # fmt: skip


def _between(state: HeadPipeline, first: _Moment, second: _Moment) -> _Cut | None:
    """What may be left out after two moments of equal state: heads up to the last one that a period allows."""
    period, shift, begin = second.head - first.head, second.origin - first.origin, max(first.head - 1, 0)
    heads = state.heads
    moved = heads[begin : len(heads) - period].copy()
    moved[:, BASES] += shift
    differ = np.flatnonzero((moved != heads[begin + period :]).any(axis=1))
    last = begin + period + int(differ[0]) - 1 if len(differ) else len(heads) - 1
    periods = (last - second.next_head) // period
    if periods < 1:
        return None
    added = second.counts - first.counts
    times = state.times[: second.next_head].copy()
    return _Cut(second.head, second.next_head, period, periods, shift, added, times)


def _put_back(times: Integers, cut: _Cut) -> Integers:
    """What happened before the cut is known; what happens after it happened a period earlier to the head before."""
    left_out = cut.periods * cut.heads
    found = np.concatenate([cut.times, np.full((left_out, times.shape[1]), at.UNKNOWN)])
    for head in range(cut.head, len(found)):
        found[head] = np.where(_known(found[head]), found[head], _later(found[head - cut.heads], cut.added))
    after = _later(times[cut.head :], cut.periods * cut.added)
    before = cut.next_head - cut.head  # of these, some times were known at the cut
    after[:before] = np.where(_known(cut.times[cut.head :]), found[cut.head + left_out :], after[:before])
    return np.concatenate([found[: cut.head + left_out], after])


def _known(times: Integers) -> NDArray[np.bool_]:
    return times > at.UNKNOWN


def _later(times: Integers, cycles: Integers) -> Integers:
    return np.where(_known(times), times + cycles, times)
