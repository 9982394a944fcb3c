"""The least period of rows of tiles that repeat: how many cycles apart equal rows can follow each other for ever.

A schedule that repeats itself gives every task of a row a time of its own, one period later in each row. Such times
exist as long as no circuit of waits takes longer than the periods it spans (the maximum cycle ratio of a max-plus
system). For programs in the static order of their stages; knows no unit by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import groupby, pairwise
from typing import TypeAlias

from cascadesim.accelerators.program import After, Program, Repeat, Stream, Task, TileRun, turns

Cycles: TypeAlias = Mapping[str, int]  # of each task of a tile, 0 = absent

_MOST_PASSES = 32  # assumed: a schedule that so many passes do not find is taken for none, and the period for longer
_CLOSE = 0.0005  # assumed: of a period, as near as it is looked for


@dataclass(frozen=True, slots=True)
class Tile:
    """`column_epochs`: from the tile before in its column; None: it is the first. `keeps`: as in Program."""

    cycles: Cycles
    column_epochs: int | None = None
    keeps: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Wait:
    """From one moment of a row to another: at least `cycles` later, less a period for each of `rows` between them."""

    source: int
    target: int
    cycles: int
    rows: int


@dataclass(frozen=True, slots=True)
class Member:
    """A task of the tile that enters in `epoch` of a row, issued `rows` later.

    `item`: the moment at which all that take turns with it start; its own first turn comes `turn` cycles later.
    """

    task: Task
    epoch: int
    rows: int
    cycles: int
    item: int
    turn: int

    @property
    def end(self) -> int:
        return self.item + 1 + self.turn


Item: TypeAlias = list[Member]


@dataclass(frozen=True)
class Rows:
    """Equal rows without end.

    `tiles`: of a row, one for each epoch; None: no tile enters. `slots`: of each queue; one that is left out makes
    nothing wait. `rare`: tasks that few of the tiles have that are taken for alike: they wait their turn on their unit,
    but keep nothing else from it. `occasional`: tasks that some rows have and others have not; an epoch with them lasts
    `longer` than others.
    """

    tasks: tuple[Task, ...]
    tiles: tuple[Tile | None, ...]
    slots: Mapping[str, int]
    rare: frozenset[str] = frozenset()
    occasional: frozenset[str] = frozenset()
    longer: int = 0

    @cached_property
    def period_cycles(self) -> int:
        """Raises ValueError if a task waits for one that comes later in its order."""
        if self._repeats(self.busiest_cycles):
            return self.busiest_cycles
        short, period = self.busiest_cycles, self._longest
        while period - short > max(1, _CLOSE * short):
            middle = (short + period) // 2
            short, period = (short, middle) if self._repeats(middle) else (middle, period)
        return period

    def most_cycles(self, times: int) -> int:
        """Of so many rows and no more, from the first start to the last end, each a period after the one before."""
        period = self.period_cycles if times > 1 else self._longest
        moments = self._starts(period)
        while self._pass(moments, period):
            pass
        ends = (moments[member.end] + member.rows * period for member in self._members.values())
        return (times - 1) * period + max(ends, default=0)

    @property
    def _longest(self) -> int:
        """A period in which no row waits for the one before."""
        return sum(max(0, wait.cycles) for wait in self._waits)

    @property
    def busiest_cycles(self) -> int:
        """Of a row on the unit that has most."""
        often = (_without(items, self.rare | self.occasional) for items in self._units)
        return max(sum(member.cycles for item in items for member in item) for items in often)

    @cached_property
    def _units(self) -> list[list[Item]]:
        """Of each unit the items that are issued in a row, in order."""
        moments, units = 0, []
        for unit in dict.fromkeys(task.unit for task in self.tasks):
            items: list[Item] = []
            for tasks, epoch in self._issued(unit):
                items.append([self._member(task, epoch, moments, turn) for turn, task in enumerate(tasks)])
                moments += 1 + len(tasks)
            units.append(items)
        return units

    def _issued(self, unit: str) -> Iterator[tuple[list[Task], int]]:
        """(tasks that take turns, epoch) of the tasks that there are."""
        own = [task for task in self.tasks if task.unit == unit]
        for epoch in range(len(self.tiles)):
            for _, same in groupby(own, key=lambda task: task.group or task.name):
                present = [task for task in same if self._cycles(task, epoch - task.stage)]
                if present:
                    yield present, epoch

    def _member(self, task: Task, epoch: int, moment: int, turn: int) -> Member:
        rows, entered = divmod(epoch - task.stage, len(self.tiles))
        return Member(task, entered, -rows, self._cycles(task, entered), moment, turn)

    def _cycles(self, task: Task, epoch: int) -> int:
        """Of the tile that enters in the epoch, of this row or of another."""
        tile = self.tiles[epoch % len(self.tiles)]
        return 0 if tile is None else tile.cycles.get(task.name, 0)

    @cached_property
    def _members(self) -> dict[tuple[str, int], Member]:
        """By task and epoch."""
        return {(member.task.name, member.epoch): member
                for items in self._units for item in items for member in item}  # fmt: skip

    @cached_property
    def _waits(self) -> tuple[Wait, ...]:
        dependences = (wait for member in self._members.values() for wait in self._before(member))
        return (*self._work(), *self._order(), *dependences, *self._given_back())

    def _work(self) -> Iterator[Wait]:
        for items in self._units:
            for item in items:
                cycles = [member.cycles for member in item]
                for member in item:
                    yield Wait(member.item, member.end, turns(cycles, member.turn), 0)

    def _order(self) -> Iterator[Wait]:
        """Of the items of each unit, and from its last to its first of the next row; nothing follows what is rare."""
        for items in self._units:
            holding = _without(items, self.rare)
            yield from _in_order(_without(holding, self.occasional), 0)
            yield from _in_order(holding, self.longer)
            for item in items:
                if item[0].task.name in self.rare and holding:
                    earlier = [other for other in holding if other[0].item < item[0].item]
                    yield from _follows((earlier or holding)[-1], item, 0, int(not earlier))

    def _before(self, member: Member) -> Iterator[Wait]:
        for edge in member.task.after:
            for epoch in self._sources(member, edge):
                rows, entered = divmod(epoch, len(self.tiles))
                source = self._members.get((edge.task, entered))
                if source is not None:
                    yield from _depends(member, edge, source, -rows)
                    break

    def _sources(self, member: Member, edge: After) -> Iterable[int]:
        """Epochs of the tiles that a task may wait for: for the first in which the other task is present."""
        if edge.same_column:
            return self._column(member.epoch)
        if edge.latest:
            return range(member.epoch, member.epoch - len(self.tiles), -1)
        return (member.epoch - edge.tiles_back,)

    def _column(self, epoch: int) -> Iterator[int]:
        """Epochs of the tiles before in a column."""
        for _ in self.tiles:
            tile = self.tiles[epoch % len(self.tiles)]
            if tile is None or tile.column_epochs is None:
                return
            epoch -= tile.column_epochs
            yield epoch

    def _given_back(self) -> Iterator[Wait]:
        """A slot is taken once another, as many tiles before as there are slots, has been given back."""
        each = sorted(self._members.values(), key=lambda member: member.epoch)
        for queue, slots in self.slots.items():
            takers = [member for member in each if queue in member.task.takes]
            givers = [member for member in each if queue in member.task.gives_back and not self._keeps(member, queue)]
            for number, taker in enumerate(takers if givers else ()):
                rows, giver = divmod(number - slots, len(givers))
                yield from _depends(taker, After(givers[giver].task.name), givers[giver], -rows)

    def _keeps(self, member: Member, queue: str) -> bool:
        tile = self.tiles[member.epoch]
        return tile is not None and queue in tile.keeps

    @cached_property
    def _ordered(self) -> list[tuple[int, int, int, int]]:
        """Waits, each after those that it builds on in the same row."""
        within: dict[int, list[int]] = {}
        by_target: dict[int, list[Wait]] = {}
        for wait in self._waits:
            by_target.setdefault(wait.target, []).append(wait)
            if not wait.rows:
                within.setdefault(wait.target, []).append(wait.source)
        moments = {moment for wait in self._waits for moment in (wait.source, wait.target)}
        try:
            if any(wait.rows < 0 for wait in self._waits):
                raise CycleError
            order = list(TopologicalSorter({moment: within.get(moment, ()) for moment in moments}).static_order())
        except CycleError:
            raise ValueError("a task waits for one that comes later") from None
        return [(wait.source, wait.target, wait.cycles, wait.rows)
                for moment in order for wait in by_target.get(moment, ())]  # fmt: skip

    def _repeats(self, period: int) -> bool:
        """Whether no circuit of waits grows (Bellman and Ford)."""
        moments = [0] * len(self._starts(period))
        return any(not self._pass(moments, period) for _ in range(_MOST_PASSES))

    def _pass(self, moments: list[int], period: int) -> bool:
        """Whether some moment of a row has to be later, and is now, by what it waits for."""
        later = False
        for source, target, cycles, rows in self._ordered:
            least = moments[source] + cycles - period * rows
            if least > moments[target]:
                moments[target], later = least, True
        return later

    def _starts(self, period: int) -> list[int]:
        """Moments of a row at which its tiles would be at 0 if they waited for nothing."""
        members = self._members.values()
        deepest = max((member.rows for member in members), default=0)
        moments = [-deepest * period] * (1 + max((member.end for member in members), default=0))
        for member in members:
            for moment in (member.item, member.end):
                moments[moment] = max(moments[moment], -member.rows * period)
        return moments


def rows_of(program: Program, most_tiles: int) -> tuple[Rows, int] | None:
    """What a program repeats, and how often; None where it takes tiles greedily, or repeats nothing so short.

    A program that is short itself is one row, with nothing behind it.
    """
    row, times = (program, 1) if program.tiles <= most_tiles else _repeated(program)
    if program.in_flight is not None or row.tiles > most_tiles:
        return None
    behind = max(task.stage for task in program.tasks) if times == 1 else 0
    tiles = (*_tiles(program, tuple(_entering(row.stream))), *[None] * behind)
    return Rows(program.tasks, tiles, {queue.name: queue.capacity for queue in program.queues}), times


def _repeated(program: Program) -> tuple[Program, int]:
    """The innermost stretch that is all there is, and how often it comes."""
    stream, times = program.stream, 1
    while len(stream) == 1 and isinstance(stream[0], Repeat):
        times, stream = times * stream[0].times, stream[0].body
    columns = any(edge.same_column for task in program.tasks for edge in task.after)
    if len(stream) == 1 and isinstance(stream[0], TileRun) and not columns:
        times, stream = times * stream[0].tiles, (replace(stream[0], tiles=1),)
    return replace(program, stream=stream), times


def _entering(stream: Stream) -> Iterator[tuple[TileRun, int]]:
    """(the run of the tile that enters, its column), epoch by epoch."""
    for item in stream:
        if isinstance(item, Repeat):
            yield from list(_entering(item.body)) * item.times
        else:
            yield from ((item, item.first_column + number) for number in range(item.tiles))


def _tiles(program: Program, entering: Sequence[tuple[TileRun, int]]) -> Iterator[Tile | None]:
    names = [task.name for task in program.tasks]
    present = [any(program.tile_classes[run.tile_class]) for run, _ in entering]
    latest = {column: epoch - len(entering) for epoch, (_, column) in enumerate(entering) if present[epoch]}
    for epoch, (run, column) in enumerate(entering):
        if not present[epoch]:
            yield None
            continue
        keeps = program.keeps[run.tile_class] if program.keeps else ()
        cycles = dict(zip(names, program.tile_classes[run.tile_class], strict=True))
        yield Tile(cycles, None if run.fresh else epoch - latest[column], frozenset(keeps))
        latest[column] = epoch


def _without(items: list[Item], names: frozenset[str]) -> list[Item]:
    left = ([member for member in item if member.task.name not in names] for item in items)
    return [item for item in left if item]


def _in_order(items: list[Item], longer: int) -> Iterator[Wait]:
    """Items of a unit one after another, and the first of the next row, which comes so much later than a period."""
    for before, after in pairwise(items):
        yield from _follows(before, after, 0, 0)
    if items:
        yield from _follows(items[-1], items[0], -longer, 1)


def _follows(before: Item, after: Item, cycles: int, rows: int) -> Iterator[Wait]:
    """An item after another of the same unit."""
    return (Wait(member.end, after[0].item, cycles, rows) for member in before)


def _depends(member: Member, edge: After, source: Member, rows: int) -> Iterator[Wait]:
    """On a task of a tile so many rows before."""
    apart = rows + member.rows - source.rows
    if not edge.streaming:
        yield Wait(source.end, member.item, edge.lag_cycles, apart)
        return
    yield Wait(source.item, member.item, source.turn + edge.lag_cycles, apart)
    yield Wait(source.end, member.end, edge.lag_cycles, apart)
