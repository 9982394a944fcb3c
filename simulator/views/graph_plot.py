"""A cascade as a picture: Einsums as boxes in the row of their pass, arrows for what one reads of another.

Columns are steps of the longest chain of reads, from left to right; a dashed arrow carries a state from one step of an
iterative rank to a later one. Knows where boxes stand; what the graph is, `analysis.graph` says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cascadesim.einsum_cascades.analysis.passes import Traversal
from cascadesim.einsum_cascades.notation.algebra import access_text
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.simulator.views.plot_style import write_figure

COLUMN, ROW = 1.9, 0.8  # inches from box to box
_BOX = {"boxstyle": "round,pad=0.35", "facecolor": "#e8f1fa", "edgecolor": "#0072b2"}
_BANDS = ("#ffffff", "#f2f2f2")
_SAME_STEP, _LATER_STEP = "#555555", "#d55e00"
Places = Mapping[int, tuple[float, float]]


def draw(cascade: Cascade, over: Traversal, target: Path) -> int:
    """Draw one panel in the format that the suffix of `target` names, .png or .svg; passes are those over one fiber."""
    return write_figure(lambda: _figure(cascade, over), target, {})


def _figure(cascade: Cascade, over: Traversal) -> Figure:
    rows = [over.pass_of(number) for number, _ in enumerate(cascade.einsums)]
    places, bands = _places(cascade, rows)
    right, top = max(x for x, _ in places.values()), sum(bands.values())
    figure = Figure(figsize=(COLUMN * (right + 1) + 0.6, ROW * top + 0.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.85, right + 0.6), ylim=(-top, 0), title=f"{cascade.name}: {over.passes}-pass")
    axes.set_axis_off()
    _draw_bands(axes, bands)
    boxes = [axes.text(*places[number], access_text(einsum.output).removesuffix("[]"), ha="center", va="center",
                       fontsize=8, family="monospace", bbox=_BOX, zorder=3)
             for number, einsum in enumerate(cascade.einsums)]
    figure.draw_without_rendering()  # gives boxes their sizes, at which arrows end
    _draw_arrows(axes, cascade, places, [box.get_bbox_patch() for box in boxes])
    return figure


def _places(cascade: Cascade, rows: list[int]) -> tuple[Places, dict[int, int]]:
    """Where each Einsum stands, in columns and (downwards negative) lines; how many lines each pass has."""
    graph = cascade.graph()
    same_step = nx.DiGraph((one, other) for one, other, rank in graph.edges(data="rank") if rank is None)
    same_step.add_nodes_from(graph)
    cells: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for column, members in enumerate(nx.topological_generations(same_step)):
        for number in sorted(members):
            cells[rows[number], column].append(number)
    bands = {row: max(len(each) for (own, _), each in cells.items() if own == row) for row in sorted(set(rows))}
    places, first = {}, 0
    for row, lines in bands.items():
        for (own, column), members in cells.items():
            for line, number in enumerate(members if own == row else ()):
                places[number] = float(column), -(first + (line + 0.5) * lines / len(members))
        first += lines
    return places, bands


def _draw_bands(axes: Axes, bands: Mapping[int, int]) -> None:
    first = 0
    for number, (row, lines) in enumerate(bands.items()):
        axes.axhspan(-first - lines, -first, color=_BANDS[number % 2], zorder=0)
        axes.text(-0.82, -first - lines / 2, f"pass {row}", rotation=90, ha="left", va="center", color="#666666")
        first += lines


def _draw_arrows(axes: Axes, cascade: Cascade, places: Places, boxes: Sequence[Patch | None]) -> None:
    """One arrow for all reads between two Einsums in one step, one for those of earlier steps."""
    reads: defaultdict[tuple[int, int, bool], dict[str, None]] = defaultdict(dict)
    for one, other, data in cascade.graph().edges(data=True):
        steps = "" if data["rank"] is None else f" ({data['rank']}-{data['distance']})"
        reads[one, other, data["rank"] is not None][f"{data['tensor']}{steps}"] = None
    for (one, other, carried), labels in reads.items():
        (x, y), (end_x, end_y) = places[one], places[other]
        color = _LATER_STEP if carried else _SAME_STEP
        if one == other:
            axes.annotate("", (x + 0.12, y + 0.22), (x - 0.12, y + 0.22), zorder=2, arrowprops={
                "arrowstyle": "->", "color": color, "linestyle": "--", "connectionstyle": "arc3,rad=-1.2"})
            middle = x, y + 0.44
        else:
            bend = -0.2 if carried or (y == end_y and end_x - x > 1) else 0.0
            axes.annotate("", (end_x, end_y), (x, y), zorder=2, arrowprops={
                "arrowstyle": "->", "color": color, "linestyle": "--" if carried else "-", "patchA": boxes[one],
                "patchB": boxes[other], "connectionstyle": f"arc3,rad={bend}"})
            across, down = (end_x - x) * COLUMN, (end_y - y) * ROW  # a bent arrow passes this far from the middle
            middle = (x + end_x) / 2 + bend * down / 2 / COLUMN, (y + end_y) / 2 - bend * across / 2 / ROW
        axes.text(*middle, "\n".join(labels), ha="center", va="center", fontsize=7, color=color, zorder=2.5,
                  bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5})
