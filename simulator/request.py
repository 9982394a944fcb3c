"""What is asked of a simulation: a workload on an accelerator, how long, how many, and how exactly.

A workload is a model, or the file of a pruning trace, which has its own lengths and phase and is attention only.
Knows what cannot be asked; runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

from cascadesim.accelerators.protocol import Accelerator, Accounting, Prepares
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.projections import Phase
from cascadesim.einsum_cascades.models.workload import (
    Scope,
    TracedWorkload,
    Workload,
    is_trace,
    load_workload,
    workload_from_rows,
)
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError

AnyWorkload: TypeAlias = Workload | TracedWorkload
Fidelity: TypeAlias = Literal["analytical", "cycle"]
_MOST_POINTS = 2**62  # of one operation, so that counts fit the 64 bits of arrays


@dataclass(frozen=True)
class Request:
    """One simulation. None stands for the workload's own length or batch, and the accelerator's own attention."""

    workload: AnyWorkload
    accelerator: Accelerator
    sequence_length: int | None = None
    batch: int | None = None
    phase: Phase = "prefill"
    scope: Scope = "model"
    fidelity: Fidelity = "cycle"
    accounting: Accounting = "physical"
    attention: str | None = None
    settings: tuple[str, ...] = ()  # what the user changed, to be said in the report

    @property
    def cascade(self) -> str:
        return self.attention or self.accelerator.attention

    @property
    def length(self) -> int:
        return self.workload.sequence_length if self.sequence_length is None else self.sequence_length

    @property
    def sequences(self) -> int:
        return self.workload.batch if self.batch is None else self.batch

    @property
    def machine(self) -> Accelerator:
        """Prepare the accelerator for the workload, where it runs known ones in its own way."""
        if isinstance(self.accelerator, Prepares):
            return self.accelerator.prepared((), self.workload.name)[0]
        return self.accelerator

    def layers(self, kinds: str | None) -> int:
        """Count the layers of the kinds `a+b`, 5 to 10 of `a:5-10`, or all of the model for None."""
        if kinds is not None and ":" in kinds:
            first, _, last = kinds.rpartition(":")[2].partition("-")
            return int(last or first) - int(first) + 1
        chosen = self.workload.layers if kinds is None else kinds.split("+")
        return sum(self.workload.layers[name].count for name in chosen)


def load_any_workload(name_or_path: str, settings: Sequence[str] = ()) -> AnyWorkload:
    """Read a model by name or file, or a pruning trace. Raises SpecError or UnknownNameError where it cannot."""
    if not is_trace(name_or_path):
        return load_workload(name_or_path, settings)
    if settings:
        raise SpecError(f"--set {settings[0]}: a pruning trace has no such field; it is read as its rows say")
    return workload_from_rows(name_or_path)


def refuse_impossible(operation: Operation, accelerator: Accelerator) -> None:
    """Raises CascadeSimError for counts beyond 64 bits, and for a pruning trace where models run."""
    points = prod(size for rank, size in operation.extents if rank not in ("f", "g"))  # f goes with e, g is within h
    if points > _MOST_POINTS:
        sizes = " ".join(f"{rank}={size}" for rank, size in operation.extents)
        raise CascadeSimError(f"{operation.name}: {points:.1e} multiply-accumulates ({sizes}); at most 2^62 count")
    if operation.trace is not None and not accelerator.capabilities.traces:
        raise CascadeSimError(
            f"{operation.trace.source}: {accelerator.name} runs models; pruning traces are for accelerators that run "
            "heads one by one"
        )
