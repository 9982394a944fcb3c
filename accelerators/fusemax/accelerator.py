"""FuseMax as the simulator sees it: presets in, plans out. FuseMax (MICRO'24); its +Cascade, +Architecture, +Binding.

Attention runs the 1-pass cascade, the pruned one in two passes; linear and element-wise work is that of any spatial
array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cascadesim.accelerators import fusemax
from cascadesim.accelerators.fusemax.attention import plan_attention
from cascadesim.accelerators.fusemax.spec import FuseMaxSpec
from cascadesim.accelerators.protocol import Accounting, Capabilities, Plan
from cascadesim.accelerators.spatial.array import SpatialMachine
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.schema import validate


@dataclass(frozen=True)
class FuseMax(SpatialMachine[FuseMaxSpec]):
    """A configured design."""

    @property
    def attention(self) -> str:
        return "attention-1pass"

    @property
    def capabilities(self) -> Capabilities:
        """Key tiles are fetched one by one, so a list of them may be given; nothing here chooses it by the data.

        assumed: query tiles that are resident together want neighbouring key tiles, as under a window.
        """
        return replace(super().capabilities, patterns="static")

    def prepared(self, operations: tuple[Operation, ...], workload: str) -> tuple[FuseMax, tuple[Operation, ...]]:
        """Pruned attention runs on the tokens that the workload's published schedule keeps."""
        return self, tuple(part for operation in operations for part in (
            fusemax.by_schedule(operation, workload) if _may_prune(operation) else (operation,)))

    def notes(self, sequence_length: int) -> tuple[str, ...]:
        return ()

    def plan_attention(self, operation: Operation, accounting: Accounting) -> Plan:
        if _may_prune(operation) and fusemax.is_pruned(operation):
            return fusemax.plan_pruned(operation, self.spec, accounting)
        return plan_attention(operation, self.spec, accounting)


def _may_prune(operation: Operation) -> bool:
    """Whether a text gives more than the result of attention, such as the importance of tokens."""
    return operation.kind == "attention" and len(operation.cascade.outputs) > 1


def build(name: str, content: Mapping[str, object], source: str) -> FuseMax:
    """Raises SpecError with every problem of `content`."""
    return FuseMax(name, validate(FuseMaxSpec, content, source))
