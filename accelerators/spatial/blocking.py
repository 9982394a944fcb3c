"""How a matrix product is cut into tiles, which part of it stays in the buffer, and what then passes by DRAM.

Z[r,n] = A[r,k] * W[k,n], tile by tile on a 2D array: r over one side, n over the other, k in time. Published rule:
weights resident, otherwise blocks of rows resident and all weights once per block (FuseMax artifact, linear layers).
Where a row tile of full depth does not fit, or DRAM would bound it, outputs may stay instead, k cut in slices.

Its steps, in the order in which the array takes them: a sweep loads its resident operand tile by tile while the first
streamed tile meets it; the later streamed tiles meet all of it. Bytes add up to the traffic of the blocking exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal, TypeAlias

from cascadesim.accelerators.program import (
    LARGEST_ROUNDING,
    BufferedStep,
    Rounds,
    Steps,
    grouped,
    merged,
    rounding,
    steps_per_group,
)
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

Resident: TypeAlias = Literal["weights", "rows", "outputs"]
STREAMED = 2  # tiles beside what is resident (slices of k beside outputs): one is computed while the other arrives
MOST_SLOTS = 8  # assumed: loads that run further ahead hide nothing more
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


def product_steps(blocking: Blocking, spec: SpatialArray) -> tuple[Steps, int]:
    """List the steps of all copies of the product, and say how many the buffer holds beside what is resident.

    Copies so small that rounding would show are moved whole, several at a time.
    """
    loops = _GemmLoops(blocking, spec)
    body, copies = loops.copy(), blocking.product.copies
    slots = max(2, min(MOST_SLOTS, blocking.slots // loops.group))
    if copies == 1:
        return body, slots
    whole = merged(body)
    fitting = spec.global_buffer.capacity_bytes // (2 * (whole.load_bytes + whole.store_bytes))
    if fitting and rounding(body, spec) > LARGEST_ROUNDING:
        return grouped(whole, copies, steps_per_group(whole, spec, min(copies, fitting))), 2
    return (Rounds(body, copies),), slots


@dataclass(frozen=True, slots=True)
class Side:
    """One rank of the outputs in tiles, the last one smaller if it must be."""

    extent: int
    tile: int

    @property
    def tiles(self) -> int:
        return -(-self.extent // self.tile)

    @property
    def last(self) -> int:
        return self.extent - (self.tiles - 1) * self.tile


@dataclass(frozen=True)
class _GemmLoops:
    blocking: Blocking
    spec: SpatialArray

    @property
    def rows(self) -> Side:
        return Side(self.blocking.product.rows, self.blocking.tile_rows)

    @property
    def columns(self) -> Side:
        return Side(self.blocking.product.columns, self.blocking.tile_columns)

    def copy(self) -> Steps:
        """List the steps of one copy of the product, block of rows after block of rows."""
        blocking = self.blocking
        if blocking.resident == "weights":
            return self.sweep(resident=self.columns, streamed=self.rows)
        blocks = Side(blocking.product.rows, blocking.rows_per_block * blocking.tile_rows)
        if blocking.resident == "outputs":
            return self.each(self.output_blocks, blocks)
        return self.each(lambda rows: self.sweep(Side(rows, blocking.tile_rows), self.columns), blocks)

    def each(self, block: Callable[[int], Steps], blocks: Side) -> Steps:
        """List the steps of every block; the last one may be smaller."""
        whole = (Rounds(block(blocks.tile), blocks.tiles - 1),) if blocks.tiles > 1 else ()
        return (*whole, *block(blocks.last))

    def sweep(self, resident: Side, streamed: Side) -> Steps:
        """The first streamed tile meets each resident tile as it arrives, then the others meet all of them."""
        first = min(streamed.tile, streamed.extent)
        steps: Steps = (self.step(resident.tile if resident.tiles > 1 else resident.last, first, 1, first),)
        if resident.tiles > 1:
            middle, closing = self.step(resident.tile, first, 1, 0), self.step(resident.last, first, 1, 0)
            steps += (*self.equal(middle, resident.tiles - 2), closing)
        if streamed.tiles > 1:
            later = self.passing(resident, streamed.tile)
            steps += (*self.equal(later, streamed.tiles - 2), self.passing(resident, streamed.last))
        return steps

    def passing(self, resident: Side, streamed: int) -> BufferedStep:
        """One streamed tile meets all resident ones."""
        return self.step(0, streamed, resident.tiles, streamed, resident.extent * streamed)

    def step(self, arriving: int, streamed: int, tiles: int, loaded: int, outputs: int | None = None) -> BufferedStep:
        """`arriving` and `loaded` rows of A (columns of W) of full depth come from DRAM in this step."""
        depth = self.blocking.product.depth
        stored = arriving * streamed if outputs is None else outputs
        return self.of_words(depth * (arriving + loaded), tiles, depth, stored)

    def output_blocks(self, rows: int) -> Steps:
        """Blocks of outputs of `rows` rows follow one after another along n.

        Slices of k pass by; partial sums are read and written in the buffer, the last slice sends them to DRAM.
        """
        blocking = self.blocking
        slices = Side(blocking.product.depth, blocking.depth_per_block)

        def block(columns: int) -> Steps:
            last = self.slice_step(rows, columns, slices.last, rows * columns)
            return (*self.equal(self.slice_step(rows, columns, slices.tile, 0), slices.tiles - 1), last)

        return self.each(block, Side(blocking.product.columns, blocking.columns_per_block * blocking.tile_columns))

    def slice_step(self, rows: int, columns: int, depth: int, stored: int) -> BufferedStep:
        tiles = Side(rows, self.blocking.tile_rows).tiles * Side(columns, self.blocking.tile_columns).tiles
        return self.of_words(depth * (rows + columns), tiles, depth, stored, 2 * rows * columns)

    def of_words(self, loaded: int, tiles: int, depth: int, stored: int, partial_sums: int = 0) -> BufferedStep:
        """Each depth step reads one row of operands per side of the array from the buffer.

        A single tile uses its operands along k as they arrive; several of them need them again.
        """
        depth_steps, word = tiles * depth, self.spec.word_bytes
        rows = depth_steps * operand_rows(self.blocking.tile_rows, self.blocking.tile_columns, self.spec)
        moved = rows * self.spec.global_buffer.row_bytes + (loaded + partial_sums) * word
        cycles = depth_steps * self.spec.pe_array.mac_cycles
        return BufferedStep(loaded * word, (cycles,), stored * word, moved, arrives=tiles == 1)

    def equal(self, step: BufferedStep, count: int) -> Steps:
        return grouped(step, count, min(count, self.group)) if count >= 1 else ()

    @cached_property
    def group(self) -> int:
        """Streamed tiles (slices) are moved as one: as few as rounding allows, and at most half of what fits."""
        most = max(1, self.blocking.slots // 2)
        blocking, rows, columns = self.blocking, self.rows, self.columns
        height = min(blocking.rows_per_block * rows.tile, rows.extent)
        if blocking.resident == "weights":
            many = [self.step(columns.tile, rows.tile, 1, 0), self.passing(columns, min(rows.tile, rows.extent))]
        elif blocking.resident == "rows":
            many = [self.step(rows.tile, columns.tile, 1, 0), self.passing(Side(height, rows.tile), columns.tile)]
        else:
            width = min(blocking.columns_per_block * columns.tile, columns.extent)
            many = [self.slice_step(height, width, blocking.depth_per_block, 0)]
        return max(steps_per_group(step, self.spec, most) for step in many)
