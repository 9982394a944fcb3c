"""Loops and Einsums of a mapping with sizes: how many steps in time an Einsum takes on its unit for a tile.

Knows units, their operations and sides; knows no memory and no other Einsum. mapping.md 2.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod

from cascadesim.accelerators.binding import in_classes_of
from cascadesim.accelerators.mapping.problem import Tile, Work
from cascadesim.accelerators.spec import FoldedPeArray, Operations, SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

ARRAY_2D, ARRAY_1D, GLOBAL_BUFFER, DRAM = "array_2d", "array_1d", "global_buffer", "dram"


@dataclass(frozen=True, slots=True)
class BoundLoop:
    """A shared loop: it advances along its axis by `step` elements within stretches of `outer`."""

    part: str
    axis: str
    step: int
    outer: int

    @property
    def most(self) -> int:
        return -(-self.outer // self.step)  # iterations where the stretch is whole


@dataclass(frozen=True, slots=True)
class Fold:
    """Work in folds that do not overlap: axes along which operands stream through one, and its other cycles."""

    streamed: frozenset[str]
    exposed_cycles: int


@dataclass(frozen=True, slots=True)
class BoundRun:
    """An Einsum of the group. `space`: (axis, elements of a block, size of the dimension); `after`: loops outside it.

    `time`: axes of its own loops, outermost first.
    """

    work: Work
    place: int
    unit: str
    space: tuple[tuple[str, int, int], ...]
    time: tuple[str, ...]
    after: int | None
    op_cycles: int
    fold: Fold | None = None

    def waves(self, axis: str, elements: int) -> int:
        """Steps in time along an axis of a tile: what is in space takes one for each block of the dimension."""
        points = self.work.points(axis, elements)
        for spatial, block, size in self.space:
            if spatial == axis:
                whole, rest = divmod(points, self.work.points(axis, min(block, elements)))
                return whole * -(-self.work.points(axis, min(block, elements)) // size) + -(-rest // size)
        return points

    @property
    def drain_cycles(self) -> int:
        """Cycles until results have left the 2D array: one for each row that it uses (FuseMax, section V)."""
        if self.unit != ARRAY_2D or not self.space or self.fold is not None:
            return 0
        _, block, rows = self.space[0]
        return min(block, rows)

    def streams_into(self, consumer: BoundRun) -> bool:
        """Element by element to another unit: both walk an axis of what is handed over in time."""
        return self.unit != consumer.unit and bool(
            set(self.time) & set(consumer.time) & self.work.output.axes & consumer.work.axes)

    def cycles(self, tile: Tile) -> int:
        if self.fold is None:
            return self.op_cycles * prod(self.waves(axis, tile[axis]) for axis in self.work.axes)
        streamed = self.op_cycles * prod(self.waves(axis, tile[axis]) for axis in self.fold.streamed)
        folds = prod(self.waves(axis, tile[axis]) for axis in self.work.axes - self.fold.streamed)
        return folds * (streamed + self.fold.exposed_cycles)


def bound_run(
    spec: SpatialArray, work: Work, place: int, space: tuple[str, tuple[tuple[str, int, int], ...], tuple[str, ...]],
    after: int | None = None,
) -> BoundRun:  # fmt: skip
    """An Einsum on a unit. `space`: the unit, ranks in space, axes in time."""
    unit, over, time = space
    can, fold = operations_of(spec, unit), None
    op_cycles = sum(count * can.cycles[name] for name, count in (executed(can, work) or Counter()).items())
    if (kept := stationary(spec, unit, work)) is not None and isinstance(spec.pe_array, FoldedPeArray):
        fold = Fold(work.axes - kept, spec.pe_array.exposed_cycles)
    return BoundRun(work, place, unit, over, time, after, op_cycles, fold)


def stationary(spec: SpatialArray, unit: str, work: Work) -> frozenset[str] | None:
    """Axes of what stays in the elements for a fold; None where folds overlap."""
    array = spec.pe_array
    if unit != ARRAY_2D or not isinstance(array, FoldedPeArray) or array.stationary is None:
        return None
    return work.output.axes if array.stationary == "output" else work.inputs[-1].axes


def operations_of(spec: SpatialArray, unit: str) -> Operations:
    return spec.pe_array.operations if unit == ARRAY_2D else spec.vector_array.operations


def executed(can: Operations, work: Work) -> Counter[str] | None:
    """Operations of a point as a unit does them, some made of others; None where it cannot."""
    try:
        return in_classes_of(can, can.charged(work.operations), work.name)
    except CascadeSimError:
        return None


def dimension_size(spec: SpatialArray, dimension: str) -> int:
    """Elements along a dimension of a unit: rows, columns, lanes."""
    sizes = {"rows": spec.pe_array.rows, "columns": spec.pe_array.columns, "lanes": spec.vector_array.lanes}
    return sizes[dimension]
