"""When everything runs: a program of tasks on units -> Schedule, exact to the cycle.

Knows programs and their rules (`accelerators.program`), nothing of accelerators or of what a task computes. The loop
over time is compiled (`stepping`, `periods`); this module checks the program, attributes every cycle, and explains
a deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable

from cascadesim.accelerators.program import Program
from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.simulator.schedule import Schedule, Slice, SteadyState, TaskUse, UnitUse
from cascadesim.simulator.stream import State, Tables, blank_state, encode
from cascadesim.simulator.wellformed import check

LARGEST_RING = 2**17  # tiles that a unit may fall behind another


def run(program: Program) -> Schedule:
    """Raises CascadeSimError if the program is malformed, if its units wait for each other, or if it is too long."""
    check(program)
    if not program.tiles or not program.tasks:
        return _schedule(program, None)
    return _schedule(program, _simulate(program, encode(program)))


def record(program: Program, first_tiles: int, steady: SteadyState | None = None) -> tuple[Slice, ...]:
    """Every task of the first tiles, in order of start, unit by unit as the program lists them."""
    check(program)
    tiles = min(first_tiles, program.tiles)
    if tiles <= 0 or not program.tasks:
        return ()
    log = _simulate(program, encode(program, extrapolate=False), tiles).log
    unit = {name: index for index, name in enumerate(program.units)}
    slices = [
        Slice(task.unit, task.name, tile, start, finish, _is_steady(tile, steady))
        for index, task in enumerate(program.tasks)
        for tile, (start, finish) in enumerate(log[:, :, index].T.tolist())
        if start >= 0
    ]
    return tuple(sorted(slices, key=lambda piece: (unit[piece.unit], piece.start, piece.finish)))


def _is_steady(tile: int, steady: SteadyState | None) -> bool:
    return steady is not None and steady.first_tile <= tile < steady.last_tile


def _simulate(program: Program, tables: Tables, log_tiles: int = 0) -> State:
    from cascadesim.simulator.periods import simulate
    from cascadesim.simulator.stepping import DEADLOCK, DONE, GIVEN_UNTAKEN, RING_FULL

    reach = 2 * (tables.last_stage + tables.longest_back + tables.in_flight + 8)
    ring = 1 << reach.bit_length()
    while True:
        state = blank_state(tables, ring, log_tiles)
        status = simulate(tables, state)
        if status == DONE:
            return state
        if status == GIVEN_UNTAKEN:
            raise CascadeSimError(f"a queue gets back more slots than are taken from it: {_names(program.queues)}")
        if status == DEADLOCK or _circular(tables, state) or ring >= LARGEST_RING:
            raise CascadeSimError(_deadlock(program, tables, state))
        assert status == RING_FULL
        ring *= 4


def _names(named: Iterable[object]) -> str:
    return ", ".join(repr(getattr(entry, "name", "?")) for entry in named)


def _waits_for(tables: Tables, state: State, unit: int) -> int | None:
    """The unit that `unit` waits for, None if it waits for nothing."""
    if not tables.in_flight and state.epoch[unit] >= state.progress[0]:
        return None
    edge = int(state.blocked[unit])
    edges = len(tables.source)
    if edge < 0:
        return None
    return int(tables.unit[tables.source[edge]] if edge < edges else tables.giver_unit[edge - edges])


def _circular(tables: Tables, state: State) -> bool:
    """Whether some units wait for each other, so that nothing that is still to come can free them."""
    for first in range(len(state.clock)):
        unit: int | None = first
        for _ in range(len(state.clock)):
            unit = None if unit is None else _waits_for(tables, state, unit)
        if unit is not None:
            return True
    return False


def _deadlock(program: Program, tables: Tables, state: State) -> str:
    edges = [(task, edge.task) for task in program.tasks for edge in task.after]
    waits = []
    for unit, name in enumerate(program.units):
        blocked = int(state.blocked[unit])
        if _waits_for(tables, state, unit) is None:
            continue
        if blocked < len(edges):
            task, source = edges[blocked]
            waits.append(f"'{task.name}' on {name} waits for '{source}'")
        else:
            queue = program.queues[blocked - len(edges)]
            takers = " or ".join(f"'{task.name}'" for task in program.tasks if queue.name in task.takes)
            waits.append(f"{takers} on {name} waits for a slot of queue '{queue.name}' (capacity {queue.capacity})")
    return f"deadlock after {int(state.progress[1]):,} tiles: {'; '.join(waits)}"


def _schedule(program: Program, state: State | None) -> Schedule:
    busy = program.busy_cycles()
    tasks = tuple(TaskUse(task.name, task.unit, busy[task.name]) for task in program.tasks)
    last = int(state.clock.max()) if state is not None else 0
    cycles = last + program.drain_cycles if last else 0
    units = tuple(_unit_use(name, index, cycles, tasks, state) for index, name in enumerate(program.units))
    bound = max(units, key=lambda unit: unit.busy_cycles, default=None)
    return Schedule(
        cycles=cycles,
        tiles=program.tiles,
        units=units,
        tasks=tasks,
        bound_by=bound.name if bound else "",
        fill_cycles=(bound.first_start or 0) if bound else 0,
        drain_cycles=cycles - (bound.last_finish or 0) if bound else 0,
        steady=_steady(state),
        simulated_tiles=_stepped(program, state),
        program=program,
    )


def _unit_use(name: str, index: int, cycles: int, tasks: tuple[TaskUse, ...], state: State | None) -> UnitUse:
    busy = sum(task.busy_cycles for task in tasks if task.unit == name)
    first = int(state.first_start[index]) if state is not None else -1
    if first < 0 or state is None:
        return UnitUse(name, 0, 0, cycles, None, None)
    last = int(state.clock[index])
    stalled = last - first - busy
    if stalled < 0:
        raise AssertionError(f"{name}: busy {busy} cycles between {first} and {last}")
    return UnitUse(name, busy, stalled, cycles - (last - first), first, last)


def _steady(state: State | None) -> SteadyState | None:
    if state is None or not state.steady[3]:
        return None
    first, tiles, cycles, repeated = (int(value) for value in state.steady)
    return SteadyState(first, tiles, cycles, first + tiles + repeated)


def _stepped(program: Program, state: State | None) -> int:
    if state is None:
        return 0
    flushed = 0 if program.in_flight else max(task.stage for task in program.tasks)
    return int(state.progress[0]) - flushed
