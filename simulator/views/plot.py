"""Reports as figures: the questions of the FuseMax evaluation (spec section 10), for whatever was simulated.

One report has the figure of `run_plot`. Several reports: a column of panels for each workload; rows for the utilisation
of each array, activity by Einsum, speedup and energy against the baseline (the architecture called `unfused`, otherwise
the first: the axis says which), or latency and tokens/s; below, latency against area.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, floor, log10
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cascadesim.simulator.report import Report
from cascadesim.simulator.request import Request
from cascadesim.simulator.views import output as say
from cascadesim.simulator.views.plot_style import activity, einsum_colors, note_empty, series_colors, write_figure
from cascadesim.simulator.views.run_plot import single_figure


def draw(reports: Sequence[Report], target: Path, requests: Sequence[Request] = ()) -> int:
    """Draw a figure in the format that the suffix of `target` names, .png or .svg; return how many panels it has.

    `requests`: what the reports answer; with it a single report has its roofline.
    """
    if len(reports) > 1:
        return write_figure(lambda: comparison_figure(reports), target)
    return write_figure(lambda: single_figure(reports[0], requests[0] if requests else None), target)


BASELINE = "unfused"  # what the FuseMax evaluation normalises to, where it was simulated
_PANEL_INCHES = (3.6, 2.5)
_STRIP = 0.035  # height of the strip under a stacked bar, in shares
_NARROW = 3.0  # ratio of areas below which a logarithmic axis has no round numbers to show
_MARKERS = "osD^vPX*<>"
_MOST_NAMED = 18  # bars of a panel whose bound is written on them


Group = tuple[str, int, int]  # phase, tokens, sequences


@dataclass(frozen=True)
class Grid:
    """What all panels share: series (architectures) and their colours, groups of bars, columns (workloads).

    A group is a phase, a length and a batch; its label says those of them that vary, or the length where none does.
    """

    reports: tuple[Report, ...]
    architectures: tuple[str, ...]
    groups: Mapping[Group, str]
    varying: tuple[str, ...]
    columns: tuple[str, ...]
    against: Mapping[tuple[object, ...], Report]  # by case
    baseline: str

    @property
    def bar_width(self) -> float:
        return min(0.84 / len(self.architectures), 0.3)

    def position(self, report: Report) -> float:
        """Place the report's bar in its panels."""
        from_middle = self.architectures.index(report.architecture) - (len(self.architectures) - 1) / 2
        return list(self.groups).index(group_of(report)) + from_middle * self.bar_width


def group_of(report: Report) -> Group:
    return (report.phase, report.sequence_length, report.batch)


def _label(group: Group, varying: Sequence[str]) -> str:
    phase, tokens, batch = group
    words = {"phase": phase, "sequence length (tokens)": say.length(tokens), "batch": f"x {batch:,}"}
    return "\n".join(words[name] for name in varying)


def column_name(report: Report) -> str:
    return report.workload if report.layer is None else f"{report.workload}, {report.layer} layer"


def grid(reports: Sequence[Report]) -> Grid:
    architectures = tuple(dict.fromkeys(report.architecture for report in reports))
    baseline = BASELINE if BASELINE in architectures else architectures[0]
    phases = list(dict.fromkeys(report.phase for report in reports))
    found = sorted(set(map(group_of, reports)), key=lambda group: (phases.index(group[0]), *group[1:]))
    named = zip(("phase", "sequence length (tokens)", "batch"), zip(*found, strict=True), strict=True)
    varying = tuple(name for name, values in named if len(set(values)) > 1) or ("sequence length (tokens)",)
    return Grid(
        reports=tuple(reports), architectures=architectures,
        groups={group: _label(group, varying) for group in found}, varying=varying,
        columns=tuple(dict.fromkeys(map(column_name, reports))),
        against={report.case: report for report in reports if report.architecture == baseline}, baseline=baseline,
    )  # fmt: skip


Row = Callable[[Axes, Grid, list[Report]], None]


def comparison_figure(reports: Sequence[Report]) -> Figure:
    shared = grid(reports)
    rows = _rows(shared)
    names = list(dict.fromkeys(column_name(report) for report in shared.reports if _has_panel(report, shared)))
    if len(names) > 1:
        cells = [[(name, row) for name in names] for row in rows]
    else:  # the questions about a single workload in pairs
        named = [(names[0], row) for row in rows]
        cells = [named[start : start + 2] for start in range(0, len(named), 2)]
    width, height = _PANEL_INCHES
    areas = any(report.total_area_um2 is not None for report in shared.reports)
    below = 1.2 if areas and len(shared.architectures) > 1 else 0  # one area is no comparison
    size = (max(width * len(cells[0]), 6) + 1.8, height * (len(cells) + below) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    halves = figure.subfigures(1 + (below > 0), 1, squeeze=False, height_ratios=[len(cells), below][: 1 + (below > 0)])
    panels = halves[0, 0].subplots(len(cells), len(cells[0]), squeeze=False)
    for row, line in enumerate(cells):
        for column, (name, draw_cell) in enumerate(line):
            axes = panels[row][column]
            draw_cell(axes, shared, [report for report in shared.reports if column_name(report) == name])
            if not axes.patches:
                note_empty(axes, "nothing to show", labelled=column == 0)
            if row == 0 and len(names) > 1:
                axes.set_title(name, fontweight="bold")
            if column > 0 and len(names) > 1:
                axes.set_ylabel("")
            if row == len(cells) - 1:
                axes.set_xlabel(", ".join(shared.varying))
    for axes in panels.flat[sum(map(len, cells)) :]:  # of an odd number of questions
        axes.set_axis_off()
    if below:
        _latency_against_area(halves[1, 0].subplots(1, 1), shared)
    _legends(figure, shared)
    return figure


def _has_panel(report: Report, shared: Grid) -> bool:
    """Whether any panel but that of areas shows the report: a layer of one architecture alone compares with nothing."""
    return report.case in shared.against or any(report.unit(unit) is not None for unit in _shown_units(shared))


def _shown_units(shared: Grid) -> list[str]:
    """Name the two arrays; of machines that are never bound by either, the first and what binds them most often."""
    first = list(dict.fromkeys(unit.name for report in shared.reports for unit in report.units[:2]))[:2]
    binding = Counter(report.bound_by for report in shared.reports if report.bound_by is not None)
    return first if not binding or binding.keys() & set(first) else [first[0], binding.most_common(1)[0][0]]


def _rows(shared: Grid) -> list[Row]:
    units = _shown_units(shared)
    rows = [partial(_utilization, unit=unit) for unit in units] + [partial(_activity, unit=unit) for unit in units]
    energy = any(report.total_energy_j is not None for report in shared.reports)
    latency = partial(_absolute, figure="latency_s", label="latency (ms)", scale=1e3)
    rates = any(report.tokens_per_s is not None for report in shared.reports)
    others = {"total_energy_j": "energy (J)"} if energy else {"tokens_per_s": "tokens/s"} if rates else {}
    last = [partial(_absolute, figure=name, label=label) for name, label in others.items()]
    if len(shared.architectures) > 1:
        return [*rows, _speedup, *([_relative_energy] if energy else [latency, *last])]
    return [*rows, latency, *last]


def _utilization(axes: Axes, shared: Grid, reports: list[Report], unit: str) -> None:
    shown = ((report, found.utilization) for report in reports if (found := report.unit(unit)) is not None)
    _grouped_bars(axes, shared, shown)
    axes.set(ylabel=f"utilisation of\n{unit}", ylim=(0, 1.05))


def _speedup(axes: Axes, shared: Grid, reports: list[Report]) -> None:
    pairs = [(report, first) for report in reports if (first := shared.against.get(report.case)) is not None]
    _grouped_bars(axes, shared, ((report, first.latency_s / report.latency_s) for report, first in pairs))
    axes.axhline(1, color="#444444", linewidth=0.8)
    axes.set_ylabel(f"speedup over\n{shared.baseline}")


def _relative_energy(axes: Axes, shared: Grid, reports: list[Report]) -> None:
    pairs = [(report, first) for report in reports if (first := shared.against.get(report.case)) is not None]
    _grouped_bars(axes, shared, ((report, report.total_energy_j / first.total_energy_j) for report, first in pairs
                                 if first.total_energy_j and report.total_energy_j is not None))  # fmt: skip
    axes.axhline(1, color="#444444", linewidth=0.8)
    axes.set_ylabel(f"energy relative\nto {shared.baseline}")


def _absolute(axes: Axes, shared: Grid, reports: list[Report], figure: str, label: str, scale: float = 1) -> None:
    """The axis is logarithmic, from a whole decade on, where the bars differ by more than one.

    Bars that are wide enough say what bounds them.
    """
    found = ((report, getattr(report, figure)) for report in reports)
    heights = [(report, None if height is None else scale * height) for report, height in found]
    _grouped_bars(axes, shared, heights)
    if figure == "latency_s" and len(shared.groups) * len(shared.architectures) <= _MOST_NAMED:
        for report, height in heights:
            axes.annotate(report.bound_by or "", (shared.position(report), height or 0), xytext=(0, 2), fontsize=6,
                          textcoords="offset points", ha="center", va="bottom", rotation=90)
        axes.margins(y=0.3)
    axes.set_ylabel(label)
    values = [height for _, height in heights if height]
    if values and max(values) / min(values) >= 10:
        axes.set(yscale="log", ylim=(10 ** floor(log10(min(values)) - 0.3), 10 ** ceil(log10(max(values)))))


def _grouped_bars(axes: Axes, shared: Grid, heights: Iterable[tuple[Report, float | None]]) -> None:
    """Draw a group for each phase, length and batch, and a bar for each architecture; None is no bar."""
    colors = series_colors(shared.architectures)
    for report, height in heights:
        if height is not None:
            axes.bar(shared.position(report), height, shared.bar_width, color=colors[report.architecture])
    _group_axis(axes, shared)


def _group_axis(axes: Axes, shared: Grid) -> None:
    axes.set_xticks(range(len(shared.groups)), list(shared.groups.values()))
    axes.set_xlim(-0.6, len(shared.groups) - 0.4)


def _activity(axes: Axes, shared: Grid, reports: list[Report], unit: str) -> None:
    """Stack the Einsums where the other panels have bars; a strip under each has the colour of its architecture."""
    colors, series = einsum_colors(_labels(shared)), series_colors(shared.architectures)
    width = 0.9 * shared.bar_width
    for report in (report for report in reports if report.unit(unit) is not None):
        position, bottom = shared.position(report), 0.0
        for label, share in activity(report, unit).items():
            axes.bar(position, share, width, bottom, color=colors[label])
            bottom += share
        axes.bar(position, _STRIP, width, -1.5 * _STRIP, color=series[report.architecture])
    _group_axis(axes, shared)
    axes.set(ylabel=f"activity of\n{unit}", ylim=(-2 * _STRIP, 1.05))
    axes.spines["bottom"].set_visible(False)
    axes.axhline(0, color="black", linewidth=0.8)


def _labels(shared: Grid) -> list[str]:
    """List the Einsums of all panels, so that a colour means one Einsum in the whole figure."""
    found = (label for unit in _shown_units(shared) for report in shared.reports for label in activity(report, unit))
    return list(dict.fromkeys(found))


def _latency_against_area(axes: Axes, shared: Grid) -> None:
    """Draw figure 12 of the evaluation for the last group: a colour per architecture, a marker per workload."""
    last, label = list(shared.groups.items())[-1]
    longest = [report for report in shared.reports if group_of(report) == last]
    where = f"{label} tokens" if shared.varying == ("sequence length (tokens)",) else label.replace("\n", ", ")
    shown = [(report, area) for report in longest if (area := report.total_area_um2) is not None]
    if not shown:
        note_empty(axes, "no area model")
        return
    colors = series_colors(shared.architectures)
    markers = {name: _MARKERS[position % len(_MARKERS)] for position, name in enumerate(shared.columns)}
    sizes = {name: 40 + 70 * below for below, name in enumerate(reversed(colors))}  # rings: coinciding designs show
    for report, area_um2 in shown:
        axes.scatter(area_um2 * 1e-6, 1e3 * report.latency_s, facecolors="none", edgecolors=colors[report.architecture],
                     s=sizes[report.architecture], marker=markers[column_name(report)], linewidths=2)  # fmt: skip
    areas = [area_um2 for _, area_um2 in shown]
    axes.set(xlabel="area (mm²)", ylabel=f"latency (ms)\nat {where}", yscale="log",
             xscale="linear" if max(areas) / min(areas) < _NARROW else "log")
    axes.margins(x=0.25, y=0.15)
    axes.grid(visible=True, which="both", axis="both")
    if len(markers) == 1:
        return
    handles = [Line2D([], [], linestyle="", marker=marker, color="#444444", label=name)
               for name, marker in markers.items()]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, title="workload")


def _legends(figure: Figure, shared: Grid) -> None:
    first = shared.reports[0]
    fidelity = "cycle level" if first.fidelity == "cycle" else "closed form"
    only = f"{shared.columns[0]}: " if len(shared.columns) == 1 else ""
    phase = "" if "phase" in shared.varying else f"{first.phase}, "
    figure.suptitle(f"{only}{first.scope}, {phase}{fidelity}, {first.accounting} accounting",
                    fontsize=11, fontweight="bold")
    series = [Patch(color=color, label=name) for name, color in series_colors(shared.architectures).items()]
    einsums = [Patch(color=color, label=name) for name, color in einsum_colors(_labels(shared)).items()]
    figure.legend(handles=series, loc="outside right upper", title="architecture", frameon=False)
    figure.legend(handles=einsums, loc="outside right center", title="Einsum", frameon=False)
