"""Verdicts as a person and as a program read them: tables, the JSON of `cascadesim.validation/1`, and a plot.

The plot (`validate --plot`) shows predicted against measured, one panel a suite, one colour a kind of row: the first
claim of each suite that is no check of calibration. Knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.views.output import console, length, print_styled
from cascadesim.validation.claim import Cell, Errors, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

SCHEMA = "cascadesim.validation/1"
ROUNDING = 1e-12
GATES = {  # what a suite's own judge works out
    "pooled": "pooled", "ranking": "1-tau", "roofline": "share", "systems": "by system", "within": "outside",
    "rounded": "unrounded", "gaps": "systems",
}  # fmt: skip
NAMING = (  # columns that tell a row apart for a reader
    "platform", "architecture", "baseline", "workload", "sequence_length", "pe_array_dim", "quantity", "statistic",
    "case", "use_case", "gpu", "window", "stride", "config", "metric", "benchmark",
    "impl", "dtype", "batch", "seqlen_q", "kv_len", "heads_q",
    "heads_kv", "head_dim", "m", "n", "k",
)  # fmt: skip
STRATA_HEADINGS = ("rows", "median", "mean", "bias", "tau", "most", "<10%", "<20%", "<50%", "roof", "near")
STRATA_SHARES = ("within_10", "within_20", "within_50", "roofline_median_abs_relative_error",
                 "neighbour_median_abs_relative_error")  # fmt: skip
STRATA_WIDTH = 120  # columns of the terminal: one line a stratum
COLOURED_BY = ("device", "architecture", "workload", "kind")  # the first that the rows have
PANEL_INCHES, PANELS_A_ROW = 4.2, 3
BAND = 1.2  # within 20 %


def document(verdicts: Sequence[Verdict]) -> dict[str, object]:
    """The contract of `validate --format json`."""
    return {"schema": SCHEMA, "claims": [_claim(verdict) for verdict in verdicts]}


def rows(verdicts: Sequence[Verdict]) -> Iterator[dict[str, object]]:
    """One flat row for each claim; tables within it are left out."""
    for verdict in verdicts:
        yield {name: value for name, value in _claim(verdict).items() if not isinstance(value, list | dict)}


def _claim(verdict: Verdict) -> dict[str, object]:
    claim = verdict.claim
    explained = _explained(verdict)
    return {
        "suite": verdict.suite, "claim": claim.name, "source": verdict.source,
        "rows": verdict.errors.rows, "cells": verdict.errors.cells,
        "metric": claim.metric, "measure": claim.measure, "gate": claim.gate, **_errors(verdict.errors),
        "tolerance": claim.tolerance, "because": claim.because,
        "judged": verdict.judged, "calibration": claim.fitted, "holds": verdict.holds,
        **({"gated": _finite(verdict.gated), "pooled": _finite_figures(verdict.figures)} if verdict.figures else {}),
        "worst": _place(verdict.worst),
        "strata": [
            {"column": one.column, "value": one.value, "rows": one.errors.rows, **_errors(one.errors),
             **_finite_figures(one.figures)}
            for one in verdict.strata
        ],
        **({"misses": [{**_place(cell), "row": where(cell), "why": why} for cell, why in explained]}
           if explained else {}),
    }  # fmt: skip


def _explained(verdict: Verdict) -> list[tuple[Cell, str]]:
    """Every explained figure of a claim that is judged, or that lists them anyway, with why it misses."""
    if not (verdict.judged or verdict.claim.listed) or not verdict.reasons:
        return []
    return [(cell, why) for cell, why in zip(verdict.cells, verdict.reasons, strict=True) if why]


def _errors(errors: Errors) -> dict[str, float | None]:
    found = {"mean": errors.mean, "median": errors.median, "p90": errors.p90, "max": errors.maximum}
    return {f"{name}_abs_relative_error": _finite(value) for name, value in found.items()}


def _place(cell: Cell) -> dict[str, object]:
    return {"place": cell.row.place, "column": cell.column, "predicted": _finite(cell.predicted),
            "measured": cell.measured, "ratio": _finite(cell.ratio)}  # fmt: skip


def _finite(value: float | None) -> float | None:
    """JSON has no infinity: what was not predicted is null."""
    return value if value is not None and math.isfinite(value) else None


def _finite_figures(figures: Mapping[str, float | None]) -> dict[str, float | None]:
    """JSON has no infinity: what is not predicted is null."""
    return {name: _finite(value) for name, value in figures.items()}


def print_table(verdicts: Sequence[Verdict], stream: TextIO) -> None:
    """Two tables that fit 80 columns, the errors of each claim and its worst row; strata and reasons below them."""
    numbered = list(enumerate(verdicts, start=1))
    on = console(stream)
    print_styled(_errors_table(numbered), on)
    print_styled(_worst_table(numbered), on)
    for verdict in verdicts:
        if verdict.figures and verdict.claim.gate == "pooled":
            print_styled(_strata_table(verdict), on, width=max(on.width, STRATA_WIDTH))
    if any(any(verdict.reasons) for verdict in verdicts):
        print_styled(_reasons_table(numbered), on)
    print_styled(summary(verdicts), on)


def _table(title: str, left: Sequence[str], right: Sequence[str], numbered: bool = True) -> Table:
    """Columns of words and columns of figures, a number of the claim before them."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    if numbered:
        table.add_column("#", justify="right", style="dim", header_style="dim")
    for heading in left:
        table.add_column(heading, header_style="dim", overflow="fold", min_width=None if numbered else 28)
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
    table = _table("\nWhere and why it misses", ("row", "why"), ("predicted", "measured", "error"))
    for number, verdict in numbered:
        for cell, reason in _explained(verdict):
            table.add_row(str(number), where(cell), reason, _figure(cell.predicted), _figure(cell.measured),
                          "–" if cell.ratio is None else f"{cell.ratio - 1:+.1%}")  # fmt: skip
    return table


def _strata_table(verdict: Verdict) -> Table:
    """The model's error beside those of the roofline and of the neighbour, stratum by stratum; errors in per cent."""
    title = f"\n{verdict.suite}: {verdict.claim.name}, by stratum (errors in %; most: tau that scatter allows)"
    table = _table(title, ("source / device / kernel / size",), STRATA_HEADINGS, numbered=False)

    def add(name: str, errors: Errors, figures: Mapping[str, float | None], ranks: Sequence[str], style: str) -> None:
        table.add_row(name, f"{errors.rows:,}", percent(errors.median), percent(errors.mean),
                      percent(figures.get("bias"), "+"), *ranks, *(percent(figures.get(one)) for one in STRATA_SHARES),
                      style=style or None)  # fmt: skip

    for stratum in verdict.strata:
        if stratum.column == "stratum":
            taus = (stratum.figures.get(name) for name in ("kendall_tau", "tau_ceiling"))
            ranks = ["–" if tau is None else f"{tau:.2f}" for tau in taus]
            add(str(stratum.value), stratum.errors, stratum.figures, ranks, "")
    add("all, equal weight per stratum", verdict.errors, verdict.figures, ("", ""), "bold")
    return table


def percent(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{100 * value:{sign}.{0 if abs(value) >= 0.1 else 1}f}"


def tolerance(verdict: Verdict) -> str:
    """3%, 0.6%, 1e-09, or 0: as declared, without the zeros of a measured figure; the gate where it is another."""
    allowed, gate = verdict.claim.tolerance, verdict.claim.gate
    if allowed is None:
        return "–"
    if gate in GATES:
        return f"{GATES[gate]} {allowed:g}, is {verdict.gated:.2f}"
    if gate == "absolute":
        return f"±{allowed:g}"
    limit = f"{allowed * 100:g}%" if allowed >= 1e-4 else f"{allowed:g}"
    return f"{gate} {limit}" if gate in ("median", "mean", "tail", "bias") else limit


def outcome(verdict: Verdict) -> str:
    if not verdict.judged:
        return "reported"
    return "yes" if verdict.holds else "NO"


def where(cell: Cell) -> str:
    """The cell by the values of its row that tell it apart, its line, and its column."""
    values = [(name, value) for name in NAMING if (value := cell.row.get(name)) is not None]
    names = [length(value) if name == "sequence_length" and isinstance(value, int) else str(value)
             for name, value in values]  # fmt: skip
    return " ".join([*names, f"({cell.column}, line {cell.row.line})"])


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
    held = f"{sum(verdict.holds for verdict in judged)} of {len(judged)} claims hold"
    reported = len(verdicts) - len(judged)
    return held + (f"; {reported} more comparisons are reported only" if reported else "")


def draw(verdicts: Sequence[Verdict], path: Path) -> int:
    """Write the picture of all suites that have figures to show; returns its number of panels.

    Raises CascadeSimError where none has.
    """
    from matplotlib.figure import Figure

    panels: dict[str, list[Cell]] = {}
    for verdict in verdicts:
        shown = [cell for cell in verdict.cells if cell.measured > 0 and (cell.predicted or 0) > 0]
        if shown and not verdict.claim.fitted:
            panels.setdefault(verdict.suite, shown)
    if not panels:
        raise CascadeSimError("--plot: no claim of these suites has a measured and a predicted figure to draw")
    columns = min(PANELS_A_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(PANEL_INCHES * columns, PANEL_INCHES * rows), layout="constrained")
    for place, (suite, cells) in enumerate(panels.items(), start=1):
        _panel(figure.add_subplot(rows, columns, place), suite, cells)
    figure.savefig(path, dpi=130)
    return len(panels)


def _panel(axes: Axes, suite: str, cells: Sequence[Cell]) -> None:
    axes.set_title(suite)
    low, high = min(cell.measured for cell in cells), max(cell.measured for cell in cells)
    axes.fill_between([low, high], [low / BAND, high / BAND], [low * BAND, high * BAND], color="0.9", label="±20 %")
    axes.plot([low, high], [low, high], color="0.5", linewidth=0.8)
    column = next((name for name in COLOURED_BY if cells[0].row.get(name) is not None), COLOURED_BY[0])
    for kind in sorted({str(cell.row.get(column)) for cell in cells}):
        some = [cell for cell in cells if str(cell.row.get(column)) == kind]
        axes.scatter([cell.measured for cell in some], [cell.predicted or 0 for cell in some], s=5, alpha=0.5,
                     linewidths=0, label=kind)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel=f"measured ({cells[0].column})", ylabel="predicted")
    axes.legend(fontsize=6, markerscale=2, frameon=False)
