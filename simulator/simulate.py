"""The pipeline: a workload's operations, each planned by the accelerator, executed, summed up in a Report.

Reads top to bottom. Which unit an Einsum runs on is the accelerator's business, when it runs the engine's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from cascadesim.accelerators.protocol import Accelerator, Accounting, Prepares, Traffic
from cascadesim.einsum_cascades.models.layers import Phase
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.sections import RECURRENCE
from cascadesim.einsum_cascades.models.workload import Scope
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator import execution, uncertainty
from cascadesim.simulator.execution import OperationRun, planned_and_executed
from cascadesim.simulator.report import Report
from cascadesim.simulator.request import (
    AnyWorkload,
    Fidelity,
    Request,
    memory,
    own_operations,
    refuse_impossible,
    refuse_unused_mapping,
    refuse_what_does_not_fit,
)


def simulate(
    workload: AnyWorkload, accelerator: Accelerator, *, sequence_length: int | None = None, batch: int | None = None,
    phase: Phase = "prefill", scope: Scope = "model", fidelity: Fidelity = "cycle",
    accounting: Accounting = "physical", attention: str | None = None,
) -> tuple[Report, ...]:  # fmt: skip
    """Simulate a workload: one report for the scope `model`, one for each kind of layer otherwise.

    Raises CascadeSimError for what cannot be: a length below 1, a mask this accelerator does not map, ...
    """
    return reports(
        Request(workload, accelerator, sequence_length, batch, phase, scope, fidelity, accounting, attention)
    )


def reports(request: Request) -> tuple[Report, ...]:
    """Answer a request: as `simulate`, whose arguments it holds."""
    return tuple(_report(request, part) for part in parts(request))


def parts(request: Request) -> tuple[tuple[OperationRun, ...], ...]:
    """Execute the operations of each report. Raises CascadeSimError for what does not fit or has no cycle level."""
    if request.accounting == "artifact" and request.fidelity == "cycle":
        raise CascadeSimError("artifact accounting has no cycle level, only closed forms; use --fidelity analytical")
    refuse_what_does_not_fit(request)
    found, machine = operations(request), request.machine
    runs = tuple(
        OperationRun(operation, planned_and_executed(operation, machine, request.accounting, request.fidelity))
        for operation in found
    )
    if request.scope == "model":
        return (runs,)
    return tuple(tuple(layer) for _, layer in groupby(runs, key=lambda run: run.operation.layer))


def operations(request: Request) -> tuple[Operation, ...]:
    """List what runs, in order; the published accounting has no elementwise work."""
    found = own_operations(request)
    refuse_unused_mapping(found, request.accelerator)
    for operation in found:
        refuse_impossible(operation, request.accelerator)
    if isinstance(request.accelerator, Prepares):
        found = request.accelerator.prepared(found, request.workload.name)[1]
    if request.accounting == "artifact":
        return tuple(operation for operation in found if operation.kind != "elementwise")
    return found


def _texts(request: Request, runs: Sequence[OperationRun]) -> Mapping[str, None]:
    """Name the cascades of attention that run, and those of recurrences, in their order, each once."""
    return dict.fromkeys(run.operation.cascade.name if run.operation.name == RECURRENCE else request.cascade
                         for run in runs if run.operation.kind == "attention")  # fmt: skip


def _report(request: Request, runs: Sequence[OperationRun]) -> Report:
    workload, accelerator = request.workload, request.accelerator
    latency_s = sum(run.exact_cycles for run in runs) / accelerator.clock_hz
    leakage_w = 0.0 if request.accounting == "artifact" else accelerator.leakage_w  # the publication charges none
    units = execution.unit_times(accelerator.units, runs)
    overhead = execution.overhead(runs)
    whole_model, prompt = request.scope == "model", request.phase == "prefill"
    layer = None if whole_model else runs[0].operation.layer
    tokens = request.sequences * (request.length if prompt else 1)
    stored = accelerator.capabilities.stored
    kept = workload.state_bytes(request.sequences, stored.activations)
    return Report(
        architecture=accelerator.name, workload=workload.name,
        attention="+".join(_texts(request, runs)) or None,
        scope=request.scope, layer=layer, layers=request.layers(layer), parameters=workload.parameters(),
        kv_cache_bytes=workload.kv_cache_bytes(request.length, request.sequences, stored.kv)
        if workload.generates else None,
        state_bytes=kept[0] or None, convolution_bytes=kept[1] or None,
        memory=memory(request) if whole_model else None,
        phase=request.phase, fidelity=request.fidelity, accounting=request.accounting,
        batch=request.sequences, sequence_length=request.length,
        clock_hz=accelerator.clock_hz, cycles=sum(run.cycles for run in runs), latency_s=latency_s,
        analytical_cycles=sum(run.count * run.execution.analytical_cycles for run in runs),
        fill_cycles=None if overhead is None else overhead.fill_cycles,
        drain_cycles=None if overhead is None else overhead.drain_cycles,
        waiting_cycles=None if overhead is None else overhead.waiting_cycles,
        traffic=sum((run.traffic for run in runs), Traffic()),
        energy_j=execution.energy_j(runs, leakage_w, latency_s), area_um2=accelerator.area_um2(),
        units=units, einsums=execution.einsum_times(runs), operations=execution.operation_times(runs),
        bound_by=execution.bound_by(units), uncertainty=uncertainty.of_report(request, runs),
        tokens_per_s=tokens / latency_s if whole_model else None,
        time_to_first_token_s=latency_s if whole_model and prompt and workload.generates else None,
        notes=execution.notes(request, runs),
        mapping=tuple(line for rows, names in execution.mapped_alike(runs).items()
                      for line in (", ".join(names), *(f"  {row}" for row in rows))),
    )  # fmt: skip
