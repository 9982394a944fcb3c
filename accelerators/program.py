"""A software pipeline as data: what an accelerator hands to the cycle-level engine.

A program is a stream of tiles. Each tile runs the same list of tasks; a task occupies one unit for a whole number
of cycles, in the order of the list (or, with `in_flight`, greedily), after what it waits for. The engine
(`simulator.engine.engine`) decides when; nothing here does. The epochs of FuseMax, section V, are one such program.
Groups of fused Einsums are others (`mapping.schedule`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class After:
    """A dependence: the task may start `lag_cycles` after `task` has finished.

    `tiles_back`: `task` is that of the k-th tile before this one. `same_column`: that of the latest earlier tile of
    this tile's column in which `task` is present (a running value that one query tile hands to its next key tile).
    `latest`: that of the latest tile, this one included, in which `task` is present (a value that a stretch of tiles
    shares). `streaming`: element k of this task needs element k of the other, so the two overlap:
    start >= start + lag and finish >= finish + lag.
    At most one of `tiles_back`, `same_column`, `latest`.
    """

    task: str
    lag_cycles: int = 0
    tiles_back: int = 0
    same_column: bool = False
    streaming: bool = False
    latest: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """A finite buffer between tasks: at most `capacity` slots taken and not yet given back.

    The k-th take waits for the (k - capacity)-th give-back. All takers share one unit, and so do all givers.
    """

    name: str
    capacity: int


@dataclass(frozen=True, slots=True)
class Task:
    """One task of every tile.

    `stage`: the task runs `stage` epochs after the tile entered, so tiles overlap (software pipelining).
    `group`: neighbouring tasks of one unit with the same group share its issue slots round-robin, cycle by cycle,
    in list order; the group starts when every member may.
    `takes` / `gives_back`: queues whose slot this task acquires at its start / releases at its finish.
    `early`: with `in_flight` it may also run for tiles that are not open yet (a load, where its queue has room).
    A task whose cycles are 0 in a tile's class is absent there: it starts nothing, takes nothing, gives nothing
    back, and a dependence on it is satisfied.
    """

    name: str
    unit: str
    after: tuple[After, ...] = ()
    stage: int = 0
    group: str | None = None
    takes: tuple[str, ...] = ()
    gives_back: tuple[str, ...] = ()
    early: bool = False


@dataclass(frozen=True, slots=True)
class TileRun:
    """`tiles` consecutive tiles of one class; the k-th has column `first_column + k`.

    `fresh`: the tiles start their columns: no running value of an earlier tile reaches them.
    """

    tile_class: int
    tiles: int
    first_column: int = 0
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Repeat:
    """`body` in order, `times` times over."""

    times: int
    body: tuple[TileRun | Repeat, ...]


TileOrder: TypeAlias = Sequence[TileRun | Repeat]


@dataclass(frozen=True, slots=True)
class Program:
    """Tasks of a tile, queues, classes of tiles (cycles per task), and the stream of tiles.

    A tile class of nothing but zeros is a bubble: an epoch in which no tile enters the pipeline.
    `keeps`: per class, the queues whose slots its tiles do not give back (a key row of tiles shares one slot, and
    only its last tile returns it). With `in_flight`, stages and groups mean nothing: a window of that many
    consecutive tiles is open, and each unit takes the task of the window that can start first; `ahead`: so many tiles
    after them are open for early tasks alone.
    """

    tasks: tuple[Task, ...]
    tile_classes: tuple[tuple[int, ...], ...]  # per class: cycles of each task, 0 = absent
    stream: tuple[TileRun | Repeat, ...]
    queues: tuple[Queue, ...] = ()
    in_flight: int | None = None  # None: static order by stage; k: at most k tiles at once, greedily
    ahead: int = 0
    drain_cycles: int = 0  # after the last task, until the last result has left the unit
    keeps: tuple[tuple[str, ...], ...] = ()  # per class; empty: every class gives everything back

    @property
    def units(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(task.unit for task in self.tasks))

    @property
    def tiles(self) -> int:
        """Count the tiles of the whole stream, bubbles included."""
        return sum(_tiles_by_class(self.stream).values())

    def busy_cycles(self) -> dict[str, int]:
        """Count the cycles each task occupies its unit over the whole stream, whatever the schedule."""
        counts = _tiles_by_class(self.stream)
        return {
            task.name: sum(count * self.tile_classes[index][position] for index, count in counts.items())
            for position, task in enumerate(self.tasks)
        }


def turns(shared: Sequence[int], position: int) -> int:
    """Count the cycles until member `position` of a group that shares issue slots round-robin is done."""
    own = shared[position]
    return sum(min(other, own if index <= position else own - 1) for index, other in enumerate(shared))


def _tiles_by_class(order: TileOrder) -> Counter[int]:
    counts: Counter[int] = Counter()
    for item in order:
        if isinstance(item, TileRun):
            counts[item.tile_class] += item.tiles
        else:
            counts.update({index: item.times * tiles for index, tiles in _tiles_by_class(item.body).items()})
    return counts
