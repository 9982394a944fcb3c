"""Fused Einsums with nests of their own, one tile at a time: what moves fewest words, of very many sizes at once.

Shared loops are in any order, one axis twice. Each input or result is kept outside of any of them, or moves inside the
nest of the only Einsum that uses it, or passes by. The room of one nest is that of the next. `nested` makes a group of
what is found, which has the last word. mapping.md 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations, product
from math import prod
from typing import NamedTuple

import numpy as np

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import Draft, IllegalMapping, Kept
from cascadesim.accelerators.mapping.mapper.candidates import Neighbours, best_spaces, contracts
from cascadesim.accelerators.mapping.mapper.costs import MOST_AXES, is_whole
from cascadesim.accelerators.mapping.mapper.many_sizes import Counts
from cascadesim.accelerators.mapping.mapper.streams import (
    INSIDE,
    NEVER,
    PASSES,
    Moving,
    Option,
    PlacedTensors,
    Shared,
    Stream,
    least_from,
    steps_of,
    streams,
)
from cascadesim.accelerators.mapping.memories import in_states
from cascadesim.accelerators.mapping.placing import bind, outside
from cascadesim.accelerators.mapping.problem import MappingProblem, TensorUse, Work
from cascadesim.accelerators.mapping.runs import ARRAY_2D, DRAM, BoundLoop
from cascadesim.accelerators.spec import SpatialArray


class Nested(NamedTuple):
    """The best of a stretch: words, shared loops with steps, the place of each tensor that moves, the block that stays
    in the nest of each Einsum."""

    words: int
    loops: tuple[tuple[str, int], ...]
    places: tuple[int, ...]
    streams: tuple[tuple[int, str, int], ...]


@dataclass(frozen=True)
class NestSearch:
    """Neighbouring Einsums that may be fused, each whole (`is_whole`) but for running values; `sides`: elements of axes
    side by side. `closed`: the axis after whose loop the last Einsums come, `late` of them."""

    problem: MappingProblem
    spec: SpatialArray
    members: tuple[int, ...]
    sides: Mapping[str, int]
    closed: str | None = None
    late: int = 0
    compared: list[int] = field(default_factory=list, compare=False)  # mappings, each time

    @property
    def is_known(self) -> bool:
        """Whether all of this is known of them: one place for each tensor, one memory."""
        alone = all(is_whole(self.problem, self.spec, member, states=True) for member in self.members)
        inputs, _ = outside(self.problem, self.members)
        alike = all(len({use.dimensions for use in uses}) == 1 for uses in inputs.values())
        late = any(max(tensor.users) in self.after for tensor in self.moving)
        begun = {tensor for tensor, _ in self.problem.starts} & {work.output.tensor for work in self.works}
        return alone and alike and not late and not begun and not self.spec.memories and self.spec.accumulators is None

    @property
    def after(self) -> range:
        """Numbers of the Einsums that come after a loop."""
        return range(len(self.members) - self.late, len(self.members))

    @cached_property
    def stepped(self) -> frozenset[str]:
        """Axes whose loop is shared and goes element by element: of running values, and those that the text splits."""
        carried = frozenset().union(*(work.iterates for work in self.works))
        walked = frozenset().union(*(work.axes for work in self.works))
        return carried | (walked & self.problem.chains.keys())

    def group(self, shared: frozenset[str], below: float) -> BoundGroup | None:
        """The group that moves fewest words in loops over some of these axes; None where none has room and moves fewer
        than so many."""
        found = self.best(shared, int(min(below, NEVER))) if self.is_known and below > self.least else None
        if found is None or not found.streams:
            return None
        try:
            group = bind(self.draft(found))
        except IllegalMapping:
            return None
        return group if group.fits else None

    def draft(self, found: Nested) -> Draft:
        """What was found as loops and places."""
        nests = [self.nest(found, number) for number in range(len(self.members))]
        steps = [*found.loops, *(each for nest, _ in nests for each in nest)]
        parts = {axis: sorted({step for other, step in steps if other == axis}, reverse=True) for axis, _ in steps}

        def loops(chosen: Sequence[tuple[str, int]], tile: dict[str, int]) -> tuple[BoundLoop, ...]:
            bound = []
            for axis, step in chosen:
                number = len(parts[axis]) - parts[axis].index(step)
                alone = axis in self.stepped  # by its own name
                bound.append(BoundLoop(axis if alone else f"{axis}{number}", axis, step, tile[axis]))
                tile[axis] = step
            return tuple(bound)

        leaf, kept, own, spaces = self.problem.whole(), dict[str, Kept](), {}, {}
        shared = loops(found.loops, leaf)
        for member, work, (nest, places) in zip(self.members, self.works, nests, strict=True):
            tile = dict(leaf)
            own[member] = loops(nest, tile)
            kept |= {tensor: Kept(len(shared) + place, False) for tensor, place in places.items()}
            options = best_spaces(work, self.spec, tile)
            fastest = min(options, key=lambda each: options[each][0])
            spaces[member] = options[ARRAY_2D if contracts(work) and ARRAY_2D in options else fastest][1]
        for tensor, place in zip(self.moving, found.places, strict=True):
            if place != INSIDE:
                kept[tensor.use.tensor] = Kept(max(place, 0), False, 0, place == PASSES)
        own = {member: nest for member, nest in own.items() if nest}
        number = next((number for number, loop in enumerate(shared) if loop.axis == self.closed), 0)
        after = {self.members[late]: number for late in self.after}
        return Draft(self.problem, self.spec, self.members, shared, spaces, after, kept, 1, own)

    def nest(self, found: Nested, number: int) -> tuple[list[tuple[str, int]], dict[str, int]]:
        """Loops of an Einsum by axis and step, and the loops outside each tensor that moves inside of them."""
        work, (stays, along, step) = self.works[number], found.streams[number]
        leaf = self.problem.whole() | dict(found.loops)
        tensors = [tensor.use for tensor, place in zip(self.moving, found.places, strict=True)
                   if place == INSIDE and tensor.users == (number,)]  # fmt: skip
        if stays == 1:
            tensors.reverse()
        first = tensors[0].axes if tensors else work.axes
        second = tensors[1].axes if len(tensors) > 1 else first
        order = [*sorted(first & second), *sorted(first - second - {along}), *([along] if along else []),
                 *sorted(second - first), *([along] if along else []), *sorted(work.axes - first - second)]
        loops: list[tuple[str, int]] = []
        places: dict[str, int] = {}
        for turn, axis in enumerate(order):
            wanted = step if axis == along and along not in order[:turn] else min(self.sides[axis], leaf[axis])
            if wanted < leaf[axis]:
                loops.append((axis, wanted))
                leaf[axis] = wanted
            if tensors and set(order[: turn + 1]) >= first:
                places.setdefault(tensors[0].tensor, len(loops))
            if len(tensors) > 1 and set(order[: turn + 1]) >= second:
                places.setdefault(tensors[1].tensor, len(loops))
        return loops, places

    @cached_property
    def works(self) -> tuple[Work, ...]:
        return tuple(self.problem.work[member] for member in self.members)

    @cached_property
    def moving(self) -> tuple[Moving, ...]:
        """Inputs, and results that nothing here reads."""
        inputs, results = outside(self.problem, self.members)
        found = [Moving(uses[0], self.readers(tensor), False) for tensor, uses in inputs.items()]
        return (*found, *(Moving(use, (self.maker(use.tensor),), True) for use in results if self.is_moving(use)))

    def is_moving(self, use: TensorUse) -> bool:
        """Whether a result only leaves, from inside all loops."""
        maker = self.maker(use.tensor)
        return not self.readers(use.tensor) and maker not in self.after and not self.works[maker].iterates

    @cached_property
    def stored(self) -> int:
        """Words of other results that leave: once each."""
        _, results = outside(self.problem, self.members)
        return sum(use.words(self.problem.extents) for use in results if not self.is_moving(use))

    @property
    def least(self) -> int:
        """Words that move in any case."""
        return self.stored + sum(prod(self.problem.extents[axis] for axis in each.use.axes) for each in self.moving)

    def readers(self, tensor: str) -> tuple[int, ...]:
        return tuple(number for number, work in enumerate(self.works)
                     if any(use.tensor == tensor for use in work.inputs))  # fmt: skip

    def maker(self, tensor: str) -> int:
        return next(number for number, work in enumerate(self.works) if work.output.tensor == tensor)

    @cached_property
    def in_states(self) -> frozenset[int]:
        """Numbers of the Einsums whose results lie in the place of a running value."""
        _, results = outside(self.problem, self.members)
        found = in_states(self.problem, self.members, {use.tensor for use in results})
        return frozenset(number for number, member in enumerate(self.members) if member in found)

    def alive(self, shared: Shared) -> list[Counts]:
        """Words of results, during each Einsum, that are read here or carried on; one may be made in the place of
        another."""
        found, depths = [], [self.depth(work, shared) for work in self.works]
        carried = sum((shared.room(work.output.axes - work.iterates, depth) for work, depth in zip(
            self.works, depths, strict=True) if depth < len(shared.axes)), np.zeros(1, np.int64))  # fmt: skip
        made = {other.output.tensor: other.output for number, other in enumerate(self.works)
                if self.readers(other.output.tensor) and depths[number] == len(shared.axes)
                and number not in self.in_states}  # fmt: skip
        for number, work in enumerate(self.works):
            held = [use for use in made.values() if self.maker(use.tensor) <= number <= self.readers(use.tensor)[-1]]
            dead = [use for use in held if use.tensor != work.output.tensor and not work.reduced
                    and self.readers(use.tensor)[-1] == number and use.dimensions == work.output.dimensions
                    and work.output.tensor in made]  # fmt: skip
            held.remove(dead[0]) if dead else None
            found.append(sum((shared.room(use.axes, len(shared.axes)) for use in held), carried))
        return found

    def depth(self, work: Work, shared: Shared) -> int:
        """Loops outside a result that is read here: those outside the first along which it is carried."""
        if not self.readers(work.output.tensor) and not work.iterates:
            return len(shared.axes)
        axes = work.reduced | work.iterates
        return next((number for number, axis in enumerate(shared.axes) if axis in axes), len(shared.axes))

    def sequences(self, shared: frozenset[str]) -> Iterator[Shared]:
        """Every order of loops over some of these axes, one of them twice, with their steps."""
        looped = [axis for axis in sorted(shared) if self.problem.extents[axis] > 1][:MOST_AXES]
        orders: list[tuple[str, ...]] = [order for count in range(len(looped) + 1)
                                         for order in permutations(looped, count)]  # fmt: skip
        orders += [(order[-1], *order) for order in orders if len(order) > 1 and order[-1] not in self.stepped]
        needed = self.stepped | ({self.closed} if self.closed else set())
        for order in (order for order in orders if needed <= set(order)):
            steps = tuple(steps_of(self.problem.extents, order, (), self.stepped))
            if all(map(len, steps)):
                yield Shared(self.problem.extents, order, steps, self.sides)

    def best(self, shared: frozenset[str], below: int = NEVER) -> Nested:
        """What moves fewest words of all sequences of loops over some of these axes; without streams where nothing has
        room and moves fewer than so many.

        Of long axes many sizes first, then those next to the best as long as that is better.
        """
        found = Nested(below, (), (), ())
        for loops in self.sequences(shared):
            found = self.in_loops(loops, found)
        while found.loops:
            order, extents = tuple(axis for axis, _ in found.loops), self.problem.extents
            near = Shared(extents, order, tuple(steps_of(extents, order, found.loops, self.stepped)), self.sides)
            better = self.in_loops(near, found)
            if better is found:
                break
            found = better
        return found

    def in_loops(self, loops: Shared, best: Nested) -> Nested:
        """The best in these loops, if it moves fewer words than what is known."""
        words = np.full(max(map(len, loops.steps), default=1), self.stored, np.int64)
        rooms = tuple(self.spec.buffer_words - alive + 0 * words for alive in self.alive(loops))
        options = [[self.place(loops, tensor, place) for place in tensor.places(loops.axes)] for tensor in self.moving]
        least = least_from(loops, self.moving, options, rooms)
        return self.placed(loops, options, least, PlacedTensors((), words, rooms), best)

    def place(self, loops: Shared, tensor: Moving, place: int) -> Option:
        """What a tensor at a place moves; of one that moves inside a nest nothing yet. What each tile brings anew has
        room while it is used."""
        axes, none = tensor.use.axes, (0,) * len(self.works)
        if place == INSIDE:
            return Option(place, np.zeros(1, np.int64), none)
        if place == PASSES:
            passing = [loops.passing(axes, self.works[user]) for user in tensor.users]
            return Option(place, np.sum(np.broadcast_arrays(*passing), axis=0), none)
        room, stays = loops.room(axes, place), ~loops.moves(axes, place)
        used = range(tensor.users[0], tensor.users[-1] + 1)
        moved = tensor.cost(loops.moved(axes, place), loops.whole(axes))
        during = tuple(room if number in used else room * stays for number in range(len(self.works)))
        return Option(place, moved, during)

    def placed(
        self, loops: Shared, options: Sequence[Sequence[Option]], least: Sequence[Counts], done: PlacedTensors,
        best: Nested,
    ) -> Nested:  # fmt: skip
        """The best of all places of the tensors that have none yet, if it moves fewer words than what is known."""
        number = len(done.places)
        possible = np.all([room >= 0 for room in done.rooms], axis=0)
        if np.min(np.where(possible, done.words + least[number], NEVER)) >= best.words:
            return best
        if number == len(self.moving):
            return self.streamed(loops, done, best)
        for option in options[number]:
            rooms = tuple(room - own for room, own in zip(done.rooms, option.rooms, strict=True))
            more = PlacedTensors((*done.places, option.place), done.words + option.words, rooms)
            best = self.placed(loops, options, least, more, best)
        return best

    def streamed(self, loops: Shared, done: PlacedTensors, best: Nested) -> Nested:
        """The best choice of steps with these places, each Einsum with its best nest."""
        words, chosen = done.words, list[list[Stream]]()
        self.compared.append(len(words))
        for number, work in enumerate(self.works):
            own = [tensor for tensor, place in zip(self.moving, done.places, strict=True)
                   if place == INSIDE and number in tensor.users]  # fmt: skip
            if len(own) > 2:
                return best
            words = np.where(done.rooms[number] < 0, NEVER, words)
            chosen.append(list(streams(loops, work, own, done.rooms[number])) if own else [])
            if own:
                words = words + np.min([np.broadcast_to(each.words, words.shape) for each in chosen[-1]], axis=0)
        at = int(np.argmin(words))
        if words[at] >= best.words:
            return best
        blocks = []
        for options in chosen:
            stream = min(options, key=lambda each: int(_at(each.words, at)), default=Stream(words))
            blocks.append((stream.stays, stream.axis, 0 if stream.step is None else int(_at(stream.step, at))))
        steps = tuple((axis, int(_at(step, at))) for axis, step in zip(loops.axes, loops.steps, strict=True))
        return Nested(int(words[at]), steps, done.places, tuple(blocks))


def _at(values: Counts, number: int) -> int:
    return int(np.atleast_1d(values)[number if np.size(values) > 1 else 0])


def nested(
    problem: MappingProblem, spec: SpatialArray, members: tuple[int, ...], below: float = NEVER
) -> tuple[BoundGroup | None, int]:  # fmt: skip
    """The group of these Einsums, one tile at a time, that moves fewest words, and how many mappings were compared.

    None where there is none of the kind that moves at most so many.
    """
    sides = dict.fromkeys(problem.extents, 1)
    for member in members:
        for _, (_, space, _), _ in best_spaces(problem.work[member], spec, problem.whole()).values():
            sides |= {each.axis: max(sides[each.axis], each.size) for each in space}
    found, compared = None, 0
    carried = frozenset().union(*(problem.work[member].iterates for member in members))
    shapes = Neighbours(problem, spec, members).shapes()
    for (inner, closed, shared), width in product(shapes, widths(max(sides.values()))):
        if closed is None or closed in carried:
            own = {axis: min(side, width) for axis, side in sides.items()}
            search = NestSearch(problem, spec, members, own, closed, len(members) - len(inner))
            group = search.group(shared, below + 1)
            if group is not None:
                found, below = group, sum(group.memory_words[DRAM]) - 1
            compared += sum(search.compared)
    return found, compared


def widths(side: int) -> list[int]:
    """Elements side by side that are used of a dimension, most first: all, or a power of two, as on smaller arrays,
    whose tiles then are those of a larger one, too."""
    return [side, *(1 << bits for bits in reversed(range((side - 1).bit_length())))]
