"""Exact polynomials over names: sums of products such as `H*M*P/2 + M0` or the coordinate `m1*M0+m0`.

Counts, sizes and coordinates are all written in them: added, multiplied, substituted, evaluated and written as text.
A name is an extent, a rank (lower case), a quotient rounded up (`ceil(H/G)`) or a count without a closed form
(`#(m1 < 2*p)`); whoever evaluates gives its value. Knows nothing of tensors. Replaces SymPy and its 200 ms import.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Extent, Factor, Index, walk
from cascadesim.einsum_cascades.notation.operators import scattered_extents

Monomial: TypeAlias = tuple[str, ...]  # sorted names, a power repeats its name
Number: TypeAlias = int | Fraction


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Polynomial:
    """`sum of coefficient * product of names`, in order of appearance; falsy where it is 0."""

    terms: Mapping[Monomial, Number] = field(default_factory=dict)

    def __add__(self, other: Polynomial | Number) -> Polynomial:
        total = dict(self.terms)
        for names, coefficient in polynomial(other).terms.items():
            total[names] = total.get(names, 0) + coefficient
        return Polynomial({names: value for names, value in total.items() if value})

    __radd__ = __add__

    def __mul__(self, other: Polynomial | Number) -> Polynomial:
        total: dict[Monomial, Number] = {}
        others = polynomial(other).terms
        for names, coefficient in self.terms.items():
            for other_names, other_coefficient in others.items():
                both = tuple(sorted(names + other_names))
                total[both] = total.get(both, 0) + coefficient * other_coefficient
        return Polynomial({names: value for names, value in total.items() if value})

    __rmul__ = __mul__

    def __neg__(self) -> Polynomial:
        return self * -1

    def __sub__(self, other: Polynomial | Number) -> Polynomial:
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
    def ranks(self) -> tuple[str, ...]:
        """Those of its names that are ranks."""
        return tuple(name for name in self.names if name.islower())

    def value(self, values: Mapping[str, Number]) -> Number:
        """The exact value. Raises KeyError with the first name that `values` does not have."""
        return sum(coefficient * prod(values[name] for name in names) for names, coefficient in self.terms.items())

    def bound(self, values: Mapping[str, int]) -> int:
        """The value of a count, which is whole even where its terms have halves. Raises KeyError as `value` does."""
        return int(self.value(values))

    def over(self, values: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """The values at all points of arrays that broadcast against each other, float64. Raises KeyError."""
        total = np.zeros(())
        for names, coefficient in self.terms.items():
            total = total + float(coefficient) * prod(np.asarray(values[name], np.float64) for name in names)
        return np.asarray(total)

    def substituted(self, replacements: Mapping[str, Polynomial]) -> Polynomial:
        """The polynomial with some names replaced, each by a polynomial."""
        return sum((coefficient * product(replacements.get(name, symbol(name)) for name in names)
                    for names, coefficient in self.terms.items()), Polynomial())

    def __str__(self) -> str:
        text = ""
        for names, coefficient in sorted(self.terms.items(), key=lambda term: (-len(term[0]), term[0])):
            factors = [name if power == 1 else f"{name}^{power}" for name, power in Counter(names).items()]
            if abs(coefficient.numerator) != 1 or not names:
                factors.insert(0, str(abs(coefficient.numerator)))
            divisor = f"/{coefficient.denominator}" if coefficient.denominator != 1 else ""
            text += f"{' - ' if coefficient < 0 else ' + '}{'*'.join(factors)}{divisor}"
        return ("-" if text.startswith(" - ") else "") + text[3:] or "0"

    def __repr__(self) -> str:
        return f"Polynomial({str(self)!r})"


def polynomial(value: Polynomial | Number) -> Polynomial:
    if isinstance(value, Polynomial):
        return value
    return Polynomial({(): value} if value else {})


def symbol(name: str) -> Polynomial:
    return Polynomial({(name,): 1})


def product(factors: Iterable[Polynomial | int]) -> Polynomial:
    total = polynomial(1)
    for each in factors:
        total *= each
    return total


def factor(single: Polynomial) -> Factor:
    """The canonical Factor of a polynomial of one term: `4`, `'M0'`, `(2, 'M0')`, `('M0', 'M1')`."""
    (names, coefficient), = single.terms.items()
    if not names:
        return int(coefficient)
    if coefficient == 1:
        return names[0] if len(names) == 1 else names
    return (int(coefficient), *names)


@cache
def factor_polynomial(value: Factor) -> Polynomial:
    parts = value if isinstance(value, tuple) else (value,)
    return product(symbol(part) if isinstance(part, str) else part for part in parts)


def index_sum(index: Index) -> Polynomial:
    """The sum inside an index, without its divisor."""
    terms = (factor_polynomial(value) * symbol(rank) for rank, value in index.terms)
    return sum((*terms, *map(factor_polynomial, index.offsets)), Polynomial())


def as_index(total: Polynomial, divisor: Factor = 1) -> Index:
    """A sum in which each product has at most one rank, as a coordinate."""
    terms, offsets = [], []
    for names, coefficient in total.terms.items():
        rank = next((name for name in names if name.islower()), None)
        value = factor(Polynomial({tuple(name for name in names if name != rank): coefficient}))
        if rank is None:
            offsets.append(value)
        else:
            terms.append((rank, value))
    return Index(tuple(terms), tuple(offsets), divisor)


def substitute(index: Index, replacements: Mapping[str, Polynomial]) -> Index:
    """The index with ranks and extents replaced, those inside a gather too."""
    if index.gather is not None:
        inner = tuple(substitute(each, replacements) for each in index.gather.indices)
        return Index(gather=Access(index.gather.tensor, inner))
    divisor = factor_polynomial(index.divisor).substituted(replacements)
    return as_index(index_sum(index).substituted(replacements), factor(divisor))


def extent_names(index: Index) -> tuple[str, ...]:
    """The upper-case names that an index uses."""
    factors: Iterable[Factor] = (*(value for _, value in index.terms), *index.offsets, index.divisor)
    return tuple(dict.fromkeys(name for value in factors for name in factor_polynomial(value).names))


def extents_of(cascade: Cascade) -> tuple[str, ...]:
    """Every extent that a cascade uses, by name."""
    found = dict.fromkeys(rank.upper() for rank in cascade.ranks)
    for einsum in cascade.einsums:
        found.update({each.name: None for each in walk(einsum.expression) if isinstance(each, Extent)})
        indices = Cascade(einsum.name, (einsum,)).indices
        found.update(dict.fromkeys(name for index in indices for name in extent_names(index)))
    found.update(dict.fromkeys(name for names in scattered_extents(cascade).values() for name in names))
    return tuple(found)


def index_text(index: Index) -> str:
    """The index as the notation writes it."""
    if index.gather is not None:
        return access_text(index.gather)
    terms = index_sum(index).terms
    text = "".join(_signed(*term) for term in terms.items()).removeprefix("+") or "0"
    if index.divisor == 1:
        return text
    (term,) = factor_polynomial(index.divisor).terms.items()
    divisor = _signed(*term).removeprefix("+")
    dividend = f"({text})" if len(terms) > 1 or "*" in text or text.startswith("-") else text
    return f"{dividend}//({divisor})" if "*" in divisor else f"{dividend}//{divisor}"


def access_text(access: Access) -> str:
    return f"{access.tensor}[{','.join(map(index_text, access.indices))}]"


def _signed(names: Monomial, coefficient: Number) -> str:
    """`+2*m1*M0`: the sign, the number unless it is 1, the rank, the extents."""
    factors = sorted(names, key=str.isupper)
    if abs(coefficient) != 1 or not factors:
        factors.insert(0, str(abs(coefficient)))
    return ("-" if coefficient < 0 else "+") + "*".join(factors)
