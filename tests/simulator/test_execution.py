"""Plans executed: closed form and cycle level, whole cycles in both."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.accelerators.program import Program, Task, TileRun
from cascadesim.accelerators.protocol import Plan, PlanError
from cascadesim.einsum_cascades.models.workload import Workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.execution import (
    OperationRun,
    Overhead,
    execute,
    overhead,
    planned_and_executed,
    whole_cycles,
)

if TYPE_CHECKING:
    from conftest import Toy


@pytest.fixture
def plan(toy: Toy, tiny: Workload) -> Plan:
    return toy.plan(tiny.operations(scope="attention")[0], "physical")


def test_the_cycle_level_attributes_what_the_closed_form_leaves_out(plan: Plan) -> None:
    (phase,) = execute(plan, "cycle").phases
    assert phase.cycles == 43
    assert phase.busy_cycles == {"array": 40, "dram": 12}
    assert phase.overhead == Overhead(fill_cycles=3, drain_cycles=0, waiting_cycles=0)
    (closed,) = execute(plan, "analytical").phases
    assert closed.cycles == closed.exact_cycles == 40
    assert closed.busy_cycles == {"array": 40, "dram": 12}
    assert closed.overhead is None


def test_phases_follow_one_another(plan: Plan) -> None:
    twice = replace(plan, phases=plan.phases * 2)
    assert execute(twice, "cycle").cycles == 86
    assert execute(twice, "cycle").analytical_cycles == 80


def test_overhead_counts_every_repetition_and_phase(plan: Plan) -> None:
    twice = replace(plan, operation=replace(plan.operation, count=5), phases=plan.phases * 2)
    runs = [OperationRun(each.operation, execute(each, "cycle")) for each in (plan, twice)]
    assert overhead(runs) == Overhead(3 * (plan.operation.count + 2 * 5), 0, 0)
    closed = OperationRun(plan.operation, execute(plan, "analytical"))
    assert overhead([*runs, closed]) is None


def test_a_unit_that_the_program_leaves_out_is_as_busy_as_the_plan_says(plan: Plan) -> None:
    def without_loads() -> Program:
        return Program((Task("QK", "array"),), ((10,),), (TileRun(0, 4),))

    bare = replace(plan, phases=(replace(plan.phases[0], program=without_loads),))
    (phase,) = execute(bare, "cycle").phases
    assert phase.cycles == 40
    assert phase.busy_cycles == {"array": 40, "dram": 12}


def test_a_closed_form_above_the_cycle_level_is_an_error_of_ours(toy: Toy, tiny: Workload) -> None:
    """44 cycles where the engine needs 43."""
    slow, (operation, *_) = replace(toy, closed_form_cycles=44), tiny.operations(scope="attention")
    assert planned_and_executed(operation, slow, "physical", "analytical").cycles == 44
    with pytest.raises(PlanError, match=r"internal error: .*closed form 44 cycles, no bound of the cycle level's 43"):
        planned_and_executed(operation, slow, "physical", "cycle")


def test_a_plan_without_a_program_has_no_cycle_level(plan: Plan) -> None:
    bare = replace(plan, phases=(replace(plan.phases[0], program=None),))
    with pytest.raises(CascadeSimError, match="--fidelity analytical"):
        execute(bare, "cycle")


@given(whole=st.integers(min_value=1, max_value=2**50), parts=st.integers(min_value=1, max_value=9))
def test_rounding_errors_of_sums_are_not_a_cycle(whole: int, parts: int) -> None:
    assert whole_cycles(sum([whole / parts] * parts)) == whole


def test_a_fraction_of_a_cycle_is_a_cycle() -> None:
    assert whole_cycles(40.5) == whole_cycles(41.0) == 41
