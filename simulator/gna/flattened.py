"""Neighborhoods on kernels that tile the flattened sequence: no permutation, one-dimensional tiles.

A query tile is `query_tile` consecutive tokens in row-by-row order. Its keys are runs of tokens, one per row of the
window; the counts are of key tiles, so that runs with gaps shorter than a tile are one run. This does not factorise
into dimensions: runs are enumerated, query tile by query tile, and merged wherever a tile spans the gap.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.sparsity.masks import Positions
from cascadesim.einsum_cascades.sparsity.neighborhood import Axis, Neighborhood

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
        first, keys = _window(axis, coordinate)
        low = low + first[index] * stride
        index, low, length = _spread(index, low, length, keys[index], axis.dilation * stride, key_tile)
        stride *= axis.length
    return tile[index], low, length


def _row_runs(
    axis: Axis, query_tile: int, begin: int, end: int
) -> tuple[Positions, Positions, Positions, Positions]:
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
    low, _ = _window(axis, first[stretch, member])
    high, keys = _window(axis, last[stretch, member])
    count = (high - low) // axis.dilation + keys
    return row[stretch], tile[stretch], low, count


def _window(axis: Axis, coordinate: NDArray[np.int64]) -> tuple[Positions, Positions]:
    """Coordinate of the first key and number of keys of each query coordinate."""
    first = np.empty(axis.length, dtype=np.int64)
    keys = np.empty(axis.length, dtype=np.int64)
    for group in range(axis.dilation):
        start, end = axis.spans(-(-(axis.length - group) // axis.dilation))
        first[group :: axis.dilation] = group + start * axis.dilation
        keys[group :: axis.dilation] = end - start
    return first[coordinate], keys[coordinate]


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
