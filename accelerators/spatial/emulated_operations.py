"""Operations that an array has no unit for, made of those that it has: one table, a reason beside each row.

Good to half precision (11 bits), the width of the words. The exponential itself is the accelerator's business (a
unit, or multiply-accumulates). Knows no cascade and no time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from cascadesim.accelerators.spec import Operations
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

MADE_OF: Mapping[str, Mapping[str, int]] = MappingProxyType({
    "multiply": {"mac": 1},  # a multiply-accumulate onto zero
    "min": {"max": 1},  # the same comparator, the other operand kept
    "compare": {"max": 1},  # the same comparator, its sign kept
    # assumed: linear seed on the mantissa (error < 4 %), two Newton steps (y + x/y) / 2 (each squares the error)
    "sqrt": {"mac": 3, "divide": 2},
    # assumed: exponent plus a polynomial of the mantissa, of degree 5 as FuseMax's exponential (section V)
    "log": {"mac": 6, "add": 1},
    # assumed: 1 - 2 / (exp(2x) + 1), exact
    "tanh": {"exp": 1, "add": 1, "mac": 2, "divide": 1},
    # assumed: Abramowitz and Stegun 7.1.25 (error < 2.5e-5): 1 - (a1 t + a2 t^2 + a3 t^3) exp(-x^2), t = 1 / (1 + p x)
    "erf": {"mac": 6, "divide": 1, "exp": 1},
    # assumed: range reduction in two multiply-accumulates, odd polynomial of degree 5
    "sin": {"mac": 6},
    # assumed: range reduction in two multiply-accumulates, even polynomial of degree 6
    "cos": {"mac": 6},
})


def in_classes_of(array: Operations, operations: Mapping[str, int], where: str) -> Counter[str]:
    """`operations` in the classes that the array does. Raises CascadeSimError on one it cannot do at all."""
    counts: Counter[str] = Counter()
    for name, count in operations.items():
        if name in array.cycles:
            counts[name] += count
        elif name in MADE_OF:
            for part, times in in_classes_of(array, MADE_OF[name], where).items():
                counts[part] += times * count
        else:
            raise CascadeSimError(f"{where}: no unit does '{name}'; it does {', '.join(array.cycles)}")
    return counts
