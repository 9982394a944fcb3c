"""The designs of a front once more, cycle by cycle: how far the closed form was from the simulation.

Knows designs and the model; no search, no files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cascadesim.simulator.explore_engine import EngineName, Job, run
from cascadesim.simulator.explore_metrics import Floats
from cascadesim.simulator.explore_models import Point
from cascadesim.simulator.explore_problem import Digits, Problem
from cascadesim.simulator.explore_search import Watch


def cycle_latencies_s(problem: Problem, digits: Digits, workers: int, engine: EngineName, watch: Watch) -> Floats:
    """nan where the model has no cycle level."""
    points = points_of(problem, digits)
    found = np.full(len(points), np.nan)
    for number, (row, latency_s) in enumerate(run(Job(_latency, (problem, points)), range(len(points)), workers,
                                                  engine)):
        found[row] = np.nan if latency_s is None else latency_s
        watch(number + 1, len(points))
    return found


def points_of(problem: Problem, digits: Digits) -> list[Point]:
    """Each design as the fields of the model that it changes."""
    own = problem.model.fields
    columns = {name: column.tolist() for name, column in problem.columns(digits).items() if name in own}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _latency(context: tuple[Problem, Sequence[Point]], row: int) -> float | None:
    problem, points = context
    return problem.model.cycle_latency_s(points[row])
