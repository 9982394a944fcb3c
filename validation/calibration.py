"""Keeps what a constant was fitted to apart from what scores the model.

A data file declares the cells that a model's constant was fitted to in a comment line

    # calibration: traffic_bytes latency_s where architecture=unfused sequence_length=256K,1M

A claim that would score such a cell as evidence is refused; a claim marked as a check of the fit may read nothing
else. So no fitted row can slip into a score by an edit of either file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.columns import Layout, Value
from cascadesim.validation.table import Row, Table

MARK = "calibration:"


@dataclass(frozen=True)
class Calibration:
    """Cells of `columns` in the rows where every column of `where` holds one of its values."""

    columns: tuple[str, ...]
    where: tuple[tuple[str, tuple[Value, ...]], ...]

    def covers(self, row: Row, column: str) -> bool:
        return column in self.columns and all(row.get(name) in values for name, values in self.where)


def declared(table: Table, layout: Layout, source: str) -> tuple[Calibration, ...]:
    """What the comments of a file declare. Raises SpecError on a declaration that names no column or value."""
    return tuple(_declaration(comment, layout, source) for comment in table.comments if comment.startswith(MARK))


def _declaration(comment: str, layout: Layout, source: str) -> Calibration:
    columns, where, selectors = comment.removeprefix(MARK).partition(" where ")
    try:
        if not where or not columns.split() or not selectors.split():
            raise ValueError("expected COLUMN... where COLUMN=VALUE[,VALUE...]...")
        return Calibration(tuple(_column(name, layout) for name in columns.split()),
                           tuple(_selector(text, layout) for text in selectors.split()))
    except ValueError as error:
        raise SpecError(f"{source}: '# {comment}': {error}") from None


def _column(name: str, layout: Layout) -> str:
    column = layout.named(name)
    if column is None:
        raise ValueError(f"no column '{name}'")
    return column.name


def _selector(text: str, layout: Layout) -> tuple[str, tuple[Value, ...]]:
    name, equals, values = text.partition("=")
    column = layout.named(name)
    if column is None or not equals:
        raise ValueError(f"'{text}' is no COLUMN=VALUE of this table")
    return column.name, tuple(column.parse(value) for value in values.split(","))


def refuse_overlap(claim: str, fitted: bool, cells: Iterable[tuple[Row, str]],
                   calibrations: Sequence[Calibration]) -> None:
    """Raises SpecError if a claim scores a calibrated cell, or a check of the fit reads one that is not."""
    for row, column in cells:
        calibrated = any(calibration.covers(row, column) for calibration in calibrations)
        if calibrated and not fitted:
            raise SpecError(f"{row.place}, column '{column}': declared as calibration, so '{claim}' may not score it")
        if fitted and not calibrated:
            raise SpecError(f"{row.place}, column '{column}': not declared as calibration, so '{claim}', a check of "
                            f"the fit, may not hide it")
