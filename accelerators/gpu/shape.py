"""Shapes of attention as arrays: many at once, or one. Sizes only; knows no device and no kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts: TypeAlias = NDArray[np.int64]
Reals: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Shape:
    """Attention of `batch` sequences; arrays of one size. Queries are the last of the keys.

    `window`: keys a query sees, its own included; 0 for all. `visited_keys`: keys that a tile of queries walks over
    on average, where a mask that is no interval says so; 0 elsewhere. `shared_key_value`: keys and values are one
    latent vector of head_dim, the values its first value_dim elements.
    """

    batch: Counts
    heads: Counts
    heads_kv: Counts
    queries: Counts
    keys: Counts
    head_dim: Counts
    value_dim: Counts
    causal: Flags
    window: Counts
    visited_keys: Reals
    shared_key_value: bool = False

    @property
    def group(self) -> Counts:
        """Query heads that share a key head."""
        return self.heads // self.heads_kv

    @property
    def key_elements(self) -> Counts:
        """Stored for one key and its value, of one head."""
        return self.head_dim if self.shared_key_value else self.head_dim + self.value_dim

    @property
    def keys_in_reach(self) -> Counts:
        """Keys that some query attends."""
        last = np.where(self.window > 0, self.window + self.queries - 1, self.keys)
        return np.asarray(np.minimum(self.keys, last), dtype=np.int64)


def shape(
    batch: ArrayLike,
    heads: ArrayLike,
    heads_kv: ArrayLike,
    queries: ArrayLike,
    keys: ArrayLike,
    head_dim: ArrayLike,
    value_dim: ArrayLike | None = None,
    causal: ArrayLike = False,
    window: ArrayLike = 0,
    visited_keys: ArrayLike = 0,
    *,
    shared_key_value: bool = False,
) -> Shape:
    """All sizes broadcast to one size; `value_dim` is `head_dim` where left out."""
    values = head_dim if value_dim is None else value_dim
    sizes = (batch, heads, heads_kv, queries, keys, head_dim, values, causal, window, visited_keys)
    found = np.broadcast_arrays(*(np.atleast_1d(np.asarray(size)) for size in sizes))
    b, h, g, p, m, e, f = (np.asarray(count, dtype=np.int64) for count in found[:7])
    return Shape(
        b, h, g, p, m, e, f,
        causal=np.asarray(found[7], dtype=np.bool_),
        window=np.asarray(found[8], dtype=np.int64),
        visited_keys=np.asarray(found[9], dtype=np.float64),
        shared_key_value=shared_key_value,
    )  # fmt: skip
