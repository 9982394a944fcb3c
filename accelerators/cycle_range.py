"""Between which cycles the cycle level of a program lies, as its tasks say without being run.

From below the closed form, where it is a bound. From above, where a program repeats a short row of tiles, a schedule
that repeats itself (`period`); no run takes longer. Otherwise an estimate, by `streaming` what stretches of equal tiles
take at the pace of their busiest unit, with one tile on its way alone (in a static order one to fill and one to drain):
no theorem, and property tests say how often it holds. `queueing`: tiles under way at once, each behind all others.
`in_turn`: all units one after another; always true, and wide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter

from cascadesim.accelerators.period import rows_of
from cascadesim.accelerators.program import After, Program, Repeat, Stream, TileRun

_FOLLOWED_EPOCHS = 128  # of a row; assumed: of longer ones the first and the last tiles are few beside the others


@dataclass(frozen=True, slots=True)
class CycleRange:
    least_cycles: float
    most_cycles: float

    def __add__(self, other: CycleRange) -> CycleRange:
        return CycleRange(self.least_cycles + other.least_cycles, self.most_cycles + other.most_cycles)

    def times(self, count: float) -> CycleRange:
        return CycleRange(count * self.least_cycles, count * self.most_cycles)


NO_CYCLES = CycleRange(0, 0)


def streaming(program: Program, closed_form_cycles: float) -> CycleRange:
    """Of programs whose closed form is a bound of their cycle level."""

    def estimate() -> float:
        paced = sum(run.tiles * times * _pace(program, run) for run, times in _runs(program.stream))
        return paced + (1 if program.in_flight else 2) * passage_cycles(program)

    return enclosing(program, closed_form_cycles, estimate)


def enclosing(program: Program, closed_form_cycles: float, estimate: Callable[[], float]) -> CycleRange:
    """`estimate`: from above, for programs that repeat nothing short."""
    known = rows_of(program, _FOLLOWED_EPOCHS)
    most = estimate() if known is None else known[0].most_cycles(known[1]) + program.drain_cycles
    return CycleRange(closed_form_cycles, max(closed_form_cycles, min(most, in_turn(program).most_cycles)))


def in_turn(program: Program) -> CycleRange:
    """Of programs whose closed form is no bound: whatever the order, one unit works, or a lag passes, until the end."""
    busy, by_task = Counter[str](), program.busy_cycles()
    for task in program.tasks:
        busy[task.unit] += by_task[task.name]
    return CycleRange(max(busy.values(), default=0), busy.total() + _lag_cycles(program) + program.drain_cycles)


def queueing(program: Program) -> CycleRange:
    """Of programs that take tiles greedily and whose closed form is no bound."""
    known = in_turn(program)
    return CycleRange(known.least_cycles, min(known.most_cycles, queueing_cycles(program)))


def queueing_cycles(program: Program) -> float:
    """An estimate from above of programs that take tiles greedily, some at once.

    With k tiles under way, each asks for what the others have asked for before it: at worst k passages take the time of
    one, and of k - 1 tiles on the busiest unit. Asymptotic bounds of closed queueing networks (Lazowska and others,
    Quantitative System Performance, 1984, chapter 5). Tiles that wait for a task of another unit in the tile before do
    so alone.
    """
    unit = {task.name: task.unit for task in program.tasks}
    alone = {edge.task for task in program.tasks for edge in task.after
             if edge.tiles_back and unit[edge.task] != task.unit}  # fmt: skip
    busy = program.busy_cycles()
    return _queueing(program, program.stream) + sum(busy[name] for name in alone) + passage_cycles(program)


def _queueing(program: Program, stream: Stream) -> float:
    within = sum(item.times * _queueing(program, item.body) for item in stream if isinstance(item, Repeat))
    runs = [item for item in stream if isinstance(item, TileRun)]
    together = _together(program, runs)
    for run in runs:
        one = replace(program, tile_classes=(program.tile_classes[run.tile_class],), drain_cycles=0)
        pace = _pace(program, run)
        within += run.tiles * max(pace, (passage_cycles(one) + (together - 1) * pace) / together)
    return within


def _together(program: Program, runs: Sequence[TileRun]) -> int:
    """Tiles of a stretch that can be under way: one of each column, where a running value ties it to the next one."""
    most = program.in_flight or 1
    if any(edge.same_column for task in program.tasks for edge in task.after):
        most = min(most, len({run.first_column + number for run in runs for number in range(run.tiles)}))
    return max(most, 1)


def _lag_cycles(program: Program) -> int:
    """All that may pass while no unit works: each as often as both of its tasks are there."""
    there: Counter[str] = Counter()
    for run, times in _runs(program.stream):
        cycles = program.tile_classes[run.tile_class]
        there.update({task.name: run.tiles * times for task, own in zip(program.tasks, cycles, strict=True) if own})
    return sum(
        edge.lag_cycles * min(there[edge.task], there[task.name])
        for task in program.tasks for edge in task.after
    )  # fmt: skip


def passage_cycles(program: Program) -> int:
    """From the first task of a tile that is alone to the end of its last one, the longest of each task."""
    longest = {task.name: max(cycles) for task, cycles in zip(
        program.tasks, zip(*program.tile_classes, strict=True), strict=True)}  # fmt: skip
    before = {task.name: [edge for edge in task.after if not (edge.tiles_back or edge.same_column)]
              for task in program.tasks}  # fmt: skip
    order = TopologicalSorter({name: [edge.task for edge in edges] for name, edges in before.items()}).static_order()
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    for name in order:
        starts[name] = max((_ready(edge, starts, ends) for edge in before[name]), default=0)
        streamed = max((ends[edge.task] + edge.lag_cycles for edge in before[name] if edge.streaming), default=0)
        ends[name] = max(starts[name] + longest[name], streamed)
    return max(ends.values(), default=0) + program.drain_cycles


def _ready(edge: After, starts: Mapping[str, int], ends: Mapping[str, int]) -> int:
    return (starts if edge.streaming else ends)[edge.task] + edge.lag_cycles


def _pace(program: Program, run: TileRun) -> int:
    """Cycles of the busiest unit for one tile of the run."""
    busy = Counter[str]()
    for task, cycles in zip(program.tasks, program.tile_classes[run.tile_class], strict=True):
        busy[task.unit] += cycles
    return max(busy.values(), default=0)


def _runs(stream: Stream, times: int = 1) -> Iterator[tuple[TileRun, int]]:
    for item in stream:
        if isinstance(item, Repeat):
            yield from _runs(item.body, times * item.times)
        else:
            yield item, times
