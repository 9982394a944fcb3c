"""One plan executed: the cycles of each phase and where every cycle of each unit went.

Two fidelities: `analytical` takes the plan's closed form, `cycle` lets the engine run the plan's programs. Knows
neither models nor reports.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

from cascadesim.accelerators.program import Program
from cascadesim.accelerators.protocol import Phase, Plan
from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.simulator.schedule import Schedule

Fidelity: TypeAlias = Literal["analytical", "cycle"]
Run: TypeAlias = Callable[[Program], Schedule]


@dataclass(frozen=True)
class PhaseTime:
    """A phase executed. `cycles` is whole at cycle level; fill and drain are None in the closed form."""

    phase: Phase
    cycles: float
    busy_cycles: Mapping[str, int]
    stalled_cycles: Mapping[str, int]
    fill_cycles: int | None = None
    drain_cycles: int | None = None


@dataclass(frozen=True)
class Execution:
    """A plan and its phases, one after another."""

    plan: Plan
    phases: tuple[PhaseTime, ...]

    @property
    def cycles(self) -> float:
        return sum(phase.cycles for phase in self.phases)

    @property
    def analytical_cycles(self) -> float:
        return sum(phase.phase.analytical_cycles for phase in self.phases)


def execute(plan: Plan, fidelity: Fidelity) -> Execution:
    """Raises CascadeSimError if the plan has no cycle-level form and one is asked for."""
    if fidelity == "analytical":
        return Execution(plan, tuple(_closed_form(phase) for phase in plan.phases))
    return Execution(plan, tuple(_cycle_level(phase, schedule_of(plan, phase)) for phase in plan.phases))


def schedule_of(plan: Plan, phase: Phase) -> Schedule:
    """When each task of the phase runs."""
    if phase.program is None:
        raise CascadeSimError(
            f"{plan.operation.name}, phase {phase.name}: {plan.accounting} accounting has no cycle-level form; "
            "use --fidelity analytical"
        )
    return _run()(phase.program())


@cache
def _run() -> Run:
    """The engine, remembering equal programs: the same layer is often asked for again."""
    from cascadesim.simulator.engine import run  # compiles: not for those who only want the closed form

    return cache(run)


def _closed_form(phase: Phase) -> PhaseTime:
    return PhaseTime(phase, phase.analytical_cycles, _busy(phase), {})


def _busy(phase: Phase) -> Counter[str]:
    busy: Counter[str] = Counter()
    for activity in phase.activities:
        busy[activity.unit] += activity.cycles
    return busy
