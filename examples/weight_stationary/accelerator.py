"""A weight-stationary array with a vector unit, Einsum by Einsum: a whole accelerator in one module.

A product of two tensors holds a tile of the second one in the array, its contraction down the rows, and streams the
first one past it; everything else runs on the vector lanes. Every tensor passes by DRAM (nothing is fused), and loads,
work and stores of successive tiles overlap. Masked pairs are computed all the same. Has no energy and no area.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, prod

from cascadesim.accelerators import (
    Accounting,
    After,
    Capabilities,
    EinsumActivity,
    Phase,
    Plan,
    Program,
    Stored,
    Task,
    TileRun,
    Traffic,
    Unit,
)  # fmt: skip
from cascadesim.accelerators.binding import contracts
from cascadesim.einsum_cascades.models.operation import Operation, work_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Einsum
from cascadesim.einsum_cascades.notation.schema import Positive, PositiveFloat, Spec, validate


class ArraySpec(Spec):
    """What the preset says: sizes in elements and lanes, rates per cycle."""

    architecture: str
    clock_hz: PositiveFloat
    rows: Positive
    columns: Positive
    lanes: Positive
    word_bytes: Positive
    dram_bytes_per_cycle: Positive


@dataclass(frozen=True)
class WeightStationary:
    """A configured array. Everything the simulator asks of an accelerator is here."""

    name: str
    spec: ArraySpec
    attention: str = "attention-3pass"
    leakage_w: float = 0.0

    @property
    def clock_hz(self) -> float:
        return self.spec.clock_hz

    @property
    def units(self) -> tuple[Unit, ...]:
        return Unit("array", self.spec.rows * self.spec.columns), Unit("vector", self.spec.lanes), Unit("dram")

    @property
    def capabilities(self) -> Capabilities:
        word = self.spec.word_bytes
        return Capabilities(stored=Stored(word, word, word, word))

    def area_um2(self) -> None:
        return None

    def plan(self, operation: Operation, accounting: Accounting) -> Plan:
        """One phase for each Einsum. Raises CascadeSimError for texts that walk tiles, and for published accounting."""
        if accounting == "artifact":
            raise CascadeSimError(f"{self.name}: nothing is published of it; use --accounting physical")
        cascade = operation.cascade
        for rank in {rank for einsum in cascade.einsums for rank in einsum.ranks}:
            _extent(operation, rank)
        work = work_of(operation)
        phases = tuple(self._phase(operation, einsum, work[einsum.name]) for einsum in cascade.einsums)
        lines = tuple(f"{phase.name} on {phase.activities[0].unit}" for phase in phases)
        stored = dict.fromkeys((*cascade.inputs, *cascade.outputs), float(self.spec.word_bytes))
        return Plan(operation, accounting, lines, phases, None, element_bytes=stored)

    def _phase(self, operation: Operation, einsum: Einsum, operations: Mapping[str, int]) -> Phase:
        instances = operation.extent("b") if "b" in dict(operation.extents) else 1

        def size(ranks: Iterable[str]) -> int:
            return instances * prod(_extent(operation, rank) for rank in ranks)

        reads = [size(dict.fromkeys(access.ranks)) for access in einsum.inputs]
        if contracts(einsum) and len(einsum.inputs) == 2:
            unit, lanes = "array", self.spec.rows * self.spec.columns
            first, second = (set(access.ranks) for access in einsum.inputs)
            depth = prod(_extent(operation, rank) for rank in einsum.reduced_ranks)
            width = prod(_extent(operation, rank) for rank in second - first)
            streamed = prod(_extent(operation, rank) for rank in first - second)
            down, across = ceil(depth / self.spec.rows), ceil(width / self.spec.columns)
            tiles = size((first & second) - set(einsum.reduced_ranks)) * down * across
            each = self.spec.rows + streamed + self.spec.rows + self.spec.columns  # weights in, the stream, the drain
            reads[0] *= across
        else:
            unit, lanes = "vector", self.spec.lanes
            tiles, each = instances, ceil(sum(operations.values()) / instances / lanes)
        written = size(einsum.output.ranks)
        load, store = (ceil(count * self.spec.word_bytes / self.spec.dram_bytes_per_cycle / tiles)
                       for count in (sum(reads), written))  # fmt: skip
        useful = max(operations.values(), default=0) / (tiles * each * lanes) if each else 0
        activity = EinsumActivity(einsum.name, unit, tiles * each, operations, min(1.0, useful) or 1.0)
        traffic = Traffic(sum(reads) * self.spec.word_bytes, written * self.spec.word_bytes)
        return Phase(einsum.name, (activity,), traffic, float(tiles * max(each, load + store, 1)),
                     partial(_program, einsum.name, unit, (load, max(each, 1), store), tiles))  # fmt: skip


def _extent(operation: Operation, rank: str) -> int:
    sizes = dict(operation.extents)
    if rank not in sizes:
        raise CascadeSimError(f"{operation.cascade.name} walks {rank}; this array runs texts without tiles, such as "
                              "attention-3pass")  # fmt: skip
    return sizes[rank]


def _program(name: str, unit: str, cycles: tuple[int, int, int], tiles: int) -> Program:
    tasks = (
        Task("load", "dram"), Task(name, unit, (After("load"),), stage=1),
        Task("store", "dram", (After(name),), stage=2),
    )  # fmt: skip
    return Program(tasks, (cycles,), (TileRun(0, tiles),))


def build(name: str, content: Mapping[str, object], source: str) -> WeightStationary:
    """Raises SpecError with every problem of `content`."""
    return WeightStationary(name, validate(ArraySpec, content, source))
