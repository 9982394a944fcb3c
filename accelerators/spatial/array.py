"""What every spatial array is to the simulator: its units, its area, and plans by mappings.

FuseMax (MICRO'24), section V, and FLAT (ASPLOS'23): a 2D array, a 1D array, a global buffer and a DRAM channel. All but
published attention runs by a mapping, given or searched (`mapping`); artifact accounting has the published rule for
linear layers, Z[r,n] = A[r,k] * W[k,n] (FuseMax artifact: outputs stationary, one register file, 64-bit wrap).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from cascadesim.accelerators.access_counts import Accesses, Level, Nest, Operand, count_accesses, loop_over
from cascadesim.accelerators.binding import OtherFormError
from cascadesim.accelerators.energy import Actions, area_um2, has_area, sourced_energy_j
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
from cascadesim.accelerators.spatial.blocking import BlockedProduct, Blocking, published_blocking
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Einsum

if TYPE_CHECKING:
    from cascadesim.accelerators.mapping.nest import CascadeMapping

SpecType = TypeVar("SpecType", bound=SpatialArray)
NOT_PUBLISHED = "not part of the published accounting"


_RESIDENT_TEXT = {
    "weights": "all weights stay in global_buffer, tiles of rows pass by",
    "rows": "blocks of rows stay in global_buffer, tiles of weights pass by",
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
            *(Unit(each.name, each.ports) for each in self.spec.other_memories),
            Unit("dram"),
        )

    @property
    def capabilities(self) -> Capabilities:
        word = self.spec.word_bytes
        return Capabilities(stored=Stored(word, word, word, word),
                            dram_bytes_per_s=self.spec.dram.bandwidth_bytes_per_s,
                            buffer_bytes=self.spec.on_chip_bytes)  # fmt: skip

    @property
    def leakage_w(self) -> float:
        return self.spec.leakage_w_per_um2 * sum((self.area_um2() or {}).values())

    def area_um2(self) -> Mapping[str, float] | None:
        return area_um2(self.spec) if has_area(self.spec) else None

    def with_mapping(self, mapping: CascadeMapping | None) -> Self:
        return replace(self, mapping=mapping, searches=mapping is None)

    @property
    def fuses(self) -> bool:
        """Whether Einsums of attention may share loops where no published mapping says so."""
        return True

    def plan(self, operation: Operation, accounting: Accounting) -> Plan:
        """Plan by the mapping that was given, the published one, or the best that is found.

        No publication times element-wise work on these arrays: in artifact accounting its plan is empty and says so.
        """
        if self.mapping is not None and self.mapping.cascade == operation.cascade.name:
            return self._mapped(operation, accounting)
        if operation.kind == "attention":
            published = None if self.searches else self._published(operation, accounting)
            return self._mapped(operation, accounting) if published is None else published
        if accounting == "physical":
            return self._mapped(operation, accounting)
        if operation.kind == "linear":
            return published_linear(operation, self.spec)
        return Plan(operation, accounting, (NOT_PUBLISHED,), (), {})

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
        return plan_mapped(operation, self.spec, accounting, mapping, self.fuses or operation.kind != "attention")


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
