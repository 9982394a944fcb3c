"""Every accelerator that is discovered keeps the contract of `protocol`: nothing here names one."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import chain, combinations
from math import isfinite
from typing import Literal

import pytest

from cascadesim.accelerators.catalogue import load, preset_names
from cascadesim.accelerators.protocol import Accelerator, Phase, Plan, PlanError, Prepares, problems
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.simulator.engine.engine import run

KINDS = ("attention", "linear", "elementwise")
SEARCHED_LONG = {"one-element", "edge-array", "tpu-v4i-like", "tpu-v4i-vmem-like"}  # seconds each: not in quick runs
every_accelerator = pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow if name in SEARCHED_LONG else ()) for name in preset_names()])
every_case = pytest.mark.parametrize(("workload", "length"), [
    pytest.param("llama", 1000, marks=pytest.mark.slow), ("bert", 512)])  # fmt: skip


@cache
def accelerator(name: str) -> Accelerator:
    return load(name)


@cache
def operations(name: str, workload: str, length: int) -> tuple[Operation, ...]:
    found = load_workload(workload).operations(
        sequence_length=length, batch=2, phase="prefill", scope="model", attention=accelerator(name).attention
    )
    return tuple(found)


@cache
def plans(name: str, workload: str, length: int) -> tuple[Plan, ...]:
    return tuple(accelerator(name).plan(operation, "physical") for operation in operations(name, workload, length))


def is_spatial_array(name: str) -> bool:
    return isinstance(getattr(accelerator(name), "spec", None), SpatialArray)


@every_accelerator
def test_it_builds_and_describes_itself(name: str) -> None:
    found = accelerator(name)
    assert found.name == name
    assert found.clock_hz > 0
    assert found.leakage_w >= 0
    assert find(found.attention).outputs
    names = [unit.name for unit in found.units]
    assert len(set(names)) == len(names)
    assert all(unit.lanes >= 1 for unit in found.units)


@every_accelerator
def test_a_spatial_array_has_two_arrays_a_buffer_and_a_dram_and_memories_between(name: str) -> None:
    if is_spatial_array(name):
        memories = [memory.name for memory in accelerator(name).spec.other_memories]  # type: ignore[attr-defined]
        names = [unit.name for unit in accelerator(name).units]
        assert names == ["array_2d", "array_1d", "global_buffer", *memories, "dram"]


@every_accelerator
def test_its_areas_are_finite(name: str) -> None:
    areas = accelerator(name).area_um2()
    assert areas is None or all(isfinite(area) and area > 0 for area in areas.values())


@every_accelerator
@every_case
def test_it_plans_every_kind_of_work_without_a_problem(name: str, workload: str, length: int) -> None:
    """Operations of the cascade, possible rates, compulsory traffic, time for the busiest unit, nothing negative."""
    found = plans(name, workload, length)
    assert {plan.operation.kind for plan in found} == set(KINDS)
    for plan in found:
        assert list(problems(plan, accelerator(name))) == [], plan.operation.name
        assert plan.accounting == "physical"
        assert plan.phases
        assert plan.mapping
        assert all(phase.analytical_cycles > 0 for phase in plan.phases)
        assert all(isfinite(phase.analytical_cycles) for phase in plan.phases)
        if plan.dynamic_energy_j is not None:
            assert all(isfinite(joules) and joules >= 0 for joules in plan.dynamic_energy_j.values())
            assert sum(plan.dynamic_energy_j.values()) > 0


@every_accelerator
def test_memories_move_as_long_as_the_tasks_of_the_program_but_for_their_whole_cycles(name: str) -> None:
    found = accelerator(name)
    for phase in chain.from_iterable(plan.phases for plan in plans(name, "bert", 512)):
        if phase.moving_cycles is None or phase.program is None:
            continue
        program = phase.program()
        busy, of_tasks = Counter[str](), program.busy_cycles()
        for task in program.tasks:
            busy[task.unit] += of_tasks[task.name]
        assert set(phase.moving_cycles) == {unit.name for unit in found.units} - {"array_2d", "array_1d"}
        assert phase.moving_cycles["dram"] == pytest.approx(
            phase.traffic.total_bytes / found.spec.dram_bytes_per_cycle)  # type: ignore[attr-defined]
        for memory, cycles in phase.moving_cycles.items():
            assert cycles <= busy[memory] < cycles + program.tiles * len(program.tasks), (phase.name, memory)


def least_cycles(phase: Phase, calibrated: bool) -> float:
    """The closed form; where it is an estimate, what its busiest unit needs."""
    busy: Counter[str] = Counter()
    for activity in phase.activities:
        busy[activity.unit] += activity.cycles
    return max(busy.values()) if calibrated else phase.analytical_cycles


@pytest.mark.slow
@every_accelerator
def test_no_schedule_of_it_is_shorter_than_the_closed_form(name: str) -> None:
    for plan in plans(name, "llama", 1000):
        for phase in plan.phases:
            if phase.program is None:  # no cycle-level form: nothing to compare
                continue
            schedule = run(phase.program())
            least = least_cycles(phase, accelerator(name).capabilities.calibrated)
            assert schedule.cycles >= least * (1 - 1e-12), (plan.operation.name, phase.name)
            known = {unit.name for unit in accelerator(name).units}
            assert {unit.name for unit in schedule.units} <= known


@every_accelerator
def test_a_plan_is_the_same_every_time(name: str) -> None:
    for plan in plans(name, "bert", 512):
        again = accelerator(name).plan(plan.operation, "physical")
        assert again.mapping == plan.mapping
        assert again.traffic == plan.traffic
        assert again.dynamic_energy_j == plan.dynamic_energy_j


PAIRS = [name for name in cascade_names() if {"Q", "K", "V"} <= set(find(name).inputs)]
FAMILIES = ("unfused", "flat", "fusemax-cascade", "fusemax-architecture", "fusemax", "spatten", "spatten-behavioural",
            "a100-sxm", "h100-sxm", "b200", "rtx4090")  # fmt: skip
SHAPES = [("bert", "prefill", 300), ("llama-3.2-1b", "prefill", 300), ("llama-3.2-1b", "decode", 300),
          ("llama-3.2-1b", "decode", 1)]  # fmt: skip


# arrays whose texts are mapped as those of `fusemax` or `flat`, and the shapes that each takes; those two take all
SHAPES_OF = {"fusemax-architecture": (SHAPES[0], SHAPES[2]), "fusemax-cascade": (SHAPES[1], SHAPES[3]),
             "unfused": (SHAPES[1], SHAPES[3])}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("cascade", PAIRS)
@pytest.mark.parametrize(("name", "workload", "phase", "length"), [
    (name, *shape) for name in FAMILIES for shape in SHAPES_OF.get(name, SHAPES)])  # fmt: skip
def test_every_attention_runs_rightly_or_is_refused_with_one_line(
    name: str, cascade: str, workload: str, phase: Literal["prefill", "decode"], length: int
) -> None:
    found: Accelerator = accelerator(name)
    work = load_workload(workload).operations(
        sequence_length=length, batch=2, phase=phase, scope="attention", attention=cascade
    )
    if isinstance(found, Prepares):
        found, work = found.prepared(work, workload)
    for operation in work:
        try:
            plan = found.plan(operation, "physical")
        except CascadeSimError as error:
            assert not isinstance(error, PlanError)  # noqa: PT017 - either way is right
            assert "\n" not in str(error)  # noqa: PT017
            assert len(str(error)) <= 300  # noqa: PT017
            assert cascade not in RUNS.get(name, ())
        else:
            assert list(problems(plan, found)) == []


# a gate for each of 64 elements of a key takes 256 lanes as long as one gate for all of them
AS_LONG_ON_WIDE_LANES = {"gated-deltanet", "gated-deltanet-step", "kimi-delta-attention", "kimi-delta-attention-step"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in (
    "spatten-behavioural",  # computes masked pairs
    "fusemax-cascade", "fusemax-architecture",  # another binding of what `fusemax` has, and the same mapper
)])  # fmt: skip
def test_texts_with_other_operations_keep_some_unit_busy_for_another_time(name: str) -> None:
    found, seen = accelerator(name), {}
    for cascade in PAIRS:
        (operation,) = load_workload("bert").operations(sequence_length=300, scope="attention", attention=cascade)
        try:
            plan = found.plan(operation, "physical")
        except CascadeSimError:
            continue
        done, busy = Counter[str](), Counter[str]()
        for activity in (activity for phase in plan.phases for activity in phase.activities):
            done.update(activity.operations)
            busy[activity.unit] += activity.cycles
        if not any("masked pairs take the time of all others" in note for note in plan.notes):  # said, so no answer to
            seen[cascade] = (done, busy)  # hold against a text without a mask
    for one, other in combinations(seen, 2):
        (done, busy), (other_done, other_busy) = seen[one], seen[other]
        if done != other_done and not {one, other} <= AS_LONG_ON_WIDE_LANES:
            assert any(abs(busy[unit] - other_busy[unit]) > 1 for unit in busy | other_busy), (one, other)


ONE_PASS = ("attention-1pass", "attention-1pass-gqa")
THREE_PASS = ("attention-3pass", "attention-3pass-gqa", "attention-3pass-causal")
CAUSAL = ("attention-1pass-causal", "attention-3pass-causal")
FUSED_HERE = ("attention-2pass", "attention-3pass-deferred", "pruned-1pass")  # kernels of the text's own, on GPUs
# what has to run, whatever else does
RUNS = {
    **dict.fromkeys(("fusemax", "fusemax-architecture", "fusemax-cascade"), (*ONE_PASS, "pruned-1pass")),
    **dict.fromkeys(("flat", "unfused", "spatten"), THREE_PASS),
    **dict.fromkeys(("a100-sxm", "h100-sxm", "b200", "rtx4090"), (*ONE_PASS, *CAUSAL, "attention-3pass", *FUSED_HERE)),
}
