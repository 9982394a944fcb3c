"""The steps of a blocked matrix product, in the order in which the array takes them: what each loads and stores.

A sweep loads its resident operand tile by tile while the first streamed tile meets it; the later streamed tiles meet
all of it. Bytes add up to the traffic of the blocking exactly. Knows no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from cascadesim.accelerators.spatial.blocking import Blocking, operand_rows
from cascadesim.accelerators.spatial.double_buffering import (
    LARGEST_ROUNDING,
    Rounds,
    Step,
    Steps,
    grouped,
    merged,
    rounding,
    steps_per_group,
)
from cascadesim.accelerators.spec import SpatialArray

MOST_SLOTS = 8  # assumed: loads that run further ahead hide nothing more


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


@dataclass(frozen=True, slots=True)
class Moves:
    """The steps of all copies, and how many of them the buffer holds beside what is resident."""

    steps: Steps
    slots: int


def product_moves(blocking: Blocking, spec: SpatialArray) -> Moves:
    """All copies of the product; copies so small that rounding would show are moved whole, several at a time."""
    maker = _Maker(blocking, spec)
    body, copies = maker.copy(), blocking.product.copies
    if copies == 1:
        return Moves(body, maker.slots)
    whole = merged(body)
    fitting = spec.global_buffer.capacity_bytes // (2 * (whole.load_bytes + whole.store_bytes))
    if fitting and rounding(body, spec) > LARGEST_ROUNDING:
        return Moves(grouped(whole, copies, steps_per_group(whole, spec, min(copies, fitting))), slots=2)
    return Moves((Rounds(body, copies),), maker.slots)


@dataclass(frozen=True)
class _Maker:
    blocking: Blocking
    spec: SpatialArray

    def copy(self) -> Steps:
        """One copy of the product."""
        blocking, product = self.blocking, self.blocking.product
        rows, columns = Side(product.rows, blocking.tile_rows), Side(product.columns, blocking.tile_columns)
        if blocking.resident == "weights":
            return self.sweep(resident=columns, streamed=rows)
        per_block = blocking.rows_per_block * blocking.tile_rows
        blocks = Side(product.rows, per_block)
        one_block = self.sweep_of_rows if blocking.resident == "rows" else self.output_blocks
        whole = (Rounds(one_block(per_block), blocks.tiles - 1),) if blocks.tiles > 1 else ()
        return (*whole, *one_block(blocks.last))

    def sweep_of_rows(self, rows: int) -> Steps:
        blocking = self.blocking
        columns = Side(blocking.product.columns, blocking.tile_columns)
        return self.sweep(resident=Side(rows, blocking.tile_rows), streamed=columns)

    def sweep(self, resident: Side, streamed: Side) -> Steps:
        """The first streamed tile against each resident tile as it arrives, then the others against all of them."""
        first = min(streamed.tile, streamed.extent)
        steps = self.arrivals(resident, first)
        if streamed.tiles == 1:
            return steps
        later = self.passing(resident, streamed.tile)
        steps += self.equal(later, streamed.tiles - 2)
        return (*steps, self.passing(resident, streamed.last))

    def arrivals(self, resident: Side, streamed: int) -> Steps:
        opening = self.step(resident.tile if resident.tiles > 1 else resident.last, streamed, 1, streamed)
        if resident.tiles == 1:
            return (opening,)
        middle = self.step(resident.tile, streamed, 1, 0)
        closing = self.step(resident.last, streamed, 1, 0)
        return (opening, *self.equal(middle, resident.tiles - 2), closing)

    def passing(self, resident: Side, streamed: int) -> Step:
        """One streamed tile against all resident ones."""
        return self.step(0, streamed, resident.tiles, streamed, resident.extent * streamed)

    def step(self, arriving: int, streamed: int, tiles: int, loaded: int, outputs: int | None = None) -> Step:
        """`arriving` and `loaded`: rows of A (columns of W) of full depth that come from DRAM in this step."""
        depth = self.blocking.product.depth
        stored = arriving * streamed if outputs is None else outputs
        return self.of_words(depth * (arriving + loaded), tiles, depth, stored)

    def output_blocks(self, rows: int) -> Steps:
        """Blocks of outputs of so many rows, one after another along n."""
        blocking = self.blocking
        per_block = blocking.columns_per_block * blocking.tile_columns
        blocks = Side(blocking.product.columns, per_block)
        whole = (Rounds(self.output_block(rows, per_block), blocks.tiles - 1),) if blocks.tiles > 1 else ()
        return (*whole, *self.output_block(rows, blocks.last))

    def output_block(self, rows: int, columns: int) -> Steps:
        """Slices of k pass by; partial sums are read and written in the buffer, the last slice sends them to DRAM."""
        slices = Side(self.blocking.product.depth, self.blocking.depth_per_block)
        slice_step = self.slice_step(rows, columns, slices.tile, 0)
        last = self.slice_step(rows, columns, slices.last, rows * columns)
        return (*self.equal(slice_step, slices.tiles - 1), last)

    def slice_step(self, rows: int, columns: int, depth: int, stored: int) -> Step:
        tiles = Side(rows, self.blocking.tile_rows).tiles * Side(columns, self.blocking.tile_columns).tiles
        return self.of_words(depth * (rows + columns), tiles, depth, stored, 2 * rows * columns)

    def of_words(self, loaded: int, tiles: int, depth: int, stored: int, partial_sums: int = 0) -> Step:
        """Each depth step reads one row of operands per side of the array from the buffer.

        A single tile uses its operands along k as they arrive; several of them need them again.
        """
        depth_steps, word = tiles * depth, self.spec.word_bytes
        rows = depth_steps * operand_rows(self.blocking.tile_rows, self.blocking.tile_columns, self.spec)
        moved = rows * self.spec.global_buffer.row_bytes + (loaded + partial_sums) * word
        cycles = depth_steps * (self.spec.pe_array.operations.mac or 1)
        return Step(loaded * word, (cycles,), stored * word, moved, arrives=tiles == 1)

    def equal(self, step: Step, count: int) -> Steps:
        return grouped(step, count, min(count, self.group)) if count >= 1 else ()

    @cached_property
    def group(self) -> int:
        """Streamed tiles (slices) moved as one: as few as rounding allows, and never more than half of what fits."""
        most = max(1, self.blocking.slots // 2)
        return max(steps_per_group(step, self.spec, most) for step in self.typical_steps())

    @property
    def slots(self) -> int:
        """Of such groups."""
        return max(2, min(MOST_SLOTS, self.blocking.slots // self.group))

    def typical_steps(self) -> tuple[Step, ...]:
        """Those that a product has many of."""
        blocking, product = self.blocking, self.blocking.product
        rows, columns = Side(product.rows, blocking.tile_rows), Side(product.columns, blocking.tile_columns)
        match blocking.resident:
            case "weights":
                return self.step(columns.tile, rows.tile, 1, 0), self.passing(columns, min(rows.tile, rows.extent))
            case "rows":
                resident = Side(min(blocking.rows_per_block * rows.tile, rows.extent), rows.tile)
                return self.step(rows.tile, columns.tile, 1, 0), self.passing(resident, columns.tile)
        height = min(blocking.rows_per_block * rows.tile, rows.extent)
        width = min(blocking.columns_per_block * columns.tile, columns.extent)
        return (self.slice_step(height, width, blocking.depth_per_block, 0),)
