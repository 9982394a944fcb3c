"""Linear layers on a spatial array: Z[r,n] = A[r,k] * W[k,n], r and n in space, k in time, outputs stationary.

Shared by every accelerator that has a 2D array of multiply-accumulates and one buffer. Physical accounting moves
partial tiles as the array runs them; artifact accounting is the published rule (FuseMax artifact, linear layers: one
register file, 64-bit wrap). Results leave the array rows + columns cycles after their last operands have entered.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from cascadesim.accelerators.access_counts import Accesses, Level, Loop, Nest, Operand, count_accesses, ragged
from cascadesim.accelerators.energy import Actions, dynamic_energy_j
from cascadesim.accelerators.protocol import Accounting, EinsumActivity, Phase, Plan, Traffic
from cascadesim.accelerators.spatial.blocking import Blocking, Product, published_blocking
from cascadesim.accelerators.spatial.double_buffering import Stream, lower_bound_cycles, stream_program
from cascadesim.accelerators.spatial.gemm_loops import product_moves
from cascadesim.accelerators.spatial.tilings import fastest_blocking
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Einsum

RESIDENT_TEXT = {
    "weights": "all weights stay in global_buffer, tiles of rows pass by",
    "rows": "blocks of rows stay in global_buffer, tiles of weights pass by",
    "outputs": "blocks of outputs stay in global_buffer, slices of k pass by",
}


def plan_linear(operation: Operation, spec: SpatialArray, accounting: Accounting) -> Plan:
    """Raises CascadeSimError if nothing of it fits the buffer, or the published rule does not cover it."""
    einsum = _product_einsum(operation, spec)
    product = Product(*(operation.extent(rank) for rank in ("r", "k", "n", "x")))
    physical = accounting == "physical"
    blocking = fastest_blocking(product, spec) if physical else published_blocking(product, spec)
    phase = (_physical_phase if physical else _published_phase)(einsum.name, blocking, spec)
    actions = linear_actions(einsum, blocking, accounting)
    words = dict.fromkeys((*operation.cascade.inputs, *operation.cascade.outputs), spec.word_bytes)
    energy = dynamic_energy_j(actions, spec)
    return Plan(operation, accounting, _mapping_lines(blocking), (phase,), energy, element_bytes=words)


def linear_actions(einsum: Einsum, blocking: Blocking, accounting: Accounting) -> Actions:
    """Everything the product does, for its energy."""
    ragged_nest = accounting == "physical"
    counts = count_accesses(
        _operands(einsum),
        _nest(einsum, blocking, ragged_nest),
        registers="all" if ragged_nest else "one",
        wrap64=not ragged_nest,
    )
    dram, buffer, registers = (_at(level, counts) for level in ("dram", "global_buffer", "registers"))
    return Actions(
        dram_words=dram.reads + dram.writes,
        global_buffer_read_words=buffer.reads,
        global_buffer_write_words=buffer.writes,
        register_reads_2d=registers.reads,
        register_writes_2d=registers.writes,
        operations_2d={"mac": blocking.product.macs},
    )


def _product_einsum(operation: Operation, spec: SpatialArray) -> Einsum:
    """The one Einsum of a linear operation, checked to be a product over k."""
    einsum = operation.cascade.einsums[-1]
    ranks = [set(access.ranks) for access in (einsum.output, *einsum.inputs)]
    if len(operation.cascade.einsums) != 1 or ranks != [{"r", "n"}, {"r", "k"}, {"k", "n"}]:
        raise CascadeSimError(
            f"{operation.name}: a linear layer is Z[r,n] = A[r,k] * W[k,n], got {operation.cascade!r}"
        )
    if spec.pe_array.operations.mac is None:
        raise CascadeSimError(f"{operation.name}: pe_array.operations.mac: missing; a linear layer needs it")
    return einsum


def _physical_phase(name: str, blocking: Blocking, spec: SpatialArray) -> Phase:
    stream = _stream(name, blocking, spec)
    activities = (
        _array_activity(name, sum(stream.compute_cycles()), blocking, spec),
        EinsumActivity(name, "global_buffer", stream.buffer_bytes // spec.global_buffer.bytes_per_cycle),
        _dram_activity(name, blocking, spec),
    )
    program = partial(stream_program, stream, spec)
    return Phase(name, activities, _traffic(blocking, spec), lower_bound_cycles(stream, spec), program)


def _stream(name: str, blocking: Blocking, spec: SpatialArray) -> Stream:
    moves = product_moves(blocking, spec)
    return Stream("array_2d", (name,), moves.steps, moves.slots, blocking.tile_rows + blocking.tile_columns)


def _published_phase(name: str, blocking: Blocking, spec: SpatialArray) -> Phase:
    """max(compute, DRAM), whatever the pipeline does."""
    cycles = blocking.steps * (spec.pe_array.operations.mac or 1)
    traffic = _traffic(blocking, spec)
    activities = (_array_activity(name, cycles, blocking, spec), _dram_activity(name, blocking, spec))
    return Phase(name, activities, traffic, max(cycles, traffic.total_bytes / spec.dram_bytes_per_cycle))


def _array_activity(name: str, cycles: int, blocking: Blocking, spec: SpatialArray) -> EinsumActivity:
    macs = blocking.product.macs
    return EinsumActivity(name, "array_2d", cycles, {"mac": macs}, macs / (blocking.steps * spec.pe_array.elements))


def _dram_activity(name: str, blocking: Blocking, spec: SpatialArray) -> EinsumActivity:
    """Whole cycles, rounded down: never more than the closed form."""
    return EinsumActivity(name, "dram", int(_traffic(blocking, spec).total_bytes / spec.dram_bytes_per_cycle))


def _traffic(blocking: Blocking, spec: SpatialArray) -> Traffic:
    product = blocking.product
    written = product.copies * product.rows * product.columns
    return Traffic((blocking.dram_words - written) * spec.word_bytes, written * spec.word_bytes)


def _operands(einsum: Einsum) -> tuple[Operand, ...]:
    """Every copy has operands of its own."""
    inputs = (Operand(access.tensor, frozenset((*access.ranks, "x"))) for access in einsum.inputs)
    return (*inputs, Operand(einsum.name, frozenset((*einsum.output.ranks, "x")), is_output=True))


def _nest(einsum: Einsum, blocking: Blocking, uneven: bool) -> Nest:
    """x, r2, n2, k2 around the buffer; r1, n1, k1 around the array; r0 and n0 in space."""
    product = blocking.product
    x = _loop("x", product.copies)
    r2, r1, r0 = _loop("r2", blocking.row_blocks), _loop("r1", blocking.rows_per_block), _loop("r0", blocking.tile_rows)
    n2, n1 = _loop("n2", blocking.column_blocks), _loop("n1", blocking.columns_per_block)
    n0 = _loop("n0", blocking.tile_columns)
    k2, k1 = _loop("k2", blocking.depth_blocks), _loop("k1", blocking.depth_per_block)
    everything = frozenset((*(access.tensor for access in einsum.inputs), einsum.name))
    buffered = everything if blocking.resident == "outputs" else everything - {einsum.name}
    levels = (
        Level("dram", (x, r2, n2, k2), everything),
        Level("global_buffer", (r1, n1, k1), buffered),
        Level("registers", (), everything),
    )
    chains = (
        (product.copies, (x,)),
        (product.rows, (r2, r1, r0)),
        (product.columns, (n2, n1, n0)),
        (product.depth, (k2, k1)),
    )
    return Nest(levels, (r0, n0), ragged(*chains) if uneven else None)


def _loop(name: str, bound: int) -> Loop:
    return Loop(name, frozenset(name[0]), bound)


def _at(level: str, counts: Mapping[tuple[str, str], Accesses]) -> Accesses:
    return sum((accesses for (where, _), accesses in counts.items() if where == level), Accesses())


def _mapping_lines(blocking: Blocking) -> tuple[str, ...]:
    product = blocking.product
    copies = f", {product.copies:,} copies" if product.copies > 1 else ""
    return (
        f"array_2d: r over {blocking.tile_rows}, n over {blocking.tile_columns}, k in time; "
        f"{blocking.row_tiles:,} x {blocking.column_tiles:,} tiles of {product.depth:,} steps{copies}",
        f"{RESIDENT_TEXT[blocking.resident]}; room for {blocking.slots} of them",
        f"dram: A {blocking.reads_of_rows}x, W {blocking.reads_of_weights}x, Z 1x",
        f"a tile leaves array_2d {blocking.tile_rows + blocking.tile_columns} cycles after its last operands enter it",
    )
