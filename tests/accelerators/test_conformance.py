"""Every accelerator that is discovered keeps the contract of `protocol`: nothing here names one."""

from __future__ import annotations

from collections import Counter
from functools import cache
from math import isfinite, prod

import pytest

from cascadesim.accelerators.catalogue import load, preset_names
from cascadesim.accelerators.protocol import Accelerator, Phase, Plan
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.catalogue import find
from cascadesim.einsum_cascades.operation import Operation
from cascadesim.einsum_cascades.zoo import load_workload
from cascadesim.simulator.engine import run

KINDS = ("attention", "linear", "elementwise")
every_accelerator = pytest.mark.parametrize("name", preset_names())
every_case = pytest.mark.parametrize(("workload", "length"), [("llama", 1000), ("bert", 512)])


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


def least_bytes(operation: Operation, word_bytes: int) -> int:
    """Every input read once, every output written once."""
    size = dict(operation.extents)
    if operation.kind == "linear":
        return word_bytes * size["x"] * (
            size["r"] * size["k"] + size["k"] * size["n"] + size["r"] * size["n"]
        )
    if operation.kind == "attention":
        key_heads = size["h"] // size["g"]
        queries, keys = size["b"] * size["h"] * size["p"], size["b"] * key_heads * size["m"]
        return word_bytes * (size["e"] + size["f"]) * (queries + keys)
    accesses = [access for einsum in operation.cascade.einsums for access in (einsum.output, *einsum.inputs)]
    ranks = {access.tensor: access.ranks for access in accesses}
    outside = (*operation.cascade.inputs, *operation.cascade.outputs)
    return word_bytes * sum(prod(size[rank] for rank in ranks[tensor]) for tensor in outside)


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
def test_a_spatial_array_has_two_arrays_a_buffer_and_a_dram(name: str) -> None:
    if is_spatial_array(name):
        names = [unit.name for unit in accelerator(name).units]
        assert names == ["array_2d", "array_1d", "global_buffer", "dram"]


@every_accelerator
def test_its_areas_are_finite(name: str) -> None:
    areas = accelerator(name).area_um2()
    assert areas is None or all(isfinite(area) and area > 0 for area in areas.values())


@every_accelerator
@every_case
def test_it_plans_every_kind_of_work(name: str, workload: str, length: int) -> None:
    found = plans(name, workload, length)
    assert {plan.operation.kind for plan in found} == set(KINDS)
    for plan in found:
        assert plan.accounting == "physical"
        assert plan.phases
        assert plan.mapping
        assert all(phase.analytical_cycles > 0 for phase in plan.phases)
        assert all(isfinite(phase.analytical_cycles) for phase in plan.phases)


@every_accelerator
@every_case
def test_it_moves_no_less_than_inputs_and_outputs(name: str, workload: str, length: int) -> None:
    """One that prunes keys reads fewer of them, and one with a cache finds there what the last operation left."""
    for plan in plans(name, workload, length):
        least = least_bytes(plan.operation, word_bytes=2) if is_spatial_array(name) else 0
        assert plan.traffic.total_bytes >= least, plan.operation.name


@every_accelerator
@every_case
def test_a_phase_is_no_shorter_than_its_busiest_unit(name: str, workload: str, length: int) -> None:
    known = {unit.name for unit in accelerator(name).units}
    for plan in plans(name, workload, length):
        for phase in plan.phases:
            assert {activity.unit for activity in phase.activities} <= known
            assert all(0 < activity.occupancy <= 1 + 1e-12 for activity in phase.activities)
            for unit in known:
                busy = sum(activity.cycles for activity in phase.activities if activity.unit == unit)
                assert busy <= phase.analytical_cycles * (1 + 1e-12), (plan.operation.name, phase.name, unit)


@every_accelerator
@every_case
def test_its_energy_is_finite_and_names_no_component_in_vain(name: str, workload: str, length: int) -> None:
    for plan in plans(name, workload, length):
        if plan.dynamic_energy_j is not None:
            assert all(isfinite(joules) and joules >= 0 for joules in plan.dynamic_energy_j.values())
            assert sum(plan.dynamic_energy_j.values()) > 0


@every_accelerator
@every_case
def test_linear_and_elementwise_work_counts_all_its_operations(name: str, workload: str, length: int) -> None:
    for plan in plans(name, workload, length):
        if plan.operation.kind == "linear":
            size = dict(plan.operation.extents)
            macs = sum(
                activity.operations.get("mac", 0) for phase in plan.phases for activity in phase.activities
            )
            assert macs == size["x"] * size["r"] * size["k"] * size["n"]


def least_cycles(phase: Phase, calibrated: bool) -> float:
    """The closed form; where it is an estimate, what its busiest unit needs."""
    busy: Counter[str] = Counter()
    for activity in phase.activities:
        busy[activity.unit] += activity.cycles
    return max(busy.values()) if calibrated else phase.analytical_cycles


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
