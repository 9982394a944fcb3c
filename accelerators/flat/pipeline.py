"""Programs for the cycle-level engine: QK, softmax and AV of successive stretches of query rows, overlapped.

A granule is a query tile, a block of them, or an equal part of one. While the 1D array does the softmax of a granule,
the 2D array does QK of the next and AV of the one before. Says what waits for what and how many whole cycles each
task takes; the engine says when. FLAT (ASPLOS'23), section 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import numpy as np

from cascadesim.accelerators.binding import AttentionBinding
from cascadesim.accelerators.flat.fused import Choices
from cascadesim.accelerators.flat.geometry import FlatCase, QueryTiles
from cascadesim.accelerators.flat.search import Chosen
from cascadesim.accelerators.flat.spec import AV_LOOPS, QK_LOOPS, LoopOrder
from cascadesim.accelerators.flat.traffic import Floats
from cascadesim.accelerators.flat.unfused import Stretch
from cascadesim.accelerators.program import After, Program, Queue, Repeat, Task, TileRun
from cascadesim.accelerators.spatial.attention_tiles import Counts
from cascadesim.einsum_cascades.notation.ir import Einsum

_STAGING_SLOTS = 2  # one granule's operands at work, the next one's arriving: the double buffer of `fused`
_MOST_DIFFERENT = 1024  # granules of an instance that the engine steps through one by one
_MOST_SLOTS = 256  # more than the deepest pipeline uses
_LEAST_SLOTS = 4  # of a block whose scores stay on chip: QK, softmax and AV each hold one, one changes hands
_LEAST_GRANULES = 64  # of a phase: rows do not wait for all others, so few large tiles are cut
_LEAST_CYCLES = 64  # of a part: below, whole cycles round too much
_STORES_LATER = 2  # epochs that finished results wait, so that loads of the next ones do not queue behind them
_LONGEST_WAIT = 250  # parts between a result and its use, while it leaves the array
_ROUNDING = 1e-9  # of a cycle: sums of shares carry rounding errors that must not cost a whole one


@dataclass(frozen=True)
class Granules:
    """The work of one instance is cut into granules of `tiles` query tiles; arrays are (granules,), cycles int64."""

    case: FlatCase
    tiles: int

    @cached_property
    def _geometry(self) -> QueryTiles:
        return self.case.tiles(self.case.columns_used)

    @property
    def count(self) -> int:
        return -(-self._geometry.count // self.tiles)

    def _sum(self, per_tile: Counts) -> Counts:
        total: Counts = np.add.reduceat(per_tile, np.arange(0, self._geometry.count, self.tiles))
        return total

    @cached_property
    def rows(self) -> Counts:
        return self._sum(self._geometry.rows)

    @cached_property
    def keys(self) -> Counts:
        """The keys that pass by, tile by tile."""
        return self._sum(self._geometry.keys_met)

    @cached_property
    def scores(self) -> Counts:
        return self._sum(self._geometry.rows * self._geometry.keys_met)

    def contraction(self, order: LoopOrder) -> Counts:
        """Count the cycles of QK or AV: the temporal loops of each tile."""
        case = self.case
        sides = {order.rows: case.rows_used, order.columns: case.columns_used}
        depth = next(rank for rank in (order.temporal, *sides) if rank in "ef")
        extent = case.extent(depth)
        times = extent if depth == order.temporal else -(-extent // min(sides[depth], extent))
        tiles = case.tiles(min(sides.get("m", case.columns_used), case.shape.keys))
        keys = tiles.keys_met if order.temporal == "m" else tiles.visits
        return self._sum((tiles.rows if order.temporal == "p" else 1) * keys * times)

    def on_1d(self, einsums: Iterable[Einsum]) -> Counts:
        """Count the cycles of the softmax (over vectors of keys) or of the epilogue (over elements of the output)."""
        case, einsums = self.case, tuple(einsums)
        cycles = sum(case.point_cycles(einsum) for einsum in einsums)
        if not all("m" in einsum.ranks for einsum in einsums):
            return self.rows * -(-case.shape.value_depth // case.spec.vector_array.lanes) * cycles
        shape, visits = case.shape, case.vectors(min(case.spec.vector_array.lanes, case.shape.keys)).visits
        if shape.queries < case.rows_used:  # packed heads share the vectors of keys alike
            done = np.cumsum(self._geometry.rows) * int(visits.sum()) // shape.queries
            return self._sum(np.diff(done, prepend=0)) * cycles
        of_one = np.add.reduceat(visits, np.arange(0, shape.queries, case.rows_used))
        return self._sum(np.repeat(of_one, shape.group)) * cycles

    def spread(self, total: float, weights: Counts) -> Floats:
        """Spread `total`, of all instances, by `weights` over the granules of one."""
        shares: Floats = weights / weights.sum() * (total / self.case.shape.instances)
        return shares


def _whole(cycles: Floats) -> Counts:
    """Round up to whole cycles."""
    rounded: Counts = np.ceil(cycles - _ROUNDING * np.maximum(cycles, 1)).astype(np.int64)
    return rounded


def fused_program(chosen: Chosen, binding: AttentionBinding) -> Program:
    """Overlap QK, softmax and AV of successive granules.

    `assumed:` rows of a block leave and enter one by one, so a block kept on chip works in parts (as FLAT does).
    """
    case, dataflow = chosen.case, chosen.dataflow
    kept = bool(dataflow.on_chip & {"QK", "A"})
    streams_rows = "weight" in (dataflow.qk_stationarity, dataflow.av_stationarity)
    granules = Granules(case, chosen.tiles if streams_rows else min(chosen.tiles, _tiles_per_granule(case)))
    cycles = _fused_cycles(chosen, binding, granules)
    left_words = max(0.0, case.spec.buffer_words - float(chosen.costs.footprint_words[0]))
    blocks = 1 + int(left_words / 2 // case.tiles(case.columns_used).blocks(chosen.tiles).largest_points)
    kept_granules = blocks * -(-chosen.tiles // granules.tiles)
    parts = max(-(-_LEAST_SLOTS // kept_granules) if kept else 1, _parts(granules, cycles))
    queues, wait = [_staging(case, cycles["load"], parts, left_words / 2)], _wait(case, cycles, parts)
    if kept:
        queues.append(Queue("scores", min(_MOST_SLOTS, kept_granules * parts)))
        wait = min(wait, queues[-1].capacity - 2)  # QK runs ahead of AV by so many parts
    return _program(case, _fused_tasks(_skew(case), wait, kept), cycles, parts, queues)


def _fused_cycles(chosen: Chosen, binding: AttentionBinding, granules: Granules) -> dict[str, Counts]:
    """Count the cycles of each task per granule of one instance; DRAM moves the words of a tensor when needed."""
    spec, dataflow, costs, spread = chosen.case.spec, chosen.dataflow, chosen.costs, granules.spread
    port_words = sum(float((part.buffer_read + part.buffer_write)[0]) for part in (costs.qk, costs.softmax, costs.av))
    moved = chosen.blocks.dram_words(Choices.of(dataflow), costs)
    whole = not costs.spilled[0]
    first = (np.arange(granules.count) == 0).astype(np.int64)
    once = {name: first if name in dataflow.on_chip and whole else granules.keys for name in ("K", "V")}
    words = {
        "load": spread(moved["Q"][0], granules.rows) + spread(moved["K"][0], once["K"])
        + spread(moved["QK"][0], granules.scores),
        "scores out": spread(moved["QK"][1] + moved["Q"][1] + moved["K"][1], granules.scores),
        "scores in": spread(float(costs.softmax.dram_read[0]), granules.scores),
        "weights out": spread(float(costs.softmax.dram_write[0]), granules.scores),
        "weights in": spread(moved["A"][0], granules.scores) + spread(moved["V"][0], once["V"]),
        "store": spread(moved["AV"][0] + moved["AV"][1], granules.rows),
    }  # fmt: skip
    cycles_per_word = spec.word_bytes / spec.dram_bytes_per_cycle
    return {
        "QK": granules.contraction(QK_LOOPS[dataflow.qk_stationarity]),
        "softmax": granules.on_1d(binding.softmax),
        "AV": granules.contraction(AV_LOOPS[dataflow.av_stationarity]),
        "epilogue": granules.on_1d(binding.epilogue),
        "buffer rows": _whole(spread(port_words / spec.port_words_per_cycle, granules.scores)),
        **{name: _whole(amount * cycles_per_word) for name, amount in words.items()},
    }


def _fused_tasks(skew: int, wait: int, kept: bool) -> tuple[Task, ...]:
    """List the tasks; a result that takes `skew` cycles to leave the 2D array is used `wait` epochs later."""
    scores = ("scores",) if kept else ()
    softmax, av, epilogue = wait, wait + 1, 2 * wait + 1
    return (
        Task("load", "dram", takes=("staging",)),
        Task("QK", "array_2d", (After("load"),), takes=scores, gives_back=("staging",)),
        Task("buffer rows", "global_buffer", (After("load"),), stage=softmax),
        Task("scores out", "dram", (After("QK"),), stage=softmax),
        Task("scores in", "dram", (After("scores out"),), stage=softmax),
        Task("softmax", "array_1d", (After("QK", skew), After("scores in")), stage=softmax),
        Task("weights out", "dram", (After("softmax"),), stage=av),
        Task("weights in", "dram", (After("weights out"),), stage=av),
        Task(
            "AV", "array_2d", (After("softmax"), After("weights in"), After("buffer rows")),
            stage=av, gives_back=scores,
        ),
        Task("epilogue", "array_1d", (After("AV", skew),), stage=epilogue),
        Task("store", "dram", (After("AV", skew), After("epilogue")), stage=epilogue + _STORES_LATER),
    )  # fmt: skip


def phase_program(case: FlatCase, stretch: Stretch) -> Program:
    """Run one phase of the unfused baseline: operands arrive, one array works, results leave."""
    granules, spec = Granules(case, _tiles_per_granule(case)), case.spec
    cycles_per_word = spec.word_bytes / spec.dram_bytes_per_cycle
    einsums = [einsum for einsum, _ in stretch.cycles]
    on_2d = stretch.unit == "array_2d"
    depth = "e" if "e" in einsums[0].ranks else "f"
    moving = {
        "buffer rows": stretch.port_cycles(spec),
        "load": stretch.dram_read_words * cycles_per_word,
        "store": stretch.dram_write_words * cycles_per_word,
    }
    cycles = {
        "compute": granules.contraction(LoopOrder(depth, "m", "p")) if on_2d else granules.on_1d(einsums),
        **{name: _whole(granules.spread(total, granules.scores)) for name, total in moving.items()},
    }
    parts = _parts(granules, cycles)
    skew, wait = (_skew(case), _wait(case, cycles, parts)) if on_2d else (0, 1)
    tasks = (
        Task("load", "dram", takes=("staging",)),
        Task("compute", stretch.unit, (After("load"),), gives_back=("staging",)),
        Task("buffer rows", "global_buffer", (After("load"),)),
        Task("store", "dram", (After("compute", skew), After("buffer rows")), stage=wait + _STORES_LATER),
    )
    return _program(case, tasks, cycles, parts, [_staging(case, cycles["load"], parts, spec.buffer_words / 2)])


def _skew(case: FlatCase) -> int:
    """An operand enters at a corner of the array and moves one element per cycle: until the far corner has worked."""
    return case.rows_used + case.columns_used - 2


def _tiles_per_granule(case: FlatCase) -> int:
    """A granule is one tile, but for long masked sequences, where all granules differ and each is stepped through."""
    return 1 if case.full else -(-case.query_tiles // _MOST_DIFFERENT)


def _staging(case: FlatCase, loads: Counts, parts: int, left_words: float) -> Queue:
    """Loads run ahead by a double buffer, and by what fits into the free part of the buffer."""
    words = int(loads.max()) / parts * case.spec.dram_bytes_per_cycle / case.spec.word_bytes
    more = int(left_words // words) if words else 0
    return Queue("staging", min(_MOST_SLOTS, _STAGING_SLOTS + more))


def _parts(granules: Granules, cycles: Mapping[str, Counts]) -> int:
    """Cut a granule into equal parts, so that the phase does not consist of a few large steps."""
    wanted = -(-_LEAST_GRANULES // (granules.case.shape.instances * granules.count))
    longest = max(int(work.max()) for work in cycles.values())
    return max(1, min(wanted, longest // _LEAST_CYCLES))


def _wait(case: FlatCase, cycles: Mapping[str, Counts], parts: int) -> int:
    """Count the parts that the busiest unit works on while a result leaves the array, so that no unit waits for it."""
    longest = max(int(work.max()) for work in cycles.values())
    return min(_LONGEST_WAIT, -(-_skew(case) * parts // longest))


def _program(
    case: FlatCase, tasks: Sequence[Task], cycles: Mapping[str, Counts], parts: int, queues: Sequence[Queue]
) -> Program:
    """Keep the tasks that some granule has, waiting for each other only; equal neighbours are one run of tiles."""
    present = [task for task in tasks if cycles[task.name].any()]
    names = {task.name for task in present}
    linked = (replace(task, after=tuple(edge for edge in task.after if edge.task in names)) for task in present)
    rows = map(tuple, np.stack([-(-cycles[task.name] // parts) for task in present], axis=1).tolist())
    runs = [(row, sum(1 for _ in same)) for row, same in groupby(rows)]
    classes = tuple(dict.fromkeys(row for row, _ in runs))
    number = {row: index for index, row in enumerate(classes)}
    body = tuple(TileRun(number[row], times * parts) for row, times in runs)
    return Program(tuple(linked), classes, (Repeat(case.shape.instances, body),), tuple(queues))
