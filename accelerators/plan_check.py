"""What every plan must satisfy, checked when it is made: a machine that breaks one of these has a fault of ours.

Operations are those of the cascade, rates are possible on the units that exist, traffic is at least compulsory, time
covers the busiest unit, nothing is negative. Published accounting is reproduced with its quirks, so that only its
structure is checked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from math import ceil, isfinite

from cascadesim.accelerators.protocol import Accelerator, Phase, Plan, Unit
from cascadesim.einsum_cascades.models.operation import least_elements, work_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

_ROUNDING = 1e-9  # of sums of floats: relative, far below one operation, byte or cycle of any plan that is wrong
_ROUNDED_CYCLES = 1  # activities of a phase are whole cycles, its closed form is not


class PlanError(CascadeSimError):
    """A plan that cannot be: an error of the accelerator, not of the user."""


def checked(plan: Plan, accelerator: Accelerator) -> Plan:
    """The plan. Raises PlanError with the accelerator, the operation and the first quantity that is wrong."""
    for problem in problems(plan, accelerator):
        raise PlanError(
            f"internal error: {accelerator.name}, {plan.operation.name} ({plan.operation.cascade.name}): {problem}; "
            "please report it"
        )
    return plan


def problems(plan: Plan, accelerator: Accelerator) -> Iterator[str]:
    """Everything that is wrong with a plan, a line each."""
    units = {unit.name: unit for unit in accelerator.units}
    broken = [problem for phase in plan.phases for problem in _structure(phase, units)]
    yield from broken
    for component, joules in (plan.dynamic_energy_j or {}).items():
        if not 0 <= joules < float("inf"):
            yield f"energy of {component} is {joules:g} J"
    if plan.accounting == "artifact" or broken:
        return
    for phase in plan.phases:
        yield from _times(phase, units)
    if plan.operation.kind != "collective":  # its sum is over devices, each of which adds its share
        yield from _operations(plan)
        if plan.operation.trace is None:  # a trace lists what is fetched
            yield from _traffic(plan)


def _structure(phase: Phase, units: Mapping[str, Unit]) -> Iterator[str]:
    if not 0 < phase.analytical_cycles < float("inf"):
        yield f"phase {phase.name} takes {phase.analytical_cycles:g} cycles"
    for way, amount in (("reads", phase.traffic.read_bytes), ("writes", phase.traffic.write_bytes)):
        if not (isfinite(amount) and amount >= 0):
            yield f"phase {phase.name} {way} {amount:g} bytes of DRAM"
    for activity in phase.activities:
        where = f"{activity.name} on {activity.unit}"
        if activity.unit not in units:
            yield f"{where}: there is no such unit; there are {', '.join(units)}"
        if activity.cycles < 0 or any(count < 0 for count in activity.operations.values()):
            yield f"{where}: {activity.cycles} cycles, operations {dict(activity.operations)}"
        if not 0 < activity.occupancy <= 1 + _ROUNDING:
            yield f"{where}: occupancy {activity.occupancy:g}, not above 0 and at most 1"


def _times(phase: Phase, units: Mapping[str, Unit]) -> Iterator[str]:
    """Busy at most as long as the phase; useful rate at most the peak of the unit."""
    busy: Counter[str] = Counter()
    done: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for activity in phase.activities:
        busy[activity.unit] += activity.cycles
        done[activity.unit].update(activity.operations)
    cycles = ceil(phase.analytical_cycles * (1 + _ROUNDING))
    for unit, spent in busy.items():
        if spent > cycles:
            yield f"phase {phase.name}: {unit} is busy for {spent} of {phase.analytical_cycles:g} cycles"
        if unit in units:
            peak = units[unit].lanes * units[unit].operations_per_cycle * (spent + _ROUNDED_CYCLES)
            for kind, count in done[unit].items():
                if count > peak * (1 + _ROUNDING):
                    yield (
                        f"phase {phase.name}: {unit} does {count:,} {kind} in {spent:,} cycles, at most {peak:,.0f}"
                    )


def _operations(plan: Plan) -> Iterator[str]:
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for phase in plan.phases:
        for activity in phase.activities:
            found[activity.name].update(activity.operations)
    expected = work_of(plan.operation, plan.splits)
    for name, counts in expected.items():
        own = {kind: count for kind, count in found.get(name, Counter()).items() if count}
        if own != counts:
            yield f"{name} does {_counts(own)}, the cascade has {_counts(counts)}"
    for name in set(found) - set(expected):
        if any(found[name].values()):
            yield f"{name} does {_counts(found[name])}, the cascade has nothing there"


def _counts(counts: Mapping[str, int]) -> str:
    return " + ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items())) or "nothing"


def _traffic(plan: Plan) -> Iterator[str]:
    """Every input and output that passes by DRAM, once."""
    least = least_elements(plan.operation, plan.splits)
    for way, tensors, moved in (
        ("reads", plan.operation.cascade.inputs, plan.traffic.read_bytes),
        ("writes", plan.operation.cascade.outputs, plan.traffic.write_bytes),
    ):
        needed = _bytes(tensors, least, plan.element_bytes)
        if moved < needed * (1 - _ROUNDING):
            yield f"it {way} {moved:,.0f} bytes of DRAM, at least {needed:,.0f} are compulsory"


def _bytes(tensors: Iterable[str], elements: Mapping[str, int], element_bytes: Mapping[str, float]) -> float:
    return sum(elements[tensor] * element_bytes.get(tensor, 0.0) for tensor in tensors)
