"""Rewrites: Cascade -> Cascade that computes the same (proved by `evaluate`). Split a rank, defer a division.

FuseMax (MICRO'24), section III-C. With `running.make_iterative` they turn the 3-pass attention into the 1-pass one.
Each rewrite refuses, with the place and the reason, what it cannot do. Knows no hardware: which form is better is
for `passes`, `footprint` and a simulation to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce

from cascadesim.einsum_cascades.notation import affine
from cascadesim.einsum_cascades.notation.affine import index_text
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.einsum_cascades.notation.expressions import EXTENT
from cascadesim.einsum_cascades.notation.ir import (
    Access,
    Apply,
    Cascade,
    Condition,
    Constant,
    Einsum,
    Expression,
    Index,
    Select,
    accesses,
    bound_ranks,
)
from cascadesim.einsum_cascades.notation.notation import parse
from cascadesim.einsum_cascades.notation.operators import fiber_rank
from cascadesim.einsum_cascades.notation.printer import to_text
from cascadesim.einsum_cascades.notation.substitution import Coordinates, rebuilt

__all__ = ["defer_division", "fresh_name", "rewritten", "split"]

NOTHING = Constant(0.0)


def rewritten(cascade: Cascade, name: str, einsums: Iterable[Einsum]) -> Cascade:
    """A cascade of new Einsums, read back from its own text: what a rewrite gives is a text like any other."""
    text = to_text(Cascade(name, tuple(einsums)))
    return parse(name, text)


def fresh_name(wanted: str, cascade: Cascade, others: Iterable[str] = ()) -> str:
    """The name, with underscores behind it where the cascade has a tensor of that name, or others have it."""
    taken = {access.tensor for einsum in cascade.einsums for access in (einsum.output, *einsum.inputs)} | set(others)
    while wanted in taken:
        wanted += "_"
    return wanted


def split(cascade: Cascade, rank: str, inner_extent: str) -> Cascade:
    """`m` becomes `m1*M0+m0` (inner extent `M0`): inputs are read in tiles, results have two ranks instead of one.

    Raises CascadeSimError where the rank iterates, feeds a whole-fiber operator, or is read at shifted coordinates.
    """
    names = _split_names(cascade, rank, inner_extent)
    return rewritten(cascade, cascade.name, [_split_einsum(cascade, einsum, names) for einsum in cascade.einsums])


@dataclass(frozen=True, slots=True)
class _Split:
    rank: str
    outer: str
    inner: str

    @property
    def coordinates(self) -> Coordinates:
        size = affine.extent(self.inner.upper())
        coordinate = affine.rank(self.outer) * size + affine.rank(self.inner)
        return Coordinates({self.rank: coordinate},
                           {self.rank.upper(): affine.extent(self.outer.upper()) * size})


def _split_names(cascade: Cascade, rank: str, inner_extent: str) -> _Split:
    if rank not in cascade.ranks:
        raise UnknownNameError(f"rank of {cascade.name}", rank, cascade.ranks)
    names = _Split(rank, f"{rank}1", inner_extent.lower())
    for name in (names.outer, names.inner):
        if name in cascade.ranks or name == rank or not EXTENT.fullmatch(inner_extent):
            raise CascadeSimError(f"{cascade.name}: cannot split '{rank}' into '{names.outer}' and '{names.inner}': "
                                  f"give an extent such as {rank.upper()}0 whose letters are not in use")
    if names.inner == names.outer:
        raise CascadeSimError(f"{cascade.name}: the inner extent cannot be {inner_extent}, the outer one's name")
    return names


def _split_einsum(cascade: Cascade, einsum: Einsum, names: _Split) -> Einsum:
    if fiber_rank(einsum) == names.rank:
        raise _refused(cascade, einsum, f"'{names.rank}' cannot be split: {einsum.name} needs its whole fibers")
    if names.rank in einsum.iterates:
        raise _refused(cascade, einsum, f"'{names.rank}' cannot be split: {einsum.name} iterates along it")

    def read(access: Access) -> Access:
        return _split_access(cascade, einsum, access, names)

    return replace(einsum, output=read(einsum.output), expression=rebuilt(einsum.expression, read, names.coordinates))


def _split_access(cascade: Cascade, einsum: Einsum, access: Access, names: _Split) -> Access:
    """Dimensions of results become two; inputs keep theirs and are read at m1*M0+m0."""
    indices: list[Index] = []
    for place, index in enumerate(access.indices):
        if not _is_split(cascade, access.tensor, place, names.rank):
            indices.append(names.coordinates.index(index))
        elif index.rank == names.rank:
            indices += [affine.rank(names.outer).index(), affine.rank(names.inner).index()]
        else:
            what = index_text(index) if index.gather is None else "gathered coordinates"
            raise _refused(cascade, einsum, f"'{names.rank}' cannot be split: {access.tensor} is read at '{what}'")
    return Access(access.tensor, tuple(indices))


def _is_split(cascade: Cascade, tensor: str, place: int, rank: str) -> bool:
    return any(einsum.name == tensor and einsum.output.indices[place].rank == rank for einsum in cascade.einsums)


def _refused(cascade: Cascade, einsum: Einsum, why: str) -> CascadeSimError:
    return CascadeSimError(f"{cascade.name}, line {einsum.line}: {why}")


@dataclass(frozen=True, slots=True)
class Quotient:
    """`product of numerator / product of denominator` where the conditions hold, 0 elsewhere."""

    conditions: tuple[Condition, ...]
    numerator: tuple[Expression, ...]
    denominator: tuple[Expression, ...]

    def __mul__(self, other: Quotient) -> Quotient:
        conditions = tuple(dict.fromkeys(self.conditions + other.conditions))
        return Quotient(conditions, self.numerator + other.numerator, self.denominator + other.denominator)


def quotient(expression: Expression) -> Quotient:
    """An expression as factors above and below the line."""
    match expression:
        case Select(conditions=conditions, value=value, otherwise=otherwise) if otherwise == NOTHING:
            inner = quotient(value)
            return replace(inner, conditions=tuple(dict.fromkeys(conditions + inner.conditions)))
        case Apply(operator="multiply", operands=(left, right)):
            return quotient(left) * quotient(right)
        case Apply(operator="divide", operands=(left, right)):
            above, below = quotient(left), quotient(right)
            if not below.conditions:
                return above * Quotient((), below.denominator, below.numerator)
    return Quotient((), (expression,), ())


def multiplied(factors: Iterable[Expression], conditions: tuple[Condition, ...] = ()) -> Expression:
    product = reduce(lambda left, right: Apply("multiply", (left, right)), factors)
    return Select(conditions, product, NOTHING) if conditions else product


def defer_division(cascade: Cascade) -> Cascade:
    """Divide sums instead of their terms: `AV = sum of (SN/SD) * V` becomes `SNV = sum of SN * V`, `AV = SNV / SD`.

    FuseMax, section III-C1. A division moves where it has no rank of the sum; a tensor of quotients that nobody else
    reads disappears. Raises CascadeSimError where there is none to move. A row without any term (all its conditions
    false) was 0 and becomes 0/0.
    """
    found: list[Einsum] = []
    for einsum in cascade.einsums:
        found += _deferred(cascade, einsum)
    if len(found) == len(cascade.einsums):
        raise CascadeSimError(f"{cascade.name}: no division can be deferred: none is inside a sum whose ranks it lacks")
    return rewritten(cascade, f"{cascade.name}-deferred", _without_unread(cascade, found))


def _deferred(cascade: Cascade, einsum: Einsum) -> Iterator[Einsum]:
    """The sum of numerators and its division, or the Einsum as it is."""
    whole = _expanded(cascade, einsum)
    reduced = set(einsum.reduced_ranks)
    late = tuple(factor for factor in whole.denominator if not reduced & set(bound_ranks(factor)))
    if einsum.reduction != "add" or not reduced or not late or fiber_rank(einsum):
        yield einsum
        return
    early = tuple(factor for factor in whole.denominator if factor not in late)
    terms = multiplied(whole.numerator, whole.conditions)
    if early:
        terms = multiplied((Apply("divide", (multiplied(whole.numerator), multiplied(early))),), whole.conditions)
    letters = "".join(access.tensor for factor in whole.numerator for access in accesses(factor))
    total = Access(fresh_name(letters or f"{einsum.name}N", cascade), einsum.output.indices)
    yield replace(einsum, output=total, expression=terms)
    rows = tuple(each for each in whole.conditions if not reduced & {*each.left.ranks, *each.right.ranks})
    yield Einsum(einsum.output, "add", multiplied((Apply("divide", (total, multiplied(late))),), rows))


def _expanded(cascade: Cascade, einsum: Einsum) -> Quotient:
    """The factors of a sum, quotients computed by Einsums before it written out."""
    whole = quotient(einsum.expression)
    total = Quotient(whole.conditions, (), whole.denominator)
    for factor in whole.numerator:
        total *= _written_out(cascade, einsum, factor)
    return total


def _written_out(cascade: Cascade, einsum: Einsum, factor: Expression) -> Quotient:
    itself = Quotient((), (factor,), ())
    if not isinstance(factor, Access):
        return itself
    makers = [each for each in cascade.einsums if each.name == factor.tensor]
    if len(makers) != 1 or makers[0].output != factor or makers[0].reduced_ranks:
        return itself
    inner = quotient(makers[0].expression)
    reduced = set(einsum.reduced_ranks)
    moves = any(not reduced & set(bound_ranks(each)) for each in inner.denominator)
    return inner if moves else itself


def _without_unread(cascade: Cascade, einsums: list[Einsum]) -> list[Einsum]:
    """Less the results that were read before and are not any more."""
    read = {access.tensor for einsum in einsums for access in einsum.inputs}
    return [einsum for einsum in einsums if einsum.name in read or einsum.name in cascade.outputs]
