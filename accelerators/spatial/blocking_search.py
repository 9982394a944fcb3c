"""The fastest blocking of a matrix product among all tiles that fit an array, some of its rows and columns idle.

Costs of all tiles at once: the array, the DRAM channel and the ports of the buffer, whichever takes longest. The
published way on the largest tiles is kept wherever none is faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.spatial.blocking import (
    STREAMED,
    BlockedProduct,
    Blocking,
    coarse_sizes,
    published_way,
    rows_resident,
    tile_sizes,
)
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

Floats: TypeAlias = NDArray[np.float64]
_ROUNDING = 1e-12  # relative, of sums of floats: below it two blockings are equally fast


@lru_cache(maxsize=1024)
def fastest_blocking(product: BlockedProduct, spec: SpatialArray) -> Blocking:
    """Find the blocking that is done first; a published one wins a tie. Raises CascadeSimError if none fits."""
    published = published_way(product, spec)
    if published is not None and bound_cycles(published, spec) <= _least_cycles(product, spec) * (1 + _ROUNDING):
        return published
    ways = (published, *(way(product, spec) for way in (_weights_resident, _rows_resident, _outputs_resident)))
    found = [(bound_cycles(blocking, spec), blocking) for blocking in ways if blocking is not None]
    if not found:
        words = min((1 + STREAMED) * product.depth, 1 + 2 * STREAMED * _slice_depth(product, spec))
        raise CascadeSimError(
            f"global_buffer.capacity_bytes: {spec.global_buffer.capacity_bytes} bytes hold no tile of a linear layer; "
            f"a single output and slices of its operands need {words * spec.word_bytes}"
        )
    least = min(cycles for cycles, _ in found)
    return next(blocking for cycles, blocking in found if cycles <= least * (1 + _ROUNDING))


def bound_cycles(blocking: Blocking, spec: SpatialArray) -> float:
    """No schedule of a blocking is shorter: the busiest of array, DRAM channel and buffer ports."""
    sides = np.array(float(blocking.tile_rows)), np.array(float(blocking.tile_columns))
    tile = _TileGrid(blocking.product, spec, *sides)
    return float(tile.cycles(blocking.reads_of_rows, blocking.reads_of_weights, blocking.partial_sums))


def _least_cycles(product: BlockedProduct, spec: SpatialArray) -> float:
    """No tile takes fewer: the whole array is at work, every operand moves once."""
    array = spec.pe_array
    tiles = min(
        -(-product.rows // rows) * -(-product.columns // columns)
        for rows, columns in ((array.rows, array.columns), (array.columns, array.rows))
    )
    steps = product.copies * tiles * product.depth
    return max(steps * array.mac_cycles, product.least_words * spec.word_bytes / spec.dram_bytes_per_cycle)


@dataclass(frozen=True)
class _TileGrid:
    """Tiles of every worthwhile size, float64: rows along the first axis, columns along the second, the third free."""

    product: BlockedProduct
    spec: SpatialArray
    rows: Floats
    columns: Floats

    @classmethod
    def of(cls, product: BlockedProduct, spec: SpatialArray, coarse: bool = False) -> _TileGrid:
        side = max(spec.pe_array.rows, spec.pe_array.columns)
        sizes = coarse_sizes if coarse else tile_sizes
        rows, columns = (np.array(sizes(side, extent), float) for extent in (product.rows, product.columns))
        return cls(product, spec, rows[:, None, None], columns[None, :, None])

    @property
    def row_tiles(self) -> Floats:
        return np.ceil(self.product.rows / self.rows)

    @property
    def column_tiles(self) -> Floats:
        return np.ceil(self.product.columns / self.columns)

    def cycles(
        self, reads_of_rows: Floats | float, reads_of_weights: Floats | float, partial_sums: Floats | float = 0.0
    ) -> Floats:
        """Count the cycles of the busiest of array, DRAM channel and ports, given how often operands pass by DRAM.

        The ports move rows of operands at each depth step; what is loaded and `partial_sums` (words of one copy that
        are read and written between slices), packed.
        """
        product, spec = self.product, self.spec
        word, row, outputs = spec.word_bytes, spec.global_buffer.row_bytes, product.rows * product.columns
        loaded = reads_of_rows * product.rows * product.depth + reads_of_weights * product.depth * product.columns
        steps = self.row_tiles * self.column_tiles * product.depth
        operands = np.ceil(self.rows * word / row) + np.ceil(self.columns * word / row)
        ports = steps * operands * row + (loaded + partial_sums) * word
        dram = (loaded + outputs) * word / spec.dram_bytes_per_cycle
        moving = np.maximum(dram, ports / spec.global_buffer.bytes_per_cycle)
        cycles: Floats = product.copies * np.maximum(steps * spec.pe_array.mac_cycles, moving)
        return cycles

    def fastest(self, fits: NDArray[np.bool_], cycles: Floats) -> tuple[tuple[int, ...], int, int] | None:
        """Find where the fewest cycles are, and the tile; among equal ones the first has the largest tiles.

        A tile lies upright on the array, or turned.
        """
        array = self.spec.pe_array
        upright = (self.rows <= array.rows) & (self.columns <= array.columns)
        turned = (self.rows <= array.columns) & (self.columns <= array.rows)
        valid = np.where(fits & (upright | turned), cycles, np.inf)
        at = tuple(int(index) for index in np.unravel_index(int(np.argmin(valid)), valid.shape))
        if not np.isfinite(valid[at]):
            return None
        return at, int(self.rows[at[0], 0, 0]), int(self.columns[0, at[1], 0])


def _weights_resident(product: BlockedProduct, spec: SpatialArray) -> Blocking | None:
    tiles = _TileGrid.of(product, spec)
    slots = (spec.buffer_words - product.depth * product.columns) // (product.depth * tiles.rows)
    if (best := tiles.fastest(slots >= STREAMED, tiles.cycles(1, 1))) is None:
        return None
    at, rows, columns = best
    column_tiles = -(-product.columns // columns)
    return Blocking(product, rows, columns, "weights", 1, column_tiles, product.depth, int(slots[at[0], 0, 0]))


def _rows_resident(product: BlockedProduct, spec: SpatialArray) -> Blocking | None:
    """Keep the fewest blocks of rows that fit; all weights pass each."""
    tiles = _TileGrid.of(product, spec)
    fits = (spec.buffer_words - STREAMED * product.depth * tiles.columns) // (product.depth * tiles.rows)
    blocks = np.ceil(tiles.row_tiles / np.maximum(fits, 1))
    useful = (fits >= 1) & ((tiles.column_tiles > 1) | (blocks == 1))
    if (best := tiles.fastest(useful, tiles.cycles(1, blocks))) is None:
        return None
    at, rows, columns = best
    return rows_resident(product, rows, columns, int(blocks[at]), spec.buffer_words)


def _outputs_resident(product: BlockedProduct, spec: SpatialArray) -> Blocking | None:
    """Keep blocks of outputs with two slices of their operands; the third axis is the number of row blocks."""
    depth = _slice_depth(product, spec)
    if depth == product.depth:
        return None
    tiles, capacity = _TileGrid.of(product, spec, coarse=True), spec.buffer_words
    tall = np.ceil(tiles.row_tiles / np.array(tile_sizes(product.rows, product.rows), float))
    height = np.minimum(tall * tiles.rows, product.rows)
    columns_beside = (capacity - STREAMED * depth * height) // (height + STREAMED * depth)
    whole = columns_beside >= product.columns
    wide = np.where(whole, tiles.column_tiles, np.minimum(tiles.column_tiles, columns_beside // tiles.columns))
    row_blocks, column_blocks = np.ceil(tiles.row_tiles / tall), np.ceil(tiles.column_tiles / np.maximum(wide, 1))
    partial_sums = 2.0 * product.rows * product.columns * -(-product.depth // depth)
    if (best := tiles.fastest(wide >= 1, tiles.cycles(column_blocks, row_blocks, partial_sums))) is None:
        return None
    at, rows, columns = best
    rows_per_block, columns_per_block, held = int(tall[at[0], 0, at[2]]), int(wide[at]), int(height[at[0], 0, at[2]])
    width = min(columns_per_block * columns, product.columns)
    slots = (capacity - held * width) // (depth * (held + width))
    return Blocking(product, rows, columns, "outputs", rows_per_block, columns_per_block, depth, slots)


def _slice_depth(product: BlockedProduct, spec: SpatialArray) -> int:
    """assumed: twice as deep as a buffer row is wide, so that partial sums keep the ports busy half of the time."""
    return min(2 * max(1, spec.global_buffer.row_bytes // spec.word_bytes), -(-product.depth // 2))
