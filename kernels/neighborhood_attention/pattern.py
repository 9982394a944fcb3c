"""The pattern of GNA (arXiv 2504.16922, section 3) and its tiles, as tables that a kernel walks.

Written from the definition and independent of the simulator, whose counts must come out equal. Tokens are put into tile
order: by dilation group, then by tile, then row by row inside a tile; groups are padded to whole tiles of the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class WindowPattern:
    """Sizes per dimension of the layout; the last dimension varies fastest."""

    layout: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    causal: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len({len(self.layout), len(self.window), len(self.stride), len(self.dilation), len(self.causal)}) != 1:
            raise ValueError(f"pattern: every size needs one value per dimension of the layout {self.layout}")
        for n, w, s, d in zip(self.layout, self.window, self.stride, self.dilation, strict=True):
            if min(n, w, s, d) < 1 or w * d > n or s > w:
                raise ValueError(f"pattern: needs 1 <= stride <= window and window x dilation <= layout; "
                                 f"layout {n}, window {w}, stride {s}, dilation {d}")  # fmt: skip

    @property
    def tokens(self) -> int:
        return prod(self.layout)

    def window_of(self, axis: int, members: int) -> tuple[Integers, Integers]:
        """[start, end) in places of a dilation group of `members`, per query."""
        place = np.arange(members)
        w, s = self.window[axis], self.stride[axis]
        if self.causal[axis]:
            leader = np.minimum(place // s * s + s - 1, members - 1)
            return np.maximum(leader - w + 1, 0), place + 1
        leader = np.minimum(place // s * s + s // 2, members - 1)
        start = np.clip(leader - w // 2, 0, members - w)
        return start, start + w

    def mask(self) -> NDArray[np.bool_]:
        """All pairs, queries x keys; for references at small sizes."""
        return self.mask_of(np.arange(self.tokens))

    def mask_of(self, queries: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """What these tokens attend, queries x all keys."""
        whole = np.ones((len(queries), 1), dtype=bool)
        for axis, coordinate in enumerate(np.unravel_index(queries, self.layout)):
            one = self._axis_mask(axis)[coordinate]
            whole = (whole[:, :, None] & one[:, None, :]).reshape(len(queries), -1)
        return whole

    def _axis_mask(self, axis: int) -> NDArray[np.bool_]:
        """Coordinates x coordinates of one dimension."""
        length, d = self.layout[axis], self.dilation[axis]
        one = np.zeros((length, length), dtype=bool)
        for group in range(d):
            members = np.arange(group, length, d)
            for query, start, end in zip(members, *self.window_of(axis, len(members)), strict=True):
                one[query, members[start:end]] = True
        return one


def pattern(
    layout: Sequence[int], window: Sequence[int], stride: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None, causal: Sequence[bool] | None = None,
) -> WindowPattern:  # fmt: skip
    """Stride and dilation 1, no causality where left out."""
    ones = (1,) * len(layout)
    return WindowPattern(tuple(layout), tuple(window), tuple(stride or ones), tuple(dilation or ones),
                   tuple(causal or (False,) * len(layout)))  # fmt: skip


def tile_order(pattern: WindowPattern, tile: Sequence[int]) -> NDArray[np.int32]:
    """Token of each slot in tile order, -1 for padding."""
    order = np.full((1, 1, 1), 0, dtype=np.int64)  # groups, tiles, tokens of a tile
    valid = np.ones((1, 1, 1), dtype=bool)
    for length, d, size in zip(pattern.layout, pattern.dilation, tile, strict=True):
        longest = -(-length // d)
        place = np.arange(-(-longest // size) * size)
        coordinate = np.arange(d)[:, None] + place * d
        one = coordinate.reshape(d, -1, size)
        order = _outer(order * length, one, np.add)
        valid = _outer(valid, one < length, np.logical_and)
    return np.where(valid, order, -1).astype(np.int32).reshape(-1)


def _outer(left: NDArray[Any], right: NDArray[Any], join: Callable[[Any, Any], Any]) -> NDArray[Any]:
    """(groups, tiles, tokens) of the dimensions so far, with one more."""
    both = join(left[:, None, :, None, :, None], right[None, :, None, :, None, :])
    joined: NDArray[Any] = both.reshape(*(a * b for a, b in zip(left.shape, right.shape, strict=True)))
    return joined


@dataclass(frozen=True)
class Boxes:
    """Key tiles of each query tile, in tile order (group, then tile): boxes in the grid of key tiles, three dimensions.

    `table[q]`: the group's first key tile, then for each box the low corner and the size. Box 0 holds the tiles that
    need no mask, the others those that do: two slabs per dimension around it. `starts`, `ends` [slots, 3]: window of
    each query.
    """

    table: NDArray[np.int32]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]
    grid: tuple[int, int, int]  # key tiles of one group
    whole: Integers  # key tiles without a mask, per query tile
    visited: Integers  # all key tiles, per query tile


DIMENSIONS = 3
SLABS = 2 * DIMENSIONS


def boxes(
    pattern: WindowPattern, query_tile: Sequence[int], key_tile: Sequence[int], *, mask_all: bool = False
) -> Boxes:
    """`mask_all`: every tile is treated as one with a mask, to measure what masks cost."""
    axes = [_axis(pattern, axis, query_tile[axis], key_tile[axis]) for axis in range(len(pattern.layout))]
    axes = [_single()] * (DIMENSIONS - len(axes)) + axes
    first, second, third = (axis.key_tiles for axis in axes)
    grid = first, second, third
    groups = [len(axis.low) for axis in axes]
    tiles = [axis.low.shape[1] for axis in axes]
    outer = [[axis.low, axis.high, axis.whole_low, axis.whole_high] for axis in axes]
    rows = []
    for number, group in enumerate(np.ndindex(*groups)):
        for tile in np.ndindex(*tiles):
            edges = [[int(edge[g, t]) for edge in axis] for axis, g, t in zip(outer, group, tile, strict=True)]
            rows.append([number * prod(grid), *_slabs(edges, mask_all)])
    table = np.array(rows, dtype=np.int32)
    sizes = table[:, 1:].reshape(len(table), 1 + SLABS, 2, DIMENSIONS)[:, :, 1].astype(np.int64).prod(-1)
    starts, ends = (_per_slot([getattr(axis, name) for axis in axes]) for name in ("starts", "ends"))
    return Boxes(table, starts, ends, grid, sizes[:, 0], sizes.sum(1))


@dataclass(frozen=True)
class _Axis:
    """One dimension, (group, query tile): [low, high) tiles with any key, [whole_low, whole_high) with no masked
    pair."""

    low: Integers
    high: Integers
    whole_low: Integers
    whole_high: Integers
    starts: Integers  # (group, query tile, query of the tile)
    ends: Integers
    key_tiles: int


def _single() -> _Axis:
    """A dimension of one token."""
    zero, one = np.zeros((1, 1), dtype=np.int64), np.ones((1, 1), dtype=np.int64)
    return _Axis(zero, one, zero, one, zero[..., None], one[..., None], 1)


def _axis(pattern: WindowPattern, axis: int, query_tile: int, key_tile: int) -> _Axis:
    length, d = pattern.layout[axis], pattern.dilation[axis]
    longest = -(-length // d)
    tiles = -(-longest // query_tile)
    starts, ends = np.zeros((2, d, tiles * query_tile), dtype=np.int64)
    for group in range(d):
        members = -(-(length - group) // d)
        starts[group, :members], ends[group, :members] = pattern.window_of(axis, members)
    starts, ends = (each.reshape(d, tiles, query_tile) for each in (starts, ends))
    live = ends > starts
    far = np.iinfo(np.int64).max
    low, high = np.where(live, starts, far).min(-1), ends.max(-1)
    whole_low, whole_high = starts.max(-1), np.where(live, ends, far).min(-1)
    dead = ~live.any(-1)
    low, whole_high = np.where(dead, 0, low), np.where(dead, 0, whole_high)
    first, last = low // key_tile, -(-high // key_tile)
    inner_first, inner_last = -(-whole_low // key_tile), whole_high // key_tile
    return _Axis(first, last, inner_first, np.maximum(inner_last, inner_first), starts, ends, -(-longest // key_tile))


def _slabs(edges: list[list[int]], mask_all: bool) -> list[int]:
    """Corners and sizes: the whole box, then what lies below and above it in each dimension in turn."""
    if mask_all or any(whole_high <= whole_low for _, _, whole_low, whole_high in edges):
        edges = [[low, high, low, low] for low, high, _, _ in edges]
    spans = [(low, high) for low, high, _, _ in edges]
    whole = [(whole_low, whole_high) for _, _, whole_low, whole_high in edges]
    found = [whole]
    for axis, (low, high, whole_low, whole_high) in enumerate(edges):
        for span in ((low, whole_low), (whole_high, high)):
            found.append([*whole[:axis], span, *spans[axis + 1 :]])
    return [value for box in found for value in (*(low for low, _ in box), *(max(high - low, 0) for low, high in box))]


def _per_slot(parts: list[Integers]) -> NDArray[np.int32]:
    """(slots, dimensions) in tile order, from (group, tile, token) of each dimension."""
    columns = []
    for axis, part in enumerate(parts):
        whole = np.zeros((1, 1, 1), dtype=np.int64)
        for other, each in enumerate(parts):
            whole = _outer(whole, part if other == axis else np.zeros_like(each), np.add)
        columns.append(whole.reshape(-1))
    return np.stack(columns, -1).astype(np.int32)
