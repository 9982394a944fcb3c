"""The designs of a space judged, their front kept: every design chunk by chunk, or generations of an evolution.

Exhaustive: the front of each chunk, then the front of those fronts; memory holds one chunk per worker and the fronts.
Evolutionary, for spaces too large for that: NSGA-II over the positions of values, by pymoo, seeded and repeatable; the
front is that of all designs seen. At cycle level: the closed form is a lower bound of the cycles, so simulate its
front, and look again for designs whose bound is not beaten by what was simulated, until there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.catalogue import Floats
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore.front import Rows, front
from cascadesim.simulator.explore.models import ArchitectureModel, Point, with_following
from cascadesim.simulator.explore.problem import Counts, Digits, Judged, SearchProblem
from cascadesim.simulator.explore.workers import Checkpoint, EngineName, Job, run

MOST_DESIGNS = 2_000_000_000  # assumed: half an hour on two cores; beyond, the evolutionary search serves
_VECTORISED_CHUNK = 1 << 17
_PLANNED_CHUNK = 32  # designs that are planned one by one: a second or two of work
_PYMOO = {
    "NSGA2": "algorithms.moo.nsga2", "Problem": "core.problem", "SBX": "operators.crossover.sbx",
    "PM": "operators.mutation.pm", "RoundingRepair": "operators.repair.rounding",
    "IntegerRandomSampling": "operators.sampling.rnd",
}  # fmt: skip
_WORST = 1e300  # cost of a design that cannot be; its violated constraint keeps it out of every comparison

Watch: TypeAlias = Callable[[int, int], None]  # designs done, designs in all


@dataclass(frozen=True)
class Found:
    """A front and how many designs stand behind it."""

    digits: Digits
    costs: Floats
    counts: Counts

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        return {"digits": self.digits, "costs": self.costs, "counts": np.array(self.counts)}

    @staticmethod
    def of(arrays: dict[str, NDArray[np.generic]]) -> Found:
        return Found(arrays["digits"].astype(np.int32), arrays["costs"].astype(np.float64),
                     Counts(*map(int, arrays["counts"].tolist())))


@dataclass(frozen=True)
class Chunk:
    """Designs `start` to `stop` of a space, in order."""

    number: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"chunk-{self.number:06}-{self.start}-{self.stop}"


def chunk_size(problem: SearchProblem) -> int:
    """Designs of a chunk: the same for every number of workers, so that a run may go on with another."""
    model = problem.model
    vectorised = isinstance(model, ArchitectureModel) and model.is_vectorised
    return _VECTORISED_CHUNK if vectorised else _PLANNED_CHUNK


def chunks_of(problem: SearchProblem) -> list[Chunk]:
    size = chunk_size(problem)
    return [Chunk(number, start, min(start + size, problem.size))
            for number, start in enumerate(range(0, problem.size, size))]


def exhaustive(problem: SearchProblem, workers: int, engine: EngineName, checkpoint: Checkpoint, watch: Watch) -> Found:
    """The front of every design. Raises CascadeSimError on a space too large for it."""
    if problem.size > MOST_DESIGNS:
        raise CascadeSimError(
            f"{problem.source}: {problem.size:.2e} designs are too many to look at each (at most {MOST_DESIGNS:.0e}); "
            "use search: {method: evolutionary}, or coarser steps"
        )
    chunks = chunks_of(problem)
    found = {chunk.number: Found.of(arrays) for chunk in chunks if (arrays := checkpoint.load(chunk.name)) is not None}
    done = sum(part.counts.designs for part in found.values())
    watch(done, problem.size)
    left = [chunk for chunk in chunks if chunk.number not in found]
    for chunk, part in run(Job(_search_chunk, (problem, None)), left, workers, engine):
        checkpoint.save(chunk.name, part.arrays())
        found[chunk.number] = part
        done += part.counts.designs
        watch(done, problem.size)
    return merged([found[chunk.number] for chunk in chunks])


def _search_chunk(context: tuple[SearchProblem, Known | None], chunk: Chunk) -> Found:
    """The front of a chunk; of the designs that are neither simulated nor beaten yet, where some are known."""
    problem, known = context
    digits = problem.digits_of(chunk.start, chunk.stop)
    judged = problem.judge(digits)
    rows, costs = judged.good, judged.costs
    if known is not None:
        new = ~np.isin(rows + chunk.start, known.places)
        rows, costs = rows[new], costs[new]
    kept = front(costs)
    if known is not None:
        kept = kept[~known.beats(costs[kept], problem.space.search.tolerance)]
    return Found(digits[rows[kept]], costs[kept], judged.counts)


def merged(parts: list[Found]) -> Found:
    """The front of fronts, in the order of the parts, so that of equal designs the first of the space stays."""
    digits = np.concatenate([part.digits for part in parts])
    costs = np.concatenate([part.costs for part in parts])
    kept = front(costs)
    return Found(digits[kept], costs[kept], _added(parts))


def _added(parts: Sequence[Found | Judged]) -> Counts:
    return Counts(*map(sum, zip(*(part.counts for part in parts), strict=True)))


def evolutionary(
    problem: SearchProblem, workers: int, engine: EngineName, checkpoint: Checkpoint, watch: Watch
) -> Found:
    """The front of all designs of an evolution. A resumed run replays the generations that are known, and goes on."""
    search = problem.space.search
    algorithm = _algorithm(problem)
    parts: list[Found] = []
    for generation in range(search.generations):
        population = algorithm.ask()
        digits = population.get("X").astype(np.int32)
        if not len(digits):
            break
        name = f"generation-{generation:06}"
        known = checkpoint.load(name)
        if known is not None and np.array_equal(known["asked"], digits):
            good, found = known["good"].astype(np.intp), Found.of(known)
            costs_of_good = known["costs_of_good"].astype(np.float64)
        else:
            good, costs_of_good, found = _judged(problem, digits, workers, engine)
            checkpoint.save(name, {**found.arrays(), "asked": digits, "good": good, "costs_of_good": costs_of_good})
        costs = np.full((len(digits), len(problem.objectives)), _WORST)
        costs[good] = costs_of_good
        violated = np.ones((len(digits), 1))
        violated[good] = -1.0
        population.set("F", costs, "G", violated)
        algorithm.tell(infills=population)
        parts.append(found)
        watch(generation + 1, search.generations)
    return merged(parts)


def _algorithm(problem: SearchProblem) -> Any:
    try:
        parts: Any = {name: getattr(import_module(f"pymoo.{module}"), name) for name, module in _PYMOO.items()}
    except ImportError:
        raise CascadeSimError(
            "search: evolutionary needs pymoo: pip install 'cascadesim[explore]', or use method: exhaustive"
        ) from None
    repair = parts["RoundingRepair"]()
    algorithm = parts["NSGA2"](
        pop_size=problem.space.search.population, sampling=parts["IntegerRandomSampling"](),
        crossover=parts["SBX"](prob=0.9, eta=3.0, vtype=float, repair=repair),  # pymoo's recipe for whole numbers
        mutation=parts["PM"](eta=3.0, vtype=float, repair=repair), eliminate_duplicates=True,
    )  # fmt: skip
    fields = len(problem.fields)
    bounds = parts["Problem"](n_var=fields, n_obj=len(problem.objectives), n_ieq_constr=1, vtype=int,
                              xl=np.zeros(fields), xu=np.array(problem.shape) - 1)
    algorithm.setup(bounds, termination=("n_gen", problem.space.search.generations), seed=problem.space.seed,
                    verbose=False)
    return algorithm


def _judged(problem: SearchProblem, digits: Digits, workers: int, engine: EngineName) -> tuple[Rows, Floats, Found]:
    """Rows of a generation that are good, their costs, and their front; shared out among the workers."""
    parts = np.array_split(digits, max(1, min(workers, len(digits))))
    starts = np.cumsum([0, *(len(part) for part in parts)])
    found: dict[int, Judged] = dict(run(Job(_judge, (problem, parts)), range(len(parts)), workers, engine))
    judged = [found[number] for number in range(len(parts))]
    good = np.concatenate([part.good + start for part, start in zip(judged, starts, strict=False)])
    costs = np.concatenate([part.costs for part in judged])
    kept = front(costs)
    return good, costs, Found(digits[good[kept]], costs[kept], _added(judged))


def _judge(context: tuple[SearchProblem, list[Digits]], number: int) -> Judged:
    problem, parts = context
    return problem.judge(parts[number])


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
        parts = dict(run(Job(_search_chunk, (problem, known)), chunks, workers, engine))
        candidates = merged([parts[chunk] for chunk in chunks]).digits
        iteration += 1
    possible = np.flatnonzero(np.isfinite(known.costs).all(axis=1))
    if not len(possible):
        raise CascadeSimError(f"{problem.source}: search.fidelity: cycle: no design can be simulated at cycle level "
                              "and hold the constraints; use fidelity: analytical")
    order = possible[np.argsort(known.places[possible])]
    kept = order[front(known.costs[order])]
    return Found(known.digits[kept], known.costs[kept], found.counts)


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
