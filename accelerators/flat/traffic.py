"""Words that QK, AV and the softmax move, tensor by tensor: tables over stationarity, location and block size.

Nests of loops: DRAM loops over instances and blocks of query rows, the buffer over tiles of a block, the array spreads
two ranks; `access_counts` counts. Each entry of a table is a row of eight counts (`words_of`); choosing and adding up
is `fused`. FuseMax artifact, mappings of FLAT and of the unfused softmax (spec 6.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.access_counts import Accesses, Level, Loop, Nest, Operand, count_accesses, loop_over
from cascadesim.accelerators.binding import AttentionBinding
from cascadesim.accelerators.flat.geometry import FlatCase, PointTable
from cascadesim.accelerators.flat.spec import AV_LOOPS, QK_LOOPS, STATIONARITIES, TENSORS, LoopOrder
from cascadesim.einsum_cascades.notation.ir import Einsum

Floats = NDArray[np.float64]
Row = tuple[float, ...]
QK_TENSORS, AV_TENSORS = TENSORS[:3], TENSORS[3:]
# Columns of a row of words: DRAM in and out, what spilling would read and write, buffer and registers in and out.
DRAM_READ, DRAM_WRITE, SPILL_READ, SPILL_WRITE = range(4)
_COLUMNS = 8


@dataclass(frozen=True)
class NestSize:
    """The iteration space projected to loops is counted: `r` is a rank in full, `r1` its tiles, `r0` one tile."""

    case: FlatCase
    table: PointTable
    spread: Mapping[str, int]  # rank on the array -> how many of it

    def __call__(self, names: frozenset[str]) -> int:
        if names not in self._known:
            queries = 3 if names & {"p", "p0"} else 2 if "p1" in names else int("p2" in names)
            keys = 2 if "m" in names or {"m0", "m1"} <= names else 3 if "m0" in names else int("m1" in names)
            instances = self.case.shape.instances if "b" in names else 1
            points = instances * self.table[queries][keys]
            self._known[names] = points * self._depth("e", names) * self._depth("f", names)
        return self._known[names]

    @cached_property
    def _known(self) -> dict[frozenset[str], int]:
        return {}

    def _depth(self, rank: str, names: frozenset[str]) -> int:
        extent, spread = self.case.extent(rank), self.spread.get(rank, 1)
        if rank in names or {f"{rank}0", f"{rank}1"} <= names:
            return extent
        if f"{rank}1" in names:
            return -(-extent // spread)
        return spread if f"{rank}0" in names else 1


def contraction(
    case: FlatCase, order: LoopOrder, sizes: Sequence[int], kept: Iterable[str], off_chip: Iterable[str]
) -> Nest:
    """Nest QK or AV for blocks of `sizes` query tiles; `kept` is in the buffer, `off_chip` in DRAM.

    Several `sizes` at once make every count an array; they must be `alike`, because a count asks whether the loop
    over the rows of a block is longer than 1 (the other loops over queries count the same either way).
    """
    whole = {rank: case.extent(rank) for rank in "mef"} | {"p": case.rows(sizes[0])}
    spread = {order.rows: min(case.rows_used, whole[order.rows])}
    spread[order.columns] = min(case.columns_used, whole[order.columns])
    tiles = [loop_over(f"{rank}1", -(-whole[rank] // size)) for rank, size in spread.items()]
    loops = (*tiles, loop_over(order.temporal, whole[order.temporal]))
    blocks = (loop_over("p2", -(-case.query_tiles // sizes[0])),)
    table = block_table(case, sizes, spread.get("m", case.columns_used))
    return nest_of(case, blocks, loops, spread, kept, off_chip, table)


def row_by_row(case: FlatCase, einsum: Einsum, kept: Iterable[str], off_chip: Iterable[str]) -> Nest:
    """Nest an Einsum on the 1D array: one query row after another, its keys (or output elements) over the lanes."""
    rank, most = "m" if "m" in einsum.ranks else "f", case.spec.vector_array.lanes
    lanes = min(most, case.extent(rank))
    none, _, positions = case.vectors(min(most, case.shape.keys)).combinations
    rows, vectors, keys, of_one = (case.shape.group * count for count in positions)  # those of all heads of the group
    each = (rows, vectors, keys, of_one)
    loops = (loop_over(f"{rank}1", -(-case.extent(rank) // lanes)),)
    rows_loop = (loop_over("p", case.queries),)
    return nest_of(case, rows_loop, loops, {rank: lanes}, kept, off_chip, (none, each, each, each))


def nest_of(
    case: FlatCase, outer: tuple[Loop, ...], inner: tuple[Loop, ...], spread: Mapping[str, int],
    kept: Iterable[str], off_chip: Iterable[str], table: PointTable,
) -> Nest:  # fmt: skip
    """Nest loops around the buffer and inside it, ranks spread over the array; the registers keep every operand."""
    levels = (
        Level("dram", (loop_over("b", case.shape.instances), *outer), frozenset(off_chip)),
        Level("global_buffer", inner, frozenset(kept)),
        Level("registers", ()),
    )
    spatial = tuple(loop_over(f"{rank}0", size) for rank, size in spread.items())
    return Nest(levels, spatial, None if case.exact else NestSize(case, table, spread))


def alike(case: FlatCase, sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Split `sizes` into runs that one nest counts: a single row apart, each alone where nests are rectangular."""
    if case.exact:
        return [(size,) for size in sizes]
    return [tuple(run) for _, run in groupby(sizes, key=lambda size: case.rows(size) == 1)]


class PerSize(np.ndarray[tuple[int, ...], np.dtype[np.float64]]):  # numpy 2.5 makes NDArray an alias, no base class
    """A count for several block sizes. True where any is not zero, as `count_accesses` asks of a number."""

    def __bool__(self) -> bool:
        return bool(np.count_nonzero(np.asarray(self)))


def block_table(case: FlatCase, sizes: Sequence[int], key_tile: int) -> PointTable:
    """Look up the table of one block size, or stack the tables of several, entry by entry."""
    tables = [case.counted(key_tile).blocks(size).table for size in sizes]
    if len(tables) == 1:
        return tables[0]
    return cast(PointTable, np.moveaxis(np.array(tables, dtype=np.float64), 0, -1).view(PerSize))


@dataclass(frozen=True, slots=True)
class Moved:
    """Accesses of one tensor in one Einsum, level by level."""

    dram: Accesses
    buffer: Accesses
    registers: Accesses


def moved(case: FlatCase, einsum: Einsum, nest: Nest) -> dict[str, Moved]:
    """Count the accesses of every tensor of the Einsum under `nest`."""
    operands = [
        Operand(access.tensor, frozenset(access.ranks) | {"b"}, is_output=access == einsum.output)
        for access in (*einsum.inputs, einsum.output)
    ]
    return count(case, operands, nest)


def count(case: FlatCase, operands: Sequence[Operand], nest: Nest) -> dict[str, Moved]:
    """Count the accesses of each operand under `nest`; the artifact counts the registers of one element only."""
    counts = count_accesses(operands, nest, "one" if case.exact else "all", wrap64=case.exact)
    return {
        operand.name: Moved(*(counts.get((level.name, operand.name), Accesses()) for level in nest.levels))
        for operand in operands
    }


def elided(accesses: Accesses) -> Accesses:
    """Drop reads that equal the updates: the artifact's workaround for first writes it cannot elide."""
    return Accesses(0, accesses.fills, accesses.updates) if accesses.reads == accesses.updates else accesses


@lru_cache(maxsize=64)
def contraction_table(case: FlatCase, binding: AttentionBinding, einsum: Einsum, sizes: tuple[int, ...]) -> Floats:
    """Count words moved, (block sizes, stationarities, tensors, locations off and on chip, columns) float64."""
    scores = einsum is binding.scores
    orders, tensors = (QK_LOOPS, QK_TENSORS) if scores else (AV_LOOPS, AV_TENSORS)
    runs = alike(case, sizes)
    if len(runs) > 1:
        return np.concatenate([contraction_table(case, binding, einsum, run) for run in runs])
    table = np.zeros((len(sizes), len(STATIONARITIES), len(tensors), 2, _COLUMNS))
    for stationarity, name in enumerate(STATIONARITIES):
        for tensor, locations in enumerate(_both_locations(case, binding, einsum, tensors, orders[name], sizes)):
            for location, words in enumerate(locations):
                for column, amount in enumerate(words):
                    table[:, stationarity, tensor, location, column] = amount
    if not case.exact:  # no scores leave the chip or come back but those that the mask lets through
        attended_share = case.shape.pairs / case.counted(1).combinations[2][2]
        table[:, :, tensors.index("QK" if scores else "A"), :, : SPILL_WRITE + 1] *= attended_share
    return table


def _both_locations(
    case: FlatCase, binding: AttentionBinding, einsum: Einsum, tensors: Sequence[str], order: LoopOrder,
    sizes: Sequence[int],
) -> Iterator[tuple[Row, Row]]:  # fmt: skip
    """Count each tensor off and on chip in one nest (counts are independent)."""
    buffered = {tensor for tensor in tensors if accumulates(case, binding, einsum, order, tensor)}
    kept = {f"{name} on chip" for name in tensors} | {f"{name} off chip" for name in buffered}
    in_dram = {f"{name} off chip" for name in tensors}
    in_dram |= {f"{name} on chip" for name in tensors if name not in ("QK", "A")}
    accesses = {access.tensor: access for access in (*einsum.inputs, einsum.output)}
    operands = [
        Operand(f"{tensor} {place} chip", frozenset(access.ranks) | {"b"}, is_output=access == einsum.output)
        for tensor in tensors
        for access in (accesses[binding.tensor(tensor)],)
        for place in ("off", "on")
    ]
    counts = count(case, operands, contraction(case, order, sizes, kept, in_dram))
    for tensor in tensors:
        passes_by = not case.exact and tensor not in buffered
        off_chip = words_of(counts[f"{tensor} off chip"], case.exact, passes_by)
        yield off_chip, words_of(counts[f"{tensor} on chip"], case.exact)


def accumulates(case: FlatCase, binding: AttentionBinding, einsum: Einsum, order: LoopOrder, tensor: str) -> bool:
    """Tell whether partial sums of an output wait in the buffer, so that only finished ones leave the chip.

    The artifact sends them off chip and back; FLAT's own figures do not (its edge rows show it).
    """
    if case.exact or binding.tensor(tensor) != einsum.name:
        return False
    summed = einsum.reduced_ranks[0]
    side = case.rows_used if summed == order.rows else case.columns_used
    return summed != order.temporal and case.extent(summed) > side


@lru_cache(maxsize=64)
def contraction_cycles(case: FlatCase, binding: AttentionBinding, einsum: Einsum, sizes: tuple[int, ...]) -> Floats:
    """Count cycles, (block sizes, stationarities) float64."""
    orders = QK_LOOPS if einsum is binding.scores else AV_LOOPS
    table = np.zeros((len(sizes), len(STATIONARITIES)))
    for index, name in enumerate(STATIONARITIES):
        counted = 0
        for run in alike(case, sizes):
            nest = contraction(case, orders[name], run, (), ())
            table[counted : counted + len(run), index] = nest.points(nest.temporal)
            counted += len(run)
    return table


def words_of(accesses: Moved, exact: bool, passes_by: bool = False) -> Row:
    """Make a row of the tables; the artifact drops some reads (`elided`).

    `passes_by`: the tensor is not kept, but its tiles cross the buffer on their way (FLAT's capacity rule has room
    for them), written and read once; the artifact charges nothing for it.
    """
    dram, buffer, registers = accesses.dram, accesses.buffer, accesses.registers
    if passes_by:
        buffer = Accesses(reads=dram.reads + dram.updates, updates=dram.reads + dram.updates)
    outside, spilling = (elided(dram), elided(buffer)) if exact else (dram, buffer)
    return (
        outside.reads, outside.updates, spilling.reads, spilling.updates,
        buffer.reads, buffer.writes, registers.reads, registers.writes,
    )  # fmt: skip


def spilled(words: Floats, share: Floats) -> Floats:
    """Send `share` of the buffer's accesses to DRAM instead; the tensor's own DRAM accesses shrink by it.

    `words`: (dataflows, columns) float64; the result has two columns fewer, those of spilling.
    """
    inside = 1 - share
    read = words[:, DRAM_READ] * inside + words[:, SPILL_READ] * share
    written = words[:, DRAM_WRITE] * inside + words[:, SPILL_WRITE] * share
    return np.stack([read, written, *words[:, SPILL_WRITE + 1 :].T], axis=1)


@lru_cache(maxsize=256)
def vector_cycles(case: FlatCase, einsum: Einsum) -> int:
    """Count the cycles of one Einsum on the 1D array: what an operation costs, once per vector."""
    nest = row_by_row(case, einsum, (), ())
    return nest.points(nest.temporal) * case.point_cycles(einsum)


@lru_cache(maxsize=64)
def softmax_table(case: FlatCase, binding: AttentionBinding) -> Floats:
    """Count words, (staying and spilling, scores off and on chip, weights off and on chip, columns) float64.

    Those of the epilogue are with them: rows of the output pass the 1D array on their way to DRAM (counted with AV),
    their statistics are kept.
    """
    table = np.zeros((2, 2, 2, _COLUMNS))
    for qk in (False, True):
        for a in (False, True):
            for einsum, before in zip(binding.softmax, (None, *binding.softmax), strict=False):
                for spills, words in _softmax_words(case, binding, einsum, before, (qk, a)):
                    table[int(spills), int(qk), int(a)] += words
    for einsum in binding.epilogue:
        statistics = {access.tensor for access in einsum.inputs if "f" not in access.ranks}
        accesses = moved(case, einsum, row_by_row(case, einsum, statistics, ()))
        table[0] += np.sum([words_of(moves, case.exact) for moves in accesses.values()], axis=0)
    return table


def _softmax_words(
    case: FlatCase, binding: AttentionBinding, einsum: Einsum, before: Einsum | None, kept: tuple[bool, bool]
) -> Iterator[tuple[bool, Row]]:
    """Tell whether each tensor spills, and count its words. `kept`: whether scores and weights stay on chip.

    The buffer holds all operands but a row that the Einsum just `before` hands over as it makes it. Scores enter
    through DRAM once (in the first Einsum that reads them), weights leave once, where they are not kept.
    """
    ranks = {access.tensor: access.ranks for access in (*einsum.inputs, einsum.output)}
    scores, weights, home = binding.tensor("QK"), binding.tensor("A"), set(ranks)
    if before is not None and "m" in before.output.ranks and "m" in einsum.reduced_ranks:
        home.discard(before.name)
    if not kept[1]:
        home.discard(weights)
    in_dram = {scores} if not kept[0] and einsum is binding.softmax[0] else set()
    if not kept[1] and einsum.name == weights:
        in_dram.add(weights)
    for name, accesses in moved(case, einsum, row_by_row(case, einsum, home, in_dram)).items():
        passes_by = name == weights and not kept[1] and not case.exact
        yield "m" in ranks[name] and name in home, words_of(accesses, case.exact, passes_by)
