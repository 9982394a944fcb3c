"""Operations and sizes of a cascade as exact polynomials in its extents, and as whole numbers where they are bound.

Counts points of iteration spaces; what one point costs is said by `operations`. Points outside the conditions of a
causal or windowed Einsum cost nothing. Closed forms exist for boxes and for triangles (`m <= p + M - P`, exact where
the triangle lies inside the box, P <= M); any other condition is a named count, exact once extents are bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.rank_groups import all_accesses, partition
from cascadesim.einsum_cascades.notation.affine import factor_parts, factor_value
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Condition, Einsum, Factor, Index
from cascadesim.einsum_cascades.notation.operators import charges, kept_rank
from cascadesim.einsum_cascades.notation.polynomial import Polynomial, polynomial, product, symbol
from cascadesim.einsum_cascades.notation.printer import condition_text

Extents: TypeAlias = Mapping[str, int]  # by their names, in upper case
Grid: TypeAlias = Mapping[str, NDArray[np.int64]]
Arrays: TypeAlias = Mapping[str, NDArray[np.int64]]  # of tensors that hold coordinates
Gathered: TypeAlias = Callable[[Access], NDArray[np.int64]]  # the coordinates that a tensor holds, on a grid

_COMPARE: Mapping[str, np.ufunc] = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal,
}
_NO_ARRAYS: Arrays = {}
_MOST_POINTS = 50_000_000  # of the ranks in conditions that are counted one by one
_LARGE, _SMALL = 1 << 20, 1 << 8  # an extent and an inner extent such as M0, where only growth is compared


@dataclass(frozen=True, slots=True)
class Triangle:
    """Pairs `small < large + first` of two ranks: what one causal condition leaves of their box."""

    small: Polynomial  # extents of the two ranks
    large: Polynomial
    first: Polynomial  # values of `small` that go with `large` = 0

    @property
    def points(self) -> Polynomial | None:
        """In closed form where the last row ends at the corner of the box (a box at least as long as the triangle)."""
        if self.first + self.large not in (self.small, self.small + 1):
            return None
        return self.large * self.first + self.large * (self.large - 1) * Fraction(1, 2)

    def bound(self, extents: Extents) -> int:
        small, large, first = (each.bound(extents) for each in (self.small, self.large, self.first))
        return int(np.clip(np.arange(large, dtype=np.int64) + first, 0, small).sum())


def _triangle(conditions: Sequence[Condition]) -> Triangle | None:
    if len(conditions) != 1 or conditions[0].comparison in ("==", "!="):
        return None
    condition = conditions[0]
    swap = condition.comparison in (">", ">=")
    sides = (condition.right, condition.left) if swap else (condition.left, condition.right)
    small, large = map(_line, sides)
    if small is None or large is None or set(sides[0].ranks) & set(sides[1].ranks):
        return None
    return Triangle(small[0], large[0], large[1] - small[1] + (1 if "=" in condition.comparison else 0))


def _line(index: Index) -> tuple[Polynomial, Polynomial] | None:
    """Extent and offset of `rank + offset` or `m1*M0+m0 + offset`."""
    bare = Index(index.terms)
    ranks = (bare.rank,) if bare.rank else partition(bare)
    if index.divisor != 1 or index.gather is not None or ranks is None:
        return None
    offset = sum((factor_polynomial(each) for each in index.offsets), Polynomial())
    return product(extent(str(rank)) for rank in ranks), offset


@dataclass(frozen=True, slots=True)
class Region:
    """The points of a box of ranks where all conditions hold."""

    ranks: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()

    @property
    def tested(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(rank for each in self.conditions for rank in each.left.ranks + each.right.ranks))

    @property
    def points(self) -> Polynomial:
        free = product(extent(rank) for rank in self.ranks if rank not in self.tested)
        if not self.conditions:
            return free
        triangle = _triangle(self.conditions)
        closed = triangle.points if triangle else None
        return free * (symbol(self._name) if closed is None else closed)

    @property
    def _name(self) -> str:
        tests = (condition_text(each) for each in self.conditions)
        return f"#({', '.join(tests)})"

    def bound(self, extents: Extents, arrays: Arrays = _NO_ARRAYS) -> int:
        """Exact for all extents, triangles that leave their box included. `arrays`: coordinates in conditions."""
        free = product(extent(rank) for rank in self.ranks if rank not in self.tested).bound(extents)
        triangle = _triangle(self.conditions)
        if triangle is not None:
            return free * triangle.bound(extents)
        return free * (self._one_by_one(extents, arrays) if self.conditions else 1)

    def _one_by_one(self, extents: Extents, arrays: Arrays) -> int:
        sizes = [extents[rank.upper()] for rank in self.tested]
        if prod(sizes) > _MOST_POINTS:
            raise CascadeSimError(f"too many points to count {self._name[1:]}: {sizes}, at most {_MOST_POINTS:,}")
        grid = dict(zip(self.tested, np.ogrid[tuple(slice(size) for size in sizes)], strict=True))

        def gathered(access: Access) -> NDArray[np.int64]:
            if access.tensor not in arrays:
                return _not_known(access)
            found = arrays[access.tensor][tuple(coordinates(index, grid, extents) for index in access.indices)]
            return np.asarray(found, dtype=np.int64)

        return int(np.count_nonzero(np.broadcast_to(holds(self.conditions, grid, extents, gathered), sizes)))


def _not_known(access: Access) -> NDArray[np.int64]:
    raise CascadeSimError(f"a condition compares coordinates that {access.tensor} holds: its array is needed")


def holds(
    conditions: Sequence[Condition], grid: Grid, extents: Extents, gathered: Gathered = _not_known
) -> NDArray[np.bool_]:
    """Where on a grid of rank variables all conditions hold."""
    result: NDArray[np.bool_] = np.asarray(True)
    for each in conditions:
        left, right = (
            coordinates(side, grid, extents) if side.gather is None else gathered(side.gather)
            for side in (each.left, each.right)
        )
        result = result & _COMPARE[each.comparison](left, right)
    return result


def coordinates(index: Index, grid: Grid, extents: Extents) -> NDArray[np.int64]:
    """Values of an affine index on a grid of rank variables."""
    total: NDArray[np.int64] = np.asarray(sum(factor_value(offset, extents) for offset in index.offsets), np.int64)
    for rank, factor in index.terms:
        total = total + grid[rank] * factor_value(factor, extents)
    return total // factor_value(index.divisor, extents)


def extent(rank: str) -> Polynomial:
    """The size of a rank: its letter in upper case."""
    return symbol(rank.upper())


def factor_polynomial(value: Factor) -> Polynomial:
    coefficient, names = factor_parts(value)
    return polynomial(coefficient) * product(symbol(name) for name in names)


def operations(einsum: Einsum) -> dict[str, Polynomial]:
    """Operations of an Einsum by class, as polynomials; empty where it only copies."""
    return _total((counts, region.points) for counts, region in charged_regions(einsum))


def bound_operations(einsum: Einsum, extents: Extents, arrays: Arrays = _NO_ARRAYS) -> dict[str, int]:
    """The same as whole numbers. Raises CascadeSimError where an extent, or an array in a condition, is not given."""
    regions = list(charged_regions(einsum))
    with _named(einsum.name):
        total = _total((counts, polynomial(region.bound(extents, arrays))) for counts, region in regions)
    return {name: count.bound({}) for name, count in total.items()}


def charged_regions(einsum: Einsum) -> Iterator[tuple[Mapping[str, int], Region]]:
    ranks = tuple(rank for rank in einsum.ranks if rank != kept_rank(einsum))
    for charge in charges(einsum):
        yield charge.operations, Region(ranks, charge.conditions)


def _total(charged: Iterable[tuple[Mapping[str, int], Polynomial]]) -> dict[str, Polynomial]:
    total: dict[str, Polynomial] = {}
    for counts, points in charged:
        for name, count in counts.items():
            total[name] = total.get(name, Polynomial()) + points * count
    return {name: count for name, count in total.items() if count}


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise CascadeSimError(f"{what}: the extent {error.args[0]} is not given") from None


def tensor_size(cascade: Cascade, tensor: str) -> Polynomial:
    """Elements of a tensor: of an input, as far as it is read; of a result, as far as it is written."""
    uses = [access for _, access in all_accesses(cascade) if access.tensor == tensor]
    written = [einsum.output for einsum in cascade.einsums if einsum.name == tensor]
    return product(_dimension([each.indices[place] for each in written or uses])
                   for place, _ in enumerate(uses[0].indices))


def _dimension(indices: Sequence[Index]) -> Polynomial:
    """One more than the largest coordinate that any of the indices reaches; of gathered ones, how many a fiber has."""
    return largest([reach(index) if index.gather is None else product(map(extent, index.gather.ranks[-1:]))
                    for index in indices])


def largest(sizes: Sequence[Polynomial]) -> Polynomial:
    """The polynomial that is largest where extents are large (and inner extents of a partition are smaller)."""
    return max(sizes, key=_magnitude)


def _magnitude(size: Polynomial) -> int:
    return size.bound({name: _SMALL if name.endswith("0") else _LARGE for name in size.names})


@cache
def reach(index: Index) -> Polynomial:
    """One more than the largest coordinate of an index."""
    size = sum((factor_polynomial(offset) for offset in index.offsets), polynomial(1))
    for rank, factor in index.terms:
        if factor_parts(factor)[0] > 0:  # backwards, the largest coordinate is at 0
            size += factor_polynomial(factor) * (extent(rank) - 1)
    return size if index.divisor == 1 else _quotient(size, factor_polynomial(index.divisor))


def _quotient(size: Polynomial, divisor: Polynomial) -> Polynomial:
    return symbol(f"ceil({size}/{divisor})")


def bound(count: Polynomial, extents: Extents) -> int:
    """A polynomial as a number. Raises CascadeSimError where an extent is not given."""
    with _named(str(count)):
        values = {name: _name_value(name, extents) for name in count.names}
        return count.bound(values)


def _name_value(name: str, extents: Extents) -> int:
    if not name.startswith("ceil("):
        return extents[name]
    whole, _, divisor = name.removeprefix("ceil(").removesuffix(")").rpartition("/")
    return -(-_product_value(whole, extents) // _product_value(divisor, extents))


def _product_value(text: str, extents: Extents) -> int:
    return prod(int(factor) if factor.isdigit() else extents[factor] for factor in text.split("*"))
