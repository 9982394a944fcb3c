"""The extents of ranks, found from the shapes of arrays and the numbers a caller gives.

`K[h,m1*M0+m0,e]` with M0 given and 12 keys makes M1 = 12/M0; `K[h//G,...]` with 8 query heads on 2 makes G = 4.
Knows shapes, not values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cascadesim.einsum_cascades.analysis.counts import reach
from cascadesim.einsum_cascades.analysis.rank_groups import partition
from cascadesim.einsum_cascades.notation.algebra import access_text, extent_names, factor_polynomial, index_text
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, suggestion
from cascadesim.einsum_cascades.notation.ir import (
    Access,
    Apply,
    Cascade,
    Constant,
    Einsum,
    Expression,
    Extent,
    Index,
    Select,
    accesses,
    conditions,
    walk,
)
from cascadesim.einsum_cascades.notation.operators import fiber_operator, kept_rank

Shapes = Mapping[str, tuple[int, ...]]


def bind_extents(cascade: Cascade, shapes: Shapes, given: Mapping[str, int]) -> dict[str, int]:
    """Extents by name. Raises CascadeSimError where arrays do not fit, or do not say how long a rank is."""
    needed = names(cascade)
    known = {name.upper(): size for name, size in given.items()}  # extents may be given by the rank's letter
    for name in given:
        if name.upper() not in needed:
            raise CascadeSimError(f"{cascade.name}: no extent '{name}'{suggestion(name.upper(), needed)}")
    for name, size in known.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise CascadeSimError(f"{cascade.name}: {name}: must be a whole number from 1, got {size!r}")
    _check_ranks(cascade, shapes)
    solver = _Solver(cascade, shapes, known)
    solver.solve()
    unknown = [name for name in needed if name not in known]
    if unknown:
        raise CascadeSimError(f"{cascade.name}: no array says how large {', '.join(unknown)} is: give it as an extent")
    solver.check()
    return known


def names(cascade: Cascade) -> tuple[str, ...]:
    """Every extent that a cascade uses, by name."""
    found = dict.fromkeys(rank.upper() for rank in cascade.ranks)
    for einsum in cascade.einsums:
        found.update({each.name: None for each in walk(einsum.expression) if isinstance(each, Extent)})
        indices = [index for access in (einsum.output, *einsum.inputs) for index in access.indices]
        indices += [side for each in conditions(einsum.expression) for side in (each.left, each.right)]
        found.update(dict.fromkeys(name for index in indices for name in extent_names(index)))
    return tuple(found)


def _check_ranks(cascade: Cascade, shapes: Shapes) -> None:
    for einsum in cascade.einsums:
        for access in einsum.inputs:
            shape = shapes.get(access.tensor)
            if shape is not None and len(shape) != len(access.indices):
                raise CascadeSimError(f"{cascade.name}: {access.tensor} must have {len(access.indices)} dimensions, "
                                      f"{access_text(access)}, got shape {shape}")


@dataclass(slots=True)
class _Solver:
    cascade: Cascade
    shapes: Shapes
    known: dict[str, int]
    uses: dict[tuple[str, int], list[Index]] = field(default_factory=lambda: defaultdict(list))
    loose: dict[tuple[str, int], list[Index]] = field(default_factory=lambda: defaultdict(list))  # under a condition

    def __post_init__(self) -> None:
        for einsum in self.cascade.einsums:
            for access, guarded in _guarded(einsum.expression, False):
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
            size, said = self.known[rank.upper()], keep if isinstance(keep, int) else self.known[keep]
            if size != said:
                raise CascadeSimError(f"{self.cascade.name}: {rank.upper()} is {size}, but {said} are kept")
        for (tensor, place), indices in self.uses.items():
            if tensor not in self.shapes:
                continue
            given = self.shapes[tensor][place]
            index = max(indices, key=self._size)
            if self._size(index) != given and not 0 <= given - self._size(index) <= _slack(index):
                sizes = ", ".join(f"{name}={self.known[name]}" for name in _unknown_names(index, {})) or "read as it is"
                raise CascadeSimError(f"{self.cascade.name}: {tensor} has {given} elements along "
                                      f"'{index_text(index)}', expected {self._size(index)} ({sizes})")

    def _size(self, index: Index) -> int:
        whole = reach(Index(index.terms, index.offsets)).bound(self.known)
        return -(-whole // factor_polynomial(index.divisor).bound(self.known))

    def _from_results(self) -> bool:
        results: dict[str, tuple[int, ...]] = {}
        for name in self.cascade.produced:
            outputs = [einsum.output for einsum in self.cascade.einsums if einsum.name == name]
            if not any(_unknown_names(index, self.known) for output in outputs for index in output.indices):
                sizes = [[self._size(index) for index in output.indices] for output in outputs]
                results[name] = tuple(map(max, zip(*sizes, strict=True)))
        return self._from_dimensions(self.uses, results)

    def _from_dimensions(self, uses: Mapping[tuple[str, int], list[Index]], shapes: Shapes) -> bool:
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

    def _solved(self, index: Index, name: str, size: int) -> int:
        """The largest value of one extent with which an index stays inside `size` elements; 0 where there is none."""
        whole = reach(Index(index.terms, index.offsets))
        if name in factor_polynomial(index.divisor).names:
            return whole.bound(self.known) // size if name not in whole.names else 0
        first, second = (whole.bound({**self.known, name: value}) for value in (1, 2))
        size *= factor_polynomial(index.divisor).bound(self.known)
        return 1 + (size - first) // (second - first) if second > first else 0

    def _from_fibers(self) -> bool:
        """`I[p,j] = top(S[p,m], KEEP)`: J is KEEP."""
        for einsum in self.cascade.einsums:
            if (pair := kept_extent(einsum)) is None:
                continue
            rank, keep = pair[0].upper(), pair[1]
            if rank not in self.known and (isinstance(keep, int) or keep in self.known):
                self.known[rank] = keep if isinstance(keep, int) else self.known[keep]
                return True
            if isinstance(keep, str) and rank in self.known and keep not in self.known:
                self.known[keep] = self.known[rank]
                return True
        return False


def kept_extent(einsum: Einsum) -> tuple[str, int | str] | None:
    """The rank that a whole-fiber operator makes, and how long it says it is."""
    rank = kept_rank(einsum)
    if fiber_operator(einsum) is None or rank is None or not isinstance(einsum.expression, Apply):
        return None
    match einsum.expression.operands[1]:
        case Extent(name=name):
            return rank, name
        case Constant(value=value):
            return rank, int(value)
    return None


def _guarded(expression: Expression, inside: bool) -> Iterator[tuple[Access, bool]]:
    """Accesses, and whether they stand under a condition, which may keep them inside their tensor."""
    match expression:
        case Select(conditions=own, value=value, otherwise=otherwise):
            for side in (side for each in own for side in (each.left, each.right)):
                if side.gather is not None:
                    yield from _guarded(side.gather, inside)
            yield from _guarded(value, True)
            yield from _guarded(otherwise, True)
        case Apply(operands=operands):
            for operand in operands:
                yield from _guarded(operand, inside)
        case _:
            for access in accesses(expression):
                yield access, inside


def _unknown_names(index: Index, known: Mapping[str, int]) -> list[str]:
    used = dict.fromkeys((*(rank.upper() for rank in index.ranks), *extent_names(index)))
    return [name for name in used if name not in known]


def _slack(index: Index) -> int:
    """Elements past the last one read that do no harm: `X[2*d]` may leave one."""
    factors = [factor for _, factor in index.terms]
    numbers = [factor for factor in factors if isinstance(factor, int)]
    return min(numbers) - 1 if factors and len(numbers) == len(factors) and min(numbers) > 0 else 0
