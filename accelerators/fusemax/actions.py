"""What an attention operation does to memories and arrays: words at each level and operations, to be priced.

Two sets of rules that are never mixed. PHYSICAL counts what the hardware does. `artifact_rules` counts what the
published energies count: one register file of each array, first writes elided in 64 bits, DRAM reads elided where
they equal the writes, and the slips of the published loop nests. Knows no energy. FuseMax artifact, commit f543beb.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, prod
from types import MappingProxyType
from typing import cast

import numpy as np

from cascadesim.accelerators.access_counts import (
    Accesses,
    Level,
    LinearForm,
    Loop,
    Nest,
    Registers,
    Size,
    count_accesses,
)
from cascadesim.accelerators.energy import Actions
from cascadesim.accelerators.fusemax.spec import ARRAY_2D, DRAM, GLOBAL_BUFFER, QUERY_RANK, Placed, Placement, Published
from cascadesim.accelerators.protocol import Traffic
from cascadesim.accelerators.spatial.attention_tiles import AttentionShape, AttentionTiles, Counts
from cascadesim.accelerators.spatial.tile_order import Kind
from cascadesim.accelerators.spec import SpatialArray

LevelAccesses = Mapping[tuple[str, str], Accesses]  # (level, operand)


@dataclass(frozen=True)
class Rules:
    """How accesses become actions."""

    registers: Registers = "all"
    wrap64: bool = False
    elides_dram_reads: bool = False
    charges_exponentials: bool = True
    charges_registers_1d_from_2d: bool = True
    # (Einsum, operand, rank) that the nest of this Einsum declares the operand without
    lost_ranks: frozenset[tuple[str, str, str]] = frozenset()


PHYSICAL = Rules()

_PUBLISHED_LOSSES = frozenset(
    {
        ("SLNV", "SLNV", "m1"),  # artifact: the output of SLNV has ranks B, F, H, P
        ("SLD", "SLN", "m0"),  # artifact: SLN is declared without its inner rank in SLD
    }
)


def artifact_rules(published: Published) -> Rules:
    return Rules(
        registers="one",
        wrap64=True,
        elides_dram_reads=True,
        charges_exponentials=published.charges_exponentials,
        charges_registers_1d_from_2d=published.charges_registers_1d_from_2d,
        lost_ranks=_PUBLISHED_LOSSES,
    )


@dataclass(frozen=True)
class CountedAccesses:
    """One Einsum's accesses under some rules."""

    placed: Placed
    accesses: LevelAccesses

    def level(self, level: str) -> Accesses:
        return sum((found for (where, _), found in self.accesses.items() if where == level), Accesses())


def count(nests: Nests, rules: Rules) -> tuple[CountedAccesses, ...]:
    return tuple(CountedAccesses(placed, _accesses(placed, nests, rules)) for placed in nests.placement.einsums)


def _accesses(placed: Placed, nests: Nests, rules: Rules) -> LevelAccesses:
    known = replace(
        placed,
        operands=tuple(
            replace(
                operand,
                ranks=frozenset(r for r in operand.ranks if (placed.name, operand.name, r) not in rules.lost_ranks),
            )
            for operand in placed.operands
        ),
    )
    found = count_accesses(known.operands, nests.nest(known), rules.registers, rules.wrap64)
    return {key: _elided(key[0], accesses, rules) for key, accesses in found.items()}


def _elided(level: str, accesses: Accesses, rules: Rules) -> Accesses:
    """Reads of DRAM that equal the updates are those of a first write that was never elided."""
    elided = rules.elides_dram_reads and level == DRAM and accesses.reads == accesses.updates
    return replace(accesses, reads=0) if elided else accesses


def traffic(counted: tuple[CountedAccesses, ...], word_bytes: int) -> Traffic:
    dram = sum((einsum.level(DRAM) for einsum in counted), Accesses())
    return Traffic(dram.reads * word_bytes, dram.writes * word_bytes)


def actions(counted: tuple[CountedAccesses, ...], nests: Nests, rules: Rules) -> Actions:
    return sum((_actions(einsum, nests, rules) for einsum in counted), Actions())


def _actions(counted: CountedAccesses, nests: Nests, rules: Rules) -> Actions:
    dram, buffer, own = (counted.level(name) for name in (DRAM, GLOBAL_BUFFER, REGISTERS))
    words = Actions(dram.reads + dram.writes, buffer.reads, buffer.writes)
    operations = _operations(counted.placed, nests, rules)
    if counted.placed.unit != ARRAY_2D:
        return words + Actions(register_reads_1d=own.reads, register_writes_1d=own.writes, operations_1d=operations)
    shared = counted.level(REGISTERS_1D) if rules.charges_registers_1d_from_2d else Accesses()
    return words + Actions(
        register_reads_2d=own.reads,
        register_writes_2d=own.writes,
        register_reads_1d=shared.reads,
        register_writes_1d=shared.writes,
        operations_2d=operations,
    )


def _operations(placed: Placed, nests: Nests, rules: Rules) -> Mapping[str, int]:
    """Operations on every real query and key of the tiles, masked or not: the array computes a tile whole."""
    loops = {"instance", "p2", "p1", "p0"} | (placed.ranks & set(nests.depths))
    loops |= {"m1"} if nests.placement.key_outer in placed.ranks else set()
    loops |= {"m0"} if nests.placement.key_inner in placed.ranks else set()
    points = Projections(nests.tiles, nests.depths)(frozenset(loops))
    free = frozenset() if rules.charges_exponentials else frozenset({"exp"})
    return MappingProxyType({name: number * points for name, number in placed.operations.items() if name not in free})


REGISTERS = "registers"
REGISTERS_1D = "registers_1d"  # the registers of the 1D array, as the 2D array sees them
_TILE_LOOPS = frozenset({"instance", "p2", "m1", "p1", "p0", "m0"})


@dataclass(frozen=True)
class Nests:
    """The nests of one operation; `size` is None where every tile is whole and every query meets every key."""

    placement: Placement
    tiles: AttentionTiles
    depths: Mapping[str, int]  # ranks that are neither instances, keys nor queries (e, f): their extents
    size: Size | None

    def nest(self, placed: Placed) -> Nest:
        on_2d = placed.unit == ARRAY_2D
        inner = self._keys() if self.placement.key_inner in placed.ranks else ()
        return Nest(
            (
                Level(DRAM, self._outer(placed), placed.dram_keeps),
                Level(GLOBAL_BUFFER, self._resident(placed) + (() if on_2d else inner), placed.buffer_keeps),
                *((Level(REGISTERS_1D, (), placed.registers_1d_keeps),) if on_2d else ()),
                Level(REGISTERS, (), frozenset(operand.name for operand in placed.operands)),
            ),
            spatial=(Loop("p0", frozenset({QUERY_RANK}), self.tiles.columns), *(inner if on_2d else ())),
            size=self.size,
        )

    def _outer(self, placed: Placed) -> tuple[Loop, ...]:
        shared = frozenset({"b", "h"})
        outer = Loop("m1", frozenset({self.placement.key_outer}), self.tiles.key_tiles)
        return (
            Loop("instance", shared, self.tiles.shape.instances),
            Loop("p2", frozenset({QUERY_RANK}), self.tiles.P2),
            *((outer,) if self.placement.key_outer in placed.ranks else ()),
        )

    def _resident(self, placed: Placed) -> tuple[Loop, ...]:
        depths = (Loop(rank, frozenset({rank}), self.depths[rank]) for rank in sorted(placed.ranks & set(self.depths)))
        return (Loop("p1", frozenset({QUERY_RANK}), self.tiles.P1), *depths)

    def _keys(self) -> tuple[Loop, ...]:
        return (Loop("m0", frozenset({self.placement.key_inner}), self.tiles.rows),)


def single_loops(key_tiles: int, P1: int, P2: int) -> frozenset[str]:
    """Loops of one iteration: which the counting leaves out where it can, though they carry the partial tiles."""
    bounds = {"m1": key_tiles, "p1": P1, "p2": P2}
    return frozenset(name for name, bound in bounds.items() if bound == 1)


def with_single_loops(loops: frozenset[str], single: frozenset[str]) -> frozenset[str]:
    """`loops` with those of one iteration that change nothing but the partial tiles they walk over."""
    found = set(loops)
    if "m1" in single and "m0" in loops:
        found.add("m1")
    if "p1" in single and ("p2" in loops or ("p2" in single and "p0" in loops)):
        found.add("p1")
    return frozenset(found)


@dataclass(frozen=True)
class Projections:
    """Exact sizes of a ragged iteration space projected to some loops: partial tiles count what they hold."""

    tiles: AttentionTiles
    depths: Mapping[str, int]

    def __call__(self, loops: frozenset[str]) -> int:
        per_instance = self._tile_points(with_single_loops(loops, self._single))
        instances = self.tiles.shape.instances if "instance" in loops else 1
        return instances * per_instance * prod(self.depths[loop] for loop in loops - _TILE_LOOPS)

    @cached_property
    def _single(self) -> frozenset[str]:
        return single_loops(self.tiles.key_tiles, self.tiles.P1, self.tiles.P2)

    def _tile_points(self, loops: frozenset[str]) -> int:
        rows = "m0" in loops
        if "p1" in loops:
            return self._over_query_tiles("m1" in loops, rows, "p0" in loops)
        columns = self.tiles.columns if "p0" in loops else 1
        if "m1" in loops and "p2" in loops:
            return columns * (self.keys_fetched if rows else sum(g.times * g.key_tiles for g in self.tiles.groups))
        if "m1" in loops:
            return columns * (self.tiles.shape.keys if rows else self.tiles.key_tiles)
        groups = sum(group.times for group in self.tiles.groups if group.steps) if "p2" in loops else 1
        return groups * columns * (self.tiles.rows if rows else 1)

    def _over_query_tiles(self, tile_by_tile: bool, rows: bool, columns: bool) -> int:
        visits = self.tiles.visits
        weight = self.tiles.tile_queries if columns else np.ones_like(visits)
        if not tile_by_tile:
            return int(weight[visits > 0].sum()) * (self.tiles.rows if rows else 1)
        return int((weight * (self.keys_met if rows else visits)).sum())

    @cached_property
    def keys_met(self) -> Counts:
        """Keys in the key tiles that each query tile meets."""
        first, last = self.tiles.key_range
        end = np.minimum((last + 1) * self.tiles.rows, self.tiles.shape.keys)
        met: Counts = np.maximum(end - first * self.tiles.rows, 0)
        return met

    @cached_property
    def keys_fetched(self) -> int:
        """Keys that pass by one instance: once for every group of resident query tiles that needs their tile."""
        tiles = self.tiles
        whole = tiles.rows * sum(group.times * group.key_tiles for group in tiles.groups)
        missing = tiles.key_tiles * tiles.rows - tiles.shape.keys  # rows that the last key tile leaves empty
        last = tiles.key_range[1]
        groups = (last[start : start + tiles.P1].max() for start in range(0, tiles.query_tiles, tiles.P1))
        return whole - missing * sum(1 for furthest in groups if furthest == tiles.key_tiles - 1)


def port_cycles(counted: tuple[CountedAccesses, ...], spec: SpatialArray) -> float:
    """Cycles that all accesses of an operation take at least, however they are spread."""
    buffer = sum((einsum.level(GLOBAL_BUFFER) for einsum in counted), Accesses())
    return _rows(buffer.reads + buffer.writes, spec) / spec.global_buffer.ports


def _rows(words: int, spec: SpatialArray) -> float:
    return words * spec.word_bytes / spec.global_buffer.row_bytes


@dataclass(frozen=True)
class TileRows:
    """Words through the ports in one whole tile: always, and when it fetches or finishes what a Kind says."""

    spec: SpatialArray
    always: int
    queries_fetched: int
    keys_fetched: int
    finished: int

    def port_cycles(self, kind: Kind) -> int:
        words = self.always
        words += self.queries_fetched if kind.fetched_queries else 0
        words += self.keys_fetched if kind.fetched_keys else 0
        words += self.finished if kind.finished_queries else 0
        return ceil(_rows(words, self.spec) / self.spec.global_buffer.ports)


def tile_rows(placement: Placement, spec: SpatialArray, depths: Mapping[str, int]) -> TileRows:
    """Counted on an operation of a single tile."""
    rows, columns = spec.pe_array.rows, spec.pe_array.columns
    shape = AttentionShape(1, columns, rows, depths["e"], depths["f"])
    single = AttentionTiles(shape, rows, columns, buffer_tiles=1, P1=1, kv_slots=1)
    return TileRows(spec, *tile_words(placement, count(Nests(placement, single, depths, None), PHYSICAL)))


def tile_words(placement: Placement, counted: Iterable[CountedAccesses]) -> tuple[int, int, int, int]:
    """The words of a TileRows, of an operation of a single tile."""
    counted = tuple(counted)
    in_tile = [einsum for einsum in counted if placement.key_outer in einsum.placed.ranks]
    after_keys = [einsum for einsum in counted if placement.key_outer not in einsum.placed.ranks]
    return (
        sum(found.reads + found.updates for _, found in _buffer(in_tile)),
        sum(found.fills for of_queries, found in _buffer(in_tile) if of_queries),
        sum(found.fills for of_queries, found in _buffer(in_tile) if not of_queries),
        sum(found.reads + found.writes for _, found in _buffer(after_keys)),
    )


def _buffer(counted: Iterable[CountedAccesses]) -> Iterable[tuple[bool, Accesses]]:
    """(whether the operand has a query rank, its accesses) at the buffer."""
    for einsum in counted:
        ranks = {operand.name: operand.ranks for operand in einsum.placed.operands}
        for (level, operand), found in einsum.accesses.items():
            if level == GLOBAL_BUFFER:
                yield QUERY_RANK in ranks[operand], found


def symbols(single: frozenset[str]) -> Size:
    """Every projection stands for itself: what is counted with it holds for every extent."""

    def size(loops: frozenset[str]) -> LinearForm:
        return LinearForm({with_single_loops(loops, single): 1})

    return cast(Size, size)


def form_of(words: object) -> LinearForm:
    return words if isinstance(words, LinearForm) else LinearForm()
