"""Several reports as one figure: a column of panels for each workload, a row for each question of the evaluation.

Rows: utilisation of each array, activity by Einsum, speedup and energy against the baseline; below, latency against
area. The baseline is the architecture called `unfused`, otherwise the first; the axis says which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cascadesim.simulator import quantities as say
from cascadesim.simulator.comparison import Case, baselines, case
from cascadesim.simulator.plot_style import activity, einsum_colors, note_empty, series_colors
from cascadesim.simulator.report import Report

BASELINE = "unfused"  # what the FuseMax evaluation normalises to, where it was simulated
_PANEL_INCHES = (3.6, 2.5)
_MOST_STACKS = 16  # stacked bars in one panel of a grid; beyond, only the longest length is shown
_MARKERS = "osD^vPX*<>"


@dataclass(frozen=True)
class Grid:
    """What all panels share: series (architectures) and their colours, groups (lengths), columns (workloads)."""

    reports: tuple[Report, ...]
    architectures: tuple[str, ...]
    lengths: tuple[int, ...]
    columns: tuple[str, ...]
    against: Mapping[Case, Report]
    baseline: str

    def column(self, name: str) -> list[Report]:
        return [report for report in self.reports if column_name(report) == name]


def column_name(report: Report) -> str:
    return report.workload if report.layer is None else f"{report.workload}, {report.layer} layer"


def grid(reports: Sequence[Report]) -> Grid:
    architectures = tuple(dict.fromkeys(report.architecture for report in reports))
    baseline = BASELINE if BASELINE in architectures else architectures[0]
    return Grid(
        reports=tuple(reports),
        architectures=architectures,
        lengths=tuple(sorted({report.sequence_length for report in reports})),
        columns=tuple(dict.fromkeys(map(column_name, reports))),
        against=baselines(reports, baseline),
        baseline=baseline,
    )


Row = Callable[[Axes, Grid, list[Report]], None]


def comparison_figure(reports: Sequence[Report]) -> Figure:
    shared = grid(reports)
    rows = _rows(shared)
    width, height = _PANEL_INCHES
    columns = len(shared.columns)
    area_row = columns > 0
    inches = (max(width * columns, 7.5) + 1.4, height * (len(rows) + area_row) + 0.9)
    figure = Figure(figsize=inches, layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(len(rows), 1))
    panels = upper.subplots(len(rows), columns, squeeze=False)
    for row, draw_row in enumerate(rows):
        for column, name in enumerate(shared.columns):
            draw_row(panels[row][column], shared, shared.column(name))
            if row == 0:
                panels[row][column].set_title(name, fontweight="bold")
            if column > 0:
                panels[row][column].set_ylabel("")
    _latency_against_area(lower.subplots(1, 1), shared)
    _legends(figure, upper, shared)
    return figure


def _rows(shared: Grid) -> list[Row]:
    units = list(dict.fromkeys(unit.name for report in shared.reports for unit in report.units[:2]))[:2]
    rows: list[Row] = [_utilization_of(unit) for unit in units]
    rows += [_activity_of(unit) for unit in units]
    if len(shared.architectures) > 1:
        return [*rows, _speedup, _relative_energy]
    return [*rows, _latency, _energy]


def _utilization_of(unit: str) -> Row:
    def draw(axes: Axes, shared: Grid, reports: list[Report]) -> None:
        _grouped_bars(axes, shared, reports, lambda report: _utilization(report, unit))
        axes.set(ylabel=f"utilisation of\n{unit}", ylim=(0, 1.05))

    return draw


def _utilization(report: Report, name: str) -> float | None:
    unit = report.unit(name)
    return None if unit is None else unit.utilization


def _speedup(axes: Axes, shared: Grid, reports: list[Report]) -> None:
    def value(report: Report) -> float | None:
        first = shared.against.get(case(report))
        return None if first is None else first.latency_s / report.latency_s

    _grouped_bars(axes, shared, reports, value)
    axes.axhline(1, color="#444444", linewidth=0.8)
    axes.set_ylabel(f"speedup over\n{shared.baseline}")


def _relative_energy(axes: Axes, shared: Grid, reports: list[Report]) -> None:
    def value(report: Report) -> float | None:
        first = shared.against.get(case(report))
        if first is None or not first.total_energy_j or report.total_energy_j is None:
            return None
        return report.total_energy_j / first.total_energy_j

    _grouped_bars(axes, shared, reports, value)
    axes.axhline(1, color="#444444", linewidth=0.8)
    axes.set_ylabel(f"energy relative\nto {shared.baseline}")
    axes.set_xlabel("sequence length (tokens)")


def _latency(axes: Axes, shared: Grid, reports: list[Report]) -> None:
    _grouped_bars(axes, shared, reports, lambda report: report.latency_s)
    axes.set(ylabel="latency (s)", yscale="log")


def _energy(axes: Axes, shared: Grid, reports: list[Report]) -> None:
    _grouped_bars(axes, shared, reports, lambda report: report.total_energy_j)
    axes.set(ylabel="energy (J)", xlabel="sequence length (tokens)", yscale="log")


def _grouped_bars(
    axes: Axes, shared: Grid, reports: list[Report], value: Callable[[Report], float | None]
) -> None:
    """One group for each length, one bar for each architecture."""
    colors = series_colors(shared.architectures)
    width = 0.84 / len(shared.architectures)
    for report in reports:
        height = value(report)
        if height is not None:
            axes.bar(_position(shared, report, width), height, width, color=colors[report.architecture])
    axes.set_xticks(range(len(shared.lengths)), [say.length(length) for length in shared.lengths])
    axes.set_xlim(-0.6, len(shared.lengths) - 0.4)


def _position(shared: Grid, report: Report, width: float) -> float:
    middle = (len(shared.architectures) - 1) / 2
    return shared.lengths.index(report.sequence_length) + (
        shared.architectures.index(report.architecture) - middle
    ) * width


def _activity_of(unit: str) -> Row:
    def draw(axes: Axes, shared: Grid, reports: list[Report]) -> None:
        colors = einsum_colors(_labels(shared))
        shown = _stacked(shared, reports)
        for position, report in enumerate(shown):
            bottom = 0.0
            for label, share in activity(report, unit).items():
                axes.bar(position, share, 0.8, bottom, color=colors[label])
                bottom += share
        several = len({report.sequence_length for report in shown}) > 1
        names = [_stack_name(report, several, shared) for report in shown]
        axes.set_xticks(range(len(shown)), names, rotation=35 if len(shown) < 8 else 90,
                        ha="right" if len(shown) < 8 else "center")
        at = "" if several or not shown else f"\nat {say.length(shown[0].sequence_length)} tokens"
        axes.set(ylabel=f"activity of\n{unit}{at}", ylim=(0, 1.05))

    return draw


def _stacked(shared: Grid, reports: list[Report]) -> list[Report]:
    if len(reports) <= _MOST_STACKS:
        return sorted(reports, key=lambda report: report.sequence_length)
    return [report for report in reports if report.sequence_length == shared.lengths[-1]]


def _stack_name(report: Report, several: bool, shared: Grid) -> str:
    if len(shared.architectures) == 1:
        return say.length(report.sequence_length)
    return f"{report.architecture} {say.length(report.sequence_length)}" if several else report.architecture


def _labels(shared: Grid) -> list[str]:
    """Einsums of all panels, so that a colour means one Einsum in the whole figure."""
    units = [unit.name for report in shared.reports for unit in report.units[:2]]
    found = (label for unit in dict.fromkeys(units) for report in shared.reports for label in activity(report, unit))
    return list(dict.fromkeys(found))


def _latency_against_area(axes: Axes, shared: Grid) -> None:
    """Figure 12 of the evaluation, at the longest length: one colour per architecture, one marker per workload."""
    longest = [report for report in shared.reports if report.sequence_length == shared.lengths[-1]]
    shown = [(report, area) for report in longest if (area := report.total_area_um2) is not None]
    if not shown:
        note_empty(axes, "no area model")
        return
    colors = series_colors(shared.architectures)
    markers = {name: _MARKERS[position % len(_MARKERS)] for position, name in enumerate(shared.columns)}
    for report, area_um2 in shown:
        axes.scatter(area_um2 * 1e-8, report.latency_s, s=48, color=colors[report.architecture],
                     marker=markers[column_name(report)], edgecolors="white", linewidths=0.5)
    axes.set(xlabel="area (cm²)", ylabel=f"latency (s)\nat {say.length(shared.lengths[-1])} tokens", xscale="log",
             yscale="log")
    axes.margins(x=0.25, y=0.15)
    axes.grid(visible=True, which="both", axis="both")
    handles = [Line2D([], [], linestyle="", marker=marker, color="#444444", label=name)
               for name, marker in markers.items()]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, title="workload")


def _legends(figure: Figure, upper: object, shared: Grid) -> None:
    first = shared.reports[0]
    fidelity = "cycle level" if first.fidelity == "cycle" else "closed form"
    figure.suptitle(f"{first.scope.capitalize()}, {first.phase}, {fidelity}, {first.accounting} accounting",
                    fontsize=11, fontweight="bold")
    series = [Patch(color=color, label=name) for name, color in series_colors(shared.architectures).items()]
    einsums = [Patch(color=color, label=name) for name, color in einsum_colors(_labels(shared)).items()]
    figure.legend(handles=series, loc="outside right upper", title="architecture", frameon=False)
    figure.legend(handles=einsums, loc="outside right center", title="Einsum", frameon=False)
