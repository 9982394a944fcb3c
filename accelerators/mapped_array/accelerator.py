"""A spatial array that no paper maps: every attention runs by a mapping, the one that is given or the best found.

A new array is one YAML with `architecture: mapped_array` and the fields of `accelerators/spec.py: SpatialArray`.
Products and element-wise work are those of any spatial array (`spatial/array.py`), unless it works fold by fold: then
everything runs by a mapping. mapping.md 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from cascadesim.accelerators.binding import OtherFormError
from cascadesim.accelerators.protocol import Accounting, Plan
from cascadesim.accelerators.spatial.array import SpatialMachine
from cascadesim.accelerators.spec import FoldedPeArray, SpatialArray
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.schema import validate


class MappedArraySpec(SpatialArray):
    """A spatial array, of which the 2D array may work fold by fold, and which may have more memories."""

    has_memories: ClassVar[bool] = True

    pe_array: FoldedPeArray


@dataclass(frozen=True)
class MappedArray(SpatialMachine[MappedArraySpec]):
    """A configured array."""

    @property
    def attention(self) -> str:
        return "attention-1pass"

    def plan(self, operation: Operation, accounting: Accounting) -> Plan:
        """Plan by a mapping what the published rule does not know: folds, other memories, a second array."""
        array = self.spec.pe_array
        if array.stationary is None and array.count == 1 and not self.spec.other_memories:
            return super().plan(operation, accounting)
        return self._mapped(operation, accounting)

    def plan_attention(self, operation: Operation, accounting: Accounting) -> Plan:
        """Raises OtherFormError always: nothing is published for it, so that `plan` searches."""
        raise OtherFormError(f"{self.name}: no mapping is published for it")


def build(name: str, content: Mapping[str, object], source: str) -> MappedArray:
    """Build the machine. Raises SpecError with every problem of `content`."""
    return MappedArray(name, validate(MappedArraySpec, content, source))
