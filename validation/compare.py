"""Rows of figures and the model's predictions become verdicts: errors, whether each claim holds, and where it is worst.

Keeps what a constant was fitted to apart from what scores the model. A data file declares the cells that a model's
constant was fitted to in a comment line

    # calibration: traffic_bytes latency_s where architecture=unfused sequence_length=256K,1M

A claim that would score such a cell as evidence is refused; a claim marked as a check of the fit may read nothing
else. So no fitted row can slip into a score by an edit of either file. Reads no file and knows no model.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.validation.claim import (
    Cell,
    Claim,
    Errors,
    Measure,
    PredictedFigures,
    Settings,
    StratumErrors,
    Suite,
    Verdict,
)
from cascadesim.validation.columns import Column, Layout, Value
from cascadesim.validation.table import Row, Table

MARK = "calibration:"


@dataclass(frozen=True)
class CalibratedCells:
    """Cells of `columns` in the rows where every column of `where` holds one of its values."""

    columns: tuple[str, ...]
    where: tuple[tuple[str, tuple[Value, ...]], ...]

    def covers(self, row: Row, column: str) -> bool:
        return column in self.columns and all(row.get(name) in values for name, values in self.where)


def declared(table: Table, layout: Layout, source: str) -> tuple[CalibratedCells, ...]:
    """What the comments of a file declare. Raises SpecError on a declaration that names no column or value."""
    return tuple(_declaration(comment, layout, source) for comment in table.comments if comment.startswith(MARK))


def _declaration(comment: str, layout: Layout, source: str) -> CalibratedCells:
    def column(name: str, problem: str) -> Column:
        if (found := layout.named(name)) is None:
            raise ValueError(problem)
        return found

    columns, where, selectors = comment.removeprefix(MARK).partition(" where ")
    try:
        if not where or not columns.split() or not selectors.split():
            raise ValueError("expected COLUMN... where COLUMN=VALUE[,VALUE...]...")
        names = tuple(column(name, f"no column '{name}'").name for name in columns.split())
        allowed = []
        for text in selectors.split():
            name, equals, values = text.partition("=")
            chosen = column(name if equals else "", f"'{text}' is no COLUMN=VALUE of this table")
            allowed.append((chosen.name, tuple(chosen.parse(value) for value in values.split(","))))
        return CalibratedCells(names, tuple(allowed))
    except ValueError as error:
        raise SpecError(f"{source}: '# {comment}': {error}") from None


def refuse_overlap(claim: str, fitted: bool, cells: Iterable[tuple[Row, str]],
                   calibrations: Sequence[CalibratedCells]) -> None:
    """Raises SpecError if a claim scores a calibrated cell, or a check of the fit reads one that is not."""
    for row, column in cells:
        calibrated = any(calibration.covers(row, column) for calibration in calibrations)
        if calibrated and not fitted:
            raise SpecError(f"{row.place}, column '{column}': declared as calibration, so '{claim}' may not score it")
        if fitted and not calibrated:
            raise SpecError(f"{row.place}, column '{column}': not declared as calibration, so '{claim}', a check of "
                            f"the fit, may not hide it")


def compare(suite: Suite, table: Table, source: str, calibrations: Sequence[CalibratedCells],
            settings: Settings = ()) -> tuple[Verdict, ...]:
    """One verdict for each claim of the suite that speaks of a row of the table.

    `settings` change the architectures before they predict. Raises SpecError if a row cannot be predicted (all such
    rows at once), if a claim scores what was calibrated, or if no claim speaks of any row.
    """
    claimed = [(claim, _figures(claim, table.rows)) for claim in suite.claims]
    for claim, figures in claimed:
        refuse_overlap(claim.name, claim.fitted, [(row, column) for row, column, _ in figures], calibrations)
    predictions: dict[int, PredictedFigures] = {}
    problems = []
    for row in {id(row): row for _, figures in claimed for row, _, _ in figures}.values():
        try:
            predictions[id(row)] = suite.predict(row, settings)
        except CascadeSimError as error:
            problems.append(f"{row.place}: {error}")
    if problems:
        raise SpecError("\n".join(problems))
    judge = suite.judge or default_verdict
    verdicts = tuple(
        judge(suite, claim, source, [Cell(row, column, measured, predictions[id(row)].get(column))
                                     for row, column, measured in figures])
        for claim, figures in claimed if figures
    )  # fmt: skip
    if not verdicts:
        raise SpecError(f"{source}: no claim of {suite.name} speaks of any row")
    return verdicts


def _figures(claim: Claim, rows: Sequence[Row]) -> list[tuple[Row, str, float]]:
    """The cells that the claim speaks of and that are not empty, each with its figure."""
    return [(row, column, figure) for row in rows if claim.selects(row)
            for column in claim.scored_columns if (figure := row.number(column)) is not None]


def default_verdict(suite: Suite, claim: Claim, source: str, cells: Sequence[Cell]) -> Verdict:
    """Every cell counts alike; each column of `suite.strata` divides the cells by its values."""
    worst = max(cells, key=lambda cell: cell.error(claim.measure))
    strata = []
    for column in suite.strata:
        for value in dict.fromkeys(cell.row.get(column) for cell in cells):
            group = [cell for cell in cells if cell.row.get(column) == value]
            strata.append(StratumErrors(column, value, errors(group, claim.measure)))
    reasons = tuple(suite.explain(cell.row) for cell in cells) if suite.explain and not claim.fitted else ()
    return Verdict(suite.name, claim, source, errors(cells, claim.measure), worst, tuple(strata), tuple(cells), reasons)


def errors(cells: Sequence[Cell], measure: Measure) -> Errors:
    """Mean, median, 90th percentile and largest error of at least one cell."""
    found = [cell.error(measure) for cell in cells]
    p90 = sorted(found)[math.ceil(0.9 * len(found) - 1e-9) - 1]
    return Errors(len({id(cell.row) for cell in cells}), len(cells), statistics.fmean(found), statistics.median(found),
                  p90, max(found))  # fmt: skip
