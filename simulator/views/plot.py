"""Reports as figures: the questions of the FuseMax evaluation (spec section 10), for whatever was simulated.

Several reports: utilisation, activity by Einsum, speedup and energy, latency against area (`plot_comparison`). One
report: what each unit did, which Einsums took its time, where the energy went.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cascadesim.simulator.report import Report
from cascadesim.simulator.views import formatting as say
from cascadesim.simulator.views.plot_comparison import comparison_figure
from cascadesim.simulator.views.plot_style import activity, einsum_colors, note_empty, write_figure

_MOST_BARS = 14  # components of energy; smaller ones are added up
_ATTRIBUTION = {"busy": "#009e73", "stalled": "#d55e00", "idle": "#dddddd"}
_LETTER = 0.0135  # share of the time that one letter of a segment's name takes up


def draw(reports: Sequence[Report], target: Path) -> None:
    """Draw a figure in the format that the suffix of `target` names: .png or .svg."""
    write_figure(lambda: single_figure(reports[0]) if len(reports) == 1 else comparison_figure(reports), target)


def single_figure(report: Report) -> Figure:
    figure = Figure(figsize=(9, 7.2), layout="constrained")
    of_units, of_einsums, of_energy = figure.subplots(3, 1, height_ratios=(1, 1.2, 1.4))
    tokens = f"{say.length(report.sequence_length)} tokens"
    layer = "" if report.layer is None else f", one {report.layer} layer"
    figure.suptitle(
        f"{report.workload} on {report.architecture}: {report.scope}{layer}, {report.phase}, "
        f"{tokens} x {report.batch}, {say.seconds(report.latency_s)}",
        fontsize=11, fontweight="bold",
    )  # fmt: skip
    _units(of_units, report)
    _einsums(of_einsums, report)
    _energy(of_energy, report)
    return figure


def _units(axes: Axes, report: Report) -> None:
    names = [unit.name for unit in report.units]
    left = [0.0] * len(names)
    for what, color in _ATTRIBUTION.items():
        shares = [getattr(unit, f"{what}_cycles") / report.cycles for unit in report.units]
        axes.barh(names, shares, left=left, color=color, label=what, height=0.7)
        left = [start + share for start, share in zip(left, shares, strict=True)]
    _share_axis(axes, "Where every cycle of each unit went")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _einsums(axes: Axes, report: Report) -> None:
    by_unit = {unit.name: activity(report, unit.name) for unit in report.units}
    by_unit = {unit: shares for unit, shares in by_unit.items() if shares}
    labels = list(dict.fromkeys(label for shares in by_unit.values() for label in shares))
    colors = einsum_colors(labels)
    left = dict.fromkeys(by_unit, 0.0)
    for label in labels:
        shares = [by_unit[unit].get(label, 0.0) for unit in by_unit]
        axes.barh(list(by_unit), shares, left=list(left.values()), color=colors[label], label=label, height=0.7)
        for unit, share in zip(by_unit, shares, strict=True):
            if share >= _LETTER * (len(label) + 1):
                axes.text(left[unit] + share / 2, unit, label, ha="center", va="center",  # type: ignore[arg-type]
                          fontsize=8, bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1})
            left[unit] += share
    _share_axis(axes, "Activity by Einsum")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, ncols=1 + (len(labels) > 9))


def _share_axis(axes: Axes, title: str) -> None:
    axes.set(title=title, xlabel="share of the run", xlim=(0, 1))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    _horizontal(axes)


def _horizontal(axes: Axes) -> None:
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.invert_yaxis()


def _energy(axes: Axes, report: Report) -> None:
    if not report.energy_j:
        note_empty(axes, "no energy model")
        return
    ordered = sorted(report.energy_j.items(), key=lambda item: -item[1])
    parts, small = dict(ordered[:_MOST_BARS]), ordered[_MOST_BARS:]
    if small:
        parts["others"] = sum(part for _, part in small)
    total = sum(parts.values())
    bars = axes.barh(list(parts), list(parts.values()), color="#0072b2", height=0.7)
    axes.bar_label(bars, [f"{say.joules(part)} ({part / total:.1%})" for part in parts.values()], padding=3, fontsize=8)
    axes.set(title=f"Energy by component: {say.joules(total)}", xlabel="energy (J)")
    axes.margins(x=0.15)
    _horizontal(axes)
