"""Text <-> Cascade: one Einsum a line, `Tensor[index,...] op expression  # comment`; read, and written again.

Knows lines and how problems are shown. What stands right of the operator is read by `expressions`; what only the
whole cascade can tell (arity, order, initial states) is checked by `checks`. All problems are reported at once.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from cascadesim.einsum_cascades.notation.algebra import access_text, index_text
from cascadesim.einsum_cascades.notation.checks import Statement, check
from cascadesim.einsum_cascades.notation.errors import NotationError, excerpt, shortened
from cascadesim.einsum_cascades.notation.expressions import NotationProblem, Reader
from cascadesim.einsum_cascades.notation.files import read_text
from cascadesim.einsum_cascades.notation.ir import (
    Access,
    Apply,
    Cascade,
    Condition,
    Constant,
    Einsum,
    Expression,
    Extent,
    Reduction,
    Select,
)

REDUCTIONS: dict[str, Reduction] = {"=": "add", "+=": "add", "max=": "max", "min=": "min"}
LONGEST_LINE = 10_000  # no Einsum is longer; Python's parser is not asked to try
MOST_EINSUMS = 1_000  # assumed: whole models unrolled stay below; checks look at pairs of them
_MOST_PROBLEMS = 20  # shown with their lines; the others are counted
_CONDITIONAL, _SUM, _PRODUCT, _SIGN, _ATOM = range(5)  # how tightly a construct binds
_SYMBOLS = {"add": ("+", _SUM), "subtract": ("-", _SUM), "multiply": ("*", _PRODUCT), "divide": ("/", _PRODUCT)}
_WHOLE = 2.0**53  # whole numbers up to here are written without a point
# Possessive quantifiers (`*+`) never give back what they took: each line is scanned once, whatever is in it.
_STATEMENT = re.compile(
    r"(?P<target>\s*+[A-Za-z_]\w*+\s*+(?:\[[^\[\]=]*+\])?+)\s*+"
    r"(?P<operator>(?:[A-Za-z_]\w*+|[^\w\s\[\]=<>!]++)?+=(?!=))(?P<right>.*)"
)
_SCALAR = re.compile(r"\b([A-Za-z]\w*+)(\s*+\[\s*+\])")
_LONE_NAME = re.compile(r"\s*+([A-Za-z]\w*+)\s*+(?:\w*+|\+)=(?!=)")


@dataclass(frozen=True, slots=True)
class Line:
    """A line that holds an Einsum, its comment cut off."""

    number: int
    text: str
    comment: str


def cascade(name: str, text: str, after: Cascade | None = None) -> Cascade:
    """The cascade that `text` writes, where it goes on `after` another one.

    Raises NotationError showing every problem at its line and column. Lines count from the first one with text in it,
    so a triple-quoted text may start on the line after the quotes.
    """
    first, newline, others = text.partition("\n")
    own = others if newline and not first.strip() else text
    return parse(name, own if after is None else f"{after.text}\n{textwrap.dedent(own)}")


def read_cascade(path: Path | str) -> Cascade:
    """The cascade in a file, named after the file. Raises SpecError if it cannot be read, NotationError as above."""
    path = Path(path)
    return parse(path.stem, read_text(path))


def parse(name: str, text: str) -> Cascade:
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
    return Cascade(name, tuple(statement.einsum for statement in statements), textwrap.dedent(text).strip("\n"))


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
        known = ", ".join(REDUCTIONS)
        message = f"unknown reduction '{shortened(operator)}'; known: {known}"
        reader.problems.append(NotationProblem(line.number, match.start("operator"), message))
    target, target_column = _stripped(match, "target")
    output = reader.read_target(target, target_column)
    expression = reader.read(*_stripped(match, "right"))
    if reader.problems:
        return reader.problems
    einsum = Einsum(output, REDUCTIONS[operator], expression, line.number, line.text.strip(), line.comment)
    return Statement(einsum, target_column, tuple(reader.accesses))


def _unreadable(line: Line) -> NotationProblem | None:
    """What keeps a line from being read at all."""
    if len(line.text) > LONGEST_LINE:
        return NotationProblem(line.number, 0, f"line longer than {LONGEST_LINE} characters")
    for column, character in enumerate(line.text):
        if character != "\t" and not " " <= character <= "~":
            return NotationProblem(line.number, column, f"unexpected character {character!a}")
    return None


def _stripped(match: re.Match[str], group: str) -> tuple[str, int]:
    text = match.group(group)
    return text.strip(), match.start(group) + len(text) - len(text.lstrip())


def to_text(cascade: Cascade) -> str:
    """The cascade in the notation, operators below each other, comments kept; `parse` reads the same Einsums back."""
    targets = [access_text(einsum.output).removesuffix("[]") for einsum in cascade.einsums]
    width = max(map(len, targets), default=0)
    lines = []
    for target, einsum in zip(targets, cascade.einsums, strict=True):
        comment = f"   # {einsum.comment}" if einsum.comment else ""
        symbol = "=" if einsum.reduction == "add" else f"{einsum.reduction}="
        lines.append(f"{target:<{width}} {symbol} {_text(einsum.expression, _CONDITIONAL)}{comment}")
    return "\n".join(lines)


def _text(expression: Expression, around: int) -> str:
    """Text of an expression, in brackets where what is around it binds more tightly."""
    text, binding = _bare(expression)
    return f"({text})" if binding < around else text


def _bare(expression: Expression) -> tuple[str, int]:
    match expression:
        case Access():
            return access_text(expression), _ATOM
        case Constant(value=value):
            whole = abs(value) <= _WHOLE and value == int(value)
            return str(int(value)) if whole else repr(value), _SIGN if value < 0 else _ATOM
        case Extent(name=name):
            return name, _ATOM
        case Apply(operator="negate", operands=(operand,)):
            return f"-{_text(operand, _ATOM)}", _SIGN
        case Apply(operator=name, operands=(left, right)) if name in _SYMBOLS:
            symbol, binding = _SYMBOLS[name]
            return f"{_text(left, binding)} {symbol} {_text(right, binding + 1)}", binding
        case Apply(operator=name, operands=operands):
            return f"{name}({', '.join(_text(operand, _CONDITIONAL) for operand in operands)})", _ATOM
        case Select(conditions=conditions, value=value, otherwise=otherwise):
            test = " and ".join(map(condition_text, conditions))
            return f"{_text(value, _SUM)} if {test} else {_text(otherwise, _SUM)}", _CONDITIONAL


def condition_text(condition: Condition) -> str:
    return f"{index_text(condition.left)} {condition.comparison} {index_text(condition.right)}"
