"""The memory of the compiled engine: a program as numbers, and what happens to it, in a few arrays of integers.

Field numbers first, then `encode`, which fills the arrays, and `snapshot`, which writes them down relative to the
clocks of the units: equal snapshots go on alike. Few arrays: each of them costs Numba time in every function that it is
passed to. A field `X_OF` holds first positions: those of i are X_OF[i] .. X_OF[i + 1].
"""

# an element of an array is Any:
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.compiled import compiled
from cascadesim.accelerators.program import Program, Task

Ints: TypeAlias = NDArray[np.int64]

ABSENT = -(2**62)  # a moment that constrains nothing: the task is not in that tile
PENDING = ABSENT + 1  # a moment not yet known: the task is in that tile and has not run
TO_COME = 2**61  # in a snapshot, added to how many tiles ago the awaited tile entered
int64 = cast(Callable[[int], int], np.int64)  # unlike a literal, no reason to compile what it is passed to again


class EngineState(NamedTuple):
    """`rows` [field, number], and what has more dimensions. Tiles live in a ring of a power of two."""

    rows: Ints
    ring: Ints  # [field, tile, task or carrier]
    tiles: Ints  # [field, tile]
    columns: Ints  # [field, carrier, column]: the running values
    gifts: Ints  # [queue, ring]: when slots were given back
    classes: Ints  # [CYCLES or KEEPS, class, task or queue]; the last class is empty: what follows the stream
    code: Ints  # [instruction, 4]
    loops: Ints  # [depth, field]; the last one is the run of tiles that is gone through
    saved: Ints  # [depth, ...]: snapshots; the last one is the present
    log: Ints  # [start or finish, tile, task]


# rows, by unit
ITEMS_OF, CLOCK, FIRST_START, EPOCH, ITEM, BLOCKED, SHIFT = range(7)
# by item (what is issued together), by member
MEMBERS_OF, MEMBER = range(7, 9)
# by task
UNIT, STAGE, EDGES_OF, READERS_OF, CARRIERS_OF, TAKES_OF, GIVES_OF = range(9, 16)
# by edge (a dependence); USED and NEEDED also by queue, after the edges: the tile at which it last counted
SOURCE, LAG, BACK, STREAMS, CARRIER, USED, NEEDED = range(16, 23)
# by reader (a unit that waits for a task), by carrier (a task that hands a value on), by place in a list of queues
READER_UNIT, READER_LAG, CARRIER_TASK, BY_COLUMN, TAKE, GIVE = range(23, 29)
# by queue
CAPACITY, TAKER_UNIT, GIVER_UNIT, TAKEN, GIVEN = range(29, 34)
SIZE, PROGRESS, STEADY, EARLY = range(34, 38)  # EARLY by task
ROWS = 38

# SIZE
TASKS, UNITS, EDGES, CARRIERS, QUEUES, CLASSES, IN_FLIGHT, LAST_STAGE, LONGEST_BACK, EXTRAPOLATE, COLUMNWISE = range(11)
AHEAD, SIZES = 11, 12
# PROGRESS: the next tile, tiles entered (skipped ones too), skips, the oldest tile under way, when the window opens
TILE, ENTERED, SKIPS, OLDEST, GATE, FAULT = range(6)
# STEADY
FIRST_TILE, PERIOD_TILES, PERIOD_CYCLES, REPEATED_TILES = range(4)

# ring; FINISH and START also in columns, where FROM is the tile that will bring the value
FINISH, START, CARRIED, CARRIED_START, CARRIED_TILE = range(5)
FROM = 2
# tiles: OPENS is when the window reached it, NEARS when it did for early tasks
CLASS, COLUMN, LEFT, END, OPENS, NEARS = range(6)
CYCLES, KEEPS = range(2)
# loops; one field more per unit, from CLOCKS on
ITERATION, SAVED_TILE, SAVED_ENTERED, POWER, SINCE, LENGTH, SAVED_SKIPS, SETTLED, CLOCKS = range(9)
# code: RUN class, 2 * first column + fresh, tiles / BEGIN / END times, first instruction of the body
RUN, BEGIN, REPEAT = range(3)
SHORTEST_LOOP = 4  # loops of fewer iterations are stepped through: nothing to gain
LONGEST_UNWATCHED = 32  # runs of fewer tiles, likewise

Instruction = tuple[int, int, int, int]


def encode(program: Program, code: Sequence[Instruction], ring: int, log_tiles: int = 0) -> EngineState:
    """Make the state for a ring of `ring` tiles (a power of two). With `log_tiles`, the engine skips no periods."""
    tasks, queues = program.tasks, program.queues
    carriers = _carriers(program)
    columnwise = any(by_column for _, by_column in carriers)
    columns = max([1, *(place // 2 + tiles for kind, _, place, tiles in code if kind == RUN)]) if columnwise else 1
    gifts = max((queue.capacity for queue in queues), default=0) + ring * max(sum(len(t.gives_back) for t in tasks), 1)
    snapshot = 16 + 2 * len(program.units) + ring * (2 * len(tasks) + 3 * len(carriers) + 5)
    snapshot += len(queues) * (gifts + 1) + 2 * len(carriers) * columns
    levels = [(kind == BEGIN) - (kind == REPEAT) for kind, *_ in code]
    depth = max([1, *accumulate(levels)])
    state = EngineState(
        rows=_rows(program, carriers), ring=_full(ABSENT, 5, ring, max(len(tasks), len(carriers))),
        tiles=_full(0, 6, ring), columns=_full(ABSENT, 3, len(carriers), columns),
        gifts=_full(ABSENT, len(queues), gifts), classes=_classes(program),
        code=np.array(code, np.int64).reshape(len(code), 4), loops=_full(0, depth + 1, CLOCKS + len(program.units)),
        saved=np.empty((depth + 2, snapshot), np.int64), log=_full(ABSENT, 2, log_tiles, len(tasks)),
    )  # fmt: skip
    state.tiles[CLASS] = len(program.tile_classes)
    state.ring[CARRIED_TILE] = state.columns[FROM] = -1
    state.rows[SIZE, EXTRAPOLATE], state.rows[SIZE, COLUMNWISE] = log_tiles == 0, columnwise
    return state


def _rows(program: Program, carriers: list[tuple[int, int]]) -> Ints:
    edges = [edge for task in program.tasks for edge in task.after]
    sizes = {
        TASKS: len(program.tasks), UNITS: len(program.units), EDGES: len(edges), CARRIERS: len(carriers),
        QUEUES: len(program.queues), CLASSES: len(program.tile_classes), IN_FLIGHT: program.in_flight or 0,
        LAST_STAGE: 0 if program.in_flight else max(task.stage for task in program.tasks),
        LONGEST_BACK: max((edge.tiles_back for edge in edges), default=0), AHEAD: program.ahead,
    }  # fmt: skip
    fields = {
        **_unit_and_task_rows(program, carriers), **_edge_and_queue_rows(program, carriers),
        SIZE: [sizes.get(field, 0) for field in range(SIZES)], PROGRESS: [0] * SIZES,
    }  # fmt: skip
    rows = _full(0, ROWS, max(len(values) for values in fields.values()))
    for field, values in fields.items():
        rows[field, : len(values)] = values
    rows[[FIRST_START, BLOCKED, USED, NEEDED]] = -1
    return rows


def _unit_and_task_rows(program: Program, carriers: list[tuple[int, int]]) -> dict[int, list[int]]:
    items = [item for unit in program.units for item in _items(program, unit)]
    first_items = _firsts([sum(program.tasks[item[0]].unit == unit for item in items) for unit in program.units])
    tasks, unit = program.tasks, {name: index for index, name in enumerate(program.units)}
    readers = [_readers(program, task) for task in tasks]
    return {
        ITEMS_OF: first_items, ITEM: first_items[:-1], MEMBERS_OF: _firsts([len(item) for item in items]),
        MEMBER: [member for item in items for member in item],
        UNIT: [unit[task.unit] for task in tasks], STAGE: [0 if program.in_flight else task.stage for task in tasks],
        EDGES_OF: _firsts([len(task.after) for task in tasks]), READERS_OF: _firsts([len(entry) for entry in readers]),
        READER_UNIT: [unit[name] for entry in readers for name in entry],
        READER_LAG: [lag for entry in readers for lag in entry.values()],
        CARRIERS_OF: _firsts([sum(task == index for task, _ in carriers) for index in range(len(tasks))]),
        CARRIER_TASK: [task for task, _ in carriers], BY_COLUMN: [by_column for _, by_column in carriers],
        TAKES_OF: _firsts([len(task.takes) for task in tasks]),
        GIVES_OF: _firsts([len(task.gives_back) for task in tasks]), EARLY: [int(task.early) for task in tasks],
    }  # fmt: skip


def _edge_and_queue_rows(program: Program, carriers: list[tuple[int, int]]) -> dict[int, list[int]]:
    number = {task.name: index for index, task in enumerate(program.tasks)}
    edges = [edge for task in program.tasks for edge in task.after]
    carrier = [  # -1: the edge looks at a tile at a fixed distance
        carriers.index((number[edge.task], int(edge.same_column))) if edge.same_column or edge.latest else -1
        for edge in edges
    ]
    queue = {entry.name: index for index, entry in enumerate(program.queues)}
    unit = {name: index for index, name in enumerate(program.units)}
    return {
        SOURCE: [number[edge.task] for edge in edges], LAG: [edge.lag_cycles for edge in edges],
        BACK: [edge.tiles_back for edge in edges], STREAMS: [int(edge.streaming) for edge in edges], CARRIER: carrier,
        USED: [-1] * (len(edges) + len(program.queues)),
        TAKE: [queue[name] for task in program.tasks for name in task.takes],
        GIVE: [queue[name] for task in program.tasks for name in task.gives_back],
        CAPACITY: [entry.capacity for entry in program.queues],
        TAKER_UNIT: [unit[_side(program, "takes", name)] for name in queue],
        GIVER_UNIT: [unit[_side(program, "gives_back", name)] for name in queue],
    }  # fmt: skip


def _classes(program: Program) -> Ints:
    count = len(program.tile_classes)
    classes = _full(0, 2, count + 1, max(len(program.tasks), len(program.queues)))
    for index, cycles in enumerate(program.tile_classes):
        classes[CYCLES, index, : len(cycles)] = cycles
    for index, kept in enumerate(program.keeps):
        classes[KEEPS, index, : len(program.queues)] = [queue.name in kept for queue in program.queues]
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


def _firsts(counts: Sequence[int]) -> list[int]:
    return [sum(counts[:index]) for index in range(len(counts) + 1)]


def _full(value: int, *shape: int) -> Ints:
    return np.full(shape, value, dtype=np.int64)


@compiled
def to_come(m: EngineState, carrier: int, column: int) -> bool:
    tile, ring = m.columns[FROM, carrier, column], m.ring.shape[1]
    if tile < 0 or m.rows[PROGRESS, TILE] - tile >= ring:
        return False
    return m.ring[FINISH, tile & (ring - 1), m.rows[CARRIER_TASK, carrier]] == PENDING


@compiled
def latest(m: EngineState) -> int:
    clock = m.rows[CLOCK, 0]
    for unit in range(1, m.rows[SIZE, UNITS]):
        clock = max(clock, m.rows[CLOCK, unit])
    return clock


@compiled
def floor(m: EngineState) -> int:
    """No task still to run starts before this cycle."""
    if not m.rows[SIZE, IN_FLIGHT]:
        return 0
    return m.tiles[NEARS, m.rows[PROGRESS, OLDEST] & (m.ring.shape[1] - 1)]


@compiled
def origin(m: EngineState, unit: int) -> int:
    """Choose where the time of a unit is counted from; greedy order compares the times of all units."""
    return latest(m) if m.rows[SIZE, IN_FLIGHT] else m.rows[CLOCK, unit]


@compiled
def relative(m: EngineState, task: int, moment: int) -> int:
    """See a start or finish of `task` as its readers do: ABSENT once none of them can be held up by it."""
    if moment <= PENDING:
        return moment
    lowest = floor(m)
    for place in range(m.rows[READERS_OF, task], m.rows[READERS_OF, task + 1]):
        reader = max(m.rows[CLOCK, m.rows[READER_UNIT, place]], lowest)
        if moment + m.rows[READER_LAG, place] > reader:
            return moment - origin(m, m.rows[UNIT, task])
    return ABSENT


@compiled
def relative_gift(m: EngineState, queue: int, moment: int) -> int:
    over = moment <= max(m.rows[CLOCK, m.rows[TAKER_UNIT, queue]], floor(m))
    return ABSENT if over else moment - origin(m, m.rows[GIVER_UNIT, queue])


@compiled
def snapshot(m: EngineState, column: int) -> int:
    """Write the state, relative to the clocks, into the last row of `saved`; return its length.

    Within a run of tiles, of which `column` is the next, columns are counted from it and the values that they hold are
    left out; -1 elsewhere.
    """
    out, size, tile = m.saved[-1], int64(0), m.rows[PROGRESS, TILE]
    for unit in range(m.rows[SIZE, UNITS]):
        out[size] = tile - m.rows[EPOCH, unit]
        out[size + 1] = m.rows[ITEM, unit]
        if m.rows[SIZE, IN_FLIGHT]:
            idle = m.rows[CLOCK, unit] <= floor(m)
            out[size] = ABSENT if idle else m.rows[CLOCK, unit] - origin(m, unit)
        size += 2
    depth = tile - m.rows[PROGRESS, OLDEST]
    for past in range(1, depth + m.rows[SIZE, LONGEST_BACK] + 1):
        size = snapshot_tile(m, tile - past, past <= depth, max(column, 0), size)
    for queue in range(m.rows[SIZE, QUEUES]):
        size = snapshot_queue(m, queue, size)
    for carrier in range(m.rows[SIZE, CARRIERS]):
        columns = m.columns.shape[2] if m.rows[BY_COLUMN, carrier] else 1
        for own in range(0 if column >= 0 and m.rows[BY_COLUMN, carrier] else columns):
            size = snapshot_column(m, carrier, own, size)
    return size


@compiled
def snapshot_tile(m: EngineState, tile: int, in_flight: bool, column: int, size: int) -> int:
    out, slot = m.saved[-1], tile & (m.ring.shape[1] - 1)
    for task in range(m.rows[SIZE, TASKS]):
        out[size] = relative(m, task, m.ring[FINISH, slot, task])
        out[size + 1] = relative(m, task, m.ring[START, slot, task])
        size += 2
    if in_flight:
        out[size] = m.tiles[CLASS, slot]
        out[size + 1] = m.tiles[COLUMN, slot] - column if m.rows[SIZE, COLUMNWISE] else 0
        size += 2
        if m.rows[SIZE, IN_FLIGHT]:
            out[size] = m.tiles[OPENS, slot] - origin(m, int64(0))
            out[size + 1] = m.tiles[END, slot] - origin(m, int64(0)) if m.tiles[END, slot] else ABSENT
            out[size + 2] = m.tiles[NEARS, slot] - origin(m, int64(0))
            size += 3
        for carrier in range(m.rows[SIZE, CARRIERS]):
            size = snapshot_carried(m, slot, carrier, size)
    return size


@compiled
def snapshot_carried(m: EngineState, slot: int, carrier: int, size: int) -> int:
    task, last = m.rows[CARRIER_TASK, carrier], m.ring[CARRIED_TILE, slot, carrier]
    for which in (FINISH, START):
        moment = m.ring[CARRIED + which, slot, carrier]
        if last >= 0:
            moment = m.ring[which, last & (m.ring.shape[1] - 1), task]
        waits = last >= 0 and moment == PENDING
        m.saved[-1, size] = TO_COME + m.rows[PROGRESS, TILE] - last if waits else relative(m, task, moment)
        size += 1
    return size


@compiled
def snapshot_queue(m: EngineState, queue: int, size: int) -> int:
    """Write how many slots are free, and since when."""
    first = m.rows[TAKEN, queue] - m.rows[CAPACITY, queue]
    m.saved[-1, size] = m.rows[GIVEN, queue] - first
    size += 1
    for index in range(first, m.rows[GIVEN, queue]):
        moment = m.gifts[queue, index % m.gifts.shape[1]] if index >= 0 else ABSENT
        m.saved[-1, size] = relative_gift(m, queue, moment)
        size += 1
    return size


@compiled
def snapshot_column(m: EngineState, carrier: int, column: int, size: int) -> int:
    for which in (FINISH, START):
        if to_come(m, carrier, column):
            m.saved[-1, size] = TO_COME + m.rows[PROGRESS, TILE] - m.columns[FROM, carrier, column]
        else:
            moment = m.columns[which, carrier, column]
            m.saved[-1, size] = relative(m, m.rows[CARRIER_TASK, carrier], moment)
        size += 1
    return size
