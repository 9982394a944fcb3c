"""Index arithmetic: coordinates as sums of products, evaluated, substituted and written back as text.

Knows nothing of tensors or of the notation's lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cascadesim.einsum_cascades.notation.ir import Factor, Index

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Affine:
    """`sum of coefficient * product of extents * rank` (rank '' for the constant part), in order of appearance."""

    parts: Mapping[tuple[str, Names], int] = field(default_factory=dict)

    def __add__(self, other: Affine) -> Affine:
        parts = dict(self.parts)
        for key, coefficient in other.parts.items():
            parts[key] = parts.get(key, 0) + coefficient
        return Affine({key: coefficient for key, coefficient in parts.items() if coefficient})

    def __mul__(self, other: Affine) -> Affine:
        """Raises ValueError where two ranks meet: `m*p` is no affine coordinate."""
        total = Affine()
        for (rank, names), coefficient in self.parts.items():
            for (other_rank, other_names), other_coefficient in other.parts.items():
                if rank and other_rank:
                    raise ValueError(f"'{rank}*{other_rank}' multiplies two ranks")
                key = (rank or other_rank, tuple(sorted(names + other_names)))
                total = total + Affine({key: coefficient * other_coefficient})
        return total

    def negated(self) -> Affine:
        return Affine({key: -coefficient for key, coefficient in self.parts.items()})

    def index(self, divisor: Factor = 1) -> Index:
        terms = tuple((rank, factor(value, names)) for (rank, names), value in self.parts.items() if rank)
        offsets = tuple(factor(value, names) for (rank, names), value in self.parts.items() if not rank)
        return Index(terms, offsets, divisor)


def number(value: int) -> Affine:
    return Affine({("", ()): value} if value else {})


def extent(name: str) -> Affine:
    return Affine({("", (name,)): 1})


def rank(name: str) -> Affine:
    return Affine({(name, ()): 1})


def factor(coefficient: int, names: Names) -> Factor:
    """The canonical Factor of a product: `4`, `'M0'`, `(2, 'M0')`, `('M0', 'M1')`."""
    if not names:
        return coefficient
    if coefficient == 1:
        return names[0] if len(names) == 1 else names
    return (coefficient, *names)


def factor_parts(value: Factor) -> tuple[int, Names]:
    """Coefficient and extent names of a Factor."""
    if isinstance(value, int):
        return value, ()
    if isinstance(value, str):
        return 1, (value,)
    names = tuple(part for part in value if isinstance(part, str))
    return next((part for part in value if isinstance(part, int)), 1), names


def affine(index: Index) -> Affine:
    """The sum inside an index, without its divisor."""
    parts: dict[tuple[str, Names], int] = {}
    for name, value in (*index.terms, *(("", offset) for offset in index.offsets)):
        coefficient, names = factor_parts(value)
        parts[name, names] = coefficient
    return Affine(parts)


def substitute(index: Index, ranks: Mapping[str, Affine], extents: Mapping[str, Affine]) -> Index:
    """The index with ranks and extents replaced; a gather is the caller's to rewrite."""
    if index.gather is not None:
        return index
    total = Affine()
    for (name, names), coefficient in affine(index).parts.items():
        product = number(coefficient) * (ranks.get(name, rank(name)) if name else number(1))
        for each in names:
            product = product * extents.get(each, extent(each))
        total = total + product
    return total.index(_substituted_divisor(index.divisor, extents))


def _substituted_divisor(divisor: Factor, extents: Mapping[str, Affine]) -> Factor:
    coefficient, names = factor_parts(divisor)
    product = number(coefficient)
    for each in names:
        product = product * extents.get(each, extent(each))
    ((_, factor_names), value), = product.parts.items()
    return factor(value, factor_names)


def factor_value(value: Factor, extents: Mapping[str, int]) -> int:
    """Raises KeyError with the first extent that is not bound."""
    coefficient, names = factor_parts(value)
    for name in names:
        coefficient *= extents[name]
    return coefficient


def extent_names(index: Index) -> tuple[str, ...]:
    """Upper-case names that an index uses."""
    factors: Iterable[Factor] = (*(value for _, value in index.terms), *index.offsets, index.divisor)
    return tuple(dict.fromkeys(name for value in factors for name in factor_parts(value)[1]))


def index_text(index: Index) -> str:
    """The index as the notation writes it; a gather is the caller's to write."""
    total = affine(index)
    text = "".join(_signed(part, coefficient) for part, coefficient in total.parts.items()).removeprefix("+") or "0"
    if index.divisor == 1:
        return text
    coefficient, names = factor_parts(index.divisor)
    divisor = "*".join(([str(coefficient)] if coefficient != 1 or not names else []) + list(names))
    dividend = f"({text})" if len(total.parts) > 1 or "*" in text or text.startswith("-") else text
    return f"{dividend}//({divisor})" if "*" in divisor else f"{dividend}//{divisor}"


def _signed(part: tuple[str, Names], coefficient: int) -> str:
    name, names = part
    factors = ([name] if name else []) + list(names)
    if abs(coefficient) != 1 or not factors:
        factors.insert(0, str(abs(coefficient)))
    return ("-" if coefficient < 0 else "+") + "*".join(factors)
