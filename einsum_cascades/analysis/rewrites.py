"""Rewrites: Cascade -> Cascade that computes the same (proved by `evaluate`). Split a rank, defer a division.

FuseMax (MICRO'24), section III-C. With `online.make_iterative` they turn the 3-pass attention into the 1-pass one.
Each rewrite refuses, with the place and the reason, what it cannot do. Knows no hardware: which form is better is
for `passes` and a simulation to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from types import MappingProxyType

from cascadesim.einsum_cascades.notation import ir
from cascadesim.einsum_cascades.notation.algebra import Polynomial, index_text, substitute, symbol
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.einsum_cascades.notation.expressions import EXTENT
from cascadesim.einsum_cascades.notation.notation import parse, to_text
from cascadesim.einsum_cascades.notation.operators import fiber_rank

NOTHING = ir.Constant(0.0)
_AS_THEY_ARE: Mapping[str, Polynomial] = MappingProxyType({})


def rewritten(cascade: ir.Cascade, name: str, einsums: Iterable[ir.Einsum]) -> ir.Cascade:
    """A cascade of new Einsums, read back from its own text: what a rewrite gives is a text like any other."""
    text = to_text(ir.Cascade(name, tuple(einsums)))
    return parse(name, text)


def fresh_name(wanted: str, cascade: ir.Cascade, others: Iterable[str] = ()) -> str:
    """The name, with underscores behind it where the cascade has a tensor of that name, or others have it."""
    taken = {access.tensor for einsum in cascade.einsums for access in (einsum.output, *einsum.inputs)} | set(others)
    while wanted in taken:
        wanted += "_"
    return wanted


def rebuilt(
    expression: ir.Expression, read: Callable[[ir.Access], ir.Expression],
    replacements: Mapping[str, Polynomial] = _AS_THEY_ARE,
) -> ir.Expression:  # fmt: skip
    """The expression with `read` applied to each access; ranks and extents outside accesses are replaced."""
    match expression:
        case ir.Access():
            return read(expression)
        case ir.Apply(operator=operator, operands=operands):
            return ir.Apply(operator, tuple(rebuilt(operand, read, replacements) for operand in operands))
        case ir.Select(conditions=conditions, value=value, otherwise=otherwise):
            moved = (ir.Condition(substitute(each.left, replacements), each.comparison,
                               substitute(each.right, replacements)) for each in conditions)
            return ir.Select(tuple(moved), rebuilt(value, read, replacements), rebuilt(otherwise, read, replacements))
        case ir.Extent(name=name) if name in replacements:  # `M` becomes `M0 * M1`
            return multiplied(map(ir.Extent, replacements[name].names))
    return expression


def split(cascade: ir.Cascade, rank: str, inner_extent: str) -> ir.Cascade:
    """`m` becomes `m1*M0+m0` (inner extent `M0`): inputs are read in tiles, results have two ranks instead of one.

    Raises CascadeSimError where the rank iterates, feeds a whole-fiber operator, or is read at shifted coordinates.
    """
    outer, inner = _split_names(cascade, rank, inner_extent)
    tile = symbol(inner_extent)
    replacements = {rank: symbol(outer) * tile + symbol(inner), rank.upper(): symbol(outer.upper()) * tile}
    tiled = {(einsum.name, place) for einsum in cascade.einsums
             for place, index in enumerate(einsum.output.indices) if index.rank == rank}

    def tiled_access(access: ir.Access) -> ir.Access:
        """Dimensions of results become two; inputs keep theirs and are read at m1*M0+m0."""
        indices: list[ir.Index] = []
        for place, index in enumerate(access.indices):
            if (access.tensor, place) not in tiled:
                indices.append(substitute(index, replacements))
            elif index.rank == rank:
                indices += [ir.Index(((outer, 1),)), ir.Index(((inner, 1),))]
            else:
                what = index_text(index) if index.gather is None else "gathered coordinates"
                raise CascadeSimError(f"{where} {access.tensor} is read at '{what}'")
        return ir.Access(access.tensor, tuple(indices))

    found = []
    for einsum in cascade.einsums:
        where = f"{cascade.name}, line {einsum.line}: '{rank}' cannot be split:"
        if fiber_rank(einsum) == rank:
            raise CascadeSimError(f"{where} {einsum.name} needs its whole fibers")
        if rank in einsum.iterates:
            raise CascadeSimError(f"{where} {einsum.name} iterates along it")
        expression = rebuilt(einsum.expression, tiled_access, replacements)
        found.append(replace(einsum, output=tiled_access(einsum.output), expression=expression))
    return rewritten(cascade, cascade.name, found)


def _split_names(cascade: ir.Cascade, rank: str, inner_extent: str) -> tuple[str, str]:
    """The outer and the inner rank. Raises CascadeSimError where they are in use."""
    if rank not in cascade.ranks:
        raise UnknownNameError(f"rank of {cascade.name}", rank, cascade.ranks)
    outer, inner = f"{rank}1", inner_extent.lower()
    if not EXTENT.fullmatch(inner_extent) or {outer, inner} & {*cascade.ranks, rank}:
        raise CascadeSimError(f"{cascade.name}: cannot split '{rank}' into '{outer}' and '{inner}': "
                              f"give an extent such as {rank.upper()}0 whose letters are not in use")
    if inner == outer:
        raise CascadeSimError(f"{cascade.name}: the inner extent cannot be {inner_extent}, the outer one's name")
    return outer, inner


@dataclass(frozen=True, slots=True)
class Quotient:
    """`product of numerator / product of denominator` where the conditions hold, 0 elsewhere."""

    conditions: tuple[ir.Condition, ...]
    numerator: tuple[ir.Expression, ...]
    denominator: tuple[ir.Expression, ...]

    def __mul__(self, other: Quotient) -> Quotient:
        conditions = tuple(dict.fromkeys(self.conditions + other.conditions))
        return Quotient(conditions, self.numerator + other.numerator, self.denominator + other.denominator)


def quotient(expression: ir.Expression) -> Quotient:
    """An expression as factors above and below the line."""
    match expression:
        case ir.Select(conditions=conditions, value=value, otherwise=otherwise) if otherwise == NOTHING:
            inner = quotient(value)
            return replace(inner, conditions=tuple(dict.fromkeys(conditions + inner.conditions)))
        case ir.Apply(operator="multiply", operands=(left, right)):
            return quotient(left) * quotient(right)
        case ir.Apply(operator="divide", operands=(left, right)):
            above, below = quotient(left), quotient(right)
            if not below.conditions:
                return above * Quotient((), below.denominator, below.numerator)
    return Quotient((), (expression,), ())


def multiplied(factors: Iterable[ir.Expression], conditions: tuple[ir.Condition, ...] = ()) -> ir.Expression:
    product = reduce(lambda left, right: ir.Apply("multiply", (left, right)), factors)
    return ir.Select(conditions, product, NOTHING) if conditions else product


def defer_division(cascade: ir.Cascade) -> ir.Cascade:
    """Divide sums instead of their terms: `AV = sum of (SN/SD) * V` becomes `SNV = sum of SN * V`, `AV = SNV / SD`.

    FuseMax, section III-C1. A division moves where it has no rank of the sum; a tensor of quotients that nobody else
    reads disappears. Raises CascadeSimError where there is none to move. A row without any term (all its conditions
    false) was 0 and becomes 0/0.
    """
    found: list[ir.Einsum] = []
    for einsum in cascade.einsums:
        found += _deferred(cascade, einsum)
    if len(found) == len(cascade.einsums):
        raise CascadeSimError(f"{cascade.name}: no division can be deferred: none is inside a sum whose ranks it lacks")
    read = {access.tensor for einsum in found for access in einsum.inputs}
    needed = [einsum for einsum in found if einsum.name in read or einsum.name in cascade.outputs]
    return rewritten(cascade, f"{cascade.name}-deferred", needed)


def _deferred(cascade: ir.Cascade, einsum: ir.Einsum) -> Iterator[ir.Einsum]:
    """The sum of numerators and its division, or the Einsum as it is."""
    given, reduced = quotient(einsum.expression), set(einsum.reduced_ranks)
    whole = Quotient(given.conditions, (), given.denominator)
    for factor in given.numerator:  # quotients computed by Einsums before it are written out
        whole *= _written_out(cascade, einsum, factor)
    late = tuple(factor for factor in whole.denominator if not reduced & set(ir.bound_ranks(factor)))
    if einsum.reduction != "add" or not reduced or not late or fiber_rank(einsum) or einsum.scatters:
        yield einsum
        return
    early = tuple(factor for factor in whole.denominator if factor not in late)
    terms = multiplied(whole.numerator, whole.conditions)
    if early:
        terms = multiplied((ir.Apply("divide", (multiplied(whole.numerator), multiplied(early))),), whole.conditions)
    letters = "".join(access.tensor for factor in whole.numerator for access in ir.accesses(factor))
    total = ir.Access(fresh_name(letters or f"{einsum.name}N", cascade), einsum.output.indices)
    yield replace(einsum, output=total, expression=terms)
    rows = tuple(each for each in whole.conditions if reduced.isdisjoint(each.ranks))
    yield ir.Einsum(einsum.output, "add", multiplied((ir.Apply("divide", (total, multiplied(late))),), rows))


def _written_out(cascade: ir.Cascade, einsum: ir.Einsum, factor: ir.Expression) -> Quotient:
    itself = Quotient((), (factor,), ())
    if not isinstance(factor, ir.Access):
        return itself
    makers = [each for each in cascade.einsums if each.name == factor.tensor]
    if len(makers) != 1 or makers[0].output != factor or makers[0].reduced_ranks:
        return itself
    inner = quotient(makers[0].expression)
    reduced = set(einsum.reduced_ranks)
    moves = any(not reduced & set(ir.bound_ranks(each)) for each in inner.denominator)
    return inner if moves else itself
