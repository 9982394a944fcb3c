"""The frozen intermediate representation: Index, Access, expression trees, Einsum, Cascade.

Says how a cascade is written down and which ranks and tensors it has. It does not parse (`notation`), compute
(`evaluate`) or analyse (`passes`, `footprint`). Extended Einsums: FuseMax (MICRO'24), section II.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import networkx as nx

Factor: TypeAlias = int | str | tuple[int | str, ...]  # a number, an extent such as 'M0', or a product of them
Reduction: TypeAlias = Literal["add", "max", "min"]
Comparison: TypeAlias = Literal["<", "<=", ">", ">=", "==", "!="]


@dataclass(frozen=True, slots=True)
class Index:
    """One coordinate: `(sum of rank * factor + offsets) // divisor`, or the value of a tensor (`gather`).

    `m` is `((m,1),)`; `m1*M0+m0` is `((m1,M0),(m0,1))`; `m1+1` has offset `(1,)`; the final state `M1` has no
    terms and offset `('M1',)`; `0` has neither; `h//G` has divisor `G`; `V[I[j],d]` gathers through `I[j]`.
    """

    terms: tuple[tuple[str, Factor], ...] = ()
    offsets: tuple[Factor, ...] = ()
    divisor: Factor = 1
    gather: Access | None = None

    @property
    def ranks(self) -> tuple[str, ...]:
        if self.gather is not None:
            return self.gather.ranks
        return tuple(dict.fromkeys(rank for rank, _ in self.terms))

    @property
    def rank(self) -> str | None:
        """The rank, where the coordinate is exactly one rank; None otherwise."""
        plain = len(self.terms) == 1 and self.terms[0][1] == 1 and not self.offsets and self.divisor == 1
        return self.terms[0][0] if plain else None

    @property
    def step(self) -> tuple[str, int] | None:
        """`(rank, k)`, where the coordinate is `rank + k` for a whole number k; None otherwise."""
        if len(self.terms) != 1 or self.terms[0][1] != 1 or self.divisor != 1 or len(self.offsets) > 1:
            return None
        offset = self.offsets[0] if self.offsets else 0
        return (self.terms[0][0], offset) if isinstance(offset, int) else None

    @property
    def fixed(self) -> int | None:
        """The coordinate, where it is a plain number."""
        if self.terms or self.gather is not None or self.divisor != 1 or len(self.offsets) > 1:
            return None
        offset = self.offsets[0] if self.offsets else 0
        return offset if isinstance(offset, int) else None

    @property
    def final(self) -> str | None:
        """The extent, where the coordinate is one, such as `M1`: the state after the last step."""
        if self.terms or self.gather is not None or len(self.offsets) != 1 or not isinstance(self.offsets[0], str):
            return None
        return self.offsets[0]

    def apart(self, other: Index) -> bool:
        """Whether two coordinates surely differ: two numbers, or 0 and a rank plus more than that (`m1+1`)."""
        if self.fixed is not None and other.fixed is not None:
            return self.fixed != other.fixed
        return any(one.fixed is not None and another.step is not None and another.step[1] > one.fixed
                   for one, another in ((self, other), (other, self)))


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
    """`left < right` on coordinates, such as `m <= p`, or on those a tensor holds: `LO[p] <= m`."""

    left: Index
    comparison: Comparison
    right: Index

    @property
    def ranks(self) -> tuple[str, ...]:
        return self.left.ranks + self.right.ranks


@dataclass(frozen=True, slots=True)
class Select:
    """`value if conditions else otherwise`: points outside the conditions cost no work."""

    conditions: tuple[Condition, ...]  # all must hold
    value: Expression
    otherwise: Expression


Expression: TypeAlias = Access | Constant | Extent | Apply | Select


def accesses(expression: Expression) -> Iterator[Access]:
    """Every tensor access, left to right; a gathering access before the tensor that holds its coordinates."""
    match expression:
        case Access(indices=indices):
            yield expression
            for index in indices:
                if index.gather is not None:
                    yield from accesses(index.gather)
        case Apply(operands=operands):
            for operand in operands:
                yield from accesses(operand)
        case Select(conditions=own, value=value, otherwise=otherwise):
            yield from accesses(value)
            for side in (side for condition in own for side in (condition.left, condition.right)):
                if side.gather is not None:
                    yield from accesses(side.gather)
            yield from accesses(otherwise)


def walk(expression: Expression) -> Iterator[Expression]:
    """An expression and all expressions in it, each before those inside it, left to right."""
    yield expression
    inner = expression.operands if isinstance(expression, Apply) else ()
    for each in (expression.value, expression.otherwise) if isinstance(expression, Select) else inner:
        yield from walk(each)


def conditions(expression: Expression) -> Iterator[Condition]:
    """Every condition on coordinates, left to right."""
    for each in walk(expression):
        if isinstance(each, Select):
            yield from each.conditions


def bound_ranks(expression: Expression) -> tuple[str, ...]:
    """Rank variables of an expression: those of its accesses, then those that only its conditions have."""
    found: list[Access | Condition] = [*accesses(expression), *conditions(expression)]
    return tuple(dict.fromkeys(rank for each in found for rank in each.ranks))


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
    def scatters(self) -> tuple[Access, ...]:
        """The tensors that hold coordinates of the result: `IDX[e]` of `Y[IDX[e]] += V[e]`."""
        return tuple(index.gather for index in self.output.indices if index.gather is not None)

    @cached_property
    def inputs(self) -> tuple[Access, ...]:
        """Distinct accesses on the right-hand side, in order, then those that say where a scatter writes."""
        places = (access for each in self.scatters for access in accesses(each))
        return tuple(dict.fromkeys((*accesses(self.expression), *places)))

    @cached_property
    def written_ranks(self) -> tuple[str, ...]:
        """The ranks of the result; those of coordinates that are data are none: results that meet are reduced."""
        return tuple(dict.fromkeys(rank for index in self.output.indices if index.gather is None
                                   for rank in index.ranks))

    @cached_property
    def ranks(self) -> tuple[str, ...]:
        """The iteration space: ranks of the result first, then those that only the right-hand side has."""
        places = tuple(rank for each in self.scatters for rank in each.ranks)
        return tuple(dict.fromkeys(self.written_ranks + bound_ranks(self.expression) + places))

    @cached_property
    def reduced_ranks(self) -> tuple[str, ...]:
        return tuple(rank for rank in self.ranks if rank not in self.written_ranks)

    @cached_property
    def iterates(self) -> tuple[str, ...]:
        """Ranks along which this Einsum writes the next value of a state (`RM[h,m1+1,p]` iterates over m1)."""
        steps = [index.step for index in self.output.indices]
        return tuple(rank for rank, offset in filter(None, steps) if offset > 0)


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

    @cached_property
    def indices(self) -> tuple[Index, ...]:
        """Every coordinate of every access, then every side of every condition."""
        found = [index for einsum in self.einsums for access in (einsum.output, *einsum.inputs)
                 for index in access.indices]
        found += [side for einsum in self.einsums for each in conditions(einsum.expression)
                  for side in (each.left, each.right)]
        return tuple(found)

    @cached_property
    def iterative_ranks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(rank for einsum in self.einsums for rank in einsum.iterates))

    def einsum(self, name: str) -> Einsum:
        """The last Einsum that writes `name` (an initial state is written before its update)."""
        return next(einsum for einsum in reversed(self.einsums) if einsum.name == name)

    def passes(self, rank: str) -> int:
        """Passes over a rank (see `passes`): `ATTENTION_3PASS.passes("m") == 3`."""
        from cascadesim.einsum_cascades.analysis.passes import passes  # it analyses what is written down here

        return passes(self, rank)

    def graph(self) -> nx.MultiDiGraph:
        """The cascade as a networkx graph: nodes are Einsums, edges dependences (see `analysis.graph`)."""
        from cascadesim.einsum_cascades.analysis.graph import graph  # as above

        return graph(self)

    @cached_property
    def _hash(self) -> int:
        return hash((self.name, self.einsums, self.text))

    def __hash__(self) -> int:
        """Computed once: analyses remember what they found of a cascade, and ask often."""
        return self._hash

    def __repr__(self) -> str:
        return f"Cascade({self.name!r}, {len(self.einsums)} Einsums)"
