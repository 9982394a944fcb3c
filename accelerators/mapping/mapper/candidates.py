"""The ways of fusing neighbouring Einsums that a search looks at: shared loops, their order and steps, units and space.

Every set of axes that the Einsums may share, tiles of the array's sides and whole extents, all orders of the loops, one
axis looped over twice; units by structure, and so that both arrays are busy alike. Knows no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import chain, permutations, product
from math import ceil, prod

from cascadesim.accelerators.binding import DEPTHS
from cascadesim.accelerators.mapping.legality import Draft, illegal, illegal_steps
from cascadesim.accelerators.mapping.problem import MappingProblem, Tile, Work
from cascadesim.accelerators.mapping.runs import (
    ARRAY_1D,
    ARRAY_2D,
    UNITS,
    BoundLoop,
    Space,
    Spread,
    bound_run,
    executed,
    laid,
    operations_of,
    sides,
    stationary,
)
from cascadesim.accelerators.mapping.tiling import named_loops
from cascadesim.accelerators.spec import SpatialArray

Options = Mapping[str, tuple[int, Space, Space]]  # unit -> cycles of a tile, the fastest space, a frugal one

MANY_EINSUMS = 24  # from here on fewer ways are compared; assumed: all of one attention are below, and fast
_NOWHERE: Space = (ARRAY_1D, (), ())  # of what no unit can do, which `illegal` says
FEW_EINSUMS = 6  # assumed: a norm, a softmax or a router has fewer; a search of more would take seconds
MOST_IDLE = 17 / 16  # assumed: of the lanes, rounded up to whole rounds; less makes no difference worth a search
NEAR = 4  # assumed: a tile that is better by far is found by powers of two
SMALLEST_BITS = 4  # of the sizes of tiles that are tried on every array; assumed: smaller ones leave most of it idle


@dataclass(frozen=True)
class Neighbours:
    """Neighbouring Einsums that may be fused."""

    problem: MappingProblem
    spec: SpatialArray
    members: tuple[int, ...]
    fine: bool = False
    near: Mapping[str, int] | None = None  # tiles of which one axis has another size; instead of all others
    slices: bool = True  # Einsums may have loops of their own
    squares: bool = False  # tiles as long as the side of the square that fills the buffer, too: they move few words
    known: dict[object, tuple[dict[int, Space], ...]] = field(default_factory=dict, compare=False)  # `_assigned`

    @property
    def frugally(self) -> bool:
        return len(self.problem.work) < MANY_EINSUMS  # whether spaces that read fewer words are looked at

    def works(self, members: Sequence[int]) -> list[Work]:
        return [self.problem.work[member] for member in members]

    def drafts(self) -> Iterator[Draft]:
        """Every way of sharing loops that is tried."""
        for inner, closed, shared in self.shapes():
            if next(illegal(self.probe(inner, closed, shared)), None) is not None:
                continue
            for leaf in self._leaves(inner, shared):
                for loops in self._orders(leaf, shared, inner, closed):
                    after = {}
                    if closed is not None:
                        place = next((number for number, loop in enumerate(loops) if loop.axis == closed), None)
                        if place is None:
                            continue
                        after = dict.fromkeys(self.members[len(inner):], place)
                    tile = self.problem.whole() | {loop.axis: loop.step for loop in loops}
                    for spaces in self._spaces(tile, after, loops):
                        draft = Draft(self.problem, self.spec, self.members, loops, spaces, after, {})
                        whole = shared - draft.axes  # axes that are walked inside a tile: steps are no loop there
                        carried = any(work.iterates & whole for work in self.works(self.members))
                        reasons = chain(illegal(draft) if carried else (), illegal_steps(draft))
                        if next(reasons, None) is None:
                            yield draft

    def probe(self, inner: Sequence[int], closed: str | None, shared: frozenset[str]) -> Draft:
        """The group with a loop over each shared axis: what is illegal of it is so at all sizes."""
        loops = named_loops(self.problem, [(axis, 1) for axis in sorted(shared)])
        after = {} if closed is None else dict.fromkeys(
            self.members[len(inner):], next(number for number, loop in enumerate(loops) if loop.axis == closed))
        spaces = next(self._spaces(dict.fromkeys(self.problem.extents, 1), after, loops))
        return Draft(self.problem, self.spec, self.members, loops, spaces, after, {})

    def shapes(self) -> Iterator[tuple[tuple[int, ...], str | None, frozenset[str]]]:
        """The Einsums inside all loops, the axis after whose loop the others come, and the axes that may be shared."""
        for cut in range(len(self.members), 0, -1):
            inner, last = self.members[:cut], self.members[cut:]
            common = frozenset.intersection(*(work.axes for work in self.works(inner)))
            if not last:
                yield inner, None, self._complete(common, inner, None)
                continue
            for closed in sorted(frozenset().union(*(common - work.axes for work in self.works(last)))):
                carried = any(closed in work.reduced | work.iterates for work in self.works(inner))
                if not carried or any(closed in work.axes for work in self.works(last)):
                    continue
                shared = frozenset(axis for axis in common
                                   if axis == closed or all(axis in work.axes for work in self.works(last)))
                shared = self._complete(shared, self.members, closed)
                if closed in shared:
                    yield inner, closed, shared

    def _complete(self, shared: frozenset[str], members: tuple[int, ...], closed: str | None) -> frozenset[str]:
        """Take out axes whose sums are read inside the group, or along which a value is not read as it was made: their
        loop has to end before."""
        works = self.works(members)
        for reader in works:
            for operand in reader.inputs:
                for producer in works:
                    if producer.output.tensor == operand.tensor and producer is not reader:
                        shared -= (producer.reduced - producer.iterates) - {closed}
                        shared -= (producer.output.axes - operand.axes - producer.iterates) - {closed}
                        shared -= (producer.iterates - {closed}) if operand.final else frozenset()
        return shared

    def shortest(self, draft: Draft) -> Tile | None:
        """The tile with the shortest step of the innermost loop; None where no shorter one is left."""
        grain = self._grain(draft.loops[-1].axis) if draft.loops else 1
        if not draft.loops or draft.loops[-1].step <= max(2, grain):
            return None
        return {**draft.leaf, draft.loops[-1].axis: grain}

    def narrowed(self, draft: Draft, step: int) -> Iterator[Draft]:
        """The same with shorter steps of its innermost loop, tiles of the text whole; nothing where none is left."""
        axis = draft.loops[-1].axis
        step = step // self._grain(axis) * self._grain(axis)
        if not 1 < step < draft.loops[-1].step:
            return
        loops = (*draft.loops[:-1], draft.loops[-1]._replace(step=step))
        tile = self.problem.whole() | {loop.axis: loop.step for loop in loops}
        for spaces in self._spaces(tile, draft.after, loops):
            yield Draft(self.problem, self.spec, self.members, loops, spaces, draft.after, {})

    @cached_property
    def _best_spaces(self) -> Callable[[int, tuple[int, ...]], Options]:
        """`best_spaces` of a member for the sizes of its own axes by name; many tiles of many groups share them."""
        problem, spec, frugally = self.problem, self.spec, self.frugally

        def found(member: int, sizes: tuple[int, ...]) -> Options:
            work = problem.work[member]
            tile = problem.whole() | dict(zip(sorted(work.axes), sizes, strict=True))
            return best_spaces(work, spec, tile, frugally)

        known: Callable[[int, tuple[int, ...]], Options]
        known = problem.known.setdefault(("spaces", spec), cache(found))
        return known

    @cached_property
    def instance_axes(self) -> tuple[str, ...]:
        """Axes that every operand has: nothing is shared between their points, which run one after another."""
        works = self.problem.work
        common = frozenset.intersection(*(operand.axes for work in works for operand in (*work.inputs, work.output)))
        common -= frozenset().union(*(work.iterates for work in works))  # steps are no instances
        if all(work.output.axes <= common for work in works):  # then they are what runs side by side
            return ()
        return tuple(axis for axis in self.problem.extents if axis in common)

    @cached_property
    def narrow(self) -> bool:
        """Whether an Einsum on one instance leaves some of a side of the array, or of the lanes, idle (most, in a long
        text): several instances may then lie side by side (rows of a norm)."""
        side = max(sides(self.spec))
        whole, instances = self.problem.whole(), set(self.instance_axes)
        points = [prod(work.points(axis, whole[axis]) for axis in work.axes - instances)
                  for work in self.works(self.members)]  # fmt: skip
        few = len(self.problem.work) <= FEW_EINSUMS
        return min(points) < side or (few and any(-(-each // side) * side > MOST_IDLE * each for each in points))

    @cached_property
    def cyclic_axes(self) -> frozenset[str]:
        """Axes along which several Einsums need each other's earlier values: they go on step by step together."""
        return frozenset().union(*(
            self.problem.work[member].iterates for member in self.members if len(self.problem.cycles[member]) > 1))

    def _leaves(self, inner: Sequence[int], shared: frozenset[str]) -> Iterator[dict[str, int]]:
        """Sizes of tiles: one of an axis of instances; of the others all, sides of the array, powers of two if `fine`.

        Powers of two are the same on every array, so that a larger one can work on the tiles of a smaller one. They go
        up to twice the sides: sums over several tiles then pass the buffer half as often.
        """
        choices: dict[str, list[int]] = {}
        side = 1 << max(0, self.spec.buffer_words.bit_length() - 1) // 2
        carried = frozenset().union(*(work.iterates for work in self.works(inner)))
        for axis in (axis for axis in self.problem.extents if axis in shared):
            extent, grain = self.problem.extents[axis], self._grain(axis)
            if axis in self.instance_axes:
                bits = extent.bit_length() if self.narrow and axis == self.instance_axes[-1] else 1
                choices[axis] = [1 << bit for bit in range(bits)]
                continue
            own = sides(self.spec)
            sizes = own | {1 << bits for bits in range(SMALLEST_BITS, max(own).bit_length() + 1) if self.fine}
            sizes |= {max(1, side // 2), side} if self.squares or (self.fine and len(self.members) == 1) else set()
            sizes = {grain} if axis in carried else {max(grain, size // grain * grain) for size in sizes}
            whole = [] if axis in self.cyclic_axes else [extent]
            smaller = sorted((size for size in sizes if size < extent or not whole), reverse=True)
            choices[axis] = [*whole, *smaller]
        if self.near is None:
            yield from (dict(zip(choices, sizes_of, strict=True)) for sizes_of in product(*choices.values()))
            return
        base = {axis: min(self.near.get(axis, size[0]), self.problem.extents[axis]) for axis, size in choices.items()}
        free = [axis for axis, sizes in choices.items() if len(sizes) > 1 and axis not in carried]
        for axis in free:
            for size in self._sizes_near(axis, base[axis]):
                yield {**base, axis: size}
                yield from ({**base, axis: size, other: self._grain(other)} for other in free
                            if other != axis and base[other] > self._grain(other))  # fmt: skip

    def _sizes_near(self, axis: str, size: int) -> Iterator[int]:
        """Sizes of as many tiles, or of up to four times more or less, balanced and whole as the text has them."""
        extent, grain = self.problem.extents[axis], self._grain(axis)
        counts = range(max(1, extent // (NEAR * size)), min(extent, -(-NEAR * extent // size)) + 1)
        sizes = (ceil(extent / count) for count in counts)
        yield from dict.fromkeys(min(extent, ceil(size / grain) * grain) for size in sizes)

    def _grain(self, axis: str) -> int:
        return max((walk.grain for work in self.works(self.members) for walk in work.walks.get(axis, ())), default=1)

    def _orders(
        self, leaf: Mapping[str, int], shared: frozenset[str], inner: Sequence[int], closed: str | None
    ) -> Iterator[tuple[BoundLoop, ...]]:
        """All orders of the loops; the innermost axis may be looped over a second time, outside the others."""
        extents = self.problem.extents
        instances = [axis for axis in self.instance_axes if axis in shared and leaf[axis] == 1]
        carried = frozenset().union(*(work.iterates for work in self.works(inner)))
        stepped = self.cyclic_axes | {axis for axis in carried if extents[axis] == 1}  # a single chunk is a step, too
        looped = [axis for axis in leaf if axis not in instances
                  and (leaf[axis] < extents[axis] or axis == closed or axis in stepped)]  # fmt: skip
        for order in permutations(looped):
            iterative = [number for number, axis in enumerate(order) if axis in carried]
            if iterative and len(order) - iterative[0] > 2:
                continue  # a program knows the tiles that a running value passes by one number
            yield named_loops(self.problem, [(axis, leaf[axis]) for axis in (*instances, *order)])
            if iterative and iterative[0] == len(order) - 1 and instances:  # instances side by side hide each other
                beside = (*instances[:-1], *order, instances[-1])
                yield named_loops(self.problem, [(axis, leaf[axis]) for axis in beside])
            if len(order) > 1:
                last = order[-1]
                tiles, outer = -(-extents[last] // leaf[last]), 2
                while outer < tiles and last not in carried:
                    steps = [*((axis, 1) for axis in instances), (last, leaf[last] * outer)]
                    yield named_loops(self.problem, [*steps, *((axis, leaf[axis]) for axis in order)])
                    outer *= 2

    def _spaces(
        self, tile: Mapping[str, int], after: Mapping[int, int], loops: Sequence[BoundLoop]
    ) -> Iterator[dict[int, Space]]:
        """`_assigned` to a tile; orders of loops share it."""
        weights = tuple(1 / loops[after[member]].most if member in after else 1.0 for member in self.members)
        key = tuple(tile.values()), weights
        if key not in self.known:
            self.known[key] = tuple(self._assigned(tile, weights))
        return iter(self.known[key])

    def _assigned(self, tile: Mapping[str, int], weights: Sequence[float]) -> Iterator[dict[int, Space]]:
        """Units by structure, units so that both arrays are busy alike, and the lanes for all but contractions, so that
        what is made there can be used up there; each where it is another choice."""
        options = [self._best_spaces(member, tuple(tile[axis] for axis in sorted(self.problem.work[member].axes)))
                   for member in self.members]  # fmt: skip
        instances = set(self.instance_axes)
        by_structure = [_by_structure(work, tile, instances) for work in self.works(self.members)]
        choices = [[unit if unit in each else next(iter(each), ARRAY_1D)
                    for unit, each in zip(by_structure, options, strict=True)],
                   balanced(self.works(self.members), options, weights),
                   [ARRAY_1D if ARRAY_1D in each and not contracts(work) else next(iter(each), ARRAY_1D)
                    for work, each in zip(self.works(self.members), options, strict=True)]]  # fmt: skip
        for units in dict.fromkeys(map(tuple, choices)):
            found = [each.get(unit, (0, _NOWHERE, _NOWHERE))
                     for each, unit in zip(options, units, strict=True)]  # fmt: skip
            fast, frugal = ({member: (first, second)[way] for member, (_, first, second)
                             in zip(self.members, found, strict=True)} for way in (0, 1))  # fmt: skip
            yield from (fast, frugal) if self.frugally and fast != frugal else (fast,)


def best_spaces(work: Work, spec: SpatialArray, tile: Mapping[str, int], frugally: bool = True) -> Options:
    """For each unit that has the operations: cycles of a tile at least, and ranks in space and time that take them.

    `frugally`: between equals those that read fewest words. And those that do in at most twice the cycles.
    """
    axes = sorted((axis for axis in work.axes if work.points(axis, tile[axis]) > 1),
                  key=lambda axis: (axis in work.reduced, axis))  # fmt: skip
    found: dict[str, tuple[int, Space, Space]] = {}
    for unit in UNITS:
        if executed(operations_of(spec, unit), work) is None:
            continue
        kept = stationary(spec, unit, work)
        single = sorted(work.axes - set(axes))[:1] if len(axes) == 1 and unit == ARRAY_2D else []  # gives it columns
        of_space = [*axes, *single] if kept is None else [axis for axis in axes if axis in kept]
        options: list[tuple[int, int, int, Space]] = []
        for chosen in laid(of_space, spec, unit):
            space = tuple(Spread(axis, work.block(axis, tile[axis]), side.size, side.names) for axis, side in chosen)
            time = [axis for axis in axes if all(axis != spatial for spatial, _ in chosen)]
            whole = unit, space, tuple(sorted(time, key=lambda axis: (axis in work.reduced, axis)))
            run = bound_run(spec, work, 0, whole)
            read = sum(run.operand_reads(operand, tile, frozenset()) for operand in work.inputs)
            options.append((run.cycles(tile), read, len(options), whole))
        cycles, _, _, fast = min(options, key=lambda each: (each[0], each[1] * frugally, each[2]))
        *_, frugal = min((each for each in options if each[0] <= 2 * cycles), key=lambda each: (each[1], *each))
        found[unit] = cycles, fast, frugal
    return found


def units_of(spec: SpatialArray, work: Work) -> tuple[str, ...]:
    """Units that the search gives an Einsum: those that can do it; contractions the 2D array where it can."""
    units = tuple(unit for unit in (ARRAY_2D, ARRAY_1D) if executed(operations_of(spec, unit), work) is not None)
    return units[:1] if contracts(work) else units


def _by_structure(work: Work, tile: Mapping[str, int], instances: set[str]) -> str:
    """The 2D array for contractions, and for what has points along two axes of a tile; the 1D array for the rest."""
    wide = [axis for axis in work.axes - instances - DEPTHS if work.points(axis, tile[axis]) > 1]
    return ARRAY_2D if contracts(work) or len(wide) > 1 else ARRAY_1D


def balanced(works: Sequence[Work], options: Sequence[Options], weights: Sequence[float]) -> list[str]:
    """Give each Einsum a unit: contractions the 2D array, the others where they are done first beside everything else.

    `weights`: how often each runs for one tile. An Einsum that no unit can do goes to the 1D array, which says so.
    """
    busy = {ARRAY_2D: 0.0, ARRAY_1D: 0.0}
    chosen: dict[int, str] = {}
    order = sorted(range(len(works)), key=lambda place: (
        len(options[place]) > 1 and not contracts(works[place]),
        -min((cycles for cycles, *_ in options[place].values()), default=0), place))  # fmt: skip
    for place in order:
        units = list(options[place])
        if len(units) > 1 and contracts(works[place]):
            units = [ARRAY_2D]
        ends = [(busy[unit] + weights[place] * options[place][unit][0], unit != ARRAY_2D, unit) for unit in units]
        end, _, unit = min(ends, default=(0.0, True, ARRAY_1D))
        busy[unit], chosen[place] = end, unit
    return [chosen[place] for place in range(len(works))]


def contracts(work: Work) -> bool:
    """Whether it multiplies and sums over an axis, in the tile or over several tiles, and uses an operand several times
    (a sum of squares does not)."""
    again = any(operand.axes < work.axes for operand in work.inputs)
    return "mac" in work.operations and bool(work.einsum.reduced_ranks) and again
