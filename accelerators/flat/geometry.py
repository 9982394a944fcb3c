"""The rectangle of scores of one attention operation on one array: query tiles, the keys each meets, blocks of rows.

Partial tiles count as rows and keys that exist; masks leave out whole key tiles that no query of a tile attends.
Knows extents and the size of the array; no dataflow, and no cycles but those of one point.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TypeAlias, cast

import numpy as np

from cascadesim.accelerators.binding import OtherFormError
from cascadesim.accelerators.flat.spec import FlatArray
from cascadesim.accelerators.spatial.attention_tiles import AttentionShape, AttentionTiles, Counts
from cascadesim.accelerators.spatial.attention_tiles import query_tiles as count_tiles
from cascadesim.accelerators.spec import differences_of_exponentials, point_operations
from cascadesim.einsum_cascades.models.operation import Operation, mask_of
from cascadesim.einsum_cascades.notation.ir import Einsum
from cascadesim.einsum_cascades.sparsity.masks import FULL

# [no, blocks of, tiles of, single queries][no, tiles of, single keys, keys of one tile] -> distinct combinations
PointTable: TypeAlias = tuple[tuple[int, int, int, int], ...]


def shape_of(operation: Operation) -> AttentionShape:
    """Read the shape of an operation: an instance is a sequence and a key/value head, shared by `group` heads.

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
class QueryBlocks:
    """Query tiles are grouped into blocks and counted: `largest_points` are the scores of the largest block."""

    table: PointTable
    largest_points: int


@dataclass(frozen=True)
class QueryTiles:
    """The query tiles of one instance stand in order, each with the keys it meets (first to last, both included).

    Key tiles of a query tile begin at the first key that it meets, so that larger ones are never more. Arrays are
    (query tiles,) int64.
    """

    rows: Counts
    first: Counts
    last: Counts
    key_tile: int

    @property
    def count(self) -> int:
        return len(self.rows)

    @cached_property
    def keys_met(self) -> Counts:
        met: Counts = np.maximum(self.last - self.first + 1, 0)
        return met

    @cached_property
    def visits(self) -> Counts:
        """Key tiles that each query tile meets."""
        return -(-self.keys_met // self.key_tile)

    @cached_property
    def combinations(self) -> PointTable:
        """The table of `QueryBlocks` without its row of blocks."""
        whole = int(self.last.max() - self.first.min()) + 1
        return (
            (1, -(-whole // self.key_tile), whole, min(whole, self.key_tile)),
            self._with_keys(np.ones_like(self.rows), self.keys_met),
            self._with_keys(self.rows, self.keys_met),
        )

    def _with_keys(self, queries: Counts, keys: Counts) -> tuple[int, int, int, int]:
        """Count queries that meet any key: alone, each with its key tiles, with its keys, with the keys of one tile."""
        each = ((keys > 0), -(-keys // self.key_tile), keys, np.minimum(keys, self.key_tile))
        alone, tiles, single, of_one = (int((queries * amount).sum()) for amount in each)
        return alone, tiles, single, of_one

    def fetched_keys(self, tiles: int) -> int:
        """Count the keys that blocks of `tiles` query tiles meet, each block for itself."""
        return self.blocks(tiles).table[1][2]

    def blocks(self, tiles: int) -> QueryBlocks:
        """Count consecutive blocks of `tiles` query tiles; the last one may be smaller."""
        if tiles not in self._blocks:
            starts = np.arange(0, self.count, tiles)
            first, last = np.minimum.reduceat(self.first, starts), np.maximum.reduceat(self.last, starts)
            keys = np.maximum(last - first + 1, 0)  # that some query of the block meets
            none, by_tile, single = self.combinations
            largest = int(np.add.reduceat(self.rows * self.keys_met, starts).max())
            by_block = self._with_keys(np.ones_like(keys), keys)
            self._blocks[tiles] = QueryBlocks((none, by_block, by_tile, single), largest)
        return self._blocks[tiles]

    @cached_property
    def _blocks(self) -> dict[int, QueryBlocks]:
        return {}


@dataclass(frozen=True)
class FewestTiles:
    """Bounds what masked query tiles of any of `rows` rows count, and key tiles of at most `key_tile` keys.

    Larger tiles are fewer, but where a mask cuts them they may count more: the least of all `rows` is taken.
    """

    shape: AttentionShape
    rows: tuple[int, ...]  # rising
    key_tile: int

    @cached_property
    def count(self) -> int:
        return count_tiles(self.shape.queries, self.shape.group, self.rows[-1])

    @cached_property
    def combinations(self) -> PointTable:
        found = [_combinations(self.shape, rows, self.key_tile) for rows in self.rows]
        return cast(PointTable, np.min(found, axis=0).tolist())

    def blocks(self, tiles: int) -> QueryBlocks:
        """Bound blocks of `tiles` query tiles and of more, where these are all that there are of the largest tile."""
        none, by_tile, single = self.combinations
        found = [_blocks(self.shape, rows)[(tiles - 1).bit_length() :][:1] for rows in self.rows]
        fetched, points = np.concatenate(found).min(axis=0).tolist()
        count, keys = -(-self.count // tiles), none[2] if tiles >= self.count else fetched
        by_block = count, max(count, -(-keys // self.key_tile)), keys, count
        return QueryBlocks((none, by_block, by_tile, single), points)


@lru_cache(maxsize=1 << 15)
def _combinations(shape: AttentionShape, rows: int, key_tile: int) -> PointTable:
    return query_tiles(shape, rows, key_tile).combinations


@lru_cache(maxsize=1 << 10)
def _blocks(shape: AttentionShape, rows: int) -> Counts:
    """Count the keys that blocks of 1, 2, 4, ... query tiles of `rows` rows meet, and the scores of the largest block.

    (powers of two, 2) int64; the last block is a whole head.
    """
    tiles, found = query_tiles(shape, rows, 1), []
    first, last, points = tiles.first, tiles.last, tiles.rows * tiles.keys_met
    while True:
        found.append((np.maximum(last - first + 1, 0).sum(), points.max()))
        if len(points) == 1:
            return np.array(found)
        pairs = np.arange(0, len(points), 2)
        first, last = np.minimum.reduceat(first, pairs), np.maximum.reduceat(last, pairs)
        points = np.add.reduceat(points, pairs)


@lru_cache(maxsize=16)
def query_tiles(shape: AttentionShape, tile_rows: int, key_tile: int) -> QueryTiles:
    """Cut the queries into tiles; heads of a group are packed into one tile where they are short (decode)."""
    tiles = AttentionTiles(shape, rows=1, columns=tile_rows, buffer_tiles=1, P1=1, kv_slots=1)
    first, last = tiles.key_range
    return QueryTiles(tiles.tile_queries, first, last, key_tile)


@dataclass(frozen=True)
class FlatCase:
    """One attention operation runs on one array. `exact`: rectangular, counted with the quirks of the artifact.

    `tile`, `columns`: rows and columns of the array in use, where it is not all of them. `bound`: what is counted is
    the least of tiles of any of these rows.
    """

    shape: AttentionShape
    spec: FlatArray
    exact: bool = False
    tile: int | None = None
    columns: int | None = None
    bound: tuple[int, ...] = ()

    @property
    def rows_used(self) -> int:
        return self.tile or self.spec.pe_array.rows

    @property
    def columns_used(self) -> int:
        return self.columns or self.spec.pe_array.columns

    @cached_property
    def whole(self) -> FlatCase:
        """The same on all of the array: what the 1D array does knows no tiles."""
        return replace(self, tile=None, columns=None, bound=())

    @cached_property
    def query_tiles(self) -> int:
        return self.counted(self.columns_used).count

    @cached_property
    def queries(self) -> int:
        """The query rows of one instance, those of all heads of the group."""
        return self.shape.group * self.shape.queries

    @cached_property
    def full(self) -> bool:
        return self.shape.mask == FULL

    def rows(self, tiles: int) -> int:
        """Count the query rows of a block of `tiles` query tiles."""
        return self.queries if tiles >= self.query_tiles else tiles * self.rows_used

    def extent(self, rank: str) -> int:
        shape = self.shape
        return {"p": self.queries, "m": shape.keys, "e": shape.query_depth, "f": shape.value_depth}[rank]

    def tiles(self, key_tile: int) -> QueryTiles:
        """Cut the queries into tiles; keys are counted in tiles of `key_tile`."""
        return query_tiles(self.shape, self.rows_used, key_tile)

    def counted(self, key_tile: int) -> QueryTiles | FewestTiles:
        """Tiles that are only counted: those of `tiles`, or a bound of them."""
        if key_tile not in self._counted:
            many = len(self.bound) > 1
            self._counted[key_tile] = FewestTiles(self.shape, self.bound, key_tile) if many else self.tiles(key_tile)
        return self._counted[key_tile]

    @cached_property
    def _counted(self) -> dict[int, QueryTiles | FewestTiles]:
        return {}

    def vectors(self, lanes: int) -> QueryTiles:
        """Take query positions one by one, as the 1D array does for each head of the group; keys in vectors."""
        return query_tiles(replace(self.shape, group=1), 1, lanes)

    def point_cycles(self, einsum: Einsum) -> int:
        """Count the cycles of a lane at a point. Raises OtherFormError where the 1D array cannot do the Einsum."""
        can = self.spec.vector_array.operations
        operations, differences = point_operations(einsum), differences_of_exponentials(einsum.expression)
        if missing := sorted(set(can.charged(operations, differences)) - set(can.cycles)):
            raise OtherFormError(
                f"{einsum.name}: the 1D array cannot {', '.join(missing)}; it can {', '.join(can.cycles)}"
            )
        return can.cycles_of(operations, differences)

    def vector_operations(self, einsum: Einsum) -> dict[str, int]:
        """Count the operations of an Einsum on the 1D array, for its energy."""
        each = self.shape.pairs if "m" in einsum.ranks else self.queries * self.shape.value_depth
        return {name: self.shape.instances * each * number for name, number in point_operations(einsum).items()}

    @cached_property
    def computed_scores(self) -> int:
        """Count the scores of the key tiles that are visited, masked ones included."""
        return self.shape.instances * self.tiles(min(self.columns_used, self.shape.keys)).combinations[2][2]
