"""The first tiles of a program, cycle by cycle, as data: what runs on which unit from when to when, tile by tile.

Where the steady state begins within what is shown it is marked there; where it begins later it has a chart of its own.
Loads and stores share the DRAM channel and have a row each. Figures and pages draw it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cascadesim.simulator.engine.engine import Schedule, Slice, record

FARTHEST_TILE = 4096  # a steady state that begins later is only announced
_FIRST_TILES = 48  # recorded from the start, and from the first steady tile on
_WHOLE_TILES = 3  # of which the first chart shows the end
_BEFORE = 0.3  # of it: how long before the first result the chart begins, where loads take longer
_PART = 2  # times as long as the first tiles is what is shown of a steady period at most
_STRETCH = 3  # times as long, at most, to show the first steady period in the same chart
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
        return piece.task.partition(" ")[2] or piece.task
    return f"{piece.tile}" if " " in piece.task else piece.task


def rows_of(found: Sequence[Chart], order: Callable[[str], int]) -> list[str]:
    """Rows of all charts: loads, units in the order of `order`, stores."""
    names = {row_of(piece): piece.unit for chart in found for piece in chart.slices}
    return sorted(names, key=lambda row: (row.endswith(" stores"), not row.endswith(" loads"), order(names[row])))
