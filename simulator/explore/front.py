"""Exact Pareto fronts: the designs that no other design beats in every objective. Costs only, smaller is better.

Of designs with equal costs the first one stays. One and two objectives by sorting, three by a staircase over the
sorted designs, more against the front found so far; all in lexicographic order, in which nothing later beats anything
earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cascadesim.simulator.explore.metrics import Floats

Rows = NDArray[np.intp]
_WORTH_FILTERING = 4096  # designs from which a few strong ones are tried on all others first


def front(costs: Floats) -> Rows:
    """Rows of the front, in the order given. `costs`: designs x objectives, finite."""
    rows = _not_beaten_by_strong(costs) if len(costs) >= _WORTH_FILTERING else np.arange(len(costs))
    found: Rows = np.sort(rows[_front(costs[rows])])
    return found


def _front(costs: Floats) -> Rows:
    order = np.lexsort(costs.T[::-1])  # by the first objective, then the second, ...; equal ones in the order given
    ordered = np.ascontiguousarray(costs[order])
    objectives = costs.shape[1]
    if objectives == 1:
        kept: Rows = order[:1]
    elif objectives == 2:
        kept = order[_two(ordered[:, 1])]
    else:
        kernel = _kernels()[0 if objectives == 3 else 1]
        kept = order[kernel(ordered)]
    return kept


def _two(second: Floats) -> NDArray[np.bool_]:
    """Better in the second objective than everything before."""
    best = np.concatenate([[np.inf], np.minimum.accumulate(second)[:-1]])
    found: NDArray[np.bool_] = second < best
    return found


def _not_beaten_by_strong(costs: Floats) -> Rows:
    """Rows that a few good compromises do not beat: nearly all others go in a few linear passes."""
    least, most = costs.min(axis=0), costs.max(axis=0)
    scaled = _scaled(costs, least, most)
    weights = np.concatenate([np.ones((1, costs.shape[1])), np.eye(costs.shape[1]) * 3 + 0.25])
    rows = np.arange(len(costs))
    for weight in weights:
        pivot = costs[int(np.argmin(scaled @ weight))]
        rows = rows[~_beaten_by(pivot, costs[rows])]
    return rows


def _beaten_by(pivot: Floats, costs: Floats) -> NDArray[np.bool_]:
    """Column by column, which is faster than along rows of a few objectives."""
    no_better, equal = np.ones(len(costs), dtype=bool), np.ones(len(costs), dtype=bool)
    for own, column in zip(pivot, costs.T, strict=True):
        no_better &= column >= own
        equal &= column == own
    found: NDArray[np.bool_] = no_better & ~equal
    return found


def _scaled(costs: Floats, least: Floats, most: Floats) -> Floats:
    """0 to 1 in each objective, by the logarithm where costs are positive."""
    columns = []
    for column, low, high in zip(costs.T, least, most, strict=True):
        values, low, high = (np.log(column), np.log(low), np.log(high)) if low > 0 else (column, low, high)
        columns.append((values - low) / (high - low) if high > low else np.zeros(len(costs)))
    return np.stack(columns, axis=1)


@cache
def _kernels() -> tuple[Callable[[Floats], NDArray[np.bool_]], Callable[[Floats], NDArray[np.bool_]]]:
    """Compiled on first use."""
    from cascadesim.simulator.explore.front_compiled import many, three

    return three, many
