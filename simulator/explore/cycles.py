"""Designs once more, cycle by cycle: how far the closed form was from the simulation.

Knows designs and the model; no search, no files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from cascadesim.simulator.explore.metrics import Floats, with_following
from cascadesim.simulator.explore.models import Point
from cascadesim.simulator.explore.problem import Digits, Problem
from cascadesim.simulator.explore.search import Watch
from cascadesim.simulator.explore.workers import EngineName, Job, run


def cycle_figures(
    problem: Problem, digits: Digits, workers: int, engine: EngineName, watch: Watch | None = None
) -> dict[str, Floats]:
    """Every metric of the designs at cycle level; nan where one cannot be."""
    points = points_of(problem, digits)
    job = Job(_quantities, (problem, points))
    found: dict[int, Mapping[str, float]] = {}
    here = range(min(len(points), 1))  # one, in this process: what it compiles, processes forked from it need not
    for row, quantities in chain(run(job, here, 1, "local"), run(job, range(len(here), len(points)), workers, engine)):
        found[row] = quantities
        if watch is not None:
            watch(len(found), len(points))
    names = problem.model.given
    columns = {name: np.array([found[row].get(name, np.nan) for row in range(len(points))]) for name in names}
    return with_following(columns)


def points_of(problem: Problem, digits: Digits) -> list[Point]:
    """Each design as the fields of the model that it changes."""
    own = problem.model.fields
    columns = {name: column.tolist() for name, column in problem.columns(digits).items() if name in own}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _quantities(context: tuple[Problem, Sequence[Point]], row: int) -> dict[str, float]:
    problem, points = context
    return problem.model.cycle_quantities(points[row])
