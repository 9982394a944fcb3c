"""Text <-> Cascade: one Einsum a line, `Tensor[index,...] op expression  # comment`; read, and written again.

Knows lines, how problems are shown, and what only the whole cascade can tell: every tensor has one shape, one
definition, and is produced before it is read. What stands right of the operator is read by `expressions`. All problems
are reported at once. A state of an iterative rank has two definitions, its value at a number (`RM[h,0,p]`) and its next
value (`RM[h,m1+1,p]`); lines between them may read its current value (`RM[h,m1,p]`). A rank that only the left side has
repeats the result along it (`RM[h,0,p] = SINK[h]`). A left side may write at coordinates that are data: the scatter
`Y[IDX[e]] += V[e]` reduces what meets at one place; where nothing is written stands the sum (or maximum) of nothing.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from cascadesim.einsum_cascades.notation import ir
from cascadesim.einsum_cascades.notation.algebra import access_text, index_sum, index_text
from cascadesim.einsum_cascades.notation.errors import NotationError, excerpt, shortened
from cascadesim.einsum_cascades.notation.expressions import NO_STOPPING, NotationProblem, Reader
from cascadesim.einsum_cascades.notation.operators import (
    fiber_operator,
    measured_ranks,
    unsized_scatters,
    without_length,
)

REDUCTIONS: dict[str, ir.Reduction] = {"=": "add", "+=": "add", "max=": "max", "min=": "min"}
LONGEST_LINE = 10_000  # no Einsum is longer; Python's parser is not asked to try
MOST_EINSUMS = 1_000  # assumed: whole models unrolled stay below; checks look at pairs of them
_MOST_PROBLEMS = 20  # shown with their lines; the others are counted
_CONDITIONAL, _SUM, _PRODUCT, _SIGN, _ATOM = range(5)  # how tightly a construct binds
_SYMBOLS = {"add": ("+", _SUM), "subtract": ("-", _SUM), "multiply": ("*", _PRODUCT), "divide": ("/", _PRODUCT)}
_WHOLE = 2.0**53  # whole numbers up to here are written without a point
# Possessive quantifiers (`*+`) never give back what they took: each line is scanned once, whatever is in it.
_STATEMENT = re.compile(r"(?P<target>\s*+[A-Za-z_]\w*+\s*+"
                        r"(?:\[(?:[^\[\]=]++|\[(?:[^\[\]=]++|\[[^\[\]=]*+\])*+\])*+\])?+)\s*+"
                        r"(?P<operator>(?:[A-Za-z_]\w*+|[^\w\s\[\]=<>!]++)?+=(?!=))(?P<right>.*)")
_SCALAR = re.compile(r"\b([A-Za-z]\w*+)(\s*+\[\s*+\])")
_LONE_NAME = re.compile(r"\s*+([A-Za-z]\w*+)\s*+(?:\w*+|\+)=(?!=)")


@dataclass(frozen=True, slots=True)
class Line:
    """A line that holds an Einsum, its comment cut off."""

    number: int
    text: str
    comment: str


@dataclass(frozen=True, slots=True)
class Statement:
    """An Einsum as read, with the columns of its tensors."""

    einsum: ir.Einsum
    column: int
    accesses: tuple[tuple[ir.Access, int], ...]

    def problem(self, column: int, message: str) -> NotationProblem:
        return NotationProblem(self.einsum.line, column, message)


def cascade(name: str, text: str, after: ir.Cascade | None = None) -> ir.Cascade:
    """The cascade that `text` writes, where it goes on `after` another one.

    Raises NotationError showing every problem at its line and column. Lines count from the first one with text in it,
    so a triple-quoted text may start on the line after the quotes.
    """
    first, newline, others = text.partition("\n")
    own = others if newline and not first.strip() else text
    return parse(name, own if after is None else f"{after.text}\n{textwrap.dedent(own)}")


def read_cascade(path: Path | str) -> ir.Cascade:
    """The cascade in a file, named after the file. Raises SpecError if it cannot be read, NotationError as above."""
    from cascadesim.einsum_cascades.notation.schema import read_text  # brings pydantic: not for texts of the package

    return parse(Path(path).stem, read_text(path))


def parse(name: str, text: str) -> ir.Cascade:
    """Reads as `cascade` does, with lines counted from the very first one."""
    lines = _lines(text)
    if len(lines) > MOST_EINSUMS:
        raise NotationError(f"{shortened(name)}: {len(lines):,} Einsums; at most {MOST_EINSUMS:,}")
    # tensors without indices: `Y[]` anywhere, `Y = ...` on the left
    texts = [line.text for line in lines if len(line.text) <= LONGEST_LINE]
    marked = {match.group(1) for text in texts for match in _SCALAR.finditer(text)}
    scalars = frozenset(marked | {match.group(1) for text in texts if (match := _LONE_NAME.match(text))})
    problems: list[NotationProblem] = [] if lines else [NotationProblem(1, 0, "no Einsum in it")]
    statements: list[Statement] = []
    for line in lines:
        read = _statement(line, scalars)
        if isinstance(read, Statement):
            statements.append(read)
        else:
            problems.extend(read)
    problems.extend(check(statements, complete=not problems))
    if problems:
        each, given = sorted(set(problems)), {line.number: line.text for line in lines}
        shown = [f"{shortened(name)}, line {problem.line}: {problem.message}"
                 f"{excerpt(given[problem.line], problem.column) if given.get(problem.line) else ''}"
                 for problem in each[:_MOST_PROBLEMS]]
        raise NotationError("\n".join(shown), further=len(each) - len(shown))
    return ir.Cascade(name, tuple(statement.einsum for statement in statements), textwrap.dedent(text).strip("\n"))


def _lines(text: str) -> list[Line]:
    found = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        statement, _, comment = line.partition("#")
        if statement.strip():
            found.append(Line(number, statement.rstrip(), comment.strip()))
    return found


def _statement(line: Line, scalars: frozenset[str]) -> Statement | list[NotationProblem]:
    problem = _unreadable(line)
    if problem is not None:
        return [problem]
    text = _SCALAR.sub(lambda match: match.group(1) + " " * len(match.group(2)), line.text)
    match = _STATEMENT.fullmatch(text)
    if match is None:
        column = len(text) - len(text.lstrip())
        return [NotationProblem(line.number, column, "expected Tensor[index,...] = expression (or +=, max=, min=)")]
    reader = Reader(line.number, scalars)
    operator = match.group("operator")
    if operator not in REDUCTIONS:
        message = f"unknown reduction '{shortened(operator)}'; known: {', '.join(REDUCTIONS)}"
        reader.problems.append(NotationProblem(line.number, match.start("operator"), message))
    target, target_column = _stripped(match, "target")
    output = reader.read_target(target, target_column)
    expression = reader.read(*_stripped(match, "right"))
    if reader.problems:
        return reader.problems
    einsum = ir.Einsum(output, REDUCTIONS[operator], expression, line.number, line.text.strip(), line.comment)
    return Statement(einsum, target_column, tuple(reader.accesses))


def _unreadable(line: Line) -> NotationProblem | None:
    """What keeps a line from being read at all."""
    if len(line.text) > LONGEST_LINE:
        return NotationProblem(line.number, 0, f"line longer than {LONGEST_LINE} characters")
    for column, character in enumerate(line.text):
        if character in "\u25c7\u22c4":
            return NotationProblem(line.number, column, f"a diamond (EDGE) {NO_STOPPING}")
        if character != "\t" and not " " <= character <= "~":
            return NotationProblem(line.number, column, f"unexpected character {character!a}")
    return None


def _stripped(match: re.Match[str], group: str) -> tuple[str, int]:
    text = match.group(group)
    return text.strip(), match.start(group) + len(text) - len(text.lstrip())


def check(statements: Sequence[Statement], complete: bool) -> list[NotationProblem]:
    """Problems of statements that each read well; `complete`: no line is missing because it could not be read."""
    found = [*_arities(statements), *_definitions(statements)]
    measured = measured_ranks([statement.einsum for statement in statements])
    for position, statement in enumerate(statements):
        found += _targets(statement)
        found += _fibers(statement)
        if complete:
            found += _lengths(statement, statements, measured)
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
    seen: dict[str, list[ir.Einsum]] = {}
    for statement in statements:
        einsum = statement.einsum
        for earlier in seen.setdefault(einsum.name, []):
            same_size = len(earlier.output.indices) == len(einsum.output.indices)
            if same_size and not any(map(ir.Index.apart, earlier.output.indices, einsum.output.indices)):
                message = (f"{einsum.name} is already defined on line {earlier.line}; only a state has two "
                           f"definitions, its first value at 0 and then its next value at rank+1")
                yield statement.problem(statement.column, message)
                break
        seen[einsum.name].append(einsum)


def _targets(statement: Statement) -> Iterator[NotationProblem]:
    """The left side writes ranks, rank+1, affine m1*M0+m0, numbers, or where a tensor says."""
    output = statement.einsum.output
    for index in output.indices:
        if index.divisor != 1 or min(index_sum(index).terms.values(), default=0) < 0:
            message = "the left side takes ranks, rank+1, m1*M0+m0, numbers and tensors of coordinates only"
            yield statement.problem(statement.column, message)
        elif not index.terms and index.offsets and not isinstance(index.offsets[0], int):
            name = index.offsets[0]
            yield statement.problem(statement.column, f"'{name}' is an extent; the left side takes its rank")
    written = [rank for index in output.indices if index.gather is None for rank in index.ranks]
    for rank in sorted({rank for rank in written if written.count(rank) > 1}):
        yield statement.problem(statement.column, f"rank '{rank}' stands twice on the left side")


def _fibers(statement: Statement) -> Iterator[NotationProblem]:
    """A whole-fiber operator exchanges one rank for another: I[p,j] = top(S[p,m], KEEP)."""
    einsum = statement.einsum
    operator = fiber_operator(einsum)
    if operator is None:
        return
    given = ir.bound_ranks(einsum.expression)
    new = [rank for rank in einsum.written_ranks if rank not in given]
    if len(new) != 1 or len(einsum.reduced_ranks) != 1 or einsum.reduction != "add":
        yield statement.problem(statement.column, f"{operator.name} exchanges one rank for another, such as "
                                                  f"I[p,j] = {operator.name}(S[p,m], KEEP)")


def _lengths(
    statement: Statement, statements: Sequence[Statement], measured: Set[str]
) -> Iterator[NotationProblem]:
    """Every dimension that is written has a length."""
    others = [other.einsum for other in statements if other is not statement]
    for message in (*without_length(statement.einsum, others, measured), *unsized_scatters(statement.einsum, others)):
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


def _is_current(access: ir.Access, update: ir.Access) -> bool:
    """Whether a read before the update needs only values that exist: `RM[h,m1,p]`, `RM[h,0,p]`; `T[i,j+1]` of
    `T[i+1,j+1]`: earlier along one rank, not ahead along any."""
    behind = [_behind(read, *written.step) for read, written in zip(access.indices, update.indices, strict=False)
              if written.step is not None and written.step[1] > 0]
    return all(steps is not None and steps >= 0 for steps in behind) and any(behind)


def _behind(read: ir.Index, rank: str, offset: int) -> int | None:
    """Steps by which a read stays behind the value written at `rank+offset`; None where that cannot be told."""
    if read.fixed is not None:
        return offset - read.fixed
    return offset - read.step[1] if read.step is not None and read.step[0] == rank else None


def to_text(cascade: ir.Cascade) -> str:
    """The cascade in the notation, operators below each other, comments kept; `parse` reads the same Einsums back."""
    targets = [access_text(einsum.output).removesuffix("[]") for einsum in cascade.einsums]
    width = max(map(len, targets), default=0)
    lines = []
    for target, einsum in zip(targets, cascade.einsums, strict=True):
        comment = f"   # {einsum.comment}" if einsum.comment else ""
        symbol = {"add": "+=" if einsum.scatters else "="}.get(einsum.reduction, f"{einsum.reduction}=")
        lines.append(f"{target:<{width}} {symbol} {_text(einsum.expression, _CONDITIONAL)}{comment}")
    return "\n".join(lines)


def _text(expression: ir.Expression, around: int) -> str:
    """Text of an expression, in brackets where what is around it binds more tightly."""
    text, binding = _bare(expression)
    return f"({text})" if binding < around else text


def _bare(expression: ir.Expression) -> tuple[str, int]:
    match expression:
        case ir.Access():
            return access_text(expression), _ATOM
        case ir.Constant(value=value):
            whole = abs(value) <= _WHOLE and value == int(value)
            return str(int(value)) if whole else repr(value), _SIGN if value < 0 else _ATOM
        case ir.Extent(name=name):
            return name, _ATOM
        case ir.Apply(operator="negate", operands=(operand,)):
            return f"-{_text(operand, _ATOM)}", _SIGN
        case ir.Apply(operator=name, operands=(left, right)) if name in _SYMBOLS:
            symbol, binding = _SYMBOLS[name]
            return f"{_text(left, binding)} {symbol} {_text(right, binding + 1)}", binding
        case ir.Apply(operator=name, operands=operands):
            return f"{name}({', '.join(_text(operand, _CONDITIONAL) for operand in operands)})", _ATOM
        case ir.Select(conditions=conditions, value=value, otherwise=otherwise):
            test = " and ".join(map(condition_text, conditions))
            return f"{_text(value, _SUM)} if {test} else {_text(otherwise, _SUM)}", _CONDITIONAL


def condition_text(condition: ir.Condition) -> str:
    return f"{index_text(condition.left)} {condition.comparison} {index_text(condition.right)}"
