"""Exact Pareto fronts: the designs that no other design beats in every objective. Costs only, smaller is better.

Of designs with equal costs the first one stays. One and two objectives by sorting, three by a staircase over the
sorted designs, more against the front found so far; all in lexicographic order, in which nothing later beats anything
earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.catalogue import Floats

Rows: TypeAlias = NDArray[np.intp]
_WORTH_FILTERING = 4096  # designs from which a few strong ones are tried on all others first


def front(costs: Floats) -> Rows:
    """Rows of the front, in the order given. `costs`: (designs, objectives) float64, finite."""
    rows = _not_beaten_by_strong(costs) if len(costs) >= _WORTH_FILTERING else np.arange(len(costs))
    if not len(rows):
        return rows
    costs = costs[rows]
    order = np.lexsort(costs.T[::-1])  # by the first objective, then the second, ...; equal ones in the order given
    ordered = np.ascontiguousarray(costs[order])
    objectives = costs.shape[1]
    if objectives == 1:
        kept = order[:1]
    elif objectives == 2:  # better in the second objective than everything before
        kept = order[ordered[:, 1] < np.concatenate([[np.inf], np.minimum.accumulate(ordered[:, 1])[:-1]])]
    else:
        kept = order[_kernel(objectives)(ordered)]
    found: Rows = np.sort(rows[kept])
    return found


def _not_beaten_by_strong(costs: Floats) -> Rows:
    """Rows that a few good compromises do not beat: nearly all others go in a few linear passes.

    Compromises are sought among costs from 0 to 1 in each objective, by the logarithm where costs are positive.
    """
    scaled = np.zeros_like(costs)
    for number, column in enumerate(costs.T):
        values = np.log(column) if column.min() > 0 else column
        low, high = values.min(), values.max()
        if high > low:
            scaled[:, number] = (values - low) / (high - low)
    objectives = costs.shape[1]
    rows = np.arange(len(costs))
    for weight in np.concatenate([np.ones((1, objectives)), np.eye(objectives) * 3 + 0.25]):
        pivot, left = costs[int(np.argmin(scaled @ weight))], costs[rows]
        no_better, equal = np.ones(len(rows), dtype=bool), np.ones(len(rows), dtype=bool)
        for own, column in zip(pivot, left.T, strict=True):  # faster than along rows of a few objectives
            no_better &= column >= own
            equal &= column == own
        rows = rows[~(no_better & ~equal)]
    return rows


@cache
def _kernel(objectives: int) -> Callable[[Floats], NDArray[np.bool_]]:
    from cascadesim.accelerators.compiled import compiled_entry  # brings numba: not for one or two objectives

    which, function = ("three", _three) if objectives == 3 else ("many", _many)
    return compiled_entry(f"the front of {which} objectives", about_s=2, allocates=True)(function)


def _three(costs: Floats) -> NDArray[np.bool_]:
    """Which designs, in lexicographic order, are on the front: a staircase of the second and third costs before each.

    `steps`: (second, third) costs that nothing before beats; second costs rise along them, third ones fall. Compiled.
    """
    size = costs.shape[0]
    kept = np.zeros(size, np.bool_)
    second, third = np.empty(size), np.empty(size)
    steps = 0
    for row in range(size):
        y, z = costs[row, 1], costs[row, 2]
        place = np.searchsorted(second[:steps], y, side="right")
        if place > 0 and third[place - 1] <= z:
            continue
        kept[row] = True
        start = place - 1 if place > 0 and second[place - 1] == y else place
        stop = place
        while stop < steps and third[stop] >= z:
            stop += 1
        end = start + 1 + steps - stop
        if end != steps:  # the steps that stay move up or down
            second[start + 1 : end], third[start + 1 : end] = second[stop:steps].copy(), third[stop:steps].copy()
        second[start], third[start] = y, z
        steps = end
    return kept


def _many(costs: Floats) -> NDArray[np.bool_]:
    """Which designs, in lexicographic order, no one before is as good as everywhere. Compiled.

    One that beats a design is tried first on the next.
    """
    size, objectives = costs.shape
    kept = np.zeros(size, np.bool_)
    best = np.empty(size, np.int64)
    found = 0
    for row in range(size):
        beaten = False
        for place in range(found):
            other = best[place]
            no_worse = True
            for objective in range(1, objectives):  # the first one is no worse: that is the order
                if costs[other, objective] > costs[row, objective]:
                    no_worse = False
                    break
            if no_worse:
                beaten = True
                best[place], best[place // 2] = best[place // 2], best[place]
                break
        if not beaten:
            kept[row] = True
            best[found] = row
            found += 1
    return kept
