"""The best mapping of an Einsum by itself: all orders of loops and places of inputs, on very many sizes of tiles.

`many_sizes` counts them; the best are bound as any other mapping, which has the last word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import permutations, product
from math import inf

import numpy as np

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.mapper.candidates import units_of
from cascadesim.accelerators.mapping.mapper.costs import ALIKE, NO_LIMIT, Cost, Objective, cost, looped_axes
from cascadesim.accelerators.mapping.mapper.many_cycles import Way
from cascadesim.accelerators.mapping.mapper.many_sizes import Counts, Floats, Sizes
from cascadesim.accelerators.mapping.mapper.staying import in_memories
from cascadesim.accelerators.mapping.placing import bound
from cascadesim.accelerators.mapping.problem import MappingProblem, Work
from cascadesim.accelerators.mapping.runs import BoundRun, Spread, bound_run, laid, layouts
from cascadesim.accelerators.spec import SpatialArray

FEW_AXES = 3  # up to which axes that all tensors have are looped over in any order; else outside of the others
MOST_TILES = 1 << 14  # assumed: sizes of tiles of one way; arrays of them stay in the cache of a core
FEW = 4  # assumed: balanced sizes of up to so many tiles are tried, and powers of two
BEST = 6  # assumed: ways that are bound exactly, for what is left out here: more copies in a pipeline, running ahead


def ways(
    problem: MappingProblem, spec: SpatialArray, place: int, overlapped: bool, near: Mapping[str, int] | None = None,
    limit: Callable[[], float] = lambda: inf, first: bool = True,
) -> Iterator[Way]:  # fmt: skip
    """Every order of loops on tiles of many sizes, each on the unit and with the ranks in space that take it first.

    Of many axes those that all tensors have are outside of the others: nothing is shared along them. `near`: tiles of
    sizes around these; `limit`: cycles that matter now; not `first`: on every unit and with all ranks in space.
    """
    work = problem.work[place]
    axes = looped_axes(problem, work)
    common = [axis for axis in axes if all(axis in use.axes for use in (*work.inputs, work.output))]
    others = [axis for axis in axes if axis not in common or len(axes) <= FEW_AXES]
    most = int(MOST_TILES ** (1 / len(axes)))
    choices = [_sizes(problem, spec, units_of(spec, work), axis, near)[:most] for axis in axes]
    tiles = np.array(list(product(*choices)), np.int64).reshape(-1, len(axes)).T
    all_runs = list(_runs(problem, spec, place, axes))
    if not all_runs:  # no unit can do it
        return
    leaf = dict(zip(axes, tiles, strict=True))
    each = [Way(problem, spec, run, tuple(axes), leaf, None, {}) for run in all_runs]
    least = np.array([np.broadcast_to(_tile_cycles(way), tiles.shape[1:]) for way in each])
    best = np.argmin(least + np.array([np.broadcast_to(way.drained, tiles.shape[1:]) for way in each]), axis=0)
    for inner in permutations(others):
        order = (*(axis for axis in common if axis not in inner), *inner)
        for number, run in enumerate(all_runs):
            for again in (False, True) if len(inner) > 1 else (False,):
                which = ((best == number) | (not first)) & (least[number] <= limit())
                if not which.any():
                    continue
                leaf = {axis: sizes[which] for axis, sizes in zip(axes, tiles, strict=True)}
                if again:
                    yield from _twice(problem, spec, run, (*order[:-len(inner)], inner[-1], *inner), leaf, overlapped)
                else:
                    for kept in _keeps(work, order):
                        yield Way(problem, spec, run, order, leaf, None, kept, overlapped)


def _twice(
    problem: MappingProblem, spec: SpatialArray, run: BoundRun, order: tuple[str, ...], leaf: Sizes, overlapped: bool
) -> Iterator[Way]:
    """The innermost axis is looped over once more, further out, in steps of 2, 4, ... tiles."""
    last = order[-1]
    tiles = -(-problem.extents[last] // leaf[last])
    bits = range(1, int(tiles.max()).bit_length())
    outer = np.concatenate([leaf[last] << bit for bit in bits]) if bits else np.array([], np.int64)
    useful = outer < problem.extents[last]
    own = {axis: np.tile(sizes, len(bits))[useful] for axis, sizes in leaf.items()}
    if useful.any():
        for kept in _keeps(run.work, order):
            yield Way(problem, spec, run, order, own, outer[useful], kept, overlapped)


def _sizes(
    problem: MappingProblem, spec: SpatialArray, units: Sequence[str], axis: str, near: Mapping[str, int] | None
) -> list[int]:
    """Sizes of tiles along an axis: all of it, sides of the array, balanced ones and powers of two, longest first."""
    extent = problem.extents[axis]
    if near is not None:
        low, high = max(1, near[axis] // 2), min(extent, 2 * near[axis])
        own = {-(-extent // count) for count in range(-(-extent // high), -(-extent // low) + 1)} | {near[axis]}
        return sorted(own, key=lambda size: abs(size - near[axis]))
    sides = {each.size for unit in units for dimensions in layouts(spec, unit) for each in dimensions[:2]}
    few = {-(-extent // count) for count in range(1, FEW + 1)}
    powers = {1 << bit for bit in range(extent.bit_length())}
    found = sorted(size for size in few | powers | sides if size <= extent)
    keep = [extent, *sorted(sides), *(size for size in reversed(found) if size != extent)]
    return list(dict.fromkeys(size for size in keep if size <= extent))


def _runs(problem: MappingProblem, spec: SpatialArray, place: int, axes: Sequence[str]) -> Iterator[BoundRun]:
    """The Einsum on each unit that can do it, with each choice of ranks in space."""
    work = problem.work[place]
    for unit in units_of(spec, work):
        spatial = [*axes, *sorted(work.axes - set(axes))]  # an axis of one point leaves a dimension to another
        for chosen in laid(spatial, spec, unit):
            space = tuple(Spread(axis, problem.extents[axis], side.size, side.names) for axis, side in chosen)
            time = sorted(set(axes) - {axis for axis, _ in chosen}, key=lambda axis: (axis in work.reduced, axis))
            yield bound_run(spec, work, place, (unit, space, tuple(time)))


def _tile_cycles(way: Way) -> Floats:
    """Cycles of the array and of the ports that no order of loops changes."""
    again = np.array(0)
    for use in way.work.inputs:
        again = again + way.read_words(use)
    return np.maximum(way.busy_cycles, again * (way.spec.word_bytes / way.spec.global_buffer.bytes_per_cycle))


def _keeps(work: Work, order: tuple[str, ...]) -> Iterator[dict[str, int]]:
    """How far out inputs may be kept: as far in as can be, or outside of a loop that they lack."""
    depths = []
    for use in work.inputs:
        inner = max((number + 1 for number, axis in enumerate(order) if axis in use.axes), default=0)
        depths.append([*(number for number in range(inner) if order[number] not in use.axes), inner])
    for chosen in product(*depths):
        yield {use.tensor: depth for use, depth in zip(work.inputs, chosen, strict=True)}


@dataclass(frozen=True)
class FastestWays:
    """The best ways, each of one size, and how many mappings were compared."""

    best: tuple[Way, ...]
    evaluated: int


def fastest(
    problem: MappingProblem, spec: SpatialArray, place: int, objective: Objective,
    near: Mapping[str, int] | None = None, below: float = inf,
) -> FastestWays:  # fmt: skip
    """The mappings of one Einsum that cost least by the closed form, of all ways and sizes, best first.

    `latency`: cycles with the first tile by itself, then words; `dram`: words from and to DRAM, `energy`: joules, then
    cycles.
    """
    found: list[tuple[float, float, int, Way]] = []
    evaluated = 0

    def limit() -> float:
        return found[-1][0] if len(found) == BEST else below

    of_time = limit if objective == "latency" else lambda: inf
    for overlapped in (True, False):
        if objective == "latency" and found:
            break  # one tile at a time is for room
        for way in ways(problem, spec, place, overlapped, near, of_time, objective != "energy"):
            evaluated += len(way.steps[0]) if way.steps else 1
            least = way.least_cycles if objective == "latency" else _cost(way, objective)
            useful = np.flatnonzero(way.fits & (least <= limit()))
            if not len(useful):
                continue
            own = way.take(useful) if way.steps else way
            costs = np.broadcast_to(_cost(own, objective), useful.shape)
            alike = np.flatnonzero(costs <= costs.min() * ALIKE[objective])
            best = own.take(alike) if own.steps else own
            second = np.broadcast_to(best.dram_words if objective == "latency" else best.cycles, alike.shape)
            at = int(np.lexsort((costs[alike], second))[0])
            alone = best.take(np.array([at])) if best.steps else best
            found = nsmallest(BEST, [*found, (float(costs[alike[at]]), float(second[at]), evaluated, alone)])
    return FastestWays(tuple(way for *_, way in found), evaluated)


def _cost(way: Way, objective: Objective) -> Counts | Floats:
    """What is to be least; words decide between equals of cycles, cycles between all others."""
    if objective == "latency":
        return way.cycles
    return way.dram_words if objective == "dram" else way.joules


def best_alone(
    problem: MappingProblem, spec: SpatialArray, member: int, objective: Objective, least: Cost, thorough: bool
) -> tuple[BoundGroup | None, int, bool]:  # fmt: skip
    """The best mapping of an Einsum by itself that costs less than `least`; `thorough`: then of sizes near to those of
    the best one, as long as that is better."""
    best, tried, fits = None, 0, False
    near, nearest = None, NO_LIMIT
    while True:
        limit = inf if thorough or spec.memories else least[0]
        views = spec.from_buffer()[: 1 if objective == "energy" else None]
        every = [fastest(problem, seen, member, objective, near, limit) for seen in views]
        tried += sum(ways.evaluated for ways in every)
        groups = [_bound_way(way, spec, objective) for ways in every for way in ways.best]
        found = [(cost(group, objective), number, group) for number, group in enumerate(groups) if group.fits]
        least_of_found = min((own for own, *_ in found), default=NO_LIMIT)[0]
        alike = [each for each in found if each[0][0] <= least_of_found * ALIKE[objective]]
        own, _, group = min(alike, key=lambda each: (each[0][1], each[:2]), default=(NO_LIMIT, 0, None))
        fits = fits or group is not None
        if group is not None and own < least:
            best, least = group, own
        if group is None or own >= nearest or not thorough:
            return best, tried, fits
        near, nearest = group.leaf, own


def _bound_way(way: Way, spec: SpatialArray, objective: Objective) -> BoundGroup:
    """A software pipeline, or two tiles that overlap where that has no room; one at a time where that was counted."""
    draft = replace(way.draft(), spec=spec)
    group = bound(draft)
    if way.overlapped and (group.stages is None or not group.fits):
        group = bound(draft.overlapped(2))
    return in_memories(group, objective) if group.fits else group
