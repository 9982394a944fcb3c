"""When everything runs: a program of tasks on units -> Schedule, exact to the cycle.

Knows programs and their rules (`accelerators.program`), nothing of accelerators or of what a task computes. The loop
over time is compiled (`issue`, `steady_state`); this module checks the program, attributes every cycle, and explains
a deadlock. Cycles only: seconds, traffic and energy belong to the report.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cascadesim.accelerators.program import Program, Repeat, TileOrder, TileRun
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.engine import state as at
from cascadesim.simulator.engine.issue import DEADLOCK, DONE, GIVEN_UNTAKEN, RING_FULL
from cascadesim.simulator.engine.state import EngineState, Instruction, encode
from cascadesim.simulator.engine.steady_state import simulate


@dataclass(frozen=True, slots=True)
class UnitUse:
    """Every cycle of one unit: busy_cycles + stalled_cycles + idle_cycles = cycles of the schedule.

    It is stalled while its next task waits between its first start and its last finish, and idle before and after.
    """

    name: str
    busy_cycles: int
    stalled_cycles: int
    idle_cycles: int
    first_start: int | None  # None where the unit never works
    last_finish: int | None


@dataclass(frozen=True, slots=True)
class SteadyState:
    """The longest stretch found in which every `tiles` tiles take exactly `cycles` cycles.

    It goes from tile `first_tile` to before `last_tile`.
    """

    first_tile: int
    tiles: int
    cycles: int
    last_tile: int

    @property
    def cycles_per_tile(self) -> float:
        return self.cycles / self.tiles


@dataclass(frozen=True, slots=True)
class Slice:
    """One task of one tile on its unit, for traces; `steady` where the tile lies in the steady state."""

    unit: str
    task: str
    tile: int
    start: int
    finish: int
    steady: bool


@dataclass(frozen=True)
class Schedule:
    """The outcome of one program. `fill_cycles` pass before the bounding unit starts, `drain_cycles` after it ends."""

    cycles: int
    tiles: int
    units: tuple[UnitUse, ...]
    bound_by: str  # the unit with the most busy cycles
    fill_cycles: int
    drain_cycles: int
    steady: SteadyState | None
    simulated_tiles: int  # tiles stepped through one by one; the others are exact repetitions
    program: Program = field(repr=False)

    def unit(self, name: str) -> UnitUse:
        return next(unit for unit in self.units if unit.name == name)

    def utilization(self, name: str) -> float:
        return self.unit(name).busy_cycles / self.cycles if self.cycles else 0.0


LARGEST_RING = 2**17  # tiles that a unit may fall behind another
LONGEST_CYCLES = 2**60  # of a whole schedule: the engine counts in 64-bit integers
LONGEST_QUEUE = 2**20


def run(program: Program) -> Schedule:
    """Simulate a program. Raises CascadeSimError if it is malformed, too long, or its units wait for each other."""
    _check(program)
    return _schedule(program, _simulated(program) if program.tiles and program.tasks else None)


def record(program: Program, first_tiles: int, steady: SteadyState | None = None) -> tuple[Slice, ...]:
    """List every task of the first tiles, in order of start, unit by unit as the program lists them."""
    _check(program)
    tiles = min(first_tiles, program.tiles)
    if tiles <= 0 or not program.tasks:
        return ()
    log = _simulated(program, tiles).log
    steady_tiles = range(0) if steady is None else range(steady.first_tile, steady.last_tile)
    slices = [
        Slice(task.unit, task.name, tile, start, finish, tile in steady_tiles)
        for index, task in enumerate(program.tasks)
        for tile, (start, finish) in enumerate(log[:, :, index].T.tolist())
        if start >= 0
    ]
    return tuple(sorted(slices, key=lambda piece: (program.units.index(piece.unit), piece.start, piece.finish)))


def _simulated(program: Program, log_tiles: int = 0) -> EngineState:
    """Run to the last tile, or through the first `log_tiles`; the ring grows until the slowest unit fits."""
    stage = max(task.stage for task in program.tasks)
    back = max((edge.tiles_back for task in program.tasks for edge in task.after), default=0)
    open_tiles = (program.in_flight or 0) + program.ahead
    under_way = 2 * (stage + back + open_tiles + 8)  # unless a unit falls far behind another
    ring = 1 << under_way.bit_length()
    columnwise = any(edge.same_column for task in program.tasks for edge in task.after)
    code = list(_code(program.stream, 0, not columnwise))
    while True:
        state = encode(program, code, ring, log_tiles)
        status = simulate(state)
        if status == DONE:
            return state
        if status == GIVEN_UNTAKEN:
            queues = ", ".join(f"'{queue.name}'" for queue in program.queues)
            raise CascadeSimError(f"a queue gets back more slots than are taken from it: {queues}")
        if status == DEADLOCK or _circular(state) or ring >= LARGEST_RING:
            raise CascadeSimError(_deadlock(program, state))
        assert status == RING_FULL
        ring *= 4


def _code(stream: TileOrder, position: int, tile_by_tile: bool) -> Iterator[Instruction]:
    """Write the stream as instructions. `tile_by_tile`: no column matters, so a run is a loop over one tile."""
    for item in stream:
        if isinstance(item, Repeat):
            body = list(_code(item.body, position + 1, tile_by_tile)) if item.times else []
            repeated = _loop(body, item.times, position) if body else []
        else:
            place = 2 * item.first_column + item.fresh
            if tile_by_tile and item.tiles >= at.SHORTEST_LOOP:
                repeated = _loop([(at.RUN, item.tile_class, place, 1)], item.tiles, position)
            else:
                repeated = [(at.RUN, item.tile_class, place, item.tiles)] if item.tiles else []
        yield from repeated
        position += len(repeated)


def _loop(body: list[Instruction], times: int, position: int) -> list[Instruction]:
    return [(at.BEGIN, 0, 0, 0), *body, (at.REPEAT, times, position + 1, 0)]


def _waits_for(state: EngineState, unit: int) -> int | None:
    """Find the unit that `unit` waits for, None if it waits for nothing."""
    rows = state.rows
    if not rows[at.SIZE, at.IN_FLIGHT] and rows[at.EPOCH, unit] >= rows[at.PROGRESS, at.TILE]:
        return None
    edge, edges = int(rows[at.BLOCKED, unit]), int(rows[at.SIZE, at.EDGES])
    if edge < 0:
        return None
    return int(rows[at.UNIT, rows[at.SOURCE, edge]] if edge < edges else rows[at.GIVER_UNIT, edge - edges])


def _circular(state: EngineState) -> bool:
    """Tell whether some units wait for each other, so that nothing that is still to come can free them."""
    units = int(state.rows[at.SIZE, at.UNITS])
    for first in range(units):
        unit: int | None = first
        for _ in range(units):
            unit = None if unit is None else _waits_for(state, unit)
        if unit is not None:
            return True
    return False


def _deadlock(program: Program, state: EngineState) -> str:
    edges = [(task, edge.task) for task in program.tasks for edge in task.after]
    waits = []
    for unit, name in enumerate(program.units):
        blocked = int(state.rows[at.BLOCKED, unit])
        if _waits_for(state, unit) is None:
            continue
        if blocked < len(edges):
            task, source = edges[blocked]
            waits.append(f"'{task.name}' on {name} waits for '{source}'")
        else:
            queue = program.queues[blocked - len(edges)]
            takers = " or ".join(f"'{task.name}'" for task in program.tasks if queue.name in task.takes)
            waits.append(f"{takers} on {name} waits for a slot of queue '{queue.name}' (capacity {queue.capacity})")
    return f"deadlock after {int(state.rows[at.PROGRESS, at.ENTERED]):,} tiles: {'; '.join(waits)}"


def _schedule(program: Program, state: EngineState | None) -> Schedule:
    """Read the schedule off the final state, None where nothing ran."""
    by_task, busy = program.busy_cycles(), dict.fromkeys(program.units, 0)
    for task in program.tasks:
        busy[task.unit] += by_task[task.name]
    last, stepped, steady = 0, 0, None
    if state is not None:
        last = int(state.rows[at.CLOCK].max())
        stepped = int(state.rows[at.PROGRESS, at.TILE])
        if not program.in_flight:  # the empty epochs after the stream
            stepped -= max(task.stage for task in program.tasks)
        first, tiles, period, repeated = (int(value) for value in state.rows[at.STEADY, :4])
        steady = SteadyState(first, tiles, period, first + tiles + repeated) if repeated else None
    cycles = last + program.drain_cycles if last else 0
    units = tuple(_unit_use(name, index, cycles, busy[name], state) for index, name in enumerate(program.units))
    bound = max(units, key=lambda unit: unit.busy_cycles, default=None)
    return Schedule(
        cycles=cycles, tiles=program.tiles, units=units, bound_by=bound.name if bound else "",
        fill_cycles=(bound.first_start or 0) if bound else 0,
        drain_cycles=cycles - (bound.last_finish or 0) if bound else 0, steady=steady, simulated_tiles=stepped,
        program=program,
    )  # fmt: skip


def _unit_use(name: str, index: int, cycles: int, busy: int, state: EngineState | None) -> UnitUse:
    first = int(state.rows[at.FIRST_START, index]) if state is not None else -1
    if state is None or first < 0:
        return UnitUse(name, 0, 0, cycles, None, None)
    last = int(state.rows[at.CLOCK, index])
    stalled = last - first - busy
    if stalled < 0:
        raise AssertionError(f"{name}: busy {busy} cycles between {first} and {last}")
    return UnitUse(name, busy, stalled, cycles - (last - first), first, last)


def _check(program: Program) -> None:
    """Raises one CascadeSimError with everything that is wrong: names, sizes, times that do not fit."""
    problems = [*_names(program), *_classes(program), *_queues(program), *_runs(program, program.stream)]
    lags = sum(edge.lag_cycles for task in program.tasks for edge in task.after)
    if not problems:  # no schedule lasts longer than every task after the other, every lag waited for
        longest = sum(program.busy_cycles().values()) + lags * program.tiles + program.drain_cycles
        if longest > LONGEST_CYCLES:
            problems = [f"the schedule may last more than {LONGEST_CYCLES:,} cycles"]
    if problems:
        raise CascadeSimError(f"program: {'; '.join(problems)}")


def _names(program: Program) -> Iterator[str]:
    known = {task.name for task in program.tasks}
    if len(known) < len(program.tasks):
        yield "two tasks have the same name"
    for task in program.tasks:
        for edge in task.after:
            if edge.task not in known:
                yield f"task '{task.name}' is after '{edge.task}', which is no task"
            if edge.lag_cycles < 0 or edge.tiles_back < 0:
                yield f"task '{task.name}' after '{edge.task}': a negative distance"
            if bool(edge.tiles_back) + edge.same_column + edge.latest > 1:
                yield f"task '{task.name}' after '{edge.task}': one of tiles_back, same_column, latest"
        if task.stage < 0:
            yield f"task '{task.name}': stage {task.stage} is negative"


def _classes(program: Program) -> Iterator[str]:
    for index, cycles in enumerate(program.tile_classes):
        if len(cycles) != len(program.tasks):
            yield f"tile class {index} has {len(cycles)} lengths for {len(program.tasks)} tasks"
        if any(value < 0 for value in cycles):
            yield f"tile class {index} has a negative length"
    if program.keeps and len(program.keeps) != len(program.tile_classes):
        yield f"keeps names {len(program.keeps)} classes of {len(program.tile_classes)}"
    if program.in_flight is not None and program.in_flight < 1:
        yield f"in_flight {program.in_flight} is not positive"
    if program.ahead < 0:
        yield f"ahead {program.ahead} is negative"


def _queues(program: Program) -> Iterator[str]:
    capacity = {queue.name: queue.capacity for queue in program.queues}
    for name, slots in capacity.items():
        if not 1 <= slots <= LONGEST_QUEUE:
            yield f"queue '{name}': capacity {slots} is not in 1..{LONGEST_QUEUE}"
        for side in ("takes", "gives_back"):
            units = {task.unit for task in program.tasks if name in getattr(task, side)}
            if len(units) > 1:
                yield f"queue '{name}': several units ({', '.join(sorted(units))}) {side.replace('_', ' ')}"
    used = {name for task in program.tasks for name in (*task.takes, *task.gives_back)}
    for name in sorted((used | {name for kept in program.keeps for name in kept}) - set(capacity)):
        yield f"'{name}' is no queue"


def _runs(program: Program, stream: TileOrder) -> Iterator[str]:
    for item in stream:
        if not isinstance(item, TileRun):
            if item.times < 0:
                yield f"{item.times} repetitions"
            yield from _runs(program, item.body)
        elif not 0 <= item.tile_class < len(program.tile_classes):
            yield f"tile class {item.tile_class} of {len(program.tile_classes)}"
        elif item.tiles < 0 or item.first_column < 0:
            yield f"{item.tiles} tiles from column {item.first_column}"
