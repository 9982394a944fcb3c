"""Tensors of an Einsum, or several that share loops, on very many sizes of tiles at once: words moved, room taken.

What is kept outside of shared loops, what passes by, and what moves inside the nest of the only Einsum that uses it:
there a block of one tensor stays while another one streams. mapping.md 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from cascadesim.accelerators.mapping.mapper.many_sizes import Bits, Counts, filled_words_of, product_of
from cascadesim.accelerators.mapping.problem import TensorUse, Work

MOST_CHOICES = 1 << 13  # assumed: of steps that are compared at once; of longer axes fewer sizes are
INSIDE, PASSES = -1, -2  # places of a tensor beside those outside of so many shared loops
NEVER = 1 << 60  # words of what has no room


@dataclass(frozen=True)
class Moving:
    """A tensor that comes from outside the group or leaves it. `users`: numbers of its Einsums; `result`: it leaves."""

    use: TensorUse
    users: tuple[int, ...]
    result: bool

    def places(self, axes: Sequence[str]) -> list[int]:
        """Loops outside its tile, those along its axes; or inside the nest of its only user, or nowhere."""
        kept = [0, *(depth for depth, axis in enumerate(axes, 1) if axis in self.use.axes)]
        return kept + [INSIDE] * (len(self.users) == 1) + [PASSES] * (not self.result)

    def cost(self, moved: Counts, whole: int) -> Counts:
        """Words to and from memory: of a sum each visit but the first brings it back, too."""
        return 2 * moved - whole if self.result else moved


@dataclass(frozen=True)
class Shared:
    """Shared loops by their axes, outermost first, with many choices of their steps: (choices,) int64 each.

    `grains`: elements of each axis that lie side by side, and move together in a nest.
    """

    extents: Mapping[str, int]
    axes: tuple[str, ...]
    steps: tuple[Counts, ...]
    sides: Mapping[str, int]

    def sizes(self, depth: int) -> dict[str, Counts]:
        """The tile inside so many loops."""
        one = np.ones(len(self.steps[0]) if self.steps else 1, np.int64)
        whole = {axis: one * extent for axis, extent in self.extents.items()}
        return whole | dict(zip(self.axes[:depth], self.steps[:depth], strict=True))

    @cached_property
    def leaf(self) -> dict[str, Counts]:
        return self.sizes(len(self.axes))

    @cached_property
    def grains(self) -> dict[str, Counts]:
        return {axis: np.minimum(size, self.sides[axis]) for axis, size in self.leaf.items()}

    def room(self, axes: frozenset[str], depth: int) -> Counts:
        """Words of a tile inside so many loops."""
        return product_of(size for axis, size in self.sizes(depth).items() if axis in axes)

    def grain(self, axes: frozenset[str]) -> Counts:
        return product_of(size for axis, size in self.grains.items() if axis in axes)

    def whole(self, axes: frozenset[str]) -> int:
        return prod(extent for axis, extent in self.extents.items() if axis in axes)

    def moved(self, axes: frozenset[str], depth: int) -> Counts:
        """Words of a tensor that come to a tile inside so many loops."""
        loops = tuple(zip(self.axes, self.steps, strict=True))[:depth]
        return filled_words_of(loops, axes, self.sizes(0))[0]

    def moves(self, axes: frozenset[str], place: int) -> Bits:
        """Whether each tile of the shared loops brings another one of what is kept inside so many of them, the last of
        which is along it: not where the last stretch of that is a single tile, for loops that it lacks."""
        if not self.axes or place < len(self.axes):
            return np.array([not self.axes])
        axis, step = self.axes[-1], self.steps[-1]
        outside = [number for number, other in enumerate(self.axes[:-1]) if other == axis]
        if not outside or set(self.axes[outside[-1] + 1 : -1]) <= axes:
            return np.array([True])
        rest = self.extents[axis] % self.steps[outside[-1]]
        found: Bits = (rest == 0) | (rest > step)
        return found

    def tiles(self, axis: str, step: Counts) -> Counts:
        """Steps along an axis, in all tiles of the shared loops together."""
        extent, leaf = self.extents[axis], self.leaf[axis]
        found: Counts = extent // leaf * -(-leaf // step) + -(-(extent % leaf) // step)
        return found

    def again(self, axes: frozenset[str]) -> Counts:
        """How often a tensor comes where each tile of the shared loops brings its part of it."""
        return product_of(self.tiles(axis, self.leaf[axis]) for axis in dict.fromkeys(self.axes) if axis not in axes)

    def passing(self, axes: frozenset[str], work: Work) -> Counts:
        """Words of a tensor of which every use of an Einsum is for itself."""
        return product_of((np.array(self.whole(axes)), *(self.tiles(axis, self.grains[axis]) for axis in work.axes
                                                       if axis not in axes)))  # fmt: skip


class Stream(NamedTuple):
    """How an Einsum moves in its nest what it alone uses: words of each choice; the number of the tensor of which a
    block stays (-1: of none), along which axis, and how many elements."""

    words: Counts
    stays: int = -1
    axis: str = ""
    step: Counts | None = None


class Option(NamedTuple):
    """A place of a tensor: words of each choice, and the room that it takes during each Einsum."""

    place: int
    words: Counts
    rooms: tuple[Counts | int, ...]


class PlacedTensors(NamedTuple):
    """Places of the first tensors: words that they move, and the room that each Einsum has besides."""

    places: tuple[int, ...]
    words: Counts
    rooms: tuple[Counts, ...]


def least_from(
    shared: Shared, tensors: Sequence[Moving], options: Sequence[Sequence[Option]], rooms: Sequence[Counts]
) -> Sequence[Counts]:
    """Words that the tensors from each number on move at least, each as if it had all the room: (choices,) int64."""
    found = [np.zeros(1, np.int64)]
    for tensor, own in zip(reversed(tensors), reversed(options), strict=True):
        whole, again = shared.whole(tensor.use.axes), shared.again(tensor.use.axes)
        each = [tensor.cost(whole * again, whole) if option.place == INSIDE else option.words + NEVER * np.any(
            [room < taken for room, taken in zip(rooms, option.rooms, strict=True)], axis=0) for option in own]
        least = np.min(np.broadcast_arrays(*each), axis=0)
        found.insert(0, np.minimum(found[0] + least, NEVER))
    return found


def streams(shared: Shared, work: Work, tensors: Sequence[Moving], room: Counts) -> Iterator[Stream]:
    """The ways to move one or two tensors in the nest of an Einsum that has so much room: (choices,) int64."""
    axes = [tensor.use.axes for tensor in tensors]
    inside = [shared.room(own, len(shared.axes)) > shared.grain(own) for own in axes]
    once = [shared.whole(own) * shared.again(own) for own in axes]
    grains = [shared.grain(own) for own in axes]
    if len(tensors) == 1:
        yield Stream(_possible(tensors[0].cost(once[0], shared.whole(axes[0])), inside[0] & (room >= grains[0])))
        return
    for stays, moves in ((0, 1), (1, 0)):
        lone = [axis for axis in sorted(axes[stays] - axes[moves]) if shared.extents[axis] > 1]
        words = tensors[stays].cost(once[stays], shared.whole(axes[stays]))
        both, whole = inside[0] & inside[1], shared.whole(axes[moves])
        if not lone:
            streamed = tensors[moves].cost(once[moves], whole)
            yield Stream(_possible(words + streamed, both & (room >= grains[0] + grains[1])))
        for axis in lone:
            unit = grains[stays] // shared.grains[axis]
            around = np.any([shared.leaf[other] > shared.grains[other] for other in axes[stays] - {axis}], axis=0)
            most = np.minimum((room - grains[moves]) // unit, shared.leaf[axis] - ~around)
            step = most // shared.grains[axis] * shared.grains[axis]
            fits, step = both & (step > 0), np.maximum(step, 1)
            again = product_of(shared.tiles(other, shared.leaf[other]) for other in dict.fromkeys(shared.axes)
                             if other not in axes[moves] and other not in lone)  # fmt: skip
            again = again * shared.tiles(axis, step) * product_of(
                shared.tiles(other, shared.grains[other]) for other in lone if other != axis)
            yield Stream(_possible(words + tensors[moves].cost(whole * again, whole), fits), stays, axis, step)


def _possible(words: Counts, fits: Bits) -> Counts:
    return np.where(fits, words, NEVER)


def steps_of(
    extents: Mapping[str, int], order: tuple[str, ...], near: Sequence[tuple[str, int]] = (),
    stepped: frozenset[str] = frozenset(),
) -> Iterator[Counts]:  # fmt: skip
    """Choices of steps, balanced ones: for each loop one of each. `near`: around these steps of the same loops;
    `stepped`: axes that go element by element."""
    axes = list(dict.fromkeys(order))
    if not axes:
        return
    most = max(2, int(MOST_CHOICES ** (1 / len(order))))
    choices: list[list[tuple[int, ...]]] = []
    for axis in axes:
        known = [step for other, step in near if other == axis]
        inner = [1] if axis in stepped else around(balanced(extents[axis]), known[-1:], most)
        if order.count(axis) == 1:
            choices.append([(size,) for size in inner])
            continue
        counts = [known[0] // known[-1]] if known else []
        choices.append([(size * count, size) for size in inner
                        for count in around(balanced(-(-extents[axis] // size)), counts, most)
                        if count > 1 and size * count < extents[axis]])  # fmt: skip
    every = np.unravel_index(np.arange(prod(map(len, choices))), [len(each) for each in choices])
    taken = dict.fromkeys(axes, 0)
    for axis in order:
        number, place = axes.index(axis), taken[axis]
        taken[axis] += 1
        yield np.array([steps[place] for steps in choices[number]], np.int64)[every[number]]


@lru_cache(maxsize=4096)  # a search asks for the same extents thousands of times
def balanced(extent: int) -> Sequence[int]:
    """Sizes of as equal tiles as can be, shorter than all of it."""
    return tuple(sorted({-(-extent // count) for count in range(2, extent + 1)}))


def around(sizes: Sequence[int], known: Sequence[int], most: int) -> Sequence[int]:
    """At most so many of the sizes: spread evenly by their logarithms, or those next to a known one."""
    if len(sizes) <= most:
        return sizes
    if known:
        middle = min(range(len(sizes)), key=lambda place: abs(sizes[place] - known[0]))
        first = min(max(0, middle - most // 2), len(sizes) - most)
        return sizes[first : first + most]
    places = np.unique(np.searchsorted(sizes, np.geomspace(1, sizes[-1], most)))
    return [sizes[place] for place in places]
