"""Verdicts as a person and as a program read them: a rich table, and the JSON of `cascadesim.validation/1`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from cascadesim.simulator.views import formatting as quantities
from cascadesim.simulator.views.output import console, print_styled
from cascadesim.validation.columns import Value
from cascadesim.validation.compare import Cell, Errors, Stratum, Verdict
from cascadesim.validation.gpu.render import print_strata

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = "cascadesim.validation/1"
REPORTED = "reported"
ROUNDING = 1e-12
GATES = {"pooled": "pooled", "ranking": "1-tau", "roofline": "share"}  # what a suite's own judge works out
NAMING = (  # columns that tell a row apart for a reader
    "platform", "architecture", "baseline", "workload", "sequence_length", "pe_array_dim", "quantity", "statistic",
    "case", "use_case", "gpu", "window", "stride", "config", "metric", "benchmark",
    "impl", "dtype", "batch", "seqlen_q", "kv_len", "heads_q",
    "heads_kv", "head_dim", "m", "n", "k",
)  # fmt: skip


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
        "gate": claim.gate,
        **_errors(verdict.errors),
        "tolerance": claim.tolerance,
        "because": claim.because,
        "judged": verdict.judged,
        "calibration": claim.fitted,
        "holds": verdict.holds,
        **({"gated": _finite(verdict.gated), "pooled": verdict.figures} if verdict.figures else {}),
        "worst": _worst(verdict.worst),
        "strata": [_stratum(stratum) for stratum in verdict.strata],
        **({"misses": _misses(verdict)} if _lists_misses(verdict) else {}),
    }


def _lists_misses(verdict: Verdict) -> bool:
    return (verdict.judged or verdict.claim.listed) and any(verdict.reasons)


def _misses(verdict: Verdict) -> list[dict[str, object]]:
    """Every explained figure: where it is, by how much it misses, why."""
    explained = zip(verdict.cells, verdict.reasons, strict=True)
    return [{**_worst(cell), "row": where(cell), "why": reason} for cell, reason in explained if reason]


def _errors(errors: Errors) -> dict[str, float | None]:
    return {
        "mean_abs_relative_error": _finite(errors.mean),
        "median_abs_relative_error": _finite(errors.median),
        "p90_abs_relative_error": _finite(errors.p90),
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
    return {"column": stratum.column, "value": stratum.value, "rows": errors.rows, **_errors(errors),
            **stratum.figures}


def _finite(value: float) -> float | None:
    """JSON has no infinity: what was not predicted is null."""
    return value if math.isfinite(value) else None


def print_table(verdicts: Sequence[Verdict], stream: TextIO) -> None:
    """Two tables that fit 80 columns: the errors of each claim, and its worst row."""
    numbered = list(enumerate(verdicts, start=1))
    on = console(stream)
    print_styled(_errors_table(numbered), on)
    print_styled(_worst_table(numbered), on)
    for verdict in verdicts:
        if verdict.figures and verdict.claim.gate == "pooled":
            print_strata(verdict, on)
    if any(any(verdict.reasons) for verdict in verdicts):
        print_styled(_reasons_table(numbered), on)
    print_styled(summary(verdicts), on)


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    """Columns of words and columns of figures."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("#", justify="right", style="dim", header_style="dim")
    for heading in left:
        table.add_column(heading, header_style="dim", overflow="fold")
    for heading in right:
        wide = heading == "tolerance"  # a gate's words: in two lines, so that the claim has room
        table.add_column(heading, header_style="dim", justify="right", no_wrap=not wide, max_width=12 if wide else None)
    return table


def _errors_table(numbered: Sequence[tuple[int, Verdict]]) -> Table:
    columns = ("rows", "mean", "median", "90%", "max", "tolerance", "holds")
    table = _table("Relative error by claim", ("claim",), columns)
    suite = None
    for number, verdict in numbered:
        if verdict.suite != suite:
            suite = verdict.suite
            table.add_row("", f"[cyan]{suite}[/cyan]")
        errors = verdict.errors
        table.add_row(str(number), verdict.claim.name, f"{errors.rows:,}", error(errors.mean), error(errors.median),
                      error(errors.p90), error(errors.maximum), tolerance(verdict), outcome(verdict),
                      style=None if verdict.holds else "bold red")  # fmt: skip
    return table


def _worst_table(numbered: Sequence[tuple[int, Verdict]]) -> Table:
    table = _table("\nWorst row of each claim", ("row",), ("predicted", "measured", "ratio"))
    for number, verdict in numbered:
        worst = verdict.worst
        ratio = "–" if worst.ratio is None else f"{worst.ratio:.6f}"
        table.add_row(str(number), where(worst), _figure(worst.predicted), _figure(worst.measured), ratio,
                      style=None if verdict.holds else "bold red")  # fmt: skip
    return table


def _reasons_table(numbered: Sequence[tuple[int, Verdict]]) -> Table:
    """Every explained figure of a claim that is judged, or that lists them anyway."""
    table = _table("\nWhere and why it misses", ("row", "why"), ("predicted", "measured", "error"))
    for number, verdict in numbered:
        explained = zip(verdict.cells, verdict.reasons, strict=True) if _lists_misses(verdict) else ()
        for cell, reason in explained:
            if reason:
                table.add_row(str(number), where(cell), reason, _figure(cell.predicted), _figure(cell.measured),
                              "–" if cell.ratio is None else f"{cell.ratio - 1:+.1%}")  # fmt: skip
    return table


def tolerance(verdict: Verdict) -> str:
    allowed, gate = verdict.claim.tolerance, verdict.claim.gate
    if allowed is None:
        return "–"
    if gate in GATES:
        return f"{GATES[gate]} {allowed:g}, is {verdict.gated:.2f}"
    if gate in ("median", "mean", "tail"):
        return f"{gate} {_limit(allowed)}"
    return f"±{allowed:g}" if gate == "absolute" else _limit(allowed)


def _limit(relative: float) -> str:
    """3%, 0.6%, 1e-09, or 0: as declared, without the zeros of a measured figure."""
    return f"{relative * 100:g}%" if relative >= 1e-4 else f"{relative:g}"


def outcome(verdict: Verdict) -> str:
    if not verdict.judged:
        return REPORTED
    return "yes" if verdict.holds else "NO"


def where(cell: Cell) -> str:
    """The cell by the values of its row that tell it apart, its line, and its column."""
    names = [_named(name, value) for name in NAMING if (value := cell.row.get(name)) is not None]
    return " ".join([*names, f"({cell.column}, line {cell.row.line})"])


def _named(column: str, value: Value) -> str:
    return quantities.length(value) if column == "sequence_length" and isinstance(value, int) else str(value)


def error(relative: float) -> str:
    """0.57%, 2.2e-08, or 0; below 1e-12, rounding of the last bits, only that it is below."""
    if not math.isfinite(relative):
        return "∞"
    if relative < ROUNDING:
        return "0" if relative == 0 else f"<{ROUNDING:.0e}"
    return f"{relative:.2%}" if relative >= 1e-4 else f"{relative:.1e}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def summary(verdicts: Sequence[Verdict]) -> str:
    judged = [verdict for verdict in verdicts if verdict.judged]
    failed = [verdict for verdict in judged if not verdict.holds]
    held = f"{len(judged) - len(failed)} of {len(judged)} claims hold"
    reported = len(verdicts) - len(judged)
    return held + (f"; {reported} more comparisons are reported only" if reported else "")
