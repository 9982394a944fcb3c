"""The strata of a claim about GPUs as a table: the model's error beside those of the roofline and of the neighbour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascadesim.simulator.views.output import print_styled

if TYPE_CHECKING:
    from rich.console import Console

    from cascadesim.validation.compare import Stratum, Verdict

HEADINGS = ("rows", "median", "mean", "bias", "tau", "most", "<10%", "<20%", "<50%", "roof", "near")
BASELINES = ("roofline_median_abs_relative_error", "neighbour_median_abs_relative_error")
WIDTH = 120  # one line a stratum
SHARES = ("within_10", "within_20", "within_50")


def print_strata(verdict: Verdict, on: Console) -> None:
    """One line a stratum, and the pooled one; errors in per cent."""
    from rich.table import Table

    title = f"\n{verdict.suite}: {verdict.claim.name}, by stratum (errors in %; most: tau that scatter allows)"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("source / device / kernel / size", header_style="dim", overflow="fold", min_width=28)
    for heading in HEADINGS:
        table.add_column(heading, header_style="dim", justify="right", no_wrap=True)
    for stratum in verdict.strata:
        if stratum.column == "stratum":
            table.add_row(str(stratum.value), *_cells(stratum))
    table.add_row("all, equal weight per stratum", *_pooled(verdict), style="bold")
    print_styled(table, on, width=max(on.width, WIDTH))


def _cells(stratum: Stratum) -> list[str]:
    figures, errors = stratum.figures, stratum.errors
    ranks = ("–" if tau is None else f"{tau:.2f}" for tau in (figures.get("kendall_tau"), figures.get("tau_ceiling")))
    return [
        f"{errors.rows:,}", percent(errors.median), percent(errors.mean), percent(figures.get("bias"), "+"),
        *ranks, *(percent(figures.get(name)) for name in (*SHARES, *BASELINES)),
    ]  # fmt: skip


def _pooled(verdict: Verdict) -> list[str]:
    figures, errors = verdict.figures, verdict.errors
    return [
        f"{errors.rows:,}", percent(errors.median), percent(errors.mean), percent(figures.get("bias"), "+"), "", "",
        *(percent(figures.get(name)) for name in (*SHARES, *BASELINES)),
    ]  # fmt: skip


def percent(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{100 * value:{sign}.{0 if abs(value) >= 0.1 else 1}f}"
