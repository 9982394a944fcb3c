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
class Visits:
    """Visited tile pairs along one dimension, or of all dimensions together; sums are over the dilation groups.

    `full`: pairs without a masked element, 0 where a tiling cannot tell (dynamic, flattened, backward).
    """

    total: int
    largest: int
    full: int
    query_tiles: int  # launched: padded to the longest group, in every group

    @property
    def partial(self) -> int:
        return self.total - self.full


def axis_tiles(
    axis: Axis, query_tile: int, key_tile: int, tiling: Tiling = "static", dead_tiles: DeadTiles = "skip"
) -> Visits:
    """Visits along one dimension. A query tile with no query is skipped, or walks a full window as NATTEN's kernels do.

    Static key tiles lie on a fixed grid, dynamic ones begin at the first key of each query tile.
    """
    total = largest = full = 0
    for members, count in axis.groups:
        visited, whole = group_tiles(axis, members, query_tile, key_tile, tiling)
        dead = len(visited) - -(-members // query_tile) if dead_tiles == "walk" else 0
        total += count * (int(visited.sum()) + dead * -(-axis.window // key_tile))
        largest = max(largest, int(visited.max()))
        full += count * int(whole.sum())
    return Visits(total, largest, full, axis.dilation * -(-axis.longest_group // query_tile))


@lru_cache(maxsize=8192)
def group_tiles(
    axis: Axis, members: int, query_tile: int, key_tile: int, tiling: Tiling
) -> tuple[Positions, Positions]:
    """Key tiles that each query tile of a group of `members` visits, and how many of them every query attends whole.

    Both have an entry for each query tile of the longest group: (query tiles,) int64; one without a query visits none.
    """
    start, end = axis.spans(members)
    first = np.arange(0, members, query_tile)
    last = np.minimum(first + query_tile, members) - 1
    visited, full = np.zeros((2, -(-axis.longest_group // query_tile)), dtype=np.int64)
    live = slice(len(first))
    if tiling == "dynamic":
        visited[live] = -(-(end[last] - start[first]) // key_tile)
        return visited, full
    visited[live] = -(-end[last] // key_tile) - start[first] // key_tile
    high = end[first]  # every query attends [start[last], high); what lies past the last key is padding
    ends = np.where(high == members, -(-high // key_tile), high // key_tile)
    full[live] = np.maximum(ends - -(-start[last] // key_tile), 0)
    return visited, full


def stride_sweep(axis: Axis, query_tile: int, key_tile: int, tiling: Tiling) -> tuple[Positions, Positions]:
    """(largest, total) visited key tiles at every stride from 1 on: element s-1 belongs to stride s.

    The stride that the axis has is ignored. Ends at the window, or earlier where no larger stride can be better: a
    window cannot touch fewer tiles than its size needs. Only the first and last query of each tile matter, so many
    strides at once are one array expression.
    """
    live = sum(count * -(-members // query_tile) for members, count in axis.groups)  # query tiles with a query
    fewest = live * -(-axis.window // key_tile)
    step = max(1, SWEEP_ELEMENTS // -(-axis.longest_group // query_tile))
    parts = []
    for begin in range(1, axis.window + 1, step):
        strides = np.arange(begin, min(begin + step, axis.window + 1), dtype=np.int64)
        parts.append(_sweep(axis, query_tile, key_tile, tiling, strides))
        if not axis.causal and parts[-1][1].min() <= fewest:
            break
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


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


def backward_tiles(axis: Axis, query_tile: int, key_tile: int) -> Visits:
    """The key-outer loop of the backward pass: query tiles that each key tile is visited by (static tiling)."""
    total = largest = 0
    for members, count in axis.groups:
        start, end = axis.spans(members)
        first = np.arange(0, members, query_tile)
        last = np.minimum(first + query_tile, members) - 1
        grid = -(-members // key_tile)
        begun = np.bincount(start[first] // key_tile, minlength=grid + 1)[: grid + 1]
        visits = np.cumsum(begun - np.bincount(-(-end[last] // key_tile), minlength=grid + 1))[:grid]
        total += count * int(visits.sum())
        largest = max(largest, int(visits.max()))
    return Visits(total, largest, 0, axis.dilation * -(-axis.longest_group // query_tile))
