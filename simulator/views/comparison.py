"""Several reports as one table: what they share above it, what differs in its rows, ratios against the first.

A ratio compares a report with the first architecture's report of the same workload, kind of layer, length and batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cascadesim.simulator.report import Report
from cascadesim.simulator.views import formatting as say

ERRORS = ("error: half, nine tenths of published calls of that kind were within; unknown: a whole model, or a run "
          "outside what was measured")
Case: TypeAlias = tuple[str, str | None, int, int]


def case(report: Report) -> Case:
    """What two reports must share for their ratio to mean something."""
    return (report.workload, report.layer, report.sequence_length, report.batch)


def baselines(reports: Sequence[Report], architecture: str) -> Mapping[Case, Report]:
    """The report of `architecture` for each case."""
    return {case(report): report for report in reports if report.architecture == architecture}


def comparison(reports: Sequence[Report]) -> RenderableType:
    several = len({report.architecture for report in reports}) > 1
    table = _side_by_side(reports) if several else _one_below_the_other(reports)
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    remarks = [Text(f"speedup, energy ratio: against {reports[0].architecture}", style="dim")] if several else []
    remarks += [Text(f"note: {note}", style="yellow") for note in notes]
    remarks += [Text(ERRORS, style="dim")]
    return Group(Text(_shared(reports), style="bold"), Text(), table, Text(), *remarks)


def _side_by_side(reports: Sequence[Report]) -> Table:
    """The architectures of each case under a line that names the case."""
    table = _table(["architecture", "latency", "error", "speedup", "energy", "ratio", "DRAM", "bound by"])
    against = baselines(reports, reports[0].architecture)
    names = _varying(reports)
    for which in dict.fromkeys(map(case, reports)):
        rows = [report for report in reports if case(report) == which]
        heading = ", ".join(_case_names(rows[0], names))
        if heading:
            table.add_row(Text(heading, style="bold"))
        for report in rows:
            first = against.get(which)
            table.add_row(f"  {report.architecture}" if heading else report.architecture, say.seconds(report.latency_s),
                          _error(report), _speedup(report, first), _energy(report), _energy_ratio(report, first),
                          say.bytes_of(report.traffic.total_bytes), _bound(report))
    return table


def _one_below_the_other(reports: Sequence[Report]) -> Table:
    names = _varying(reports) or ["tokens"]
    rated = any(report.tokens_per_s is not None for report in reports)
    rate_column = ["tokens/s"] if rated else []
    table = _table([", ".join(names), "latency", "error", *rate_column, "energy", "DRAM", "bound by"])
    for report in reports:
        rate = [] if report.tokens_per_s is None else [say.rate(report.tokens_per_s)]
        table.add_row(", ".join(_case_names(report, names)), say.seconds(report.latency_s), _error(report), *rate,
                      _energy(report), say.bytes_of(report.traffic.total_bytes), _bound(report))
    return table


def _table(columns: Sequence[str]) -> Table:
    """Columns of numbers between a column of names and what bounds the row."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for position, name in enumerate(columns):
        is_text = position in (0, len(columns) - 1)
        table.add_column(name, justify="left" if is_text else "right", header_style="dim",
                         style="cyan" if position == 0 else None, no_wrap=position < len(columns) - 1)
    return table


def _shared(reports: Sequence[Report]) -> str:
    """What all reports have in common."""
    first = reports[0]
    names = [name for name in ("workload", "layer", "tokens") if name not in _varying(reports)]
    architecture = [f"on {first.architecture}"] if len({report.architecture for report in reports}) == 1 else []
    fidelity = "cycle level" if first.fidelity == "cycle" else "closed form"
    run = f"{first.phase}, {first.scope}"
    return " · ".join((*_case_names(first, names), *architecture, run, fidelity, f"{first.accounting} accounting"))


def _varying(reports: Sequence[Report]) -> list[str]:
    """The parts of a case in which the reports differ."""
    return [name for name in ("workload", "layer", "tokens") if len({_case(report)[name] for report in reports}) > 1]


def _case(report: Report) -> dict[str, str]:
    layer = "" if report.layer is None else f"{report.layer} layer"
    return {"workload": report.workload, "layer": layer, "tokens": f"{say.length(report.sequence_length)} tokens"}


def _case_names(report: Report, names: Sequence[str]) -> Iterator[str]:
    return (part for name in names if (part := _case(report)[name]))


def _speedup(report: Report, first: Report | None) -> str:
    return "–" if first is None else f"{first.latency_s / report.latency_s:.2f}x"


def _error(report: Report) -> str:
    found = report.uncertainty
    return f"{say.error(found.latency)}, {say.error(found.p90)}" if found is not None and found.covers else "unknown"


def _energy(report: Report) -> str:
    return "–" if report.total_energy_j is None else say.joules(report.total_energy_j)


def _energy_ratio(report: Report, first: Report | None) -> str:
    if first is None or not first.total_energy_j or report.total_energy_j is None:
        return "–"
    return f"{report.total_energy_j / first.total_energy_j:.2f}"


def _bound(report: Report) -> str:
    unit = None if report.bound_by is None else report.unit(report.bound_by)
    return "–" if unit is None else f"{unit.name} {unit.busy_cycles / report.cycles:.0%}"
