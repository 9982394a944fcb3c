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

from cascadesim.accelerators.access_counts import (
    Accesses,
    Level,
    Loop,
    Nest,
    Operand,
    Registers,
    count_accesses,
    point_operations,
)
from cascadesim.accelerators.flat.dataflow import LoopOrder
from cascadesim.accelerators.flat.geometry import Blocks, Table, Tiles, query_tiles, row_tiles
from cascadesim.accelerators.flat.spec import FlatArray
from cascadesim.accelerators.fusemax.mapping import AttentionShape
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Einsum
from cascadesim.einsum_cascades.sparsity.masks import FULL

RANK_NAMES = {rank: frozenset(rank) for rank in "pmef"}
_INSTANCE = frozenset("bh")


@dataclass(frozen=True)
class Case:
    """One attention operation on one array. `exact`: rectangular, counted with the quirks of the artifact.

    `tile`, `columns`: rows and columns of the array in use, where it is not all of them.
    """

    shape: AttentionShape
    spec: FlatArray
    exact: bool = False
    tile: int | None = None
    columns: int | None = None

    @property
    def registers(self) -> Registers:
        return "one" if self.exact else "all"

    @property
    def rows_used(self) -> int:
        return self.tile or self.spec.pe_array.rows

    @property
    def columns_used(self) -> int:
        return self.columns or self.spec.pe_array.columns

    @property
    def elements_used(self) -> int:
        return self.rows_used * self.columns_used

    @cached_property
    def query_tiles(self) -> int:
        return self.tiles(self.columns_used).count

    @cached_property
    def queries(self) -> int:
        """Query rows of one instance: those of all heads of the group."""
        return self.shape.group * self.shape.queries

    def rows(self, tiles: int) -> int:
        """Query rows of a block of `tiles` query tiles."""
        return self.queries if tiles >= self.query_tiles else tiles * self.rows_used

    @cached_property
    def full(self) -> bool:
        return self.shape.mask == FULL

    @cached_property
    def _tiles(self) -> dict[int, Tiles]:
        return {}

    @cached_property
    def _blocks(self) -> dict[tuple[int, int], Blocks]:
        return {}

    def tiles(self, key_tile: int) -> Tiles:
        """Query tiles, with keys counted in tiles of `key_tile`."""
        if key_tile not in self._tiles:
            self._tiles[key_tile] = query_tiles(self.shape, self.rows_used, key_tile)
        return self._tiles[key_tile]

    @cached_property
    def attended_share(self) -> float:
        """Of the scores of the tiles, those that the mask lets through: no others leave the chip or come back."""
        return self.shape.pairs / int(self.tiles(1).points.sum())

    def vectors(self, lanes: int) -> Tiles:
        """Query positions with their keys in vectors."""
        if lanes not in self._vectors:
            self._vectors[lanes] = row_tiles(self.shape, lanes)
        return self._vectors[lanes]

    @cached_property
    def _vectors(self) -> dict[int, Tiles]:
        return {}

    def blocks(self, tiles: int, key_tile: int) -> Blocks:
        """Blocks of `tiles` query tiles."""
        if (tiles, key_tile) not in self._blocks:
            self._blocks[tiles, key_tile] = self.tiles(key_tile).blocks(tiles)
        return self._blocks[tiles, key_tile]

    def point_cycles(self, einsum: Einsum) -> int:
        """Cycles of one lane at one point of an Einsum on the 1D array."""
        operations, costs = self.spec.vector_array.operations, self.spec.vector_array.operations.cycles
        counts = point_operations(einsum)
        if operations.exp_subtracts and counts["exp"]:
            counts["add"] -= counts["exp"]  # the argument's subtraction is part of it
        missing = sorted(name for name, count in counts.items() if count > 0 and name not in costs)
        if missing:
            raise CascadeSimError(f"{einsum.name}: the 1D array cannot {', '.join(missing)}; it can {', '.join(costs)}")
        return sum(costs[name] * count for name, count in counts.items() if count > 0)

    def extent(self, rank: str) -> int:
        shape = self.shape
        return {"p": self.queries, "m": shape.keys, "e": shape.query_depth, "f": shape.value_depth}[rank]


@dataclass(frozen=True)
class Extents:
    """Sizes of the iteration space projected to loops: `r` in full, `r1` its tiles, `r0` one tile of it."""

    case: Case
    table: Table
    spread: Mapping[str, int]  # rank on the array -> how many of it

    def __call__(self, names: frozenset[str]) -> int:
        found = self._known.get(names)
        if found is None:
            found = self._known[names] = self._points(names)
        return found

    @cached_property
    def _known(self) -> dict[frozenset[str], int]:
        return {}

    def _points(self, names: frozenset[str]) -> int:
        instances = self.case.shape.instances if "b" in names else 1
        joint = self.table[self._queries(names)][self._keys(names)]
        return instances * joint * self._depth("e", names) * self._depth("f", names)

    def _queries(self, names: frozenset[str]) -> int:
        if names & {"p", "p0"}:
            return 3
        return 2 if "p1" in names else int("p2" in names)

    def _keys(self, names: frozenset[str]) -> int:
        if "m" in names or {"m0", "m1"} <= names:
            return 2
        return 3 if "m0" in names else int("m1" in names)

    def _depth(self, rank: str, names: frozenset[str]) -> int:
        extent, spread = self.case.extent(rank), self.spread.get(rank, 1)
        if rank in names or {f"{rank}0", f"{rank}1"} <= names:
            return extent
        if f"{rank}1" in names:
            return -(-extent // spread)
        return spread if f"{rank}0" in names else 1


def contraction(
    case: Case, order: LoopOrder, sizes: Sequence[int], kept: Iterable[str], off_chip: Iterable[str]
) -> Nest:
    """QK or AV for blocks of so many query tiles; `kept` in the buffer, `off_chip` in DRAM.

    Several `sizes` at once make every count an array; they must be `alike`, because a count asks whether the loop
    over the rows of a block is longer than 1 (the other loops over queries count the same either way).
    """
    block_rows = case.rows(sizes[0])
    whole = {rank: case.extent(rank) for rank in "mef"} | {"p": block_rows}
    spread = {order.rows: min(case.rows_used, whole[order.rows])}
    spread[order.columns] = min(case.columns_used, whole[order.columns])
    table = block_table(case, sizes, spread.get("m", case.columns_used))
    inner = [tile_loop(rank, whole[rank], spread[rank]) for rank in (order.rows, order.columns)]
    loops = (*inner, Loop(order.temporal, RANK_NAMES[order.temporal], whole[order.temporal]))
    space = tuple(Loop(f"{rank}0", RANK_NAMES[rank], size) for rank, size in spread.items())
    outer = (instances(case), Loop("p2", RANK_NAMES["p"], -(-case.query_tiles // sizes[0])))
    return _nest(case, outer, loops, space, kept, off_chip, Extents(case, table, spread))


def alike(case: Case, sizes: Sequence[int]) -> list[Sequence[int]]:
    """`sizes` in runs that one nest counts: blocks of a single row apart, each alone where nests are rectangular."""
    if case.exact:
        return [[size] for size in sizes]
    return [list(run) for _, run in groupby(sizes, key=lambda size: case.rows(size) == 1)]


class PerSize(np.ndarray[tuple[int, ...], np.dtype[np.float64]]):  # numpy 2.5 makes NDArray an alias, no base class
    """A count for several block sizes. True where any is not zero, as `count_accesses` asks of a number."""

    def __bool__(self) -> bool:
        return bool(np.count_nonzero(np.asarray(self)))


def block_table(case: Case, sizes: Sequence[int], key_tile: int) -> Table:
    """The table of one block size, or the tables of several, entry by entry."""
    tables = [case.blocks(size, key_tile).table for size in sizes]
    if len(tables) == 1:
        return tables[0]
    stacked = np.moveaxis(np.array(tables, dtype=np.float64), 0, -1).view(PerSize)
    return cast(Table, stacked)


def row_table(case: Case, lanes: int) -> Table:
    """Combinations of queries one by one, those of all heads of the group, with keys in vectors."""
    none, _, (rows, vectors, keys, of_one) = case.vectors(lanes).combinations
    group = case.shape.group
    each = group * rows, group * vectors, group * keys, group * of_one
    return none, each, each, each


def row_by_row(case: Case, einsum: Einsum, kept: Iterable[str], off_chip: Iterable[str]) -> Nest:
    """An Einsum on the 1D array: one query row after another, its keys (or output elements) over the lanes."""
    rank = "m" if "m" in einsum.ranks else "f"
    lanes = min(case.spec.vector_array.lanes, case.extent(rank))
    table = row_table(case, min(case.spec.vector_array.lanes, case.shape.keys))
    outer = (instances(case), Loop("p", RANK_NAMES["p"], case.queries))
    space = (Loop(f"{rank}0", RANK_NAMES[rank], lanes),)
    loops = (tile_loop(rank, case.extent(rank), lanes),)
    return _nest(case, outer, loops, space, kept, off_chip, Extents(case, table, {rank: lanes}))


def _nest(
    case: Case, outer: tuple[Loop, ...], inner: tuple[Loop, ...], space: tuple[Loop, ...],
    kept: Iterable[str], off_chip: Iterable[str], extents: Extents,
) -> Nest:  # fmt: skip
    levels = (
        Level("dram", outer, frozenset(off_chip)),
        Level("global_buffer", inner, frozenset(kept)),
        Level("registers", (), EVERYTHING),
    )
    return Nest(levels, space, None if case.exact else extents)


class _Everything(frozenset[str]):
    """The registers keep every operand."""

    def __contains__(self, item: object) -> bool:
        return True


EVERYTHING = _Everything()


def instances(case: Case) -> Loop:
    return Loop("b", _INSTANCE, case.shape.instances)


def tile_loop(rank: str, extent: int, spread: int) -> Loop:
    return Loop(f"{rank}1", RANK_NAMES[rank], -(-extent // spread))


@dataclass(frozen=True, slots=True)
class Moved:
    """Accesses of one tensor in one Einsum, level by level."""

    dram: Accesses
    buffer: Accesses
    registers: Accesses


def moved(case: Case, einsum: Einsum, nest: Nest) -> dict[str, Moved]:
    """Tensor -> accesses under `nest`, of every tensor of the Einsum."""
    operands = [
        Operand(access.tensor, frozenset(access.ranks) | {"b"}, is_output=access == einsum.output)
        for access in (*einsum.inputs, einsum.output)
    ]
    return count(case, operands, nest)


def count(case: Case, operands: Sequence[Operand], nest: Nest) -> dict[str, Moved]:
    """Operand -> accesses under `nest`."""
    counts = count_accesses(operands, nest, case.registers, wrap64=case.exact)
    none = Accesses()
    return {
        operand.name: Moved(*(counts.get((level.name, operand.name), none) for level in nest.levels))
        for operand in operands
    }


def elided(accesses: Accesses) -> Accesses:
    """Reads that equal the updates are dropped: the artifact's workaround for first writes it cannot elide."""
    return Accesses(0, accesses.fills, accesses.updates) if accesses.reads == accesses.updates else accesses
