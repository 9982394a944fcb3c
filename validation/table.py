"""Reads a CSV of published figures into typed rows, by a layout: its columns, their other spellings, and the key.

Comment lines start with `#`; `# calibration:` lines are kept (`compare` reads them). Every problem of a file is
reported at once, each with file, line and column. Rows that only mean something together (a run of a simulator, draws
from one generator, heads in one stream) are members of a group. Knows no claim and no model.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import TypeAlias, TypeVar

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, listed, shortened, suggestion
from cascadesim.einsum_cascades.notation.schema import LARGEST_TABLE_BYTES, read_text

Value: TypeAlias = str | int | float | None
Parse: TypeAlias = Callable[[str], str | int | float]

LARGEST_COUNT = 2**40  # no count of a published figure comes near; products of several stay honest numbers


def count(text: str, expected: str = "a positive whole number", given: str | None = None) -> int:
    if not (text.isascii() and text.isdigit()) or text.strip("0") == "":
        raise ValueError(f"expected {expected}, got '{shortened(given or text)}'")
    if len(text) > 18 or int(text) > LARGEST_COUNT:
        raise ValueError(f"expected {expected}, of at most 2^40, got '{shortened(given or text)}'")
    return int(text)


def whole(text: str, expected: str = "a whole number of at least 0") -> int:
    return 0 if text == "0" else count(text, expected)


def positive(text: str) -> float:
    value = not_negative(text)
    if value == 0:
        raise ValueError("expected a number above 0, got 0")
    return value


def not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"expected a number, got '{shortened(text)}'") from None
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"expected a finite number of at least 0, got '{shortened(text)}'")
    return value


@dataclass(frozen=True, slots=True)
class Column:
    """One column: our name, how a cell reads, and the names other files give it."""

    name: str
    parse: Parse
    aliases: tuple[str, ...] = ()
    required: bool = True


def columns_of(parse: Parse, names: str, required: bool = True) -> tuple[Column, ...]:
    """Columns that read alike; their names separated by spaces, each with its aliases: `area_um2=area=total_um2`."""
    split = (each.split("=") for each in names.split())
    return tuple(Column(name, parse, tuple(aliases), required) for name, *aliases in split)


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a suite's data and the ones that tell its rows apart.

    `from_source`: a required column that a file may leave out when its name, or the source its comments cite,
    says the value (the artifact has one file per configuration).
    """

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    from_source: Mapping[str, Callable[[str], str | None]] = field(default_factory=dict)

    def named(self, header: str) -> Column | None:
        """The column that `header` spells, our name first."""
        spelt = header.strip().lower()
        for column in self.columns:
            if spelt == column.name.lower() or spelt in (alias.lower() for alias in column.aliases):
                return column
        return None

    def condition(self, text: str, between: str = ",") -> tuple[str, tuple[Value, ...]]:
        """(column, values) of COLUMN=VALUE,VALUE. Raises ValueError where there is no such column or value."""
        name, equals, values = text.partition("=")
        column = self.named(name) if equals else None
        if column is None:
            raise ValueError(f"'{text}' is no COLUMN=VALUE of this table")
        return column.name, tuple(column.parse(value) for value in values.split(between))


_Filled = TypeVar("_Filled", str, int)


@dataclass(frozen=True)
class Row:
    """One line of a table: our column names and their values; an empty cell is None."""

    cells: tuple[tuple[str, Value], ...]
    source: str
    line: int

    def get(self, column: str) -> Value:
        return dict(self.cells).get(column)

    def text(self, column: str) -> str:
        """Raises SpecError where the cell is empty."""
        return self._filled(column, str, "text")

    def count(self, column: str) -> int:
        """Raises SpecError where the cell is empty."""
        return self._filled(column, int, "count")

    def _filled(self, column: str, kind: type[_Filled], named: str) -> _Filled:
        value = self.get(column)
        if value is None:
            raise SpecError(f"column '{column}': empty, but this row needs it")
        if not isinstance(value, kind):
            raise TypeError(f"{column} holds no {named}")
        return value

    def number(self, column: str) -> float | None:
        value = self.get(column)
        if isinstance(value, str):
            raise TypeError(f"{column} holds no number")
        return value

    @property
    def place(self) -> str:
        return f"{self.source}, line {self.line}"


@dataclass(frozen=True, eq=False)
class RowGroup:
    """Rows in their order; they may include some that stand between members and are not compared themselves.

    Compared by identity, so that what a suite predicts can be remembered for all its rows at once.
    """

    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Member(Row):
    """The row at `position` of its group."""

    group: RowGroup
    position: int


def members(rows: Sequence[Row]) -> tuple[Member, ...]:
    """All of them one group."""
    group = RowGroup(tuple(rows))
    return tuple(Member(row.cells, row.source, row.line, group, place) for place, row in enumerate(rows))


def member(row: Row) -> Member:
    """The row itself. Raises TypeError if its suite did not group it."""
    if not isinstance(row, Member):
        raise TypeError(f"{row.place}: stands alone")
    return row


def with_cells(row: Row, **cells: Value) -> Row:
    """The row with more columns."""
    return replace(row, cells=(*row.cells, *cells.items()))


@dataclass(frozen=True)
class Table:
    """The rows of one file, the comments above them, the columns that nothing reads, and rows that cannot be judged."""

    rows: tuple[Row, ...]
    comments: tuple[str, ...]
    unread_columns: tuple[str, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()  # (why, how many rows)


MOST_PROBLEMS = 20  # of one file that are described; the others are counted
ParseTable: TypeAlias = Callable[[str, Layout, str], Table]  # text, layout and name of a file


class CannotJudge(Exception):
    """Why a suite says nothing about a row."""


def published_text(file_name: str) -> str:
    """The text of a table that ships with the project."""
    return resources.files("cascadesim.validation").joinpath("published", file_name).read_text(encoding="utf-8")


def published(file_name: str, layout: Layout, parse: ParseTable | None = None) -> Table:
    """A table that ships with the project."""
    return (parse or parse_table)(published_text(file_name), layout, file_name)


def joined(tables: Sequence[Table]) -> Table:
    """Several files as one table."""
    if len(tables) == 1:
        return tables[0]
    return Table(*(tuple(one for table in tables for one in getattr(table, each.name)) for each in fields(Table)))


def read_table(path: Path, layout: Layout, parse: ParseTable | None = None) -> Table:
    """A user's file. Raises SpecError with all its problems."""
    return (parse or parse_table)(read_text(path, LARGEST_TABLE_BYTES), layout, path.name)


def grouped(table: Table, key: Callable[[Row], Hashable]) -> Table:
    """Neighbouring rows of equal `key` become a group each."""
    groups = [members(tuple(rows)) for _, rows in groupby(table.rows, key)]
    return replace(table, rows=tuple(row for group in groups for row in group))


def judgeable(rows: Sequence[Row], read: Callable[[Row], Row], mark: str = ": ") -> tuple[list[Row], Counter[str]]:
    """The rows as `read` makes them, and how many it cannot judge, by reason.

    `read` raises CannotJudge for a row that says nothing to the suite, ValueError or CascadeSimError for a cell that
    is wrong. Raises SpecError with every wrong row: its place, `mark`, and what is wrong.
    """
    found, left_out, problems = [], Counter[str](), []
    for row in rows:
        try:
            found.append(read(row))
        except CannotJudge as reason:
            left_out[str(reason)] += 1
        except (ValueError, CascadeSimError) as error:
            problems.append(f"{row.place}{mark}{error}")
    refuse(problems)
    return found, left_out


def refuse(problems: Sequence[str]) -> None:
    """Raises SpecError with the first of them, and how many more there are; nothing if there are none."""
    if problems:
        raise SpecError("\n".join(problems[:MOST_PROBLEMS]), further=len(problems[MOST_PROBLEMS:]))


def parse_table(text: str, layout: Layout, source: str) -> Table:
    """`text` as rows of `layout`. Raises SpecError listing every problem as `source, line N, column 'x': ...`."""
    records = list(_records(text, source))
    comments = tuple(line.lstrip("# ").rstrip() for line in text.splitlines() if line.startswith("#"))
    names = [column.name if column.required else f"[{column.name}]" for column in layout.columns]
    expected = f"the columns {listed(names)}"
    if not records:
        raise SpecError(f"{source}: holds no table; expected a header: {expected}")
    (line, header), *body = records
    columns = _columns(header, layout, f"{source}, line {line}", expected)
    implied = _implied(columns, layout, source, comments, line)
    problems: list[str] = []
    rows = tuple(_row(record, columns, implied, number, source, problems) for number, record in body)
    problems += _duplicates(rows, layout) if not problems else []
    if not rows:
        problems.append(f"{source}: holds a header and no rows")
    refuse(problems)
    unread = [name for name, column in zip(header, columns, strict=True) if column is None and name.strip()]
    return Table(rows, comments, tuple(unread))


def _records(text: str, source: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of every line that is neither a comment nor blank."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#") or not line.strip():
            continue
        try:
            yield number, next(csv.reader([line], strict=True))
        except csv.Error as error:
            raise SpecError(f"{source}, line {number}: not CSV: {error}") from None


def _columns(header: Sequence[str], layout: Layout, place: str, expected: str) -> list[Column | None]:
    """The column under each header cell, None under one that the layout does not know."""

    def misspelt(name: str) -> str:
        close = suggestion(name, unknown)
        return f" (is it '{close.split(chr(39))[1]}'?)" if "did you mean" in close else ""

    columns = [layout.named(name) for name in header]
    found = [column.name for column in columns if column is not None]
    missing = [column.name for column in layout.columns
               if column.required and column.name not in found and column.name not in layout.from_source]
    unknown = [name for name, column in zip(header, columns, strict=True) if column is None and name.strip()]
    problems = [f"{place}: no column '{name}'{misspelt(name)}" for name in missing]
    problems += [f"{place}: two columns give '{name}'" for name in dict.fromkeys(found) if found.count(name) > 1]
    if problems:
        raise SpecError("\n".join([*problems, f"{place}: expected {expected}"]))
    return columns


def _implied(columns: Sequence[Column | None], layout: Layout, source: str, comments: Sequence[str],
             line: int) -> dict[str, Value]:
    """Values of left-out columns, from the file's name or else from the source its comments cite."""
    present = {column.name for column in columns if column is not None}
    implied: dict[str, Value] = {}
    for name, infer in layout.from_source.items():
        if name in present:
            continue
        value = next((value for text in (source, *comments) if (value := infer(text)) is not None), None)
        if value is None:
            raise SpecError(f"{source}, line {line}: no column '{name}', and neither the file's name nor the source "
                            f"in its comments says which (attn-binding.csv would)")
        implied[name] = value
    return implied


def _row(record: Sequence[str], columns: Sequence[Column | None], implied: dict[str, Value], line: int, source: str,
         problems: list[str]) -> Row:
    cells: dict[str, Value] = dict(implied)
    if extra := [cell for cell in record[len(columns):] if cell.strip()]:
        problems.append(f"{source}, line {line}: {len(extra)} cells more than the header has columns")
    for position, column in enumerate(columns):
        if column is None:
            continue
        text = record[position].strip() if position < len(record) else ""
        if not text and not column.required:
            cells[column.name] = None
            continue
        try:
            if not text:
                raise ValueError("empty")
            cells[column.name] = column.parse(text)
        except ValueError as error:
            problems.append(f"{source}, line {line}, column '{column.name}': {error}")
    return Row(tuple(cells.items()), source, line)


def _duplicates(rows: Sequence[Row], layout: Layout) -> list[str]:
    """A row given twice would count twice in the means."""
    first: dict[tuple[Value, ...], Row] = {}
    problems = []
    names = [name for name, _ in rows[0].cells] if rows else []
    places = [names.index(name) for name in layout.key if name in names]  # of all rows alike
    for row in rows:
        key = tuple([row.cells[place][1] for place in places])
        if first.setdefault(key, row) is not row:
            problems.append(f"{row.place}: ({shortened(', '.join(map(str, key)))}) was given in line {first[key].line} "
                            f"already")
    return problems
