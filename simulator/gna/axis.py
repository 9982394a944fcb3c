"""Tiles along one dimension of a neighborhood: how many key tiles each query tile visits.

Start and end of the window never move backwards from one query to the next, and neighbouring windows touch, so the
keys of a query tile are the interval from the first query's start to the last query's end. GNA (arXiv 2504.16922),
section 3.3; dynamic tiling: FNA (arXiv 2403.04690). Several dimensions are products: `neighborhood`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np

from cascadesim.einsum_cascades.sparsity.masks import Positions
from cascadesim.einsum_cascades.sparsity.neighborhood import Axis

Tiling: TypeAlias = Literal["static", "dynamic"]
DeadTiles: TypeAlias = Literal["skip", "walk"]
SWEEP_ELEMENTS = 1 << 17  # strides x query tiles looked at together: fits the caches


@dataclass(frozen=True)
class GroupTiles:
    """Query tiles of one dilation group, padded to the longest group: what each of them visits.

    `visited`: key tiles with an attended key (static: on a fixed grid; dynamic: counted from the tile's first key).
    `full`: those of the static ones in which every query attends every key. Tiles without a query visit nothing.
    """

    visited: Positions
    full: Positions
    block_sparse: bool  # every visited tile is full


@dataclass(frozen=True)
class AxisTiles:
    """All groups of one dimension together. Totals are sums over groups and query tiles."""

    total: int
    largest: int
    full: int  # tile pairs without a masked element; 0 in dynamic tiling, which is masked throughout
    query_tiles: int  # launched: padded to the longest group, in every group
    key_tiles: int  # likewise
    block_sparse: bool


def axis_tiles(
    axis: Axis, query_tile: int, key_tile: int, tiling: Tiling = "static", dead_tiles: DeadTiles = "skip"
) -> AxisTiles:
    """`dead_tiles`: a query tile with no query is skipped, or walks a full window as NATTEN's kernels do."""
    total = largest = full = 0
    block_sparse = True
    for members, count in axis.groups:
        group = group_tiles(axis, members, query_tile, key_tile, tiling)
        dead = len(group.visited) - -(-members // query_tile) if dead_tiles == "walk" else 0
        total += count * (int(group.visited.sum()) + dead * -(-axis.window // key_tile))
        largest = max(largest, int(group.visited.max()))
        full += count * int(group.full.sum())
        block_sparse &= group.block_sparse
    padded = axis.longest_group
    return AxisTiles(
        total, largest, full, axis.dilation * -(-padded // query_tile), axis.dilation * -(-padded // key_tile),
        block_sparse,
    )  # fmt: skip


@lru_cache(maxsize=8192)
def group_tiles(axis: Axis, members: int, query_tile: int, key_tile: int, tiling: Tiling) -> GroupTiles:
    """One group of `members`; the grid has as many query tiles as the longest group of the dimension needs."""
    start, end = axis.spans(members)
    first = np.arange(0, members, query_tile)
    last = np.minimum(first + query_tile, members) - 1
    low, high = start[first], end[last]
    if tiling == "static":
        visited = -(-high // key_tile) - low // key_tile
        full = _full_tiles(start[last], end[first], members, key_tile)
    else:
        visited = -(-(high - low) // key_tile)
        full = np.zeros_like(visited)
    dead = -(-axis.longest_group // query_tile) - len(first)
    return GroupTiles(_padded(visited, dead), _padded(full, dead), bool((full == visited).all()))


def _full_tiles(low: Positions, high: Positions, members: int, key_tile: int) -> Positions:
    """Key tiles inside [low, high), which every query of the tile attends; what lies past the last key is padding."""
    ends = np.where(high == members, -(-high // key_tile), high // key_tile)
    return np.maximum(ends - -(-low // key_tile), 0)


def _padded(counts: Positions, dead: int) -> Positions:
    return np.concatenate([counts, np.zeros(dead, dtype=counts.dtype)]) if dead else counts


def tiles_in_order(axis: Axis, query_tile: int, key_tile: int, tiling: Tiling) -> Positions:
    """Visited key tiles, group by group: shape (dilation groups, query tiles of a group)."""
    return np.stack([
        group_tiles(axis, members, query_tile, key_tile, tiling).visited
        for members, count in axis.groups
        for _ in range(count)
    ])


def stride_sweep(axis: Axis, query_tile: int, key_tile: int, tiling: Tiling) -> tuple[Positions, Positions]:
    """(largest, total) visited key tiles at every stride from 1 on: element s-1 belongs to stride s.

    The stride that the axis has is ignored. Ends at the window, or earlier where no larger stride can be better: a
    window cannot touch fewer tiles than its size needs. Only the first and last query of each tile matter, so many
    strides at once are one array expression.
    """
    fewest = -(-axis.window // key_tile)
    step = max(1, SWEEP_ELEMENTS // -(-axis.longest_group // query_tile))
    parts = []
    for begin in range(1, axis.window + 1, step):
        strides = np.arange(begin, min(begin + step, axis.window + 1), dtype=np.int64)
        parts.append(_sweep(axis, query_tile, key_tile, tiling, strides))
        if not axis.causal and parts[-1][1].min() <= fewest * _live(axis, query_tile):  # so each tile has the fewest
            break
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _live(axis: Axis, query_tile: int) -> int:
    """Query tiles with at least one query."""
    return sum(count * -(-members // query_tile) for members, count in axis.groups)


def _sweep(
    axis: Axis, query_tile: int, key_tile: int, tiling: Tiling, strides: Positions
) -> tuple[Positions, Positions]:
    largest, total = np.zeros_like(strides), np.zeros_like(strides)
    column = strides[:, None]
    for members, count in axis.groups:
        first = np.arange(0, members, query_tile)
        last = np.minimum(first + query_tile, members) - 1
        low = _start(first, members, axis, column)
        high = last + 1 if axis.causal else np.minimum(_start(last, members, axis, column) + axis.window, members)
        visited = -(-high // key_tile) - low // key_tile if tiling == "static" else -(-(high - low) // key_tile)
        largest = np.maximum(largest, visited.max(axis=1))
        total += count * visited.sum(axis=1)
    return largest, total


def _start(place: Positions, members: int, axis: Axis, strides: Positions) -> Positions:
    """The first key of the queries at `place`, for a column of strides; `Axis.spans` is the definition."""
    group_start = place // strides * strides
    if axis.causal:
        start: Positions = np.maximum(np.minimum(group_start + strides - 1, members - 1) - axis.window + 1, 0)
        return start
    leader = np.minimum(group_start + strides // 2, members - 1)
    clamped: Positions = np.clip(leader - axis.window // 2, 0, max(members - axis.window, 0))
    return clamped


def backward_tiles(axis: Axis, query_tile: int, key_tile: int) -> AxisTiles:
    """The key-outer loop of the backward pass: query tiles that each key tile is visited by (static tiling)."""
    total = largest = 0
    block_sparse = True
    for members, count in axis.groups:
        start, end = axis.spans(members)
        first = np.arange(0, members, query_tile)
        last = np.minimum(first + query_tile, members) - 1
        grid = -(-members // key_tile)
        edges = np.bincount(start[first] // key_tile, minlength=grid + 1)[: grid + 1]
        edges = edges - np.bincount(-(-end[last] // key_tile), minlength=grid + 1)
        visits = np.cumsum(edges)[:grid]
        total += count * int(visits.sum())
        largest = max(largest, int(visits.max()))
        block_sparse &= group_tiles(axis, members, query_tile, key_tile, "static").block_sparse
    padded = axis.longest_group
    return AxisTiles(
        total, largest, 0, axis.dilation * -(-padded // query_tile), axis.dilation * -(-padded // key_tile),
        block_sparse,
    )  # fmt: skip
