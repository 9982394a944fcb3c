"""Every nest of loops of one product on one unit beside S words, walked tile by tile: slow, and free of formulas.

Any order of loops, any axis split as often as wanted, any steps; every tensor has one place in the nest where its tile
stays, and is moved when another one is needed. A tile of sums that comes back was written and is read. An input may
pass by: it takes no room and comes at every use. The unit holds the sum that it adds up. mapping.md 8.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations, product

Nest = tuple[tuple[int, int], ...]  # axis, step; outermost first
TENSORS = ((0, 2), (2, 1), (0, 1))  # A[r,k], W[k,n], Z[r,n] by numbers of r, n, k


def fewest_words(extents: tuple[int, int, int], words: int, passes: bool = True) -> int:
    """Words that move at least. `passes`: inputs may have no tile."""
    rows, columns, depth = extents
    best = 2 * rows * columns * depth * 2
    for nest in nests(extents):
        places = [list(_frontier(nest, extents, tensor, passes)) for tensor in range(3)]
        for chosen in product(*places):
            if sum(room for room, _ in chosen) <= words:
                best = min(best, sum(moved for _, moved in chosen))
    return best


def nests(extents: tuple[int, int, int]) -> Iterator[Nest]:
    """Every order of the loops of every chain of steps of each axis, single elements innermost."""
    chains = [[(*reversed(steps), 1) for count in range(extent) for steps in combinations(range(2, extent), count)]
              if extent > 1 else [()] for extent in extents]  # fmt: skip
    for chosen in product(*chains):
        yield from _merged(chosen)


def _merged(chains: tuple[tuple[int, ...], ...]) -> Iterator[Nest]:
    if not any(chains):
        yield ()
    for axis, chain in enumerate(chains):
        if chain:
            rest = tuple(other[1:] if number == axis else other for number, other in enumerate(chains))
            for inner in _merged(rest):
                yield ((axis, chain[0]), *inner)


def _frontier(nest: Nest, extents: tuple[int, int, int], tensor: int, passes: bool) -> Iterator[tuple[int, int]]:
    """Room and words moved at each place of a tensor that no other place beats in both."""
    found = {(_room(nest[:depth], extents, tensor), _moved(nest[:depth], extents, tensor))
             for depth in range(len(nest) + 1)}  # fmt: skip
    if passes and tensor < 2:
        found.add((0, extents[0] * extents[1] * extents[2]))
    least = None
    for room, moved in sorted(found):
        if least is None or moved < least:
            least = moved
            yield room, moved


@cache
def _room(outer: Nest, extents: tuple[int, int, int], tensor: int) -> int:
    sizes = list(extents)
    for axis, step in outer:
        sizes[axis] = step
    words = sizes[TENSORS[tensor][0]] * sizes[TENSORS[tensor][1]]
    return 0 if tensor == 2 and words == 1 else words


@cache
def _moved(outer: Nest, extents: tuple[int, int, int], tensor: int) -> int:
    """Walk the loops outside the tile; of the result a tile that was there before is read again and written again."""
    moved, here = 0, None
    seen: set[tuple[range, ...]] = set()
    for ranges in _tiles(outer, tuple(range(extent) for extent in extents)):
        tile = tuple(ranges[axis] for axis in TENSORS[tensor])
        if tile != here:
            here, words = tile, len(tile[0]) * len(tile[1])
            moved += words * (2 if tensor == 2 and tile in seen else 1)
            seen.add(tile)
    return moved


def _tiles(outer: Nest, ranges: tuple[range, ...]) -> Iterator[tuple[range, ...]]:
    if not outer:
        yield ranges
        return
    (axis, step), *inner = outer
    whole = ranges[axis]
    for start in range(whole.start, whole.stop, step):
        part = range(start, min(start + step, whole.stop))
        yield from _tiles(tuple(inner), (*ranges[:axis], part, *ranges[axis + 1:]))
