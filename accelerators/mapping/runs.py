"""Loops and Einsums of a mapping with sizes: how many steps in time an Einsum takes on its unit for a tile.

And what is kept of a tensor: its tile, its place among the loops and in the memories, and how often it is read there.
Knows units, their operations and sides; knows no other Einsum and no group. mapping.md 1 and 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import prod
from typing import NamedTuple, TypeAlias

from cascadesim.accelerators.mapping.attended import PAIRED, Pairs
from cascadesim.accelerators.mapping.problem import TensorUse, Tile, Work
from cascadesim.accelerators.spec import FoldedPeArray, Operations, SpatialArray, in_classes_of
from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

ARRAY_2D, ARRAY_1D, GLOBAL_BUFFER, DRAM = "array_2d", "array_1d", "global_buffer", "dram"
ACCUMULATORS = "accumulators"
UNITS = (ARRAY_2D, ARRAY_1D)
DIMENSIONS = {ARRAY_2D: ("rows", "columns", "units"), ARRAY_1D: ("lanes",)}

Sizes = list[tuple[dict[str, int], int]]  # of tiles along an axis, or several that depend on each other; and how many


class BoundLoop(NamedTuple):
    """A shared loop: it advances along its axis by `step` elements within stretches of `outer`."""

    part: str
    axis: str
    step: int
    outer: int

    @property
    def most(self) -> int:
        return -(-self.outer // self.step)  # iterations where the stretch is whole


class Side(NamedTuple):
    """A dimension of a unit, or several that are as one (columns of all units), and the elements along it."""

    names: tuple[str, ...]
    size: int


class Spread(NamedTuple):
    """An axis in space. `block`: elements of a tile that a round covers at most; `size`: elements of the dimension that
    it has, of those that other axes beside it leave."""

    axis: str
    block: int
    size: int
    over: tuple[str, ...]


Space: TypeAlias = tuple[str, tuple[Spread, ...], tuple[str, ...]]  # of an Einsum: unit, axes in space, axes in time


@dataclass(frozen=True, slots=True)
class Fold:
    """Work in folds that do not overlap: axes along which operands stream through one, and its other cycles."""

    streamed: frozenset[str]
    exposed_cycles: int


@dataclass(frozen=True, slots=True)
class BoundRun:
    """An Einsum of the group. `space`: axes in space, the innermost of a dimension first; `after`: loops outside it.

    `time`: axes that it walks in time, outermost first. `own`: loops around all of that, inside the shared ones,
    outermost first: the Einsum takes a tile slice by slice.
    """

    work: Work
    place: int
    unit: str
    space: tuple[Spread, ...]
    time: tuple[str, ...]
    after: int | None
    op_cycles: int
    fold: Fold | None = None
    own: tuple[BoundLoop, ...] = ()
    nest: int = 0  # of several Einsums that share those loops, slice by slice, the number; else 0
    has_registers: bool = True  # a sum is added up there, else where its tile is

    def sums_slices(self, tile: Tile) -> bool:
        """Whether it adds up, slice by slice, more than its unit can hold until the end."""
        inside = dict(tile)
        for loop in self.own:
            if loop.axis in self.work.reduced:
                return any(self.waves(axis, inside[axis]) > 1 for axis in self.work.output.axes)
            inside[loop.axis] = min(loop.step, inside[loop.axis])
        return False

    def tile_cycles(self, tile: Tile) -> int:
        """Cycles of a tile, all of its slices."""
        if not self.own:
            return self.cycles(tile)
        return self.all_cycles([cut([({axis: tile[axis]}, 1)], self.own) for axis in sorted(self.work.axes)])

    def waves(self, axis: str, elements: int) -> int:
        """Steps in time along an axis of a tile: what is in space takes one for each block of the dimension."""
        points = self.work.points(axis, elements)
        for spatial, block, size, _ in self.space:
            if spatial == axis:
                whole, rest = divmod(points, self.work.points(axis, min(block, elements)))
                return whole * -(-self.work.points(axis, min(block, elements)) // size) + -(-rest // size)
        return points

    @property
    def drain_cycles(self) -> int:
        """Cycles until results have left the 2D array: one for each row that it uses (FuseMax, section V)."""
        if self.unit != ARRAY_2D or not self.space or self.fold is not None:
            return 0
        return prod(min(each.block, each.size) for each in self.space if "rows" in each.over)

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

    def all_cycles(self, sizes: Sequence[Sizes]) -> int:
        """Cycles of tiles of all these sizes; of folds those after the first, as SCALE-Sim counts."""

        def steps(axes: frozenset[str]) -> int:
            return prod(sum(count * prod(self.waves(axis, size) for axis, size in tile.items() if axis in axes)
                            for tile, count in each) for each in sizes)  # fmt: skip

        cycles = self.op_cycles * steps(self.work.axes)
        if self.fold is None:
            return cycles
        return cycles + self.fold.exposed_cycles * steps(self.work.axes - self.fold.streamed) - 1

    def operand_reads(self, operand: TensorUse, tile: Tile, state: frozenset[str]) -> int:
        """Words of an operand that it reads from a memory for a tile, as often as it takes each (`taken_again`)."""
        again = prod(self.waves(axis, tile[axis]) for axis in self.taken_again(operand))
        return again * operand.words({**tile, **dict.fromkeys(state, 1)})

    def taken_again(self, operand: TensorUse) -> list[str]:
        """Axes for each of whose steps it reads an operand again: those in time that lack it, but the innermost.

        There it stays in registers, and so does a sum. Elements that need a word at once share one read.
        """
        if operand is self.work.output:
            return [] if self.has_registers else sorted(self.work.reduced)
        spatial = {each.axis for each in self.space}
        time = [axis for axis in self.time if axis not in spatial]
        while time and time[-1] not in operand.axes:
            time.pop()
        return [axis for axis in self.work.axes - operand.axes
                if axis in spatial or axis in time or axis not in self.time]  # fmt: skip


def parts(runs: Sequence[BoundRun], one_by_one: bool = False) -> list[tuple[BoundRun, ...]]:
    """Einsums that work on one tile after another: each with loops of its own, or those that share such loops, and
    those between two such. `one_by_one`: of these those of one unit apart.
    """
    found: list[tuple[BoundRun, ...]] = []
    for run in runs:
        before = found[-1][-1] if found else None
        together = before is not None and run.nest == before.nest and run.after == before.after and bool(
            run.nest or not (run.own or before.own))  # fmt: skip
        if before is not None and together and (run.nest or not (one_by_one and run.unit == before.unit)):
            found[-1] = (*found[-1], run)
        else:
            found.append((run,))
    return found


def bound_run(
    spec: SpatialArray, work: Work, place: int, space: Space,
    after: int | None = None, own: tuple[BoundLoop, ...] = (), nest: int = 0,
) -> BoundRun:  # fmt: skip
    """An Einsum on a unit. `space`: the unit, ranks in space, axes in time."""
    unit, over, time = space
    can, fold = operations_of(spec, unit), None
    op_cycles = sum(count * can.cycles[name] for name, count in (executed(can, work) or {}).items())
    if (kept := stationary(spec, unit, work)) is not None and isinstance(spec.pe_array, FoldedPeArray):
        fold = Fold(work.axes - kept, spec.pe_array.exposed_cycles)
    inside = {loop.axis: loop.step for loop in own}
    blocks = tuple(each._replace(block=min(each.block, inside.get(each.axis, each.block))) for each in over)
    has_registers = unit != ARRAY_2D or spec.pe_array.register_words_per_pe > 0
    return BoundRun(work, place, unit, blocks, time, after, op_cycles, fold, own, nest, has_registers)


def home(spec: SpatialArray, unit: str) -> str:
    """The memory that holds what a unit makes and its registers do not."""
    return ACCUMULATORS if unit == ARRAY_2D and spec.accumulators is not None else GLOBAL_BUFFER


def stationary(spec: SpatialArray, unit: str, work: Work) -> frozenset[str] | None:
    """Axes of what stays in the elements for a fold; None where folds overlap."""
    array = spec.pe_array
    if unit != ARRAY_2D or not isinstance(array, FoldedPeArray) or array.stationary is None:
        return None
    return work.output.axes if array.stationary == "output" else work.inputs[-1].axes


def operations_of(spec: SpatialArray, unit: str) -> Operations:
    return spec.pe_array.operations if unit == ARRAY_2D else spec.vector_array.operations


def executed(can: Operations, work: Work) -> Mapping[str, int] | None:
    """Operations of a point as a unit does them, some made of others; None where it cannot."""
    return _executed(can, tuple(work.operations.items()), work.differences)


@cache
def _executed(can: Operations, operations: tuple[tuple[str, int], ...], differences: int) -> Mapping[str, int] | None:
    try:
        return in_classes_of(can, can.charged(dict(operations), differences), "")
    except CascadeSimError:
        return None


def dimension_size(spec: SpatialArray, dimension: str) -> int:
    """Elements along a dimension of a unit: rows, columns, lanes; units of several 2D arrays."""
    sizes = {"rows": spec.pe_array.rows, "columns": spec.pe_array.columns, "units": units(spec),
             "lanes": spec.vector_array.lanes}  # fmt: skip
    return sizes[dimension]


def units(spec: SpatialArray) -> int:
    """Number of 2D arrays that work together."""
    return spec.pe_array.count if isinstance(spec.pe_array, FoldedPeArray) else 1


def layouts(spec: SpatialArray, unit: str) -> tuple[tuple[Side, ...], ...]:
    """The dimensions over which ranks may lie: of several 2D arrays their columns side by side, or a rank of its own
    over them."""
    own = tuple(Side((name,), dimension_size(spec, name)) for name in DIMENSIONS[unit])
    if unit == ARRAY_1D:
        return (own,)
    rows, columns, count = own
    together = rows, Side(("columns", "units"), columns.size * count.size)
    return (together, own) if count.size > 1 else ((rows, columns),)


def laid(axes: Sequence[str], spec: SpatialArray, unit: str) -> Iterator[tuple[tuple[str, Side], ...]]:
    """Axes over the dimensions of a unit, as many as there are."""
    for number, dimensions in enumerate(layouts(spec, unit)):
        if not number or len(axes) >= len(dimensions):
            chosen = permutations(axes, min(len(axes), len(dimensions)))
            yield from (tuple(zip(each, dimensions, strict=False)) for each in chosen)


def sides(spec: SpatialArray) -> set[int]:
    """Elements that lie side by side along a dimension."""
    return {each.size for unit in UNITS for dimensions in layouts(spec, unit) for each in dimensions[:2]}


class Resident(NamedTuple):  # no dataclass: a search makes millions of them
    """A tensor in the group. `axes`: those along which its tile differs; `depth`: loops outside its tile; `state`: axes
    along which its value is replaced.

    `piece`: loops outside a piece of the tile, where it comes piece by piece as each is first used, and the place of a
    piece is free after its last use; 0 where it comes whole. `ahead`: pieces that have room beside the tile.
    `upstream`: memories on its way, from DRAM inwards, that keep a tile of it, with the loops outside that tile.
    `rests_in`: the memory that it lies in, whole, before the group begins; "" is DRAM. `kept`: a result
    that leaves lies where the mapping says; `evicted`: there it leaves before it is complete, and comes back.
    """

    tensor: str
    operands: tuple[TensorUse, ...]
    axes: frozenset[str]
    depth: int
    copies: int
    where: str  # the memory, or "registers", or "" for what passes by
    state: frozenset[str] = frozenset()
    piece: int = 0
    ahead: int = 0
    upstream: tuple[tuple[str, int], ...] = ()
    rests_in: str = ""
    kept: bool = False
    evicted: bool = False

    def words(self, tile: Tile) -> int:
        """Words of a tile: of the widest use, where the group uses it in several ways; uses that differ in offsets
        (`RM[m1]` and `RM[m1+1]`) need what lies between, too."""
        own = {**tile, **dict.fromkeys(self.state, 1)} if self.state else tile
        first = self.operands[0]
        if len(self.operands) == 1:
            return first.words(own)
        if any(operand.shape != first.shape for operand in self.operands):
            return max(operand.words(own) for operand in self.operands)
        uses = zip(*(operand.dimensions for operand in self.operands), strict=True)
        return prod(same[0].span(own, 1 + max(one.offset for one in same) - min(one.offset for one in same))
                    for same in uses)  # fmt: skip


def divides(operands: Sequence[TensorUse], axis: str, extent: int) -> bool:
    """Whether tiles along an axis have no word of a tensor in common: each of its uses walks one coordinate of it, all
    of the axis, and none reads its neighbours, too."""
    own = [[dimension for dimension in operand.dimensions if axis in dimension.axes] for operand in operands]
    alone = all(len(each) == 1 and len(each[0].walks) == 1 and each[0].divisor == 1 for each in own)
    return (alone and all(each[0].walks[0][0].cap >= extent for each in own)
            and len({each[0].offset for each in own}) == 1)


def sizes_of(axes: frozenset[str], extents: Tile, steps: Tile, pairs: Pairs | None = None) -> list[Sizes]:
    """The sizes of tiles along axes, which are independent but for the `pairs` of queries and keys that are visited."""
    found: list[Sizes] = []
    if pairs is not None:
        found.append([({QUERY: queries, KEY: keys}, count) for (queries, keys), count in pairs])
    for axis in sorted(axes - PAIRED if found else axes):
        whole, rest = divmod(extents[axis], steps[axis])
        found.append([({axis: size}, count) for size, count in ((steps[axis], whole), (rest, 1)) if size and count])
    return found


def cut(sizes: Sizes, loops: Sequence[BoundLoop]) -> Sizes:
    """Tiles along an axis in the slices of loops inside of them, whose steps need not divide each other."""
    for loop in (loop for loop in loops if loop.axis in sizes[0][0]):
        found: Counter[int] = Counter()
        for tile, count in sizes:
            whole, rest = divmod(tile[loop.axis], loop.step)
            found.update({loop.step: count * whole})
            found.update({rest: count} if rest else {})
        sizes = [({loop.axis: size}, count) for size, count in sorted(found.items(), reverse=True) if count]
    return sizes


def joined(parts: Sequence[Sizes]) -> Sizes:
    """Every size of one with every size of the others."""
    found: Sizes = [({}, 1)]
    for part in parts:
        found = [({**tile, **size}, times * count) for tile, times in found for size, count in part]
    return found
