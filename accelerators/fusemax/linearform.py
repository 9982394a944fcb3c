"""Counts as sums of projections, so that one count of a loop nest serves every extent.

A LinearForm stands where the counting engine expects a number of words; it is evaluated for arrays of designs later.
Knows no loops and no hardware.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LinearForm:
    """Whole multiples of the sizes of projections, each named by its loops."""

    terms: Mapping[frozenset[str], int] = field(default_factory=dict)

    def __add__(self, other: LinearForm | int) -> LinearForm:
        return self._combined(other, 1)

    __radd__ = __add__

    def __sub__(self, other: LinearForm | int) -> LinearForm:
        return self._combined(other, -1)

    def __bool__(self) -> bool:
        return bool(self.terms)

    def _combined(self, other: LinearForm | int, sign: int) -> LinearForm:
        if isinstance(other, int):
            if other != 0:
                raise TypeError(f"a sum of projections and the number {other} do not add up")
            return self
        sums = Counter(dict(self.terms))
        for loops, times in other.terms.items():
            sums[loops] += sign * times
        return LinearForm({loops: times for loops, times in sums.items() if times})

    def evaluate(self, size: Callable[[frozenset[str]], Floats]) -> Floats:
        total = np.zeros(())
        for loops, times in self.terms.items():
            total = total + times * size(loops)
        return total
