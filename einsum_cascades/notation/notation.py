"""Text -> Cascade: one Einsum a line, `Tensor[index,...] op expression  # comment`.

Knows lines and how problems are shown. What stands right of the operator is read by `expressions`; what only the
whole cascade can tell (arity, order, initial states) is checked by `checks`. All problems are reported at once.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cascadesim.einsum_cascades.notation.checks import Statement, check
from cascadesim.einsum_cascades.notation.errors import NotationError, excerpt, shortened
from cascadesim.einsum_cascades.notation.expressions import Problem, Reader
from cascadesim.einsum_cascades.notation.ir import Cascade, Einsum, Reduction
from cascadesim.einsum_cascades.notation.text_files import read_text

REDUCTIONS: dict[str, Reduction] = {"=": "add", "+=": "add", "max=": "max", "min=": "min"}
LONGEST_LINE = 10_000  # no Einsum is longer; Python's parser is not asked to try
MOST_EINSUMS = 1_000  # assumed: whole models unrolled stay below; checks look at pairs of them
_MOST_PROBLEMS = 20  # shown with their lines; the others are counted
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


def cascade(name: str, text: str) -> Cascade:
    """The cascade that `text` writes. Raises NotationError showing every problem at its line and column.

    Lines count from the first one with text in it, so a triple-quoted text may start on the line after the quotes.
    """
    first, newline, rest = text.partition("\n")
    return parse(name, rest if newline and not first.strip() else text)


def read_cascade(path: Path | str) -> Cascade:
    """The cascade in a file, named after the file. Raises SpecError if it cannot be read, NotationError as above."""
    path = Path(path)
    return parse(path.stem, read_text(path))


def parse(name: str, text: str) -> Cascade:
    """As `cascade`, with lines counted from the very first one."""
    lines = _lines(text)
    if len(lines) > MOST_EINSUMS:
        raise NotationError(f"{shortened(name)}: {len(lines):,} Einsums; at most {MOST_EINSUMS:,}")
    scalars = _scalars([line for line in lines if len(line.text) <= LONGEST_LINE])
    problems: list[Problem] = [] if lines else [Problem(1, 0, "no Einsum in it")]
    statements: list[Statement] = []
    for line in lines:
        read = _statement(line, scalars)
        if isinstance(read, Statement):
            statements.append(read)
        else:
            problems.extend(read)
    problems.extend(check(statements, complete=not problems))
    if problems:
        each = sorted(set(problems))
        shown = [_show(shortened(name), problem, lines) for problem in each[:_MOST_PROBLEMS]]
        raise NotationError("\n".join(shown), further=len(each) - len(shown))
    return Cascade(name, tuple(statement.einsum for statement in statements), textwrap.dedent(text).strip("\n"))


def _lines(text: str) -> list[Line]:
    found = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        statement, _, comment = line.partition("#")
        if statement.strip():
            found.append(Line(number, statement.rstrip(), comment.strip()))
    return found


def _scalars(lines: Sequence[Line]) -> frozenset[str]:
    """Tensors without indices: `Y = ...` on the left, `Y[]` anywhere."""
    lone = {match.group(1) for line in lines if (match := _LONE_NAME.match(line.text))}
    marked = {match.group(1) for line in lines for match in _SCALAR.finditer(line.text)}
    return frozenset(lone | marked)


def _statement(line: Line, scalars: frozenset[str]) -> Statement | list[Problem]:
    problem = _unreadable(line)
    if problem is not None:
        return [problem]
    text = _SCALAR.sub(lambda match: match.group(1) + " " * len(match.group(2)), line.text)
    match = _STATEMENT.fullmatch(text)
    if match is None:
        column = len(text) - len(text.lstrip())
        return [Problem(line.number, column, "expected Tensor[index,...] = expression (or +=, max=, min=)")]
    reader = Reader(line.number, scalars)
    operator = match.group("operator")
    if operator not in REDUCTIONS:
        known = ", ".join(REDUCTIONS)
        message = f"unknown reduction '{shortened(operator)}'; known: {known}"
        reader.problems.append(Problem(line.number, match.start("operator"), message))
    target, target_column = _stripped(match, "target")
    output = reader.read_target(target, target_column)
    expression = reader.read(*_stripped(match, "right"))
    if reader.problems:
        return reader.problems
    einsum = Einsum(output, REDUCTIONS[operator], expression, line.number, line.text.strip(), line.comment)
    return Statement(einsum, target_column, tuple(reader.accesses))


def _unreadable(line: Line) -> Problem | None:
    """What keeps a line from being read at all."""
    if len(line.text) > LONGEST_LINE:
        return Problem(line.number, 0, f"line longer than {LONGEST_LINE} characters")
    for column, character in enumerate(line.text):
        if character != "\t" and not " " <= character <= "~":
            return Problem(line.number, column, f"unexpected character {character!a}")
    return None


def _stripped(match: re.Match[str], group: str) -> tuple[str, int]:
    text = match.group(group)
    return text.strip(), match.start(group) + len(text) - len(text.lstrip())


def _show(name: str, problem: Problem, lines: Sequence[Line]) -> str:
    heading = f"{name}, line {problem.line}: {problem.message}"
    line = next((line.text for line in lines if line.number == problem.line), "")
    return f"{heading}{excerpt(line, problem.column)}" if line else heading
