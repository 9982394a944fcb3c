"""The front at cycle level, exact or within a tolerance, without simulating every design.

The closed form is a lower bound of the cycles. Simulate the front of the closed form; look again for designs whose
bound is not beaten by what was simulated; until there are none. What then is left unsimulated is beaten, however
fast its cycles are. Knows no files but chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore.cycles import cycle_figures
from cascadesim.simulator.explore.front import front
from cascadesim.simulator.explore.metrics import Floats
from cascadesim.simulator.explore.partial import Partial
from cascadesim.simulator.explore.problem import Digits, Problem
from cascadesim.simulator.explore.search import Chunk, Found, Watch, chunks_of, merged
from cascadesim.simulator.explore.workers import EngineName, Job, run

_NOT_BOUNDED = ("power_w",)  # better the longer a run takes: a bound on cycles is none on it


@dataclass(frozen=True)
class Known:
    """Designs simulated so far: their places in the space, and their costs at cycle level (inf: cannot be)."""

    places: NDArray[np.int64]
    digits: Digits
    costs: Floats

    def beats(self, costs: Floats, tolerance: float) -> NDArray[np.bool_]:
        """Which costs some simulated design is no worse than, everywhere, or worse by no more than the tolerance."""
        best = self.costs[np.isfinite(self.costs).all(axis=1)]
        best = best[front(best)] if len(best) else best
        found = np.zeros(len(costs), dtype=bool)
        for cost in best - tolerance * np.abs(best):
            found |= (cost <= costs).all(axis=1)
        return found


def refined(
    problem: Problem, found: Found, workers: int, engine: EngineName, partial: Partial, watch: Watch
) -> Found:
    """The front at cycle level. Raises CascadeSimError on objectives that no bound on cycles bounds."""
    _check(problem)
    known = Known(np.empty(0, np.int64), found.digits[:0], found.costs[:0])
    candidates, turn = found.digits, 0
    while len(candidates):
        known = _simulated(problem, known, candidates, workers, engine, partial, f"round-{turn:03}")
        watch(len(known.digits), len(known.digits))
        candidates = _open(problem, known, workers, engine)
        turn += 1
    possible = np.flatnonzero(np.isfinite(known.costs).all(axis=1))
    if not len(possible):
        raise CascadeSimError(f"{problem.source}: search.fidelity: cycle: no design can be simulated at cycle level "
                              "and hold the constraints; use fidelity: analytical")
    order = possible[np.argsort(known.places[possible])]
    kept = order[front(known.costs[order])]
    return Found(known.digits[kept], known.costs[kept], found.designs, found.allowed, found.possible, found.good)


def _check(problem: Problem) -> None:
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


def _simulated(
    problem: Problem, known: Known, digits: Digits, workers: int, engine: EngineName, partial: Partial, name: str
) -> Known:
    saved = partial.load(name)
    if saved is not None and np.array_equal(saved["digits"], digits):
        costs = saved["costs"].astype(np.float64)
    else:
        costs = _costs(problem, digits, workers, engine)
        partial.save(name, {"digits": digits, "costs": costs})
    return Known(
        np.concatenate([known.places, _places(problem, digits)]),
        np.concatenate([known.digits, digits]),
        np.concatenate([known.costs, costs]),
    )


def _costs(problem: Problem, digits: Digits, workers: int, engine: EngineName) -> Floats:
    figures = cycle_figures(problem, digits, workers, engine)
    columns = {**problem.columns(digits), **figures}
    costs = problem.costs(columns)
    holds = problem.holds_constraints(columns, len(digits))
    return np.where(holds[:, None] & np.isfinite(costs), costs, np.inf)


def _places(problem: Problem, digits: Digits) -> NDArray[np.int64]:
    found: NDArray[np.int64] = np.ravel_multi_index(tuple(digits.T), problem.shape).astype(np.int64)
    return found


def _open(problem: Problem, known: Known, workers: int, engine: EngineName) -> Digits:
    """The front of what is neither simulated nor beaten yet."""
    chunks = chunks_of(problem)
    parts = dict(run(Job(_open_in_chunk, (problem, known)), chunks, workers, engine))
    return merged([parts[chunk] for chunk in chunks]).digits


def _open_in_chunk(context: tuple[Problem, Known], chunk: Chunk) -> Found:
    problem, known = context
    digits = problem.digits_of(chunk.start, chunk.stop)
    judged = problem.judge(digits)
    new = ~np.isin(judged.good + chunk.start, known.places)
    rows, costs = judged.good[new], judged.costs[new]
    if rows.size:
        kept = front(costs)
        kept = kept[~known.beats(costs[kept], problem.space.search.tolerance)]
        rows, costs = rows[kept], costs[kept]
    return Found(digits[rows], costs, len(digits), judged.allowed, judged.possible, judged.good.size)
