"""FLAT and its unfused baseline as the simulator sees them: presets in, plans out. FLAT (ASPLOS'23).

Attention runs the 3-pass cascade; linear and element-wise work is that of any spatial array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cascadesim.accelerators.flat.plans import plan_attention
from cascadesim.accelerators.flat.spec import FlatArray, read_spec
from cascadesim.accelerators.protocol import Accounting, Plan
from cascadesim.accelerators.spatial.array import SpatialMachine
from cascadesim.einsum_cascades.models.operation import Operation


@dataclass(frozen=True)
class Flat(SpatialMachine[FlatArray]):
    """A configured machine."""

    @property
    def attention(self) -> str:
        return "attention-3pass"

    def plan_attention(self, operation: Operation, accounting: Accounting) -> Plan:
        return plan_attention(operation, self.spec, accounting)


def build(name: str, content: Mapping[str, object], source: str) -> Flat:
    """Raises SpecError with every problem of `content`."""
    return Flat(name, read_spec(content, source))
