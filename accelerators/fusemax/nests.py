"""The loop nest of each Einsum of a tile, and from it the words that every memory moves.

Outer to inner: instance, p2, m1 at DRAM; p1, then e or f, at the buffer; p0 over the columns and m0 over the rows.
Rectangular nests carry bounds; ragged ones (masks, partial tiles) carry the exact sizes of their projections.
FuseMax (MICRO'24), section V, mapping 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from cascadesim.accelerators.access_counts import Level, Loop, Nest, Size
from cascadesim.accelerators.fusemax.mapping import AttentionTiles, Counts
from cascadesim.accelerators.fusemax.placement import ARRAY_2D, DRAM, GLOBAL_BUFFER, QUERY_RANK, Placed, Placement

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
