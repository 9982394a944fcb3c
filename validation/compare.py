"""Rows of figures and the model's predictions become verdicts: errors, whether each claim holds, and where it is worst.

Pure: reads no file and knows no model; a suite brings both its claims and its predictor.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.validation.calibration import Calibration, refuse_overlap
from cascadesim.validation.claim import Claim, Measure, Prediction, Settings, Suite
from cascadesim.validation.columns import Value
from cascadesim.validation.table import Row, Table


@dataclass(frozen=True)
class Cell:
    """One figure, measured and predicted. A model without that figure predicts None."""

    row: Row
    column: str
    measured: float
    predicted: float | None

    @property
    def ratio(self) -> float | None:
        """predicted / measured; None where that says nothing."""
        if self.predicted is None or self.measured == 0:
            return 1.0 if self.predicted == self.measured else None
        return self.predicted / self.measured

    @property
    def difference(self) -> float:
        """|predicted - measured|."""
        return math.inf if self.predicted is None else abs(self.predicted - self.measured)

    def error(self, measure: Measure) -> float:
        """Infinite where nothing was predicted, or something where nothing was measured."""
        if self.ratio is None:
            return math.inf
        deviation = self.ratio - 1
        return {"deviation": abs(deviation), "shortfall": max(0.0, -deviation), "excess": max(0.0, deviation)}[measure]


@dataclass(frozen=True)
class Errors:
    """Relative errors of several cells; `rows` is the number of rows they lie in."""

    rows: int
    cells: int
    mean: float
    median: float
    p90: float  # nine tenths of the cells are within
    maximum: float


@dataclass(frozen=True)
class Stratum:
    """The errors of the rows in which `column` holds `value`."""

    column: str
    value: Value
    errors: Errors
    figures: Mapping[str, float | None] = field(default_factory=dict)  # of merit, where the suite has its own judge


@dataclass(frozen=True)
class Verdict:
    """A claim judged on some rows."""

    suite: str
    claim: Claim
    source: str
    errors: Errors
    worst: Cell
    strata: tuple[Stratum, ...]
    cells: tuple[Cell, ...] = ()
    reasons: tuple[str, ...] = ()  # why each cell misses, where the suite explains that
    figures: Mapping[str, float | None] = field(default_factory=dict)  # those of all strata together, gates among them

    @property
    def gated(self) -> float:
        """The error that the tolerance bounds."""
        if self.claim.gate in self.figures:
            found = self.figures[self.claim.gate]
            return math.inf if found is None else found
        if self.claim.gate == "absolute":
            return max(cell.difference for cell in self.cells)
        return self.errors.median if self.claim.gate == "median" else self.errors.maximum

    @property
    def judged(self) -> bool:
        return self.claim.tolerance is not None

    @property
    def holds(self) -> bool:
        """True also of what is only reported: nothing is claimed there."""
        return self.claim.tolerance is None or self.gated <= self.claim.tolerance


def compare(suite: Suite, table: Table, source: str, calibrations: Sequence[Calibration],
            settings: Settings = ()) -> tuple[Verdict, ...]:
    """One verdict for each claim of the suite that speaks of a row of the table.

    `settings` change the architectures before they predict. Raises SpecError if a row cannot be predicted (all such
    rows at once), if a claim scores what was calibrated, or if no claim speaks of any row.
    """
    claimed = [(claim, _figures(claim, table.rows)) for claim in suite.claims]
    for claim, figures in claimed:
        refuse_overlap(claim.name, claim.fitted, figures, calibrations)
    spoken_of = {id(row): row for _, figures in claimed for row, _ in figures}
    predictions = _predictions(suite, list(spoken_of.values()), settings)
    judge = suite.judge or _verdict
    verdicts = tuple(judge(suite, claim, source, _cells(figures, predictions))
                     for claim, figures in claimed if figures)
    if not verdicts:
        raise SpecError(f"{source}: no claim of {suite.name} speaks of any row")
    return verdicts


def _figures(claim: Claim, rows: Sequence[Row]) -> list[tuple[Row, str]]:
    """The cells that the claim speaks of and that are not empty."""
    return [(row, column) for row in rows if claim.selects(row)
            for column in claim.scored_columns if row.number(column) is not None]


def _predictions(suite: Suite, rows: Sequence[Row], settings: Settings) -> Mapping[int, Prediction]:
    predictions: dict[int, Prediction] = {}
    problems = []
    for row in rows:
        try:
            predictions[id(row)] = suite.predict(row, settings)
        except CascadeSimError as error:
            problems.append(f"{row.place}: {error}")
    if problems:
        raise SpecError("\n".join(problems))
    return predictions


def _cells(figures: Sequence[tuple[Row, str]], predictions: Mapping[int, Prediction]) -> list[Cell]:
    return [Cell(row, column, measured, predictions[id(row)].get(column))
            for row, column in figures if (measured := row.number(column)) is not None]


def _verdict(suite: Suite, claim: Claim, source: str, cells: Sequence[Cell]) -> Verdict:
    worst = max(cells, key=lambda cell: cell.error(claim.measure))
    strata = tuple(stratum for column in suite.strata for stratum in _strata(column, cells, claim.measure))
    reasons = tuple(suite.explain(cell.row) for cell in cells) if suite.explain and not claim.fitted else ()
    return Verdict(suite.name, claim, source, errors(cells, claim.measure), worst, strata, tuple(cells), reasons)


def _strata(column: str, cells: Sequence[Cell], measure: Measure) -> list[Stratum]:
    values = dict.fromkeys(cell.row.get(column) for cell in cells)
    groups = {value: [cell for cell in cells if cell.row.get(column) == value] for value in values}
    return [Stratum(column, value, errors(group, measure)) for value, group in groups.items()]


def errors(cells: Sequence[Cell], measure: Measure) -> Errors:
    """Mean, median, 90th percentile and largest error of at least one cell."""
    found = [cell.error(measure) for cell in cells]
    rows = {id(cell.row) for cell in cells}
    p90 = sorted(found)[math.ceil(0.9 * len(found) - 1e-9) - 1]
    return Errors(len(rows), len(cells), statistics.fmean(found), statistics.median(found), p90, max(found))
