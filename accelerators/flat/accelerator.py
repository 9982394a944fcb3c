"""FLAT and its unfused baseline as the simulator sees them: presets in, plans out. FLAT (ASPLOS'23).

Attention runs the 3-pass cascade; linear and element-wise work is that of any spatial array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cascadesim.accelerators import energy
from cascadesim.accelerators.flat.plans import plan_attention
from cascadesim.accelerators.flat.spec import FlatArray, read_spec
from cascadesim.accelerators.protocol import Accounting, Plan, Unit
from cascadesim.einsum_cascades.operation import Operation


@dataclass(frozen=True)
class Flat:
    """A configured machine."""

    name: str
    spec: FlatArray

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
    def attention(self) -> str:
        return "attention-3pass"

    @property
    def leakage_w(self) -> float:
        return self.spec.leakage_w_per_um2 * sum(self.area_um2().values())

    def area_um2(self) -> Mapping[str, float]:
        return energy.area_um2(self.spec)

    def plan(self, operation: Operation, accounting: Accounting) -> Plan:
        if operation.kind == "attention":
            return plan_attention(operation, self.spec, accounting)
        if operation.kind == "linear":
            from cascadesim.accelerators.linear import plan_linear

            return plan_linear(operation, self.spec, accounting)
        from cascadesim.accelerators.elementwise import plan_elementwise

        return plan_elementwise(operation, self.spec, accounting)


def build(name: str, content: Mapping[str, object], source: str) -> Flat:
    """Raises SpecError with every problem of `content`."""
    return Flat(name, read_spec(content, source))
