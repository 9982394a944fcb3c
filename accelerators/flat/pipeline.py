"""Programs for the cycle-level engine: QK, softmax and AV of successive stretches of query rows, overlapped.

A granule is a query tile, a block of them, or an equal part of one. While the 1D array does the softmax of a granule,
the 2D array does QK of the next and AV of the one before. Says what waits for what; the engine says when.
FLAT (ASPLOS'23), section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from cascadesim.accelerators.flat.dataflow import AV_LOOPS, QK_LOOPS, LoopOrder
from cascadesim.accelerators.flat.granules import Granules
from cascadesim.accelerators.flat.nests import Case
from cascadesim.accelerators.flat.roles import Roles
from cascadesim.accelerators.flat.search import Chosen
from cascadesim.accelerators.flat.unfused import Stretch
from cascadesim.accelerators.fusemax.mapping import Counts
from cascadesim.accelerators.program import After, Program, Queue, Repeat, Task, TileRun

_STAGING_SLOTS = 2  # one granule's operands at work, the next one's arriving: the double buffer of `capacity`
_MOST_DIFFERENT = 1024  # granules of an instance that the engine steps through one by one
_MOST_SLOTS = 256  # more than the deepest pipeline uses
_LEAST_SLOTS = 4  # of a block whose scores stay on chip: QK, softmax and AV each hold one, one changes hands
_LEAST_GRANULES = 64  # of a phase: rows do not wait for all others, so few large tiles are cut
_LEAST_CYCLES = 64  # of a part: below, whole cycles round too much
_STORES_LATER = 2  # epochs that finished results rest, so that loads of the next ones do not queue behind them
_LONGEST_WAIT = 250  # parts between a result and its use, while it leaves the array


def fused_program(chosen: Chosen, roles: Roles) -> Program:
    """`assumed:` rows of a block leave and enter one by one, so a block kept on chip works in parts (as FLAT does)."""
    case, dataflow = chosen.case, chosen.dataflow
    kept = bool(dataflow.on_chip & {"QK", "A"})
    streams_rows = "weight" in (dataflow.qk_stationarity, dataflow.av_stationarity)
    granules = Granules(case, chosen.tiles if streams_rows else min(chosen.tiles, _tiles_per_granule(case)))
    cycles = _fused_cycles(chosen, roles, granules)
    left_words = max(0.0, case.spec.buffer_words - float(chosen.costs.footprint_words[0]))
    blocks = 1 + int(left_words / 2 // chosen.score_words)
    kept_granules = blocks * -(-chosen.tiles // granules.tiles)
    parts = max(-(-_LEAST_SLOTS // kept_granules) if kept else 1, _parts(case, granules, cycles))
    queues, wait = [_staging(case, cycles["load"], parts, left_words / 2)], _wait(case, cycles, parts)
    if kept:
        queues.append(Queue("scores", min(_MOST_SLOTS, kept_granules * parts)))
        wait = min(wait, queues[-1].capacity - 2)  # QK runs ahead of AV by so many parts
    return _program(case, _fused_tasks(_skew(case), wait, kept), cycles, parts, queues)


def _fused_cycles(chosen: Chosen, roles: Roles, granules: Granules) -> dict[str, Counts]:
    """Task -> cycles per granule of one instance."""
    case, dataflow, costs = chosen.case, chosen.dataflow, chosen.costs
    dram = _fused_dram(chosen, granules)
    port_words = sum(float((part.buffer_read + part.buffer_write)[0]) for part in (costs.qk, costs.softmax, costs.av))
    ports = granules.spread(port_words / case.spec.port_words_per_cycle, granules.scores)
    return {
        "QK": granules.contraction(QK_LOOPS[dataflow.qk_stationarity]),
        "softmax": granules.softmax(roles.softmax),
        "AV": granules.contraction(AV_LOOPS[dataflow.av_stationarity]),
        "epilogue": granules.epilogue(roles.epilogue),
        "buffer rows": ports,
        **dram,
    }


def _fused_dram(chosen: Chosen, granules: Granules) -> dict[str, Counts]:
    """The words of each tensor when and where they are needed."""
    spec, costs = chosen.case.spec, chosen.costs
    moved = chosen.blocks.dram_words(chosen.choice, costs)
    whole = not costs.spilled[0]
    once = {name: granules.first if name in chosen.dataflow.on_chip and whole else granules.keys for name in ("K", "V")}
    words = {
        "load": granules.words(moved["Q"][0], granules.rows) + granules.words(moved["K"][0], once["K"])
        + granules.words(moved["QK"][0], granules.scores),
        "scores out": granules.words(moved["QK"][1] + moved["Q"][1] + moved["K"][1], granules.scores),
        "scores in": granules.words(float(costs.softmax.dram_read[0]), granules.scores),
        "weights out": granules.words(float(costs.softmax.dram_write[0]), granules.scores),
        "weights in": granules.words(moved["A"][0], granules.scores) + granules.words(moved["V"][0], once["V"]),
        "store": granules.words(moved["AV"][0] + moved["AV"][1], granules.rows),
    }  # fmt: skip
    cycles_per_word = spec.word_bytes / spec.dram_bytes_per_cycle
    return {name: granules.whole_cycles(amount * cycles_per_word) for name, amount in words.items()}


def _fused_tasks(skew: int, wait: int, kept: bool) -> tuple[Task, ...]:
    """`wait`: epochs until a result that takes `skew` cycles to leave the 2D array is used."""
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


def phase_program(case: Case, stretch: Stretch) -> Program:
    """One phase of the unfused baseline: operands arrive, one array works, results leave."""
    granules, spec = Granules(case, _tiles_per_granule(case)), case.spec
    cycles_per_word = spec.word_bytes / spec.dram_bytes_per_cycle
    einsums = [einsum for einsum, _ in stretch.cycles]
    if stretch.unit == "array_1d":
        work = (granules.softmax if "m" in einsums[0].ranks else granules.epilogue)(einsums)
    else:
        depth = "e" if "e" in einsums[0].ranks else "f"
        work = granules.contraction(LoopOrder(depth, "m", "p"))
    cycles = {
        "compute": work,
        "buffer rows": granules.spread(stretch.port_cycles(spec), granules.scores),
        "load": granules.spread(stretch.dram_read_words * cycles_per_word, granules.scores),
        "store": granules.spread(stretch.dram_write_words * cycles_per_word, granules.scores),
    }
    skew = _skew(case) if stretch.unit == "array_2d" else 0
    parts = _parts(case, granules, cycles)
    wait = _wait(case, cycles, parts) if skew else 1
    tasks = (
        Task("load", "dram", takes=("staging",)),
        Task("compute", stretch.unit, (After("load"),), gives_back=("staging",)),
        Task("buffer rows", "global_buffer", (After("load"),)),
        Task("store", "dram", (After("compute", skew), After("buffer rows")), stage=wait + _STORES_LATER),
    )
    return _program(case, tasks, cycles, parts, [_staging(case, cycles["load"], parts, spec.buffer_words / 2)])


def _skew(case: Case) -> int:
    """An operand enters at a corner of the array and moves one element per cycle: until the far corner has worked."""
    return case.rows_used + case.columns_used - 2


def _tiles_per_granule(case: Case) -> int:
    """One, but for long masked sequences, where all granules differ: then few enough to step through each."""
    return 1 if case.full else -(-case.query_tiles // _MOST_DIFFERENT)


def _staging(case: Case, loads: Counts, parts: int, left_words: float) -> Queue:
    """How far loads run ahead: a double buffer, and what fits into the rest of the buffer."""
    words = int(loads.max()) / parts * case.spec.dram_bytes_per_cycle / case.spec.word_bytes
    more = int(left_words // words) if words else 0
    return Queue("staging", min(_MOST_SLOTS, _STAGING_SLOTS + more))


def _parts(case: Case, granules: Granules, cycles: Mapping[str, Counts]) -> int:
    """Into how many equal parts a granule is cut, so that the phase does not consist of a few large steps."""
    wanted = -(-_LEAST_GRANULES // (case.shape.instances * granules.count))
    longest = max(int(work.max()) for work in cycles.values())
    return max(1, min(wanted, longest // _LEAST_CYCLES))


def _wait(case: Case, cycles: Mapping[str, Counts], parts: int) -> int:
    """Parts that the busiest unit works on while a result leaves the array, so that no unit waits for it in turn."""
    longest = max(int(work.max()) for work in cycles.values())
    return min(_LONGEST_WAIT, -(-_skew(case) * parts // longest))


@dataclass(frozen=True, slots=True)
class _Row:
    """A granule that is like its neighbours."""

    cycles: tuple[int, ...]
    times: int


def _program(
    case: Case, tasks: Sequence[Task], cycles: Mapping[str, Counts], parts: int, queues: Sequence[Queue]
) -> Program:
    present = [task for task in tasks if cycles[task.name].any()]
    rows = list(_rows(np.stack([-(-cycles[task.name] // parts) for task in present], axis=1)))
    classes = tuple(dict.fromkeys(row.cycles for row in rows))
    number = {row: index for index, row in enumerate(classes)}
    body = tuple(TileRun(number[row.cycles], row.times * parts) for row in rows)
    stream = Repeat(case.shape.instances, body)
    return Program(_linked(present), classes, (stream,), tuple(queues), drain_cycles=0)


def _rows(table: Counts) -> Iterator[_Row]:
    for row, same in groupby(map(tuple, table.tolist())):
        yield _Row(row, sum(1 for _ in same))


def _linked(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Tasks without the dependences on tasks that no granule has."""
    names = {task.name for task in tasks}
    return tuple(
        Task(
            task.name, task.unit, tuple(edge for edge in task.after if edge.task in names),
            task.stage, task.group, task.takes, task.gives_back,
        )
        for task in tasks
    )  # fmt: skip
