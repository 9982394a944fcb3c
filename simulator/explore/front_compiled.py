"""The compiled halves of `front`: designs in lexicographic order in, which of them are on the front out.

Knows costs only. Three objectives: a staircase of the second and third ones of everything before. More: every design
against the front found so far.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.compiled import compiled_entry

Floats = NDArray[np.float64]


@compiled_entry("the front of three objectives", about_s=2, allocates=True)
def three(costs: Floats) -> NDArray[np.bool_]:
    """`steps`: (second, third) costs that nothing before beats; second costs rise along them, third ones fall."""
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
        moved = steps - stop
        shift = start + 1 - stop
        if shift > 0:
            for step in range(moved - 1, -1, -1):
                second[stop + step + shift], third[stop + step + shift] = second[stop + step], third[stop + step]
        elif shift < 0:
            for step in range(moved):
                second[stop + step + shift], third[stop + step + shift] = second[stop + step], third[stop + step]
        second[start], third[start] = y, z
        steps = start + 1 + moved
    return kept


@compiled_entry("the front of many objectives", about_s=2, allocates=True)
def many(costs: Floats) -> NDArray[np.bool_]:
    """A design goes if one before it is no worse anywhere; such a one is then tried first on the next design."""
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
