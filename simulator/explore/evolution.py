"""Spaces too large to look at each design: NSGA-II over the positions of values, by pymoo. Seeded, repeatable.

The front is that of all designs seen, not of the last generation. Knows no model; pymoo is imported here only.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore.front import front
from cascadesim.simulator.explore.metrics import Floats
from cascadesim.simulator.explore.partial import Partial
from cascadesim.simulator.explore.problem import Digits, Judged, Problem
from cascadesim.simulator.explore.search import Found, Watch, merged, pieces_of
from cascadesim.simulator.explore.workers import EngineName, Job, run

_PYMOO = {
    "NSGA2": "algorithms.moo.nsga2", "Problem": "core.problem", "SBX": "operators.crossover.sbx",
    "PM": "operators.mutation.pm", "RoundingRepair": "operators.repair.rounding",
    "IntegerRandomSampling": "operators.sampling.rnd",
}  # fmt: skip
_WORST = 1e300  # cost of a design that cannot be; its violated constraint keeps it out of every comparison


def evolutionary(problem: Problem, workers: int, engine: EngineName, partial: Partial, watch: Watch) -> Found:
    """A resumed run replays the generations that are known, and goes on."""
    search = problem.space.search
    algorithm = _algorithm(problem)
    parts: list[Found] = []
    for generation in range(search.generations):
        population = algorithm.ask()
        digits = population.get("X").astype(np.int32)
        if not len(digits):
            break
        name = f"generation-{generation:06}"
        known = partial.load(name)
        if known is not None and np.array_equal(known["asked"], digits):
            good, found = known["good"].astype(np.intp), Found.of(known)
            costs_of_good = known["costs_of_good"].astype(np.float64)
        else:
            good, costs_of_good, found = _judged(problem, digits, workers, engine)
            partial.save(name, {**found.arrays(), "asked": digits, "good": good, "costs_of_good": costs_of_good})
        costs = np.full((len(digits), len(problem.objectives)), _WORST)
        costs[good] = costs_of_good
        violated = np.ones((len(digits), 1))
        violated[good] = -1.0
        population.set("F", costs, "G", violated)
        algorithm.tell(infills=population)
        parts.append(found)
        watch(generation + 1, search.generations)
    return merged(parts)


def _algorithm(problem: Problem) -> Any:
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


def _judged(
    problem: Problem, digits: Digits, workers: int, engine: EngineName
) -> tuple[np.ndarray[Any, np.dtype[np.intp]], Floats, Found]:
    """Rows that are good, their costs, and their front; shared out among the workers."""
    parts = list(pieces_of(digits, workers))
    starts = np.cumsum([0, *(len(part) for part in parts)])
    numbered = list(range(len(parts)))
    judged: dict[int, Judged] = dict(run(Job(_judge, (problem, parts)), numbered, workers, engine))
    good = np.concatenate([judged[number].good + starts[number] for number in numbered])
    costs = np.concatenate([judged[number].costs for number in numbered])
    kept = front(costs) if len(costs) else np.empty(0, dtype=np.intp)
    allowed, possible = (sum(getattr(judged[number], name) for number in numbered) for name in ("allowed", "possible"))
    return good, costs, Found(digits[good[kept]], costs[kept], len(digits), allowed, possible, len(good))


def _judge(context: tuple[Problem, list[Digits]], number: int) -> Judged:
    problem, parts = context
    return problem.judge(parts[number])
