"""The pipeline: a workload's operations, each planned by the accelerator, executed, summed up in a Report.

Reads top to bottom. Which unit an Einsum runs on is the accelerator's business, when it runs the engine's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import groupby
from math import prod

from cascadesim.accelerators.catalogue import load, preset_names
from cascadesim.accelerators.protocol import (
    Accelerator,
    Accounting,
    Plan,
    Prepares,
    checked,
)
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.projections import Phase
from cascadesim.einsum_cascades.models.workload import Scope
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator import sharding as division
from cascadesim.simulator import summary
from cascadesim.simulator.execution import Execution, Fidelity, execute
from cascadesim.simulator.memory import memory, refuse_what_does_not_fit
from cascadesim.simulator.report import Memory, Report
from cascadesim.simulator.summary import Work
from cascadesim.simulator.uncertainty import WHOLE_MODELS, Call, mask_name, sizes_of, uncertainty_of
from cascadesim.simulator.workloads import AnyWorkload

_MOST_POINTS = 2**62  # of one operation, so that counts fit the 64 bits of arrays
_WITHOUT_CALIBRATED_OVERLAP = (
    "cycle level: units overlap as far as dependences allow; the closed form's overlap is calibrated on measurements"
)
_OF_THE_CALL = ("dtype", "types", "kernel", "parallel")  # settings that show in sizes, types and kernel of a call
_REMEMBERED = 4096  # plans and executions: those of a sweep over models and lengths


@dataclass(frozen=True)
class Request:
    """What to simulate. None: the workload's own length or batch, the accelerator's own attention."""

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


def simulate(
    workload: AnyWorkload,
    accelerator: Accelerator,
    *,
    sequence_length: int | None = None,
    batch: int | None = None,
    phase: Phase = "prefill",
    scope: Scope = "model",
    fidelity: Fidelity = "cycle",
    accounting: Accounting = "physical",
    attention: str | None = None,
) -> tuple[Report, ...]:
    """One report for the scope `model`, one for each kind of layer otherwise.

    Raises CascadeSimError for what cannot be: a length below 1, a mask this accelerator does not map, ...
    """
    return reports(
        Request(workload, accelerator, sequence_length, batch, phase, scope, fidelity, accounting, attention)
    )


def reports(request: Request) -> tuple[Report, ...]:
    return tuple(_report(request, part) for part in parts(request))


def parts(request: Request) -> tuple[tuple[Work, ...], ...]:
    """The executed operations of each report."""
    if request.accounting == "artifact" and request.fidelity == "cycle":
        raise CascadeSimError("artifact accounting has no cycle level, only closed forms; use --fidelity analytical")
    refuse_what_does_not_fit(
        request.workload, request.accelerator, request.scope, request.length, request.sequences, request.phase
    )
    works = [Work(operation, _executed(request, operation)) for operation in operations(request)]
    if request.scope == "model":
        return (tuple(works),)
    return tuple(tuple(layer) for _, layer in groupby(works, key=lambda work: work.operation.layer))


def operations(request: Request) -> tuple[Operation, ...]:
    """What runs, in order; without elementwise work in the published accounting, which has none."""
    found = division.own_operations(
        request.workload, request.accelerator, request.scope, partial(_operations_of, request)
    )
    for operation in found:
        _refuse_endless(operation)
        _refuse_trace(operation, request.accelerator)
    if isinstance(request.accelerator, Prepares):
        found = request.accelerator.prepared(found, request.workload.name)[1]
    if request.accounting == "artifact":
        return tuple(operation for operation in found if operation.kind != "elementwise")
    return found


def _operations_of(request: Request, workload: AnyWorkload) -> tuple[Operation, ...]:
    return workload.operations(
        sequence_length=request.sequence_length,
        batch=request.batch,
        phase=request.phase,
        scope=request.scope,
        attention=request.cascade,
    )


def _refuse_trace(operation: Operation, accelerator: Accelerator) -> None:
    if operation.trace is not None and not accelerator.capabilities.traces:
        raise CascadeSimError(
            f"{operation.trace.source}: {accelerator.name} runs models; pruning traces are for accelerators that run "
            "heads one by one"
        )


def _refuse_endless(operation: Operation) -> None:
    points = prod(size for rank, size in operation.extents if rank not in ("f", "g"))  # f goes with e, g is within h
    if points > _MOST_POINTS:
        sizes = " ".join(f"{rank}={size}" for rank, size in operation.extents)
        raise CascadeSimError(f"{operation.name}: {points:.1e} multiply-accumulates ({sizes}); at most 2^62 count")


def _executed(request: Request, operation: Operation) -> Execution:
    """Planned and executed once, under the cascade's name, for all operations that differ in name, layer and count."""
    once = replace(operation, name=operation.cascade.name, count=1, layer="")
    return _execution(_Job(_machine(request), once, request.accounting), request.fidelity)


def _machine(request: Request) -> Accelerator:
    """The accelerator, prepared for the workload where it runs known ones in its own way."""
    if isinstance(request.accelerator, Prepares):
        return request.accelerator.prepared((), request.workload.name)[0]
    return request.accelerator


@lru_cache(maxsize=_REMEMBERED)
def _execution(job: _Job, fidelity: Fidelity) -> Execution:
    return execute(_plan(job), fidelity)


@lru_cache(maxsize=_REMEMBERED)
def _plan(job: _Job) -> Plan:
    return checked(job.accelerator.plan(job.operation, job.accounting), job.accelerator)


@dataclass(frozen=True, eq=False)
class _Job:
    """Equal to every other job that asks the same accelerator for the same work, whatever its name."""

    accelerator: Accelerator
    operation: Operation
    accounting: Accounting

    @cached_property
    def _key(self) -> tuple[object, ...]:
        work, cascade = self.operation, self.operation.cascade
        what = (work.kind, cascade.name, cascade.text, work.extents, work.mask, work.trace, work.operand)
        return (self.accelerator, self.accounting, *what)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Job) and self._key == other._key


def _report(request: Request, works: Sequence[Work]) -> Report:
    workload, accelerator = request.workload, request.accelerator
    cycles = sum(work.cycles for work in works)
    latency_s = sum(work.exact_cycles for work in works) / accelerator.clock_hz
    leakage_w = 0.0 if request.accounting == "artifact" else accelerator.leakage_w  # the publication charges none
    sequence_length, batch = request.length, request.sequences
    units = summary.unit_times(accelerator.units, works)
    overhead = summary.overhead(works)
    layer = works[0].operation.layer if request.scope != "model" else None
    return Report(
        architecture=accelerator.name,
        workload=workload.name,
        attention=request.cascade if any(work.operation.kind == "attention" for work in works) else None,
        scope=request.scope,
        layer=layer,
        layers=_layers(workload, layer),
        parameters=workload.parameters(),
        kv_cache_bytes=_cache_bytes(request),
        memory=_memory(request),
        phase=request.phase,
        fidelity=request.fidelity,
        accounting=request.accounting,
        batch=batch,
        sequence_length=sequence_length,
        clock_hz=accelerator.clock_hz,
        cycles=cycles,
        latency_s=latency_s,
        analytical_cycles=sum(work.count * work.execution.analytical_cycles for work in works),
        fill_cycles=None if overhead is None else overhead.fill_cycles,
        drain_cycles=None if overhead is None else overhead.drain_cycles,
        waiting_cycles=None if overhead is None else overhead.waiting_cycles,
        traffic=summary.traffic(works),
        energy_j=summary.energy_j(works, leakage_w, latency_s),
        area_um2=accelerator.area_um2(),
        units=units,
        einsums=summary.einsum_times(works),
        operations=summary.operation_times(works),
        bound_by=summary.bound_by(units),
        uncertainty=uncertainty_of(accelerator.name, _calls(request, works), tuple(_not_validated(request))),
        tokens_per_s=_tokens(request, batch, sequence_length) / latency_s if request.scope == "model" else None,
        time_to_first_token_s=latency_s if _starts_generating(request) else None,
        notes=_notes(request, sequence_length, works),
        mapping=summary.mapping_lines(works),
    )


def _calls(request: Request, works: Sequence[Work]) -> tuple[Call, ...]:
    """What suites may have compared."""
    total, clock_hz = sum(work.exact_cycles for work in works), request.accelerator.clock_hz
    return tuple(
        Call(
            work.operation.kind, sizes_of(work.operation, work.execution.exact_cycles / clock_hz),
            mask_name(work.operation.mask), work.execution.plan.kernel, work.execution.plan.types, request.fidelity,
            work.exact_cycles / total,
        )
        for work in works if work.operation.kind in ("attention", "linear")
    )  # fmt: skip


def _not_validated(request: Request) -> Iterator[str]:
    """What the suites do not run, whatever its shape."""
    accelerator = request.accelerator
    if request.scope == "model":
        yield WHOLE_MODELS
    if request.accounting == "artifact":
        yield "artifact accounting has suites of its own"
    if request.scope != "linear" and request.cascade != accelerator.attention:
        yield f"no run of {request.cascade} was measured"
    typed = tuple(setting for setting in request.settings if setting.split(".")[0].split("=")[0] in _OF_THE_CALL)
    if accelerator != _as_preset(accelerator.name, typed):
        yield f"measured without {', '.join(request.settings) or 'what was changed'}"


@lru_cache(maxsize=_REMEMBERED)
def _as_preset(name: str, settings: tuple[str, ...]) -> Accelerator | None:
    """The one of that name, but for settings of which each call says what they make of it."""
    if name not in preset_names():
        return None
    try:
        return load(name, settings)
    except CascadeSimError:
        return None


def _cache_bytes(request: Request) -> int | None:
    """Of the whole model, however many devices divide it."""
    width = request.accelerator.capabilities.stored.kv
    workload = request.workload
    return workload.kv_cache_bytes(request.length, request.sequences, width) if workload.generates else None


def _memory(request: Request) -> Memory | None:
    """Only a whole model is held."""
    if request.scope != "model":
        return None
    return memory(
        request.workload, request.accelerator, request.scope, request.length, request.sequences, request.phase
    )


def _layers(workload: AnyWorkload, names: str | None) -> int:
    """Layers of the kinds named `a+b`, or 5 to 10 of `a:5-10`; all of them for None."""
    if names is not None and ":" in names:
        first, _, last = names.rpartition(":")[2].partition("-")
        return int(last or first) - int(first) + 1
    chosen = workload.layers if names is None else names.split("+")
    return sum(workload.layers[name].count for name in chosen)


def _tokens(request: Request, batch: int, sequence_length: int) -> int:
    return batch * (sequence_length if request.phase == "prefill" else 1)


def _starts_generating(request: Request) -> bool:
    return request.scope == "model" and request.phase == "prefill" and request.workload.generates


def _notes(request: Request, sequence_length: int, works: Sequence[Work]) -> tuple[str, ...]:
    notes = tuple(f"set {setting}" for setting in request.settings)
    notes += request.workload.notes(sequence_length=sequence_length)
    notes += division.notes(request.workload, request.accelerator)
    notes += tuple(dict.fromkeys(note for work in works for note in work.execution.plan.notes))
    machine = _machine(request)
    notes += machine.notes(sequence_length) if isinstance(machine, Prepares) else ()
    if request.fidelity == "cycle" and request.accelerator.capabilities.calibrated:
        notes += (_WITHOUT_CALIBRATED_OVERLAP,)
    if request.accounting == "artifact":
        notes += ("artifact accounting: norms, activations and other elementwise work is left out, as published",)
    return notes
