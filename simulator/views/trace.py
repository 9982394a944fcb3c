"""The cycle-level schedule as a Chrome trace, for Perfetto: one process per report, one track per unit.

Operations and their phases lie one after another, each operation once however often a model repeats it. The first
tiles of each phase are drawn task by task; from there on a slice says what repeats. Microseconds, as the format asks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from cascadesim.accelerators.protocol import Phase
from cascadesim.simulator.engine.engine import record
from cascadesim.simulator.engine.schedule import Schedule, Slice, SteadyState
from cascadesim.simulator.execution import schedule_of
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import parts
from cascadesim.simulator.summary import OperationRun

FIRST_TILES = 48  # drawn task by task, at the start and again where the steady state begins
_FARTHEST_TILE = 4096  # a steady state that begins later is announced at the end of what is drawn
_PHASES, _STEADY = "phases", "steady state"  # tracks above the units
_US_PER_S = 1e6

Event: TypeAlias = dict[str, object]


@dataclass(frozen=True)
class Clock:
    """Cycles since the start of the report become microseconds of the trace."""

    hz: float
    offset_cycles: int = 0

    def us(self, cycle: int) -> float:
        return (self.offset_cycles + cycle) / self.hz * _US_PER_S


@dataclass(frozen=True)
class Tracks:
    """Names of the tracks of one process; a track's number is its place."""

    process: int
    names: tuple[str, ...]

    def of(self, name: str) -> dict[str, object]:
        return {"pid": self.process, "tid": self.names.index(name)}


def write_trace(requests: Sequence[Request], target: Path) -> None:
    target.write_text(json.dumps(trace(requests), ensure_ascii=False), encoding="utf-8")


def trace(requests: Sequence[Request]) -> dict[str, object]:
    processes = [(request, works) for request in requests for works in parts(request)]
    events = [event for number, (request, works) in enumerate(processes, 1)
              for event in _process(number, request, works)]
    return {"displayTimeUnit": "ns", "traceEvents": events}


def _process(number: int, request: Request, works: Sequence[OperationRun]) -> Iterator[Event]:
    runs = [(work, time.phase, schedule_of(work.execution.plan, time.phase))
            for work in works for time in work.execution.phases]
    recorded = [_drawn(schedule) for _, _, schedule in runs]
    lanes = [_lanes(slices) for slices in recorded]
    tracks = Tracks(number, (_PHASES, _STEADY, *_unit_tracks(request, lanes)))
    yield from _names(tracks, _process_name(request, works))
    offset = 0
    for (work, phase, schedule), slices, lane in zip(runs, recorded, lanes, strict=True):
        clock = Clock(request.accelerator.clock_hz, offset)
        yield _phase_slice(tracks, clock, work, phase, schedule)
        yield from _steady(tracks, clock, schedule, slices)
        yield from (_task(tracks, clock, row, track) for row, track in zip(slices, lane, strict=True))
        offset += schedule.cycles


def _process_name(request: Request, works: Sequence[OperationRun]) -> str:
    layer = works[0].operation.layer
    of_layer = f", one {layer} layer" if layer and request.scope != "model" else ""
    length = request.sequence_length or request.workload.sequence_length
    return f"{request.workload.name} on {request.accelerator.name}: {request.scope}{of_layer}, {length:,} tokens"


def _drawn(schedule: Schedule) -> tuple[Slice, ...]:
    """The tasks of the first tiles, and of the first steady ones."""
    begin = schedule.steady.first_tile if schedule.steady is not None else 0
    begin = begin if begin + FIRST_TILES <= _FARTHEST_TILE else 0
    slices = record(schedule.program, begin + FIRST_TILES, schedule.steady)
    return tuple(row for row in slices if row.tile < FIRST_TILES or row.tile >= begin)


def _lanes(slices: Sequence[Slice]) -> list[str]:
    """A track for each slice: its unit, or a further track of it where tasks share issue slots and so overlap."""
    free: dict[str, list[int]] = {}  # unit -> when each of its tracks is free again
    found = []
    for row in slices:
        ends = free.setdefault(row.unit, [])
        lane = next((lane for lane, end in enumerate(ends) if end <= row.start), len(ends))
        ends[lane : lane + 1] = [row.finish]
        found.append(row.unit if lane == 0 else f"{row.unit}, interleaved {lane + 1}")
    return found


def _unit_tracks(request: Request, lanes: Sequence[Sequence[str]]) -> list[str]:
    """In the order in which reports list the units."""
    used = sorted({track for lane in lanes for track in lane})
    order = {unit.name: place for place, unit in enumerate(request.accelerator.units)}
    return sorted(used, key=lambda track: (order.get(track.split(",")[0], len(order)), track))


def _names(tracks: Tracks, process: str) -> Iterator[Event]:
    yield {"ph": "M", "name": "process_name", "pid": tracks.process, "args": {"name": process}}
    for number, name in enumerate(tracks.names):
        place = {"ph": "M", "pid": tracks.process, "tid": number}
        yield {**place, "name": "thread_name", "args": {"name": name}}
        yield {**place, "name": "thread_sort_index", "args": {"sort_index": number}}


def _slice(tracks: Tracks, track: str, clock: Clock, name: str, start: int, finish: int, args: Event) -> Event:
    begin = clock.us(start)
    return {"ph": "X", **tracks.of(track), "name": name, "ts": begin, "dur": clock.us(finish) - begin, "args": args}


def _phase_slice(tracks: Tracks, clock: Clock, work: OperationRun, phase: Phase, schedule: Schedule) -> Event:
    several = len(work.execution.phases) > 1
    name = f"{work.operation.name}: {phase.name}" if several else work.operation.name
    args: Event = {"cycles": schedule.cycles, "tiles": schedule.tiles, "times in the report": work.count,
                   "bound by": schedule.bound_by, "fill cycles": schedule.fill_cycles,
                   "drain cycles": schedule.drain_cycles}  # fmt: skip
    return _slice(tracks, _PHASES, clock, name, 0, schedule.cycles, args)


def _steady(tracks: Tracks, clock: Clock, schedule: Schedule, slices: Sequence[Slice]) -> Iterator[Event]:
    """From the first steady task on: what repeats, for as long as it does."""
    state = schedule.steady
    if state is None:
        return
    starts = [row.start for row in slices if row.tile >= state.first_tile] or [max(row.finish for row in slices)]
    begin = min(starts)
    end = min(begin + (state.last_tile - state.first_tile) * state.cycles // state.tiles, schedule.cycles)
    args: Event = {"first tile": state.first_tile, "last tile": state.last_tile, "tiles": state.tiles,
                   "cycles": state.cycles}  # fmt: skip
    yield {"ph": "i", "s": "p", **tracks.of(_STEADY), "name": "steady state begins", "ts": clock.us(begin)}
    yield _slice(tracks, _STEADY, clock, _repeats(state), begin, end, args)


def _repeats(state: SteadyState) -> str:
    period = f"{state.cycles:,} cycles per {state.tiles:,} tile{'s' if state.tiles > 1 else ''}"
    return f"steady state from tile {state.first_tile:,}: {period}"


def _task(tracks: Tracks, clock: Clock, row: Slice, track: str) -> Event:
    args: Event = {"tile": row.tile, "cycles": row.finish - row.start, "start cycle": row.start}
    category = "steady" if row.steady else "fill"
    return {**_slice(tracks, track, clock, row.task, row.start, row.finish, args), "cat": category}
