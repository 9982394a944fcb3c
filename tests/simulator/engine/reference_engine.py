"""The rules of `accelerators.program`, interpreted plainly: one tile after the other, one cycle after the other.

Slow, and written without looking at the engine: it keeps every tile and every moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cascadesim.accelerators.program import After, Program, Repeat, Task, TileRun

Op = tuple[int, int]  # task, tile


@dataclass(frozen=True)
class Tile:
    cycles: tuple[int, ...]
    column: int
    fresh: bool
    keeps: tuple[str, ...]


@dataclass
class Reference:
    """`start` and `finish` of every task of every tile; None of them is missing after `run`, but in a deadlock."""

    program: Program
    tiles: list[Tile] = field(default_factory=list)
    start: dict[Op, int] = field(default_factory=dict)
    finish: dict[Op, int] = field(default_factory=dict)
    free: dict[str, int] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    given: dict[str, list[int]] = field(default_factory=dict)
    deadlock: bool = False

    def __post_init__(self) -> None:
        self.tiles = list(_expand(self.program, self.program.stream))
        self.number = {task.name: index for index, task in enumerate(self.program.tasks)}
        self.free = dict.fromkeys(self.program.units, 0)
        self.taken = {queue.name: 0 for queue in self.program.queues}
        self.given = {queue.name: [] for queue in self.program.queues}

    def run(self) -> Reference:
        if self.program.in_flight:
            self._run_greedily(self.program.in_flight)
        else:
            self._run_in_order()
        return self

    @property
    def cycles(self) -> int:
        last = max(self.finish.values(), default=0)
        return last + self.program.drain_cycles if last else 0

    # order -----------------------------------------------------------------------------------------------

    def _run_in_order(self) -> None:
        waiting = {unit: list(self._issues(unit)) for unit in self.program.units}
        moved = True
        while moved:
            moved = False
            for unit, issues in waiting.items():
                while issues and self._issue(unit, issues[0]):
                    issues.pop(0)
                    moved = True
        self.deadlock = any(waiting.values())

    def _issues(self, unit: str) -> Iterator[list[Op]]:
        """What the unit does, in order: lists of operations that share its slots."""
        own = [task for task in self.program.tasks if task.unit == unit]
        groups: list[list[Task]] = []
        for task in own:
            if groups and task.group is not None and groups[-1][-1].group == task.group:
                groups[-1].append(task)
            else:
                groups.append([task])
        last_stage = max(task.stage for task in self.program.tasks)
        for epoch in range(len(self.tiles) + last_stage):
            for group in groups:
                ops = [(self.number[task.name], epoch - task.stage) for task in group]
                present = [op for op in ops if self._cycles(op)]
                if present:
                    yield present

    def _issue(self, unit: str, ops: list[Op]) -> bool:
        start = self._start(ops, self.free[unit])
        if start is None:
            return False
        for op in ops:
            self._take(op)
        left = {op: self._cycles(op) for op in ops}
        cycle = start
        while any(left.values()):
            for op in ops:
                if left[op]:
                    self.start.setdefault(op, cycle)
                    cycle += 1
                    left[op] -= 1
                    if not left[op]:
                        self._finish(op, cycle)
        self.free[unit] = max(self.finish[op] for op in ops)
        return True

    def _run_greedily(self, window: int) -> None:
        oldest, further = 0, window + self.program.ahead
        gate, early = ([0] * len(self.tiles) for _ in range(2))  # when a tile is open for all tasks, for early ones
        while oldest < len(self.tiles):
            ops = [op for op in self._ops(oldest) if op not in self.finish]
            if not ops:
                ends = [self.finish[op] for op in self._ops(oldest)]
                for opens, distance in ((gate, window), (early, further)):
                    for later in range(oldest + distance, len(self.tiles)):
                        opens[later] = max([opens[later], *ends])
                oldest += 1
            elif not self._dispatch(oldest, oldest + window, gate, early):
                self.deadlock = True
                return

    def _dispatch(self, first: int, last: int, gate: list[int], early: list[int]) -> bool:
        choices = []
        for tile in range(first, min(last + self.program.ahead, len(self.tiles))):
            for op in self._ops(tile):
                if op not in self.finish and (tile < last or self._task(op).early):
                    opens = early if self._task(op).early else gate
                    start = self._start([op], max(self.free[self._task(op).unit], opens[tile]))
                    if start is not None:
                        choices.append((start, tile, op))
        if not choices:
            return False
        start, _, op = min(choices)
        self._take(op)
        self.start[op] = start
        self._finish(op, start + self._cycles(op))
        self.free[self._task(op).unit] = self.finish[op]
        return True

    def _ops(self, tile: int) -> list[Op]:
        return [(task, tile) for task, cycles in enumerate(self.tiles[tile].cycles) if cycles]

    # what an operation waits for -------------------------------------------------------------------------

    def _start(self, ops: Sequence[Op], earliest: int) -> int | None:
        """None while something it waits for has not happened."""
        wanted = dict.fromkeys(self.taken, 0)
        for op in ops:
            for edge in self._task(op).after:
                source = self._source(op[1], edge)
                if source is None:
                    continue
                if source not in self.finish:
                    return None
                moment = self.start[source] if edge.streaming else self.finish[source]
                earliest = max(earliest, moment + edge.lag_cycles)
            for queue in self._task(op).takes:
                gift = self.taken[queue] + wanted[queue] - self._capacity(queue)
                wanted[queue] += 1
                if gift >= len(self.given[queue]):
                    return None
                if gift >= 0:
                    earliest = max(earliest, self.given[queue][gift])
        return earliest

    def _source(self, tile: int, edge: After) -> Op | None:
        task = self.number[edge.task]
        if edge.latest:
            found = next((back for back in range(tile, -1, -1) if self.tiles[back].cycles[task]), None)
        elif edge.same_column:
            found = self._in_column(tile, task)
        else:
            found = tile - edge.tiles_back
            found = found if found >= 0 and self.tiles[found].cycles[task] else None
        return None if found is None else (task, found)

    def _in_column(self, tile: int, task: int) -> int | None:
        column = self.tiles[tile].column
        if self.tiles[tile].fresh:
            return None
        for earlier in range(tile - 1, -1, -1):
            if self.tiles[earlier].column == column:
                if self.tiles[earlier].cycles[task]:
                    return earlier
                if self.tiles[earlier].fresh:
                    return None
        return None

    def _take(self, op: Op) -> None:
        for queue in self._task(op).takes:
            self.taken[queue] += 1

    def _finish(self, op: Op, finish: int) -> None:
        for edge in self._task(op).after:
            source = self._source(op[1], edge)
            if edge.streaming and source is not None:
                finish = max(finish, self.finish[source] + edge.lag_cycles)
        self.finish[op] = finish
        for queue in self._task(op).gives_back:
            if queue not in self.tiles[op[1]].keeps:
                self.given[queue].append(finish)

    def _task(self, op: Op) -> Task:
        return self.program.tasks[op[0]]

    def _cycles(self, op: Op) -> int:
        return self.tiles[op[1]].cycles[op[0]] if 0 <= op[1] < len(self.tiles) else 0

    def _capacity(self, queue: str) -> int:
        return next(entry.capacity for entry in self.program.queues if entry.name == queue)


def _expand(program: Program, stream: Sequence[TileRun | Repeat]) -> Iterator[Tile]:
    for item in stream:
        if isinstance(item, Repeat):
            for _ in range(item.times):
                yield from _expand(program, item.body)
        else:
            keeps = program.keeps[item.tile_class] if program.keeps else ()
            for place in range(item.tiles):
                yield Tile(program.tile_classes[item.tile_class], item.first_column + place, item.fresh, keeps)
