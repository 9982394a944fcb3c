"""Finds a mapping of any cascade: which neighbouring Einsums to fuse, loop orders, sizes of tiles, what stays where.

A path through the Einsums in the order of the text: every stretch of neighbours is fused in the best of a stated set of
ways, or cannot be, and the stretches that together cost least are taken. Cost is the closed form of a group plus what
its tiles wait for each other where they do not overlap; DRAM words decide between equals. Deterministic. Best of the
set: orders of loops are all tried, tiles are those of the array and whole extents, one axis may have two levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from itertools import chain
from typing import Literal, NamedTuple

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import Draft, IllegalMapping, illegal, outputs_of
from cascadesim.accelerators.mapping.mapper.bounds import least_of_all, least_of_tiles
from cascadesim.accelerators.mapping.mapper.candidates import MANY_EINSUMS, Neighbours
from cascadesim.accelerators.mapping.mapper.costs import (
    NO_LIMIT,
    Cost,
    Objective,
    cost,
    is_plain,
    least_of,
    total,
)
from cascadesim.accelerators.mapping.mapper.residency import between, late_cycles, residents, shorter
from cascadesim.accelerators.mapping.mapper.single import best_alone
from cascadesim.accelerators.mapping.mapper.staying import in_memories, pass_by_pass
from cascadesim.accelerators.mapping.nest import MOST_FUSED
from cascadesim.accelerators.mapping.placing import bound, does_not_fit, in_problem
from cascadesim.accelerators.mapping.problem import MappingProblem
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

MOST_IN_NESTS = 10  # assumed: of more Einsums nests are tried of the groups that are taken; all would take long
HARDLY = 0.01  # of the cycles; assumed: a first tile that takes less is not worth shorter steps
NEAR_BOUND = 1.02  # times its bound; assumed: the rest of a schedule is not worth another search
MOST_RUN = 16  # assumed: of 65 groups that were compared 12 are fastest in the ninth to sixteenth

OwnLoops = Literal["none", "one", "nests"]  # of single Einsums inside shared ones
Clock = Callable[[BoundGroup], int]  # the cycles that a group takes when it runs


class Best(NamedTuple):
    """A best group, how many ways were compared, and whether any of them fits, be it worse than what was asked for."""

    group: BoundGroup | None
    tried: int
    fits: bool


@dataclass(frozen=True)
class KnownGroups:
    """Best groups of one cascade, by what they read, walk and write: choices of sizes of a text share most of them."""

    found: dict[object, tuple[Best, Cost]] = field(default_factory=dict)

    def best_group(
        self, problem: MappingProblem, spec: SpatialArray, members: tuple[int, ...], objective: Objective,
        fine: bool = False, below: Cost = NO_LIMIT, own: OwnLoops = "one", thorough: bool = False,
    ) -> Best:  # fmt: skip
        """As `best_group`; nothing is compared twice."""
        if len(problem.work) == 1 and is_plain(problem, spec, 0):
            fine, own = False, "nests" if own == "nests" else "one"  # all sizes are tried at once
        works, attended = [problem.work[member] for member in members], problem.attended
        uses = (*(use for work in works for use in (*work.inputs, work.output)), *outputs_of(problem, members))
        axes = frozenset().union(*(use.axes for use in uses), *(work.axes for work in works))
        key = (members, fine, own, thorough, uses, tuple((axis, problem.extents[axis]) for axis in sorted(axes)),
               tuple(tuple(sorted(work.walks.items())) for work in works),
               attended and (attended.first.tobytes(), attended.last.tobytes()))  # fmt: skip
        best, limit = self.found.get(key, (Best(None, 0, True), (0.0, 0.0)))
        best = best._replace(tried=0)
        if best.group is None and limit < below:
            if own == "nests":
                known = self.best_group(problem, spec, members, objective, fine, below, "one", thorough)
                best = with_nests(known, problem, spec, members, below, fine)
            else:
                best = best_group(problem, spec, members, objective, fine, below, thorough, own)
            self.found[key] = best, below
        return best if best.group is None else best._replace(group=in_problem(best.group, problem))


def search(
    problem: MappingProblem, spec: SpatialArray, most_fused: int = MOST_FUSED, objective: Objective = "latency",
    known: KnownGroups | None = None, below: Cost = NO_LIMIT, thorough: bool = False, own: OwnLoops = "one",
    path: OwnLoops | None = None,
) -> tuple[tuple[BoundGroup, ...] | None, int]:  # fmt: skip
    """The groups that together cost least, and how many ways were compared. `own`: loops that Einsums may have; `path`:
    while the stretches are compared, if others than in the end.

    Stretches are compared on tiles of the array's sides, and of all sizes where none of these fits; those that are
    taken then try tiles of all sizes (`thorough`: as `best_group`). Of many Einsums None where nothing costs less than
    `below`; for those what they cost one by one bounds the search. Raises CascadeSimError where an Einsum cannot run
    even alone.
    """
    known, alone, evaluated = known or KnownGroups(), None, 0
    if len(problem.work) < MANY_EINSUMS:
        below = NO_LIMIT
    elif most_fused > 1:
        alone, evaluated = _cheapest(problem, spec, 1, objective, known, below, fine=False)
        below = below if alone is None else total(alone, objective)
    many = len(problem.work) >= MANY_EINSUMS
    found, more = _cheapest(problem, spec, most_fused, objective, known, below, not many, path or own)
    found, evaluated = found or alone, evaluated + more
    if found is None and below == NO_LIMIT and many:
        found, more = _cheapest(problem, spec, most_fused, objective, known, below)
        evaluated += more
    if found is None and below == NO_LIMIT:
        raise _reason(problem, spec)
    best, more = _refined(found or (), objective, known, thorough, own)
    evaluated += more
    if own == "one" and any(group.in_slices for group in best):  # sizes of tiles may favour another path
        found, more = _cheapest(problem, spec, most_fused, objective, known, below, not many, "none")
        other, again = _refined(found or (), objective, known, thorough, "none")
        evaluated += more + again
        best = min((each for each in (best, other) if each), key=lambda each: total(each, objective))
    return best or None, evaluated


def _refined(
    found: Sequence[BoundGroup], objective: Objective, known: KnownGroups, thorough: bool, own: OwnLoops
) -> tuple[tuple[BoundGroup, ...], int]:
    """The same Einsums fused, in tiles of all sizes, and how many ways were compared."""
    refined, evaluated = [], 0
    for group in found:
        problem, spec, members = group.problem, group.spec, tuple(run.place for run in group.runs)
        limit = cost(group, objective)
        better = known.best_group(problem, spec, members, objective, True, limit, own, thorough)
        best, more = _sooner(group if better.group is None else better.group, objective)
        refined.append(best)
        evaluated += better.tried + more
    return tuple(refined), evaluated


def _sooner(group: BoundGroup, objective: Objective) -> tuple[BoundGroup, int]:
    """The group in shorter steps of its innermost loop, where these cost no more and its first tile is done sooner; and
    how many were compared."""
    problem, members, tried = group.problem, tuple(run.place for run in group.runs), 0
    apart = group.in_slices or any(run.after is not None for run in group.runs) or len(problem.work) == 1
    if objective != "latency" or apart or not group.loops:
        return group, 0
    draft, step = Draft(problem, group.spec, members, group.loops, {}, {}, {}), group.loops[-1].step
    neighbours = Neighbours(problem, group.spec, members, fine=True, slices=False)
    least, late = cost(group), late_cycles(group)
    while (step := step // 2) and late > HARDLY * least[0] * problem.instances:
        for other in (each for one in neighbours.narrowed(draft, step) for each in residents(neighbours, one)):
            tried += 1
            if cost(found := in_memories(other, objective)) <= least and late_cycles(found) < late:
                group, late = found, late_cycles(found)
    return group, tried


def _cheapest(
    problem: MappingProblem, spec: SpatialArray, most_fused: int, objective: Objective, known: KnownGroups, below: Cost,
    fine: bool = True, own: OwnLoops = "one",
) -> tuple[tuple[BoundGroup, ...] | None, int]:  # fmt: skip
    """The cheapest path through the Einsums, None where none costs less than `below`, and how many ways were compared.

    A stretch is left out where not even the least that it and all Einsums after it cost would improve on a path.
    `fine`: where no tile of the sides fits, tiles of all sizes are tried.
    """
    count = len(problem.work)
    best: list[tuple[Cost, tuple[BoundGroup, ...]] | None] = [((0.0, 0.0), ())] + [None] * count
    after = [*(least_cost(problem, spec, range(end, count), objective) for end in range(count)), (0.0, 0.0)]
    evaluated = 0
    for start in range(count):
        before = best[start]
        if before is None:
            continue
        for end in range(start + 1, count + 1):
            members = tuple(range(start, end))
            if len(members) > most_fused and (start, end - 1) not in problem.stretches:
                continue
            reached = best[end]
            limit = _less(below, before[0], after[end])
            limit = limit if reached is None else min(limit, _less(reached[0], before[0]))
            if limit <= least_cost(problem, spec, members, objective):
                continue
            group, tried, fits = known.best_group(problem, spec, members, objective, False, limit, own)
            if not fits and fine:
                group, more, _ = known.best_group(problem, spec, members, objective, True, limit, own)
                tried += more
            evaluated += tried
            if group is None:
                continue
            more_cost = cost(group, objective)
            total = before[0][0] + more_cost[0], before[0][1] + more_cost[1]
            if reached is None or total < reached[0]:
                best[end] = total, (*before[1], group)
    found = best[count]
    return (None if found is None else found[1]), evaluated


def _less(limit: Cost, *costs: Cost) -> Cost:
    return limit[0] - sum(first for first, _ in costs), limit[1] - sum(second for _, second in costs)


def _reason(problem: MappingProblem, spec: SpatialArray) -> CascadeSimError:
    """Why the first Einsum that cannot run alone cannot, on the smallest tiles."""
    for place in range(len(problem.work)):
        if best_group(problem, spec, (place,), fine=True).group is not None:
            continue
        alone = Neighbours(problem, spec, (place,), fine=True)
        for inner, closed, shared in alone.shapes():
            for reason in illegal(alone.probe(inner, closed, shared)):
                return IllegalMapping(f"{problem.cascade.name}: {reason}")
        groups = [bound(draft) for draft in alone.drafts()]
        if groups:
            smallest = min(groups, key=lambda group: group.footprint_words)
            why = does_not_fit(smallest)
            return IllegalMapping(f"{problem.cascade.name}: at the smallest that a search tries, {why}")
    return IllegalMapping(f"{problem.cascade.name}: its Einsums depend on each other, and do not fit together")


def best_group(
    problem: MappingProblem, spec: SpatialArray, members: tuple[int, ...], objective: Objective = "latency",
    fine: bool = False, below: Cost = NO_LIMIT, thorough: bool = False, own: OwnLoops = "one",
) -> Best:  # fmt: skip
    """The best group of these Einsums that costs less than `below`, if there is one; nests apart (`with_nests`).

    Of one plain Einsum that has no others to be fused with, or in `fine` tiles, very many sizes at once. `thorough`:
    then tiles of other sizes, one or two axes at a time, as long as that is better.
    """
    if len(members) == 1 and (fine or len(problem.work) == 1) and is_plain(problem, spec, members[0]):
        return Best(*best_alone(problem, spec, members[0], objective, below, thorough))
    found = Best(None, 0, False)
    neighbours = Neighbours(problem, spec, members, fine, squares=thorough, slices=own != "none")
    while True:
        before = found.group
        found = _best_of(neighbours, objective, found, below if before is None else cost(before, objective))
        if found.group is before or found.group is None or not thorough:
            return found
        neighbours = replace(neighbours, near=found.group.leaf)


def with_nests(
    found: Best, problem: MappingProblem, spec: SpatialArray, members: tuple[int, ...], below: Cost, fine: bool
) -> Best:  # fmt: skip
    """The best group, or the one that moves fewer words one tile at a time, each Einsum in a nest of its own."""
    if len(problem.work) >= (MANY_EINSUMS if fine else MOST_IN_NESTS):
        return found
    from cascadesim.accelerators.mapping.mapper.nests import nested  # of searches for traffic alone

    limit = below if found.group is None else cost(found.group, "dram")
    group, compared = nested(problem, spec, members, limit[0])
    better = group is not None and cost(group, "dram") < limit
    return Best(group if better else found.group, found.tried + compared, found.fits or group is not None)


def _best_of(neighbours: Neighbours, objective: Objective, known: Best, least: Cost) -> Best:
    """The best of some ways that costs less than `least`, or what is known.

    For latency, where tiles do not fit twice, also as long ones as do.
    """
    problem, spec, members = neighbours.problem, neighbours.spec, neighbours.members
    best, tried, fits = known
    drafts: list[tuple[Draft, float]] = []
    chosen: Draft | None = None
    busy: dict[object, float] = {}  # orders of loops make no difference to it
    floor = least_cost(problem, spec, members, objective)
    shapes: dict[object, Draft] = {}  # orders of loops with units and space, whatever the sizes of tiles
    for draft in neighbours.drafts():
        tried += 1
        shapes.setdefault((tuple(loop.axis for loop in draft.loops), tuple(draft.spaces.values())), draft)
        leaf = problem.whole() | {loop.axis: min(loop.step, loop.outer) for loop in draft.loops}
        alike = tuple(leaf.values()), tuple(draft.spaces.values())
        if alike not in busy:
            busy[alike] = least_of_tiles(draft, leaf)
        if fits and least <= _at_least(floor, busy[alike], objective):
            continue
        for each in residents(neighbours, draft, objective, least):
            group = in_memories(each, objective)
            fits = fits or not group.in_slices  # smaller tiles may fit whole
            if least_of(group, objective) <= least[0] and (own := cost(group, objective)) < least:
                best, least, chosen = group, own, draft
        if least <= floor:
            return Best(best, tried, fits)
        if objective == "latency":
            drafts.append((draft, busy[alike]))
    apart = objective == "latency" and neighbours.slices and neighbours.frugally and len(members) > 2
    passing = shapes.values() if apart else ()
    for each in chain(_other_steps(neighbours, drafts, chosen, least), pass_by_pass(passing)):
        group = in_memories(each, objective)
        if (own := cost(group, objective)) < least:
            best, least, fits = group, own, fits or not group.in_slices
    return Best(best, tried, fits)


def _other_steps(
    neighbours: Neighbours, drafts: Sequence[tuple[Draft, float]], best: Draft | None, least: Cost
) -> Iterator[BoundGroup]:
    """As long tiles as fit twice where those of drafts do not, and other steps of the outer loops of the best draft.

    `drafts`: with the cycles that their tiles take at least.
    """
    for draft, cycles in drafts:
        if cycles < least[0]:
            yield from shorter(neighbours, draft, least)
    if best is not None and drafts:
        yield from between(best)


def every_group(
    problem: MappingProblem, spec: SpatialArray, members: tuple[int, ...], fine: bool = False,
    objective: Objective = "dram", below: Cost = NO_LIMIT,
) -> Iterator[BoundGroup]:  # fmt: skip
    """All groups of these Einsums that are looked at, fit, and may cost less than `below`; those of one tile at a time
    are for room, not for time."""
    neighbours = Neighbours(problem, spec, members, fine)
    for draft in neighbours.drafts():
        if objective != "latency" or least_of_tiles(draft, draft.leaf) < below[0]:
            yield from (in_memories(group, objective) for group in residents(neighbours, draft, objective, below))


def by_schedule(group: BoundGroup, clock: Clock) -> tuple[BoundGroup, int]:
    """The group, or another one of the same Einsums that takes fewer cycles when it runs; and its cycles.

    Of all that are looked at, those of the least closed forms, as far as these are below the fewest cycles.
    """
    members, instances, fewest = tuple(run.place for run in group.runs), group.problem.instances, clock(group)
    alone = len(members) == 1 and is_plain(group.problem, group.spec, members[0])  # very many sizes are known already
    if alone or fewest <= NEAR_BOUND * instances * group.bound_cycles:
        return group, fewest
    ways = [(cost(each), number, each) for number, each in enumerate(
        every_group(group.problem, group.spec, members, True, "latency", (fewest / instances, 0.0)))]
    for (cycles, _), _, each in nsmallest(MOST_RUN, ways):
        if cycles * instances >= fewest:
            break
        own = clock(each)
        if own < fewest:
            group, fewest = each, own
    return group, fewest


def least_cost(
    problem: MappingProblem, spec: SpatialArray, members: Sequence[int], objective: Objective = "latency"
) -> Cost:
    """What no way of fusing these Einsums undercuts."""
    cycles, words = least_of_all(problem, spec, members)
    return {"latency": (cycles, words), "dram": (words, cycles), "energy": (0.0, 0.0)}[objective]


def _at_least(floor: Cost, busy: float, objective: Objective) -> Cost:
    """The least cost of a draft of which so many cycles of the busier array are known."""
    return (max(busy, floor[0]), floor[1]) if objective == "latency" else (floor[0], max(busy, floor[1]))
