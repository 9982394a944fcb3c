"""The rectangle of scores an operation needs: query tiles, the keys each meets, blocks of query rows.

Partial tiles count as rows and keys that exist; masks leave out whole key tiles that no query of a tile attends.
Knows extents and the size of the array; no dataflow, no cycles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

from cascadesim.accelerators.fusemax.mapping import AttentionShape, AttentionTiles, Counts
from cascadesim.einsum_cascades.models.operation import Operation, mask_of

Table: TypeAlias = tuple[tuple[int, int, int, int], ...]


def shape_of(operation: Operation) -> AttentionShape:
    """One instance per sequence and key/value head; the query heads that share it are `group`.

    Raises CascadeSimError where the conditions of the text are no mask of intervals.
    """
    extent = dict(operation.extents)
    group = extent.get("g", 1)
    return AttentionShape(
        instances=extent["b"] * (extent["h"] // group),
        queries=extent["p"], keys=extent["m"], query_depth=extent["e"], value_depth=extent["f"],
        group=group, mask=mask_of(operation),
    )  # fmt: skip


@dataclass(frozen=True)
class Tiles:
    """Query tiles of one instance in order, each with the keys it meets (first to last, both included).

    Key tiles of a query tile begin at the first key that it meets, so that larger ones are never more.
    """

    rows: Counts
    first: Counts
    last: Counts
    key_tile: int

    @property
    def count(self) -> int:
        return len(self.rows)

    @cached_property
    def visits(self) -> Counts:
        """Key tiles that each query tile meets."""
        return self.tiles_of(self.keys_met)

    @cached_property
    def keys_met(self) -> Counts:
        met: Counts = np.maximum(self.last - self.first + 1, 0)
        return met

    def tiles_of(self, keys: Counts) -> Counts:
        return -(-keys // self.key_tile)

    @cached_property
    def points(self) -> Counts:
        """Scores of each query tile."""
        return self.rows * self.keys_met

    @cached_property
    def combinations(self) -> Table:
        """Distinct combinations of no, tiles of, single queries with no, tiles of, single keys, and those of one tile.

        Query tiles without an attended key are left out: nothing is computed for them.
        """
        met = self.visits > 0
        first = int(self.first[met].min()) if met.any() else 0
        last = int(self.last[met].max()) if met.any() else -1
        whole = last - first + 1
        return (
            (1, -(-whole // self.key_tile), whole, min(whole, self.key_tile)),
            self._with_keys(np.ones_like(self.rows), self.keys_met),
            self._with_keys(self.rows, self.keys_met),
        )

    def _with_keys(self, queries: Counts, keys: Counts) -> tuple[int, int, int, int]:
        """Queries that meet any, each with the tiles that hold its keys, with its keys, with those of a single tile."""
        each = ((keys > 0), self.tiles_of(keys), keys, np.minimum(keys, self.key_tile))
        alone, tiles, single, of_one = (int((queries * amount).sum()) for amount in each)
        return alone, tiles, single, of_one

    def fetched_keys(self, tiles: int) -> int:
        """Keys that blocks of so many query tiles meet, each block for itself."""
        if tiles not in self._fetched_keys:
            self._fetched_keys[tiles] = self.blocks(tiles).table[1][2]
        return self._fetched_keys[tiles]

    @cached_property
    def _fetched_keys(self) -> dict[int, int]:
        return {}

    def blocks(self, tiles: int) -> Blocks:
        """Consecutive blocks of `tiles` query tiles; the last one may be smaller."""
        starts = np.arange(0, self.count, tiles)
        empty = self.visits == 0
        first = np.minimum.reduceat(np.where(empty, np.iinfo(np.int64).max, self.first), starts)
        last = np.maximum.reduceat(np.where(empty, -1, self.last), starts)
        first = np.where(last < 0, 0, first)
        return Blocks(self, first, last, int(np.add.reduceat(self.points, starts).max()))


@dataclass(frozen=True)
class Blocks:
    """Query tiles grouped into blocks, each with the keys that some of its queries meet."""

    tiles: Tiles
    first: Counts
    last: Counts
    largest_points: int  # scores of the largest block

    @cached_property
    def table(self) -> Table:
        """Distinct combinations of (no, blocks of, tiles of, single) queries with keys as in `Tiles.combinations`."""
        none, tiles, single = self.tiles.combinations
        keys = np.maximum(self.last - self.first + 1, 0)
        return none, self.tiles._with_keys(np.ones_like(keys), keys), tiles, single


def query_tiles(shape: AttentionShape, tile_rows: int, key_tile: int) -> Tiles:
    """Heads of a group lie position by position, packed into one tile where they are short (decode)."""
    tiles = AttentionTiles(shape, rows=1, columns=tile_rows, buffer_tiles=1, P1=1, kv_slots=1)
    first, last = tiles.key_range
    return Tiles(tiles.tile_queries, first, last, key_tile)


def row_tiles(shape: AttentionShape, key_tile: int) -> Tiles:
    """Query positions one by one: what the 1D array walks, once for each head of the group."""
    return query_tiles(replace(shape, group=1), 1, key_tile)
