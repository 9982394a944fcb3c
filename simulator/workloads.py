"""What `--workload` may name: a model, or the file of a pruning trace.

A trace has its own lengths and phase, and is attention only; options that every model takes are read so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from cascadesim.einsum_cascades.models.projections import Phase
from cascadesim.einsum_cascades.models.traced_workload import TracedWorkload, is_trace, workload_from_rows
from cascadesim.einsum_cascades.models.workload import Scope, Workload, load_workload
from cascadesim.einsum_cascades.notation.errors import SpecError

AnyWorkload: TypeAlias = Workload | TracedWorkload


def load(name_or_path: str, settings: Sequence[str] = ()) -> AnyWorkload:
    """Raises SpecError or UnknownNameError for what cannot be read."""
    if not is_trace(name_or_path):
        return load_workload(name_or_path, settings)
    if settings:
        raise SpecError(f"--set {settings[0]}: a pruning trace has no such field; it is read as its rows say")
    return workload_from_rows(name_or_path)


def phase_of(workload: AnyWorkload, given: Phase) -> Phase:
    """A trace is decode or prefill by its rows."""
    return workload.phase if isinstance(workload, TracedWorkload) else given


def scope_of(workload: AnyWorkload, given: Scope) -> Scope:
    """All that a trace has of a model is its attention."""
    return "attention" if isinstance(workload, TracedWorkload) and given == "model" else given
