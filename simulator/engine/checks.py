"""What a program must satisfy before the engine runs it: names that exist, sizes that are sizes, times that fit."""

from __future__ import annotations

from collections.abc import Iterator

from cascadesim.accelerators.program import Program, Task, TileOrder, TileRun
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

LONGEST_CYCLES = 2**60  # of a whole schedule: the engine counts in 64-bit integers
LONGEST_QUEUE = 2**20


def check(program: Program) -> None:
    """Raises one CascadeSimError with everything that is wrong."""
    problems = [*_names(program), *_classes(program), *_queues(program), *_runs(program, program.stream)]
    if not problems and _longest_possible(program) > LONGEST_CYCLES:
        problems = [f"the schedule may last more than {LONGEST_CYCLES:,} cycles"]
    if problems:
        raise CascadeSimError(f"program: {'; '.join(problems)}")


def _names(program: Program) -> Iterator[str]:
    known = {task.name for task in program.tasks}
    if len(known) < len(program.tasks):
        yield "two tasks have the same name"
    for task in program.tasks:
        yield from _edges(task, known)
        if task.stage < 0:
            yield f"task '{task.name}': stage {task.stage} is negative"


def _edges(task: Task, known: set[str]) -> Iterator[str]:
    for edge in task.after:
        if edge.task not in known:
            yield f"task '{task.name}' is after '{edge.task}', which is no task"
        if edge.lag_cycles < 0 or edge.tiles_back < 0:
            yield f"task '{task.name}' after '{edge.task}': a negative distance"
        if bool(edge.tiles_back) + edge.same_column + edge.latest > 1:
            yield f"task '{task.name}' after '{edge.task}': one of tiles_back, same_column, latest"


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


def _longest_possible(program: Program) -> int:
    """Every task after the other, every lag waited for: no schedule lasts longer."""
    lags = sum(edge.lag_cycles for task in program.tasks for edge in task.after)
    return sum(program.busy_cycles().values()) + lags * program.tiles + program.drain_cycles
