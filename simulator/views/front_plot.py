"""A front of mappings as a picture: cycles against DRAM traffic and, where it has a price, against energy.

What is beaten is grey; the machine's own plan is marked. Mappings of the front have the numbers of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from cascadesim.simulator.mapper import FoundMapping
from cascadesim.simulator.pareto import Figures, figures_of
from cascadesim.simulator.views.plot_style import DARK, STYLE, write_figure

_INK, _SOFT, _BEATEN = "#1b1b1b", "#5b5b5b", "#b5b5b5"
_FRONT, _OWN = "#0072b2", "#c75000"
_WIDE = 8.0  # ratio of values from which an axis is logarithmic
_NEAR = 0.04  # of an axis: labels of points that lie closer are one
_LOOK = {**STYLE, "text.color": _INK, "axes.labelcolor": _INK, "xtick.color": _SOFT, "ytick.color": _SOFT,
         "axes.edgecolor": "#d4d4d4", "grid.color": "#d4d4d4", "font.sans-serif": ["DejaVu Sans"]}  # fmt: skip
Place = tuple[float, float]


def draw(found: FoundMapping, target: Path) -> int:
    """Draw a figure in the format that the suffix of `target` names; return how many panels it has."""
    return write_figure(lambda: figure_of(found), target, _LOOK, DARK)


def figure_of(found: FoundMapping) -> Figure:
    """A panel for each figure that mappings trade for cycles."""
    panels: list[tuple[str, Callable[[Figures], float]]] = [("DRAM traffic (GB)", lambda each: each.dram_bytes / 1e9)]
    if found.priced:
        panels.append(("energy (J)", lambda each: each.energy_j or 0.0))
    figure = Figure(figsize=(10, 4.6), layout="constrained", facecolor="#ffffff")
    remark = "" if found.priced else " (energy has no sourced price)"
    figure.suptitle(f"{found.operation.cascade.name} on {found.accelerator.name}: {found.mappings} that no other one "
                    f"beats{remark}", fontsize=10, fontweight="bold")
    for axes, (label, up) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, found, up)
        axes.set(xlabel="million cycles, closed form", ylabel=label)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _panel(axes: Axes, found: FoundMapping, up: Callable[[Figures], float]) -> None:
    def place(each: Figures) -> Place:
        return each.cycles / 1e6, up(each)

    front = [place(figures_of(mapped)) for mapped, _ in found.front]
    of_machine = found.own or found.published
    own = [] if of_machine is None else [place(of_machine[0])]
    beaten = list(dict.fromkeys(map(place, found.beaten)))
    for points, label, marker, size, color in (
        (beaten, f"{len(found.beaten):,} others", ".", 5, _BEATEN), (own, "the machine's own plan", "D", 9, _OWN),
        (front, "not beaten, with the numbers of the table", "o", 5, _FRONT),
    ):  # fmt: skip
        if points:
            axes.plot(*zip(*points, strict=True), marker, markersize=size, color=color, label=label,
                      fillstyle="none" if marker == "D" else "full")  # fmt: skip
    xs, ys = zip(*front, *own, *beaten, strict=True)
    for values, scale, axis in ((xs, axes.set_xscale, axes.xaxis), (ys, axes.set_yscale, axes.yaxis)):
        if max(values) > _WIDE * min(values) > 0:
            scale("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.grid(visible=True, axis="both")
    axes.margins(0.12)
    for (x, y), numbers in together(axes, front).items():
        axes.annotate(", ".join(numbers), (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8, color=_FRONT)


def together(axes: Axes, points: Sequence[Place]) -> dict[Place, list[str]]:
    """Numbers of points, those that lie close to one on its place."""
    found: dict[Place, list[str]] = {}
    to_axes = axes.transData + axes.transAxes.inverted()
    for number, point in enumerate(points, 1):
        x, y = to_axes.transform(point)
        near = (other for other in found if max(abs(to_axes.transform(other) - (x, y))) < _NEAR)
        found.setdefault(next(near, point), []).append(f"{number}")
    return found
