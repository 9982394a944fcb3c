"""The steps of a blocked matrix product, in the order in which the array takes them: what each loads and stores.

A sweep loads its resident operand tile by tile while the first streamed tile meets it; the later streamed tiles meet
all of it. Bytes add up to the traffic of the blocking exactly. Knows no time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from cascadesim.accelerators.spatial.blocking import Blocking, operand_rows
from cascadesim.accelerators.spatial.double_buffering import (
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

MOST_SLOTS = 8  # assumed: loads that run further ahead hide nothing more


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
