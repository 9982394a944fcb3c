"""The least cycles that a program of loads takes on the engine, whatever the order in which units take its tasks.

A unit cannot begin before the first tile has come to it, then works all its cycles, and what follows its last task in
the tile comes on top; of `in_flight` tiles at a time, each waits for all of the one so many before it. Dependences
within a tile only, as SpAtten's programs have them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from cascadesim.accelerators.program import After, Program, Task, TileRun


@dataclass(frozen=True)
class Tile:
    """A tile by itself: `cycles` of each task, those that are absent left out."""

    tasks: tuple[Task, ...]
    cycles: Mapping[str, int]

    @cached_property
    def starts(self) -> Mapping[str, int]:
        return {name: start for name, (start, _) in self._times.items()}

    @property
    def longest(self) -> int:
        """From its first task to its last."""
        return max((finish for _, finish in self._times.values()), default=0)

    @property
    def busiest(self) -> int:
        """Cycles of the unit that has most."""
        return max(self._work(frozenset(self.cycles)).values(), default=0)

    @cached_property
    def _times(self) -> Mapping[str, tuple[int, int]]:
        times: dict[str, tuple[int, int]] = {}
        ended: dict[str, frozenset[str]] = {}
        for task in self.tasks:
            if task.name in self.cycles:
                edges = [(edge, *times[edge.task]) for edge in task.after if edge.task in times]
                ended[task.name] = _ended(task, ended)
                begins = [edge.lag_cycles + (begin if edge.streaming else end) for edge, begin, end in edges]
                start = max([0, *begins, *self._work(ended[task.name]).values()])
                ends = [edge.lag_cycles + end for edge, _, end in edges if edge.streaming]
                times[task.name] = start, max([start + self.cycles[task.name], *ends])
        return times

    def _work(self, names: frozenset[str]) -> Counter[str]:
        """Cycles of each unit for these tasks: one after another."""
        found: Counter[str] = Counter()
        for task in self.tasks:
            found[task.unit] += self.cycles[task.name] if task.name in names else 0
        return found

    @cached_property
    def rests(self) -> Mapping[str, int]:
        """From the start of each task to the end of the tile."""
        from_start: dict[str, int] = {}
        from_finish: dict[str, int] = {}
        for task in reversed(self.tasks):
            if task.name in self.cycles:
                after = list(self._followers(task.name))
                from_finish[task.name] = max(0, *(
                    edge.lag_cycles + (from_finish if edge.streaming else from_start)[name] for name, edge in after
                ), 0)  # fmt: skip
                streamed = [edge.lag_cycles + from_start[name] for name, edge in after if edge.streaming]
                from_start[task.name] = max(self.cycles[task.name] + from_finish[task.name], *streamed, 0)
        return from_start

    def _followers(self, name: str) -> Iterator[tuple[str, After]]:
        return ((task.name, edge) for task in self.tasks if task.name in self.cycles
                for edge in task.after if edge.task == name)  # fmt: skip

    def on(self, unit: str) -> list[str]:
        return [task.name for task in self.tasks if task.unit == unit and task.name in self.cycles]


def _ended(task: Task, ended: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Tasks that have ended before this one starts, by those of the tasks before it."""
    found: frozenset[str] = frozenset()
    for edge in task.after:
        if edge.task in ended:
            found |= ended[edge.task] if edge.streaming else ended[edge.task] | {edge.task}
    return found


def least_cycles(program: Program) -> int:
    """A lower bound of the engine's cycles."""
    runs, window = runs_of(program), program.in_flight or 1
    units = (_on_unit(unit, runs, window) for unit in program.units)
    return max(max(units, default=0), _in_turn(runs, window)) + program.drain_cycles


def runs_of(program: Program) -> list[tuple[Tile, int]]:
    """Tiles in order, with how many of them follow each other."""
    names = [task.name for task in program.tasks]
    tiles = [Tile(program.tasks, {name: cycles for name, cycles in zip(names, one, strict=True) if cycles})
             for one in program.tile_classes]  # fmt: skip
    return [(tiles[run.tile_class], run.tiles) for run in program.stream if isinstance(run, TileRun) and run.tiles]


def _on_unit(unit: str, runs: list[tuple[Tile, int]], window: int) -> int:
    busy = sum(count * sum(tile.cycles[name] for name in tile.on(unit)) for tile, count in runs)
    first, last = _opening(runs, window, unit), _opening(runs[::-1], window, unit)
    before = min((tile.starts[name] for tile in first for name in tile.on(unit)), default=0)
    after = min((tile.rests[name] - tile.cycles[name] for tile in last for name in tile.on(unit)), default=0)
    return before + busy + after


def _opening(runs: list[tuple[Tile, int]], window: int, unit: str) -> list[Tile]:
    """Kinds of tiles of which the first, or last, on a unit is one: those of a window, where all use it; else all."""
    found: list[Tile] = []
    for tile, count in runs:
        found.append(tile)
        window -= count
        if window <= 0:
            break
    return found if all(tile.on(unit) for tile in found) else [tile for tile, _ in runs]


def _in_turn(runs: list[tuple[Tile, int]], window: int) -> int:
    """Every so manieth tile of a run begins when the one before it has ended."""
    return sum(tile.longest * (count // window) for tile, count in runs)


def most_cycles(program: Program) -> int:
    """An upper estimate: all tiles one after another, or the bound, a window of tiles more, and for each window once
    more what its longest tile takes besides its busiest unit."""
    runs, window = runs_of(program), program.in_flight or 1
    in_turn = sum(tile.longest * count for tile, count in runs) + program.drain_cycles
    windows = -(-sum(count for _, count in runs) // window)
    longest = max((tile.longest for tile, _ in runs), default=0)
    idle = max((tile.longest - tile.busiest for tile, _ in runs), default=0)
    return max(least_cycles(program), min(in_turn, least_cycles(program) + window * longest + windows * idle))
