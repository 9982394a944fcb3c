"""Which field moves which objective: elasticities around the front, one step of each field up and down.

Elasticity e: one percent more of the field changes the objective by e percent. Fields that are derived follow;
conditions and constraints do not hold a step back. Knows no search.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cascadesim.simulator.explore.metrics import Floats
from cascadesim.simulator.explore.problem import Digits, Problem

_MOST_DESIGNS = 256  # of the front, evenly picked


def elasticities(problem: Problem, digits: Digits) -> dict[tuple[str, str], tuple[float, float, float]]:
    """(field, objective) -> 10th percentile, median, 90th percentile over the front; fields of numbers only."""
    chosen = digits[np.unique(np.linspace(0, len(digits) - 1, min(len(digits), _MOST_DESIGNS)).astype(int))]
    found: dict[tuple[str, str], tuple[float, float, float]] = {}
    if not len(chosen):
        return found
    for number, field in enumerate(problem.fields):
        if len(field.values) > 1 and field.column.dtype.kind in "iuf" and field.column.min() > 0:
            for name, slopes in _slopes(problem, chosen, number).items():
                if slopes.size:
                    low, middle, high = np.percentile(slopes, [10, 50, 90]).tolist()
                    found[field.name, name] = (low, middle, high)
    return found


def _slopes(problem: Problem, digits: Digits, number: int) -> Mapping[str, Floats]:
    """Of each design, over the widest step that the field has around it."""
    most = len(problem.fields[number].values) - 1
    below, above = digits.copy(), digits.copy()
    below[:, number] = np.maximum(below[:, number] - 1, 0)
    above[:, number] = np.minimum(above[:, number] + 1, most)
    values = problem.fields[number].column.astype(np.float64)
    run = np.log(values[above[:, number]] / values[below[:, number]])
    figures = [{**problem.columns(step), **problem.figures(step)} for step in (below, above)]
    found = {}
    for metric in problem.objectives:
        low, high = (each[metric.name].astype(np.float64) for each in figures)
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = np.log(high / low) / run
        found[metric.name] = slopes[np.isfinite(slopes)]
    return found
