"""Expressions with their tensors, coordinates or extents replaced. Knows their shape, not their meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from cascadesim.einsum_cascades.notation import affine
from cascadesim.einsum_cascades.notation.affine import Affine
from cascadesim.einsum_cascades.notation.ir import Access, Apply, Condition, Expression, Extent, Index, Select


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Ranks and extents, each with the sum that takes its place."""

    ranks: Mapping[str, Affine] = field(default_factory=dict)
    extents: Mapping[str, Affine] = field(default_factory=dict)

    def index(self, index: Index) -> Index:
        if index.gather is not None:
            return Index(gather=replace(index.gather, indices=tuple(map(self.index, index.gather.indices))))
        return affine.substitute(index, self.ranks, self.extents)

    def access(self, access: Access) -> Access:
        return Access(access.tensor, tuple(map(self.index, access.indices)))

    def condition(self, condition: Condition) -> Condition:
        return replace(condition, left=self.index(condition.left), right=self.index(condition.right))

    def value(self, extent: Extent) -> Expression:
        """An extent in an expression: `M` becomes `M1 * M0`."""
        if extent.name not in self.extents:
            return extent
        (_, names), = self.extents[extent.name].parts
        total: Expression = Extent(names[0])
        for name in names[1:]:
            total = Apply("multiply", (total, Extent(name)))
        return total


UNCHANGED = Coordinates()


def rebuilt(
    expression: Expression, read: Callable[[Access], Expression], coordinates: Coordinates = UNCHANGED
) -> Expression:
    """The expression with `read` applied to each access, and coordinates of conditions and extents replaced."""
    match expression:
        case Access():
            return read(expression)
        case Apply(operator=operator, operands=operands):
            return Apply(operator, tuple(rebuilt(operand, read, coordinates) for operand in operands))
        case Select(conditions=conditions, value=value, otherwise=otherwise):
            return Select(tuple(map(coordinates.condition, conditions)), rebuilt(value, read, coordinates),
                          rebuilt(otherwise, read, coordinates))
        case Extent():
            return coordinates.value(expression)
    return expression
