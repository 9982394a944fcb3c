"""A program in numbers: fills the memory of the compiled engine (`state`).

Knows names, numbering and shapes; nothing of time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby

import numpy as np

from cascadesim.accelerators.program import Program, Repeat, Task, TileOrder
from cascadesim.simulator.engine import state as at
from cascadesim.simulator.engine.state import ABSENT, EngineState, Ints

Instruction = tuple[int, int, int, int]


def encode(program: Program, ring: int, log_tiles: int = 0) -> EngineState:
    """Make the state for a ring of `ring` tiles (a power of two). With `log_tiles`, the engine skips no periods."""
    tasks, queues = program.tasks, program.queues
    carriers = _carriers(program)
    columnwise = any(by_column for _, by_column in carriers)
    code = list(_code(program.stream, 0, not columnwise))
    columns = max([1, *(place // 2 + tiles for kind, _, place, tiles in code if kind == at.RUN)]) if columnwise else 1
    gifts = max((queue.capacity for queue in queues), default=0) + ring * max(sum(len(t.gives_back) for t in tasks), 1)
    snapshot = 16 + 2 * len(program.units) + ring * (2 * len(tasks) + 3 * len(carriers) + 4)
    snapshot += len(queues) * (gifts + 1) + 2 * len(carriers) * columns
    levels = [(kind == at.BEGIN) - (kind == at.REPEAT) for kind, *_ in code]
    depth = max([1, *accumulate(levels)])
    state = EngineState(
        rows=_rows(program, carriers),
        ring=_full(ABSENT, 5, ring, max(len(tasks), len(carriers))),
        tiles=_full(0, 5, ring),
        columns=_full(ABSENT, 3, len(carriers), columns),
        gifts=_full(ABSENT, len(queues), gifts),
        classes=_classes(program),
        code=np.array(code, np.int64).reshape(len(code), 4),
        loops=_full(0, depth, at.CLOCKS + len(program.units)),
        saved=np.empty((depth + 1, snapshot), np.int64),
        log=_full(ABSENT, 2, log_tiles, len(tasks)),
    )
    state.tiles[at.CLASS] = len(program.tile_classes)
    state.ring[at.CARRIED_TILE] = state.columns[at.FROM] = -1
    state.rows[at.SIZE, at.EXTRAPOLATE] = log_tiles == 0
    state.rows[at.SIZE, at.COLUMNWISE] = columnwise
    return state


def _rows(program: Program, carriers: list[tuple[int, int]]) -> Ints:
    edges = [edge for task in program.tasks for edge in task.after]
    sizes = {
        at.TASKS: len(program.tasks),
        at.UNITS: len(program.units),
        at.EDGES: len(edges),
        at.CARRIERS: len(carriers),
        at.QUEUES: len(program.queues),
        at.CLASSES: len(program.tile_classes),
        at.IN_FLIGHT: program.in_flight or 0,
        at.LAST_STAGE: 0 if program.in_flight else max(task.stage for task in program.tasks),
        at.LONGEST_BACK: max((edge.tiles_back for edge in edges), default=0),
    }
    fields = {
        **_unit_rows(program),
        **_task_rows(program, carriers),
        **_edge_rows(program, carriers),
        **_queue_rows(program),
        at.SIZE: [sizes.get(field, 0) for field in range(at.SIZES)],
        at.PROGRESS: [0] * at.SIZES,
    }
    rows = _full(0, at.ROWS, max(len(values) for values in fields.values()))
    for field, values in fields.items():
        rows[field, : len(values)] = values
    rows[[at.FIRST_START, at.BLOCKED, at.USED, at.NEEDED]] = -1
    return rows


def _unit_rows(program: Program) -> dict[int, list[int]]:
    items = [item for unit in program.units for item in _items(program, unit)]
    first_items = _firsts([sum(program.tasks[item[0]].unit == unit for item in items) for unit in program.units])
    return {
        at.ITEMS_OF: first_items,
        at.ITEM: first_items[:-1],
        at.MEMBERS_OF: _firsts([len(item) for item in items]),
        at.MEMBER: [member for item in items for member in item],
    }


def _task_rows(program: Program, carriers: list[tuple[int, int]]) -> dict[int, list[int]]:
    tasks, unit = program.tasks, {name: index for index, name in enumerate(program.units)}
    readers = [_readers(program, task) for task in tasks]
    return {
        at.UNIT: [unit[task.unit] for task in tasks],
        at.STAGE: [0 if program.in_flight else task.stage for task in tasks],
        at.EDGES_OF: _firsts([len(task.after) for task in tasks]),
        at.READERS_OF: _firsts([len(entry) for entry in readers]),
        at.READER_UNIT: [unit[name] for entry in readers for name in entry],
        at.READER_LAG: [lag for entry in readers for lag in entry.values()],
        at.CARRIERS_OF: _firsts([sum(task == index for task, _ in carriers) for index in range(len(tasks))]),
        at.CARRIER_TASK: [task for task, _ in carriers],
        at.BY_COLUMN: [by_column for _, by_column in carriers],
        at.TAKES_OF: _firsts([len(task.takes) for task in tasks]),
        at.GIVES_OF: _firsts([len(task.gives_back) for task in tasks]),
    }


def _edge_rows(program: Program, carriers: list[tuple[int, int]]) -> dict[int, list[int]]:
    number = {task.name: index for index, task in enumerate(program.tasks)}
    edges = [edge for task in program.tasks for edge in task.after]
    carrier = [  # -1: the edge looks at a tile at a fixed distance
        carriers.index((number[edge.task], int(edge.same_column))) if edge.same_column or edge.latest else -1
        for edge in edges
    ]
    return {
        at.SOURCE: [number[edge.task] for edge in edges],
        at.LAG: [edge.lag_cycles for edge in edges],
        at.BACK: [edge.tiles_back for edge in edges],
        at.STREAMS: [int(edge.streaming) for edge in edges],
        at.CARRIER: carrier,
        at.USED: [-1] * (len(edges) + len(program.queues)),
    }


def _queue_rows(program: Program) -> dict[int, list[int]]:
    queue = {entry.name: index for index, entry in enumerate(program.queues)}
    unit = {name: index for index, name in enumerate(program.units)}
    return {
        at.TAKE: [queue[name] for task in program.tasks for name in task.takes],
        at.GIVE: [queue[name] for task in program.tasks for name in task.gives_back],
        at.CAPACITY: [entry.capacity for entry in program.queues],
        at.TAKER_UNIT: [unit[_side(program, "takes", name)] for name in queue],
        at.GIVER_UNIT: [unit[_side(program, "gives_back", name)] for name in queue],
    }


def _classes(program: Program) -> Ints:
    count = len(program.tile_classes)
    classes = _full(0, 2, count + 1, max(len(program.tasks), len(program.queues)))
    for index, cycles in enumerate(program.tile_classes):
        classes[at.CYCLES, index, : len(cycles)] = cycles
    for index, kept in enumerate(program.keeps):
        classes[at.KEEPS, index, : len(program.queues)] = [queue.name in kept for queue in program.queues]
    return classes


def _items(program: Program, unit: str) -> Iterator[list[int]]:
    """Group the tasks of the unit that are issued together: neighbours of one group, in list order."""

    def sharing(index: int) -> str:
        group = None if program.in_flight else program.tasks[index].group
        return f"task {index}" if group is None else f"group {group}"

    own = (index for index, task in enumerate(program.tasks) if task.unit == unit)
    return (list(members) for _, members in groupby(own, key=sharing))


def _readers(program: Program, source: Task) -> dict[str, int]:
    """Map each unit to the longest lag with which one of its tasks waits for `source`, in cycles."""
    lags: dict[str, int] = {}
    for task in program.tasks:
        for edge in task.after:
            if edge.task == source.name:
                lags[task.unit] = max(lags.get(task.unit, 0), edge.lag_cycles)
    return lags


def _carriers(program: Program) -> list[tuple[int, int]]:
    """List the (task, by column) whose value a later tile may wait for, however much later it comes."""
    number = {task.name: index for index, task in enumerate(program.tasks)}
    edges = [edge for task in program.tasks for edge in task.after]
    return sorted({(number[edge.task], int(edge.same_column)) for edge in edges if edge.same_column or edge.latest})


def _side(program: Program, side: str, queue: str) -> str:
    """Name the unit that takes from or gives back to `queue`; the first unit where none does."""
    return next((task.unit for task in program.tasks if queue in getattr(task, side)), program.units[0])


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


def _firsts(counts: Sequence[int]) -> list[int]:
    return [sum(counts[:index]) for index in range(len(counts) + 1)]


def _full(value: int, *shape: int) -> Ints:
    return np.full(shape, value, dtype=np.int64)
