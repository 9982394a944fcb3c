"""What only the whole cascade can tell: every tensor has one shape, one definition, and is produced before it is read.

A state of an iterative rank has two definitions, its value at a number (`RM[h,0,p]`) and its next value
(`RM[h,m1+1,p]`); lines between them may read its current value (`RM[h,m1,p]`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cascadesim.einsum_cascades.notation.algebra import index_sum
from cascadesim.einsum_cascades.notation.errors import suggestion
from cascadesim.einsum_cascades.notation.expressions import NotationProblem
from cascadesim.einsum_cascades.notation.ir import Access, Einsum, Index, bound_ranks
from cascadesim.einsum_cascades.notation.operators import fiber_operator


@dataclass(frozen=True, slots=True)
class Statement:
    """An Einsum as read, with the columns of its tensors."""

    einsum: Einsum
    column: int
    accesses: tuple[tuple[Access, int], ...]

    def problem(self, column: int, message: str) -> NotationProblem:
        return NotationProblem(self.einsum.line, column, message)


def check(statements: Sequence[Statement], complete: bool) -> list[NotationProblem]:
    """Problems of statements that each read well; `complete`: no line is missing because it could not be read."""
    found = [*_arities(statements), *_definitions(statements)]
    for position, statement in enumerate(statements):
        found += _targets(statement)
        found += _fibers(statement)
        if complete:
            found += _unbound(statement, statements)
            found += _states(statements, position)
            found += _order(statements, position)
    return found


def _arities(statements: Sequence[Statement]) -> Iterator[NotationProblem]:
    """Every tensor has the number of indices it had where it first stood."""
    first: dict[str, tuple[int, int]] = {}
    for statement in statements:
        for access, column in (*statement.accesses, (statement.einsum.output, statement.column)):
            count = len(access.indices)
            expected, line = first.setdefault(access.tensor, (count, statement.einsum.line))
            if count != expected:
                indices = f"{count} index" if count == 1 else f"{count} indices"
                message = f"{access.tensor} has {indices} here and {expected} on line {line}"
                yield statement.problem(column, message)


def _definitions(statements: Sequence[Statement]) -> Iterator[NotationProblem]:
    """One definition a tensor, except for a state: numbers at the places where its next value has `rank+1`."""
    seen: dict[str, list[Einsum]] = {}
    for statement in statements:
        einsum = statement.einsum
        for earlier in seen.setdefault(einsum.name, []):
            same_size = len(earlier.output.indices) == len(einsum.output.indices)
            if same_size and not any(map(Index.apart, earlier.output.indices, einsum.output.indices)):
                message = (f"{einsum.name} is already defined on line {earlier.line}; only a state has two "
                           f"definitions, its first value at 0 and then its next value at rank+1")
                yield statement.problem(statement.column, message)
                break
        seen[einsum.name].append(einsum)


def _targets(statement: Statement) -> Iterator[NotationProblem]:
    """The left side writes each point once: ranks, rank+1, affine m1*M0+m0, or numbers."""
    output = statement.einsum.output
    for index in output.indices:
        if index.gather is not None or index.divisor != 1 or min(index_sum(index).terms.values(), default=0) < 0:
            yield statement.problem(statement.column, "the left side takes ranks, rank+1, m1*M0+m0 and numbers only")
        elif not index.terms and index.offsets and not isinstance(index.offsets[0], int):
            name = index.offsets[0]
            yield statement.problem(statement.column, f"'{name}' is an extent; the left side takes its rank")
    written = [rank for index in output.indices for rank in index.ranks]
    for rank in sorted({rank for rank in written if written.count(rank) > 1}):
        yield statement.problem(statement.column, f"rank '{rank}' stands twice on the left side")


def _fibers(statement: Statement) -> Iterator[NotationProblem]:
    """A whole-fiber operator exchanges one rank for another: I[p,j] = top(S[p,m], KEEP)."""
    einsum = statement.einsum
    operator = fiber_operator(einsum)
    if operator is None:
        return
    given = bound_ranks(einsum.expression)
    new = [rank for rank in einsum.output.ranks if rank not in given]
    if len(new) != 1 or len(einsum.reduced_ranks) != 1 or einsum.reduction != "add":
        yield statement.problem(statement.column, f"{operator.name} exchanges one rank for another, such as "
                                                  f"I[p,j] = {operator.name}(S[p,m], KEEP)")


def _unbound(statement: Statement, statements: Sequence[Statement]) -> Iterator[NotationProblem]:
    """Every rank on the left is bound on the right; a constant may take ranks that other lines use."""
    einsum = statement.einsum
    if fiber_operator(einsum) is not None:
        return
    bound: Iterable[str] = bound_ranks(einsum.expression)
    if not einsum.inputs:
        bound = {rank for other in statements if other is not statement for rank in other.einsum.ranks} | set(bound)
    for rank in einsum.output.ranks:
        if rank not in bound:
            hint = suggestion(rank, bound) if einsum.inputs else "; no other line has it"
            message = f"rank '{rank}' of {einsum.name} does not stand on the right side{hint}"
            yield statement.problem(statement.column, message)


def _states(statements: Sequence[Statement], position: int) -> Iterator[NotationProblem]:
    """A next value at rank+k has its first k values before it."""
    statement = statements[position]
    output = statement.einsum.output
    before = [earlier.einsum.output for earlier in statements[:position] if earlier.einsum.name == output.tensor]
    for place, index in enumerate(output.indices):
        if index.step is None or index.step[1] <= 0:
            continue
        for start in range(min(index.step[1], 64)):
            if not any(len(first.indices) > place and first.indices[place].fixed == start for first in before):
                message = f"{output.tensor} has no value at {start} to start from: a line before this one must give it"
                yield statement.problem(statement.column, message)
                break


def _order(statements: Sequence[Statement], position: int) -> Iterator[NotationProblem]:
    """Tensors are read after the line that produces them; the current value of a state may be read before."""
    statement = statements[position]
    before = {earlier.einsum.name for earlier in statements[:position]}
    after = [later.einsum for later in statements[position:]]
    for access, column in statement.accesses:
        update = next((later for later in after if later.name == access.tensor), None)
        if access.tensor not in before and update is not None:
            if update.iterates and _is_current(access, update.output):
                continue  # the next value has no first one: _states says so
            own = update is statement.einsum
            where = "by the line that produces it" if own else f"and produced on line {update.line}"
            yield statement.problem(column, f"{access.tensor} is read here {where}")
        elif update is not None and not _is_current(access, update.output):
            yield statement.problem(
                column, f"{access.tensor} is read ahead of its next value, which line {update.line} produces")
        if access.tensor not in {other.einsum.name for other in statements if other.einsum.iterates}:
            for name in filter(None, (index.final for index in access.indices)):
                message = f"'{name}' is an extent, one past the last element of {access.tensor}"
                yield statement.problem(column, f"{message}; did you mean '{name.lower()}'?")


def _is_current(access: Access, update: Access) -> bool:
    """Whether a read before the update needs only values that exist: `RM[h,m1,p]`, `RM[h,0,p]`; `T[i,j+1]` of
    `T[i+1,j+1]`: earlier along one rank, not ahead along any."""
    behind = [_behind(read, *written.step) for read, written in zip(access.indices, update.indices, strict=False)
              if written.step is not None and written.step[1] > 0]
    return all(steps is not None and steps >= 0 for steps in behind) and any(behind)


def _behind(read: Index, rank: str, offset: int) -> int | None:
    """Steps by which a read stays behind the value written at `rank+offset`; None where that cannot be told."""
    if read.fixed is not None:
        return offset - read.fixed
    return offset - read.step[1] if read.step is not None and read.step[0] == rank else None
