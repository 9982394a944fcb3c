"""The closed form of one Einsum over arrays of sizes of tiles: what `BoundGroup` counts for one mapping, for a million
in a second.

Of Einsums whose tensors walk one axis a coordinate, whole: products, element-wise work. Knows one order of loops, one
choice of ranks in space, one place for each input; chooses nothing (`single`). mapping.md 2: closed forms over arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.mapping.legality import Draft, Kept, outputs_of
from cascadesim.accelerators.mapping.mapper.candidates import named_loops
from cascadesim.accelerators.mapping.problem import MappingProblem, TensorUse, Work
from cascadesim.accelerators.mapping.runs import ARRAY_2D, BoundRun
from cascadesim.accelerators.spec import SpatialArray

Counts: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bits: TypeAlias = NDArray[np.bool_]
Sizes: TypeAlias = Mapping[str, Counts]


@dataclass(frozen=True)
class Way:
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
        """Words of an input that come from DRAM: `runs.filled_words`."""
        return self._filled(use.axes, self.tiles[0], 0, self.kept[use.tensor])[0]

    def _filled(self, axes: frozenset[str], sizes: Sizes, number: int, depth: int) -> tuple[Counts, Bits]:
        """Words moved inside so many loops, and where that is a single tile."""
        if number == depth:
            return _words(axes, sizes), np.array(True)
        axis, step = self.order[number], self.steps[number]
        again = axis in self.order[number + 1 : depth]
        size = sizes[axis]
        taken = np.minimum(step, size)
        whole, rest = size // taken, size % taken
        count = whole + (rest > 0)
        if axis in axes and not again:
            words, single = self._filled(axes, sizes, number + 1, depth)
            return words, single & (count == 1)
        words, single = self._filled(axes, {**sizes, axis: taken}, number + 1, depth)
        if axis in axes or again:
            of_rest, rest_single = self._filled(axes, {**sizes, axis: np.maximum(rest, 1)}, number + 1, depth)
            total = whole * words + np.where(rest > 0, of_rest, 0)
            single = np.where(rest > 0, rest_single, single)
        else:
            total = count * words
        if axis in axes:
            return np.where(count == 1, words, total), single & (count == 1)
        return np.where(single | (count == 1), words, total), single

    def in_pieces(self, use: TensorUse) -> Bits:
        """Where an input comes piece by piece, each with the first tile that uses it."""
        depth, inner = self.kept[use.tensor], self.innermost(use)
        several = _any(self.most[number] > 1 for number in range(depth, inner) if self.order[number] in use.axes)
        return several & self.overlapped

    def room(self, use: TensorUse) -> Counts:
        """Words that the buffer has for an input: two tiles where a loop outside moves on, or one and a piece."""
        depth, inner = self.kept[use.tensor], self.innermost(use)
        words = _words(use.axes, self.tiles[depth])
        moves = _any(self.most[number] > 1 for number in range(depth))
        pieces = words + _words(use.axes, self.tiles[max(depth, inner)])
        return np.where(self.in_pieces(use), pieces, words * (1 + (moves & self.overlapped)))

    @cached_property
    def footprint_words(self) -> Counts:
        """Room that tiles take in the buffer, (ways,); what is added up stays outside of the first loop that sums."""
        sums, made = np.array(0), self.work.output.axes
        for number in reversed(range(len(self.order))):
            if self.order[number] in self.work.reduced:
                moves = _any(each > 1 for each in self.most[:number]) & self.overlapped
                sums = np.where(self.most[number] > 1, (1 + moves) * _words(made, self.tiles[number]), sums)
        return sum((self.room(use) for use in self.work.inputs), sums)

    @cached_property
    def carried(self) -> Bits:
        """Where results are added up over several tiles, in the buffer."""
        return _any(self.most[number] > 1 for number, axis in enumerate(self.order) if axis in self.work.reduced)

    def read_words(self, use: TensorUse) -> Counts:
        """Words that the Einsum reads of an input from the buffer, all tiles together: `BoundGroup.words_of`."""
        again = self.run.taken_again(use)
        return _product([np.array(self.problem.extents[axis]) if axis in use.axes
                         else self.waves(axis) if axis in again else self.number(axis) for axis in self.work.axes])

    def waves(self, axis: str) -> Counts:
        """Steps in time along an axis, all tiles together."""
        extent, size = self.problem.extents[axis], self.leaf.get(axis)
        side = next((side for spatial, _, side in self.run.space if spatial == axis), None)
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
    def busy_cycles(self) -> Counts:
        """Cycles of the unit, all tiles together."""
        return self.run.op_cycles * _product(map(self.waves, self.work.axes))

    @cached_property
    def dram_words(self) -> Counts:
        """Words of inputs, as often as they come, and of what leaves, (ways,)."""
        return sum((self.filled(use) for use in self.work.inputs), np.array(self.stored_words))

    @property
    def stored_words(self) -> int:
        whole = self.problem.whole()
        return sum(use.words(whole) for use in outputs_of(self.problem, (self.run.place,)))

    @cached_property
    def port_words(self) -> Counts:
        """Words that the ports of the buffer move, (ways,): `BoundGroup.moved_words`."""
        total = sum(map(self.read_words, self.work.inputs), self.dram_words - self.stored_words)
        made = prod(self.problem.extents[axis] for axis in self.work.output.axes)
        visits = _product(self.number(axis) for axis in self.work.reduced)
        return total + np.where(self.carried, 2 * made * visits + self.stored_words, 0)

    @cached_property
    def bound_cycles(self) -> Floats:
        """Cycles of the busiest of the array, the DRAM channel and the ports, (ways,)."""
        word, spec = self.spec.word_bytes, self.spec
        moving = np.maximum(self.dram_words * (word / spec.dram_bytes_per_cycle),
                            self.port_words * (word / spec.global_buffer.bytes_per_cycle))  # fmt: skip
        cycles: Floats = np.maximum(np.maximum(self.busy_cycles, moving), 1.0)
        return cycles

    @cached_property
    def arriving(self) -> Sequence[Counts]:
        """Words of each input that come at once: a tile, or a piece of one."""
        return [_words(use.axes, self.tiles[max(self.kept[use.tensor], self.overlapped * self.innermost(use))])
                for use in self.work.inputs]  # fmt: skip

    @cached_property
    def channel_cycles(self) -> Floats:
        """Cycles of the DRAM channel, each transfer of a tile in whole ones."""
        return sum(self.load_cycles, self.store_cycles)

    @cached_property
    def store_cycles(self) -> Floats:
        """Those of what leaves."""
        words = _words(self.work.output.axes, self.tiles[-1])
        cycles: Floats = np.ceil(words * (self.spec.word_bytes / self.spec.dram_bytes_per_cycle)) * (
            self.stored_words // words)  # fmt: skip
        return cycles

    @cached_property
    def load_cycles(self) -> Sequence[Floats]:
        """Those of each input."""
        per_word = self.spec.word_bytes / self.spec.dram_bytes_per_cycle
        return [np.ceil(words * per_word) * (self.filled(use) // words)
                for words, use in zip(self.arriving, self.work.inputs, strict=True)]  # fmt: skip

    @cached_property
    def paced_cycles(self) -> Floats:
        """Cycles where loads, steps and stores overlap round by round (`costs.paced_cycles`).

        Pieces of an input that stays come in the first round of the loops that it lacks, results leave in the last one
        of the loops that are summed over: the channel may take longer than those rounds.
        """
        rounds = [frozenset(number for number in range(self.kept[use.tensor], self.innermost(use))
                            if self.order[number] not in use.axes) for use in self.work.inputs]  # fmt: skip
        sums = frozenset(number for number, axis in enumerate(self.order) if axis in self.work.reduced)
        spread = [~self.in_pieces(use) for use in self.work.inputs]
        total, loops = np.array(0.0), sorted(sums.union(*rounds))
        for states in product(*(("first", "middle", "last") if (self.most[loop] > 1).any() else ("first",)
                                for loop in loops)):  # fmt: skip
            stands = dict(zip(loops, states, strict=True))
            share = _product([_share(self.most[loop], state) for loop, state in stands.items()])
            moved = np.array(0.0)
            for cycles, own, always in zip(self.load_cycles, rounds, spread, strict=True):
                alone = cycles * _product([self.most[loop] for loop in own])
                moved = moved + np.where(always, cycles, alone * all(stands[loop] == "first" for loop in own))
            stored = self.store_cycles * _product([self.most[loop] for loop in sums])
            moved = moved + stored * _product([(self.most[loop] == 1) | (stands[loop] == "last") for loop in sums])
            total = total + share * np.maximum(self.bound_cycles, moved)
        return total

    @cached_property
    def first_cycles(self) -> Floats:
        """Cycles of the first tile by itself: its loads, its steps, its drain and its store."""
        leaf, per_word = self.tiles[-1], self.spec.word_bytes / self.spec.dram_bytes_per_cycle
        loads = sum((np.ceil(words * per_word) for words in self.arriving), np.array(0.0))
        stores = _words(self.work.output.axes, leaf) * per_word * bool(self.stored_words)
        sides = {axis: side for axis, _, side in self.run.space}
        steps = _product(-(-leaf[axis] // sides[axis]) if axis in sides else leaf[axis] for axis in self.work.axes)
        drained = np.array(0)
        if self.run.unit == ARRAY_2D and self.run.space:
            axis, _, rows = self.run.space[0]
            drained = np.minimum(leaf[axis], rows)
        cycles: Floats = loads + self.run.op_cycles * steps + drained + stores
        return cycles

    @cached_property
    def least_cycles(self) -> Floats:
        """The bound, with transfers in whole cycles and the first tile by itself."""
        return self._with_first(np.maximum(self.bound_cycles, self.channel_cycles))

    @cached_property
    def cycles(self) -> Floats:
        """That, where loads, steps and stores overlap round by round: `costs.cost`."""
        return self._with_first(np.maximum(self.channel_cycles, self.paced_cycles))

    def _with_first(self, bound: Floats) -> Floats:
        tiles = self.problem.instances * _product(self.most)
        cycles: Floats = np.maximum(bound, self.first_cycles / self.problem.instances + bound * (tiles - 1) / tiles)
        return cycles

    @cached_property
    def fits(self) -> Bits:
        return self.footprint_words <= self.spec.buffer_words

    def take(self, which: Counts) -> Way:
        """Some of the sizes."""
        leaf = {axis: sizes[which] for axis, sizes in self.leaf.items()}
        return replace(self, leaf=leaf, outer=None if self.outer is None else self.outer[which])

    def draft(self) -> Draft:
        """The way, of one size, as any other mapping; loops of one iteration are none."""
        looped = [number for number, most in enumerate(self.most) if most.item() > 1]
        loops = named_loops(self.problem, [(self.order[number], self.steps[number].item()) for number in looped])

        def depth(outside: int) -> int:
            return sum(number < outside for number in looped)

        kept = {}
        for use in self.work.inputs:
            own, inner = depth(self.kept[use.tensor]), depth(self.innermost(use))
            pieces = self.overlapped and any(loop.axis in use.axes for loop in loops[own:inner])
            kept[use.tensor] = Kept(own, self.overlapped and own > 0, inner if pieces else 0)
        tile = {axis: size.item() for axis, size in self.tiles[-1].items()}
        space = tuple((axis, self.work.block(axis, tile[axis]), side) for axis, _, side in self.run.space)
        spaces = {self.run.place: (self.run.unit, space, self.run.time)}
        return Draft(self.problem, self.spec, (self.run.place,), loops, spaces, {}, kept,
                     None if self.overlapped else 1)  # fmt: skip


def _share(most: Counts, state: str) -> Floats:
    """Share of the iterations of a loop that are the first one, the last one, or others; a single one is the first."""
    rounds: Floats = (np.maximum(most - 2, 0) if state == "middle" else (most > 1) | (state == "first")) / most
    return rounds


def _words(axes: frozenset[str], sizes: Sizes) -> Counts:
    return _product(sizes[axis] for axis in axes)


def _product(factors: Iterable[Counts] | Iterable[Floats]) -> Counts:
    found = np.array(1)
    for factor in factors:
        found = found * factor
    return found


def _any(found: Iterable[Bits]) -> Bits:
    either = np.array(False)
    for each in found:
        either = either | each
    return either
