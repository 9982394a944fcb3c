"""The first tiles of a program, cycle by cycle: a row for each unit, a bar for each task, a shade for each tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from cascadesim.simulator.views.nest_plot import INK, LINE, SOFT, text_width
from cascadesim.simulator.views.schedule_charts import Chart, name_of, row_of

_SHADES = (0.0, 0.3, 0.52, 0.7)  # of white in the colour of a unit, tile by tile
_LABEL = 6.5  # points
_TITLE = 7.5
_BAR = 0.74  # height, in rows
_THIN = 0.03  # inches of a bar that has no edge, so that something of it is left
_WHITE_BELOW = 0.4  # of white in a bar on which text is white
_MARK = "#7b4173"


def paint(axes: Axes, chart: Chart, rows: Sequence[str], colors: Mapping[str, str], inches: float) -> None:
    """Draw one chart; `rows`: of all charts of a group, top to bottom; `inches`: how wide its axes are."""
    scale = inches / (chart.end - chart.start)
    alike: dict[tuple[str, str], list[Rectangle]] = {}
    for piece in chart.slices:
        left, right = max(piece.start, chart.start), min(piece.finish, chart.end)
        if left < right:
            row, white = rows.index(row_of(piece)), _SHADES[piece.tile % len(_SHADES)]
            red, green, blue = (part + (1 - part) * white for part in to_rgb(colors[piece.unit]))
            face = to_hex((red, green, blue))
            edge = "#ffffff" if (right - left) * scale > _THIN else face
            bar = Rectangle((left, row - _BAR / 2), right - left, _BAR)
            alike.setdefault((face, edge), []).append(bar)
            _name(axes, name_of(piece), (left + right) / 2, row, (right - left) * scale,
                  "#fefefe" if white < _WHITE_BELOW else "#111111")
    for (face, edge), bars in alike.items():  # as one path each: files of half the size
        shape = Path.make_compound_path(*(bar.get_transform().transform_path(bar.get_path()) for bar in bars))
        axes.add_patch(PathPatch(shape, facecolor=face, edgecolor=edge, linewidth=0.4, clip_on=False))
    if chart.steady is not None:
        axes.axvspan(*chart.steady, color=_MARK, alpha=0.12, linewidth=0, zorder=0)
        for end in chart.steady:
            axes.axvline(end, color=_MARK, linewidth=1, zorder=0)
    axes.set(xlim=(chart.start, chart.end), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), rows)
    axes.set_title(chart.title, loc="left", fontsize=_TITLE, color=INK, pad=4)
    axes.set_title(chart.remark, loc="right", fontsize=_TITLE, color=_MARK, pad=4)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.tick_params(axis="both", labelsize=7, color=SOFT, labelcolor=SOFT, length=2, width=0.6)
    axes.tick_params(axis="y", labelcolor=INK)
    for spine in axes.spines.values():
        spine.set(color=LINE, linewidth=0.6)


def _name(axes: Axes, name: str, middle: float, row: int, inches: float, color: str) -> None:
    """The name of what runs in a bar, where there is room for it: across, or else upwards."""
    across = text_width(name, False, _LABEL) + 0.02 < inches
    if across or (inches > _LABEL / 72 and not name.isdecimal()):
        axes.text(middle, row, name, ha="center", va="center", fontsize=_LABEL, rotation=0 if across else 90,
                  color=color)
