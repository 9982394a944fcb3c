"""The answer to a space as one figure: the front with the named presets, the designs as parallel lines, and which
field moves which objective.

Knows frames (`results`) only. Files without a date, so that equal runs give equal files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cascadesim.accelerators.catalogue import Floats
from cascadesim.simulator.explore.models import metric_of
from cascadesim.simulator.explore.results import Frame, evenly_picked
from cascadesim.simulator.views.plot_style import note_empty, write_figure

_LABELS_PER_DECADE = 3
_LONGEST_LINE = 15  # characters under a parallel axis
_WIDE = 8.0  # ratio of values from which an axis is logarithmic
_COLORS = "viridis"
_REFERENCE = "#d55e00"  # Okabe and Ito, vermillion
_BARS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#f0e442")  # Okabe and Ito
_MOST_LINES = 400  # of parallel coordinates, evenly picked


def draw(frame: Frame, target: Path) -> int:
    """Draws the figure in the format that the suffix of `target` names, .png or .svg; returns its number of panels."""
    return write_figure(lambda: _figure(frame), target)


def _figure(frame: Frame) -> Figure:
    first, *others = frame.objectives
    pairs = [(other, first) for other in others[:3]] or [(first, first)]  # across, up
    figure = Figure(figsize=(max(9.0, 4.6 * len(pairs)), 11.5), layout="constrained")
    figure.suptitle(f"{frame.source}: {len(frame):,} of {frame.counts.designs:,} designs on the front", fontsize=11,
                    fontweight="bold")
    top, middle, bottom = np.ravel(figure.subfigures(3, 1, squeeze=False, height_ratios=[4, 3.6, 3]))
    for axes, (across, up) in zip(np.ravel(top.subplots(1, len(pairs), squeeze=False)), pairs, strict=True):
        _front(axes, frame, across, up)
    _parallel(middle.subplots(1, 1), frame)
    _sensitivity(bottom.subplots(1, 1), frame)
    return figure


def _front(axes: Axes, frame: Frame, across: str, up: str) -> None:
    others = [name for name in frame.objectives if name not in (across, up)]
    x, y = _floats(frame, across), _floats(frame, up)
    color = _floats(frame, others[0]) if others else None
    dots = axes.scatter(x, y, s=26, c="#0072b2" if color is None else color, cmap=None if color is None else _COLORS,
                        norm=None if color is None else _norm(color), edgecolors="white", linewidths=0.4, zorder=3)
    if color is not None and axes.figure is not None:
        axes.figure.colorbar(dots, ax=axes, label=metric_of(others[0]).meaning)
    elif len(x) > 1 and across != up:
        order = np.argsort(x)
        axes.step(x[order], y[order], where="post", color="#0072b2", linewidth=0.9, alpha=0.6)
    shown = [each.quantities for each in frame.references
             if all(each.quantities.get(axis, np.nan) > 0 for axis in (across, up))]  # not nan
    _references(axes, frame, across, up)
    for name, values, scale, label in ((across, x, axes.set_xscale, axes.set_xlabel),
                                       (up, y, axes.set_yscale, axes.set_ylabel)):
        if _is_wide([*values, *(quantities[name] for quantities in shown)]):
            scale("log")
        else:
            axes.locator_params(axis="x" if name == across else "y", nbins=5)
        metric = metric_of(name)
        label(f"{metric.meaning}{', larger is better' if metric.larger_is_better else ''}")
    axes.margins(0.12)
    axes.grid(visible=True, which="major", axis="both")


def _references(axes: Axes, frame: Frame, across: str, up: str) -> None:
    """Presets of the same accelerator, named beside their mark; those that lie together share a label."""
    together: dict[tuple[int, int], list[str]] = {}
    places: dict[tuple[int, int], tuple[float, float]] = {}
    for reference in frame.references:
        x, y = reference.quantities.get(across, np.nan), reference.quantities.get(up, np.nan)
        if x > 0 and y > 0:  # not nan
            axes.scatter([x], [y], marker="D", s=30, color=_REFERENCE, zorder=4)
            near = (round(_LABELS_PER_DECADE * np.log10(x)), round(_LABELS_PER_DECADE * np.log10(y)))
            together.setdefault(near, []).append(reference.name)
            places[near] = (x, max(y, places.get(near, (x, 0.0))[1]))
    for near, names in together.items():
        axes.annotate("\n".join(names), places[near], xytext=(6, 0), textcoords="offset points", fontsize=7,
                      color=_REFERENCE, va="bottom" if len(names) > 1 else "center")


def _parallel(axes: Axes, frame: Frame) -> None:
    """A line per design over its fields and objectives, each axis from its least to its largest value."""
    names = [name for name in (*frame.fields, *frame.objectives) if len(set(frame[name].tolist())) > 1]
    if len(names) < 2 or len(frame) < 2:
        note_empty(axes, "a single design: nothing to compare")
        return
    rows = evenly_picked(len(frame), _MOST_LINES)
    columns = {name: _along_axis(frame[name]) for name in names}
    lines = np.stack([places[rows] for places, _, _ in columns.values()], axis=1)
    first = _floats(frame, frame.objectives[0])
    colors = ScalarMappable(_norm(first), _COLORS)
    for line, value in zip(lines, first[rows], strict=True):
        axes.plot(range(len(names)), line, color=colors.to_rgba(value), linewidth=0.9, alpha=0.75)
    for position, (_, low, high) in enumerate(columns.values()):
        axes.axvline(position, color="#444444", linewidth=0.8)
        for height, text, anchor in ((-0.03, low, "top"), (1.03, high, "bottom")):
            axes.text(position, height, text, ha="center", va=anchor, fontsize=7,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    axes.set_xticks(range(len(names)), [_short(name) for name in names])
    axes.tick_params(axis="x", length=0, pad=12)
    axes.set(ylim=(-0.1, 1.12), yticks=[], xlim=(-0.3, len(names) - 0.7))
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)
    if axes.figure is not None:
        axes.figure.colorbar(colors, ax=axes, label=metric_of(frame.objectives[0]).meaning)


def _sensitivity(axes: Axes, frame: Frame) -> None:
    """Bars: the median over the front; whiskers: from the 10th to the 90th percentile."""
    fields = list(dict.fromkeys(field for field, _ in frame.elasticities))
    if not fields:
        note_empty(axes, "no field of numbers varies")
        return
    height = 0.8 / len(frame.objectives)
    for number, objective in enumerate(frame.objectives):
        for row, field in enumerate(fields):
            low, middle, high = frame.elasticities.get((field, objective), (np.nan,) * 3)
            place = row + (number - (len(frame.objectives) - 1) / 2) * height
            axes.barh(place, middle, height * 0.9, color=_BARS[number % len(_BARS)],
                      label=metric_of(objective).meaning if row == 0 else None)
            axes.plot([low, high], [place, place], color="#222222", linewidth=0.9)
    axes.axvline(0, color="#222222", linewidth=0.8)
    axes.set_yticks(range(len(fields)), fields)
    axes.invert_yaxis()
    axes.set_xlabel("elasticity around the front: change of the objective in % for 1 % more of the field")
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))


def _floats(frame: Frame, name: str) -> Floats:
    return frame[name].astype(np.float64)


def _is_wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= _WIDE


def _norm(values: Floats) -> Normalize:
    return (LogNorm if _is_wide(values.tolist()) else Normalize)(values.min(), values.max())


def _along_axis(column: NDArray[np.generic]) -> tuple[Floats, str, str]:
    """Places from 0 to 1, logarithmic where values are wide, texts in order of appearance; and both ends as text."""
    if column.dtype.kind not in "iuf":
        order = {value: place for place, value in enumerate(dict.fromkeys(column.tolist()))}
        first, *_, last = order
        return np.array([order[value] / (len(order) - 1) for value in column.tolist()]), str(first), str(last)
    values = column.astype(np.float64)
    values = np.log(values) if _is_wide(values.tolist()) else values
    places = np.asarray((values - values.min()) / (values.max() - values.min()))
    return places, f"{column.min():.4g}", f"{column.max():.4g}"


def _short(name: str) -> str:
    """Breaks a dotted name into lines of at most _LONGEST_LINE characters."""
    group, _, field = name.rpartition(".")
    lines = [""]
    for word in field.split("_"):
        fits = len(lines[-1]) + len(word) < _LONGEST_LINE
        lines[-1:] = [f"{lines[-1]}{'_' if lines[-1] else ''}{word}"] if fits else [f"{lines[-1]}_", word]
    return "\n".join([f"{group}."] * bool(group) + lines)
