"""Linear layers by the published rule: how it cuts a product into tiles, and the plan that it makes.

Z[r,n] = A[r,k] * W[k,n], tile by tile on a 2D array: r over one side, n over the other, k in time. Weights resident,
otherwise blocks of rows resident and all weights once per block; outputs stationary, one register file, 64-bit wrap
(FuseMax artifact, linear layers).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from cascadesim.accelerators.access_counts import Accesses, Level, Nest, Operand, count_accesses, loop_over
from cascadesim.accelerators.energy import Actions, sourced_energy_j
from cascadesim.accelerators.protocol import EinsumActivity, Phase, Plan, Traffic
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Einsum

Resident: TypeAlias = Literal["weights", "rows"]
_RESIDENT_TEXT = {
    "weights": "all weights stay in global_buffer, tiles of rows pass by",
    "rows": "blocks of rows stay in global_buffer, tiles of weights pass by",
}


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


def published_linear(operation: Operation, spec: SpatialArray) -> Plan:
    """Plan a linear layer by the published rule.

    Raises CascadeSimError if it is no product over k, or the rule does not cover it.
    """
    cascade, einsum = operation.cascade, operation.cascade.einsums[-1]
    ranks = [set(access.ranks) for access in (einsum.output, *einsum.inputs)]
    if len(cascade.einsums) != 1 or ranks != [{"r", "n"}, {"r", "k"}, {"k", "n"}]:
        raise CascadeSimError(f"{operation.name}: artifact accounting covers linear layers Z[r,n] = A[r,k] * W[k,n], "
                              f"got {cascade!r}; use --accounting physical")
    if spec.pe_array.operations.mac is None:
        raise CascadeSimError(f"{operation.name}: pe_array.operations.mac: missing; a linear layer needs it")
    product = BlockedProduct(*(operation.extent(rank) for rank in ("r", "k", "n", "x")))
    blocking = published_blocking(product, spec)
    energy = sourced_energy_j(_actions(einsum, blocking), spec)
    words = dict.fromkeys((*cascade.inputs, *cascade.outputs), spec.word_bytes)
    phase = _phase(einsum.name, blocking, spec)
    return Plan(operation, "artifact", _mapping_lines(blocking), (phase,), energy, element_bytes=words)


def _actions(einsum: Einsum, blocking: Blocking) -> Actions:
    """Count everything the product does, for its energy; every copy has operands of its own."""
    operands = [
        Operand(access.tensor, frozenset((*access.ranks, "x")), is_output=access == einsum.output)
        for access in (*einsum.inputs, einsum.output)
    ]
    nest = _nest(einsum, blocking)
    counts = count_accesses(operands, nest, registers="one", wrap64=True)
    dram, buffer, registers = (
        sum((accesses for (where, _), accesses in counts.items() if where == level.name), Accesses())
        for level in nest.levels
    )
    return Actions(
        dram_words=dram.reads + dram.writes,
        global_buffer_read_words=buffer.reads,
        global_buffer_write_words=buffer.writes,
        register_reads_2d=registers.reads,
        register_writes_2d=registers.writes,
        operations_2d={"mac": blocking.product.macs},
    )


def _nest(einsum: Einsum, blocking: Blocking) -> Nest:
    """Loops x, r2 run around the buffer; r1, n1, k around the array; r0 and n0 in space."""
    product = blocking.product
    bounds = {
        "x": product.copies, "r2": blocking.row_blocks, "r1": blocking.rows_per_block, "r0": blocking.tile_rows,
        "n2": blocking.column_blocks, "n1": blocking.columns_per_block, "n0": blocking.tile_columns, "k": product.depth,
    }  # fmt: skip
    loops = {name: loop_over(name, bound) for name, bound in bounds.items()}
    x, r2, r1, r0, n2, n1, n0, k = loops.values()
    everything = frozenset((*(access.tensor for access in einsum.inputs), einsum.name))
    levels = (
        Level("dram", (x, r2, n2), everything),
        Level("global_buffer", (r1, n1, k), everything - {einsum.name}),
        Level("registers", ()),
    )
    return Nest(levels, (r0, n0), None)


def _phase(name: str, blocking: Blocking, spec: SpatialArray) -> Phase:
    """A published phase takes the longer of compute and DRAM, whatever the pipeline does."""
    product, steps = blocking.product, blocking.steps
    written = product.copies * product.rows * product.columns
    traffic = Traffic((blocking.dram_words - written) * spec.word_bytes, written * spec.word_bytes)
    cycles, dram_cycles = steps * spec.pe_array.mac_cycles, traffic.total_bytes / spec.dram_bytes_per_cycle
    occupancy = product.macs / (steps * spec.pe_array.elements)
    on_array = EinsumActivity(name, "array_2d", cycles, {"mac": product.macs}, occupancy)
    return Phase(name, (on_array, EinsumActivity(name, "dram", int(dram_cycles))), traffic, max(cycles, dram_cycles))


def _mapping_lines(blocking: Blocking) -> tuple[str, ...]:
    product = blocking.product
    copies = f", {product.copies:,} copies" if product.copies > 1 else ""
    return (
        f"array_2d: r over {blocking.tile_rows}, n over {blocking.tile_columns}, k in time; "
        f"{blocking.row_tiles:,} x {blocking.column_tiles:,} tiles of {product.depth:,} steps{copies}",
        _RESIDENT_TEXT[blocking.resident],
        f"dram: A 1x, W {blocking.reads_of_weights}x, Z 1x",
    )
