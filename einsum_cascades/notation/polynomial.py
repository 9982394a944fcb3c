"""Exact polynomials in extents: sums of products such as `H*M*P/2 + M0`, added, multiplied, bound, written.

Knows nothing of cascades. A name may also be a quotient rounded up (`ceil(H/G)`) or a count that has
no closed form (`#(m1 < 2*p)`); whoever binds it gives its value. A few lines instead of SymPy's 200 ms import.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from types import MappingProxyType
from typing import TypeAlias

Monomial: TypeAlias = tuple[str, ...]  # sorted names, a power repeats its name


@dataclass(frozen=True, slots=True)
class Polynomial:
    """`sum of coefficient * product of names`; falsy where it is 0."""

    terms: Mapping[Monomial, Fraction] = field(default_factory=dict)

    def __add__(self, other: Polynomial | int) -> Polynomial:
        total = dict(self.terms)
        for names, coefficient in polynomial(other).terms.items():
            total[names] = total.get(names, Fraction(0)) + coefficient
        return Polynomial(MappingProxyType({names: value for names, value in total.items() if value}))

    __radd__ = __add__

    def __mul__(self, other: Polynomial | int | Fraction) -> Polynomial:
        total = Polynomial()
        for names, coefficient in self.terms.items():
            for other_names, other_coefficient in polynomial(other).terms.items():
                key = tuple(sorted(names + other_names))
                total += Polynomial(MappingProxyType({key: coefficient * other_coefficient}))
        return total

    __rmul__ = __mul__

    def __sub__(self, other: Polynomial | int) -> Polynomial:
        return self + polynomial(other) * -1

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial | int) and dict(self.terms) == dict(polynomial(other).terms)

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for names in self.terms for name in names))

    @property
    def degree(self) -> int:
        return max(map(len, self.terms), default=0)

    def bound(self, values: Mapping[str, int]) -> int:
        """The number, all names given. Raises KeyError with the first that is not."""
        total = sum((coefficient * prod(values[name] for name in names) for names, coefficient in self.terms.items()),
                    Fraction(0))
        return int(total)  # counts are whole, whatever their halves

    def __str__(self) -> str:
        ordered = sorted(self.terms.items(), key=lambda term: (-len(term[0]), term[0]))
        text = "".join(_signed(names, coefficient) for names, coefficient in ordered)
        return ("-" if text.startswith(" - ") else "") + text[3:] or "0"

    def __repr__(self) -> str:
        return f"Polynomial({str(self)!r})"


def polynomial(value: Polynomial | int | Fraction) -> Polynomial:
    if isinstance(value, Polynomial):
        return value
    return Polynomial(MappingProxyType({(): Fraction(value)} if value else {}))


def symbol(name: str) -> Polynomial:
    return Polynomial(MappingProxyType({(name,): Fraction(1)}))


def product(factors: Iterable[Polynomial | int]) -> Polynomial:
    total = polynomial(1)
    for factor in factors:
        total *= factor
    return total


def _signed(names: Monomial, coefficient: Fraction) -> str:
    powers = [name if power == 1 else f"{name}^{power}" for name, power in Counter(names).items()]
    size = abs(coefficient)
    factors = ([str(size.numerator)] if size.numerator != 1 or not powers else []) + powers
    text = "*".join(factors) + (f"/{size.denominator}" if size.denominator != 1 else "")
    return (" - " if coefficient < 0 else " + ") + text
