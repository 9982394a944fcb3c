"""Finds suites, reads their tables, and judges them: rows of figures and the model's predictions become verdicts.

Every module of `claims/` lists its own suites in `SUITES`: a new family of claims is a new module. What a constant was
fitted to is kept apart from what scores the model. A data file declares the cells that a model's constant was fitted to
in a comment line

    # calibration: traffic_bytes latency_s where architecture=unfused sequence_length=256K,1M

A claim that would score such a cell as evidence is refused; a claim marked as a check of the fit may read nothing
else. So no fitted row can slip into a score by an edit of either file. Knows no model.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, UnknownNameError
from cascadesim.simulator.cli.commands import complain
from cascadesim.validation.claim import Cell, Claim, PredictedFigures, Settings, Suite, Verdict, default_verdict
from cascadesim.validation.table import Layout, Row, Table, Value, joined, published, read_table, refuse

MARK = "calibration:"
_CLAIMS = "cascadesim.validation.claims"


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
    columns, where, selectors = comment.removeprefix(MARK).partition(" where ")
    try:
        if not where or not columns.split() or not selectors.split():
            raise ValueError("expected COLUMN... where COLUMN=VALUE[,VALUE...]...")
        found = {name: layout.named(name) for name in columns.split()}
        if unknown := [name for name, column in found.items() if column is None]:
            raise ValueError(f"no column '{unknown[0]}'")
        names = tuple(column.name for column in found.values() if column is not None)
        return CalibratedCells(names, tuple(map(layout.condition, selectors.split())))
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
    refuse(problems)
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


@cache
def suites() -> tuple[Suite, ...]:
    """Every suite, in order of the modules' names."""
    names = sorted(module.name for module in pkgutil.iter_modules(import_module(_CLAIMS).__path__))
    return tuple(suite for name in names for suite in import_module(f"{_CLAIMS}.{name}").SUITES)


def suite_names() -> tuple[str, ...]:
    """Runs nothing."""
    return tuple(suite.name for suite in suites())


def find_suites(names: Sequence[str]) -> tuple[Suite, ...]:
    """The suites of these names, each once; all of them if none is named. Raises UnknownNameError."""
    known = {suite.name: suite for suite in suites()}
    for name in names:
        if name not in known:
            raise UnknownNameError("suite", name, known)
    return tuple(known[name] for name in dict.fromkeys(names)) or suites()


def own_data(suite: Suite) -> Table:
    """The table that ships with the suite: all its files as one."""
    return joined([published(name, suite.layout, suite.parse) for name in (suite.data, *suite.more)])


def calibrations(suite: Suite, table: Table) -> tuple[CalibratedCells, ...]:
    """What the table declares, and what the suite's own does: that binds other rows of the same figures too."""
    tables = dict.fromkeys((own_data(suite), table))
    return tuple(found for each in tables if each.rows
                 for found in declared(each, suite.layout, each.rows[0].source))


def cited_source(suite: Suite, table: Table, path: Path | None) -> str:
    """The file, and the source that its first comment cites."""
    cited = next((comment for comment in table.comments if comment.startswith("Source: ")), "")
    return f"{suite.data if path is None else path.name}{cited and ': '}{cited.removeprefix('Source: ')}"


def verdicts_of(names: Sequence[str], data: Path | None = None) -> tuple[Verdict, ...]:
    """Every claim of the named suites judged, all suites if none is named.

    `data`: a user's table, in a suite's layout or in the published one, in place of the suites' own. Columns that no
    suite reads and rows that a suite cannot judge are told on standard error. Raises CascadeSimError on an unknown
    suite or an unusable file.
    """
    if data is not None and not names:
        raise CascadeSimError(f"--data needs a suite, whose claims are held against the file; "
                              f"known: {', '.join(suite_names())}")
    chosen = find_suites(names)
    tables = [own_data(suite) if data is None else read_table(data, suite.layout, suite.parse) for suite in chosen]
    if data is not None and (unread := set.intersection(*(set(table.unread_columns) for table in tables))):
        complain("validate", f"{data.name}: no suite reads the columns {', '.join(sorted(unread))}")
    for suite, table in zip(chosen, tables, strict=True):
        if table.left_out:
            reasons = "; ".join(f"{rows} ({why})" for why, rows in table.left_out)
            complain("validate", f"{suite.name}: {sum(rows for _, rows in table.left_out)} rows left out: {reasons}")
    return tuple(verdict for suite, table in zip(chosen, tables, strict=True)
                 for verdict in compare(suite, table, cited_source(suite, table, data), calibrations(suite, table)))
