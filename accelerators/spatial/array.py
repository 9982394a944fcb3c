"""What every spatial array is to the simulator: its units, its area, its linear layers.

FuseMax (MICRO'24), section V, and FLAT (ASPLOS'23): a 2D array, a 1D array, a global buffer and a DRAM channel. A
linear layer is Z[r,n] = A[r,k] * W[k,n], r and n in space, k in time, outputs stationary. Physical accounting moves
partial tiles as the array runs them; artifact accounting is the published rule (FuseMax artifact, linear layers: one
register file, 64-bit wrap). Results leave the array rows + columns cycles after their last operands have entered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from cascadesim.accelerators.access_counts import Accesses, Level, Nest, Operand, count_accesses, loop_over, ragged
from cascadesim.accelerators.binding import OtherFormError
from cascadesim.accelerators.energy import Actions, area_um2, has_area, sourced_energy_j
from cascadesim.accelerators.program import BufferedStream, stream_program
from cascadesim.accelerators.protocol import (
    Accounting,
    Capabilities,
    EinsumActivity,
    Phase,
    Plan,
    Stored,
    Traffic,
    Unit,
)
from cascadesim.accelerators.spatial.blocking import BlockedProduct, Blocking, product_steps, published_blocking
from cascadesim.accelerators.spatial.blocking_search import fastest_blocking
from cascadesim.accelerators.spatial.elementwise import plan_elementwise
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Einsum

if TYPE_CHECKING:
    from cascadesim.accelerators.mapping.nest import CascadeMapping

SpecType = TypeVar("SpecType", bound=SpatialArray)


_RESIDENT_TEXT = {
    "weights": "all weights stay in global_buffer, tiles of rows pass by",
    "rows": "blocks of rows stay in global_buffer, tiles of weights pass by",
    "outputs": "blocks of outputs stay in global_buffer, slices of k pass by",
}


@dataclass(frozen=True)
class SpatialMachine(ABC, Generic[SpecType]):
    """A configured array. A design adds its attention: the cascade that it runs, and how it plans for it."""

    name: str
    spec: SpecType
    mapping: CascadeMapping | None = None  # given by the user, for the cascade that it names
    searches: bool = False  # even where there is a published mapping

    @property
    @abstractmethod
    def attention(self) -> str:
        """Name of the attention cascade it runs when none is asked for."""

    @abstractmethod
    def plan_attention(self, operation: Operation, accounting: Accounting) -> Plan:
        """Raises CascadeSimError if the cascade or the shape cannot be mapped."""

    @property
    def clock_hz(self) -> float:
        return self.spec.clock_hz

    @property
    def units(self) -> tuple[Unit, ...]:
        return (
            Unit("array_2d", self.spec.pe_array.elements),
            Unit("array_1d", self.spec.vector_array.lanes),
            Unit("global_buffer", self.spec.global_buffer.ports),
            Unit("dram"),
        )

    @property
    def capabilities(self) -> Capabilities:
        word = self.spec.word_bytes
        return Capabilities(stored=Stored(word, word, word, word),
                            dram_bytes_per_s=self.spec.dram.bandwidth_bytes_per_s,
                            buffer_bytes=self.spec.global_buffer.capacity_bytes)  # fmt: skip

    @property
    def leakage_w(self) -> float:
        return self.spec.leakage_w_per_um2 * sum((self.area_um2() or {}).values())

    def area_um2(self) -> Mapping[str, float] | None:
        return area_um2(self.spec) if has_area(self.spec) else None

    def with_mapping(self, mapping: CascadeMapping | None) -> Self:
        return replace(self, mapping=mapping, searches=mapping is None)

    @property
    def fuses(self) -> bool:
        """Whether Einsums may share loops where no published mapping says so."""
        return True

    def plan(self, operation: Operation, accounting: Accounting) -> Plan:
        """Plan by the mapping that was given, the published one, or for attention the best that is found."""
        if self.mapping is not None and self.mapping.cascade == operation.cascade.name:
            return self._mapped(operation, accounting)
        if operation.kind == "attention":
            published = None if self.searches else self._published(operation, accounting)
            return self._mapped(operation, accounting) if published is None else published
        return (plan_linear if operation.kind == "linear" else plan_elementwise)(operation, self.spec, accounting)

    def published_plan(self, operation: Operation) -> Plan | None:
        return self._published(operation, "physical") if operation.kind == "attention" else None

    def _published(self, operation: Operation, accounting: Accounting) -> Plan | None:
        try:
            return self.plan_attention(operation, accounting)
        except OtherFormError:
            return None

    def _mapped(self, operation: Operation, accounting: Accounting) -> Plan:
        from cascadesim.accelerators.mapping.plan import plan_mapped  # the published plans need none of it

        mapping = self.mapping if self.mapping and self.mapping.cascade == operation.cascade.name else None
        return plan_mapped(operation, self.spec, accounting, mapping, self.fuses)


def plan_linear(operation: Operation, spec: SpatialArray, accounting: Accounting) -> Plan:
    """Plan a linear layer.

    Raises CascadeSimError if it is no product over k, nothing of it fits the buffer, or the published rule does not
    cover it.
    """
    cascade, einsum = operation.cascade, operation.cascade.einsums[-1]
    ranks = [set(access.ranks) for access in (einsum.output, *einsum.inputs)]
    if len(cascade.einsums) != 1 or ranks != [{"r", "n"}, {"r", "k"}, {"k", "n"}]:
        raise CascadeSimError(f"{operation.name}: a linear layer is Z[r,n] = A[r,k] * W[k,n], got {cascade!r}")
    if spec.pe_array.operations.mac is None:
        raise CascadeSimError(f"{operation.name}: pe_array.operations.mac: missing; a linear layer needs it")
    product = BlockedProduct(*(operation.extent(rank) for rank in ("r", "k", "n", "x")))
    physical = accounting == "physical"
    blocking = fastest_blocking(product, spec) if physical else published_blocking(product, spec)
    phase = _phase(einsum.name, blocking, spec, physical)
    energy = sourced_energy_j(linear_actions(einsum, blocking, accounting), spec)
    words = dict.fromkeys((*cascade.inputs, *cascade.outputs), spec.word_bytes)
    return Plan(operation, accounting, _mapping_lines(blocking), (phase,), energy, element_bytes=words)


def linear_actions(einsum: Einsum, blocking: Blocking, accounting: Accounting) -> Actions:
    """Count everything the product does, for its energy; every copy has operands of its own."""
    physical = accounting == "physical"
    operands = [
        Operand(access.tensor, frozenset((*access.ranks, "x")), is_output=access == einsum.output)
        for access in (*einsum.inputs, einsum.output)
    ]
    nest = _nest(einsum, blocking, physical)
    counts = count_accesses(operands, nest, registers="all" if physical else "one", wrap64=not physical)
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


def _nest(einsum: Einsum, blocking: Blocking, uneven: bool) -> Nest:
    """Loops x, r2, n2, k2 run around the buffer; r1, n1, k1 around the array; r0 and n0 in space."""
    product = blocking.product
    bounds = {
        "x": product.copies,
        "r2": blocking.row_blocks, "r1": blocking.rows_per_block, "r0": blocking.tile_rows,
        "n2": blocking.column_blocks, "n1": blocking.columns_per_block, "n0": blocking.tile_columns,
        "k2": blocking.depth_blocks, "k1": blocking.depth_per_block,
    }  # fmt: skip
    loops = {name: loop_over(name, bound) for name, bound in bounds.items()}
    x, r2, r1, r0, n2, n1, n0, k2, k1 = loops.values()
    everything = frozenset((*(access.tensor for access in einsum.inputs), einsum.name))
    buffered = everything if blocking.resident == "outputs" else everything - {einsum.name}
    levels = (
        Level("dram", (x, r2, n2, k2), everything),
        Level("global_buffer", (r1, n1, k1), buffered),
        Level("registers", ()),
    )
    chains = (
        (product.copies, (x,)),
        (product.rows, (r2, r1, r0)),
        (product.columns, (n2, n1, n0)),
        (product.depth, (k2, k1)),
    )
    return Nest(levels, (r0, n0), ragged(*chains) if uneven else None)


def _phase(name: str, blocking: Blocking, spec: SpatialArray, physical: bool) -> Phase:
    """A published phase takes the longer of compute and DRAM, whatever the pipeline does."""
    product, steps = blocking.product, blocking.steps
    written = product.copies * product.rows * product.columns
    traffic = Traffic((blocking.dram_words - written) * spec.word_bytes, written * spec.word_bytes)
    cycles, dram_cycles = steps * spec.pe_array.mac_cycles, traffic.total_bytes / spec.dram_bytes_per_cycle
    occupancy = product.macs / (steps * spec.pe_array.elements)
    on_array = EinsumActivity(name, "array_2d", cycles, {"mac": product.macs}, occupancy)
    on_dram = EinsumActivity(name, "dram", int(dram_cycles))
    if not physical:
        return Phase(name, (on_array, on_dram), traffic, max(cycles, dram_cycles))
    drain_cycles = blocking.tile_rows + blocking.tile_columns
    stream = BufferedStream("array_2d", (name,), *product_steps(blocking, spec), drain_cycles)
    on_ports = EinsumActivity(name, "global_buffer", stream.total.buffer_bytes // spec.global_buffer.bytes_per_cycle)
    bound, program = stream.total.bound_cycles(spec), partial(stream_program, stream, spec)
    return Phase(name, (on_array, on_ports, on_dram), traffic, bound, program)


def _mapping_lines(blocking: Blocking) -> tuple[str, ...]:
    product = blocking.product
    copies = f", {product.copies:,} copies" if product.copies > 1 else ""
    return (
        f"array_2d: r over {blocking.tile_rows}, n over {blocking.tile_columns}, k in time; "
        f"{blocking.row_tiles:,} x {blocking.column_tiles:,} tiles of {product.depth:,} steps{copies}",
        f"{_RESIDENT_TEXT[blocking.resident]}; room for {blocking.slots} of them",
        f"dram: A {blocking.reads_of_rows}x, W {blocking.reads_of_weights}x, Z 1x",
        f"a tile leaves array_2d {blocking.tile_rows + blocking.tile_columns} cycles after its last operands enter it",
    )
