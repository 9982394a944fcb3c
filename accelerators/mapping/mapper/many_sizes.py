"""One Einsum over arrays of sizes of tiles: the words that it moves and the room that it takes, as `TiledGroup` counts
them for one mapping, for a million in a second.

Of Einsums whose tensors walk one axis a coordinate, whole: products, element-wise work. Knows one order of loops, one
choice of ranks in space, one place for each input; no time (`many_cycles`). mapping.md 2: closed forms over arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.mapping.legality import outputs_of
from cascadesim.accelerators.mapping.memories import PIECES_AHEAD
from cascadesim.accelerators.mapping.problem import MappingProblem, TensorUse, Work
from cascadesim.accelerators.mapping.runs import ACCUMULATORS, ARRAY_2D, BoundRun, home
from cascadesim.accelerators.spec import OnChipMemory, SpatialArray

Counts: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bits: TypeAlias = NDArray[np.bool_]
Sizes: TypeAlias = Mapping[str, Counts]


@dataclass(frozen=True)
class ManyTiles:
    """Loops in an order, outermost first, over tiles of arrays of sizes; the innermost axis may be looped over twice.

    `leaf`: axis -> sizes of the innermost tile, (ways,) int64; `outer`: those of the outer loop over the innermost
    axis, multiples of the inner ones. `kept`: input -> loops outside its tile. `overlapped`: two tiles are open.
    """

    problem: MappingProblem
    spec: SpatialArray
    run: BoundRun
    order: tuple[str, ...]
    leaf: Sizes
    outer: Counts | None
    kept: Mapping[str, int]
    overlapped: bool = True

    @property
    def work(self) -> Work:
        return self.run.work

    @cached_property
    def steps(self) -> tuple[Counts, ...]:
        """Step of each loop, (ways,)."""
        twice = self.order.index(self.order[-1]) if self.outer is not None else None
        return tuple(self.outer if number == twice and self.outer is not None else self.leaf[axis]
                     for number, axis in enumerate(self.order))

    @cached_property
    def tiles(self) -> tuple[Sizes, ...]:
        """Tiles inside 0, 1, ... all loops."""
        found: list[Sizes] = [{axis: np.array(self.problem.extents[axis]) for axis in self.work.axes}]
        for axis, step in zip(self.order, self.steps, strict=True):
            found.append({**found[-1], axis: np.minimum(step, found[-1][axis])})
        return tuple(found)

    @cached_property
    def most(self) -> tuple[Counts, ...]:
        """Iterations of each loop where what is outside of it is whole."""
        return tuple(-(-self.tiles[number][axis] // step)
                     for number, (axis, step) in enumerate(zip(self.order, self.steps, strict=True)))  # fmt: skip

    def innermost(self, use: TensorUse) -> int:
        """Loops outside the smallest tile that is kept of an input."""
        return max((number + 1 for number, axis in enumerate(self.order) if axis in use.axes), default=0)

    def filled(self, use: TensorUse) -> Counts:
        """Words of an input that come into the buffer: `tiling.filled_words`."""
        return self.filled_inside(use, self.kept[use.tensor])

    def filled_inside(self, use: TensorUse, depth: int) -> Counts:
        """Words of an input that come to a tile inside so many loops."""
        return filled_words_of(tuple(zip(self.order, self.steps, strict=True))[:depth], use.axes, self.tiles[0])[0]

    def in_pieces(self, use: TensorUse) -> Bits:
        """Where an input comes piece by piece, each with the first tile that uses it."""
        depth, inner = self.kept[use.tensor], self.innermost(use)
        several = any_of(self.most[number] > 1 for number in range(depth, inner) if self.order[number] in use.axes)
        return several & self.overlapped

    def room(self, use: TensorUse) -> Counts:
        """Words that the buffer has for an input: two tiles where a loop outside moves on, or one and a piece."""
        depth, inner = self.kept[use.tensor], self.innermost(use)
        words = words_of(use.axes, self.tiles[depth])
        moves = any_of(self.most[number] > 1 for number in range(depth))
        pieces = words + words_of(use.axes, self.tiles[max(depth, inner)])
        return np.where(self.in_pieces(use), pieces, words * (1 + (moves & self.overlapped)))

    @cached_property
    def footprint_words(self) -> Counts:
        """Room that tiles take in the buffer, (ways,)."""
        return sum((self.room(use) for use in self.work.inputs), self.sum_words * (not self.accumulates))

    @property
    def accumulates(self) -> bool:
        """Whether what is added up stays in accumulators."""
        return home(self.spec, self.run.unit) == ACCUMULATORS

    @cached_property
    def sum_words(self) -> Counts:
        """Room that what is added up takes where two tiles are open, (ways,)."""
        return self.sums(np.array(2))

    def sums(self, tiles: Counts) -> Counts:
        """Room that what is added up takes, outside of the first loop that sums; in a second place where it has fewer
        pieces than so many tiles: `placing._is_doubled`."""
        sums, made = np.array(0), self.work.output.axes
        if self.work.reduced and not self.run.has_registers:
            sums = words_of(made, self.tiles[-1])
        for number in reversed(range(len(self.order))):
            if self.order[number] in self.work.reduced:
                moves = any_of(each > 1 for each in self.most[:number]) & self.overlapped & (
                    self.pieces_in_turn(number) < tiles)  # fmt: skip
                sums = np.where(self.most[number] > 1, (1 + moves) * words_of(made, self.tiles[number]), sums)
        return sums

    def pieces_in_turn(self, depth: int) -> Counts:
        """Pieces of what is added up inside so many loops: `placing.pieces_in_turn`."""
        pieces, outside = np.array(1), np.array(False)
        for number in reversed(range(depth, len(self.order))):
            if self.order[number] in self.work.reduced:
                outside = outside | (self.most[number] > 1)
            else:
                pieces = np.where(outside, pieces, pieces * self.most[number])
        return pieces

    @cached_property
    def carried(self) -> Bits:
        """Where results are added up over several tiles, in the buffer or in accumulators."""
        return any_of(self.most[number] > 1 for number, axis in enumerate(self.order) if axis in self.work.reduced)

    def read_words(self, use: TensorUse) -> Counts:
        """Words that the Einsum reads of an input from the buffer, all tiles together: `BoundGroup.words_of`."""
        again = self.run.taken_again(use)
        return product_of([np.array(self.problem.extents[axis]) if axis in use.axes
                         else self.waves(axis) if axis in again else self.number(axis) for axis in self.work.axes])

    @cached_property
    def drained(self) -> Counts:
        """Cycles until the results of a tile have left the 2D array: `BoundRun.drain_cycles`."""
        if self.run.unit != ARRAY_2D or not self.run.space:
            return np.array(0)
        over_rows = self.run.space[0]
        return np.minimum(self.tiles[-1].get(over_rows.axis, np.array(1)), over_rows.size)

    def waves(self, axis: str) -> Counts:
        """Steps in time along an axis, all tiles together."""
        extent, size = self.problem.extents[axis], self.leaf.get(axis)
        side = next((each.size for each in self.run.space if each.axis == axis), None)
        if side is None or size is None:
            return np.array(extent if side is None else -(-extent // side))
        whole, rest = extent // size, extent % size
        waves: Counts = whole * -(-size // side) + -(-rest // side)
        return waves

    def number(self, axis: str) -> Counts:
        """Tiles along an axis."""
        size = self.leaf.get(axis)
        return np.array(1) if size is None else -(-self.problem.extents[axis] // size)

    @cached_property
    def from_dram(self) -> Sequence[Counts]:
        """Words of each input that come from DRAM, (ways,) each: once for each tile of it that the largest memory
        behind the buffer keeps, where there is one."""
        found = []
        for use, depths in zip(self.work.inputs, self.depths_behind, strict=True):
            words = self.filled(use)
            for depth in range(self.kept[use.tensor]):
                words = np.where(depths == depth, self.filled_inside(use, depth), words)
            found.append(words)
        return found

    @cached_property
    def depths_behind(self) -> Sequence[Counts]:
        """Loops outside the tile of each input that the largest memory behind the buffer keeps, (ways,) each: of all
        that fit together those that save most words. As many as outside the one in the buffer where it keeps none."""
        inner = [self.kept[use.tensor] for use in self.work.inputs]
        best = [np.array(depth) for depth in inner]
        if not self.spec.memories:
            return best
        room, least = self.spec.words_of(self.behind), sum(map(self.filled, self.work.inputs))
        for depths in product(*(range(depth + 1) for depth in inner)):
            words, taken = np.array(0), np.array(0)
            for use, depth, own in zip(self.work.inputs, depths, inner, strict=True):
                words = words + self.filled_inside(use, depth)
                taken = taken + (self.room_behind(use, depth) if depth < own else 0)
            better = (taken <= room) & (words < least)
            least = np.where(better, words, least)
            best = [np.where(better, depth, old) for depth, old in zip(depths, best, strict=True)]
        return best

    def settled(self, use: TensorUse, depth: int) -> int:
        """Loops outside of which a tile stays: those that it lacks, or of one iteration, outside of it are none."""
        while depth and (self.order[depth - 1] not in use.axes or (self.most[depth - 1] == 1).all()):
            depth -= 1
        return depth

    @property
    def behind(self) -> OnChipMemory:
        """The largest memory between DRAM and the buffer."""
        return max(self.spec.memories, key=lambda memory: memory.capacity_bytes)

    def room_behind(self, use: TensorUse, depth: int) -> Counts:
        """Words that a tile of an input takes there: `BoundGroup.room_upstream`."""
        moves = any_of(self.most[number] > 1 for number in range(depth)) | (self.problem.instances > 1)
        arriving = words_of(use.axes, self.tiles[max(self.kept[use.tensor], self.innermost(use))])
        return words_of(use.axes, self.tiles[depth]) + PIECES_AHEAD * arriving * (moves & self.overlapped)

    @cached_property
    def dram_words(self) -> Counts:
        """Words of inputs, as often as they come, and of what leaves, (ways,)."""
        return sum(self.from_dram, np.array(self.stored_words))

    @property
    def stored_words(self) -> int:
        whole = self.problem.whole()
        return sum(use.words(whole) for use in outputs_of(self.problem, (self.run.place,)))

    @cached_property
    def port_words(self) -> Counts:
        """Words that the ports of the buffer move, (ways,): `BoundGroup.moved_words`."""
        total = sum((self.read_words(use) + self.filled(use) for use in self.work.inputs), np.array(0))
        return total if self.accumulates else total + self.summed_words

    @cached_property
    def summed_words(self) -> Counts:
        """Words that are added up in the buffer, or in accumulators, over several tiles, and leave from there."""
        made = prod(self.problem.extents[axis] for axis in self.work.output.axes)
        in_memory = bool(self.work.reduced) and not self.run.has_registers
        visits = product_of((self.waves if in_memory else self.number)(axis) for axis in self.work.reduced)
        words: Counts = np.where(self.carried | in_memory, 2 * made * visits + self.stored_words, 0)
        return words

    @cached_property
    def fits(self) -> Bits:
        own, fits = self.spec.accumulators, self.footprint_words <= self.spec.buffer_words
        return fits & (self.sum_words <= self.spec.words_of(own)) if self.accumulates and own is not None else fits

    def take(self, which: Counts) -> Self:
        """Some of the sizes."""
        leaf = {axis: sizes[which] for axis, sizes in self.leaf.items()}
        return replace(self, leaf=leaf, outer=None if self.outer is None else self.outer[which])


def filled_words_of(
    loops: Sequence[tuple[str, Counts]], axes: frozenset[str], sizes: Sizes
) -> tuple[Counts, Bits]:  # fmt: skip
    """Words of a tensor that come to a tile inside loops, by axis and steps, and where that is a single tile:
    `tiling.filled_words` of many sizes."""
    if not loops:
        return words_of(axes, sizes), np.array(True)
    (axis, step), *inner = loops
    again = axis in (other for other, _ in inner)
    size = sizes[axis]
    taken = np.minimum(step, size)
    whole, rest = size // taken, size % taken
    count = whole + (rest > 0)
    if axis in axes and not again:
        words, single = filled_words_of(inner, axes, sizes)
        return words, single & (count == 1)
    words, single = filled_words_of(inner, axes, {**sizes, axis: taken})
    if axis in axes or again:
        of_rest, rest_single = filled_words_of(inner, axes, {**sizes, axis: np.maximum(rest, 1)})
        total = whole * words + np.where(rest > 0, of_rest, 0)
        single = np.where(rest > 0, rest_single, single)
    else:
        total = count * words
    if axis in axes:
        return np.where(count == 1, words, total), single & (count == 1)
    return np.where(single | (count == 1), words, total), single


def words_of(axes: frozenset[str], sizes: Sizes) -> Counts:
    return product_of(sizes[axis] for axis in axes)


def product_of(factors: Iterable[Counts] | Iterable[Floats]) -> Counts:
    found = np.array(1)
    for factor in factors:
        found = found * factor
    return found


def any_of(found: Iterable[Bits]) -> Bits:
    either = np.array(False)
    for each in found:
        either = either | each
    return either
