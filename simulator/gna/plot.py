"""Pictures of a neighborhood on its tiles: one query tile and its key tiles, useful work per tile, bounds by stride.

Drawn in the places of one dilation group (the first), where windows and tiles are boxes. Useful shares factorise into
dimensions like everything else: the picture of a million tokens costs no more than that of a thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cascadesim.einsum_cascades.sparsity.masks import times
from cascadesim.simulator.gna.neighborhood import Question
from cascadesim.simulator.gna.recommend import with_stride
from cascadesim.simulator.gna.report import Answer
from cascadesim.simulator.views.plot_style import write_figure

Shares = NDArray[np.float64]
MOST_SLICES = 6
MOST_GRID_LINES = 4000  # tiles of a slice; more would blacken it
_INCHES = {1: (12, 6.5), 2: (16, 4.9), 3: (12, 10)}  # of the picture, by dimensions of the layout
_QUERY, _WINDOW = "#d62728", "#111111"


def draw(answer: Answer, target: Path) -> int:
    """Write the picture; the suffix chooses the format. Return how many panels it has."""
    return write_figure(lambda: _figure(answer), target, {})


def _figure(answer: Answer) -> Figure:
    dimensions = len(answer.question.pattern.layout)
    figure = Figure(figsize=_INCHES[dimensions], layout="constrained")
    figure.suptitle(f"{str(answer.question.pattern).capitalize()}; {answer.question.tiles}", fontsize=11)
    tiles, shares, bounds = _parts(figure, dimensions)
    _query_tile(tiles, answer.question)
    _useful_share(shares, answer)
    _bounds_by_stride(bounds, answer.question)
    return figure


def _parts(figure: Figure, dimensions: int) -> tuple[SubFigure, SubFigure, SubFigure]:
    """Three parts in a row where the layout is a plane, otherwise the first one above the two others."""
    if dimensions == 2:
        parts = figure.subfigures(1, 3, width_ratios=(1, 1, 1.25), squeeze=False)
        return parts[0, 0], parts[0, 1], parts[0, 2]
    rows = figure.subfigures(2, 1, height_ratios=(0.45 if dimensions == 1 else 1.4, 1), squeeze=False)
    lower = rows[1, 0].subfigures(1, 2, width_ratios=(1, 1.25), squeeze=False)
    return rows[0, 0], lower[0, 0], lower[0, 1]


def _pairs(question: Question) -> list[NDArray[np.int64]]:
    """Attended pairs of each (query tile, key tile) of the first dilation group, along each dimension."""
    found = []
    for axis, query_tile, key_tile in question.sides:
        members = axis.groups[0][0]
        start, end = axis.spans(members)
        edges = np.arange(0, members + key_tile, key_tile)
        inside = np.clip(end[:, None], edges[:-1], edges[1:]) - np.clip(start[:, None], edges[:-1], edges[1:])
        pairs = np.add.reduceat(inside, np.arange(0, members, query_tile), axis=0)
        found.append(pairs[:, edges[:-1] < members])
    return found


def _outer(parts: Sequence[NDArray[np.int64]]) -> Shares:
    return reduce(np.multiply.outer, [part.astype(np.float64) for part in parts])


def _query_tile(figure: SubFigure, question: Question) -> None:
    """Key tiles of the query tile in the middle of the grid: slices along the first dimension where there are three."""
    place = tuple(-(-axis.groups[0][0] // size) // 2 for axis, size, _ in question.sides)
    parts = [pairs[along] for pairs, along in zip(_pairs(question), place, strict=True)]
    shares = _outer(parts) / (question.tiles.queries * question.tiles.keys)
    rank = len(place)
    slices = _slices(shares) if rank == 3 else [0]
    shares = shares.reshape((1,) * (3 - rank) + shares.shape)
    rows = 2 if len(slices) > 3 else 1
    panels = list(figure.subplots(rows, -(-len(slices) // rows), squeeze=False).flat)
    for panel in panels[len(slices) :]:
        panel.remove()
    for panel, index in zip(panels, slices, strict=False):
        image = _key_map(panel, shares[index], question)
        _outline(panel, question, place, index)
        if rank == 3:
            size = question.tiles.key[0]
            last = min((index + 1) * size, question.pattern.axes[0].groups[0][0]) - 1
            panel.set_title(f"{index * size}–{last} of dimension 1", fontsize=9)
    count = int((shares > 0).sum())
    figure.suptitle(
        f"One query tile (red) visits {count:,} key tiles\nto attend the keys in the dashed box", fontsize=10
    )
    figure.colorbar(image, ax=panels[: len(slices)], label="useful share", shrink=0.8)


def _slices(shares: Shares) -> list[int]:
    """Evenly spaced slices that have a visited tile."""
    visited = np.flatnonzero(shares.sum(axis=(1, 2)))
    chosen = np.linspace(0, len(visited) - 1, min(MOST_SLICES, len(visited))).round().astype(int)
    return [int(index) for index in visited[chosen]]


def _key_map(panel: Axes, shares: Shares, question: Question) -> QuadMesh:
    """Tiles in places of the group: x is the last dimension, y the one before."""
    *_, height, width = (1, *(axis.groups[0][0] for axis in question.pattern.axes))
    *_, tile_height, tile_width = (1, *question.tiles.key)
    x = np.minimum(np.arange(shares.shape[1] + 1) * tile_width, width)
    y = np.minimum(np.arange(shares.shape[0] + 1) * tile_height, height)
    shown = np.ma.masked_equal(shares, 0)
    image = panel.pcolormesh(x, y, shown, vmin=0, vmax=1, cmap="viridis_r", edgecolors="#bbbbbb",
                             linewidth=0.4 if shares.size <= MOST_GRID_LINES else 0)
    panel.set_xlim(0, width)
    panel.set_ylim(height, 0)
    panel.set_xlabel(f"dimension {len(question.pattern.axes)}", fontsize=8)
    if len(question.pattern.axes) > 1:
        panel.set_ylabel(f"dimension {len(question.pattern.axes) - 1}", fontsize=8)
        panel.set_aspect("equal", adjustable="box")
    else:
        panel.set_yticks([])
    panel.tick_params(labelsize=7)
    return image


def _outline(panel: Axes, question: Question, place: tuple[int, ...], index: int) -> None:
    """The query tile and the union of its windows, where they meet this slice."""
    boxes = []  # of each dimension: the query tile and its keys, as half-open ranges of places
    for (axis, size, _), along in zip(question.sides, place, strict=True):
        members = axis.groups[0][0]
        start, end = axis.spans(members)
        first, last = along * size, min((along + 1) * size, members) - 1
        boxes.append(((first, last + 1), (int(start[first]), int(end[last]))))
    *outer, height, width = [((0, 1), (0, 1))] * (2 - len(boxes)) + boxes
    size = question.tiles.key[0]
    for which, (color, style) in enumerate(((_QUERY, "-"), (_WINDOW, "--"))):
        if outer and not (outer[0][which][0] < (index + 1) * size and outer[0][which][1] > index * size):
            continue
        (x0, x1), (y0, y1) = width[which], height[which]
        outline = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=color, linestyle=style, linewidth=1.6)
        panel.add_patch(outline)


def _useful_share(figure: SubFigure, answer: Answer) -> None:
    """Useful share of the work of every query tile, the middle slice of three dimensions."""
    question, pairs = answer.question, _pairs(answer.question)
    visited = _outer([(each > 0).sum(axis=1) for each in pairs])
    shares = _outer([each.sum(axis=1) for each in pairs])
    shares = shares / (visited * (question.tiles.queries * question.tiles.keys))
    where = ""
    if shares.ndim == 3:
        where = f", slice {shares.shape[0] // 2 + 1} of {shares.shape[0]} along dimension 1"
        shares = shares[shares.shape[0] // 2]
    panel = figure.subplots()
    image = panel.imshow(np.atleast_2d(shares), vmin=0, vmax=1, cmap="viridis_r", aspect="auto",
                         interpolation="nearest")
    panel.locator_params(integer=True)  # tiles are whole
    overall = answer.modes["multidim_static"].efficiency
    panel.set_title(f"Useful share per query tile{where}\n{overall:.0%} overall", fontsize=10)
    panel.set_xlabel(f"query tile along dimension {len(question.pattern.layout)}", fontsize=9)
    if len(question.pattern.layout) > 1:
        panel.set_ylabel(f"query tile along dimension {len(question.pattern.layout) - 1}", fontsize=9)
    else:
        panel.set_yticks([])
    figure.colorbar(image, ax=panel, label="useful share")


def _bounds_by_stride(figure: SubFigure, question: Question) -> None:
    """The bound against the stride of each dimension, the others as asked."""
    panel = figure.subplots()
    for number, axis in enumerate(question.pattern.axes):
        powers = [1 << exponent for exponent in range(axis.window.bit_length())]
        strides = range(1, axis.window + 1) if axis.window <= 512 else sorted({*powers, axis.window})
        asked = question.pattern.stride
        bounds = [with_stride(question, (*asked[:number], stride, *asked[number + 1 :])).bound("multidim_static")
                  for stride in strides]
        width = 2.5 * (len(asked) - number) / len(asked) + 0.5  # equal dimensions stay visible under each other
        line, = panel.plot(strides, [bound.worst for bound in bounds], drawstyle="steps-post", linewidth=width,
                           label=f"dimension {number + 1}, worst bound")
        panel.plot(strides, [bound.mean for bound in bounds], drawstyle="steps-post", linestyle=":", linewidth=width,
                   color=line.get_color(), label=f"dimension {number + 1}, mean bound")
    panel.axhline(question.flop_bound, color="#555555", linewidth=1, linestyle="--", label="FLOP bound")
    panel.set_ylim(0)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:.0f}")
    panel.set_xlabel(f"stride in one dimension (others {times(question.pattern.stride)})", fontsize=9)
    panel.set_ylabel("speedup over dense", fontsize=9)
    panel.set_title("Bound against the stride", fontsize=10)
    panel.legend(fontsize=7, loc="best", ncols=2)
    panel.grid(alpha=0.3)
