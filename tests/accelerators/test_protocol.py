"""Every way in which a plan can be wrong is found; a right one has no problem, for any cascade.

The toy is the smallest accelerator there is: it runs any cascade, Einsum after Einsum, on `LANES` lanes that finish
one operation a cycle, whatever it is, beside a DRAM channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil

import pytest

from cascadesim.accelerators.protocol import (
    Accounting,
    Capabilities,
    EinsumActivity,
    Phase,
    Plan,
    PlanError,
    Traffic,
    Unit,
    checked,
    problems,
)
from cascadesim.einsum_cascades.analysis.passes import partitions
from cascadesim.einsum_cascades.models.operation import Operation, least_elements, work_of
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval, Mask
from cascadesim.einsum_cascades.texts import cascade_names, find
from cascadesim.simulator import execution
from cascadesim.simulator.simulate import simulate

LANES, WORD_BYTES, BYTES_PER_CYCLE = 64, 2, 32
TILE = 16  # of every rank that a cascade splits

CLOSED_FORMS = Capabilities(cycle_level=False, dram_bytes_per_s=1e9 * BYTES_PER_CYCLE)
Fault = Callable[[Plan], Plan]


@dataclass(frozen=True)
class Toy:
    """Right, unless a fault is built in."""

    name: str = "toy"
    fault: Fault = lambda plan: plan
    clock_hz: float = 1e9
    units: tuple[Unit, ...] = (Unit("lanes", LANES), Unit("dram"))
    capabilities: Capabilities = CLOSED_FORMS
    attention: str = "attention-3pass"
    leakage_w: float = 0.0

    def area_um2(self) -> Mapping[str, float] | None:
        return None

    def plan(self, operation: Operation, accounting: Accounting) -> Plan:
        return self.fault(right_plan(operation, accounting))


def right_plan(operation: Operation, accounting: Accounting, seen: Operation | None = None) -> Plan:
    """`seen`: the operation as a machine may misread it."""
    seen = seen or operation
    cascade = operation.cascade
    splits = {rank.upper(): TILE for parts in partitions(cascade) for rank in parts[1:]}
    least = least_elements(seen, splits)
    reads, writes = (WORD_BYTES * sum(least[tensor] for tensor in names) for names in (cascade.inputs, cascade.outputs))
    activities = tuple(_activity(name, counts) for name, counts in work_of(seen, splits).items())
    busy = sum(activity.cycles for activity in activities)
    memory = ceil((reads + writes) / BYTES_PER_CYCLE)
    activities += (EinsumActivity("words", "dram", memory),)
    phase = Phase("all", activities, Traffic(reads, writes), float(max(busy, memory)))
    words = dict.fromkeys((*cascade.inputs, *cascade.outputs), float(WORD_BYTES))
    return Plan(operation, accounting, (f"tiles of {TILE}",), (phase,), {"lanes": 1e-12 * busy}, splits, words)


def _activity(name: str, counts: Mapping[str, int]) -> EinsumActivity:
    total = sum(counts.values())
    cycles = ceil(total / LANES)
    return EinsumActivity(name, "lanes", cycles, counts, total / (cycles * LANES))


def _phase(change: Callable[[Phase], Phase]) -> Fault:
    return lambda plan: replace(plan, phases=tuple(map(change, plan.phases)))


def _activities(change: Callable[[EinsumActivity], EinsumActivity]) -> Fault:
    return _phase(lambda phase: replace(phase, activities=tuple(map(change, phase.activities))))


def _first(change: Callable[[EinsumActivity], EinsumActivity]) -> Fault:
    return _phase(lambda phase: replace(phase, activities=(change(phase.activities[0]), *phase.activities[1:])))


def _scaled(counts: Mapping[str, int], factor: float) -> dict[str, int]:
    return {kind: int(count * factor) for kind, count in counts.items()}


def _moved(phase: Phase) -> int:
    """What the channel of the toy moves in the time of a phase."""
    return BYTES_PER_CYCLE * ceil(phase.analytical_cycles)


def _without_mask(plan: Plan) -> Plan:
    return right_plan(plan.operation, plan.accounting, replace(plan.operation, mask=FULL))


def _one_head_of_each_group(plan: Plan) -> Plan:
    size = dict(plan.operation.extents)
    fewer = tuple({**size, "h": size["h"] // size["g"], "g": 1}.items())
    return right_plan(plan.operation, plan.accounting, replace(plan.operation, extents=fewer))


# what is wrong -> what the check says of it
FAULTS: Mapping[str, tuple[Fault, str]] = {
    "ignores the mask": (_without_mask, "QK does 65,536 mac, the cascade has 33,280 mac"),
    "runs one query head of each group": (_one_head_of_each_group, "QK does 16,640 mac, the cascade has 33,280 mac"),
    "leaves an Einsum out": (
        _phase(lambda phase: replace(phase, activities=phase.activities[1:])), "QK does nothing, the cascade has",
    ),
    "does an Einsum twice": (
        _phase(lambda phase: replace(phase, activities=(phase.activities[0], *phase.activities))), "QK does 66,560 mac",
    ),
    "invents an Einsum": (
        _first(lambda one: replace(one, name="ZZ")), "ZZ does 33,280 mac, the cascade has nothing there",
    ),
    "calls operations otherwise": (
        _first(lambda one: replace(one, operations={"mul": one.operations["mac"]})), "QK does 33,280 mul",
    ),
    "names no unit": (_first(lambda one: replace(one, unit="laness")), "there is no such unit; there are lanes, dram"),
    "is faster than its lanes": (_activities(lambda one: replace(one, cycles=one.cycles // 3)), "lanes does"),
    "has a closed form below its busiest unit": (
        _phase(lambda phase: replace(phase, analytical_cycles=phase.analytical_cycles / 3)), "is busy for",
    ),
    "has a closed form below what a memory moves": (
        _phase(lambda phase: replace(phase, moving_cycles={"dram": 2 * phase.analytical_cycles})), "dram is busy for",
    ),
    "moves in no memory": (
        _phase(lambda phase: replace(phase, moving_cycles={"drum": 1.0})), "drum moves for 1 cycles; there are lanes",
    ),
    "moves backwards": (_phase(lambda phase: replace(phase, moving_cycles={"dram": -1.0})), "dram moves for -1 cycles"),
    "has an endless closed form": (_phase(lambda phase: replace(phase, analytical_cycles=float("inf"))), "takes inf"),
    "takes no time": (_phase(lambda phase: replace(phase, analytical_cycles=0.0)), "takes 0 cycles"),
    "has negative cycles": (_first(lambda one: replace(one, cycles=-1)), "-1 cycles"),
    "has negative operations": (
        _first(lambda one: replace(one, operations=_scaled(one.operations, -1))), "'mac': -33280",
    ),
    "has no occupancy": (_first(lambda one: replace(one, occupancy=0.0)), "occupancy 0, not above 0"),
    "is more than full": (_first(lambda one: replace(one, occupancy=1.01)), "occupancy 1.01, not above 0"),
    "reads less than the inputs": (
        _phase(lambda phase: replace(phase, traffic=Traffic(phase.traffic.read_bytes - 2, phase.traffic.write_bytes))),
        "it reads 4,094 bytes of DRAM, at least 4,096 are compulsory",
    ),
    "writes less than the outputs": (
        _phase(lambda phase: replace(phase, traffic=Traffic(phase.traffic.read_bytes, 0))),
        "it writes 0 bytes of DRAM, at least 2,048 are compulsory",
    ),
    "moves more than its channel can": (
        _phase(lambda phase: replace(phase, traffic=Traffic(_moved(phase), phase.traffic.write_bytes))),
        "moves 56,128 bytes of DRAM in 1,691 cycles, at most 54,112",
    ),
    "has negative traffic": (
        _phase(lambda phase: replace(phase, traffic=Traffic(-1, phase.traffic.write_bytes))), "reads -1 bytes",
    ),
    "gives energy back": (lambda plan: replace(plan, dynamic_energy_j={"lanes": -1e-12}), "lanes is -1e-12 J"),
    "burns without end": (lambda plan: replace(plan, dynamic_energy_j={"lanes": float("nan")}), "lanes is nan J"),
}


GROUPED = {"b": 1, "h": 4, "g": 2, "m": 64, "p": 64, "e": 4, "f": 4}  # two query heads share a key head
ATTENTION = Operation("attention", "attention", find("attention-3pass"), tuple(GROUPED.items()), mask=CAUSAL)


def test_a_right_plan_is_given_back() -> None:
    plan = right_plan(ATTENTION, "physical")
    assert checked(plan, Toy()) is plan


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_plan_is_refused_with_what_is_wrong(fault: str) -> None:
    change, message = FAULTS[fault]
    machine = Toy("broken", change)
    found = list(problems(machine.plan(ATTENTION, "physical"), machine))
    assert any(message in problem for problem in found), found
    with pytest.raises(PlanError, match=r"^internal error: broken, attention \(attention-3pass\): .*; please report"):
        checked(machine.plan(ATTENTION, "physical"), machine)


@pytest.mark.parametrize("fault", ["ignores the mask", "names no unit", "gives energy back"])
def test_a_wrong_accelerator_gives_no_report(fault: str) -> None:
    change, _ = FAULTS[fault]
    with pytest.raises(PlanError, match="internal error: toy, "):
        simulate(load_workload("llama-3.2-1b"), Toy(fault=change), sequence_length=64, fidelity="analytical")


def test_a_right_accelerator_gives_one() -> None:
    (report,) = simulate(load_workload("llama-3.2-1b"), Toy(), sequence_length=64, fidelity="analytical")
    assert report.cycles > 0


@pytest.mark.parametrize("mask", [FULL, CAUSAL, KeyInterval(True, window=5)])
@pytest.mark.parametrize("name", [name for name in cascade_names() if "attention" in name])
def test_every_attention_that_can_be_counted_has_a_right_plan(name: str, mask: Mask) -> None:
    operation = replace(ATTENTION, cascade=find(name), mask=mask)
    try:
        plan = right_plan(operation, "physical")
    except CascadeSimError as error:
        assert "is not given" in str(error)  # noqa: PT017 - choices and chunks have extents of their own
        return
    assert list(problems(plan, Toy())) == []


def test_published_accounting_keeps_its_quirks_but_no_impossible_structure() -> None:
    plan = FAULTS["ignores the mask"][0](right_plan(ATTENTION, "artifact"))
    assert list(problems(plan, Toy())) == []
    assert list(problems(FAULTS["names no unit"][0](plan), Toy())) != []


def test_traffic_of_what_stays_in_a_cache_is_not_compulsory() -> None:
    change, _ = FAULTS["writes less than the outputs"]
    plan = change(right_plan(ATTENTION, "physical"))
    stays = {tensor: size for tensor, size in plan.element_bytes.items() if tensor != "AV"}
    assert list(problems(replace(plan, element_bytes=stays), Toy())) == []


def test_the_simulator_checks_every_plan_that_it_makes() -> None:
    assert execution.checked is checked
