"""Mappings that no other one beats in cycles, energy and DRAM traffic together, of all that a search looks at.

Fronts of stretches of Einsums are joined along the cascade, in closed form: what is beaten in a stretch is beaten in
every mapping that has it, because all three figures add up over groups. Exact for the set of groups that
`accelerators.mapping.mapper.candidates` states; stretches on the front then try tiles of all sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, isnan

import numpy as np

from cascadesim.accelerators.catalogue import Floats
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.mapper.search import every_group
from cascadesim.accelerators.mapping.nest import MOST_FUSED
from cascadesim.accelerators.mapping.plan import SEARCHED, Mapped, sized_problems
from cascadesim.accelerators.mapping.problem import MappingProblem
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.simulator.explore.front import front

_ROUNDING = 1e-9  # relative: sums of joules in another order differ by far less, mappings by more
_DIGITS = 9  # after the first: the same
Stretch = tuple[int, int]  # the first Einsum, and the one after the last


@dataclass(frozen=True)
class Figures:
    """Closed-form cycles, joules (None where an operation has no sourced price) and DRAM bytes."""

    cycles: float
    energy_j: float | None
    dram_bytes: float


def figures_of(mapped: Mapped) -> Figures:
    """What a mapping takes, all instances together."""
    energy = mapped.energy_j
    return Figures(mapped.cycles, None if energy is None else fsum(energy.values()), mapped.dram_bytes)


@dataclass(frozen=True)
class Tradeoffs:
    """A front, fastest first. `beaten`: of other mappings that were compared as a whole; `evaluated`: of groups.

    `priced`: whether energy is one of the axes: the best mappings for each objective have sourced prices.
    """

    front: tuple[Mapped, ...]
    beaten: tuple[Figures, ...]
    evaluated: int
    priced: bool


@dataclass(frozen=True)
class Ways:
    """Ways through some Einsums. `costs`: (ways, 3) float64: cycles, joules (0 where that is no axis), bytes."""

    paths: Sequence[tuple[BoundGroup, ...]]
    costs: Floats

    def front(self) -> Ways:
        rows = front(self.costs)
        return Ways([self.paths[row] for row in rows], self.costs[rows])


def front_of(known: Sequence[Mapped]) -> Tradeoffs:
    """The front of a few mappings, each point once."""
    priced = all(each.energy_j is not None for each in known)
    rows = front(np.array([_costs(each.groups, priced) for each in known]))
    best = sorted((known[row] for row in rows), key=lambda each: _costs(each.groups, priced))
    return Tradeoffs(tuple(best), (), 0, priced)


def tradeoffs(operation: Operation, spec: SpatialArray, known: Sequence[Mapped]) -> Tradeoffs:
    """The front of all groups of an operation's Einsums, and of mappings that are known already."""
    priced = all(each.energy_j is not None for each in known)
    whole, compared = list(known), [np.array([_costs(each.groups, priced) for each in known])]
    evaluated = 0
    for problem, splits in sized_problems(operation.cascade, operation.extents, spec, operation.mask):
        coarse = dict(_groups(problem, spec, _stretches(problem), False, priced))
        found, _ = joined(coarse, len(problem.work))
        taken = {_stretch(group) for path in found.paths for group in path} or _stretches(problem)
        fine = dict(_groups(problem, spec, taken, True, priced))
        found, costs = joined({stretch: _together(coarse.get(stretch), fine.get(stretch))
                                for stretch in {*coarse, *fine}}, len(problem.work))
        whole += [Mapped(SEARCHED, path, splits, len(costs)) for path in found.paths]
        compared.append(costs)
        evaluated += sum(len(ways.paths) for ways in (*coarse.values(), *fine.values()))
    best = front_of(whole).front
    points = np.array([_costs(each.groups, priced) for each in best])
    others = each_once(np.concatenate(compared))
    on_front = np.isclose(others[:, None], points, rtol=_ROUNDING).all(axis=2).any(axis=1)
    beaten = (Figures(cycles, joules if priced else None, size) for cycles, joules, size in others[~on_front].tolist())
    return Tradeoffs(best, tuple(beaten), evaluated, priced)


def each_once(points: Floats) -> Floats:
    """Points that differ by more than the order in which they were added up: energies are the same on every Python."""
    magnitudes = 10.0 ** np.floor(np.log10(np.where(points > 0, points, 1.0)))
    _, rows = np.unique(np.round(points / magnitudes, _DIGITS) * magnitudes, axis=0, return_index=True)
    return points[rows]


def _costs(groups: Sequence[BoundGroup], priced: bool) -> tuple[float, float, float]:
    """Raises nothing for a group without a price: its energy is not a number."""
    figures = figures_of(Mapped(SEARCHED, tuple(groups), {}, 1))
    joules = figures.energy_j if priced else 0.0
    return figures.cycles, float("nan") if joules is None else joules, float(figures.dram_bytes)


def _stretches(problem: MappingProblem) -> set[Stretch]:
    """Neighbours that may be fused, as in any search."""
    count = len(problem.work)
    return {(start, end) for start in range(count) for end in range(start + 1, count + 1)
            if end - start <= MOST_FUSED or (start, end - 1) in problem.stretches}


def _stretch(group: BoundGroup) -> Stretch:
    places = [run.place for run in group.runs]
    return min(places), max(places) + 1


def _groups(
    problem: MappingProblem, spec: SpatialArray, stretches: Iterable[Stretch], fine: bool, priced: bool
) -> Iterator[tuple[Stretch, Ways]]:
    """All groups of some stretches; those without a price only where energy is no axis."""
    for start, end in sorted(stretches):
        paths = [(group,) for group in every_group(problem, spec, tuple(range(start, end)), fine)]
        costs = [_costs(path, priced) for path in paths]
        known = [number for number, (_, joules, _) in enumerate(costs) if not isnan(joules)]
        if known:
            yield (start, end), Ways([paths[number] for number in known], np.array([costs[each] for each in known]))


def _together(one: Ways | None, other: Ways | None) -> Ways:
    found = [ways for ways in (one, other) if ways is not None]
    return Ways([path for ways in found for path in ways.paths], np.concatenate([ways.costs for ways in found]))


def joined(groups: Mapping[Stretch, Ways], count: int) -> tuple[Ways, Floats]:
    """The front of whole mappings, and the costs of all that were compared for it."""
    nothing = np.zeros((0, 3))
    begun = {0: Ways([()], np.zeros((1, 3)))}
    compared = [nothing]
    for end in range(1, count + 1):
        found = []
        for start in range(end):
            if start not in begun or (start, end) not in groups:
                continue
            before, own = begun[start], groups[start, end]
            costs = (before.costs[:, None] + own.costs).reshape(-1, 3)
            rows = front(costs)
            paths = [(*before.paths[row // len(own.paths)], *own.paths[row % len(own.paths)]) for row in rows]
            found.append(Ways(paths, costs[rows]))
            compared += [costs] * (end == count)
        if found:
            begun[end] = Ways([path for ways in found for path in ways.paths],
                               np.concatenate([ways.costs for ways in found])).front()
    return begun.get(count, Ways([], nothing)), np.concatenate(compared)
