"""Several reports as one table: what they share above it, what differs in its rows, speedup against the first.

A speedup compares a report with the first architecture's report of the same workload, length, batch and layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cascadesim.simulator import quantities as say
from cascadesim.simulator.report import Report

Case: TypeAlias = tuple[str, str | None, int, int]


def case(report: Report) -> Case:
    """What two reports must share for their ratio to mean something."""
    return (report.workload, report.layer, report.sequence_length, report.batch)


def baselines(reports: Sequence[Report], architecture: str) -> Mapping[Case, Report]:
    """The report of `architecture` for each case."""
    return {case(report): report for report in reports if report.architecture == architecture}


def comparison(reports: Sequence[Report]) -> RenderableType:
    first = reports[0]
    names = _varying_names(reports)
    compared = len({report.architecture for report in reports}) > 1
    ratios = ["speedup"] if compared else []
    table = _columns([*names, "latency", *ratios, "DRAM", "energy", "bound by", *_compute_units(reports)])
    against = baselines(reports, first.architecture)
    for previous, report in zip((None, *reports), reports, strict=False):
        if previous is not None and case(previous) != case(report) and compared:
            table.add_section()
        speedup = [_speedup(report, against.get(case(report)))] if compared else []
        energy = "–" if report.total_energy_j is None else say.joules(report.total_energy_j)
        table.add_row(*_values(report, names), say.seconds(report.latency_s), *speedup,
                      say.bytes_of(report.traffic.total_bytes), energy, report.bound_by or "–",
                      *(_busy(report, unit) for unit in _compute_units(reports)))
    below = [Text(f"speedup: against {first.architecture}", style="dim")] if compared else []
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    return Group(Text(_shared(reports), style="bold"), Text(), table, Text(), *below,
                 *(Text(f"note: {note}", style="yellow") for note in notes))


def _columns(names: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in names:
        is_name = name in (*_NAMES, "bound by")
        table.add_column(name, justify="left" if is_name else "right", header_style="dim",
                         overflow="fold" if is_name else "ellipsis", style="cyan" if name in _NAMES else None)
    return table


_NAMES = ("workload", "layer", "tokens", "architecture")


def _values(report: Report, names: Sequence[str]) -> list[str]:
    values = {"workload": report.workload, "layer": report.layer or "", "tokens": say.length(report.sequence_length),
              "architecture": report.architecture}
    return [values[name] for name in names]


def _varying_names(reports: Sequence[Report]) -> list[str]:
    rows = [_values(report, _NAMES) for report in reports]
    return [name for position, name in enumerate(_NAMES) if len({row[position] for row in rows}) > 1]


def _shared(reports: Sequence[Report]) -> str:
    """What all reports have in common."""
    first, varying = reports[0], _varying_names(reports)
    parts = [value for name, value in zip(_NAMES[:2], _values(first, _NAMES[:2]), strict=True)
             if value and name not in varying]
    if "architecture" not in varying:
        parts.append(f"on {first.architecture}")
    if "tokens" not in varying:
        parts.append(f"{first.sequence_length:,} tokens")
    fidelity = "cycle level" if first.fidelity == "cycle" else "closed form"
    return " · ".join((*parts, f"{first.phase}, {first.scope}", fidelity, f"{first.accounting} accounting"))


def _speedup(report: Report, baseline: Report | None) -> str:
    return "–" if baseline is None else f"{baseline.latency_s / report.latency_s:.2f}x"


def _compute_units(reports: Sequence[Report]) -> list[str]:
    """The units that reports show utilisation of first: the two that each accelerator lists first."""
    return list(dict.fromkeys(unit.name for report in reports for unit in report.units[:2]))[:2]


def _busy(report: Report, name: str) -> str:
    unit = report.unit(name)
    return "–" if unit is None else f"{unit.busy_cycles / report.cycles:.0%}"
