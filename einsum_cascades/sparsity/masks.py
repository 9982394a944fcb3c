"""Which keys a query attends: predicates with exact counts, in closed form or dimension by dimension.

`KeyInterval`: one contiguous interval of keys per query (dense, causal, sliding window, chunked). Queries are the last
`queries` positions of a sequence of `keys` positions (a KV cache holds the earlier ones), so query p sits at position
p + keys - queries.

`Neighborhood`: Generalized Neighborhood Attention: window, stride, dilation and causality per dimension of a layout, as
NATTEN defines them (GNA, arXiv 2504.16922, section 3; FNA, arXiv 2403.04690). Dimensions are independent, so every
count is a product of counts along one. There, dilation splits the coordinates into groups (x mod d); everything else
happens inside a group of n members: `stride` neighbouring queries share the window of their leader, the central one
(the last one if causal). Nothing here knows how hardware tiles, beyond the size of the tiles it is asked about.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError

Positions = NDArray[np.int64]
LONGEST_AXIS = 2**24  # assumed: beyond every published layout; counts take arrays over it


class Mask(Hashable, Protocol):
    """What every mask answers."""

    def interval(self, query: Positions, queries: int, keys: int) -> tuple[Positions, Positions]:
        """First and last key (inclusive) that each query index attends; empty where last < first."""
        ...

    def attended_pairs(self, queries: int, keys: int) -> int:
        """Exact number of (query, key) pairs."""
        ...

    def key_tiles(self, queries: int, keys: int, query_tile: int, key_tile: int) -> tuple[Positions, Positions]:
        """First and last key tile (inclusive) with an attended key of each query tile; empty where last < first."""
        ...


@dataclass(frozen=True, slots=True)
class KeyInterval:
    """Each query attends the keys `first(p) .. last(p)`, both included.

    `window` counts the keys up to and including the query's own position (Mistral's sliding window); `chunk` lets
    a query see only its own block of that many positions (Llama 4). Both need `causal`.
    """

    causal: bool = False
    window: int | None = None
    chunk: int | None = None

    def __post_init__(self) -> None:
        for name in ("window", "chunk"):
            size = getattr(self, name)
            if size is not None and size < 1:
                raise CascadeSimError(f"mask: {name} must be at least 1, got {size}")
            if size is not None and not self.causal:
                raise CascadeSimError(f"mask: a {name} needs causal=True")

    def interval(self, query: Positions, queries: int, keys: int) -> tuple[Positions, Positions]:
        """As every mask; a causal query before the first key (more queries than keys) attends nothing."""
        position = np.asarray(query, dtype=np.int64) + (keys - queries)
        first, last = np.zeros_like(position), np.full_like(position, keys - 1)
        if self.causal:
            last = np.minimum(last, position)
        if self.window is not None:
            first = np.maximum(first, position - self.window + 1)
        if self.chunk is not None:
            first = np.maximum(first, position // self.chunk * self.chunk)
        return first, last

    def within(self, keys: int) -> KeyInterval:
        """The same mask for a sequence of `keys`, without a window or chunk that so short a sequence never fills."""
        window, chunk = (None if size is None or size >= keys else size for size in (self.window, self.chunk))
        return KeyInterval(self.causal, window, chunk)

    def attended_pairs(self, queries: int, keys: int) -> int:
        """Exact number of (query, key) pairs, in closed form."""
        if not self.causal:
            return queries * keys
        return self._pairs_before(keys) - self._pairs_before(max(keys - queries, 0))

    def _pairs_before(self, position: int) -> int:
        """Pairs of all queries at the positions 0 .. position-1."""
        if self.chunk is None:
            return _windowed(position, self.window)
        chunks, rest = divmod(position, self.chunk)
        return chunks * _windowed(self.chunk, self.window) + _windowed(rest, self.window)

    def key_tiles(self, queries: int, keys: int, query_tile: int, key_tile: int) -> tuple[Positions, Positions]:
        """As every mask; every key tile between them holds an attended key too: intervals overlap or touch."""
        starts = np.arange(0, queries, query_tile, dtype=np.int64)
        ends = np.minimum(starts + query_tile, queries) - 1
        first, _ = self.interval(starts, queries, keys)  # both ends of the interval only move forwards
        _, last = self.interval(ends, queries, keys)
        return first // key_tile, last // key_tile

    def __str__(self) -> str:
        if not self.causal:
            return "full"
        limits = [f"{name} {size}" for name in ("window", "chunk") if (size := getattr(self, name)) is not None]
        return ", ".join(["causal", *limits])


def _windowed(length: int, window: int | None) -> int:
    """Pairs of a causal sequence of `length` whose queries see at most `window` keys: a triangle, then a band."""
    ramp = length if window is None else min(length, window)
    return ramp * (ramp + 1) // 2 + (length - ramp) * ramp


def mask_from(text: str) -> KeyInterval:
    """`full`, `causal`, `window:4096` (a causal sliding window) or `chunk:8192`. Raises CascadeSimError."""
    name, colon, size = text.strip().partition(":")
    if not colon and name in ("full", "causal"):
        return KeyInterval(causal=name == "causal")
    if name in ("window", "chunk") and size.isascii() and size.isdigit() and len(size) < 19:
        return KeyInterval(True, **{name: int(size)})
    raise CascadeSimError(f"mask '{text[:40]}': give full, causal, window:N or chunk:N")


FULL = KeyInterval()
CAUSAL = KeyInterval(causal=True)


@dataclass(frozen=True, slots=True)
class Axis:
    """One dimension of a layout and how a query sees along it."""

    length: int
    window: int
    stride: int = 1
    dilation: int = 1
    causal: bool = False

    def problems(self) -> Iterator[str]:
        """What is wrong with the sizes, without the name of the dimension."""
        sizes = {"layout": self.length, "window": self.window, "stride": self.stride, "dilation": self.dilation}
        small = [f"{name} must be at least 1, got {size}" for name, size in sizes.items() if size < 1]
        yield from small
        if self.length > LONGEST_AXIS:
            yield f"layout must be at most {LONGEST_AXIS:,}, got {self.length}"
        if small:
            return
        if self.window > self.length:
            yield f"window {self.window} is larger than the layout {self.length}"
        elif self.window * self.dilation > self.length:
            yield (f"window {self.window} x dilation {self.dilation} = {self.window * self.dilation} is larger than "
                   f"the layout {self.length}; the dilation can be at most {self.length // self.window}")
        if self.stride > self.window:
            yield f"stride {self.stride} is larger than the window {self.window}"

    @property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """(members, how many groups have so many), the longer groups first; they are also first in order."""
        members, longer = divmod(self.length, self.dilation)
        kinds = ((members + 1, longer), (members, self.dilation - longer))
        return tuple((size, count) for size, count in kinds if count)

    @property
    def longest_group(self) -> int:
        return -(-self.length // self.dilation)

    def spans(self, members: int) -> tuple[Positions, Positions]:
        """First and one-past-last key, as places in the group, of each query of a group of `members`."""
        return _spans(members, self.window, self.stride, self.causal)

    def ends(self) -> tuple[Positions, Positions]:
        """First and last key coordinate of each query coordinate."""
        first, last = np.empty((2, self.length), dtype=np.int64)
        for group in range(self.dilation):
            start, end = self.spans(-(-(self.length - group) // self.dilation))
            first[group :: self.dilation] = group + start * self.dilation
            last[group :: self.dilation] = group + (end - 1) * self.dilation
        return first, last

    @property
    def attended_pairs(self) -> int:
        """Exact number of (query, key) pairs along this dimension alone."""
        return sum(count * int((end - start).sum()) for size, count in self.groups for start, end in [self.spans(size)])


def first_keys(place: Positions, members: int, window: int, stride: int | Positions, causal: bool) -> Positions:
    """First key, as a place in a group of `members`, of the queries at `place`; `stride` may be a column of several."""
    group_start = place // stride * stride
    if causal:  # the window starts where the last member's starts
        leader = np.minimum(group_start + stride - 1, members - 1)
        return np.asarray(np.maximum(leader - window + 1, 0))
    # the window slides inwards at the borders and never shrinks; even sizes: the right one of the two central
    leader = np.minimum(group_start + stride // 2, members - 1)
    return np.asarray(np.clip(leader - window // 2, 0, max(members - window, 0)))


@lru_cache(maxsize=4096)
def _spans(members: int, window: int, stride: int, causal: bool) -> tuple[Positions, Positions]:
    place = np.arange(members, dtype=np.int64)
    start = first_keys(place, members, window, stride, causal)
    end = place + 1 if causal else np.minimum(start + window, members)
    start.flags.writeable = end.flags.writeable = False  # shared by the cache
    return start, end


@dataclass(frozen=True)
class Neighborhood:
    """A pattern over a layout of one or more dimensions; the last one varies fastest.

    Sizes are per dimension. `neighborhood(...)` checks them and fills in what is left out.
    """

    layout: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    causal: tuple[bool, ...]

    def __post_init__(self) -> None:
        sizes = {"window": self.window, "stride": self.stride, "dilation": self.dilation, "causal": self.causal}
        if not self.layout:
            raise CascadeSimError("neighborhood: the layout has no dimension")
        wrong = [name for name, values in sizes.items() if len(values) != len(self.layout)]
        if wrong:
            given = ", ".join(f"{name} has {len(sizes[name])}" for name in wrong)
            raise CascadeSimError(f"neighborhood: the layout has {len(self.layout)} dimensions, but {given}")
        problems = [f"neighborhood: dimension {number}: {problem}"
                    for number, axis in enumerate(self.axes, start=1) for problem in axis.problems()]
        if problems:
            raise CascadeSimError("\n".join(problems))

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        return tuple(map(Axis, self.layout, self.window, self.stride, self.dilation, self.causal))

    @property
    def tokens(self) -> int:
        return prod(self.layout)

    @cached_property
    def pairs(self) -> int:
        """Exact number of (query, key) pairs: the product over the dimensions."""
        return prod(axis.attended_pairs for axis in self.axes)

    def attended_pairs(self, queries: int, keys: int) -> int:
        self._check(queries, keys)
        return self.pairs

    def interval(self, query: Positions, queries: int, keys: int) -> tuple[Positions, Positions]:
        """First and last key that each query attends in row-by-row order; not all keys between are attended."""
        self._check(queries, keys)
        first = last = np.zeros_like(np.asarray(query, dtype=np.int64))
        for coordinate, axis in zip(np.unravel_index(query, self.layout), self.axes, strict=True):
            low, high = axis.ends()
            first, last = first * axis.length + low[coordinate], last * axis.length + high[coordinate]
        return first, last

    def key_tiles(self, queries: int, keys: int, query_tile: int, key_tile: int) -> tuple[Positions, Positions]:
        """First and last one-dimensional key tile (inclusive) that hold an attended key of each query tile.

        A loop over one-dimensional key tiles visits all tiles between them; `simulator.gna` has the others.
        """
        first, last = self.interval(np.arange(queries, dtype=np.int64), queries, keys)
        starts = np.arange(0, queries, query_tile, dtype=np.int64)
        return np.minimum.reduceat(first, starts) // key_tile, np.maximum.reduceat(last, starts) // key_tile

    def attends(self) -> NDArray[np.bool_]:
        """The whole mask, queries x keys: for checks at small sizes only."""
        mask = np.ones((1, 1), dtype=bool)
        for axis in self.axes:
            (first, last), key = axis.ends(), np.arange(axis.length)
            same_group = key % axis.dilation == key[:, None] % axis.dilation
            mask = np.kron(mask, (key >= first[:, None]) & (key <= last[:, None]) & same_group)
        return mask

    def _check(self, queries: int, keys: int) -> None:
        if not queries == keys == self.tokens:
            raise CascadeSimError(f"mask: {self} has {self.tokens} tokens, got {queries} queries and {keys} keys")

    def __str__(self) -> str:
        parts = [f"layout {times(self.layout)}", f"window {times(self.window)}"]
        if set(self.stride) != {1}:
            parts.append(f"stride {times(self.stride)}")
        if set(self.dilation) != {1}:
            parts.append(f"dilation {times(self.dilation)}")
        if any(self.causal):
            parts.append(f"causal {','.join(str(int(causal)) for causal in self.causal)}")
        return "neighborhood, " + ", ".join(parts)


@dataclass(frozen=True)
class ExtraKeys:
    """A neighborhood whose queries attend `extra` further keys as well, all of them: text.

    The extra keys come last. There are no queries for them here: text that attends is another operation.
    """

    pattern: Neighborhood
    extra: int

    def __post_init__(self) -> None:
        if self.extra < 1:
            raise CascadeSimError(f"mask: extra keys must be at least 1, got {self.extra}")

    def attended_pairs(self, queries: int, keys: int) -> int:
        self._check(queries, keys)
        return self.pattern.pairs + self.pattern.tokens * self.extra

    def interval(self, query: Positions, queries: int, keys: int) -> tuple[Positions, Positions]:
        """The last key of every query is an extra one, far beyond its window."""
        self._check(queries, keys)
        first, _ = self.pattern.interval(query, queries, queries)
        return first, np.full_like(first, keys - 1)

    def key_tiles(self, queries: int, keys: int, query_tile: int, key_tile: int) -> tuple[Positions, Positions]:
        """First and last key tile in the order of visits: the pattern's span, then at once the tiles of extra keys.

        So last - first + 1 counts visited tiles, and nothing between window and extra keys is visited.
        """
        self._check(queries, keys)
        first, last = self.pattern.key_tiles(queries, queries, query_tile, key_tile)
        tiles = -(-keys // key_tile)
        return first, np.minimum(last + tiles - queries // key_tile, tiles - 1)

    def _check(self, queries: int, keys: int) -> None:
        if not queries == keys - self.extra == self.pattern.tokens:
            expected = f"{self.pattern.tokens} queries and {self.pattern.tokens + self.extra} keys"
            raise CascadeSimError(f"mask: {self} has {expected}, got {queries} queries and {keys} keys")

    def __str__(self) -> str:
        return f"{self.pattern}, {self.extra} extra keys"


def neighborhood(
    layout: Sequence[int], window: Sequence[int], stride: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None, causal: Sequence[bool] | None = None,
) -> Neighborhood:  # fmt: skip
    """Stride and dilation 1 and no causality where left out. Raises CascadeSimError with every problem at once."""
    ones = (1,) * len(layout)
    return Neighborhood(tuple(layout), tuple(window), tuple(stride if stride is not None else ones),
                        tuple(dilation if dilation is not None else ones),
                        tuple(causal if causal is not None else (False,) * len(layout)))


def times(sizes: Sequence[int]) -> str:
    """`30x48x80`."""
    return "x".join(map(str, sizes))
