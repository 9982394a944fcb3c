"""Finds mappings of a cascade on an array, and says how good they are: beside a bound, and beside the published one.

A mapping is found by closed form, and the cycle level says what it takes; or of those near to the best closed form the
one that takes the fewest cycles is found. Knows no option and no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias, get_args

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.mapper.costs import Objective
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.nest import MOST_FUSED
from cascadesim.accelerators.mapping.plan import Mapped, fastest, free_extents, given, searched
from cascadesim.accelerators.mapping.text import shipped_mappings
from cascadesim.accelerators.protocol import Accelerator, Plan, TakesMappings, checked
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.analysis.passes import partitions, whole_extent
from cascadesim.einsum_cascades.models.operation import Operation, least_elements, work_of
from cascadesim.einsum_cascades.models.workload import Workload, load_workload
from cascadesim.einsum_cascades.notation.algebra import extents_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.texts import find
from cascadesim.simulator.execution import execute
from cascadesim.simulator.pareto import Figures, figures_of, front_of, tradeoffs
from cascadesim.simulator.request import Fidelity

__all__ = ["FoundMapping", "MappingObjective", "find_mapping_of", "load", "operation_of"]

MappingObjective: TypeAlias = Literal["latency", "energy", "edp", "dram", "pareto"]
LAYER = "llama-layer"
OBJECTIVES: tuple[MappingObjective, ...] = get_args(MappingObjective)
_SEARCHED_TOO: Mapping[MappingObjective, tuple[Objective, ...]] = {  # besides time
    "latency": (), "energy": ("energy",), "edp": ("energy",), "dram": ("dram",), "pareto": ("energy", "dram"),
}  # fmt: skip


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
    """The best mapping that was found, its plan and its cycles at cycle level.

    `front`: mappings that no other one beats in cycles, energy and DRAM traffic, with their cycles at cycle level where
    the front was asked for; `beaten`: then, figures of the others. `published`: what was published for the cascade,
    with its cycles at cycle level; `own`: the machine's own plan where that is another one. `priced`: whether energy is
    an axis of the front. `analytical`: figures of the mapping that closed forms alone favour and its cycles at cycle
    level, where another one was taken that is faster there.
    """

    operation: Operation
    accelerator: Accelerator
    objective: MappingObjective
    mapped: Mapped
    plan: Plan
    cycle_level: int
    front: tuple[tuple[Mapped, int | None], ...]
    beaten: tuple[Figures, ...]
    evaluated: int
    lower_bound: float | None
    published: tuple[Figures, int] | None
    own: tuple[Figures, int] | None
    priced: bool
    unfused: Mapped | None  # the best mapping in which every Einsum is a group of its own; None where there is none
    unfused_cycle_level: int | None
    analytical: tuple[Figures, int] | None

    @property
    def text(self) -> str:
        return str(described(self.mapped.name, self.mapped.groups))

    @property
    def mappings(self) -> str:
        """How many are on the front, in words."""
        return f"{len(self.front):,} mapping{'s' * (len(self.front) > 1)}"

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
            **asdict(figures_of(self.mapped)), "cycle_level_cycles": self.cycle_level, "evaluated": self.evaluated,
            "optimal": self.optimal, "lower_bound": self.lower_bound,
            "analytical": self.analytical and {
                **asdict(self.analytical[0]), "cycle_level_cycles": self.analytical[1]},
            "unfused": self.unfused and {
                **asdict(figures_of(self.unfused)), "cycle_level_cycles": self.unfused_cycle_level},
            "groups": [gain.to_dict() for gain in self.gains],
            "front": [{**asdict(figures_of(each)), **({} if level is None else {"cycle_level_cycles": level}),
                       "mapping": str(described(each.name, each.groups))} for each, level in self.front],
        }  # fmt: skip


def _value(mapped: Mapped, objective: MappingObjective) -> float | None:
    """What is to be least; None without a price, and of a front."""
    figures = figures_of(mapped)
    values = {"latency": figures.cycles, "dram": figures.dram_bytes, "energy": figures.energy_j,
              "edp": None if figures.energy_j is None else figures.energy_j * figures.cycles}  # fmt: skip
    return values.get(objective)


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
        return Operation(text.name, "attention", text, tuple((dict(first.extents) | own).items()), mask=first.mask)
    given_sizes = {rank.upper(): size for rank, size in own.items()}
    free = free_extents(text, given_sizes)
    derived = {parts[0].upper() for parts in partitions(text) if whole_extent(parts) in given_sizes}
    missing = [name for name in extents_of(text) if name not in {*given_sizes, *free, *derived}]
    if missing:
        raise CascadeSimError(f"{text.name}: give the size of {', '.join(missing)}: --set {missing[0]}=N")
    return Operation(text.name, "linear", text, tuple(own.items()))


def layer_extents(workload: Workload, length: int | None = None, batch: int | None = None) -> dict[str, int]:
    """Sizes of the ranks of `llama-layer` for a model of such layers, one for each sequence of the batch.

    Raises CascadeSimError for a model of another kind of layer.
    """
    attention, ffn, masks = workload.attention, workload.ffn, {layer.mask for layer in workload.layers.values()}
    if (attention is None or ffn is None or not attention.rotary or attention.latent is not None or not ffn.gated
            or workload.norm != "rms" or masks != {"causal"}):
        raise CascadeSimError(f"{workload.name} has no layers of RMS norms, rotated causal attention and a gated "
                              f"perceptron; take another workload, such as llama, or give all sizes")
    tokens, depth = length or workload.sequence_length, attention.head_dim
    return {"b": batch or workload.batch, "p": tokens, "m": tokens, "d": workload.hidden,
            "h": attention.key_heads, "g": attention.heads // attention.key_heads, "j": 2, "c": 2, "i": depth // 2,
            "f": attention.values, "n": ffn.width}  # fmt: skip


def find_mapping_of(
    operation: Operation, accelerator: Accelerator, objective: MappingObjective, fidelity: Fidelity = "analytical"
) -> FoundMapping:
    """Search for time and for what was asked, and take the best of all that is found for that.

    `pareto` joins the groups that a search looks at to a front in closed form, and takes the mapping of it that is
    fastest at cycle level. `fidelity`: that of the latency that is to be least. Raises CascadeSimError for a machine
    that takes no mapping, a cascade that has none on it, an energy that has no sourced price, and another objective
    than latency at cycle level.
    """
    if not isinstance(accelerator, TakesMappings):
        raise CascadeSimError(f"{accelerator.name} takes no mapping: its own model says what goes where")
    if fidelity == "cycle" and objective != "latency":
        raise CascadeSimError(f"only latency is found at cycle level: fidelity cycle goes with objective latency, not "
                              f"with {objective}")
    spec: SpatialArray = accelerator.spec
    found = _candidates(operation, spec, objective)
    if objective in ("energy", "edp") and any(each.energy_j is None for each in found):
        raise CascadeSimError(f"{operation.cascade.name}: it has no sourced energy on {accelerator.name}; take another "
                              f"objective: latency, dram, pareto")
    everything = objective == "pareto"
    trade = tradeoffs(operation, spec, found) if everything else front_of(found)
    best = min(found, key=lambda each: (_value(each, objective) or 0.0, each.cycles, each.dram_bytes))
    taken = (best, _fastest(operation, spec)) if fidelity == "cycle" else (best,)
    runs = [(each, plan := _plan_of(operation, accelerator, each), execute(plan, "cycle").cycles)
            for each in (trade.front if everything else taken)]  # fmt: skip
    fastest_run = min(runs, key=lambda run: run[2])
    front = [(each, cycles) for each, _, cycles in runs] if everything else [(each, None) for each in trade.front]
    published = accelerator.published_plan(operation)
    own = None if published is None else accelerator.plan(operation, "physical")
    other = None if own is None or published is None or own.mapping == published.mapping else own
    unfused = _unfused(operation, spec, objective if objective in ("energy", "dram") else "latency", fidelity)
    return FoundMapping(
        operation, accelerator, objective, *fastest_run, tuple(front), trade.beaten,
        sum(each.evaluated for each in found) + trade.evaluated, _bound(operation, spec, fastest_run[0], objective),
        _figures(published, accelerator), _figures(other, accelerator), trade.priced,
        unfused, None if unfused is None else execute(_plan_of(operation, accelerator, unfused), "cycle").cycles,
        (figures_of(best), runs[0][2]) if fidelity == "cycle" and fastest_run is not runs[0] else None,
    )  # fmt: skip


def _candidates(operation: Operation, spec: SpatialArray, objective: MappingObjective) -> list[Mapped]:
    """The best mappings for time and for what was asked, by closed form, and those that come with the project."""
    found = [searched(operation.cascade, operation.extents, spec, operation.mask)]
    found += [searched(operation.cascade, operation.extents, spec, operation.mask, objective=each,
                       thorough=each == objective == "dram") for each in _SEARCHED_TOO[objective]
              if each == "dram" or found[0].energy_j is not None]  # fmt: skip
    for shipped in shipped_mappings().values():
        try:
            found.append(given(shipped, operation.cascade, operation.extents, spec, operation.mask))
        except CascadeSimError:
            continue
    return found


def _fastest(operation: Operation, spec: SpatialArray, most_fused: int = MOST_FUSED) -> Mapped:
    """The fastest at cycle level of the mappings whose closed forms are near to the best."""
    from cascadesim.simulator.engine.engine import run  # brings the compiler: not for those who want the closed form

    return fastest(operation.cascade, operation.extents, spec, lambda program: run(program).cycles, operation.mask,
                   most_fused)  # fmt: skip


def _plan_of(operation: Operation, accelerator: TakesMappings, mapped: Mapped) -> Plan:
    machine = accelerator.with_mapping(described(mapped.name, mapped.groups))
    return checked(machine.plan(operation, "physical"), machine)


def _unfused(
    operation: Operation, spec: SpatialArray, objective: Objective, fidelity: Fidelity
) -> Mapped | None:  # fmt: skip
    """The best mapping in which no Einsums share loops but those that need each other's earlier values."""
    try:
        if fidelity == "cycle":
            return _fastest(operation, spec, most_fused=1)
        return searched(operation.cascade, operation.extents, spec, operation.mask, 1, objective, objective == "dram")
    except CascadeSimError:
        return None


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


def _figures(plan: Plan | None, accelerator: Accelerator) -> tuple[Figures, int] | None:
    """A plan in closed form, and its cycles at cycle level, where there is one for this cascade."""
    if plan is None:
        return None
    checked(plan, accelerator)
    energy = plan.dynamic_energy_j
    figures = Figures(execute(plan, "analytical").cycles, None if energy is None else sum(energy.values()),
                      plan.traffic.total_bytes)  # fmt: skip
    return figures, execute(plan, "cycle").cycles
