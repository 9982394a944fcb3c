"""The fastest blocking of a matrix product among all tiles that fit an array, some of its rows and columns idle.

Costs of all tiles at once: the array, the DRAM channel and the ports of the buffer, whichever takes longest. The
published way on the largest tiles is kept wherever none is faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.spatial.blocking import (
    STREAMED,
    Blocking,
    Product,
    coarse_sizes,
    operand_rows,
    published_ways,
    rows_resident,
    tile_sizes,
)
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

Grid = NDArray[np.float64]
_ROUNDING = 1e-12  # relative, of sums of floats: below it two blockings are equally fast


@lru_cache(maxsize=1024)
def fastest_blocking(product: Product, spec: SpatialArray) -> Blocking:
    """The one that is done first; the published one where they are equal. Raises CascadeSimError if none fits."""
    published = min(published_ways(product, spec), key=lambda found: bound_cycles(found, spec), default=None)
    if published is not None and bound_cycles(published, spec) <= _least_cycles(product, spec) * (1 + _ROUNDING):
        return published
    found = [blocking for blocking in (published, *_best_of_each_kind(product, spec)) if blocking is not None]
    if not found:
        raise CascadeSimError(_nothing_fits(product, spec))
    least = min(bound_cycles(blocking, spec) for blocking in found)
    return next(blocking for blocking in found if bound_cycles(blocking, spec) <= least * (1 + _ROUNDING))


def bound_cycles(blocking: Blocking, spec: SpatialArray) -> float:
    """No schedule of a blocking is shorter: the busiest of array, DRAM channel and buffer ports."""
    return max(
        blocking.steps * _mac_cycles(spec),
        blocking.dram_words * spec.word_bytes / spec.dram_bytes_per_cycle,
        _buffer_bytes(blocking, spec) / spec.global_buffer.bytes_per_cycle,
    )


def _buffer_bytes(blocking: Blocking, spec: SpatialArray) -> int:
    """What the ports move: rows of operands at each depth step; what is loaded and partial sums, packed."""
    product = blocking.product
    rows = blocking.steps * operand_rows(blocking.tile_rows, blocking.tile_columns, spec)
    packed = blocking.dram_words - product.copies * product.rows * product.columns + blocking.partial_sums
    return rows * spec.global_buffer.row_bytes + packed * spec.word_bytes


def _mac_cycles(spec: SpatialArray) -> int:
    return spec.pe_array.operations.mac or 1


def _least_cycles(product: Product, spec: SpatialArray) -> float:
    """Below it no tile comes: the whole array at work, every operand once."""
    array = spec.pe_array
    tiles = min(
        -(-product.rows // rows) * -(-product.columns // columns)
        for rows, columns in ((array.rows, array.columns), (array.columns, array.rows))
    )
    steps = product.copies * tiles * product.depth
    return max(steps * _mac_cycles(spec), product.least_words * spec.word_bytes / spec.dram_bytes_per_cycle)


@dataclass(frozen=True)
class _Tiles:
    """Tiles of every worthwhile size, rows along the first axis, columns along the second; further axes are free."""

    product: Product
    spec: SpatialArray
    rows: Grid
    columns: Grid

    @classmethod
    def of(cls, product: Product, spec: SpatialArray, coarse: bool = False) -> _Tiles:
        side = max(spec.pe_array.rows, spec.pe_array.columns)
        sizes = coarse_sizes if coarse else tile_sizes
        rows, columns = (np.array(sizes(side, extent), float) for extent in (product.rows, product.columns))
        return cls(product, spec, rows[:, None, None], columns[None, :, None])

    @property
    def on_array(self) -> NDArray[np.bool_]:
        """Upright or turned."""
        array = self.spec.pe_array
        upright = (self.rows <= array.rows) & (self.columns <= array.columns)
        turned = (self.rows <= array.columns) & (self.columns <= array.rows)
        fits: NDArray[np.bool_] = upright | turned
        return fits

    @property
    def row_tiles(self) -> Grid:
        return np.ceil(self.product.rows / self.rows)

    @property
    def column_tiles(self) -> Grid:
        return np.ceil(self.product.columns / self.columns)

    def cycles(self, words: Grid, partial_sums: Grid | float = 0.0) -> Grid:
        """`words`, `partial_sums`: of one copy, loaded and stored by DRAM, read and written between slices."""
        product, spec = self.product, self.spec
        steps = self.row_tiles * self.column_tiles * product.depth
        word, row = spec.word_bytes, spec.global_buffer.row_bytes
        operands = np.ceil(self.rows * word / row) + np.ceil(self.columns * word / row)
        moved = steps * operands * row + (words - product.rows * product.columns + partial_sums) * word
        moving = np.maximum(words * word / spec.dram_bytes_per_cycle, moved / spec.global_buffer.bytes_per_cycle)
        cycles: Grid = product.copies * np.maximum(steps * _mac_cycles(spec), moving)
        return cycles

    def words(self, reads_of_rows: Grid | float, reads_of_weights: Grid | float) -> Grid:
        product = self.product
        operands = reads_of_rows * product.rows * product.depth + reads_of_weights * product.depth * product.columns
        return np.asarray(operands + product.rows * product.columns, float)

    def fastest(self, fits: NDArray[np.bool_], cycles: Grid) -> tuple[int, ...] | None:
        """Where the fewest cycles are; of equal ones the first, which has the largest tiles."""
        valid = np.where(fits & self.on_array, cycles, np.inf)
        best = np.unravel_index(int(np.argmin(valid)), valid.shape)
        return tuple(int(index) for index in best) if np.isfinite(valid[best]) else None


def _best_of_each_kind(product: Product, spec: SpatialArray) -> Iterator[Blocking | None]:
    yield _weights_resident(product, spec)
    yield _rows_resident(product, spec)
    yield _outputs_resident(product, spec)


def _weights_resident(product: Product, spec: SpatialArray) -> Blocking | None:
    tiles = _Tiles.of(product, spec)
    slots = (spec.buffer_words - product.depth * product.columns) // (product.depth * tiles.rows)
    best = tiles.fastest(slots >= STREAMED, tiles.cycles(tiles.words(1, 1)))
    if best is None:
        return None
    rows, columns = int(tiles.rows[best[0], 0, 0]), int(tiles.columns[0, best[1], 0])
    column_tiles = -(-product.columns // columns)
    return Blocking(product, rows, columns, "weights", 1, column_tiles, product.depth, int(slots[best[0], 0, 0]))


def _rows_resident(product: Product, spec: SpatialArray) -> Blocking | None:
    """The fewest blocks of rows that fit, all weights past each."""
    tiles = _Tiles.of(product, spec)
    fits = (spec.buffer_words - STREAMED * product.depth * tiles.columns) // (product.depth * tiles.rows)
    blocks = np.ceil(tiles.row_tiles / np.maximum(fits, 1))
    useful = (fits >= 1) & ((tiles.column_tiles > 1) | (blocks == 1))
    best = tiles.fastest(useful, tiles.cycles(tiles.words(1, blocks)))
    if best is None:
        return None
    rows, columns = int(tiles.rows[best[0], 0, 0]), int(tiles.columns[0, best[1], 0])
    return rows_resident(product, rows, columns, int(blocks[best]), spec.buffer_words)


def _outputs_resident(product: Product, spec: SpatialArray) -> Blocking | None:
    """Blocks of outputs with two slices of their operands, for several numbers of row blocks (the third axis)."""
    depth = _slice_depth(product, spec)
    if depth == product.depth:
        return None
    tiles, capacity = _Tiles.of(product, spec, coarse=True), spec.buffer_words
    tall = np.ceil(tiles.row_tiles / np.array(tile_sizes(product.rows, product.rows), float))
    height = np.minimum(tall * tiles.rows, product.rows)
    columns_beside = (capacity - STREAMED * depth * height) // (height + STREAMED * depth)
    whole = columns_beside >= product.columns
    wide = np.where(whole, tiles.column_tiles, np.minimum(tiles.column_tiles, columns_beside // tiles.columns))
    row_blocks, column_blocks = np.ceil(tiles.row_tiles / tall), np.ceil(tiles.column_tiles / np.maximum(wide, 1))
    partial_sums = 2.0 * product.rows * product.columns * -(-product.depth // depth)
    best = tiles.fastest(wide >= 1, tiles.cycles(tiles.words(column_blocks, row_blocks), partial_sums))
    if best is None:
        return None
    rows, columns = int(tiles.rows[best[0], 0, 0]), int(tiles.columns[0, best[1], 0])
    width = min(int(wide[best]) * columns, product.columns)
    rows_held = int(height[best[0], 0, best[2]])
    slots = (capacity - rows_held * width) // (depth * (rows_held + width))
    per_block = int(tall[best[0], 0, best[2]]), int(wide[best])
    return Blocking(product, rows, columns, "outputs", *per_block, depth, slots)


def _slice_depth(product: Product, spec: SpatialArray) -> int:
    """assumed: twice as deep as a buffer row is wide, so that partial sums keep the ports busy half of the time."""
    return min(2 * max(1, spec.global_buffer.row_bytes // spec.word_bytes), -(-product.depth // 2))


def _nothing_fits(product: Product, spec: SpatialArray) -> str:
    least = min((1 + STREAMED) * product.depth, 1 + 2 * STREAMED * _slice_depth(product, spec))
    return (
        f"global_buffer.capacity_bytes: {spec.global_buffer.capacity_bytes} bytes hold no tile of a linear layer; "
        f"a single output and slices of its operands need {least * spec.word_bytes}"
    )
