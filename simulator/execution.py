"""Operations planned and executed: the cycles of each phase and where every cycle of each unit went.

Two fidelities: `analytical` takes the plan's closed form, `cycle` lets the engine run the plan's programs. A phase
ends with a whole cycle in both; published accounting keeps the fraction beside it. Equal work is planned, built and
run once, whatever its name. Knows neither models nor reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from math import ceil
from typing import TYPE_CHECKING

from cascadesim.accelerators.program import Program
from cascadesim.accelerators.protocol import Accelerator, Accounting, Phase, Plan, checked
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.request import Fidelity

if TYPE_CHECKING:  # the closed form needs none of the engine
    from cascadesim.simulator.engine.schedule import Schedule

_REMEMBERED = 4096  # plans, executions, programs: those of a sweep over models and lengths
_ROUNDING = 1e-12  # relative error of sums of float cycles, far below one cycle of any run


@dataclass(frozen=True)
class Overhead:
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
        what = (work.kind, cascade.name, cascade.text, work.extents, work.mask, work.trace, work.operand)
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
def _execution(job: _Job, fidelity: Fidelity) -> Execution:
    return execute(_plan(job), fidelity)


@lru_cache(maxsize=_REMEMBERED)
def _plan(job: _Job) -> Plan:
    return checked(job.accelerator.plan(job.operation, job.accounting), job.accelerator)


def execute(plan: Plan, fidelity: Fidelity) -> Execution:
    """Run the phases of a plan. Raises CascadeSimError if it has no cycle-level form and one is asked for."""
    execute_phase = _closed_form if fidelity == "analytical" else _cycle_level
    return Execution(plan, tuple(execute_phase(plan, phase) for phase in plan.phases))


def _closed_form(plan: Plan, phase: Phase) -> PhaseTime:
    """Take the plan's formula. A unit that only the program uses is as busy as its tasks, at most the whole phase."""
    cycles = whole_cycles(phase.analytical_cycles)
    exact = phase.analytical_cycles if plan.accounting == "artifact" else cycles
    of_program: Counter[str] = Counter()
    if phase.program is not None:
        program = _built(phase.program)
        by_task = program.busy_cycles()
        for task in program.tasks:
            of_program[task.unit] += by_task[task.name]
    busy = {unit: min(spent, cycles) for unit, spent in of_program.items()}
    return PhaseTime(phase, cycles, exact, {**busy, **_planned_busy(phase)}, {})


def _cycle_level(plan: Plan, phase: Phase) -> PhaseTime:
    """Run the program or the model. Units that the program leaves out are as busy as the plan says."""
    if phase.model is not None:
        cycles = phase.model().run()
        return PhaseTime(phase, cycles, cycles, _planned_busy(phase), {})
    schedule = schedule_of(plan, phase)
    return PhaseTime(
        phase=phase,
        cycles=schedule.cycles,
        exact_cycles=schedule.cycles,
        busy_cycles={**_planned_busy(phase), **{unit.name: unit.busy_cycles for unit in schedule.units}},
        stalled_cycles={unit.name: unit.stalled_cycles for unit in schedule.units},
        overhead=Overhead(
            schedule.fill_cycles, schedule.drain_cycles, schedule.unit(schedule.bound_by).stalled_cycles
        ),
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
