"""How the published rule cuts a matrix product into tiles, and sizes of tiles worth trying.

Z[r,n] = A[r,k] * W[k,n], tile by tile on a 2D array: r over one side, n over the other, k in time. Weights resident,
otherwise blocks of rows resident and all weights once per block (FuseMax artifact, linear layers).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, TypeAlias

from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

Resident: TypeAlias = Literal["weights", "rows"]
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


@dataclass(frozen=True)
class Blocking:
    """Tiles have `tile_rows` x `tile_columns` outputs. Several tiles make a block along each rank; a block of rows, or
    all weights, stay in the buffer."""

    product: BlockedProduct
    tile_rows: int
    tile_columns: int
    resident: Resident
    rows_per_block: int  # in tiles
    columns_per_block: int  # in tiles

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
    def steps(self) -> int:
        """Depth steps of all tiles: cycles of an array that does one MAC per element and cycle."""
        return self.product.copies * self.row_tiles * self.column_tiles * self.product.depth

    @property
    def reads_of_weights(self) -> int:
        """R: how often W passes by DRAM (a single column tile of it, or what is resident, stays)."""
        return 1 if self.resident == "weights" or self.column_blocks == 1 else self.row_blocks

    @property
    def dram_words(self) -> int:
        product = self.product
        return product.copies * (
            product.rows * product.depth
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
    whole = Blocking(product, rows, columns, "weights", 1, product.columns // columns)
    if product.depth * product.columns + rows * product.depth <= capacity:
        return whole
    block_rows = capacity // product.depth - columns  # rows of full depth beside one streamed tile
    powers = (1 << power for power in range(whole.row_tiles.bit_length()))
    fits = (R for R in powers if whole.row_tiles % R == 0 and product.rows // R <= block_rows)
    if (blocks := next(fits, None)) is None:
        raise CascadeSimError(f"artifact accounting: no block of rows of depth k={product.depth} fits the buffer")
    return Blocking(product, rows, columns, "rows", whole.row_tiles // blocks, 1)
