"""Rows that only mean something together: a run of a simulator, draws from one generator, heads in one stream.

A suite whose figures depend on the rows before them parses its table into `Member` rows; the group is compared by
identity, so that what it predicts can be remembered for all its rows at once. Knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from cascadesim.validation.columns import Value
from cascadesim.validation.table import Row, Table


@dataclass(frozen=True, eq=False)
class Group:
    """Rows in their order; they may include some that stand between members and are not compared themselves."""

    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Member(Row):
    """The row at `position` of its group."""

    group: Group
    position: int


def members(rows: Sequence[Row]) -> tuple[Member, ...]:
    """All of them one group."""
    group = Group(tuple(rows))
    return tuple(Member(row.cells, row.source, row.line, group, place) for place, row in enumerate(rows))


def members_among(rows: Sequence[Row], compared: Sequence[bool]) -> tuple[Member, ...]:
    """Those of `rows` that are compared; all of them are the group."""
    return tuple(one for one, chosen in zip(members(rows), compared, strict=True) if chosen)


def grouped(table: Table, key: Callable[[Row], Hashable]) -> Table:
    """Neighbouring rows of equal `key` become a group each."""
    groups = [members(tuple(rows)) for _, rows in groupby(table.rows, key)]
    return replace(table, rows=tuple(row for group in groups for row in group))


def member(row: Row) -> Member:
    if not isinstance(row, Member):
        raise TypeError(f"{row.place}: stands alone")
    return row


def with_cells(row: Row, **cells: Value) -> Row:
    """The row with more columns."""
    return replace(row, cells=(*row.cells, *cells.items()))


def texts(row: Row, column: str) -> Iterator[str]:
    """The entries of a `;`-separated list."""
    return iter(row.text(column).split(";"))
