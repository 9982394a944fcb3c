"""Verdicts as a person and as a program read them: a rich table, and the JSON of `cascadesim.validation/1`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cascadesim.simulator import quantities
from cascadesim.validation.columns import Value
from cascadesim.validation.compare import Cell, Errors, Stratum, Verdict

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = "cascadesim.validation/1"
REPORTED = "reported"


def as_json(verdicts: Sequence[Verdict]) -> str:
    return json.dumps({"schema": SCHEMA, "claims": [_claim(verdict) for verdict in verdicts]}, indent=1)


def _claim(verdict: Verdict) -> dict[str, object]:
    claim = verdict.claim
    return {
        "suite": verdict.suite,
        "claim": claim.name,
        "source": verdict.source,
        "rows": verdict.errors.rows,
        "cells": verdict.errors.cells,
        "metric": claim.metric,
        "measure": claim.measure,
        **_errors(verdict.errors),
        "tolerance": claim.tolerance,
        "because": claim.because,
        "judged": verdict.judged,
        "calibration": claim.fitted,
        "holds": verdict.holds,
        "worst": _worst(verdict.worst),
        "strata": [_stratum(stratum) for stratum in verdict.strata],
    }


def _errors(errors: Errors) -> dict[str, float | None]:
    return {
        "mean_abs_relative_error": _finite(errors.mean),
        "median_abs_relative_error": _finite(errors.median),
        "max_abs_relative_error": _finite(errors.maximum),
    }


def _worst(cell: Cell) -> dict[str, object]:
    return {
        "place": cell.row.place,
        "column": cell.column,
        "predicted": None if cell.predicted is None else _finite(cell.predicted),
        "measured": cell.measured,
        "ratio": None if cell.ratio is None else _finite(cell.ratio),
    }


def _stratum(stratum: Stratum) -> dict[str, object]:
    errors = stratum.errors
    return {"column": stratum.column, "value": stratum.value, "rows": errors.rows, **_errors(errors)}


def _finite(value: float) -> float | None:
    """JSON has no infinity: what was not predicted is null."""
    return value if math.isfinite(value) else None


def print_table(verdicts: Sequence[Verdict], console: Console) -> None:
    """One line for each claim, with its worst row; failures spelt out below."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for heading in ("suite", "claim"):
        table.add_column(heading, ratio=None, overflow="fold")
    for heading in ("rows", "mean", "median", "max", "tolerance"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("holds", "worst row"):
        table.add_column(heading, overflow="fold")
    for heading in ("predicted", "measured", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for verdict in verdicts:
        table.add_row(*_line(verdict))
    console.print(table)
    console.print(summary(verdicts))


def _line(verdict: Verdict) -> tuple[str, ...]:
    errors, worst = verdict.errors, verdict.worst
    return (
        verdict.suite, verdict.claim.name, str(errors.rows),
        error(errors.mean), error(errors.median), error(errors.maximum),
        "–" if verdict.claim.tolerance is None else error(verdict.claim.tolerance),
        outcome(verdict), where(worst), _figure(worst.predicted), _figure(worst.measured), _ratio(worst.ratio),
    )  # fmt: skip


def outcome(verdict: Verdict) -> str:
    if not verdict.judged:
        return REPORTED
    return "yes" if verdict.holds else "NO"


def where(cell: Cell) -> str:
    """The cell by the values of its row that tell it apart, its line, and its column."""
    names = [_named(name, cell.row.get(name)) for name in ("platform", "architecture", "baseline", "workload",
                                                            "sequence_length", "pe_array_dim", "quantity", "statistic")
             if cell.row.get(name) is not None]  # fmt: skip
    return " ".join([*names, f"({cell.column}, line {cell.row.line})"])


def _named(column: str, value: Value) -> str:
    return quantities.length(value) if column == "sequence_length" and isinstance(value, int) else str(value)


def error(relative: float) -> str:
    """0.57 %, 2.2e-08, or 0."""
    if not math.isfinite(relative):
        return "∞"
    if relative == 0:
        return "0"
    return f"{relative:.2%}" if relative >= 1e-4 else f"{relative:.1e}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.6f}"


def summary(verdicts: Sequence[Verdict]) -> str:
    judged = [verdict for verdict in verdicts if verdict.judged]
    failed = [verdict for verdict in judged if not verdict.holds]
    held = f"{len(judged) - len(failed)} of {len(judged)} claims hold"
    reported = len(verdicts) - len(judged)
    return held + (f"; {reported} more comparisons are reported only" if reported else "")
