"""Which keys a query attends: predicates with exact counts.

`KeyInterval`: one contiguous interval of keys per query (dense, causal, sliding window, chunked); `neighborhood` has
windows in layouts of several dimensions. Counts are in closed form; nothing here knows how hardware tiles, beyond the
size of the tiles it is asked about.

Queries are the last `queries` positions of a sequence of `keys` positions (a KV cache holds the earlier ones), so
query p sits at position p + keys - queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError

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
        """First and last key tile (inclusive) with an attended key of each query tile; empty where last < first.

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
