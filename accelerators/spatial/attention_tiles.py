"""What goes where: score tiles over the 2D array, query tiles resident in the buffer, keys streamed past them.

Loop nest, outer to inner: instance (batch and key/value head), p2 (groups of resident query tiles), m1 (key tiles),
p1 (resident query tiles), then m0 over the rows and p0 over the columns. And sizes of tiles worth trying. Knows
extents, masks and capacities; no cycles, no energy. FuseMax (MICRO'24), section V, mapping 1; `P1`: shared rule of spec
5.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import FULL, Mask

Counts = NDArray[np.int64]
_FINE = 64  # every size up to it, then 32 to the octave: what lies between wastes at most a 33rd
_FEWEST_COARSE_TILES = 4


@dataclass(frozen=True, slots=True)
class KeyStep:
    """`key_tiles` key tiles in a row, each meeting `query_tiles` resident query tiles from `first_query_tile` on."""

    key_tiles: int
    query_tiles: int
    first_query_tile: int = 0  # counted from the first query tile of the group
    first_key_tile: int = field(default=0, compare=False)  # which keys they are: groups are alike wherever they are

    @property
    def tiles(self) -> int:
        return self.key_tiles * self.query_tiles


@dataclass(frozen=True, slots=True)
class QueryGroup:
    """Query tiles that are resident together, and what passes by them; `times` such groups in a row."""

    query_tiles: int
    steps: tuple[KeyStep, ...]
    times: int = 1

    @property
    def key_tiles(self) -> int:
        """Key (and value) tiles fetched for one such group."""
        return sum(step.key_tiles for step in self.steps)

    @property
    def tiles(self) -> int:
        """Score tiles of one such group."""
        return sum(step.tiles for step in self.steps)


@dataclass(frozen=True)
class AttentionShape:
    """The extents of one attention operation, independent of any hardware."""

    instances: int  # batch x key/value heads x how often the operation runs
    queries: int
    keys: int
    query_depth: int  # E
    value_depth: int  # F
    group: int = 1  # query heads per key/value head
    mask: Mask = FULL

    @cached_property
    def pairs(self) -> int:
        """(query, key) pairs that one instance attends."""
        return self.group * self.mask.attended_pairs(self.queries, self.keys)


@dataclass(frozen=True)
class AttentionTiles:
    """The tiles of one attention operation on a `rows` x `columns` array.

    Of one instance: `query_tiles` query tiles (those of all heads of the group, position by position), `key_tiles`
    key tiles; P1 query tiles are resident at a time, in P2 groups. The buffer holds `buffer_tiles` query tiles at
    most, and beside P1 of them `kv_slots` pairs of a key tile and a value tile.
    """

    shape: AttentionShape
    rows: int
    columns: int
    buffer_tiles: int
    P1: int
    kv_slots: int

    @property
    def P2(self) -> int:
        return -(-self.query_tiles // self.P1)

    @property
    def packed(self) -> bool:
        """Whether the queries of several heads lie side by side in the columns (few queries: decode)."""
        return self.shape.queries < self.columns

    @property
    def query_tiles(self) -> int:
        return query_tiles(self.shape.queries, self.shape.group, self.columns)

    @property
    def key_tiles(self) -> int:
        return -(-self.shape.keys // self.rows)

    @cached_property
    def key_range(self) -> tuple[Counts, Counts]:
        """First and last key tile (inclusive; empty where last < first) of each query tile of an instance."""
        shape = self.shape
        tile = shape.queries if self.packed else self.columns
        copies = self.query_tiles if self.packed else shape.group
        first, last = shape.mask.key_tiles(shape.queries, shape.keys, tile, self.rows)
        return np.repeat(_never_falling(first[::-1], np.minimum)[::-1], copies), np.repeat(_never_falling(last), copies)

    @cached_property
    def visits(self) -> Counts:
        """Key tiles that each query tile meets."""
        first, last = self.key_range
        visits: Counts = np.maximum(last - first + 1, 0)
        return visits

    @cached_property
    def tile_queries(self) -> Counts:
        """Columns in use in each query tile: all, but for the last tile of a head (or of the packed heads)."""
        used = np.full(self.query_tiles, self.columns, dtype=np.int64)
        if self.packed:
            used[-1] = self.shape.group * self.shape.queries - (self.query_tiles - 1) * self.columns
        else:
            used[-self.shape.group :] = self.shape.queries - (self.query_tiles // self.shape.group - 1) * self.columns
        return used

    @cached_property
    def tiles(self) -> int:
        """Score tiles of the whole operation (T)."""
        return self.shape.instances * int(self.visits.sum())

    @cached_property
    def groups(self) -> tuple[QueryGroup, ...]:
        """The stream of one instance: what the cycle-level engine runs, equal neighbours joined."""
        starts = set(self.group_starts)
        known = {start: (min(self.P1, self.query_tiles - start), self.steps(start)) for start in starts}
        found = (known[start] for start in self.group_starts)
        return tuple(QueryGroup(*alike, sum(1 for _ in run)) for alike, run in groupby(found))

    @cached_property
    def group_starts(self) -> tuple[int, ...]:
        """The first tile of each group of resident query tiles, or that of the first group that is just like it."""
        first, last = self.key_range
        starts: dict[tuple[bytes, ...], int] = {}
        arrays = (first, last, self.tile_queries)
        return tuple(
            starts.setdefault(tuple(array[start : start + self.P1].tobytes() for array in arrays), start)
            for start in range(0, self.query_tiles, self.P1)
        )

    def steps(self, start: int) -> tuple[KeyStep, ...]:
        """What passes by the resident query tiles from `start` on."""
        first, last = (bound[start : start + self.P1] for bound in self.key_range)
        return tuple(_steps(first, last))


def _never_falling(bound: Counts, further: np.ufunc = np.maximum) -> Counts:
    """Key tiles pass by in order, so a range that would step back (neighborhoods) is met in a wider one."""
    widened: Counts = further.accumulate(bound)
    return widened


def _steps(first: Counts, last: Counts) -> Iterator[KeyStep]:
    """Key tiles in order, joined while the same query tiles meet them (both ends of the ranges only move forwards)."""
    edges = np.unique(np.concatenate([first, last + 1]))
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        from_query = int(np.searchsorted(last, begin, side="left"))
        to_query = int(np.searchsorted(first, begin, side="right"))
        if to_query > from_query:
            yield KeyStep(end - begin, to_query - from_query, from_query, begin)


def query_tiles(queries: int, group: int, columns: int) -> int:
    """Query tiles of one key/value head: heads apart where each fills the columns, otherwise side by side."""
    return group * -(-queries // columns) if queries >= columns else -(-group * queries // columns)


def resident_tiles(tiles: int, buffer_tiles: int) -> int:
    """P1: `tiles` query tiles split over the fewest groups, evenly where that costs less than one half of the buffer.

    The published rule (the largest divisor of `tiles` that fits) wherever that divisor is at least half of what
    fits, as it always is for powers of two; otherwise the balanced split.
    """
    fits = min(tiles, buffer_tiles)
    divisor = largest_divisor(tiles, fits)
    return divisor if 2 * divisor >= fits else -(-tiles // -(-tiles // fits))


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that does not exceed `limit`."""
    divisors = (pair for low in range(1, int(number**0.5) + 1) if number % low == 0 for pair in (low, number // low))
    return max(divisor for divisor in divisors if divisor <= limit)


def tiles_of(
    shape: AttentionShape, capacity_bytes: int, tile_bytes: int, kv_bytes: int, sizes: tuple[int, int, int]
) -> AttentionTiles:
    """Tiles of known `sizes`: rows, columns and residents (P1)."""
    rows, columns, residents = sizes
    fits, slots = (capacity_bytes - kv_bytes) // tile_bytes, (capacity_bytes - residents * tile_bytes) // kv_bytes
    return AttentionTiles(shape, rows, columns, fits, residents, slots)


def map_tiles(
    shape: AttentionShape, spec: SpatialArray, resident_words_per_query: int,
    resident_capacity_bytes: int | None = None, whole_groups: bool = False,
) -> AttentionTiles:  # fmt: skip
    """Tile `shape` for `spec`: what fits the buffer beside one key tile and one value tile (artifact).

    `resident_words_per_query`: words that stay in the buffer for each query (its Q, its running values, ...).
    `whole_groups`: P1 divides the query tiles, as published, however few they then are.
    Raises CascadeSimError if not even one query tile fits.
    """
    rows, columns, word = spec.pe_array.rows, spec.pe_array.columns, spec.word_bytes
    capacity = resident_capacity_bytes or spec.global_buffer.capacity_bytes
    kv_bytes = rows * (shape.query_depth + shape.value_depth) * word
    tile_bytes = columns * resident_words_per_query * word
    fits = (capacity - kv_bytes) // tile_bytes
    if fits < 1:
        raise CascadeSimError(
            f"global_buffer.capacity_bytes: {capacity} bytes hold no query tile; {columns} queries of "
            f"{resident_words_per_query} words beside {rows} keys and values need at least {kv_bytes + tile_bytes}"
        )
    tiles = query_tiles(shape.queries, shape.group, columns)
    p1 = largest_divisor(tiles, min(tiles, fits)) if whole_groups else resident_tiles(tiles, fits)
    return tiles_of(shape, capacity, tile_bytes, kv_bytes, (rows, columns, p1))


@lru_cache(maxsize=4096)
def tile_sizes(side: int, extent: int, fine: int = _FINE) -> tuple[int, ...]:
    """List sizes worth trying for tiles of `extent` coordinates over at most `side` elements, largest first.

    `fine`: every size up to it and half as many to the octave above, and every size of as many equal tiles or fewer.

    An array may leave rows, columns and lanes idle. The sizes do not depend on the array, which only says how large
    they may be: whatever a small array can do, a larger one can. No tile is longer than the extent.
    """
    most = min(side, extent)
    few = {-(-extent // tiles) for tiles in range(1, fine + 1)}
    shifts = range(max(0, most.bit_length() - fine.bit_length() + 1) + 1)
    steps = {step << shift for shift in shifts for step in range(1, fine + 1)}
    return tuple(sorted((size for size in few | steps if size <= most), reverse=True))


@lru_cache(maxsize=4096)
def coarse_sizes(side: int, extent: int) -> tuple[int, ...]:
    """List fewer sizes, where trying one is not cheap: two to the octave, and few equal tiles."""
    most = min(side, extent)
    few = {-(-extent // tiles) for tiles in range(1, _FEWEST_COARSE_TILES + 1)}
    octaves = {start << power for start in (1, 2, 3) for power in range(most.bit_length() + 1)}
    return tuple(sorted((size for size in few | octaves if size <= most), reverse=True))
