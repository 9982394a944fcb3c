"""The first tiles of a program, cycle by cycle: a row for each unit, a bar for each task, a shade for each tile.

Where the steady state begins within what is drawn it is marked there; where it begins later it has a chart of its own.
Loads and stores share the DRAM channel and have a row each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from cascadesim.simulator.engine.engine import Schedule, Slice, record
from cascadesim.simulator.views.nest_plot import INK, LINE, SOFT, text_width

FARTHEST_TILE = 4096  # a steady state that begins later is only announced
_FIRST_TILES = 48  # recorded from the start, and from the first steady tile on
_WHOLE_TILES = 3  # of which the first chart shows the end
_BEFORE = 0.3  # of it: how long before the first result the chart begins, where loads take longer
_PART = 2  # times as long as the first tiles is what is shown of a steady period at most
_STRETCH = 3  # times as long, at most, to show the first steady period in the same chart
_SHADES = (0.0, 0.3, 0.52, 0.7)  # of white in the colour of a unit, tile by tile
_LABEL = 6.5  # points
_TITLE = 7.5
_BAR = 0.74  # height, in rows
_THIN = 0.03  # inches of a bar that has no edge, so that something of it is left
_WHITE_BELOW = 0.4  # of white in a bar on which text is white
_MARK = "#7b4173"
_FIRST = "first tiles"


@dataclass(frozen=True, slots=True)
class Chart:
    """A stretch of time from `start` to `end`, in cycles, and the part of it that is one steady period."""

    title: str
    slices: tuple[Slice, ...]
    start: int
    end: int
    steady: tuple[int, int] | None = None
    remark: str = ""


def charts(schedule: Schedule) -> tuple[Chart, ...]:
    """The first tiles, from shortly before the first result on; then, where it begins later, the steady state."""
    steady = schedule.steady
    begin = steady.first_tile if steady is not None and steady.first_tile <= FARTHEST_TILE else 0
    slices = record(schedule.program, begin + _FIRST_TILES, steady)
    end = max(row.finish for row in slices if row.tile < _WHOLE_TILES)
    work = min((row.start for row in slices if not direction_of(row)), default=0)
    start = int(work - (end - work) * _BEFORE)
    start = start if start > _BEFORE * (end - start) else 0
    if steady is None:
        return (Chart(_FIRST, slices, start, end, remark=f"no steady state: {schedule.tiles:,} in all"),)
    remark = (f"steady from tile {steady.first_tile:,}: {steady.cycles:,} cycles every "
              f"{f'{steady.tiles:,} tiles' if steady.tiles > 1 else 'tile'}")
    if begin != steady.first_tile:
        return (Chart(_FIRST, slices, start, end, remark=remark),)
    first = min(row.start for row in slices if row.tile >= begin)
    last = first + steady.cycles
    if start <= first and last - start <= _STRETCH * (end - start):
        return (Chart(_FIRST, slices, start, max(end, last), (first, last), remark),)
    shown = min(last, first + _PART * (end - start))
    what = "a steady period" if shown == last else "part of a period"
    return Chart(_FIRST, slices, start, end), Chart(what, slices, first, shown, (first, shown), remark)


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


def direction_of(piece: Slice) -> str:
    """`load` or `store` for a transfer, nothing for a task of another kind."""
    first = piece.task.partition(" ")[0]
    return first if first in ("load", "store") else ""


def row_of(piece: Slice) -> str:
    """The row of a task: its unit, and for transfers their direction."""
    direction = direction_of(piece)
    return f"{piece.unit} {direction}s" if direction else piece.unit


def name_of(piece: Slice) -> str:
    """What a bar says: the Einsum, the tensor, or where a task stands for all of a tile its number."""
    if direction_of(piece):
        return piece.task.partition(" ")[2]
    return f"{piece.tile}" if " " in piece.task else piece.task


def rows_of(found: Sequence[Chart], order: Callable[[str], int]) -> list[str]:
    """Rows of all charts: loads, units in the order of `order`, stores."""
    names = {row_of(piece): piece.unit for chart in found for piece in chart.slices}
    return sorted(names, key=lambda row: (row.endswith(" stores"), not row.endswith(" loads"), order(names[row])))
