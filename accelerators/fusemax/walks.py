"""The longest walks through the dependences of a software pipeline: what no schedule of its order can beat.

A walk goes from the start of a task of one tile to its start in a later one, along the order of each unit, along what
the tasks wait for (`accelerators.program`), and along slots that are taken and given back; its length is the sum of
the cycles and lags on it. Walks are kept by how many transfers of each kind lie on them, so that the cycles of these
come in later: the tasks are the engine's, the bandwidth is anyone's. Knows no extents and no buffer.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.program import After, Task, turns

Lengths = NDArray[np.float64]  # [where the walk begins, transfers on it, of each kind], -inf where there is none


@dataclass(frozen=True, slots=True)
class Place:
    """A tile of the stream: its column, which tasks it leaves out, whether no running value reaches it."""

    column: int
    without: frozenset[str] = frozenset()
    keeps: frozenset[str] = frozenset()  # queues that it does not give back to
    fresh: bool = False


Epochs = Sequence[Place | None]  # None: empty


@dataclass(frozen=True, slots=True)
class Graph:
    """`cycles`: of each task of a tile. `taken`: slots taken before the first tile.

    `counted`: of tasks that are counted instead, which count. `entrances`: tasks at whose start walks begin and end.
    """

    tasks: tuple[Task, ...]
    cycles: Mapping[str, int]
    capacities: Mapping[str, int]
    counted: Mapping[str, int]
    entrances: tuple[str, ...]
    taken: Mapping[str, int]

    def items(self) -> dict[str, list[list[Task]]]:
        """Tasks that are issued together, by unit."""
        units: dict[str, list[Task]] = defaultdict(list)
        for task in self.tasks:
            units[task.unit].append(task)
        return {unit: [list(same) for _, same in groupby(own, key=_sharing)] for unit, own in units.items()}


def _sharing(task: Task) -> str:
    return f"group {task.group}" if task.group else f"task {task.name}"


Entrance = tuple[str, int]  # a task, and the epoch in which its tile entered


def walks(
    graph: Graph, epochs: Epochs, begins: Sequence[Entrance], most: Sequence[int]
) -> tuple[dict[Entrance, Lengths], Lengths]:
    """Longest walks from each of `begins` to every entrance, and to the very end, with at most so many transfers.

    Raises ValueError if a task waits for one that comes later in the order of its unit.
    """
    run = _Run(graph, epochs, tuple(begins), tuple(most))
    deepest = max(task.stage for task in graph.tasks)
    for epoch in range(len(epochs) + deepest):
        run.advance(epoch)
    return run.entered, run.last


@dataclass
class _Run:
    """The walks found so far, in the order in which the engine issues tasks."""

    graph: Graph
    epochs: Epochs
    begins: tuple[Entrance, ...]
    most: tuple[int, ...]
    finish: dict[Entrance, Lengths] = field(default_factory=dict)
    start: dict[Entrance, Lengths] = field(default_factory=dict)
    entered: dict[Entrance, Lengths] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.none = np.full((len(self.begins), *(count + 1 for count in self.most)), -np.inf)
        self.items = self.graph.items()
        self.clock = dict.fromkeys(self.items, self.none)
        self.gifts: dict[str, list[Lengths]] = defaultdict(list)
        self.taken = dict(self.graph.taken)
        self.column_before = dict(_columns_before(self.epochs))
        names = frozenset(task.name for task in self.graph.tasks)
        self.present = [names - place.without if place else frozenset() for place in self.epochs]

    @property
    def last(self) -> Lengths:
        """To the end of all units."""
        found: Lengths = np.maximum.reduce(list(self.clock.values()))
        return found

    def advance(self, epoch: int) -> None:
        """Every unit's items of the epoch, each as soon as what it waits for is known."""
        waiting = {unit: deque(self._present(items, epoch)) for unit, items in self.items.items()}
        while any(waiting.values()):
            moved = False
            for unit, items in waiting.items():
                while items and self._issue(unit, items[0]):
                    items.popleft()
                    moved = True
            if not moved:
                raise ValueError("a task waits for one that comes later")

    def _present(self, items: list[list[Task]], epoch: int) -> Iterator[list[tuple[Task, int]]]:
        """Of each item the tasks that there are, with their tiles."""
        present, last = self.present, len(self.epochs)
        for item in items:
            members = [(task, epoch - task.stage) for task in item
                       if 0 <= epoch - task.stage < last and task.name in present[epoch - task.stage]]  # fmt: skip
            if members:
                yield members

    def _issue(self, unit: str, members: list[tuple[Task, int]]) -> bool:
        """Once every member may start; False where something is not known yet."""
        start = self.clock[unit]
        for task, tile in members:
            for edge in task.after:
                source = self._source(edge, tile)
                if source is None:
                    continue
                known = (self.start if edge.streaming else self.finish).get(source)
                if known is None:
                    return False
                start = np.maximum(start, known + edge.lag_cycles if edge.lag_cycles else known)
            for queue in task.takes:
                index, gifts = self.taken[queue] - self.graph.capacities[queue], self.gifts[queue]
                if index >= len(gifts):
                    return False
                start = np.maximum(start, gifts[index]) if index >= 0 else start
        for task, tile in members:
            if task.name in self.graph.entrances:
                start = self._entrance((task.name, tile), start)
        self.clock[unit] = self._occupy(members, start)
        return True

    def _source(self, edge: After, tile: int) -> Entrance | None:
        """The task of the tile that the edge comes from, if there is one."""
        if edge.same_column:
            place = self.epochs[tile]
            before = None if place is None or place.fresh else self.column_before.get(tile)
            return (edge.task, before) if before is not None and edge.task in self.present[before] else None
        return (edge.task, tile) if edge.task in self.present[tile] else None

    def _entrance(self, entrance: Entrance, start: Lengths) -> Lengths:
        """Where walks begin, there is one of length 0."""
        if entrance in self.begins:
            start = start.copy()
            none = (self.begins.index(entrance), *(0 for _ in self.most))
            start[none] = max(start[none], 0.0)
        self.entered[entrance] = start
        return start

    def _occupy(self, members: list[tuple[Task, int]], start: Lengths) -> Lengths:
        """Cycles go round the members; each finishes at its own last one. When the unit is free again."""
        own = self.graph.cycles
        cycles = [own.get(task.name, 0) for task, _ in members]
        free = start
        for position, (task, tile) in enumerate(members):
            spent = cycles[0] if len(cycles) == 1 else turns(cycles, position)
            finish = self._finish(task, tile, start + spent if spent else start)
            self.start[task.name, tile] = start + position if position else start
            self.finish[task.name, tile] = finish
            free = np.maximum(free, finish) if position else finish
            for queue in task.takes:
                self.taken[queue] += 1
            if task.gives_back:
                self._give(task, tile, finish)
        return free

    def _finish(self, task: Task, tile: int, finish: Lengths) -> Lengths:
        if task.name in self.graph.counted:
            finish = _one_more(finish, 1 + self.graph.counted[task.name])
        for edge in task.after:
            if edge.streaming and (source := self._source(edge, tile)) is not None:
                finish = np.maximum(finish, self.finish[source] + edge.lag_cycles)
        return finish

    def _give(self, task: Task, tile: int, finish: Lengths) -> None:
        place = self.epochs[tile]
        for queue in task.gives_back:
            if place is not None and queue not in place.keeps:
                self.gifts[queue].append(finish)


def _one_more(lengths: Lengths, kind: int) -> Lengths:
    """The same walks with one transfer more; those with too many are dropped."""
    longer, all_before = np.full_like(lengths, -np.inf), (slice(None),) * kind
    longer[(*all_before, slice(1, None))] = lengths[(*all_before, slice(None, -1))]
    return longer


def _columns_before(epochs: Epochs) -> Iterator[tuple[int, int]]:
    """(epoch of a tile, epoch of the tile before it in its column)."""
    last: dict[int, int] = {}
    for epoch, place in enumerate(epochs):
        if place is not None:
            if place.column in last:
                yield epoch, last[place.column]
            last[place.column] = epoch
