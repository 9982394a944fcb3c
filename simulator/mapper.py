"""Finds mappings of a cascade on an array, and says how good they are: beside a bound, and beside the published one.

A mapping is found by closed form; the cycle level then says what it takes. Knows no option and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.plan import Mapped, given, searched
from cascadesim.accelerators.mapping.problem import free_extents
from cascadesim.accelerators.mapping.resolve import described
from cascadesim.accelerators.mapping.search import Objective
from cascadesim.accelerators.mapping.text import shipped_mappings
from cascadesim.accelerators.protocol import Accelerator, Plan, TakesMappings, checked
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.analysis.counts import names
from cascadesim.einsum_cascades.analysis.passes import partitions, whole_extent
from cascadesim.einsum_cascades.models.operation import Operation, least_elements, work_of
from cascadesim.einsum_cascades.models.workload import layer_extents, load_workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.execution import execute

__all__ = ["FoundMapping", "MappingObjective", "find_mapping_of", "load", "operation_of"]

MappingObjective: TypeAlias = Literal["latency", "energy", "edp", "dram"]
LAYER = "llama-layer"
OBJECTIVES: tuple[MappingObjective, ...] = get_args(MappingObjective)


@dataclass(frozen=True)
class GroupGain:
    """A group of fused Einsums beside the same Einsums one by one: cycles in closed form, bytes of DRAM traffic."""

    fused: BoundGroup
    alone: tuple[BoundGroup, ...]

    @property
    def einsums(self) -> tuple[str, ...]:
        return tuple(run.work.name for run in self.fused.runs)

    def cycles(self, groups: tuple[BoundGroup, ...]) -> float:
        return sum(group.problem.instances * group.bound_cycles for group in groups)

    def dram_bytes(self, groups: tuple[BoundGroup, ...]) -> int:
        return sum(group.problem.instances * (group.read_words + group.written_words) * group.spec.word_bytes
                   for group in groups)  # fmt: skip

    def to_dict(self) -> dict[str, object]:
        return {"einsums": list(self.einsums), "cycles": self.cycles((self.fused,)),
                "dram_bytes": self.dram_bytes((self.fused,)), "unfused_cycles": self.cycles(self.alone),
                "unfused_dram_bytes": self.dram_bytes(self.alone)}  # fmt: skip


@dataclass(frozen=True)
class FoundMapping:
    """The best mapping that was found. `published_cycles`: of the machine's own plan, closed form and cycle level."""

    operation: Operation
    accelerator: Accelerator
    objective: MappingObjective
    mapped: Mapped
    front: tuple[Mapped, ...]
    evaluated: int
    lower_bound: float | None
    cycle_level: int
    published_cycles: tuple[int, int] | None
    unfused: Mapped | None  # the best mapping in which every Einsum is a group of its own; None where there is none
    unfused_cycle_level: int | None

    @property
    def text(self) -> str:
        return str(described(self.mapped.name, self.mapped.groups))

    @property
    def value(self) -> float | None:
        return _value(self.mapped, self.objective)

    @property
    def gains(self) -> tuple[GroupGain, ...]:
        """What each group costs, and what its Einsums cost one by one; nothing where these cannot run."""
        if self.unfused is None:
            return ()
        return tuple(GroupGain(group, tuple(
            alone for alone in self.unfused.groups if alone.runs[0].place in {run.place for run in group.runs}))
            for group in self.mapped.groups)  # fmt: skip

    @property
    def optimal(self) -> bool:
        """Whether no mapping can be better: the objective is at its bound."""
        return None not in (self.value, self.lower_bound) and self.value == self.lower_bound

    def to_dict(self) -> dict[str, object]:
        """The contract of `map --format json`."""
        return {
            "schema": "cascadesim.mapping/1", "cascade": self.operation.cascade.name,
            "architecture": self.accelerator.name, "objective": self.objective, "mapping": self.text,
            **_figures(self.mapped), "cycle_level_cycles": self.cycle_level, "evaluated": self.evaluated,
            "optimal": self.optimal, "lower_bound": self.lower_bound,
            "unfused": self.unfused and {**_figures(self.unfused), "cycle_level_cycles": self.unfused_cycle_level},
            "groups": [gain.to_dict() for gain in self.gains],
            "front": [{**_figures(each), "mapping": str(described(each.name, each.groups))} for each in self.front],
        }  # fmt: skip


def _figures(mapped: Mapped) -> dict[str, float | None]:
    energy = mapped.energy_j
    return {"cycles": mapped.cycles, "energy_j": None if energy is None else sum(energy.values()),
            "dram_bytes": mapped.dram_bytes}  # fmt: skip


def _value(mapped: Mapped, objective: MappingObjective) -> float | None:
    figures = _figures(mapped)
    if objective == "edp":
        energy, cycles = figures["energy_j"], figures["cycles"]
        return None if energy is None or cycles is None else energy * cycles
    return figures[{"latency": "cycles", "energy": "energy_j", "dram": "dram_bytes"}[objective]]


def operation_of(
    cascade: str, workload: str, length: int | None, batch: int | None, sizes: Mapping[str, int]
) -> Operation:
    """The cascade at the workload's sizes of attention or of a layer, or at sizes of its own ranks.

    Raises CascadeSimError where sizes are missing.
    """
    text = find(cascade)
    own = {name.lower(): size for name, size in sizes.items()}
    if text.name == LAYER:
        own = {**layer_extents(load_workload(workload), length, batch), **own}
    if {"Q", "K", "V"} <= set(text.inputs):
        first = load_workload(workload).operations(sequence_length=length, batch=batch, scope="attention",
                                                   attention=cascade)[0]  # fmt: skip
        return Operation(text.name, "attention", text, tuple((dict(first.extents) | own).items()))
    given_sizes = {rank.upper(): size for rank, size in own.items()}
    free = free_extents(text, given_sizes)
    derived = {parts[0].upper() for parts in partitions(text) if whole_extent(parts) in given_sizes}
    missing = [name for name in names(text) if name not in {*given_sizes, *free, *derived}]
    if missing:
        raise CascadeSimError(f"{text.name}: give the size of {', '.join(missing)}: --set {missing[0]}=N")
    return Operation(text.name, "linear", text, tuple(own.items()))


def find_mapping_of(operation: Operation, accelerator: Accelerator, objective: MappingObjective) -> FoundMapping:
    """Search for each objective, and take the best of all that is found for the one that was asked for.

    Raises CascadeSimError for a machine that takes no mapping, a cascade that has none on it, and an energy that has
    no sourced price.
    """
    if not isinstance(accelerator, TakesMappings):
        raise CascadeSimError(f"{accelerator.name} takes no mapping: its own model says what goes where")
    spec: SpatialArray = accelerator.spec
    found = [searched(operation.cascade, operation.extents, spec)]
    others: tuple[Objective, ...] = ("dram",) if found[0].energy_j is None else ("energy", "dram")
    found += [searched(operation.cascade, operation.extents, spec, objective=each) for each in others]
    for shipped in shipped_mappings().values():
        try:
            found.append(given(shipped, operation.cascade, operation.extents, spec))
        except CascadeSimError:
            continue
    values = [_value(each, objective) for each in found]
    if None in values:
        raise CascadeSimError(f"{operation.cascade.name}: it has no sourced energy on {accelerator.name}; take another "
                              f"objective: latency, dram")
    best = min(found, key=lambda each: (_value(each, objective) or 0.0, each.cycles, each.dram_bytes))
    unfused = _unfused(operation, spec, "latency" if objective == "edp" else objective)
    return FoundMapping(
        operation, accelerator, objective, best, _front(found), sum(each.evaluated for each in found),
        _bound(operation, spec, best, objective), _cycle_level(operation, accelerator, best),
        _published_cycles(accelerator.published_plan(operation), accelerator),
        unfused, None if unfused is None else _cycle_level(operation, accelerator, unfused),
    )  # fmt: skip


def _unfused(operation: Operation, spec: SpatialArray, objective: Objective) -> Mapped | None:
    """The best mapping in which no Einsums share loops but those that need each other's earlier values."""
    try:
        return searched(operation.cascade, operation.extents, spec, most_fused=1, objective=objective)
    except CascadeSimError:
        return None


def _cycle_level(operation: Operation, accelerator: TakesMappings, mapped: Mapped) -> int:
    machine = accelerator.with_mapping(described(mapped.name, mapped.groups))
    return execute(checked(machine.plan(operation, "physical"), machine), "cycle").cycles


def _front(found: list[Mapped]) -> tuple[Mapped, ...]:
    """Those that no other one beats in cycles, energy and traffic together; each point once."""
    points: dict[tuple[float, ...], Mapped] = {}
    for each in found:
        figures = _figures(each)
        points.setdefault(tuple(value or 0.0 for value in figures.values()), each)
    front = [point for point in points
             if not any(other != point and all(o <= p for o, p in zip(other, point, strict=True)) for other in points)]
    return tuple(points[point] for point in sorted(front))


def _bound(operation: Operation, spec: SpatialArray, mapped: Mapped, objective: MappingObjective) -> float | None:
    """What no mapping undercuts: traffic of inputs and outputs once; work on all elements of both arrays at once."""
    least = least_elements(operation, mapped.splits)
    outside = (*operation.cascade.inputs, *operation.cascade.outputs)
    traffic = sum(least[tensor] for tensor in outside) * spec.word_bytes
    if objective == "dram":
        return float(traffic)
    if objective != "latency":
        return None
    elements = spec.pe_array.elements + spec.vector_array.lanes
    cycles = 0.0
    work: Mapping[str, Mapping[str, int]] = work_of(operation, mapped.splits)
    for run in (run for group in mapped.groups for run in group.runs):
        counts = work.get(run.work.name, {})
        cycles += max(counts.values(), default=0) / elements  # one operation of each class a cycle at most
    return max(cycles, traffic / spec.dram_bytes_per_cycle)


def _published_cycles(plan: Plan | None, accelerator: Accelerator) -> tuple[int, int] | None:
    """Closed form and cycle level of the machine's own plan, where it has one for this cascade."""
    if plan is None:
        return None
    checked(plan, accelerator)
    return execute(plan, "analytical").cycles, execute(plan, "cycle").cycles
