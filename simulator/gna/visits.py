"""How many key tiles each query tile of a neighborhood visits: along one dimension, and on the flattened sequence.

Start and end of the window never move backwards from one query to the next, and neighbouring windows touch, so the
keys of a query tile are the interval from the first query's start to the last query's end. GNA (arXiv 2504.16922),
section 3.3; dynamic tiling: FNA (arXiv 2403.04690). Several dimensions are products: `neighborhood`. The flattened
sequence does not factorise: runs of keys, one per row of the window, are merged where a key tile spans the gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Literal, TypeAlias

import numpy as np

from cascadesim.einsum_cascades.sparsity.masks import Axis, Neighborhood, Positions, first_keys

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
    visited, full = np.zeros((2, -(-axis.longest_group // query_tile)), dtype=np.int64)
    live = slice(-(-members // query_tile))
    visited[live] = _visited(axis, members, query_tile, key_tile, tiling, np.array([axis.stride]))[0]
    if tiling == "static":
        start, end = axis.spans(members)
        first = np.arange(0, members, query_tile)
        last = np.minimum(first + query_tile, members) - 1
        high = end[first]  # every query attends [start[last], high); what lies past the last key is padding
        ends = np.where(high == members, -(-high // key_tile), high // key_tile)
        full[live] = np.maximum(ends - -(-start[last] // key_tile), 0)
    return visited, full


def _visited(axis: Axis, members: int, query_tile: int, key_tile: int, tiling: Tiling, strides: Positions) -> Positions:
    """Key tiles that each query tile of a group visits at each stride: (strides, query tiles) int64."""
    first = np.arange(0, members, query_tile)
    last = np.minimum(first + query_tile, members) - 1
    low, high = (first_keys(place, members, axis.window, strides[:, None], axis.causal) for place in (first, last))
    high = last + 1 if axis.causal else np.minimum(high + axis.window, members)
    return -(-high // key_tile) - low // key_tile if tiling == "static" else -(-(high - low) // key_tile)


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
        largest, total = np.zeros((2, len(strides)), dtype=np.int64)
        for members, count in axis.groups:
            visited = _visited(axis, members, query_tile, key_tile, tiling, strides)
            largest, total = np.maximum(largest, visited.max(axis=1)), total + count * visited.sum(axis=1)
        parts.append((largest, total))
        if not axis.causal and total.min() <= fewest:
            break
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


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


LARGEST_BATCH = 1 << 20  # assumed: runs enumerated at a time, some tens of MB


def flat_tiles(pattern: Neighborhood, query_tile: int, key_tile: int) -> tuple[Positions, Positions]:
    """Key tiles with an attended key of each query tile, and all key tiles from the first to the last of them.

    Runs are enumerated in batches of whole query tiles that have about LARGEST_BATCH runs at most.
    """
    union, span = np.zeros((2, -(-pattern.tokens // query_tile)), dtype=np.int64)
    *outer, inner = pattern.axes
    rows_per_tile = query_tile / inner.length + 2
    runs_per_tile = rows_per_tile * min(inner.dilation, inner.length) * prod(axis.window for axis in outer)
    size = query_tile * max(1, int(LARGEST_BATCH / runs_per_tile))
    for begin in range(0, pattern.tokens, size):
        end = min(begin + size, pattern.tokens)
        tile, low, length = _runs(pattern, query_tile, key_tile, begin, end)
        tile, first, last = tile - begin // query_tile, low // key_tile, (low + length) // key_tile
        batch = slice(begin // query_tile, -(-end // query_tile))
        union[batch], span[batch] = _union(tile, first, last), _span(tile, first, last)
    return union, span


def _runs(
    pattern: Neighborhood, query_tile: int, key_tile: int, begin: int, end: int
) -> tuple[Positions, Positions, Positions]:
    """Runs of the queries begin .. end-1: along the last dimension first, then spread over the outer windows.

    Returns, for each run of tokens `low .. low+length` (inclusive), the query tile that needs it, low and length.
    """
    *outer, inner = pattern.axes
    row, tile, low, count = _row_runs(inner, query_tile, begin, end)
    index, low, length = _spread(np.arange(len(row)), low, np.zeros_like(low), count, inner.dilation, key_tile)
    stride = inner.length
    coordinates = np.unravel_index(row, pattern.layout[:-1]) if outer else ()
    for axis, coordinate in reversed(list(zip(outer, coordinates, strict=True))):
        first, last = (edge[coordinate] for edge in axis.ends())
        low = low + first[index] * stride
        keys = (last - first) // axis.dilation + 1
        index, low, length = _spread(index, low, length, keys[index], axis.dilation * stride, key_tile)
        stride *= axis.length
    return tile[index], low, length


def _row_runs(axis: Axis, query_tile: int, begin: int, end: int) -> tuple[Positions, Positions, Positions, Positions]:
    """Stretches of queries in one row, one query tile and one dilation group, and the keys along the row they see.

    Returns row, query tile, first key's coordinate and number of keys.
    """
    first_row = -(-begin // axis.length) * axis.length
    starts = np.union1d(np.arange(begin, end, query_tile), np.arange(first_row, end, axis.length))
    ends = np.append(starts[1:], end)
    row, tile = starts // axis.length, starts // query_tile
    left, right = starts - row * axis.length, ends - 1 - row * axis.length
    group = np.arange(axis.dilation)
    first = left[:, None] + (group - left[:, None]) % axis.dilation  # first and last query of the group in it
    last = right[:, None] - (right[:, None] - group) % axis.dilation
    stretch, member = np.nonzero(first <= last)
    low_of, high_of = axis.ends()
    low, high = low_of[first[stretch, member]], high_of[last[stretch, member]]
    return row[stretch], tile[stretch], low, (high - low) // axis.dilation + 1


def _spread(
    index: Positions, low: Positions, length: Positions, count: Positions, shift: int, key_tile: int
) -> tuple[Positions, Positions, Positions]:
    """Each run `count` times, `shift` tokens apart; as one run where the gaps are too short to skip a key tile."""
    joined = shift - length <= key_tile
    copies = np.where(joined, 1, count)
    length = np.where(joined, length + (count - 1) * shift, length)
    chosen = np.repeat(np.arange(len(index)), copies)
    place = np.arange(len(chosen)) - np.repeat(np.cumsum(copies) - copies, copies)
    return index[chosen], low[chosen] + place * shift, length[chosen]


def _union(tile: Positions, first: Positions, last: Positions) -> Positions:
    """Distinct key tiles per query tile: runs in order, each counted from where the earlier ones end."""
    apart = int(last.max()) + 2
    order = np.argsort(tile * apart + first, kind="stable")
    begin, end = (tile * apart + first)[order], (tile * apart + last)[order]
    covered = np.maximum.accumulate(np.concatenate([[-1], end[:-1]]))
    new = np.maximum(end - np.maximum(begin, covered + 1) + 1, 0)
    counts: Positions = np.bincount(tile[order], weights=new).astype(np.int64)
    return counts


def _span(tile: Positions, first: Positions, last: Positions) -> Positions:
    low = np.full(int(tile.max()) + 1, np.iinfo(np.int64).max)
    high = np.zeros_like(low)
    np.minimum.at(low, tile, first)
    np.maximum.at(high, tile, last)
    tiles: Positions = high - low + 1
    return tiles
