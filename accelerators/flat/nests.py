"""Loop nests of the Einsums of FLAT, and the words each tensor moves at each level under them.

DRAM loops over instances and blocks of query rows; the buffer loops over tiles of a block; the array spreads two
ranks. `accelerators.access_counts` counts. FuseMax artifact, mappings of FLAT and of the unfused softmax (spec 6.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import cast

import numpy as np

from cascadesim.accelerators.access_counts import Accesses, Level, Loop, Nest, Operand, count_accesses, loop_over
from cascadesim.accelerators.flat.geometry import FlatCase, PointTable
from cascadesim.accelerators.flat.spec import LoopOrder
from cascadesim.einsum_cascades.notation.ir import Einsum


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


def alike(case: FlatCase, sizes: Sequence[int]) -> list[Sequence[int]]:
    """Split `sizes` into runs that one nest counts: a single row apart, each alone where nests are rectangular."""
    if case.exact:
        return [[size] for size in sizes]
    return [list(run) for _, run in groupby(sizes, key=lambda size: case.rows(size) == 1)]


class PerSize(np.ndarray[tuple[int, ...], np.dtype[np.float64]]):  # numpy 2.5 makes NDArray an alias, no base class
    """A count for several block sizes. True where any is not zero, as `count_accesses` asks of a number."""

    def __bool__(self) -> bool:
        return bool(np.count_nonzero(np.asarray(self)))


def block_table(case: FlatCase, sizes: Sequence[int], key_tile: int) -> PointTable:
    """Look up the table of one block size, or stack the tables of several, entry by entry."""
    tables = [case.tiles(key_tile).blocks(size).table for size in sizes]
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
