"""Every nest of loops of a few Einsums on one unit beside S words: slow, and free of formulas. mapping.md 8.

Neighbouring Einsums may share loops over axes of what goes from one to the next; inside, each has any nest of its own.
Every input and result has one place in these loops where its tile stays, and moves when another one is needed; what is
kept inside the loops of one Einsum comes anew for each tile of the shared ones, and the next Einsum has its room. An
input may pass by: it takes no room, and a word at each use. A tile of sums that comes back was written and is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise, product

Nest = tuple[tuple[str, int], ...]  # axis, step; outermost first
Box = tuple[tuple[str, int], ...]  # axis, elements
NEVER = 1 << 60


@dataclass(frozen=True)
class Step:
    """An Einsum by the axes of its tensors: `inputs` by name.

    `over`: the axis along which its result is a running value, whose loop is shared and goes element by element; the
    value stays outside of it. `in_place`: its result lies where a running value was. `late`: it comes after that loop.
    """

    output: str
    axes: str
    inputs: tuple[tuple[str, str], ...]
    over: str = ""
    in_place: bool = False
    late: bool = False

    @property
    def walked(self) -> str:
        return "".join(sorted(set(self.axes + self.over).union(*(axes for _, axes in self.inputs))))


def fewest_words(steps: Sequence[Step], extents: dict[str, int], words: int) -> int:
    """Words that move at least, over all ways of fusing neighbours."""
    best = [0] + [NEVER] * len(steps)
    for end in range(1, len(steps) + 1):
        for start in range(end):
            best[end] = min(best[end], best[start] + Group(tuple(steps[start:end]), tuple(steps[end:]), Box(
                sorted(extents.items()))).fewest(words))
    return best[-1]


@dataclass(frozen=True)
class Group:
    """Einsums that are fused; `later`: those that come after them."""

    steps: tuple[Step, ...]
    later: tuple[Step, ...]
    extents: Box

    def readers(self, tensor: str) -> list[int]:
        return [number for number, step in enumerate(self.steps) if tensor in dict(step.inputs)]

    @property
    def made(self) -> list[str]:
        return [step.output for step in self.steps]

    @property
    def shared(self) -> list[str]:
        """Axes that all walk, that what is read here has, and that nothing read here is summed over."""
        axes = set.intersection(*(set(step.walked) for step in self.steps if not step.late))
        for step in self.steps:
            if self.readers(step.output) and not step.over:
                axes &= set(step.axes)
        return sorted(axes) if len(self.steps) > 1 else []

    @property
    def over(self) -> set[str]:
        return {step.over for step in self.steps} - {""}

    def fewest(self, words: int) -> int:
        """Words that move at least."""
        every = nests(tuple((axis, dict(self.extents)[axis]) for axis in self.shared), whole=True)
        return min(self.of_nest(nest, words) for nest in every if all((axis, 1) in nest for axis in self.over))

    def of_nest(self, nest: Nest, words: int) -> int:
        """The least with these shared loops: every choice of what is held all the time, then the best nest of each."""
        leaf = inside(self.extents, nest)
        carried = sum(size(inside(self.extents, nest[: [axis for axis, _ in nest].index(step.over)]), step.axes)
                      for step in self.steps if step.over)  # fmt: skip
        alive = [carried + sum(size(leaf, step.axes) for maker, step in enumerate(self.steps) if self.readers(
            step.output) and not step.over and not step.in_place and maker <= number <= self.readers(step.output)[-1])
                 - self.in_place(number, leaf) for number in range(len(self.steps))]  # fmt: skip
        several = {name: axes for step in self.steps for name, axes in step.inputs
                   if name not in self.made and len(self.readers(name)) > 1}  # fmt: skip
        ways = [list(self.ways(number, nest)) for number in range(len(self.steps))]
        both = [[(room, moved, (min(self.readers(name)), max(self.readers(name))) if always_moves(
            nest, depth, self.extents, axes) else (0, len(self.steps))) for depth, (room, moved) in enumerate(
                held(nest, self.extents, axes))] + [(0, self.uses(name), (0, -1))] for name, axes in several.items()]
        best, stored = NEVER, sum(size(self.extents, step.axes) for step in self.steps if step.late or (
            self.readers(step.output) and any(step.output in dict(later.inputs) for later in self.later)))  # fmt: skip
        for chosen in product(*both):
            rooms = [words - alive[number] - sum(room for room, _, (first, last) in chosen if first <= number <= last)
                     for number in range(len(self.steps))]  # fmt: skip
            best = min(best, stored + sum(moved for _, moved, _ in chosen) + joined(ways, rooms, 0))
        return best

    def in_place(self, number: int, leaf: Box) -> int:
        """Words of a result that is made, element by element, where one lies that nothing else reads any more."""
        step = self.steps[number]
        lie = {other.output for other in self.steps if other.over or other.in_place}
        over = any(name in self.made and axes == step.axes == step.walked and self.readers(name)[-1] == number
                   and name not in lie for name, axes in step.inputs)  # fmt: skip
        return size(leaf, step.axes) if over and self.readers(step.output) and step.output not in lie else 0

    def uses(self, name: str) -> int:
        return sum(size(self.extents, self.steps[number].walked) for number in self.readers(name))

    def ways(self, number: int, nest: Nest) -> Iterator[tuple[int, int, int]]:
        """What an Einsum alone uses: room held all the time, room in its nest, words moved; those that none beats."""
        step = self.steps[number]
        own = [(name, axes, False) for name, axes in step.inputs
               if name not in self.made and len(self.readers(name)) == 1]  # fmt: skip
        own += [] if self.readers(step.output) or step.late else [(step.output, step.axes, True)]
        if not own:
            yield 0, 0, 0
            return
        leaf, found = inside(self.extents, nest), set()
        tiles = leaves(self.extents, nest)
        for private in nests(tuple((axis, dict(leaf)[axis]) for axis in step.walked)):
            places = []
            for _, axes, result in own:
                options = [(room, 0, cost(moved, size(self.extents, axes), result))
                           for room, moved in held(nest, self.extents, axes)]  # fmt: skip
                for depth in range(len(private) + 1):
                    moved = sum(count * visits(private[:depth], box, axes) for box, count in tiles.items())
                    options.append((0, size(inside(leaf, private[:depth]), axes), cost(moved, size(self.extents, axes),
                                                                                      result)))
                options += [] if result else [(0, 0, size(self.extents, step.walked))]
                places.append(best_of(options))
            found |= {tuple(map(sum, zip((0, 0, 0), *chosen, strict=True))) for chosen in product(*places)}
            found = set(best_of(found))
        yield from found


def cost(moved: int, whole: int, result: bool) -> int:
    return 2 * moved - whole if result else moved


def joined(ways: list[list[tuple[int, int, int]]], rooms: list[int], taken: int) -> int:
    """Words of the best way of each Einsum: what all hold together, and what each needs besides, has room."""
    if not ways:
        return 0
    best = NEVER
    sums = [(0, 0, [0] * len(ways))]
    for number, options in enumerate(ways):
        sums = [(held_words + own, moved + words, [*needs[:number], private, *needs[number + 1 :]])
                for held_words, moved, needs in sums for own, private, words in options]  # fmt: skip
    for held_words, moved, needs in sums:
        if moved < best and all(held_words + need + taken <= room for need, room in zip(needs, rooms, strict=True)):
            best = moved
    return best


def best_of(options: Sequence[tuple[int, ...]] | set[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Those that no other one beats in everything."""
    found: list[tuple[int, ...]] = []
    for each in sorted(set(options)):
        if not any(all(one <= other for one, other in zip(known, each, strict=True)) for known in found):
            found.append(each)
    return found


def size(box: Box, axes: str) -> int:
    words = 1
    for axis, elements in box:
        words *= elements if axis in axes else 1
    return words


@cache
def inside(box: Box, nest: Nest) -> Box:
    """A whole tile inside loops."""
    return tuple((axis, min([elements, *(step for other, step in nest if other == axis)])) for axis, elements in box)


@cache
def held(nest: Nest, extents: Box, axes: str) -> list[tuple[int, int]]:
    """Room and words of a tile outside of some of the shared loops, or of all."""
    return [(size(inside(extents, nest[:depth]), axes), visits(nest[:depth], extents, axes))
            for depth in range(len(nest) + 1)]  # fmt: skip


@cache
def visits(nest: Nest, box: Box, axes: str) -> int:
    """Words that come to a tile inside loops, which are walked: another tile comes, the same one stays."""
    moved, here = 0, None
    for ranges in tiles_of(nest, tuple((axis, range(elements)) for axis, elements in box)):
        tile = tuple(each for axis, each in ranges if axis in axes)
        if tile != here:
            here, words = tile, 1
            for each in tile:
                words *= len(each)
            moved += words
    return moved


@cache
def always_moves(nest: Nest, depth: int, extents: Box, axes: str) -> bool:
    """Whether each tile of all loops brings another one of what is kept inside so many of them."""
    whole = tuple((axis, range(elements)) for axis, elements in extents)
    outer = [tuple(each for axis, each in ranges if axis in axes) for ranges in tiles_of(nest[:depth], whole)]
    alone = len(outer) == sum(leaves(extents, nest).values())  # no loop inside
    return alone and all(one != other for one, other in pairwise(outer))


@cache
def leaves(extents: Box, nest: Nest) -> Counter[Box]:
    """The tiles inside all shared loops, by their sizes."""
    whole = tuple((axis, range(elements)) for axis, elements in extents)
    return Counter(tuple((axis, len(each)) for axis, each in ranges) for ranges in tiles_of(nest, whole))


def tiles_of(nest: Nest, ranges: tuple[tuple[str, range], ...]) -> Iterator[tuple[tuple[str, range], ...]]:
    if not nest:
        yield ranges
        return
    (axis, step), *inner = nest
    whole = dict(ranges)[axis]
    for start in range(whole.start, whole.stop, step):
        part = range(start, min(start + step, whole.stop))
        yield from tiles_of(tuple(inner), tuple((other, part if other == axis else each) for other, each in ranges))


@cache
def nests(box: Box, whole: bool = False) -> tuple[Nest, ...]:
    """Every order of the loops of every chain of steps of each axis, single elements innermost; `whole`: or none, or
    longer steps innermost."""
    chains = []
    for axis, extent in box:
        own = [tuple((axis, step) for step in (*reversed(steps), 1)) for count in range(max(1, extent - 1))
               for steps in combinations(range(2, extent), count)] if extent > 1 else [()]  # fmt: skip
        if whole and extent > 1:
            own += [(), *(chain[:-1] for chain in own if len(chain) > 1)]
        chains.append(own)
    return tuple(nest for chosen in product(*chains) for nest in _merged(chosen))


def _merged(chains: tuple[Nest, ...]) -> Iterator[Nest]:
    if not any(chains):
        yield ()
    for number, chain in enumerate(chains):
        if chain:
            rest = tuple(other[1:] if place == number else other for place, other in enumerate(chains))
            for inner in _merged(rest):
                yield (chain[0], *inner)
