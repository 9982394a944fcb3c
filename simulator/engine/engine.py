"""When everything runs: a program of tasks on units -> Schedule, exact to the cycle.

Knows programs and their rules (`accelerators.program`), nothing of accelerators or of what a task computes. The loop
over time is compiled (`issue`, `steady_state`); this module checks the program, attributes every cycle, and explains
a deadlock.
"""

from __future__ import annotations

from collections.abc import Iterable

from cascadesim.accelerators.program import Program, Queue
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.engine import state as at
from cascadesim.simulator.engine.checks import check
from cascadesim.simulator.engine.encode import encode
from cascadesim.simulator.engine.schedule import Schedule, Slice, SteadyState, TaskUse, UnitUse
from cascadesim.simulator.engine.state import Machine

LARGEST_RING = 2**17  # tiles that a unit may fall behind another


def run(program: Program) -> Schedule:
    """Raises CascadeSimError if the program is malformed, if its units wait for each other, or if it is too long."""
    check(program)
    if not program.tiles or not program.tasks:
        return _schedule(program, None)
    return _schedule(program, _simulate(program))


def record(program: Program, first_tiles: int, steady: SteadyState | None = None) -> tuple[Slice, ...]:
    """Every task of the first tiles, in order of start, unit by unit as the program lists them."""
    check(program)
    tiles = min(first_tiles, program.tiles)
    if tiles <= 0 or not program.tasks:
        return ()
    log = _simulate(program, tiles).log
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


def _simulate(program: Program, log_tiles: int = 0) -> Machine:
    from cascadesim.simulator.engine.issue import DEADLOCK, DONE, GIVEN_UNTAKEN, RING_FULL
    from cascadesim.simulator.engine.steady_state import simulate

    ring = 1 << _reach(program).bit_length()
    while True:
        machine = encode(program, ring, log_tiles)
        status = simulate(machine)
        if status == DONE:
            return machine
        if status == GIVEN_UNTAKEN:
            raise CascadeSimError(f"a queue gets back more slots than are taken from it: {_names(program.queues)}")
        if status == DEADLOCK or _circular(machine) or ring >= LARGEST_RING:
            raise CascadeSimError(_deadlock(program, machine))
        assert status == RING_FULL
        ring *= 4


def _reach(program: Program) -> int:
    """Tiles under way at once, unless a unit falls far behind another."""
    stage = max(task.stage for task in program.tasks)
    back = max((edge.tiles_back for task in program.tasks for edge in task.after), default=0)
    return 2 * (stage + back + (program.in_flight or 0) + 8)


def _names(named: Iterable[Queue]) -> str:
    return ", ".join(f"'{entry.name}'" for entry in named)


def _waits_for(machine: Machine, unit: int) -> int | None:
    """The unit that `unit` waits for, None if it waits for nothing."""
    rows = machine.rows
    if not rows[at.SIZE, at.IN_FLIGHT] and rows[at.EPOCH, unit] >= rows[at.PROGRESS, at.TILE]:
        return None
    edge, edges = int(rows[at.BLOCKED, unit]), int(rows[at.SIZE, at.EDGES])
    if edge < 0:
        return None
    return int(rows[at.UNIT, rows[at.SOURCE, edge]] if edge < edges else rows[at.GIVER_UNIT, edge - edges])


def _circular(machine: Machine) -> bool:
    """Whether some units wait for each other, so that nothing that is still to come can free them."""
    units = int(machine.rows[at.SIZE, at.UNITS])
    for first in range(units):
        unit: int | None = first
        for _ in range(units):
            unit = None if unit is None else _waits_for(machine, unit)
        if unit is not None:
            return True
    return False


def _deadlock(program: Program, machine: Machine) -> str:
    edges = [(task, edge.task) for task in program.tasks for edge in task.after]
    waits = []
    for unit, name in enumerate(program.units):
        blocked = int(machine.rows[at.BLOCKED, unit])
        if _waits_for(machine, unit) is None:
            continue
        if blocked < len(edges):
            task, source = edges[blocked]
            waits.append(f"'{task.name}' on {name} waits for '{source}'")
        else:
            queue = program.queues[blocked - len(edges)]
            takers = " or ".join(f"'{task.name}'" for task in program.tasks if queue.name in task.takes)
            waits.append(f"{takers} on {name} waits for a slot of queue '{queue.name}' (capacity {queue.capacity})")
    return f"deadlock after {int(machine.rows[at.PROGRESS, at.ENTERED]):,} tiles: {'; '.join(waits)}"


def _schedule(program: Program, machine: Machine | None) -> Schedule:
    busy = program.busy_cycles()
    tasks = tuple(TaskUse(task.name, task.unit, busy[task.name]) for task in program.tasks)
    last = int(machine.rows[at.CLOCK].max()) if machine is not None else 0
    cycles = last + program.drain_cycles if last else 0
    units = tuple(_unit_use(name, index, cycles, tasks, machine) for index, name in enumerate(program.units))
    bound = max(units, key=lambda unit: unit.busy_cycles, default=None)
    return Schedule(
        cycles=cycles,
        tiles=program.tiles,
        units=units,
        tasks=tasks,
        bound_by=bound.name if bound else "",
        fill_cycles=(bound.first_start or 0) if bound else 0,
        drain_cycles=cycles - (bound.last_finish or 0) if bound else 0,
        steady=_steady(machine),
        simulated_tiles=_stepped(program, machine),
        program=program,
    )


def _unit_use(name: str, index: int, cycles: int, tasks: tuple[TaskUse, ...], machine: Machine | None) -> UnitUse:
    busy = sum(task.busy_cycles for task in tasks if task.unit == name)
    first = int(machine.rows[at.FIRST_START, index]) if machine is not None else -1
    if first < 0 or machine is None:
        return UnitUse(name, 0, 0, cycles, None, None)
    last = int(machine.rows[at.CLOCK, index])
    stalled = last - first - busy
    if stalled < 0:
        raise AssertionError(f"{name}: busy {busy} cycles between {first} and {last}")
    return UnitUse(name, busy, stalled, cycles - (last - first), first, last)


def _steady(machine: Machine | None) -> SteadyState | None:
    if machine is None or not machine.rows[at.STEADY, at.REPEATED_TILES]:
        return None
    first, tiles, cycles, repeated = (int(value) for value in machine.rows[at.STEADY, :4])
    return SteadyState(first, tiles, cycles, first + tiles + repeated)


def _stepped(program: Program, machine: Machine | None) -> int:
    if machine is None:
        return 0
    flushed = 0 if program.in_flight else max(task.stage for task in program.tasks)
    return int(machine.rows[at.PROGRESS, at.TILE]) - flushed
