"""A mapping as a picture: the loop nest of each group of Einsums, beside it the schedule of its first tiles.

What is kept where stands at the loop at which it stays; below, what it all takes. Knows plans that run by a mapping.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from matplotlib.figure import Figure

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.mapper.described import described
from cascadesim.accelerators.mapping.plan import group_of
from cascadesim.accelerators.protocol import Plan
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.execution import Execution, execute, schedule_of
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import parts
from cascadesim.simulator.views import nest_plot, schedule_charts, schedule_plot
from cascadesim.simulator.views.nest_plot import INK, SOFT, NestPicture
from cascadesim.simulator.views.output import bytes_of, seconds
from cascadesim.simulator.views.plot_style import DARK, STYLE, write_figure
from cascadesim.simulator.views.schedule_charts import Chart

_WIDTH, _NEST_WIDTH, _CHART_LEFT = 10.0, 4.3, 5.35  # inches: all, the left half, where charts begin beside their rows
_MARGIN, _GAP, _TITLE, _SUMMARY = 0.15, 0.25, 0.42, 0.3
_ROW, _TALLEST_ROW, _AXIS = 0.3, 0.5, 0.55  # inches of a unit's row; of title and axis of a chart
_LOOK = {**STYLE, "text.color": INK, "axes.grid": False, "font.sans-serif": ["DejaVu Sans"]}
_FILLS = ("#d7e7f5", "#fbe3d4", "#f3ebc6", "#e7e3f1")  # of boxes, unit by unit
_COLORS = ("#0072b2", "#c75000", "#8a7a00", "#6a51a3")  # of bars, unit by unit
_OF_MEMORIES = ("#00795a", "#616161")  # of bars: the DRAM channel, other memories
_REMARK = ("×2: double-buffered, ×n: n tiles at once. Right: time in cycles; a bar is a task of a tile; shades and "
           "numbers: tiles one after another.")


@dataclass(frozen=True)
class MappedRun:
    """A plan that runs by a mapping on a machine, at the cycle level."""

    machine: str
    plan: Plan
    clock_hz: float

    @property
    def title(self) -> str:
        return f"{self.plan.mapping[0]} on {self.machine}"

    @property
    def sizes(self) -> str:
        return ", ".join(f"{rank.upper()} = {extent:,}" for rank, extent in self.plan.operation.extents)

    @cached_property
    def groups(self) -> tuple[BoundGroup, ...]:
        """Of each phase of the plan; none where the machine made the plan without a mapping."""
        found = tuple(group for phase in self.plan.phases if (group := group_of(phase)) is not None)
        return found if len(found) == len(self.plan.phases) else ()

    @cached_property
    def execution(self) -> Execution:
        return execute(self.plan, "cycle")

    @cached_property
    def charts(self) -> tuple[tuple[Chart, ...], ...]:
        """Of each group."""
        return tuple(schedule_charts.charts(schedule_of(self.plan, phase)) for phase in self.plan.phases)

    @cached_property
    def units(self) -> tuple[str, ...]:
        """Units that compute: the 2D array, then the 1D array."""
        return tuple(sorted({run.unit for group in self.groups for run in group.runs}, reverse=True))

    @property
    def summary(self) -> str:
        """One line: cycles, what bounds them, DRAM traffic."""
        cycles, busy = self.execution.cycles, Counter[str]()
        for phase in self.execution.phases:
            busy.update(phase.busy_cycles)
        (unit, most), traffic = busy.most_common(1)[0], self.plan.traffic
        return (f"{cycles:,} cycles ({seconds(cycles / self.clock_hz)}), closed form "
                f"{self.execution.analytical_cycles:,}; bound by {unit}, busy {most / cycles:.0%}; DRAM: "
                f"{bytes_of(traffic.read_bytes)} read, {bytes_of(traffic.write_bytes)} written")


def mapped_runs(requests: Sequence[Request]) -> tuple[MappedRun, ...]:
    """Every mapping that the operations of the requests run by, each once: those of attention, where any is mapped.

    Raises CascadeSimError where there is none: the machines have plans of their own.
    """
    found: dict[tuple[object, ...], MappedRun] = {}
    for request in requests:
        name, clock_hz = request.accelerator.name, request.accelerator.clock_hz
        for run in (run for runs in parts(request) for run in runs):
            mapped = MappedRun(name, run.execution.plan, clock_hz)
            if mapped.groups:
                found.setdefault((name, mapped.plan.mapping, mapped.plan.operation.extents), mapped)
    if not found:
        names = " and ".join(dict.fromkeys(request.accelerator.name for request in requests))
        raise CascadeSimError(f"no mapping to draw: {names} planned this by a model of its own; on an array --mapping "
                              f"search or --mapping NAME gives one")
    attention = tuple(run for run in found.values() if run.plan.operation.kind == "attention")
    return attention or tuple(found.values())


def draw(runs: Sequence[MappedRun], target: Path) -> int:
    """Draw all runs, one below the other, in the format that the suffix of `target` names; return how many panels."""
    return write_figure(lambda: figure_of(runs), target, _LOOK, DARK)


def figure_of(runs: Sequence[MappedRun]) -> Figure:
    """The whole picture, as high as it needs to be."""
    nests = [_nests(run) for run in runs]
    height = sum(_TITLE + _SUMMARY + sum(_height(*pair) + _GAP for pair in zip(own, run.charts, strict=True))
                 for run, own in zip(runs, nests, strict=True)) + 0.3  # fmt: skip
    figure = Figure(figsize=(_WIDTH, height), facecolor="#ffffff")
    top = 0.08
    for run, own in zip(runs, nests, strict=True):
        _text(figure, top, run.title, 9.5, "bold")
        _text(figure, top + 0.18, run.sizes, 7.5, "normal", SOFT)
        top += _TITLE
        for found, charts in zip(own, run.charts, strict=True):
            _group(figure, top, found, charts, run.units)
            top += _height(found, charts) + _GAP
        _text(figure, top, run.summary, 8.5, "bold")
        top += _SUMMARY
    _text(figure, top - 0.08, _REMARK, 7, "normal", SOFT)
    return figure


def _nests(run: MappedRun) -> list[NestPicture]:
    fills = dict(zip(run.units, _FILLS, strict=False))
    fused = described("", run.groups).groups
    return [nest_plot.nest(group, text, _NEST_WIDTH, fills) for group, text in zip(run.groups, fused, strict=True)]


def _height(found: NestPicture, charts: Sequence[Chart]) -> float:
    rows = len(schedule_charts.rows_of(charts, lambda _: 0))
    return max(found.bottom, len(charts) * (rows * _ROW + _AXIS))


def _group(figure: Figure, top: float, found: NestPicture, charts: Sequence[Chart], units: Sequence[str]) -> None:
    """One nest with its charts beside it, which grow with it up to a limit."""
    height = figure.get_figheight()
    box = (_MARGIN / _WIDTH, 1 - (top + found.bottom) / height, _NEST_WIDTH / _WIDTH, found.bottom / height)
    nest_plot.paint(figure.add_axes(box), found)
    rows = schedule_charts.rows_of(charts, lambda unit: units.index(unit) if unit in units else -1)
    own = max(_ROW, min(_TALLEST_ROW, (_height(found, charts) / len(charts) - _AXIS) / len(rows)))
    names = {piece.unit for chart in charts for piece in chart.slices}
    colors = {unit: _color(unit, units) for unit in names}
    width = _WIDTH - _CHART_LEFT - 2 * _MARGIN
    for chart in charts:
        tall = own * len(rows)
        axes = figure.add_axes((_CHART_LEFT / _WIDTH, 1 - (top + 0.22 + tall) / height, width / _WIDTH, tall / height))
        schedule_plot.paint(axes, chart, rows, colors, width)
        top += tall + _AXIS


def _color(unit: str, units: Sequence[str]) -> str:
    return _COLORS[units.index(unit) % len(_COLORS)] if unit in units else _OF_MEMORIES[unit != "dram"]


def _text(figure: Figure, top: float, text: str, size: float, weight: str, color: str = INK) -> None:
    figure.text(_MARGIN / _WIDTH, 1 - top / figure.get_figheight(), text, fontsize=size, fontweight=weight,
                color=color, va="top")
