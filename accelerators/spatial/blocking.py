"""How a matrix product is cut into tiles, which part of it stays in the buffer, and what then passes by DRAM.

Z[r,n] = A[r,k] * W[k,n], tile by tile on a 2D array: r over one side, n over the other, k in time. Published rule:
weights resident, otherwise blocks of rows resident and all weights once per block (FuseMax artifact, linear layers).
Where a row tile of full depth does not fit, or DRAM would bound it, outputs may stay instead, k cut in slices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, TypeAlias

from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

Resident: TypeAlias = Literal["weights", "rows", "outputs"]
STREAMED = 2  # tiles beside what is resident (slices of k beside outputs): one is computed while the other arrives
_FINE = 64  # every size up to it, then 32 to the octave: what lies between wastes at most a 33rd
_FEWEST_COARSE_TILES = 4


@lru_cache(maxsize=4096)
def tile_sizes(side: int, extent: int, fine: int = _FINE) -> tuple[int, ...]:
    """List sizes worth trying for tiles of `extent` coordinates over at most `side` elements, largest first.

    `fine`: every size up to it and half as many to the octave above, and every size of as many equal tiles or fewer.

    An array may leave rows, columns and lanes idle. The sizes do not depend on the array, which only says how large
    they may be: whatever a small array can do, a larger one can. No tile is longer than the extent.
    """
    most = min(side, extent)
    few = {-(-extent // tiles) for tiles in range(1, fine + 1)}
    shifts = range(max(0, most.bit_length() - fine.bit_length() + 1) + 1)
    steps = {step << shift for shift in shifts for step in range(1, fine + 1)}
    return tuple(sorted((size for size in few | steps if size <= most), reverse=True))


@lru_cache(maxsize=4096)
def coarse_sizes(side: int, extent: int) -> tuple[int, ...]:
    """List fewer sizes, where trying one is not cheap: two to the octave, and few equal tiles."""
    most = min(side, extent)
    few = {-(-extent // tiles) for tiles in range(1, _FEWEST_COARSE_TILES + 1)}
    octaves = {start << power for start in (1, 2, 3) for power in range(most.bit_length() + 1)}
    return tuple(sorted((size for size in few | octaves if size <= most), reverse=True))


@dataclass(frozen=True, slots=True)
class BlockedProduct:
    """Extents of Z[r,n] = A[r,k] * W[k,n], `copies` of it with operands of their own."""

    rows: int
    depth: int
    columns: int
    copies: int = 1

    @property
    def macs(self) -> int:
        return self.copies * self.rows * self.depth * self.columns

    @property
    def least_words(self) -> int:
        """Words of every operand, once."""
        return self.copies * (self.rows * self.depth + self.depth * self.columns + self.rows * self.columns)


@dataclass(frozen=True)
class Blocking:
    """Tiles have `tile_rows` x `tile_columns` outputs, no more than the array or the product; other elements are idle.
    Several tiles make a block along each rank.

    `slots`: streamed tiles (slices of k, where outputs are resident) that the buffer holds beside the resident part.
    """

    product: BlockedProduct
    tile_rows: int
    tile_columns: int
    resident: Resident
    rows_per_block: int  # in tiles
    columns_per_block: int  # in tiles
    depth_per_block: int
    slots: int

    @cached_property
    def row_tiles(self) -> int:
        return -(-self.product.rows // self.tile_rows)

    @cached_property
    def column_tiles(self) -> int:
        return -(-self.product.columns // self.tile_columns)

    @property
    def row_blocks(self) -> int:
        return -(-self.row_tiles // self.rows_per_block)

    @property
    def column_blocks(self) -> int:
        return -(-self.column_tiles // self.columns_per_block)

    @property
    def depth_blocks(self) -> int:
        return -(-self.product.depth // self.depth_per_block)

    @property
    def steps(self) -> int:
        """Depth steps of all tiles: cycles of an array that does one MAC per element and cycle."""
        return self.product.copies * self.row_tiles * self.column_tiles * self.product.depth

    @property
    def reads_of_rows(self) -> int:
        """How often A passes by DRAM: once, or once per column block where A does not stay between them."""
        return self.column_blocks if self.resident == "outputs" else 1

    @property
    def reads_of_weights(self) -> int:
        """R: how often W passes by DRAM (a single column tile of it, or what is resident, stays)."""
        stays = self.resident == "weights" or self.column_blocks * self.depth_blocks == 1
        return 1 if stays else self.row_blocks

    @property
    def partial_sums(self) -> int:
        """Words of the outputs of one copy that the buffer reads and writes between slices of k."""
        visits = self.depth_blocks if self.resident == "outputs" else 0
        return 2 * self.product.rows * self.product.columns * visits

    @property
    def dram_words(self) -> int:
        product = self.product
        return product.copies * (
            self.reads_of_rows * product.rows * product.depth
            + self.reads_of_weights * product.depth * product.columns
            + product.rows * product.columns
        )


def published_blocking(product: BlockedProduct, spec: SpatialArray) -> Blocking:
    """Follow the published rule: R is the smallest power of two whose row blocks fit beside one streamed tile.

    Raises CascadeSimError where the rule does not cover the product, or nothing fits.
    """
    rows, columns, capacity = spec.pe_array.rows, spec.pe_array.columns, spec.buffer_words
    uneven = [name for name, size, side in (("r", product.rows, rows), ("n", product.columns, columns)) if size % side]
    if uneven:
        raise CascadeSimError(
            f"artifact accounting: {' and '.join(uneven)} of a linear layer must be a multiple of the array "
            f"({rows} x {columns}), got r={product.rows}, n={product.columns}; use --accounting physical"
        )
    whole = Blocking(product, rows, columns, "weights", 1, product.columns // columns, product.depth, slots=1)
    if product.depth * product.columns + rows * product.depth <= capacity:
        return whole
    block_rows = capacity // product.depth - columns  # rows of full depth beside one streamed tile
    powers = (1 << power for power in range(whole.row_tiles.bit_length()))
    fits = (R for R in powers if whole.row_tiles % R == 0 and product.rows // R <= block_rows)
    if (blocks := next(fits, None)) is None:
        raise CascadeSimError(f"artifact accounting: no block of rows of depth k={product.depth} fits the buffer")
    return Blocking(product, rows, columns, "rows", whole.row_tiles // blocks, 1, product.depth, slots=1)


def published_way(product: BlockedProduct, spec: SpatialArray) -> Blocking | None:
    """Keep the weights, or blocks of rows, on the largest tiles, as published; None where neither fits.

    Rows lie over the rows of the array and columns over its columns, or the other way round where that takes less.
    Beside what is resident there are two tiles of what is streamed, so that loads overlap.
    """
    array, capacity = spec.pe_array, spec.buffer_words
    upright, turned = (
        (tile_sizes(height, product.rows)[0], tile_sizes(width, product.columns)[0])
        for height, width in ((array.rows, array.columns), (array.columns, array.rows))
    )
    rows, columns = min(upright, turned, key=lambda tile: -(-product.rows // tile[0]) * -(-product.columns // tile[1]))
    row_tiles, column_tiles = -(-product.rows // rows), -(-product.columns // columns)
    slots = (capacity - product.depth * product.columns) // (product.depth * rows)
    if slots >= STREAMED:
        return Blocking(product, rows, columns, "weights", 1, column_tiles, product.depth, slots)
    fits = (capacity - STREAMED * product.depth * columns) // (product.depth * rows)
    if fits < 1 or (column_tiles == 1 and row_tiles > fits):
        return None
    return rows_resident(product, rows, columns, even_blocks(row_tiles, fits), capacity)


def rows_resident(product: BlockedProduct, rows: int, columns: int, blocks: int, capacity_words: int) -> Blocking:
    """Keep at most `blocks` blocks of rows one after another, all weights passing each."""
    row_tiles = -(-product.rows // rows)
    per_block = -(-row_tiles // blocks)
    slots = (capacity_words - min(per_block * rows, product.rows) * product.depth) // (product.depth * columns)
    return Blocking(product, rows, columns, "rows", per_block, 1, product.depth, slots)


def even_blocks(tiles: int, fits: int) -> int:
    """Count blocks of at most `fits` tiles: equal ones, as published, where fewer than twice the least number are."""
    least = -(-tiles // fits)
    return next((blocks for blocks in range(least, 2 * least) if tiles % blocks == 0), least)


def operand_rows(tile_rows: int, tile_columns: int, spec: SpatialArray) -> int:
    """Count the buffer rows that one depth step of a tile reads."""
    word, row = spec.word_bytes, spec.global_buffer.row_bytes
    return -(-tile_rows * word // row) + -(-tile_columns * word // row)
