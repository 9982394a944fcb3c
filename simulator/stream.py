"""A program as arrays: what the compiled engine reads, and the blank memory it works in.

Knows names, numbering and shapes; nothing of time. Every array is of 64-bit integers, so the engine is compiled once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.program import After, Program, Repeat, Stream, Task, TileRun

Ints: TypeAlias = NDArray[np.int64]

ABSENT = -(2**62)  # a moment that constrains nothing: the task is not in that tile
PENDING = ABSENT + 1  # a moment not yet known: the task is in that tile and has not run
RUN, BEGIN, END = 0, 1, 2  # instructions of the stream
SHORTEST_LOOP = 4  # loops of fewer iterations are stepped through: nothing to gain
LOOP_FIELDS = 8
PROGRESS_FIELDS = 8
STEADY_FIELDS = 4


class Tables(NamedTuple):
    """What never changes. `x_of` arrays of length n + 1 hold first positions: those of i are x_of[i] .. x_of[i+1]."""

    items_of: Ints  # unit -> issue items, in the order of the unit
    members_of: Ints  # item -> tasks that share it
    members: Ints
    unit: Ints  # of a task
    stage: Ints
    cycles: Ints  # (class, task); the last class is empty: what follows the stream
    edges_of: Ints  # task -> dependences
    source: Ints
    lag: Ints
    back: Ints
    streams: Ints
    carrier: Ints  # -1: of a tile at a fixed distance
    readers_of: Ints  # task -> units that wait for it, with the longest lag
    reader_unit: Ints
    reader_lag: Ints
    carrier_task: Ints
    by_column: Ints  # carrier -> 1: the latest of a column, 0: the latest of all
    carriers_of: Ints  # task -> carriers
    takes_of: Ints  # task -> queues
    takes: Ints
    gives_of: Ints
    gives: Ints
    keeps: Ints  # (class, queue)
    capacity: Ints
    taker_unit: Ints
    giver_unit: Ints
    code: Ints  # (instruction, 4)
    in_flight: int  # 0: static order
    last_stage: int
    longest_back: int
    extrapolate: int


class State(NamedTuple):
    """What changes. Tiles are numbered as they are stepped through and kept in a ring of a power of two."""

    clock: Ints  # unit -> free from this cycle on
    first_start: Ints
    epoch: Ints
    item: Ints
    blocked: Ints  # unit -> edge it waits on; edges + queue for a slot
    shift: Ints
    time: Ints  # (finish | start, ring, task)
    tile_class: Ints
    tile_column: Ints
    pending: Ints  # greedy: tasks of the tile still to run
    end: Ints  # greedy: last finish of the tile
    gate: Ints  # greedy: the tile may start from this cycle on
    carried: Ints  # (finish | start, ring, carrier)
    carried_tile: Ints  # (ring, carrier): the tile to look at, -1: `carried` holds the moment
    column: Ints  # (finish | start, carrier, column)
    column_tile: Ints
    taken: Ints
    given: Ints
    give_time: Ints  # (queue, ring)
    used: Ints  # edge, then queue -> tile at which it last had a moment to wait for
    needed: Ints  # ... and at which it last moved a start or a finish
    progress: Ints
    steady: Ints
    loop: Ints  # (depth, LOOP_FIELDS)
    loop_clock: Ints
    saved: Ints
    scratch: Ints
    log: Ints  # (start | finish, tile, task)


def encode(program: Program, extrapolate: bool = True) -> Tables:
    tasks, units = program.tasks, program.units
    number = {task.name: index for index, task in enumerate(tasks)}
    queue = {entry.name: index for index, entry in enumerate(program.queues)}
    edges = [edge for task in tasks for edge in task.after]
    carriers = sorted({(number[edge.task], int(edge.same_column)) for edge in edges if edge.same_column or edge.latest})
    items = list(_items(program))
    readers = [_readers(program, task) for task in tasks]
    carrier = [_carrier(edge, number, carriers) for edge in edges]
    unit = {name: index for index, name in enumerate(units)}
    return Tables(
        items_of=_firsts([sum(tasks[item[0]].unit == name for item in items) for name in units]),
        members_of=_firsts([len(item) for item in items]),
        members=_ints([member for item in items for member in item]),
        unit=_ints([unit[task.unit] for task in tasks]),
        stage=_ints([0 if program.in_flight else task.stage for task in tasks]),
        cycles=_table([*program.tile_classes, (0,) * len(tasks)], len(tasks)),
        edges_of=_firsts([len(task.after) for task in tasks]),
        source=_ints([number[edge.task] for edge in edges]),
        lag=_ints([edge.lag_cycles for edge in edges]),
        back=_ints([edge.tiles_back for edge in edges]),
        streams=_ints([edge.streaming for edge in edges]),
        carrier=_ints(carrier),
        readers_of=_firsts([len(entry) for entry in readers]),
        reader_unit=_ints([unit[name] for entry in readers for name in entry]),
        reader_lag=_ints([lag for entry in readers for lag in entry.values()]),
        carrier_task=_ints([task for task, _ in carriers]),
        by_column=_ints([by_column for _, by_column in carriers]),
        carriers_of=_firsts([sum(entry[0] == index for entry in carriers) for index in range(len(tasks))]),
        takes_of=_firsts([len(task.takes) for task in tasks]),
        takes=_ints([queue[name] for task in tasks for name in task.takes]),
        gives_of=_firsts([len(task.gives_back) for task in tasks]),
        gives=_ints([queue[name] for task in tasks for name in task.gives_back]),
        keeps=_table([*_keeps(program), (0,) * len(queue)], len(queue)),
        capacity=_ints([entry.capacity for entry in program.queues]),
        taker_unit=_ints([unit[_side(program, "takes", name)] for name in queue]),
        giver_unit=_ints([unit[_side(program, "gives_back", name)] for name in queue]),
        code=_table(list(_code(program.stream, 0, not any(by_column for _, by_column in carriers))), 4),
        in_flight=program.in_flight or 0,
        last_stage=0 if program.in_flight else max((task.stage for task in tasks), default=0),
        longest_back=max((edge.tiles_back for edge in edges), default=0),
        extrapolate=int(extrapolate),
    )


def blank_state(tables: Tables, ring: int, log_tiles: int = 0) -> State:
    """Memory for a ring of `ring` tiles (a power of two)."""
    tasks, carriers, queues = len(tables.unit), len(tables.carrier_task), len(tables.capacity)
    units, columns = len(tables.items_of) - 1, _columns(tables)
    depth = _depth(tables)
    slots = int(tables.capacity.max(initial=0)) + ring * max(len(tables.gives), 1)
    length = 2 * units + ring * (2 * tasks + 3 * carriers + 4) + queues * (slots + 1) + 3 * carriers * columns + 16
    return State(
        clock=_full(0, units),
        first_start=_full(-1, units),
        epoch=_full(0, units),
        item=tables.items_of[:-1].copy(),
        blocked=_full(-1, units),
        shift=_full(0, units),
        time=_full(ABSENT, 2, ring, tasks),
        tile_class=_full(len(tables.cycles) - 1, ring),
        tile_column=_full(0, ring),
        pending=_full(0, ring),
        end=_full(0, ring),
        gate=_full(0, ring),
        carried=_full(ABSENT, 2, ring, carriers),
        carried_tile=_full(-1, ring, carriers),
        column=_full(ABSENT, 2, carriers, columns),
        column_tile=_full(-1, carriers, columns),
        taken=_full(0, queues),
        given=_full(0, queues),
        give_time=_full(ABSENT, queues, slots),
        used=_full(-1, len(tables.source) + queues),
        needed=_full(-1, len(tables.source) + queues),
        progress=_full(0, PROGRESS_FIELDS),
        steady=_full(0, STEADY_FIELDS),
        loop=_full(0, depth, LOOP_FIELDS),
        loop_clock=_full(0, depth, units),
        saved=np.empty((depth, length), np.int64),
        scratch=np.empty(length, np.int64),
        log=_full(ABSENT, 2, log_tiles, tasks),
    )


def _columns(tables: Tables) -> int:
    if not tables.by_column.any():
        return 1
    runs = tables.code[tables.code[:, 0] == RUN]
    return int((runs[:, 2] // 2 + runs[:, 3]).max(initial=1))  # tiles of a run take successive columns


def _depth(tables: Tables) -> int:
    steps = np.where(tables.code[:, 0] == BEGIN, 1, np.where(tables.code[:, 0] == END, -1, 0))
    return max(int(np.cumsum(steps).max(initial=0)), 1)


def _items(program: Program) -> Iterator[list[int]]:
    """Tasks that are issued together, unit by unit in list order."""
    for unit in program.units:
        own = [index for index, task in enumerate(program.tasks) if task.unit == unit]
        for _, members in groupby(own, key=lambda index: _sharing(program, index)):
            yield list(members)


def _sharing(program: Program, index: int) -> str:
    group = None if program.in_flight else program.tasks[index].group
    return f"task {index}" if group is None else f"group {group}"


def _readers(program: Program, source: Task) -> dict[str, int]:
    lags: dict[str, int] = {}
    for task in program.tasks:
        for edge in task.after:
            if edge.task == source.name:
                lags[task.unit] = max(lags.get(task.unit, 0), edge.lag_cycles)
    return lags


def _carrier(edge: After, number: dict[str, int], carriers: list[tuple[int, int]]) -> int:
    if not (edge.same_column or edge.latest):
        return -1
    return carriers.index((number[edge.task], int(edge.same_column)))


def _keeps(program: Program) -> list[tuple[int, ...]]:
    keeps = program.keeps or ((),) * len(program.tile_classes)
    return [tuple(int(queue.name in kept) for queue in program.queues) for kept in keeps]


def _side(program: Program, side: str, queue: str) -> str:
    """The unit that takes from or gives back to `queue`; the first unit where none does."""
    return next((task.unit for task in program.tasks if queue in getattr(task, side)), program.units[0])


def _code(stream: Stream, position: int, tile_by_tile: bool) -> Iterator[tuple[int, int, int, int]]:
    """RUN class, 2 * first column + fresh, tiles / BEGIN / END times, first instruction of the body.

    `tile_by_tile`: no column matters, so a run is a loop over one tile.
    """
    for item in stream:
        if isinstance(item, Repeat):
            body = list(_code(item.body, position + 1, tile_by_tile)) if item.times else []
            repeated = _loop(body, item.times, position) if body else []
        else:
            repeated = list(_run(item, position, tile_by_tile))
        yield from repeated
        position += len(repeated)


def _run(run: TileRun, position: int, tile_by_tile: bool) -> list[tuple[int, int, int, int]]:
    place = 2 * run.first_column + run.fresh
    if tile_by_tile and run.tiles >= SHORTEST_LOOP:
        return _loop([(RUN, run.tile_class, place, 1)], run.tiles, position)
    return [(RUN, run.tile_class, place, run.tiles)] if run.tiles else []


def _loop(body: list[tuple[int, int, int, int]], times: int, position: int) -> list[tuple[int, int, int, int]]:
    return [(BEGIN, 0, 0, 0), *body, (END, times, position + 1, 0)]


def _firsts(counts: Sequence[int]) -> Ints:
    return _ints([0, *np.cumsum(counts, dtype=np.int64).tolist()])


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _table(rows: Sequence[Sequence[int]], columns: int) -> Ints:
    return np.array(rows, dtype=np.int64).reshape(len(rows), columns)


def _full(value: int, *shape: int) -> Ints:
    return np.full(shape, value, dtype=np.int64)
