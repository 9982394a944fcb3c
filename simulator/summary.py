"""From executed plans to a Report: sums over operations, cycles to seconds, shares, energy, what bounds the run.

The only place where integer cycles become seconds. Runs nothing and prints nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from cascadesim.accelerators.protocol import Accelerator, EinsumActivity, Traffic
from cascadesim.einsum_cascades.operation import Operation
from cascadesim.simulator.execution import Execution
from cascadesim.simulator.report import EinsumTime, OperationTime, UnitTime

_ROUNDING = 1e-12  # relative error of sums of float cycles, far below one cycle of any run


@dataclass(frozen=True)
class Work:
    """One operation of a report, executed; it runs `operation.count` times."""

    operation: Operation
    execution: Execution

    @property
    def count(self) -> int:
        return self.operation.count

    @property
    def activities(self) -> tuple[EinsumActivity, ...]:
        return tuple(activity for phase in self.execution.phases for activity in phase.phase.activities)

    @property
    def cycles(self) -> float:
        return self.count * self.execution.cycles

    @property
    def traffic(self) -> Traffic:
        traffic = self.execution.plan.traffic
        return Traffic(self.count * traffic.read_bytes, self.count * traffic.write_bytes)


def whole_cycles(cycles: float) -> int:
    """The cycle in which the work has ended: up to the next whole one, not counting rounding errors of the sum."""
    return ceil(cycles * (1 - _ROUNDING))


def traffic(works: Iterable[Work]) -> Traffic:
    return sum((work.traffic for work in works), Traffic())


def unit_times(accelerator: Accelerator, works: Sequence[Work], cycles: int) -> tuple[UnitTime, ...]:
    """Every cycle of every unit attributed."""
    busy: Counter[str] = Counter()
    stalled: Counter[str] = Counter()
    idle_lanes: defaultdict[str, float] = defaultdict(float)
    for work in works:
        for phase in work.execution.phases:
            busy.update({unit: work.count * spent for unit, spent in phase.busy_cycles.items()})
            stalled.update({unit: work.count * spent for unit, spent in phase.stalled_cycles.items()})
        for activity in work.activities:
            idle_lanes[activity.unit] += work.count * activity.cycles * (1 - activity.occupancy)
    return tuple(
        UnitTime(
            name=unit.name,
            busy_cycles=busy[unit.name],
            stalled_cycles=stalled[unit.name],
            idle_cycles=cycles - busy[unit.name] - stalled[unit.name],
            utilization=(busy[unit.name] - idle_lanes[unit.name]) / cycles,
        )
        for unit in accelerator.units
    )


def einsum_times(works: Sequence[Work], cycles: int) -> tuple[EinsumTime, ...]:
    """One row per operation, Einsum and unit, in order of first appearance; phases that share one are added."""
    rows: defaultdict[tuple[str, str, str], list[tuple[int, EinsumActivity]]] = defaultdict(list)
    for work in works:
        for activity in work.activities:
            rows[work.operation.name, activity.name, activity.unit].append((work.count, activity))
    return tuple(_einsum_time(*key, parts, cycles) for key, parts in rows.items())


def _einsum_time(
    operation: str, einsum: str, unit: str, parts: Sequence[tuple[int, EinsumActivity]], cycles: int
) -> EinsumTime:
    spent = sum(count * part.cycles for count, part in parts)
    useful = sum(count * part.cycles * part.occupancy for count, part in parts)
    operations: Counter[str] = Counter()
    for count, part in parts:
        operations.update({name: count * number for name, number in part.operations.items()})
    occupancy = useful / spent if spent else 1.0
    return EinsumTime(einsum, operation, unit, dict(operations), spent, spent / cycles, occupancy)


def operation_times(works: Sequence[Work], cycles: float) -> tuple[OperationTime, ...]:
    return tuple(
        OperationTime(
            name=work.operation.name,
            kind=work.operation.kind,
            layer=work.operation.layer,
            count=work.count,
            cycles=work.cycles,
            share=work.cycles / cycles,
            dram_bytes=work.traffic.total_bytes,
        )
        for work in works
    )


def energy_j(works: Sequence[Work], leakage_w: float, latency_s: float) -> Mapping[str, float] | None:
    """By component; None if any operation has no energy model. Leakage only where the accelerator states one."""
    total: defaultdict[str, float] = defaultdict(float)
    for work in works:
        spent = work.execution.plan.dynamic_energy_j
        if spent is None:
            return None
        for component, joules in spent.items():
            total[component] += work.count * joules
    if leakage_w > 0:
        total["leakage"] = leakage_w * latency_s
    return dict(total)


def bound_by(units: Sequence[UnitTime]) -> str | None:
    """The unit with the largest busy share."""
    busiest = max(units, key=lambda unit: unit.busy_cycles, default=None)
    return busiest.name if busiest is not None and busiest.busy_cycles > 0 else None


def overhead_cycles(works: Sequence[Work]) -> tuple[int | None, int | None]:
    """Fill and drain summed over all phases; None in the closed form, which has neither."""
    phases = [(work.count, phase) for work in works for phase in work.execution.phases]
    fills = [count * phase.fill_cycles for count, phase in phases if phase.fill_cycles is not None]
    drains = [count * phase.drain_cycles for count, phase in phases if phase.drain_cycles is not None]
    return (sum(fills), sum(drains)) if len(fills) == len(phases) else (None, None)
