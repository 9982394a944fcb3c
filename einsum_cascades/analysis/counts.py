"""Sizes of tensors, points of iteration spaces as exact polynomials in extents, and extents found from shapes.

What one point costs is said by `operators`; points outside the conditions of a causal or windowed Einsum cost nothing.
Closed forms exist for boxes and for triangles (`m <= p + M - P`, exact where the triangle lies inside the box, P <= M);
any other condition is a named count, which `bound_counts` counts where the extents are known. `K[h,m1*M0+m0,e]` with
M0 given and 12 keys makes M1 = 12/M0; `K[h//G,...]` with 8 query heads on 2 makes G = 4. Knows shapes, not values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.passes import all_accesses, partition
from cascadesim.einsum_cascades.notation import ir
from cascadesim.einsum_cascades.notation.algebra import (
    Polynomial,
    access_text,
    extent_names,
    extents_of,
    factor_polynomial,
    index_text,
    polynomial,
    product,
    symbol,
)
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, suggestion
from cascadesim.einsum_cascades.notation.notation import condition_text
from cascadesim.einsum_cascades.notation.operators import Charge, kept_extent, scattered_extents

Extents: TypeAlias = Mapping[str, int]  # by their names, in upper case
Grid: TypeAlias = Mapping[str, NDArray[np.int64]]
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
Gathered: TypeAlias = Callable[[ir.Access], NDArray[np.int64]]  # the coordinates that a tensor holds, on a grid

_COMPARE: Mapping[str, np.ufunc] = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal,
}
_LARGE, _SMALL = 1 << 20, 1 << 8  # an extent and an inner extent such as M0, where only growth is compared


def closed_points(charge: Charge) -> Polynomial:
    """The points that a charge is made at, whatever the extents: a named count where no closed form exists."""
    free = product(extent(rank) for rank in charge.ranks if rank not in charge.tested)
    if not charge.conditions:
        return free
    closed = _triangle(charge.conditions)
    name = f"#({', '.join(map(condition_text, charge.conditions))})"
    return free * (symbol(name) if closed is None else closed)


def _triangle(conditions: Sequence[ir.Condition]) -> Polynomial | None:
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


def _line(index: ir.Index) -> tuple[Polynomial, Polynomial] | None:
    """Extent and offset of `rank + offset` or `m1*M0+m0 + offset`."""
    bare = ir.Index(index.terms)
    ranks = (bare.rank,) if bare.rank else partition(bare)
    if index.divisor != 1 or index.gather is not None or ranks is None:
        return None
    return product(map(extent, ranks)), sum(map(factor_polynomial, index.offsets), Polynomial())


def _not_known(access: ir.Access) -> NDArray[np.int64]:
    raise CascadeSimError(f"a condition compares coordinates that {access.tensor} holds: its array is needed")


def holds(
    conditions: Sequence[ir.Condition], grid: Grid, extents: Extents, gathered: Gathered = _not_known
) -> NDArray[np.bool_]:
    """Tells where on a grid of rank variables all conditions hold."""
    result: NDArray[np.bool_] = np.asarray(True)
    for each in conditions:
        left, right = (coordinates(side, grid, extents) if side.gather is None else gathered(side.gather)
                       for side in (each.left, each.right))
        result = result & _COMPARE[each.comparison](left, right)
    return result


def coordinates(index: ir.Index, grid: Grid, extents: Extents) -> NDArray[np.int64]:
    """Values of an affine index on a grid of rank variables."""
    total = np.asarray(sum(factor_polynomial(offset).bound(extents) for offset in index.offsets), np.int64)
    for rank, factor in index.terms:
        total = total + grid[rank] * factor_polynomial(factor).bound(extents)
    return total // factor_polynomial(index.divisor).bound(extents)


def extent(rank: str) -> Polynomial:
    """The size of a rank: its letter in upper case."""
    return symbol(rank.upper())


def tensor_size(cascade: ir.Cascade, tensor: str) -> Polynomial:
    """Elements of a tensor: of an input, as far as it is read; of a result, as far as it is written."""
    uses = [access for _, access in all_accesses(cascade) if access.tensor == tensor]
    written = [einsum.output for einsum in cascade.einsums if einsum.name == tensor]
    scattered = scattered_extents(cascade)
    total = polynomial(1)
    for place, _ in enumerate(uses[0].indices):
        along = [each.indices[place] for each in written or uses]
        if (tensor, place) in scattered:
            total *= product(map(symbol, scattered[tensor, place]))
        elif all(index.fixed is not None for index in along):
            total *= len(set(along))
        else:
            total *= largest([reach(index) if index.gather is None else product(map(extent, index.gather.ranks[-1:]))
                              for index in along])
    return total


def shape_of(cascade: ir.Cascade, tensor: str, extents: Extents) -> tuple[int, ...]:
    """Elements of a result along each dimension: as far as any Einsum writes it."""
    written = [einsum.output.indices for einsum in cascade.einsums if einsum.name == tensor]
    scattered = scattered_extents(cascade)
    return tuple(product(map(symbol, scattered[tensor, place])).bound(extents) if (tensor, place) in scattered
                 else max(reach(index).bound(extents) for index in along)
                 for place, along in enumerate(zip(*written, strict=True)))


def largest(sizes: Sequence[Polynomial]) -> Polynomial:
    """The polynomial that is largest where extents are large (and inner extents of a partition are smaller)."""
    return max(sizes, key=lambda size: size.bound({name: _SMALL if name.endswith("0") else _LARGE
                                                   for name in size.names}))


@cache
def reach(index: ir.Index) -> Polynomial:
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


def bind_extents(cascade: ir.Cascade, shapes: Shapes, given: Mapping[str, int]) -> dict[str, int]:
    """Extents by name. Raises CascadeSimError where arrays do not fit, or do not say how long a rank is."""
    needed = extents_of(cascade)
    known = {name.upper(): size for name, size in given.items()}  # extents may be given by the rank's letter
    for name in given:
        if name.upper() not in needed:
            raise CascadeSimError(f"{cascade.name}: no extent '{name}'{suggestion(name.upper(), needed)}")
    for name, size in known.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise CascadeSimError(f"{cascade.name}: {name}: must be a whole number from 1, got {size!r}")
    for access in (access for einsum in cascade.einsums for access in einsum.inputs if access.tensor in shapes):
        if len(shapes[access.tensor]) != len(access.indices):
            raise CascadeSimError(f"{cascade.name}: {access.tensor} must have {len(access.indices)} dimensions, "
                                  f"{access_text(access)}, got shape {shapes[access.tensor]}")
    solver = _Solver(cascade, shapes, known)
    solver.solve()
    unknown = [name for name in needed if name not in known]
    if unknown:
        raise CascadeSimError(f"{cascade.name}: no array says how large {', '.join(unknown)} is: give it as an extent")
    solver.check()
    return known


@dataclass(slots=True)
class _Solver:
    cascade: ir.Cascade
    shapes: Shapes
    known: dict[str, int]
    uses: dict[tuple[str, int], list[ir.Index]] = field(default_factory=lambda: defaultdict(list))
    loose: dict[tuple[str, int], list[ir.Index]] = field(default_factory=lambda: defaultdict(list))  # under a condition

    def __post_init__(self) -> None:
        for einsum in self.cascade.einsums:
            scattered = ((access, False) for each in einsum.scatters for access in ir.accesses(each))
            for access, guarded in (*_guarded(einsum.expression, False), *scattered):
                for place, index in enumerate(access.indices):
                    if index.gather is None:
                        plain = index.rank is not None or partition(index) is not None
                        (self.loose if guarded and not plain else self.uses)[access.tensor, place].append(index)

    def solve(self) -> None:
        """Inputs first, then kept fibers, results and what stands under conditions, until nothing more is learnt."""
        while (self._from_dimensions(self.uses, self.shapes) or self._from_fibers()
               or self._from_dimensions(self.loose, self.shapes) or self._from_results()):  # fmt: skip
            pass

    def check(self) -> None:
        """Every input is read to its end, and no further; choices have the length they say."""
        for rank, keep in filter(None, map(kept_extent, self.cascade.einsums)):
            size, said = self.known[rank.upper()], factor_polynomial(keep).bound(self.known)
            if size != said:
                raise CascadeSimError(f"{self.cascade.name}: {rank.upper()} is {size}, but {said} are kept")
        for (tensor, place), indices in self.uses.items():
            if tensor not in self.shapes:
                continue
            given = self.shapes[tensor][place]
            index = max(indices, key=self._size)
            if index.fixed is not None and index.fixed < given:
                continue  # an input may be longer than the place that is read
            if self._size(index) != given and not 0 <= given - self._size(index) <= self._slack(index):
                sizes = ", ".join(f"{name}={self.known[name]}" for name in _unknown_names(index, {})) or "read as it is"
                raise CascadeSimError(f"{self.cascade.name}: {tensor} has {given} elements along "
                                      f"'{index_text(index)}', expected {self._size(index)} ({sizes})")

    def _size(self, index: ir.Index) -> int:
        whole = reach(ir.Index(index.terms, index.offsets)).bound(self.known)
        return -(-whole // factor_polynomial(index.divisor).bound(self.known))

    def _slack(self, index: ir.Index) -> int:
        """Elements past the last one read that do no harm: `X[2*d]` may leave one, windows `X[STRIDE*p+r]` less than
        STRIDE; tiles none."""
        if partition(index) is not None:
            return 0
        return max((factor_polynomial(factor).bound(self.known) for _, factor in index.terms), default=1) - 1

    def _from_results(self) -> bool:
        unknown = {einsum.name for einsum in self.cascade.einsums for index in einsum.output.indices
                   if _unknown_names(index, self.known)}
        unknown |= {tensor for (tensor, _), names in scattered_extents(self.cascade).items()
                    if not self.known.keys() >= set(names)}
        return self._from_dimensions(self.uses, {name: shape_of(self.cascade, name, self.known)
                                                 for name in self.cascade.produced if name not in unknown})

    def _from_dimensions(self, uses: Mapping[tuple[str, int], list[ir.Index]], shapes: Shapes) -> bool:
        learnt: dict[str, int] = {}
        for (tensor, place), indices in uses.items():
            for index in indices if tensor in shapes else ():
                unknown = _unknown_names(index, self.known)
                size = self._solved(index, unknown[0], shapes[tensor][place]) if len(unknown) == 1 else 0
                if size >= 1:
                    learnt[unknown[0]] = min(size, learnt.get(unknown[0], size))
            if learnt:
                break
        self.known.update(learnt)
        return bool(learnt)

    def _solved(self, index: ir.Index, name: str, size: int) -> int:
        """The largest value of one extent with which an index stays inside `size` elements; 0 where there is none."""
        whole = reach(ir.Index(index.terms, index.offsets))
        if name in factor_polynomial(index.divisor).names:
            return whole.bound(self.known) // size if name not in whole.names else 0
        first, second = (whole.bound({**self.known, name: value}) for value in (1, 2))
        size *= factor_polynomial(index.divisor).bound(self.known)
        return 1 + (size - first) // (second - first) if second > first else 0

    def _from_fibers(self) -> bool:
        """`I[p,j] = top(S[p,m], KEEP)`: J is KEEP."""
        for rank, keep in filter(None, map(kept_extent, self.cascade.einsums)):
            name, size = rank.upper(), self.known.get(keep) if isinstance(keep, str) else keep
            if name not in self.known and size is not None:
                self.known[name] = size
                return True
            if name in self.known and size is None and isinstance(keep, str):
                self.known[keep] = self.known[name]
                return True
        return False


def _guarded(expression: ir.Expression, inside: bool) -> Iterator[tuple[ir.Access, bool]]:
    """Accesses, and whether they stand under a condition, which may keep them inside their tensor."""
    match expression:
        case ir.Select(conditions=own, value=value, otherwise=otherwise):
            for side in (side for each in own for side in (each.left, each.right)):
                if side.gather is not None:
                    yield from _guarded(side.gather, inside)
            yield from _guarded(value, True)
            yield from _guarded(otherwise, True)
        case ir.Apply(operands=operands):
            for operand in operands:
                yield from _guarded(operand, inside)
        case _:
            for access in ir.accesses(expression):
                yield access, inside


def _unknown_names(index: ir.Index, known: Mapping[str, int]) -> list[str]:
    used = dict.fromkeys((*(rank.upper() for rank in index.ranks), *extent_names(index)))
    return [name for name in used if name not in known]
