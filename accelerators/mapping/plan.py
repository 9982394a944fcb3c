"""An operation on a spatial array by a mapping, given as text or searched: the plan that the simulator runs.

Runs any cascade whose Einsums the array has the operations for. Tiles of queries and keys that a mask leaves out are
not visited; what it leaves out of a tile takes the time of the whole tile. mapping.md 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from math import prod

from cascadesim.accelerators.energy import Actions, sourced_energy_j
from cascadesim.accelerators.mapping.attended import attended
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import IllegalMapping
from cascadesim.accelerators.mapping.mapper.candidates import MANY_EINSUMS
from cascadesim.accelerators.mapping.mapper.costs import NO_LIMIT, Cost, Objective, actions, cost
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.mapper.search import KnownGroups, OwnLoops, by_schedule, search
from cascadesim.accelerators.mapping.mapper.staying import with_staying
from cascadesim.accelerators.mapping.nest import MOST_FUSED, CascadeMapping
from cascadesim.accelerators.mapping.problem import MappingProblem, problem
from cascadesim.accelerators.mapping.resolve import resolved, text_sizes
from cascadesim.accelerators.mapping.runs import ARRAY_2D, DRAM, GLOBAL_BUFFER, BoundRun, sides
from cascadesim.accelerators.mapping.schedule.sliced import group_program
from cascadesim.accelerators.mapping.text import shipped_mappings
from cascadesim.accelerators.program import Program
from cascadesim.accelerators.protocol import Accounting, EinsumActivity, Phase, Plan, Traffic
from cascadesim.accelerators.spec import SpatialArray, on_arrays
from cascadesim.einsum_cascades.analysis.counts import bind_extents
from cascadesim.einsum_cascades.analysis.passes import partitions, whole_extent
from cascadesim.einsum_cascades.models.operation import (
    Operation,
    OperationKind,
    refuse_unequal_steps,
    refuse_what_no_text_masks,
    work_of,
)
from cascadesim.einsum_cascades.notation.algebra import extents_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, suggestion
from cascadesim.einsum_cascades.notation.ir import Cascade, conditions
from cascadesim.einsum_cascades.notation.operators import charges
from cascadesim.einsum_cascades.sparsity.masks import FULL, Mask

SEARCHED = "searched"
# Loops that Einsums may have of their own while stretches are compared, and in the groups that are taken: what stays
# between groups is chosen after that, and may make another one of these the best.
NESTED: tuple[tuple[OwnLoops, OwnLoops], ...] = (("one", "one"), ("one", "nests"), ("nests", "nests"))
# Assumed: 64 tokens are a usual chunk of linear attention and state-space models (Mamba-2, FLA); shorter ones let a
# small array, or one of odd sides, work on the chunks of another.
CHUNKS = (64, 32, 16)
_SHAPES: Mapping[str, str] = {"Q": "hpe", "K": "hme", "V": "hmf"}  # of attention's inputs, by rank


@dataclass(frozen=True)
class Mapped:
    """Groups that compute a cascade. `splits`: inner extents that the mapping chose; `evaluated`: ways compared."""

    name: str
    groups: tuple[BoundGroup, ...]
    splits: Mapping[str, int]
    evaluated: int

    @property
    def cycles(self) -> float:
        """The closed form of all instances, groups one after another."""
        return sum(group.problem.instances * group.bound_cycles for group in self.groups)

    @property
    def dram_bytes(self) -> int:
        words = sum(group.problem.instances * (group.read_words + group.written_words) for group in self.groups)
        return words * self.groups[0].spec.word_bytes

    @property
    def energy_j(self) -> dict[str, float] | None:
        """Joules by component; None where an operation has no sourced price."""
        return sourced_energy_j(sum(map(actions, self.groups), Actions()), self.groups[0].spec)

    def cost(self, objective: Objective = "latency") -> Cost:
        costs = [cost(group, objective) for group in self.groups]
        return sum(first for first, _ in costs), sum(second for _, second in costs)


def plan_mapped(
    operation: Operation, spec: SpatialArray, accounting: Accounting, mapping: CascadeMapping | None = None,
    fuses: bool = True,
) -> Plan:  # fmt: skip
    """Plan by a mapping, or by the best that is found where none is given; `fuses`: Einsums may share loops in it.

    Raises CascadeSimError where the cascade has no mapping on the array, with the reason.
    """
    if accounting == "artifact":
        raise CascadeSimError(
            f"{operation.name}: artifact accounting covers published mappings only; use --accounting physical"
        )
    if operation.kind == "attention":
        refuse_what_no_text_masks(operation)
        refuse_unequal_steps(operation)
    if mapping is None:
        found = searched(operation.cascade, operation.extents, spec, operation.mask, MOST_FUSED if fuses else 1)
    else:
        found = given(mapping, operation.cascade, operation.extents, spec, operation.mask)
    splits = dict(found.splits)
    useful = work_of(operation, splits)
    phases = tuple(_phase(group, useful) for group in found.groups)
    words = dict.fromkeys((*operation.cascade.inputs, *operation.cascade.outputs), float(spec.word_bytes))
    return Plan(operation, accounting, tuple(_lines(found)), phases, found.energy_j, splits, words,
                tuple(_notes(operation, found)))  # fmt: skip


def _notes(operation: Operation, found: Mapped) -> Iterator[str]:
    masked = operation.mask != FULL or any(
        True for einsum in operation.cascade.einsums for _ in conditions(einsum.expression))
    visits_all = any(read.upstream for group in found.groups if group.problem.attended for read in group.reads)
    if masked and (visits_all or all(group.attended is None for group in found.groups)):
        yield f"{operation.cascade.name}: masked pairs take the time of all others on this mapping"


@cache
def searched(
    cascade: Cascade, extents: tuple[tuple[str, int], ...], spec: SpatialArray, mask: Mask = FULL,
    most_fused: int = MOST_FUSED, objective: Objective = "latency", thorough: bool = False,
) -> Mapped:  # fmt: skip
    """The best mapping over the sizes that the text leaves open, each of those of the array.

    Mappings that come with the project are candidates, too. Raises CascadeSimError where there is none.
    """
    many = len(cascade.einsums) >= MANY_EINSUMS and objective != "latency"
    best = searched(cascade, extents, spec, mask, most_fused) if many else None
    evaluated, refusal, known = 0, None, _known(cascade, extents, spec, mask, objective)
    below = NO_LIMIT if best is None else best.cost(objective)
    ways = NESTED if objective == "dram" else NESTED[:1]
    for choice, (path, own) in product(_choices(cascade, dict(extents), spec), ways):
        try:
            bound, splits = _sized(cascade, dict(extents), choice, mask)
            groups, tried = search(bound, spec, most_fused, objective, known, below, thorough, own, path)
        except CascadeSimError as error:
            refusal = refusal or error
            continue
        evaluated += tried
        if groups is None:
            continue
        found = Mapped(SEARCHED, groups, splits, tried)
        below = min(below, found.cost(objective))
        best = _better(best, found, objective, stays=most_fused > 1)
    for shipped in shipped_mappings().values() if most_fused > 1 else ():
        try:
            found = given(shipped, cascade, extents, spec, mask)
        except CascadeSimError:
            continue
        evaluated += 1
        best = _better(best, found, objective, stays=True)
    if best is None:
        raise refusal or CascadeSimError(f"{cascade.name}: it leaves no sizes to try")
    return replace(best, evaluated=evaluated)


def fastest(
    cascade: Cascade, extents: tuple[tuple[str, int], ...], spec: SpatialArray, run: Callable[[Program], int],
    mask: Mask = FULL, most_fused: int = MOST_FUSED,
) -> Mapped:  # fmt: skip
    """The mapping that runs fastest: groups of the best closed form or near to it, and mappings that come with the
    project. `run`: cycles of a program."""
    def clock(group: BoundGroup) -> int:
        return run(group_program(group))

    found = searched(cascade, extents, spec, mask, most_fused)
    groups, cycles = zip(*(by_schedule(group, clock) for group in found.groups), strict=True)
    best, fewest = replace(found, groups=groups), sum(cycles)
    for shipped in shipped_mappings().values() if most_fused > 1 else ():
        try:
            other = given(shipped, cascade, extents, spec, mask)
        except CascadeSimError:
            continue
        if other.cycles < fewest and (own := sum(map(clock, other.groups))) < fewest:
            best, fewest = replace(other, evaluated=found.evaluated), own
    return best


def _better(best: Mapped | None, other: Mapped, objective: Objective, stays: bool) -> Mapped:
    """The one that costs less; of the other with what stays between its groups, where anything may."""
    found = replace(other, groups=with_staying(other.groups, objective)) if stays else other
    return found if best is None or found.cost(objective) < best.cost(objective) else best


@cache
def _known(
    cascade: Cascade, extents: tuple[tuple[str, int], ...], spec: SpatialArray, mask: Mask, objective: Objective
) -> KnownGroups:
    """Groups that searches of one cascade have found, however many Einsums they may fuse."""
    return KnownGroups()


@cache
def given(
    mapping: CascadeMapping, cascade: Cascade, extents: tuple[tuple[str, int], ...], spec: SpatialArray,
    mask: Mask = FULL,
) -> Mapped:  # fmt: skip
    """Bind a mapping. Raises CascadeSimError where it is for another cascade, or illegal."""
    if mapping.cascade != cascade.name:
        raise CascadeSimError(f"{mapping.name} is a mapping for {mapping.cascade}, not for {cascade.name}")
    own, instances, heads = _stacked(cascade, dict(extents))
    sizes = {rank.upper(): extent for rank, extent in own.items()}
    _check_sizes(mapping, cascade, sizes)
    splits = {name: size for name, size in text_sizes(mapping, spec, own).items()
              if name in free_extents(cascade, sizes)}  # fmt: skip
    open_sizes = [name for name in free_extents(cascade, sizes) if name not in splits]
    if open_sizes:
        parts = next(parts for parts in partitions(cascade) if open_sizes[0].lower() in parts)
        split = f"split {whole_extent(parts).lower()}: {parts[0]} by STEP, {parts[-1]}"
        raise IllegalMapping(f"{mapping.name}: it leaves {', '.join(open_sizes)} open; '{split}' or 'size "
                             f"{open_sizes[0]} = N' gives it")
    splits |= _outer(cascade, own, {**sizes, **splits}, splits)
    paired = attended(cascade, _unstacked({**sizes, **splits}, heads), mask, heads)
    bound = problem(cascade, {**sizes, **splits}, instances, heads, paired)
    return Mapped(mapping.name, resolved(mapping, bound, spec), splits, 1)


def _check_sizes(mapping: CascadeMapping, cascade: Cascade, given_sizes: Mapping[str, int]) -> None:
    """Raises IllegalMapping for sizes of nothing that the text splits, and for others than were asked for."""
    inner = free_extents(cascade, {})
    for name, size in mapping.sizes:
        if name not in inner:
            raise IllegalMapping(f"{mapping.name}: size {name}: the text of {cascade.name} splits no such rank"
                                 f"{suggestion(name, inner) if inner else ', nor any'}")
        if given_sizes.get(name, size) != size:
            raise IllegalMapping(f"{mapping.name}: size {name} = {size}, where {given_sizes[name]} was asked for")


def _stacked(cascade: Cascade, size: dict[str, int]) -> tuple[dict[str, int], int, int]:
    """Sizes of ranks, instances, and heads that are stacked: queries of heads that share keys are as one head's.

    Not where the text also computes for each head without its queries: that work is of every head, whoever shares.
    """
    group = size.get("g", 1)
    by_query = all("p" in einsum.ranks or "h" not in einsum.ranks for einsum in cascade.einsums if charges(einsum))
    instances = prod(size[rank] for rank in ("b", "x") if rank in size)
    if "G" in extents_of(cascade) or group == 1 or not by_query:
        return size, instances, 1
    return {**size, "h": size["h"] // group, "p": size["p"] * group}, instances, group


def _unstacked(sizes: dict[str, int], heads: int) -> dict[str, int]:
    """Sizes with the queries of one head, which is what masks and conditions count."""
    return sizes if heads == 1 else {**sizes, "P": sizes["P"] // heads}


def _choices(cascade: Cascade, extents: Mapping[str, int], spec: SpatialArray) -> Iterator[dict[str, int]]:
    """Sizes to try for the extents that the text leaves open: those of the array; of chunks, usual ones, too."""
    free = free_extents(cascade, {rank.upper(): extent for rank, extent in extents.items()})
    whole = {whole_extent(parts): parts for parts in partitions(cascade)}
    outer = [parts[0] for parts in whole.values()]
    chunks = len(set(outer)) < len(outer) or any(name.lower() not in extents for name in whole)
    tried = [tuple((name, min(side, extents.get(name[0].lower(), side))) for name in free)
             for side in (*sorted(sides(spec)), *(CHUNKS if chunks else ()))]  # fmt: skip
    return (dict(choice) for choice in dict.fromkeys(tried))


def sized_problems(
    cascade: Cascade, extents: tuple[tuple[str, int], ...], spec: SpatialArray, mask: Mask = FULL
) -> Iterator[tuple[MappingProblem, dict[str, int]]]:
    """The cascade at each of the sizes that the text leaves open and that can be bound, and what was chosen of them."""
    for choice in _choices(cascade, dict(extents), spec):
        try:
            yield _sized(cascade, dict(extents), choice, mask)
        except CascadeSimError:
            continue


def _sized(
    cascade: Cascade, extents: dict[str, int], choice: Mapping[str, int], mask: Mask
) -> tuple[MappingProblem, dict[str, int]]:
    """The cascade at sizes, and what the plan chose of them."""
    size, instances, heads = _stacked(cascade, extents)
    sizes = {rank.upper(): extent for rank, extent in size.items()}
    splits = {**choice, **_outer(cascade, size, {**sizes, **choice}, choice)}
    kind: OperationKind = "attention" if "m" in extents else "linear"
    work_of(Operation(cascade.name, kind, cascade, tuple(extents.items())), splits)  # too many points to count: refused
    paired = attended(cascade, _unstacked({**sizes, **splits}, heads), mask, heads)
    return problem(cascade, {**sizes, **splits}, instances, heads, paired), splits


def _outer(
    cascade: Cascade, size: Mapping[str, int], known: Mapping[str, int], splits: Mapping[str, int]
) -> dict[str, int]:
    """Extents that only the shapes of Q, K and V tell, such as the chunks C1 of c1*P0+p0."""
    derived = {parts[0].upper() for parts in partitions(cascade) if whole_extent(parts) in known}
    missing = [name for name in extents_of(cascade) if name not in known and name not in derived]
    if not missing:
        return {}
    padded = dict(size)  # the last chunk in full, as its array is walked
    for parts in partitions(cascade):
        rank, inner = whole_extent(parts).lower(), prod(known.get(part.upper(), 1) for part in parts[1:])
        if rank in padded:
            padded[rank] = -(-padded[rank] // inner) * inner
    shapes = {tensor: tuple(padded[rank] for rank in ranks) for tensor, ranks in _SHAPES.items()
              if tensor in cascade.inputs}  # fmt: skip
    found = bind_extents(cascade, shapes, dict(splits))
    return {name: found[name] for name in missing if name in found}


def _phase(group: BoundGroup, useful: Mapping[str, Mapping[str, int]]) -> Phase:
    instances, word = group.problem.instances, group.spec.word_bytes
    activities = tuple(_activity(group, run, useful) for run in group.runs)
    traffic = Traffic(instances * group.read_words * word, instances * group.written_words * word)
    name = ", ".join(run.work.name for run in group.runs)
    memories = DRAM, *(each.name for each in group.spec.memories), *group.beside
    moving = {memory: instances * group.moving_cycles(memory) for memory in memories}
    return Phase(name, activities, traffic, instances * group.bound_cycles, partial(group_program, group),
                 moving_cycles=moving)  # fmt: skip


def group_of(phase: Phase) -> BoundGroup | None:
    """The group of fused Einsums that a phase runs, None where its machine made the phase without a mapping."""
    built = phase.program
    return built.args[0] if isinstance(built, partial) and built.func is group_program else None


def _activity(group: BoundGroup, run: BoundRun, useful: Mapping[str, Mapping[str, int]]) -> EinsumActivity:
    """Useful work is what the mask lets through; what else the array computes is lost occupancy."""
    spec, name = group.spec, run.work.name
    cycles = group.problem.instances * group.cycles(run)
    lanes = spec.pe_array.elements if run.unit == ARRAY_2D else spec.vector_array.lanes
    counts = useful.get(name, {})
    points = max((count / run.work.operations[kind] for kind, count in on_arrays(counts).items()
                  if run.work.operations.get(kind)), default=0.0)  # fmt: skip
    occupancy = points * run.op_cycles / (cycles * lanes) if cycles else 0.0
    return EinsumActivity(name, run.unit, cycles, counts, occupancy or 1.0)


def _lines(found: Mapped) -> Iterator[str]:
    """The mapping's text, in numbers, and what it was compared with."""
    yield from str(described(found.name, found.groups)).splitlines()
    for group in found.groups:
        for memory, taken in group.shares.items():
            if taken or memory == GLOBAL_BUFFER:
                yield f"# {memory}: {taken:.1%} taken by {group.runs[0].work.name} ... {group.runs[-1].work.name}"
    if found.evaluated > 1:
        yield f"# the best of {found.evaluated:,} ways of fusing and tiling"


def free_extents(cascade: Cascade, given: Mapping[str, int]) -> tuple[str, ...]:
    """Inner extents that the text leaves to the mapping, such as M0."""
    inner = {part.upper() for parts in partitions(cascade) for part in parts[1:]}
    return tuple(name for name in sorted(inner | set(extents_of(cascade))) if name in inner and name not in given)
