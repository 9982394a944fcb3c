"""What every spatial array is to the simulator: its units, its area, and its work beside attention.

FuseMax (MICRO'24), section V, and FLAT (ASPLOS'23): a 2D array, a 1D array, a global buffer and a DRAM channel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from cascadesim.accelerators.energy import area_um2
from cascadesim.accelerators.protocol import Accounting, Capabilities, Plan, Stored, Unit
from cascadesim.accelerators.spatial.elementwise import plan_elementwise
from cascadesim.accelerators.spatial.linear import plan_linear
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.models.operation import Operation

SpecType = TypeVar("SpecType", bound=SpatialArray)


@dataclass(frozen=True)
class SpatialMachine(ABC, Generic[SpecType]):
    """A configured array. A design adds its attention: the cascade that it runs, and how it plans for it."""

    name: str
    spec: SpecType

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
        return Capabilities(stored=Stored(word, word, word, word))

    @property
    def leakage_w(self) -> float:
        return self.spec.leakage_w_per_um2 * sum(self.area_um2().values())

    def area_um2(self) -> Mapping[str, float]:
        return area_um2(self.spec)

    def plan(self, operation: Operation, accounting: Accounting) -> Plan:
        if operation.kind == "attention":
            return self.plan_attention(operation, accounting)
        return (plan_linear if operation.kind == "linear" else plan_elementwise)(operation, self.spec, accounting)
