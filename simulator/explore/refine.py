"""Designs simulated cycle by cycle: the figures of a few, and the exact front at cycle level without simulating all.

The closed form is a lower bound of the cycles. Simulate the front of the closed form; look again for designs whose
bound is not beaten by what was simulated; until there are none. What then is left unsimulated is beaten, however
fast its cycles are. Knows no files but chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.catalogue import Floats
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore.checkpoint import Checkpoint
from cascadesim.simulator.explore.front import front
from cascadesim.simulator.explore.models import Point, with_following
from cascadesim.simulator.explore.problem import Digits, SearchProblem
from cascadesim.simulator.explore.search import Chunk, Found, Watch, chunks_of, merged
from cascadesim.simulator.explore.workers import EngineName, Job, run

_NOT_BOUNDED = ("power_w",)  # better the longer a run takes: a bound on cycles is none on it


def cycle_figures(
    problem: SearchProblem, digits: Digits, workers: int, engine: EngineName, watch: Watch | None = None
) -> dict[str, Floats]:
    """Every metric of the designs at cycle level; nan where one cannot be."""
    points = problem.points(digits)
    job = Job(_simulate, (problem, points))
    found: dict[int, Mapping[str, float]] = {}
    here = range(min(len(points), 1))  # one, in this process: what it compiles, processes forked from it need not
    for row, quantities in chain(run(job, here, 1, "local"), run(job, range(len(here), len(points)), workers, engine)):
        found[row] = quantities
        if watch is not None:
            watch(len(found), len(points))
    return with_following({name: np.array([found[row].get(name, np.nan) for row in range(len(points))])
                           for name in problem.model.given})  # fmt: skip


def _simulate(context: tuple[SearchProblem, Sequence[Point]], row: int) -> dict[str, float]:
    problem, points = context
    return problem.model.cycle_quantities(points[row])


@dataclass(frozen=True)
class Known:
    """Designs simulated so far: their places in the space, and their costs at cycle level (inf: cannot be)."""

    places: NDArray[np.int64]
    digits: Digits
    costs: Floats

    def beats(self, costs: Floats, tolerance: float) -> NDArray[np.bool_]:
        """Which costs some simulated design is no worse than, everywhere, or worse by no more than the tolerance."""
        best = self.costs[np.isfinite(self.costs).all(axis=1)]
        best = best[front(best)]
        found = np.zeros(len(costs), dtype=bool)
        for cost in best - tolerance * np.abs(best):
            found |= (cost <= costs).all(axis=1)
        return found


def refined(
    problem: SearchProblem, found: Found, workers: int, engine: EngineName, checkpoint: Checkpoint, watch: Watch
) -> Found:
    """The front at cycle level. Raises CascadeSimError on objectives that no bound on cycles bounds."""
    _refuse_unbounded(problem)
    known = Known(np.empty(0, np.int64), found.digits[:0], found.costs[:0])
    candidates, iteration = found.digits, 0
    while len(candidates):
        name = f"round-{iteration:03}"
        saved = checkpoint.load(name)
        if saved is not None and np.array_equal(saved["digits"], candidates):
            costs = saved["costs"].astype(np.float64)
        else:
            costs = _simulated_costs(problem, candidates, workers, engine)
            checkpoint.save(name, {"digits": candidates, "costs": costs})
        places = np.ravel_multi_index(tuple(candidates.T), problem.shape)
        known = Known(np.concatenate([known.places, places]), np.concatenate([known.digits, candidates]),
                      np.concatenate([known.costs, costs]))
        watch(len(known.digits), len(known.digits))
        chunks = chunks_of(problem)
        parts = dict(run(Job(_open_in_chunk, (problem, known)), chunks, workers, engine))
        candidates = merged([parts[chunk] for chunk in chunks]).digits
        iteration += 1
    possible = np.flatnonzero(np.isfinite(known.costs).all(axis=1))
    if not len(possible):
        raise CascadeSimError(f"{problem.source}: search.fidelity: cycle: no design can be simulated at cycle level "
                              "and hold the constraints; use fidelity: analytical")
    order = possible[np.argsort(known.places[possible])]
    kept = order[front(known.costs[order])]
    return Found(known.digits[kept], known.costs[kept], found.designs, found.allowed, found.possible, found.good)


def _refuse_unbounded(problem: SearchProblem) -> None:
    used = {metric.name for metric in problem.objectives}
    used |= {name for each in problem.constraints for name in each.names}
    for name in _NOT_BOUNDED:
        if name in used:
            raise CascadeSimError(f"{problem.source}: search.fidelity: cycle cannot judge by {name}, which gets better "
                                  "the longer a run takes; leave it out, or use fidelity: analytical")
    if not problem.model.has_cycle_level:
        raise CascadeSimError(f"{problem.source}: search.fidelity: cycle: this model has no cycle level")
    if problem.space.search.method != "exhaustive":
        raise CascadeSimError(f"{problem.source}: search.fidelity: cycle needs method: exhaustive")


def _simulated_costs(problem: SearchProblem, digits: Digits, workers: int, engine: EngineName) -> Floats:
    columns = {**problem.columns(digits), **cycle_figures(problem, digits, workers, engine)}
    costs = problem.costs(columns)
    holds = problem.holds(problem.constraints, columns, len(digits))
    return np.where(holds[:, None] & np.isfinite(costs), costs, np.inf)


def _open_in_chunk(context: tuple[SearchProblem, Known], chunk: Chunk) -> Found:
    """The front of the designs of a chunk that are neither simulated nor beaten yet."""
    problem, known = context
    digits = problem.digits_of(chunk.start, chunk.stop)
    judged = problem.judge(digits)
    new = ~np.isin(judged.good + chunk.start, known.places)
    rows, costs = judged.good[new], judged.costs[new]
    kept = front(costs)
    kept = kept[~known.beats(costs[kept], problem.space.search.tolerance)]
    return Found(digits[rows[kept]], costs[kept], len(digits), judged.allowed, judged.possible, judged.good.size)
