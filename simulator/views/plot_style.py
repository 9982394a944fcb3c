"""How figures look and are written: type sizes, colours that stay apart for colour-blind readers, files without a date.

Equal runs give equal files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cascadesim.simulator.report import Report

DOTS_PER_INCH = 150
STYLE: dict[str, object] = {
    "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8,
    "legend.fontsize": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": "#dddddd", "grid.linewidth": 0.6,
}  # fmt: skip
_WRITTEN = {"svg.hashsalt": "cascadesim", "svg.fonttype": "none"}
DARK = {  # what a vector picture looks like where the page is dark: paper, ink, boxes, lines
    "#ffffff": "#16181c", "#1b1b1b": "#ececec", "#5b5b5b": "#a9a9a9", "#d4d4d4": "#3d4148", "#f6f6f4": "#1d2025",
    "#ebebe8": "#262a30", "#d7e7f5": "#143a57", "#fbe3d4": "#5a2c12", "#f3ebc6": "#4a4110", "#e7e3f1": "#372f50",
    "#7b4173": "#d79ad0",
}  # fmt: skip
_MOST_PIXELS = 16_000  # of either side: what is longer is drawn smaller

# Okabe and Ito, "Color Universal Design" (2008), without black, orange first
_SERIES = ("#999999", "#e69f00", "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#cc79a7", "#f0e442")
# Paul Tol's "muted" scheme (SRON/EPS/TN/09-002), then colours far from those: Einsums are many
_EINSUMS = (
    "#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499", "#e6550d",
    "#222222", "#8c8c8c", "#fdae6b", "#c7e9c0", "#3182bd", "#c5b0d5", "#bcbd22", "#7b4173",
)  # fmt: skip


def series_colors(names: Sequence[str]) -> dict[str, str]:
    return {name: _SERIES[position % len(_SERIES)] for position, name in enumerate(names)}


def einsum_colors(names: Sequence[str]) -> dict[str, str]:
    return {name: _EINSUMS[position % len(_EINSUMS)] for position, name in enumerate(names)}


def activity(report: Report, unit: str) -> dict[str, float]:
    """Split a unit's utilization by Einsum of attention, and by kind of all other operations of a model.

    As FuseMax (MICRO'24), figure 7, stacks it: the parts add up to the utilization of the unit.
    """
    shares: dict[str, float] = {}
    kinds = {operation.name: operation.kind for operation in report.operations}
    for einsum in report.einsums:
        if einsum.unit == unit:
            kind = kinds.get(einsum.operation, "attention")
            label = einsum.name if kind == "attention" or len(kinds) == 1 else kind
            shares[label] = shares.get(label, 0.0) + einsum.share * einsum.occupancy
    return {label: share for label, share in shares.items() if share > 0}


def note_empty(axes: Axes, text: str, *, labelled: bool = False) -> None:
    """Say in an empty panel why it is empty. `labelled`: its label stands for a whole row of panels, and stays."""
    for line in axes.lines:
        line.set_visible(False)
    axes.set(xticks=[], yticks=[], frame_on=False)
    axes.set_axis_on() if labelled else axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="#666666")


def write_figure(
    figure_of: Callable[[], Figure], target: Path, style: Mapping[str, object] = STYLE,
    dark: Mapping[str, str] | None = None,
) -> int:  # fmt: skip
    """Write the figure, made in a style, in the format that the suffix of `target` names: .png or .svg.

    Returns how many panels have something in them. `dark`: colour -> the one in its place where a vector picture is
    shown on a dark page.
    """
    is_svg = target.suffix.lower() == ".svg"
    with matplotlib.rc_context(cast(Any, {**style, **_WRITTEN})):
        figure = figure_of()
        dpi = min(DOTS_PER_INCH, _MOST_PIXELS / max(figure.get_size_inches()))
        figure.savefig(target, dpi=dpi, metadata={"Date": None} if is_svg else {"Software": None})
    if is_svg:  # clip paths are named after addresses in memory; numbers in order of appearance are the same every time
        names: dict[str, str] = {}
        svg = target.read_text(encoding="utf-8")
        numbered = re.sub(r"\bp[0-9a-f]{10}\b", lambda found: names.setdefault(found[0], f"clip{len(names)}"), svg)
        target.write_text(_in_both_schemes(numbered, dark or {}), encoding="utf-8")
    return sum(_is_panel(axes) for axes in figure.axes)


def _is_panel(axes: Axes) -> bool:
    drawn = (*axes.lines, *axes.patches, *axes.collections, *axes.images)
    return axes.get_label() != "<colorbar>" and any(each.get_visible() for each in drawn)


def _in_both_schemes(svg: str, dark: Mapping[str, str]) -> str:
    """Add a style sheet that exchanges colours where the page is dark."""
    rules = "".join(f'[style*="{what}: {light}"]{{{what}:{other}!important}}'
                    for light, other in dark.items() for what in ("fill", "stroke"))  # fmt: skip
    sheet = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>\n <defs>"
    return svg.replace("<defs>", sheet, 1) if dark else svg
