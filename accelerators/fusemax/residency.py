"""P1 for many designs at once: how many query tiles stay in the buffer, by the rule of `mapping.resident_tiles`.

Whole numbers in float64. Knows tiles only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def ceil_div(numerator: Floats, denominator: Floats) -> Floats:
    """Exact: the quotient of whole numbers below 2^53 rounds to a whole number only where it is one."""
    result: Floats = np.ceil(numerator / denominator)
    return result


def resident_tiles(tiles: Floats, buffer_tiles: Floats) -> Floats:
    """The largest divisor of `tiles` that fits, or the balanced split where that divisor is below half of what fits.

    The divisor is tiles / q for the smallest q from tiles / fits on that divides; q below twice that bound suffices.
    """
    fits = np.minimum(tiles, buffer_tiles)
    groups = ceil_div(tiles, fits)
    resident = ceil_div(tiles, groups)  # balanced, and right already where it divides
    open_points = np.flatnonzero(resident * groups != tiles)
    open_tiles, open_fits, divisor = tiles[open_points], fits[open_points], groups[open_points]
    while open_points.size:
        divisor = divisor + 1
        split = open_tiles / divisor
        found = split == np.floor(split)
        found &= 2 * split >= open_fits
        resident[open_points[found]] = split[found]
        searching = ~found & (2 * split >= open_fits)
        open_points, open_tiles = open_points[searching], open_tiles[searching]
        open_fits, divisor = open_fits[searching], divisor[searching]
    return resident
