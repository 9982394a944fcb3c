"""Which keys a query attends: predicates with exact counts.

`KeyInterval`: one contiguous interval of keys per query (dense, causal, sliding window, chunked). `Neighborhood`: a
window around the query in a layout of one or more dimensions (NAT, CVPR 2023; DiNAT, arXiv 2209.15001). Counts are in
closed form; nothing here knows how hardware tiles, beyond the size of the tiles it is asked about.

Queries are the last `queries` positions of a sequence of `keys` positions (a KV cache holds the earlier ones), so
query p sits at position p + keys - queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.errors import CascadeSimError

Positions = NDArray[np.int64]


class Mask(Protocol):
    """What every mask answers."""

    def interval(self, query: Positions, queries: int, keys: int) -> tuple[Positions, Positions]:
        """First and last key (inclusive) that each query index attends; empty where last < first."""
        ...

    def attended_pairs(self, queries: int, keys: int) -> int:
        """Exact number of (query, key) pairs."""
        ...

    def key_tiles(self, queries: int, keys: int, query_tile: int, key_tile: int) -> tuple[Positions, Positions]:
        """Per query tile, first and last key tile (inclusive) with an attended key; empty where last < first."""
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
        """First and last key (inclusive) that each query index attends; empty where last < first.

        A causal query before the first key (more queries than keys) attends nothing.
        """
        position = np.asarray(query, dtype=np.int64) + (keys - queries)
        first = np.zeros_like(position)
        last = np.full_like(position, keys - 1)
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
        """Per query tile, first and last key tile (inclusive) with an attended key; empty where last < first.

        Every key tile between them holds one too: consecutive intervals overlap or touch.
        """
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


@dataclass(frozen=True, slots=True)
class Neighborhood:
    """Each query attends the `window` nearest keys of its dilation group, in every dimension of `layout`.

    At a border the window shifts inwards instead of shrinking (NAT), so every query attends equally many keys.
    Tokens are numbered row by row. A loop over one-dimensional key tiles visits all tiles between the first and the
    last attended key, so `interval` and `key_tiles` span keys that are not attended; `attended_pairs` counts only
    those that are.
    """

    layout: tuple[int, ...]
    window: tuple[int, ...]
    dilation: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.layout) == len(self.window) == len(self.dilation):
            raise CascadeSimError(f"mask: layout, window and dilation differ in dimensions: {self}")
        if min((1, *self.layout, *self.window, *self.dilation)) < 1:
            raise CascadeSimError(f"mask: every size must be at least 1: {self}")

    def interval(self, query: Positions, queries: int, keys: int) -> tuple[Positions, Positions]:
        """First and last key that each query attends in row-by-row order; not all keys between are attended."""
        self._check(queries, keys)
        query = np.asarray(query, dtype=np.int64)
        first, last = np.zeros_like(query), np.zeros_like(query)
        for coordinate, side, window, dilation in zip(
            np.unravel_index(query, self.layout), self.layout, self.window, self.dilation, strict=True
        ):
            low, high = _neighbours(coordinate, side, window, dilation)
            first, last = first * side + low, last * side + high
        return first, last

    def attended_pairs(self, queries: int, keys: int) -> int:
        """Exact number of (query, key) pairs: the dimensions are independent."""
        self._check(queries, keys)
        return prod(
            _axis_pairs(side, window, dilation)
            for side, window, dilation in zip(self.layout, self.window, self.dilation, strict=True)
        )

    def key_tiles(self, queries: int, keys: int, query_tile: int, key_tile: int) -> tuple[Positions, Positions]:
        """Per query tile, the first and last key tile (inclusive) that hold an attended key."""
        first, last = self.interval(np.arange(queries, dtype=np.int64), queries, keys)
        starts = np.arange(0, queries, query_tile, dtype=np.int64)
        return np.minimum.reduceat(first, starts) // key_tile, np.maximum.reduceat(last, starts) // key_tile

    def _check(self, queries: int, keys: int) -> None:
        if not queries == keys == prod(self.layout):
            raise CascadeSimError(f"mask: {self} has {prod(self.layout)} tokens, got {queries} queries and {keys} keys")

    def __str__(self) -> str:
        sizes = ["x".join(map(str, sizes)) for sizes in (self.layout, self.window, self.dilation)]
        return "neighborhood, layout {}, window {}, dilation {}".format(*sizes)


def _neighbours(coordinate: Positions, side: int, window: int, dilation: int) -> tuple[Positions, Positions]:
    """First and last coordinate attended along one dimension; the group of a coordinate is every dilation-th one."""
    group, place = coordinate % dilation, coordinate // dilation
    size = (side - group + dilation - 1) // dilation  # members of the group
    start = np.clip(place - window // 2, 0, np.maximum(size - window, 0))
    end = np.minimum(start + window, size) - 1
    return group + start * dilation, group + end * dilation


def _axis_pairs(side: int, window: int, dilation: int) -> int:
    """Pairs along one dimension: `side % dilation` groups have one member more than the others."""
    members, larger = divmod(side, dilation)
    return larger * (members + 1) * min(window, members + 1) + (dilation - larger) * members * min(window, members)


FULL = KeyInterval()
CAUSAL = KeyInterval(causal=True)
