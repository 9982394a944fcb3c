"""One run as a figure: what each unit did, which operations and Einsums took its time, its energy, its roofline.

A panel is there only where it has something to show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from math import log10

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from cascadesim.simulator.report import Report
from cascadesim.simulator.report_page.roofline import RooflinePoint, points
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import parts
from cascadesim.simulator.views import output as say
from cascadesim.simulator.views.plot_style import activity, einsum_colors

_MOST_BARS = 14  # components of energy, operations; smaller ones are added up
_ATTRIBUTION = {"busy": "#009e73", "stalled": "#d55e00", "idle": "#dddddd"}
_LETTER = 0.0135  # share of the time that one letter of a segment's name takes up
_NAME_DECADES = (0.8, 0.25)  # across and up, that a name takes of the roofline
_CLOSE = 2  # times: a lower line that is closer to the one above it has its name below
_DOT = 900  # square points of a dot that takes all the time


def single_figure(report: Report, request: Request | None = None) -> Figure:
    """All panels below each other; the roofline needs the request that the report answers."""
    panels: list[tuple[float, Callable[[Axes], None]]] = [(1.0, partial(_units, report=report))]
    if len(report.operations) > 1:
        panels.append((1.4, partial(_operations, report=report)))
    if any(activity(report, unit.name) for unit in report.units):
        panels.append((1.2, partial(_einsums, report=report)))
    if report.energy_j:
        panels.append((1.4, partial(_energy_by_component, report=report)))
    delivered = None if request is None else request.accelerator.capabilities.dram_bytes_per_s
    if request is not None and delivered is not None:
        (runs,) = parts(request)
        shown = [point for point in points(runs, request.accelerator) if point.dram_bytes]
        panels += [(2.0, partial(_roofline, shown=shown, dram_bytes_per_s=delivered))] if shown else []
    ratios = [height for height, _ in panels]
    figure = Figure(figsize=(9, 1.4 + 2 * sum(ratios)), layout="constrained")
    tokens = f"{say.length(report.sequence_length)} tokens"
    layer = "" if report.layer is None else f", one {report.layer} layer"
    figure.suptitle(
        f"{report.workload} on {report.architecture}: {report.scope}{layer}, {report.phase}, "
        f"{tokens} x {report.batch}, {say.seconds(report.latency_s)}",
        fontsize=11, fontweight="bold",
    )  # fmt: skip
    cells = figure.subplots(len(panels), 1, height_ratios=ratios, squeeze=False)
    for axes, (_, draw_panel) in zip(cells[:, 0], panels, strict=True):
        draw_panel(axes)
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


def _operations(axes: Axes, report: Report) -> None:
    """The longest operations, those of a name together."""
    spent: Counter[str] = Counter()
    for operation in report.operations:
        spent[operation.name] += operation.cycles / report.clock_hz * 1e3  # type: ignore[assignment]  # counts time
    _largest(axes, dict(spent), lambda each, total: f"{each:.3g} ms ({each / total:.1%})")
    axes.set(title="Time by operation", xlabel="time (ms)")


def _energy_by_component(axes: Axes, report: Report) -> None:
    energy = dict(report.energy_j or {})
    _largest(axes, energy, lambda each, total: f"{say.joules(each)} ({each / total:.1%})")
    axes.set(title=f"Energy by component: {say.joules(sum(energy.values()))}", xlabel="energy (J)")


def _largest(axes: Axes, amounts: dict[str, float], words: Callable[[float, float], str]) -> None:
    """Bars of the largest amounts and of the sum of all others, with words beside them."""
    ordered = sorted(amounts.items(), key=lambda item: -item[1])
    bars, small = dict(ordered[:_MOST_BARS]), ordered[_MOST_BARS:]
    if small:
        bars["others"] = sum(amount for _, amount in small)
    total = sum(bars.values())
    drawn = axes.barh(list(bars), list(bars.values()), color="#0072b2", height=0.7)
    axes.bar_label(drawn, [words(amount, total) for amount in bars.values()], padding=3, fontsize=8)
    axes.margins(x=0.15)
    _horizontal(axes)


def _apart(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether two names do not lie on each other, on axes of logarithms."""
    across, up = (abs(log10(here / there)) for here, there in zip(one, other, strict=True))
    return across > _NAME_DECADES[0] or up > _NAME_DECADES[1]


def _roofline(axes: Axes, shown: list[RooflinePoint], dram_bytes_per_s: float) -> None:
    """What DRAM and the units allow, and every operation that moves something by DRAM; larger dots took longer."""
    peaks = {" + ".join(point.units): point.peak for point in shown if point.peak is not None}
    across = [point.operations / point.dram_bytes for point in shown]
    ridges = [peak / dram_bytes_per_s for peak in peaks.values()]
    left, right = min([*across, *ridges]) / 3, max([*across, *ridges]) * 4
    top = max([*peaks.values(), *(point.operations / point.seconds for point in shown)])
    axes.plot([left, top / dram_bytes_per_s], [left * dram_bytes_per_s, top], color="#222222", linewidth=1)
    axes.annotate(f"DRAM, {dram_bytes_per_s / 1e12:.3g} TB/s", (left, left * dram_bytes_per_s), xytext=(4, 8),
                  textcoords="offset points", va="bottom", fontsize=8)
    above = float("inf")
    for name, peak in sorted(peaks.items(), key=lambda item: -item[1]):
        close, above = above < _CLOSE * peak, peak
        axes.plot([peak / dram_bytes_per_s, right], [peak, peak], color="#222222", linewidth=1)
        axes.annotate(f"{name}, {say.count(peak)}/s", (right, peak), xytext=(0, -3 if close else 3), ha="right",
                      va="top" if close else "bottom", textcoords="offset points", fontsize=8)
    total, named = sum(point.seconds for point in shown), list[tuple[float, float]]()
    for point in sorted(shown, key=lambda each: -each.seconds):
        place = (point.operations / point.dram_bytes, point.operations / point.seconds)
        axes.scatter(*place, s=20 + _DOT * point.seconds / total, color="#0072b2", alpha=0.75, edgecolors="white",
                     zorder=3)
        if all(_apart(place, other) for other in named):
            named.append(place)
            axes.annotate(point.name, place, xytext=(7, -9), textcoords="offset points", fontsize=7, zorder=4)
    axes.set(title="Roofline", xscale="log", yscale="log", xlim=(left, right), ylabel="operations/s",
             xlabel="operations for each byte of DRAM")
    axes.yaxis.set_major_formatter(EngFormatter(places=0))
    axes.grid(visible=True, which="major", axis="both")
