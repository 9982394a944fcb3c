"""What every spatial array is to the simulator: its units, its area, and plans by mappings.

FuseMax (MICRO'24), section V, and FLAT (ASPLOS'23): a 2D array, a 1D array, a global buffer and a DRAM channel. All but
published attention runs by a mapping, given or searched (`mapping`), or by the published rule (`published_linear`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from cascadesim.accelerators.binding import OtherFormError
from cascadesim.accelerators.energy import area_um2, has_area
from cascadesim.accelerators.protocol import Accounting, Capabilities, Plan, Stored, Unit
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.models.operation import Operation

if TYPE_CHECKING:
    from cascadesim.accelerators.mapping.nest import CascadeMapping

SpecType = TypeVar("SpecType", bound=SpatialArray)
NOT_PUBLISHED = "not part of the published accounting"


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
            from cascadesim.accelerators.spatial.published_linear import published_linear  # few runs ask for it

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
