"""The frozen intermediate representation: Index, Access, expression trees, Einsum, Cascade.

Says how a cascade is written down and which ranks and tensors it has. It does not parse (`notation`), compute
(`evaluate`) or analyse (`passes`, `footprint`). Extended Einsums: FuseMax (MICRO'24), section II.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

Factor: TypeAlias = int | str  # a number, or the name of an extent such as 'M0'
Reduction: TypeAlias = Literal["add", "max", "min"]
Comparison: TypeAlias = Literal["<", "<=", ">", ">=", "==", "!="]


@dataclass(frozen=True, slots=True)
class Index:
    """One coordinate: `(sum of rank * factor + offsets) // divisor`.

    `m` is `((m,1),)`; `m1*M0+m0` is `((m1,M0),(m0,1))`; `m1+1` has offset `(1,)`; the final state `M1` has no
    terms and offset `('M1',)`; `h//G` has divisor `G`.
    """

    terms: tuple[tuple[str, Factor], ...] = ()
    offsets: tuple[Factor, ...] = ()
    divisor: Factor = 1

    @property
    def ranks(self) -> tuple[str, ...]:
        return tuple(rank for rank, _ in self.terms)


@dataclass(frozen=True, slots=True)
class Access:
    """A tensor read or written at coordinates, such as `RM[h,m1+1,p]`."""

    tensor: str
    indices: tuple[Index, ...]

    @property
    def ranks(self) -> tuple[str, ...]:
        """Rank variables in order of first appearance."""
        return tuple(dict.fromkeys(rank for index in self.indices for rank in index.ranks))


@dataclass(frozen=True, slots=True)
class Constant:
    """A number; `inf` is `float('inf')`."""

    value: float


@dataclass(frozen=True, slots=True)
class Extent:
    """The size of a rank, or any symbolic number, used as a value (`/ E`)."""

    name: str


@dataclass(frozen=True, slots=True)
class Apply:
    """An operator of `operations` on operands; `-x` is `negate`, `a*b` is `multiply`."""

    operator: str
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """`left < right` on coordinates, such as `m <= p`."""

    left: Index
    comparison: Comparison
    right: Index


@dataclass(frozen=True, slots=True)
class Select:
    """`value if conditions else otherwise`: points outside the conditions cost no work."""

    conditions: tuple[Condition, ...]  # all must hold
    value: Expression
    otherwise: Expression


Expression: TypeAlias = Access | Constant | Extent | Apply | Select


def accesses(expression: Expression) -> Iterator[Access]:
    """Every tensor access, left to right."""
    match expression:
        case Access():
            yield expression
        case Apply(operands=operands):
            for operand in operands:
                yield from accesses(operand)
        case Select(value=value, otherwise=otherwise):
            yield from accesses(value)
            yield from accesses(otherwise)


@dataclass(frozen=True)
class Einsum:
    """`output reduction= expression`: one step of a cascade."""

    output: Access
    reduction: Reduction
    expression: Expression
    line: int = 0  # 1-based line in the cascade's text
    text: str = ""
    comment: str = ""

    @property
    def name(self) -> str:
        return self.output.tensor

    @cached_property
    def inputs(self) -> tuple[Access, ...]:
        """Distinct accesses on the right-hand side, in order."""
        return tuple(dict.fromkeys(accesses(self.expression)))

    @cached_property
    def ranks(self) -> tuple[str, ...]:
        """The iteration space: output ranks first, then the ranks that only the right-hand side has."""
        found = dict.fromkeys(self.output.ranks)
        for access in self.inputs:
            found.update(dict.fromkeys(access.ranks))
        return tuple(found)

    @cached_property
    def reduced_ranks(self) -> tuple[str, ...]:
        return tuple(rank for rank in self.ranks if rank not in self.output.ranks)


@dataclass(frozen=True)
class Cascade:
    """An ordered list of Einsums: a DAG through tensors, except where a rank iterates."""

    name: str
    einsums: tuple[Einsum, ...]
    text: str = ""

    @cached_property
    def produced(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(einsum.name for einsum in self.einsums))

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Tensors that are read and never produced, in order of first use."""
        read = dict.fromkeys(access.tensor for einsum in self.einsums for access in einsum.inputs)
        return tuple(tensor for tensor in read if tensor not in self.produced)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Tensors that are produced and never read."""
        read = {access.tensor for einsum in self.einsums for access in einsum.inputs}
        return tuple(tensor for tensor in self.produced if tensor not in read)

    @cached_property
    def ranks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(rank for einsum in self.einsums for rank in einsum.ranks))

    def einsum(self, name: str) -> Einsum:
        """The last Einsum that writes `name` (an initial state is written before its update)."""
        return next(einsum for einsum in reversed(self.einsums) if einsum.name == name)

    def __repr__(self) -> str:
        return f"Cascade({self.name!r}, {len(self.einsums)} Einsums)"
