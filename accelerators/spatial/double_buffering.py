"""A stream of work through one array as a program: load a step, compute it, store it, the three of them overlapped.

Knows bytes and cycles of the array per step, and how a DRAM channel and buffer ports turn them into whole cycles.
Does not know what is computed: linear layers and element-wise work are both such streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from typing import TypeAlias

from cascadesim.accelerators.program import After, Program, Queue, Repeat, Task, TileRun
from cascadesim.accelerators.spec import SpatialArray

LARGEST_ROUNDING = 0.001  # of the cycles on the DRAM channel: loads and stores take whole cycles each
ENOUGH_DRAM_CYCLES = 2 / LARGEST_ROUNDING  # of a step: its load and its store round up by less than one cycle each


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
