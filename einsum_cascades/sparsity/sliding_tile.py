"""Sliding Tile Attention (arXiv 2502.04507): whole tiles of queries attend whole tiles of keys, in tile order.

Tokens are numbered tile by tile, so the pattern is a mask of blocks. An odd number of tiles is the neighborhood with
window = tiles x tile and stride = tile (GNA, arXiv 2504.16922); an even one has no such twin, half a tile off.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.block_selection import BlockMask
from cascadesim.einsum_cascades.sparsity.neighborhood import times

MOST_TILES = 1 << 13  # of a layout; assumed: published videos have hundreds, and the mask is their square


def sliding_tile(layout: Sequence[int], tile: Sequence[int], window: Sequence[int]) -> BlockMask:
    """`window` counts tiles: those around the query's own, shifted inwards at the borders. Raises CascadeSimError."""
    if not len(layout) == len(tile) == len(window):
        raise CascadeSimError(f"pattern sliding-tile: layout {times(layout)}, tile {times(tile)} and window "
                              f"{times(window)} differ in dimensions")
    problems = [
        f"pattern sliding-tile: dimension {number}: {problem}"
        for number, sizes in enumerate(zip(layout, tile, window, strict=True), start=1)
        for problem in _problems(*sizes)
    ]
    if problems:
        raise CascadeSimError("\n".join(problems))
    tiles = prod(layout) // prod(tile)
    if tiles > MOST_TILES:
        raise CascadeSimError(f"pattern sliding-tile: {tiles:,} tiles of {times(tile)}; at most {MOST_TILES:,}")
    bands = [_band(length // size, tiles) for length, size, tiles in zip(layout, tile, window, strict=True)]
    return BlockMask(reduce(np.kron, bands), prod(tile), prod(tile))


def _problems(length: int, tile: int, window: int) -> list[str]:
    if tile < 1 or length % tile:
        return [f"tile {tile} does not divide the layout {length}"]
    if not 1 <= window <= length // tile:
        return [f"window {window}; give 1 to the {length // tile} tiles of the layout"]
    return []


def _band(tiles: int, window: int) -> NDArray[np.bool_]:
    """Along one dimension: `window` tiles, the middle one the query's own; the right one of two middle ones."""
    first = np.clip(np.arange(tiles) - window // 2, 0, tiles - window)[:, None]
    key = np.arange(tiles)
    return np.asarray((key >= first) & (key < first + window))
