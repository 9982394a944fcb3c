"""FuseMax as the simulator sees it: presets in, plans out. FuseMax (MICRO'24); its +Cascade, +Architecture, +Binding.

Attention runs the 1-pass cascade, the pruned one in two passes; linear and element-wise work is that of any spatial
array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cascadesim.accelerators.fusemax.attention import plan_attention
from cascadesim.accelerators.fusemax.pruned import by_schedule, plan_pruned
from cascadesim.accelerators.fusemax.spec import FuseMaxSpec
from cascadesim.accelerators.protocol import Accounting, Plan
from cascadesim.accelerators.spatial.array import SpatialMachine
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.schema import validate
from cascadesim.einsum_cascades.texts.pruned_attention import PRUNED_1PASS


@dataclass(frozen=True)
class FuseMax(SpatialMachine[FuseMaxSpec]):
    """A configured design."""

    @property
    def attention(self) -> str:
        return "attention-1pass"

    def prepared(self, operations: tuple[Operation, ...], workload: str) -> tuple[FuseMax, tuple[Operation, ...]]:
        """Pruned attention runs on the tokens that the workload's published schedule keeps."""
        return self, tuple(part for operation in operations for part in by_schedule(operation, workload))

    def notes(self, sequence_length: int) -> tuple[str, ...]:
        return ()

    def plan_attention(self, operation: Operation, accounting: Accounting) -> Plan:
        if operation.cascade == PRUNED_1PASS:
            return plan_pruned(operation, self.spec, accounting)
        return plan_attention(operation, self.spec, accounting)


def build(name: str, content: Mapping[str, object], source: str) -> FuseMax:
    """Raises SpecError with every problem of `content`."""
    return FuseMax(name, validate(FuseMaxSpec, content, source))
