"""The tiles of a group of fused Einsums, with every size known: words moved, room taken.

All figures are of one instance and exact for partial tiles: axes are independent, so that a sum over all tiles is a
product over axes. Knows no text, no search and no time. mapping.md 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from cascadesim.accelerators.mapping.attended import PAIRED, AttendedKeys, Pairs
from cascadesim.accelerators.mapping.nest import Epochs
from cascadesim.accelerators.mapping.problem import MappingProblem, TensorUse, Tile
from cascadesim.accelerators.mapping.runs import (
    ACCUMULATORS,
    GLOBAL_BUFFER,
    BoundLoop,
    BoundRun,
    Resident,
    Sizes,
    cut,
    joined,
    sizes_of,
)
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY


@dataclass(frozen=True)
class TiledGroup:
    """A group with sizes. `reads`, `writes`: tensors that come from outside and that leave."""

    problem: MappingProblem
    spec: SpatialArray
    loops: tuple[BoundLoop, ...]
    runs: tuple[BoundRun, ...]
    reads: tuple[Resident, ...]
    made: tuple[Resident, ...]
    writes: tuple[TensorUse, ...]
    in_flight: int
    stages: Mapping[int, int] | None = None  # of a software pipeline: place of an Einsum -> epochs after its loads
    epochs: Epochs | None = None  # its table, where the text gives one

    @property
    def overlap(self) -> int | None:
        """Tiles that are open at most; None for a software pipeline."""
        return self.in_flight if self.stages is None else None

    def __repr__(self) -> str:
        loops = ", ".join(f"{loop.part} by {loop.step}" for loop in self.loops)
        return f"{type(self).__name__}({', '.join(run.work.name for run in self.runs)}; {loops}; {self.problem!r})"

    def tile(self, depth: int) -> dict[str, int]:
        """The tile inside so many loops, at its largest."""
        return self.largest_tiles[depth]

    @cached_property
    def largest_tiles(self) -> tuple[dict[str, int], ...]:
        """The tiles inside 0, 1, ... all loops."""
        found = [self.problem.whole()]
        for loop in self.loops:
            found.append({**found[-1], loop.axis: min(loop.step, found[-1][loop.axis])})
        return tuple(found)

    @cached_property
    def leaf(self) -> dict[str, int]:
        return self.largest_tiles[-1]

    def own_loops(self, resident: Resident) -> tuple[BoundLoop, ...]:
        """Loops of the only Einsum that reads or makes a tensor, outside of what is kept of it there; none where it
        stays for all Einsums of a tile."""
        inside = resident.depth - len(self.loops)
        if inside <= 0:
            return ()
        return self.user_of(resident).own[:inside]

    def user_of(self, resident: Resident) -> BoundRun:
        """The first Einsum that reads or makes a tensor."""
        return next(run for run in self.runs if resident.tensor == run.work.output.tensor
                    or any(operand.tensor == resident.tensor for operand in run.work.inputs))  # fmt: skip

    @staticmethod
    def tensors(runs: Iterable[BoundRun]) -> set[str]:
        """What Einsums read or make."""
        return {name for run in runs for name in (run.work.output.tensor, *(use.tensor for use in run.work.inputs))}

    def kept_tile(self, resident: Resident) -> dict[str, int]:
        """What is kept of a tensor at its largest: a tile, or a slice of one."""
        if resident.depth <= len(self.loops):
            return self.tile(resident.depth)
        tile = dict(self.leaf)
        for loop in self.own_loops(resident):
            tile[loop.axis] = min(loop.step, tile[loop.axis])
        return tile

    def kept_words(self, resident: Resident) -> int:
        return resident.words(self.kept_tile(resident))

    def room_words(self, resident: Resident) -> int:
        """Room for all copies of what is kept, and for pieces that come before their place is free."""
        return resident.copies * self.kept_words(resident) + resident.ahead * self.arriving_words(resident)

    def arriving_words(self, resident: Resident) -> int:
        """Words of an input that come at once, at most."""
        return resident.words(self.tile(resident.piece)) if resident.piece else self.kept_words(resident)

    def piece_loops(self, resident: Resident) -> tuple[int, ...]:
        """Numbers of the loops that go from piece to piece of what is kept; none where it comes whole."""
        return tuple(number for number in range(resident.depth, resident.piece)
                     if self.loops[number].axis in resident.axes)  # fmt: skip

    def places(self, resident: Resident) -> int:
        """How many copies, or pieces, of a tensor have room."""
        pieces = self.piece_loops(resident)
        return prod(self.loops[number].most for number in pieces) + resident.ahead if pieces else resident.copies

    @cached_property
    def attended(self) -> AttendedKeys | None:
        """Which tiles of queries and keys are visited; None where all are.

        No Einsum works by keys alone then, no memory keeps tiles further out, a sum over queries ends with the last of
        them and is of keys that are all attended, and no running value goes over the keys inside a tile: its last step
        is due.
        """
        found = self.problem.attended
        if found is None or not any(run.work.axes >= PAIRED for run in self.runs) or self.in_slices:
            return None
        if any(read.upstream for read in self.reads):
            return None
        by_keys = any(KEY in run.work.axes and QUERY not in run.work.axes for run in self.runs)
        all_keys = found.first[0] == 0 and found.last[-1] == self.problem.extents[KEY] - 1
        over_queries = any(QUERY in run.work.iterates
                           or (QUERY in run.work.reduced and not (all_keys and self.is_of_all(run)))
                           for run in self.runs)  # fmt: skip
        inside = any(KEY in run.work.iterates for run in self.runs) and KEY not in {loop.axis for loop in self.loops}
        return None if by_keys or over_queries or inside else found

    def is_of_all(self, run: BoundRun) -> bool:
        """Whether a sum stays where it is added up until all tiles of queries and keys have been."""
        made = next(each for each in self.made if each.tensor == run.work.output.tensor)
        return not PAIRED & {loop.axis for loop in self.loops[: made.depth]}

    @cached_property
    def in_slices(self) -> bool:
        """Whether an Einsum has loops of its own, words of an input pass by, or sums come back."""
        passes = any(not read.where for read in self.reads)
        return passes or any(run.own for run in self.runs) or any(made.evicted for made in self.made)

    def pairs(self, depth: int) -> Pairs:
        """Sizes of the tiles of queries and keys that are visited inside so many loops, and how many there are."""
        assert self.attended is not None
        tile = self.tile(depth)
        return self.attended.visited(tile[QUERY], tile[KEY])

    def moving(self, resident: Resident) -> frozenset[str]:
        """Axes along which another tile of a tensor is needed; which of all keys are attended differs by query."""
        tile = self.kept_tile(resident)
        whole = self.attended is not None and KEY in resident.axes and tile[KEY] == self.problem.extents[KEY]
        return resident.axes | {QUERY} if whole else resident.axes

    def filled(self, resident: Resident) -> int:
        """Words that come into the memory of the tensor, all its tiles together.

        A tile comes again where a loop outside moves on, unless nothing inside that loop moved it meanwhile. Where
        tiles are left out, those of a loop that is begun again all come again.
        """
        if not resident.where:  # each use for itself
            return sum(self.words_of(run, use, frozenset()) for run in self.runs for use in run.work.inputs
                       if use.tensor == resident.tensor)  # fmt: skip
        if resident.depth > len(self.loops):  # others have its room between two tiles
            own, inside = self.own_loops(resident), resident._replace(depth=resident.depth - len(self.loops))
            user = self.user_of(resident)
            axes = resident.axes | (user.work.axes & {loop.axis for loop in self.loops})  # not what it comes after
            return sum(count * filled_words(own, inside, self.problem.whole() | tile)[0]
                       for tile, count in self.different_tiles(axes, len(self.loops)))  # fmt: skip
        if self.attended is None:
            return filled_words(self.loops, resident, self.problem.extents)[0]
        depth, moving = resident.depth, self.moving(resident)
        while depth and (self.loops[depth - 1].axis not in moving or self.is_one(self.loops[depth - 1])):
            depth -= 1
        axes = resident.axes | {loop.axis for loop in self.loops[:depth]}
        whole = self.problem.whole()
        return sum(count * resident.words(whole | tile) for tile, count in self.different_tiles(axes, depth))

    def settled(self, kept: Resident) -> int:
        """Loops outside of which what is kept stays: those that it lacks, or of one iteration, outside of it are none.
        """
        depth = kept.depth
        while depth and (self.loops[depth - 1].axis not in kept.axes or self.loops[depth - 1].most == 1):
            depth -= 1
        return depth

    def is_rare(self, run: BoundRun) -> bool:
        """Whether an Einsum comes after a loop, and so in few tiles."""
        return run.after is not None and not self.is_one(self.loops[run.after])

    def is_one(self, loop: BoundLoop) -> bool:
        return loop.step >= self.problem.extents[loop.axis]

    def different_tiles(
        self, axes: frozenset[str], depth: int, own: tuple[BoundLoop, ...] = ()
    ) -> Iterator[tuple[dict[str, int], int]]:
        """The different tiles inside so many loops along some axes, and how many there are; `own`: slices of them."""
        for sizes in product(*self.sizes_of(axes, depth, own)):
            tile: dict[str, int] = {}
            for size, _ in sizes:
                tile |= size
            yield tile, prod(count for _, count in sizes)

    def sizes_of(self, axes: frozenset[str], depth: int, own: tuple[BoundLoop, ...] = ()) -> list[Sizes]:
        """`sizes_of` the tiles inside so many loops; `own`: their slices."""
        pairs = self.pairs(depth) if self.attended is not None and KEY in axes else None
        found = sizes_of(axes, self.problem.extents, self.tile(depth), pairs)
        return [cut(each, own) for each in found] if own else found

    def words_of(self, run: BoundRun, operand: TensorUse, state: frozenset[str]) -> int:
        """Words that an Einsum reads or writes of a tensor, all tiles together, each as often as it takes it.

        A product over axes, but for those that are in one coordinate.
        """
        again = run.taken_again(operand)
        sizes, ones = self.sizes_of(run.work.axes, len(self.loops), run.own), dict.fromkeys(state, 1)
        for dimension in operand.dimensions:
            together = [each for each in sizes if not each[0][0].keys().isdisjoint(dimension.axes)]
            if len(together) > 1:
                sizes = [*(each for each in sizes if each not in together), joined(together)]
        walked = run.work.axes
        total = prod(dimension.span({**self.leaf, **ones}) for dimension in operand.dimensions
                     if walked.isdisjoint(dimension.axes))  # fmt: skip
        for each in sizes:
            axes = each[0][0].keys()
            own = [dimension for dimension in operand.dimensions if not axes.isdisjoint(dimension.axes)]
            waves = [axis for axis in again if axis in axes]
            total *= sum(count * prod(run.waves(axis, tile[axis]) for axis in waves)
                         * prod(dimension.span({**self.leaf, **tile, **ones}) for dimension in own)
                         for tile, count in each)  # fmt: skip
        return total

    def points(self, run: BoundRun) -> int:
        """Points of an Einsum, those of pairs that are attended."""
        work, axes, pairs = run.work, run.work.axes, 1
        if self.attended is not None and axes >= PAIRED:
            axes -= PAIRED
            pairs = self.attended.pairs(min(walk.grain for walk in work.walks[KEY]))
        return pairs * prod(work.points(axis, self.problem.extents[axis]) for axis in axes)

    @cached_property
    def begun_words(self) -> int:
        """Words that running values begin with, which come from DRAM."""
        return sum(operand.words(self.problem.whole()) for _, operand in self.begins)

    @cached_property
    def begins(self) -> tuple[tuple[str, TensorUse], ...]:
        """States that the group walks, with the inputs that they begin with."""
        made = {run.work.output.tensor for run in self.runs if run.work.iterates}
        return tuple((state, operand) for state, operand in self.problem.starts if state in made)

    def stored_from(self, memory: str) -> int:
        """Words of results that were added up in a memory beside the arrays and leave from there."""
        return sum(self.stored(operand) for operand in self.writes if self.made_in(operand) == memory)

    def returned(self, made: Resident) -> int:
        """Words of sums that come back to be added up further, as their tile left before: all visits but the first."""
        return self.filled(made) - made.words(self.problem.whole()) if made.evicted else 0

    def stored(self, operand: TensorUse) -> int:
        """Words of a result that leave, unfinished sums among them; of scores those of the tiles that are visited."""
        whole, made = self.problem.whole(), next(each for each in self.made if each.tensor == operand.tensor)
        if self.attended is None or not operand.axes >= PAIRED:
            return operand.words(whole) + self.returned(made)
        depth = len(self.loops) if made.state & operand.axes else made.depth  # a sum leaves when its loop has ended
        tiles = self.different_tiles(operand.axes, depth)
        return sum(count * operand.words(whole | tile) for tile, count in tiles)

    @cached_property
    def buffered(self) -> Mapping[str, Resident]:
        """Tensors that the group has in the buffer, or in accumulators."""
        found = {each.tensor: each for each in (*self.reads, *self.made) if each.where in (GLOBAL_BUFFER, ACCUMULATORS)}
        for run in self.runs:
            for use in run.work.inputs:
                if use.tensor in self.problem.staying:
                    found.setdefault(use.tensor, Resident(use.tensor, (use,), use.axes, 0, 1, GLOBAL_BUFFER))
        return found

    def made_in(self, operand: TensorUse) -> str:
        """The memory in which a result was added up and from which it leaves; "registers" or "" from its unit."""
        return next(made.where for made in self.made if made.tensor == operand.tensor)

    def feeding(self, run: BoundRun) -> Iterator[tuple[BoundRun, bool]]:
        """Einsums of the group whose results it reads, and whether those of an earlier step."""
        members = self.by_place
        return ((members[place], previous) for place, previous in self.problem.feeds[run.place] if place in members)

    @cached_property
    def by_place(self) -> Mapping[int, BoundRun]:
        return {run.place: run for run in self.runs}


def inputs_of(problem: MappingProblem, members: Sequence[int]) -> dict[str, tuple[TensorUse, ...]]:
    """Tensors that a group reads from outside the buffer, with the ways in which it uses them."""
    own = {*problem.staying, *(problem.work[member].output.tensor for member in members)}
    found: dict[str, dict[TensorUse, None]] = {}
    for member in members:
        for operand in problem.work[member].inputs:
            if operand.tensor not in own:
                found.setdefault(operand.tensor, {})[operand] = None
    return {tensor: tuple(operands) for tensor, operands in found.items()}


def filled_words(
    loops: Sequence[BoundLoop], resident: Resident, sizes: Tile, depth: int = 0
) -> tuple[int, bool]:
    """Words moved inside so many loops, and whether that is a single tile."""
    if depth == resident.depth:
        return resident.words(sizes), True
    loop = loops[depth]
    whole, rest = divmod(sizes[loop.axis], loop.step)
    parts = [(size, count) for size, count in ((loop.step, whole), (rest, 1)) if size and count]
    words, single = 0, True
    for size, count in parts:
        own, single = filled_words(loops, resident, {**sizes, loop.axis: size}, depth + 1)
        words += count * own
    if whole + bool(rest) == 1:
        return words, single
    if loop.axis not in resident.axes and single:
        return own, True
    return words, False


def named_loops(problem: MappingProblem, steps: Sequence[tuple[str, int]]) -> tuple[BoundLoop, ...]:
    """Loops over axes in steps, outermost first, named by their parts: p1 around p0; p2, p1 around p0."""
    inside = {axis: sum(other == axis for other, _ in steps) for axis, _ in steps}
    found, outer = [], problem.whole()
    for axis, step in steps:
        single = step == 1 and inside[axis] == 1 and outer[axis] == problem.extents[axis]
        found.append(BoundLoop(axis if single else f"{axis}{inside[axis]}", axis, step, outer[axis]))
        outer[axis] = step
        inside[axis] -= 1
    return tuple(found)
