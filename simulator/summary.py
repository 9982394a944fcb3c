"""From executed plans to the figures of a Report: sums over operations, shares, traffic, energy, what bounds the run.

Runs nothing and prints nothing. Every figure counts each operation as often as the model repeats it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cascadesim.accelerators.protocol import EinsumActivity, Prepares, Traffic, Unit
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.simulator import sharding
from cascadesim.simulator.execution import Execution, Overhead
from cascadesim.simulator.report import EinsumTime, OperationTime, UnitTime
from cascadesim.simulator.request import Request

_WITHOUT_CALIBRATED_OVERLAP = (
    "cycle level: units overlap as far as dependences allow; the closed form's overlap is calibrated on measurements"
)


@dataclass(frozen=True)
class OperationRun:
    """One operation of a report and its execution; it runs `operation.count` times."""

    operation: Operation
    execution: Execution

    @property
    def count(self) -> int:
        return self.operation.count

    @property
    def cycles(self) -> int:
        return self.count * self.execution.cycles

    @property
    def exact_cycles(self) -> float:
        return self.count * self.execution.exact_cycles

    @property
    def traffic(self) -> Traffic:
        traffic = self.execution.plan.traffic
        return Traffic(self.count * traffic.read_bytes, self.count * traffic.write_bytes)


def traffic(runs: Iterable[OperationRun]) -> Traffic:
    return sum((run.traffic for run in runs), Traffic())


def unit_times(units: Sequence[Unit], runs: Sequence[OperationRun]) -> tuple[UnitTime, ...]:
    """Attribute every cycle of every unit: busy, stalled or idle."""
    busy: Counter[str] = Counter()
    stalled: Counter[str] = Counter()
    unused: defaultdict[str, float] = defaultdict(float)  # busy cycles times the share of lanes without useful work
    for run in runs:
        for phase in run.execution.phases:
            busy.update({unit: run.count * spent for unit, spent in phase.busy_cycles.items()})
            stalled.update({unit: run.count * spent for unit, spent in phase.stalled_cycles.items()})
            for unit, share in _unused_shares(phase.phase.activities).items():
                unused[unit] += run.count * phase.busy_cycles[unit] * share
    cycles, exact_cycles = sum(run.cycles for run in runs), sum(run.exact_cycles for run in runs)
    return tuple(
        UnitTime(
            name=unit.name,
            busy_cycles=busy[unit.name],
            stalled_cycles=stalled[unit.name],
            idle_cycles=cycles - busy[unit.name] - stalled[unit.name],
            utilization=(busy[unit.name] - unused[unit.name]) / exact_cycles if unit.name in busy else None,
        )
        for unit in units
    )


def _unused_shares(activities: Iterable[EinsumActivity]) -> Mapping[str, float]:
    """Map each unit to the share of its busy cycles that the average lane spends without useful work."""
    spent: Counter[str] = Counter()
    unused: defaultdict[str, float] = defaultdict(float)
    for activity in activities:
        spent[activity.unit] += activity.cycles
        unused[activity.unit] += activity.cycles * (1 - activity.occupancy)
    return {unit: unused[unit] / cycles for unit, cycles in spent.items() if cycles}


def einsum_times(runs: Sequence[OperationRun]) -> tuple[EinsumTime, ...]:
    """Make a row per operation, Einsum and unit, in order of appearance; phases and layers that share one add up."""
    exact_cycles = sum(run.exact_cycles for run in runs)
    rows: defaultdict[tuple[str, str, str], list[tuple[int, EinsumActivity]]] = defaultdict(list)
    for run in runs:
        for phase in run.execution.phases:
            for activity in phase.phase.activities:
                rows[run.operation.name, activity.name, activity.unit].append((run.count, activity))
    return tuple(_einsum_time(*key, parts, exact_cycles) for key, parts in rows.items())


def _einsum_time(
    operation: str, einsum: str, unit: str, parts: Sequence[tuple[int, EinsumActivity]], cycles: float
) -> EinsumTime:
    spent = sum(count * part.cycles for count, part in parts)
    useful = sum(count * part.cycles * part.occupancy for count, part in parts)
    operations: Counter[str] = Counter()
    for count, part in parts:
        operations.update({name: count * number for name, number in part.operations.items()})
    occupancy = useful / spent if spent else 1.0
    return EinsumTime(einsum, operation, unit, dict(operations), spent, spent / cycles, occupancy)


def operation_times(runs: Sequence[OperationRun]) -> tuple[OperationTime, ...]:
    cycles = sum(run.cycles for run in runs)
    return tuple(
        OperationTime(
            name=run.operation.name,
            kind=run.operation.kind,
            layer=run.operation.layer,
            count=run.count,
            cycles=run.cycles,
            share=run.cycles / cycles,
            dram_bytes=run.traffic.total_bytes,
        )
        for run in runs
    )


def energy_j(runs: Sequence[OperationRun], leakage_w: float, latency_s: float) -> Mapping[str, float] | None:
    """Add up joules by component; None if an operation has no energy model. Leakage is power times latency."""
    total: defaultdict[str, float] = defaultdict(float)
    for run in runs:
        spent = run.execution.plan.dynamic_energy_j
        if spent is None:
            return None
        for component, joules in spent.items():
            total[component] += run.count * joules
    if leakage_w > 0:
        total["leakage"] = leakage_w * latency_s
    return dict(total)


def bound_by(units: Sequence[UnitTime]) -> str | None:
    """Name the unit with the most busy cycles, None if none is busy."""
    busiest = max(units, key=lambda unit: unit.busy_cycles, default=None)
    return busiest.name if busiest is not None and busiest.busy_cycles > 0 else None


def overhead(runs: Sequence[OperationRun]) -> Overhead | None:
    """Add up fill, drain and waiting over all phases; the closed form has none of them and gives None."""
    parts = [(run.count, phase.overhead) for run in runs for phase in run.execution.phases]
    found = [(count, part) for count, part in parts if part is not None]
    if len(found) < len(parts):
        return None
    return Overhead(
        fill_cycles=sum(count * part.fill_cycles for count, part in found),
        drain_cycles=sum(count * part.drain_cycles for count, part in found),
        waiting_cycles=sum(count * part.waiting_cycles for count, part in found),
    )


def mapped_alike(runs: Sequence[OperationRun]) -> Mapping[tuple[str, ...], Sequence[str]]:
    """Map the lines of each mapping to the names of the operations that have it, each once."""
    names: dict[tuple[str, ...], dict[str, None]] = {}
    for run in runs:
        names.setdefault(run.execution.plan.mapping, {})[run.operation.name] = None
    return {lines: tuple(found) for lines, found in names.items()}


def notes(request: Request, runs: Sequence[OperationRun]) -> tuple[str, ...]:
    """Collect what a reader must know beside the figures."""
    machine = request.machine
    found = [
        *(f"set {setting}" for setting in request.settings),
        *request.workload.notes(sequence_length=request.length),
        *sharding.notes(request),
        *dict.fromkeys(note for run in runs for note in run.execution.plan.notes),
        *(machine.notes(request.length) if isinstance(machine, Prepares) else ()),
    ]
    if request.fidelity == "cycle" and request.accelerator.capabilities.calibrated:
        found.append(_WITHOUT_CALIBRATED_OVERLAP)
    if request.accounting == "artifact":
        found.append("artifact accounting: norms, activations and other elementwise work is left out, as published")
    return tuple(found)
