"""Sizes of tensors and points of iteration spaces, as exact polynomials in the extents of a cascade.

What one point costs is said by `operators`; points outside the conditions of a causal or windowed Einsum cost nothing.
Closed forms exist for boxes and for triangles (`m <= p + M - P`, exact where the triangle lies inside the box, P <= M);
any other condition is a named count, which `bound_counts` counts where the extents are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.rank_groups import all_accesses, partition
from cascadesim.einsum_cascades.notation.algebra import Polynomial, factor_polynomial, polynomial, product, symbol
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Condition, Einsum, Index
from cascadesim.einsum_cascades.notation.notation import condition_text
from cascadesim.einsum_cascades.notation.operators import charges, kept_rank

Extents: TypeAlias = Mapping[str, int]  # by their names, in upper case
Grid: TypeAlias = Mapping[str, NDArray[np.int64]]
Gathered: TypeAlias = Callable[[Access], NDArray[np.int64]]  # the coordinates that a tensor holds, on a grid

_COMPARE: Mapping[str, np.ufunc] = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal,
}
_LARGE, _SMALL = 1 << 20, 1 << 8  # an extent and an inner extent such as M0, where only growth is compared


@dataclass(frozen=True, slots=True)
class Region:
    """The points of a box of ranks where all conditions hold."""

    ranks: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()

    @property
    def tested(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(rank for each in self.conditions for rank in each.ranks))

    @property
    def points(self) -> Polynomial:
        free = product(extent(rank) for rank in self.ranks if rank not in self.tested)
        if not self.conditions:
            return free
        closed = _triangle(self.conditions)
        name = f"#({', '.join(map(condition_text, self.conditions))})"
        return free * (symbol(name) if closed is None else closed)


def charged_regions(einsum: Einsum) -> Iterator[tuple[Mapping[str, int], Region]]:
    """Operations of one point, by class, and the points that cost them."""
    ranks = tuple(rank for rank in einsum.ranks if rank != kept_rank(einsum))
    for charge in charges(einsum):
        yield charge.operations, Region(ranks, charge.conditions)


def _triangle(conditions: Sequence[Condition]) -> Polynomial | None:
    """Pairs `small < large + first` that one causal condition leaves of the box of two ranks.

    In closed form where the last row ends at the corner of the box (a box at least as long as the triangle).
    """
    if len(conditions) != 1 or conditions[0].comparison in ("==", "!="):
        return None
    condition = conditions[0]
    swap = condition.comparison in (">", ">=")
    sides = (condition.right, condition.left) if swap else (condition.left, condition.right)
    below, above = map(_line, sides)
    if below is None or above is None or set(sides[0].ranks) & set(sides[1].ranks):
        return None
    (small, offset), (large, other_offset) = below, above
    first = other_offset - offset + (1 if "=" in condition.comparison else 0)
    if first + large not in (small, small + 1):
        return None
    return large * first + large * (large - 1) * Fraction(1, 2)


def _line(index: Index) -> tuple[Polynomial, Polynomial] | None:
    """Extent and offset of `rank + offset` or `m1*M0+m0 + offset`."""
    bare = Index(index.terms)
    ranks = (bare.rank,) if bare.rank else partition(bare)
    if index.divisor != 1 or index.gather is not None or ranks is None:
        return None
    return product(map(extent, ranks)), sum(map(factor_polynomial, index.offsets), Polynomial())


def _not_known(access: Access) -> NDArray[np.int64]:
    raise CascadeSimError(f"a condition compares coordinates that {access.tensor} holds: its array is needed")


def holds(
    conditions: Sequence[Condition], grid: Grid, extents: Extents, gathered: Gathered = _not_known
) -> NDArray[np.bool_]:
    """Tells where on a grid of rank variables all conditions hold."""
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
    offsets = sum(factor_polynomial(offset).bound(extents) for offset in index.offsets)
    total: NDArray[np.int64] = np.asarray(offsets, np.int64)
    for rank, factor in index.terms:
        total = total + grid[rank] * factor_polynomial(factor).bound(extents)
    return total // factor_polynomial(index.divisor).bound(extents)


def extent(rank: str) -> Polynomial:
    """The size of a rank: its letter in upper case."""
    return symbol(rank.upper())


def tensor_size(cascade: Cascade, tensor: str) -> Polynomial:
    """Elements of a tensor: of an input, as far as it is read; of a result, as far as it is written."""
    uses = [access for _, access in all_accesses(cascade) if access.tensor == tensor]
    written = [einsum.output for einsum in cascade.einsums if einsum.name == tensor]
    return product(
        largest([reach(index) if index.gather is None else product(map(extent, index.gather.ranks[-1:]))
                 for index in (each.indices[place] for each in written or uses)])
        for place, _ in enumerate(uses[0].indices)
    )  # fmt: skip


def largest(sizes: Sequence[Polynomial]) -> Polynomial:
    """The polynomial that is largest where extents are large (and inner extents of a partition are smaller)."""
    return max(sizes, key=lambda size: size.bound({name: _SMALL if name.endswith("0") else _LARGE
                                                   for name in size.names}))


@cache
def reach(index: Index) -> Polynomial:
    """One more than the largest coordinate of an index."""
    size = sum(map(factor_polynomial, index.offsets), polynomial(1))
    for rank, factor in index.terms:
        scale = factor_polynomial(factor)
        if min(scale.terms.values()) > 0:  # backwards, the largest coordinate is at 0
            size += scale * (extent(rank) - 1)
    return size if index.divisor == 1 else symbol(f"ceil({size}/{factor_polynomial(index.divisor)})")


def bound(count: Polynomial, extents: Extents) -> int:
    """A polynomial as a number. Raises CascadeSimError where an extent is not given."""
    def of_product(text: str) -> int:
        return product(int(each) if each.isdigit() else symbol(each) for each in text.split("*")).bound(extents)

    try:
        values = {}
        for name in count.names:
            whole, _, divisor = name.removeprefix("ceil(").removesuffix(")").rpartition("/")
            values[name] = -(-of_product(whole) // of_product(divisor)) if name.startswith("ceil(") else extents[name]
        return count.bound(values)
    except KeyError as error:
        raise CascadeSimError(f"{count}: the extent {error.args[0]} is not given") from None
