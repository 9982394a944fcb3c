"""Operations planned and executed, and summed up: the cycles of each phase, and where every cycle of each unit went.

Two fidelities: `analytical` takes the plan's closed form, `cycle` lets the engine run the plan's programs. A phase
ends with a whole cycle in both; published accounting keeps the fraction beside it. Equal work is planned, built and
run once, whatever its name; sums count each operation as often as the model repeats it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from cascadesim.accelerators.program import Program
from cascadesim.accelerators.protocol import (
    Accelerator,
    Accounting,
    EinsumActivity,
    Phase,
    Plan,
    PlanError,
    Prepares,
    Traffic,
    Unit,
    checked,
)
from cascadesim.einsum_cascades.models.operation import Operation, kept_states
from cascadesim.einsum_cascades.models.sections import STATE_BYTES
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.report import EinsumTime, OperationTime, UnitTime
from cascadesim.simulator.request import Fidelity, Request, notes_on_devices

if TYPE_CHECKING:  # the closed form needs none of the engine
    from cascadesim.simulator.engine.engine import Schedule

_REMEMBERED = 4096  # plans, executions, programs: those of a sweep over models and lengths
_ROUNDING = 1e-12  # relative error of sums of float cycles, far below one cycle of any run


class Overhead(NamedTuple):
    """Cycles in which the bounding unit is not busy: before its first task, after its last, and between them."""

    fill_cycles: int
    drain_cycles: int
    waiting_cycles: int


@dataclass(frozen=True)
class PhaseTime:
    """What a phase took. `exact_cycles` keeps the fraction of a published closed form, which has no overhead."""

    phase: Phase
    cycles: int
    exact_cycles: float
    busy_cycles: Mapping[str, int]
    stalled_cycles: Mapping[str, int]
    overhead: Overhead | None = None


@dataclass(frozen=True)
class Execution:
    """A plan and what its phases took, which run one after another; all figures are cycles."""

    plan: Plan
    phases: tuple[PhaseTime, ...]

    @property
    def cycles(self) -> int:
        return sum(phase.cycles for phase in self.phases)

    @property
    def exact_cycles(self) -> float:
        return sum(phase.exact_cycles for phase in self.phases)

    @property
    def analytical_cycles(self) -> int:
        return sum(whole_cycles(phase.phase.analytical_cycles) for phase in self.phases)


def whole_cycles(cycles: float) -> int:
    """Round up to the cycle in which the work has ended, without counting the rounding errors of sums."""
    return ceil(cycles - min(0.5, cycles * _ROUNDING))  # of long runs too, less than a cycle


@dataclass(frozen=True, eq=False)
class _Job:
    """A job equals every other one that asks the same accelerator for the same work, whatever its name."""

    accelerator: Accelerator
    operation: Operation
    accounting: Accounting

    @cached_property
    def _key(self) -> tuple[object, ...]:
        work, cascade = self.operation, self.operation.cascade
        what = (work.kind, cascade.name, cascade.text, work.extents, work.mask, work.trace, work.operand,
                work.launched)  # fmt: skip
        return (self.accelerator, self.accounting, *what)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Job) and self._key == other._key


def planned_and_executed(
    operation: Operation, accelerator: Accelerator, accounting: Accounting, fidelity: Fidelity
) -> Execution:
    """Plan and execute once, under the cascade's name, for all operations that differ in name, layer and count.

    Raises CascadeSimError for what the accelerator does not map, and as `execute` does.
    """
    once = replace(operation, name=operation.cascade.name, count=1, layer="")
    return _execution(_Job(accelerator, once, accounting), fidelity)


@lru_cache(maxsize=_REMEMBERED)
def _plan(job: _Job) -> Plan:
    return checked(job.accelerator.plan(job.operation, job.accounting), job.accelerator)


@lru_cache(maxsize=_REMEMBERED)
def _execution(job: _Job, fidelity: Fidelity) -> Execution:
    found = execute(_plan(job), fidelity)
    for phase in found.phases if fidelity == "cycle" and not job.accelerator.capabilities.calibrated else ():
        least = whole_cycles(phase.phase.analytical_cycles)
        if least > phase.cycles:
            raise PlanError(f"internal error: {job.accelerator.name}, {job.operation.name}, phase {phase.phase.name}: "
                            f"closed form {least:,} cycles, no bound of the cycle level's {phase.cycles:,}; please "
                            f"report it")  # fmt: skip
    return found


def execute(plan: Plan, fidelity: Fidelity) -> Execution:
    """Run the phases of a plan. Raises CascadeSimError if it has no cycle-level form and one is asked for."""
    execute_phase = _closed_form if fidelity == "analytical" else _cycle_level
    return Execution(plan, tuple(execute_phase(plan, phase) for phase in plan.phases))


def _closed_form(plan: Plan, phase: Phase) -> PhaseTime:
    """Take the plan's formula. A unit that runs no Einsum is as busy as the plan says, or as its tasks, at most the
    whole phase."""
    cycles = whole_cycles(phase.analytical_cycles)
    exact = phase.analytical_cycles if plan.accounting == "artifact" else cycles
    moving: Counter[str] = Counter()
    if phase.moving_cycles is not None:
        moving.update({unit: whole_cycles(spent) for unit, spent in phase.moving_cycles.items()})
    elif phase.program is not None:
        program = _built(phase.program)
        by_task = program.busy_cycles()
        for task in program.tasks:
            moving[task.unit] += by_task[task.name]
    busy = {unit: min(spent, cycles) for unit, spent in moving.items()}
    return PhaseTime(phase, cycles, exact, {**busy, **_planned_busy(phase)}, {})


def _cycle_level(plan: Plan, phase: Phase) -> PhaseTime:
    """Run the program or the model. Units that the program leaves out are as busy as the plan says."""
    if phase.model is not None:
        cycles = phase.model().run()
        return PhaseTime(phase, cycles, cycles, _planned_busy(phase), {})
    schedule = schedule_of(plan, phase)
    return PhaseTime(
        phase=phase, cycles=schedule.cycles, exact_cycles=schedule.cycles,
        busy_cycles={**_planned_busy(phase), **{unit.name: unit.busy_cycles for unit in schedule.units}},
        stalled_cycles={unit.name: unit.stalled_cycles for unit in schedule.units},
        overhead=Overhead(schedule.fill_cycles, schedule.drain_cycles, schedule.unit(schedule.bound_by).stalled_cycles),
    )


def _planned_busy(phase: Phase) -> Counter[str]:
    busy: Counter[str] = Counter()
    for activity in phase.activities:
        busy[activity.unit] += activity.cycles
    return busy


def schedule_of(plan: Plan, phase: Phase) -> Schedule:
    """Say when each task of the phase runs. Raises CascadeSimError where the phase has no program of tasks."""
    if phase.model is not None:
        raise CascadeSimError(f"{plan.operation.name}: its cycle-level model has no schedule of tasks to show")
    if phase.program is None:
        raise CascadeSimError(
            f"{plan.operation.name}, phase {phase.name}: {plan.accounting} accounting has no cycle-level form; "
            "use --fidelity analytical"
        )
    return _run(_built(phase.program))


@lru_cache(maxsize=_REMEMBERED)
def _built(program: Callable[[], Program]) -> Program:
    """A program is built once for both fidelities, and for the trace."""
    return program()


@cache
def _run(program: Program) -> Schedule:
    """Equal programs run once, since the same layer is often asked for again."""
    from cascadesim.simulator.engine.engine import run  # brings the compiler: not for those who want the closed form

    return run(program)


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
        UnitTime(name, busy[name], stalled[name], cycles - busy[name] - stalled[name],
                 (busy[name] - unused[name]) / exact_cycles if name in busy else None)
        for name in (unit.name for unit in units)
    )  # fmt: skip


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
    found = []
    for (operation, einsum, unit), parts in rows.items():
        spent = sum(count * part.cycles for count, part in parts)
        useful = sum(count * part.cycles * part.occupancy for count, part in parts)
        operations: Counter[str] = Counter()
        for count, part in parts:
            operations.update({name: count * number for name, number in part.operations.items()})
        found.append(EinsumTime(einsum, operation, unit, dict(operations), spent, spent / exact_cycles,
                                useful / spent if spent else 1.0))  # fmt: skip
    return tuple(found)


def operation_times(runs: Sequence[OperationRun]) -> tuple[OperationTime, ...]:
    cycles = sum(run.cycles for run in runs)
    return tuple(
        OperationTime(run.operation.name, run.operation.kind, run.operation.layer, run.count, run.cycles,
                      run.cycles / cycles, run.traffic.total_bytes)
        for run in runs
    )  # fmt: skip


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
    known = [[count * cycles for cycles in part] for count, part in parts if part is not None]
    return Overhead(*map(sum, zip(*known, strict=True))) if len(known) == len(parts) else None


def mapped_alike(runs: Sequence[OperationRun]) -> Mapping[tuple[str, ...], Sequence[str]]:
    """Map the lines of each mapping to the names of the operations that have it, each once."""
    names: dict[tuple[str, ...], dict[str, None]] = {}
    for run in runs:
        names.setdefault(run.execution.plan.mapping, {})[run.operation.name] = None
    return {lines: tuple(found) for lines, found in names.items()}


def _narrow_states(plans: Iterable[Plan]) -> list[str]:
    """Say where states, which count as fp32 in memory, pass in narrower words."""
    widths = {plan.element_bytes[state] for plan in plans for state in kept_states(plan.operation.cascade)
              if state in plan.element_bytes}  # fmt: skip
    return [f"states of recurrences pass in words of {width:g} bytes here, and are held in fp32 by engines"
            for width in sorted(widths) if width < STATE_BYTES]  # fmt: skip


def notes(request: Request, runs: Sequence[OperationRun]) -> tuple[str, ...]:
    """Collect what a reader must know beside the figures."""
    machine = request.machine
    found = [
        *(f"set {setting}" for setting in request.settings), *request.workload.notes(sequence_length=request.length),
        *notes_on_devices(request), *dict.fromkeys(note for run in runs for note in run.execution.plan.notes),
        *(machine.notes(request.length) if isinstance(machine, Prepares) else ()),
    ]  # fmt: skip
    found += _narrow_states(run.execution.plan for run in runs)
    if request.fidelity == "cycle" and request.accelerator.capabilities.calibrated:
        found.append("cycle level: units overlap as far as dependences allow; the closed form's overlap is calibrated "
                     "on measurements")
    if request.accounting == "artifact":
        found.append("artifact accounting: norms, activations and other elementwise work is left out, as published")
    return tuple(found)
