"""Which keys a query attends: predicates with exact counts.

Every mask here lets a query attend one contiguous interval of keys: dense, causal, sliding window, chunked.
Queries are the last `queries` positions of a sequence of `keys` positions (a KV cache holds the earlier ones), so
query p sits at position p + keys - queries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.errors import CascadeSimError

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class KeyInterval:
    """Each query attends the keys `first(p) .. last(p)`, both included.

    `window` counts the keys up to and including the query's own position (Mistral's sliding window); `chunk` lets
    a query see only its own block of that many positions (Llama 4). Both imply `causal`.
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
        """First and last key (inclusive) that each query index attends; empty where last < first."""
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

    def attended_pairs(self, queries: int, keys: int) -> int:
        """Exact number of (query, key) pairs."""
        if not self.causal:
            return queries * keys
        first, last = self.interval(np.arange(queries, dtype=np.int64), queries, keys)
        return int(np.maximum(last - first + 1, 0).sum())

    def key_tiles(self, queries: int, keys: int, query_tile: int, key_tile: int) -> tuple[Positions, Positions]:
        """Per query tile, the first and last key tile (inclusive) that hold an attended key."""
        starts = np.arange(0, queries, query_tile, dtype=np.int64)
        ends = np.minimum(starts + query_tile, queries) - 1
        first, _ = self.interval(starts, queries, keys)  # both ends of the interval only move forwards
        _, last = self.interval(ends, queries, keys)
        return first // key_tile, last // key_tile

    def __str__(self) -> str:
        if self.chunk is not None:
            return f"causal, chunks of {self.chunk}"
        if self.window is not None:
            return f"causal, window {self.window}"
        return "causal" if self.causal else "full"


FULL = KeyInterval()
CAUSAL = KeyInterval(causal=True)
