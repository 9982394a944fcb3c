"""A software pipeline as data: what an accelerator hands to the cycle-level engine; and that of double buffering.

A program is a stream of tiles. Each tile runs the same list of tasks; a task occupies one unit for a whole number
of cycles, in the order of the list (or, with `in_flight`, greedily), after what it waits for. The engine
(`simulator.engine.engine`) decides when; nothing here does. The epochs of FuseMax, section V, are one such program.
Linear layers and element-wise work are another: steps that are loaded, computed and stored, the three overlapped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import TypeAlias

from cascadesim.accelerators.spec import SpatialArray

LARGEST_ROUNDING = 0.001  # of the cycles on the DRAM channel: loads and stores take whole cycles each
ENOUGH_DRAM_CYCLES = 2 / LARGEST_ROUNDING  # of a step: its load and its store round up by less than one cycle each


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
    consecutive tiles is open, and each unit takes the task of the window that can start first.
    """

    tasks: tuple[Task, ...]
    tile_classes: tuple[tuple[int, ...], ...]  # per class: cycles of each task, 0 = absent
    stream: tuple[TileRun | Repeat, ...]
    queues: tuple[Queue, ...] = ()
    in_flight: int | None = None  # None: static order by stage; k: at most k tiles at once, greedily
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


@dataclass(frozen=True, slots=True)
class BufferedStep:
    """What one step moves and computes; `compute_cycles` has one entry per Einsum.

    `buffer_bytes`: what passes the ports, whole rows for operands of the array, everything else packed.
    `arrives`: operands are used once, in the order in which they arrive, so the step may start while it is loaded.
    """

    load_bytes: int
    compute_cycles: tuple[int, ...]
    store_bytes: int
    buffer_bytes: int
    arrives: bool = False

    def plus(self, other: BufferedStep, times: int = 1) -> BufferedStep:
        """Merge both into one step, the other one `times` times."""
        pairs = zip(self.compute_cycles, other.compute_cycles, strict=True)
        return BufferedStep(
            self.load_bytes + times * other.load_bytes,
            tuple(own + times * more for own, more in pairs),
            self.store_bytes + times * other.store_bytes,
            self.buffer_bytes + times * other.buffer_bytes,
            self.arrives and other.arrives,
        )

    def bound_cycles(self, spec: SpatialArray) -> float:
        """No schedule is shorter: the busiest of array, DRAM channel and buffer ports."""
        dram = (self.load_bytes + self.store_bytes) / spec.dram_bytes_per_cycle
        return max(sum(self.compute_cycles), dram, self.buffer_bytes / spec.global_buffer.bytes_per_cycle)


@dataclass(frozen=True, slots=True)
class Rounds:
    """`body` in order, `times` times over."""

    body: tuple[BufferedStep | Rounds, ...]
    times: int


Steps: TypeAlias = tuple[BufferedStep | Rounds, ...]


@dataclass(frozen=True)
class BufferedStream:
    """Steps pass one array. `slots` steps are in the buffer at once; results leave the array `drain_cycles` late.

    `leaves`: results leave in the order in which operands are used, while the step goes on.
    """

    unit: str
    einsums: tuple[str, ...]
    steps: Steps
    slots: int
    drain_cycles: int = 0
    leaves: bool = False

    @cached_property
    def total(self) -> BufferedStep:
        """Everything that the stream moves and computes."""
        return merged(self.steps)


def counted(steps: Steps, times: int = 1) -> Iterator[tuple[BufferedStep, int]]:
    """Yield each step and how often it runs in all."""
    for item in steps:
        if isinstance(item, Rounds):
            yield from counted(item.body, times * item.times)
        else:
            yield item, times


def merged(steps: Steps) -> BufferedStep:
    """Merge everything into one step."""
    (first, times), *others = counted(steps)
    total = first.plus(first, times - 1)
    for step, count in others:
        total = total.plus(step, count)
    return total


def grouped(step: BufferedStep, count: int, group: int) -> Steps:
    """Move `count` equal steps in groups of `group`, and what is left over as one."""
    whole, left = divmod(count, group)
    parts = (Rounds((step.plus(step, group - 1),), whole),) if whole else ()
    return (*parts, step.plus(step, left - 1)) if left else parts


def steps_per_group(step: BufferedStep, spec: SpatialArray, most: int) -> int:
    """Find the fewest equal steps to move as one whose whole cycles on the DRAM channel are at most 0.1 % too many.

    From ENOUGH_DRAM_CYCLES on they always are. At most `most`, if so few cannot be had.
    """
    exact = (step.load_bytes + step.store_bytes) / spec.dram_bytes_per_cycle
    enough = max(1, min(most, ceil(ENOUGH_DRAM_CYCLES / max(exact, 1e-9))))
    fine = (count for count in range(1, enough) if rounding((step.plus(step, count - 1),), spec) <= LARGEST_ROUNDING)
    return next(fine, enough)


def rounding(steps: Steps, spec: SpatialArray) -> float:
    """Compare whole cycles of loads and stores on the DRAM channel with exact ones: their ratio, less 1."""
    parts = [(times, part) for step, times in counted(steps) for part in (step.load_bytes, step.store_bytes)]
    exact = sum(times * part for times, part in parts) / spec.dram_bytes_per_cycle
    return sum(times * ceil(part / spec.dram_bytes_per_cycle) for times, part in parts) / exact - 1 if exact else 0.0


def stream_program(stream: BufferedStream, spec: SpatialArray) -> Program:
    """Loads run ahead of the array by up to `slots` steps; each store waits until its results have left the array.

    The buffer feeds the array while it computes; the last Einsum frees the step's place in the buffer. A step is
    either loaded whole (`load`) or used as it arrives (`arrive`). Stores come so late that what the array computes
    meanwhile hides the drain: the DRAM channel serves in this order.
    """
    classes = tuple(dict.fromkeys(_cycles(step, spec) for step, _ in counted(stream.steps)))
    shortest = min(sum(step.compute_cycles) for step, _ in counted(stream.steps))
    loaded = (After("load"), After("arrive", streaming=True))
    einsums = [Task(name, stream.unit, stage=1) for name in stream.einsums]
    einsums[0] = replace(einsums[0], after=loaded)
    fed = (*einsums[-1].after, After("feed", streaming=True))
    einsums[-1] = replace(einsums[-1], after=fed, gives_back=("steps",))
    stored = After(einsums[-1].name, lag_cycles=stream.drain_cycles, streaming=stream.leaves)
    tasks = (
        Task("load", "dram", takes=("steps",)),
        Task("arrive", "dram", takes=("steps",)),
        Task("feed", "global_buffer", after=loaded, stage=1),
        *einsums,
        Task("store", "dram", after=(stored,), stage=2 + ceil(stream.drain_cycles / max(1, shortest))),
    )
    runs = _runs(stream.steps, {cycles: index for index, cycles in enumerate(classes)}, spec)
    return Program(tasks, classes, runs, (Queue("steps", stream.slots),))


def _cycles(step: BufferedStep, spec: SpatialArray) -> tuple[int, ...]:
    load = ceil(step.load_bytes / spec.dram_bytes_per_cycle)
    return (
        *((0, load) if step.arrives else (load, 0)),
        -(-step.buffer_bytes // spec.global_buffer.bytes_per_cycle),
        *step.compute_cycles,
        ceil(step.store_bytes / spec.dram_bytes_per_cycle),
    )


def _runs(steps: Steps, classes: dict[tuple[int, ...], int], spec: SpatialArray) -> tuple[TileRun | Repeat, ...]:
    found: list[TileRun | Repeat] = []
    for item in steps:
        body, times = (item.body, item.times) if isinstance(item, Rounds) else ((item,), 1)
        if len(body) == 1 and isinstance(body[0], BufferedStep):
            found.append(TileRun(classes[_cycles(body[0], spec)], times))
        else:
            found.append(Repeat(times, _runs(body, classes, spec)))
    return tuple(found)
