"""A software pipeline as data: what an accelerator hands to the cycle-level engine.

A program is a stream of identical tiles. Each tile runs the same list of tasks; a task occupies one unit for a
whole number of cycles, in the order of the list (or, with `in_flight`, greedily), after what it waits for. The
engine (`simulator.engine`) decides when; nothing here does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class After:
    """A dependence: the task may start `lag_cycles` after `task` has finished.

    `tiles_back`: of the tile so many before this one in the stream. `same_column`: of the latest earlier tile with
    this tile's column (a running value that one query tile hands to its next key tile). `streaming`: element k of
    this task needs element k of the other, so the two overlap: start >= start + lag and finish >= finish + lag.
    """

    task: str
    lag_cycles: int = 0
    tiles_back: int = 0
    same_column: bool = False
    streaming: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """A finite buffer between tasks: at most `capacity` items taken and not yet given back."""

    name: str
    capacity: int


@dataclass(frozen=True, slots=True)
class Task:
    """One task of every tile.

    `stage`: the task runs `stage` epochs after the tile entered, so tiles overlap (software pipelining).
    `group`: tasks of one unit with the same group share its issue slots round-robin, cycle by cycle.
    `takes` / `gives_back`: queues whose slot this task acquires at its start / releases at its finish.
    A task whose cycles are 0 in a tile's class is absent there: it starts nothing, takes nothing, gives nothing back.
    """

    name: str
    unit: str
    after: tuple[After, ...] = ()
    stage: int = 0
    group: str | None = None
    takes: tuple[str, ...] = ()
    gives_back: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TileRun:
    """`tiles` consecutive tiles of one class; the k-th has column `first_column + k`."""

    tile_class: int
    tiles: int
    first_column: int = 0


@dataclass(frozen=True, slots=True)
class Repeat:
    """`body` in order, `times` times over."""

    times: int
    body: tuple[TileRun | Repeat, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """Tasks of a tile, queues, classes of tiles (cycles per task), and the stream of tiles."""

    tasks: tuple[Task, ...]
    tile_classes: tuple[tuple[int, ...], ...]  # per class: cycles of each task, 0 = absent
    stream: tuple[TileRun | Repeat, ...]
    queues: tuple[Queue, ...] = ()
    in_flight: int | None = None  # None: static order by stage; k: at most k tiles at once, greedily
    drain_cycles: int = 0  # after the last task, until the last result has left the unit

    @property
    def units(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(task.unit for task in self.tasks))
