"""The cycle-level schedule as a Chrome trace, for Perfetto: one process per report, one track per unit.

Operations and their phases lie one after another, each operation once however often a model repeats it. The first
tiles of each phase are drawn task by task; from there on a slice says what repeats. Microseconds, as the format asks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from cascadesim.accelerators.protocol import Phase
from cascadesim.simulator.engine.engine import Schedule, Slice, SteadyState, record
from cascadesim.simulator.execution import OperationRun, schedule_of
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import parts

FIRST_TILES = 48  # drawn task by task, at the start and again where the steady state begins
_FARTHEST_TILE = 4096  # a steady state that begins later is announced at the end of what is drawn
_PHASES, _STEADY = "phases", "steady state"  # tracks above the units
_US_PER_S = 1e6

Event: TypeAlias = dict[str, object]


@dataclass(frozen=True)
class Tracks:
    """The tracks of one process: a track's number is its place; cycles after `offset_cycles` become microseconds."""

    process: int
    names: tuple[str, ...]
    clock_hz: float
    offset_cycles: int = 0

    def us(self, cycle: int) -> float:
        return (self.offset_cycles + cycle) / self.clock_hz * _US_PER_S

    def of(self, name: str) -> Event:
        return {"pid": self.process, "tid": self.names.index(name)}

    def slice(self, track: str, name: str, start: int, finish: int, args: Event) -> Event:
        begin = self.us(start)
        return {"ph": "X", **self.of(track), "name": name, "ts": begin, "dur": self.us(finish) - begin, "args": args}


def write_trace(requests: Sequence[Request], target: Path) -> None:
    target.write_text(json.dumps(trace(requests), ensure_ascii=False), encoding="utf-8")


def trace(requests: Sequence[Request]) -> dict[str, object]:
    processes = [(request, runs) for request in requests for runs in parts(request)]
    events = [event for number, (request, runs) in enumerate(processes, 1) for event in _process(number, request, runs)]
    return {"displayTimeUnit": "ns", "traceEvents": events}


def _process(number: int, request: Request, runs: Sequence[OperationRun]) -> Iterator[Event]:
    phases = [(run, time.phase, schedule_of(run.execution.plan, time.phase))
              for run in runs for time in run.execution.phases]  # fmt: skip
    recorded = [_first_slices(schedule) for _, _, schedule in phases]
    lanes = [_lanes(slices) for slices in recorded]
    order = {unit.name: place for place, unit in enumerate(request.accelerator.units)}  # as reports list them
    units = sorted({track for lane in lanes for track in lane},
                   key=lambda track: (order.get(track.split(",")[0], len(order)), track))  # fmt: skip
    tracks = Tracks(number, (_PHASES, _STEADY, *units), request.accelerator.clock_hz)
    yield from _names(tracks, request, runs[0].operation.layer)
    for (run, phase, schedule), slices, lane in zip(phases, recorded, lanes, strict=True):
        yield _phase_slice(tracks, run, phase, schedule)
        if schedule.steady is not None:
            yield from _steady(tracks, schedule, schedule.steady, slices)
        for row, track in zip(slices, lane, strict=True):
            args: Event = {"tile": row.tile, "cycles": row.finish - row.start, "start cycle": row.start}
            task = tracks.slice(track, row.task, row.start, row.finish, args)
            yield {**task, "cat": "steady" if row.steady else "fill"}
        tracks = replace(tracks, offset_cycles=tracks.offset_cycles + schedule.cycles)


def _first_slices(schedule: Schedule) -> tuple[Slice, ...]:
    """Record the tasks of the first tiles, and of the first steady ones."""
    begin = schedule.steady.first_tile if schedule.steady is not None else 0
    begin = begin if begin + FIRST_TILES <= _FARTHEST_TILE else 0
    slices = record(schedule.program, begin + FIRST_TILES, schedule.steady)
    return tuple(row for row in slices if row.tile < FIRST_TILES or row.tile >= begin)


def _lanes(slices: Sequence[Slice]) -> list[str]:
    """Choose a track for each slice: its unit, or a further one where tasks share issue slots and so overlap."""
    free: dict[str, list[int]] = {}  # unit -> when each of its tracks is free again
    found = []
    for row in slices:
        ends = free.setdefault(row.unit, [])
        lane = next((lane for lane, end in enumerate(ends) if end <= row.start), len(ends))
        ends[lane : lane + 1] = [row.finish]
        found.append(row.unit if lane == 0 else f"{row.unit}, interleaved {lane + 1}")
    return found


def _names(tracks: Tracks, request: Request, layer: str) -> Iterator[Event]:
    of_layer = f", one {layer} layer" if layer and request.scope != "model" else ""
    length = request.sequence_length or request.workload.sequence_length
    process = f"{request.workload.name} on {request.accelerator.name}: {request.scope}{of_layer}, {length:,} tokens"
    yield {"ph": "M", "name": "process_name", "pid": tracks.process, "args": {"name": process}}
    for number, name in enumerate(tracks.names):
        place = {"ph": "M", "pid": tracks.process, "tid": number}
        yield {**place, "name": "thread_name", "args": {"name": name}}
        yield {**place, "name": "thread_sort_index", "args": {"sort_index": number}}


def _phase_slice(tracks: Tracks, run: OperationRun, phase: Phase, schedule: Schedule) -> Event:
    several = len(run.execution.phases) > 1
    name = f"{run.operation.name}: {phase.name}" if several else run.operation.name
    args: Event = {"cycles": schedule.cycles, "tiles": schedule.tiles, "times in the report": run.count,
                   "bound by": schedule.bound_by, "fill cycles": schedule.fill_cycles,
                   "drain cycles": schedule.drain_cycles}  # fmt: skip
    return tracks.slice(_PHASES, name, 0, schedule.cycles, args)


def _steady(tracks: Tracks, schedule: Schedule, state: SteadyState, slices: Sequence[Slice]) -> Iterator[Event]:
    """Draw what repeats as one slice, from the first steady task on, for as long as it does."""
    starts = [row.start for row in slices if row.tile >= state.first_tile] or [max(row.finish for row in slices)]
    begin = min(starts)
    end = min(begin + (state.last_tile - state.first_tile) * state.cycles // state.tiles, schedule.cycles)
    args: Event = {"first tile": state.first_tile, "last tile": state.last_tile, "tiles": state.tiles,
                   "cycles": state.cycles}  # fmt: skip
    period = f"{state.cycles:,} cycles per {state.tiles:,} tile{'s' if state.tiles > 1 else ''}"
    yield {"ph": "i", "s": "p", **tracks.of(_STEADY), "name": "steady state begins", "ts": tracks.us(begin)}
    yield tracks.slice(_STEADY, f"steady state from tile {state.first_tile:,}: {period}", begin, end, args)
