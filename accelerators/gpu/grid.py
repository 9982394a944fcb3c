"""Shapes of attention and the thread blocks that work on them: how many tiles of keys blocks walk over, how unequally.

Sizes are arrays, many shapes at once, or one. Closed forms: causal blocks walk from the first key (or the start of the
window) to their last query, by exact sums of floors, which the tests hold against a count block by block. Knows tiles;
knows no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascadesim.accelerators.gpu.attention.walk import IntegerArray, Walk
from cascadesim.accelerators.gpu.kernel import CompiledLoop, Kernel, Tile
from cascadesim.accelerators.gpu.spec import Device

Reals: TypeAlias = NDArray[np.float64]
BooleanArray: TypeAlias = NDArray[np.bool_]
VECTOR = 16  # Triton takes a stride for a multiple of 16 where it is one (runtime/jit.py), and loads vectors only then
UNCOUNTED = CompiledLoop(warps=1, plain=(1, 0, 0))
FULL = 0.8  # of the places on SMs: from there on FlashAttention splits no keys (flash_api.cpp, num_splits_heuristic)


@dataclass(frozen=True)
class KeyList:
    """What blocks with a list of the key tiles to visit walk over: keys of a tile of queries, at least and at most.

    `masked`: share of the tiles that a mask cuts; `cost`: cycles of a tile over those of a loop over all keys.
    """

    shortest: float
    longest: float
    masked: float
    cost: float


@dataclass(frozen=True)
class Shape:
    """Attention of `batch` sequences; arrays of one size. Queries are the last of the keys.

    `window`: keys a query sees, its own included; 0 for all. `visited_keys`: keys that a tile of queries walks over
    on average, where a mask that is no interval says so; 0 elsewhere. `listed`: of masks whose tiles lie anywhere.
    `shared_key_value`: keys and values are one latent vector of head_dim, the values its first value_dim elements.
    """

    batch: IntegerArray
    heads: IntegerArray
    heads_kv: IntegerArray
    queries: IntegerArray
    keys: IntegerArray
    head_dim: IntegerArray
    value_dim: IntegerArray
    causal: BooleanArray
    window: IntegerArray
    visited_keys: Reals
    shared_key_value: bool = False
    listed: KeyList | None = None

    @property
    def group(self) -> IntegerArray:
        """Query heads that share a key head."""
        return self.heads // self.heads_kv

    @property
    def key_elements(self) -> IntegerArray:
        """Stored for one key and its value, of one head."""
        return self.head_dim if self.shared_key_value else self.head_dim + self.value_dim

    @property
    def keys_in_reach(self) -> IntegerArray:
        """Keys that some query attends."""
        last = np.where(self.window > 0, self.window + self.queries - 1, self.keys)
        return np.asarray(np.minimum(self.keys, last), dtype=np.int64)


def shape(
    batch: ArrayLike, heads: ArrayLike, heads_kv: ArrayLike, queries: ArrayLike, keys: ArrayLike, head_dim: ArrayLike,
    value_dim: ArrayLike | None = None, causal: ArrayLike = False, window: ArrayLike = 0, visited_keys: ArrayLike = 0,
    *, shared_key_value: bool = False, listed: KeyList | None = None,
) -> Shape:  # fmt: skip
    """All sizes broadcast to one size; `value_dim` is `head_dim` where left out."""
    values = head_dim if value_dim is None else value_dim
    sizes = (batch, heads, heads_kv, queries, keys, head_dim, values, causal, window, visited_keys)
    found = np.broadcast_arrays(*(np.atleast_1d(np.asarray(size)) for size in sizes))
    b, h, g, p, m, e, f, seen = (np.asarray(found[place], dtype=np.int64) for place in (*range(7), 8))
    hidden, visited = np.asarray(found[7], dtype=np.bool_), np.asarray(found[9], dtype=np.float64)
    return Shape(b, h, g, p, m, e, f, hidden, seen, visited, shared_key_value, listed)


@dataclass(frozen=True)
class WarpCounts:
    """Of one warp for a key tile: instructions, barriers and loads of spilled registers among them."""

    instructions: Reals
    barriers: Reals
    spilled: Reals


@dataclass(frozen=True)
class LoopCounts:
    """Of loops that were counted (kernel.CompiledLoop), arrays of one size. `warps`: of a block; 0: it was not."""

    warps: Reals
    attended: WarpCounts
    passed: WarpCounts  # of a tile that is only compared
    trips: Reals  # to memory, one after the other, where they were counted; NaN: those of the kernel

    @property
    def known(self) -> BooleanArray:
        return self.warps > 0


@dataclass(frozen=True)
class BlockTiles:
    """The tile each shape takes, arrays of one size."""

    head_dim: IntegerArray  # padded
    queries: IntegerArray
    keys: IntegerArray
    blocks_per_sm: IntegerArray
    emulated: Reals
    overlapped: Reals
    supported: BooleanArray  # the kernel has a tile for the head dimension
    loop: LoopCounts


@dataclass(frozen=True)
class ThreadBlocks:
    """Thread blocks of one call. `visited`: key tiles of all blocks before splitting; the others: of one block."""

    instances: IntegerArray  # (sequence, head, part of the values' columns) that blocks do not share
    row_tiles: IntegerArray  # of one instance
    splits: IntegerArray  # blocks that share the keys of a row tile
    visited: Reals
    longest: Reals
    shortest: Reals
    spread: Reals  # what the longest has more than blocks have in any case
    masked: Reals  # of `visited`, those that a mask cuts
    appended: Reals  # of `visited`, those with keys of the call's own tokens
    most_appended: Reals  # of one block
    passed: Reals  # key tiles before a window, compared and left, of all blocks
    most_passed: Reals  # of one block

    @property
    def blocks(self) -> IntegerArray:
        return self.instances * self.row_tiles * self.splits


def tiles_of(kernel: Kernel, device: Device, shape: Shape, operand_bytes: float) -> BlockTiles:
    """The first tile that holds the head dimension, and the rows, for each shape."""
    chosen = _chosen_tiles(kernel, device, shape, operand_bytes)

    def column(field: str) -> Reals:
        return np.asarray([getattr(tile, field) for tile in kernel.tiles], dtype=np.float64)[chosen]

    dim, queries, keys, blocks = (
        column(field).astype(np.int64) for field in ("head_dim", "queries", "keys", "blocks_per_sm")
    )
    emulated, overlapped = map(column, ("emulated_exponentials", "overlapped"))
    loops = _loop_counts(kernel.tiles, chosen, shape)
    return BlockTiles(dim, queries, keys, blocks, emulated, overlapped, shape.head_dim <= dim, loops)


def _chosen_tiles(kernel: Kernel, device: Device, shape: Shape, operand_bytes: float) -> IntegerArray:
    """Which of the kernel's tiles each shape takes."""

    def places(masked: bool, rows: float = inf) -> IntegerArray:
        tiles = kernel.tiles_on(device.generation, masked, operand_bytes, rows)
        index = np.searchsorted([tile.head_dim for tile in tiles], shape.head_dim)
        return np.array([kernel.tiles.index(tile) for tile in tiles])[np.minimum(index, len(tiles) - 1)]

    found, rows = np.where(shape.causal, places(True), places(False)), _rows(kernel, shape)
    for most in sorted({tile.most_rows for tile in kernel.tiles if tile.most_rows}, reverse=True):
        found = np.where(rows <= most, np.where(shape.causal, places(True, most), places(False, most)), found)
    return found


def _loop_counts(tiles: Sequence[Tile], chosen: IntegerArray, shape: Shape) -> LoopCounts:
    """Those of the tile of each shape, its window and its rows."""
    loops = [tile.loop or UNCOUNTED for tile in tiles]
    warps = np.array([tile.loop.warps if tile.loop else 0 for tile in tiles], dtype=np.float64)[chosen]
    trips = np.array([np.nan if loop.trips is None else loop.trips for loop in loops], dtype=np.float64)[chosen]
    plain, windowed, unaligned, beyond = (
        np.array([getattr(loop, kind) or loop.plain for loop in loops], dtype=np.float64)[chosen].T
        for kind in ("plain", "windowed", "unaligned", "beyond")
    )
    own = np.where(shape.window > 0, windowed, plain)
    attended = WarpCounts(*np.where(shape.head_dim % VECTOR > 0, unaligned, own))
    return LoopCounts(warps, attended, WarpCounts(*beyond), trips)


def _rows(kernel: Kernel, shape: Shape) -> IntegerArray:
    """Of the queries of one sequence that blocks can share keys for."""
    return np.asarray(shape.queries * (shape.group if kernel.packs_group else 1), dtype=np.int64)


def shrunk(kernel: Kernel, shape: Shape, tiles: BlockTiles) -> BlockTiles:
    """Tiles of fewer rows where a head has fewer, in kernels that can."""
    rows = _rows(kernel, shape)
    if kernel.row_step:
        return replace(tiles, queries=np.minimum(tiles.queries, -(-rows // kernel.row_step) * kernel.row_step))
    if kernel.narrow_rows:
        fewer, most = kernel.narrow_rows
        rest = shrunk(kernel.model_copy(update={"narrow_rows": None}), shape, tiles)
        return replace(tiles, queries=np.where(rows <= most, fewer, rest.queries))
    if kernel.row_choices:
        choices = np.array(kernel.row_choices)
        holds = choices[np.minimum(np.searchsorted(choices, rows), len(choices) - 1)]
        return replace(tiles, queries=np.minimum(tiles.queries, np.where(rows > choices[-1], tiles.queries, holds)))
    return tiles


def work_of(kernel: Kernel, device: Device, shape: Shape, tiles: BlockTiles) -> ThreadBlocks:
    """The thread blocks of a kernel for every shape."""
    packed = np.full(shape.queries.shape, kernel.packs_group)
    if kernel.packs_where_fuller:  # FlashAttention, hopper/heuristics.h, should_pack_gqa: how far tiles are filled
        alone, grouped = (rows / (-(-rows // tiles.queries) * tiles.queries)
                          for rows in (shape.queries, shape.queries * shape.group))  # fmt: skip
        packed = alone < 0.9 * grouped
    group = np.where(packed & ((shape.window == 0) | kernel.for_windows), shape.group, 1)
    instances = shape.batch * shape.heads // group * column_parts(kernel, shape)
    row_tiles = -(-shape.queries * group // tiles.queries)
    seen, special = _as_walked(kernel, shape), shape.visited_keys > 0
    walk = Walk(shape.queries, shape.keys, seen.window, group, tiles.queries, tiles.keys)
    uneven = seen.causal & (shape.queries > 1) | (seen.window > 0)
    full = np.where(special, shape.visited_keys / tiles.keys, np.ceil(shape.keys / tiles.keys))
    longest, shortest = (np.where(uneven, one, full) for one in (walk.longest, walk.shortest))
    walked: Reals = np.where(uneven, walk.visited, row_tiles * full)
    masked: Reals = np.where(uneven, walk.cut, row_tiles * (shape.keys % tiles.keys > 0))
    masked = np.where(special, walked, masked)
    if (listed := shape.listed) is not None:
        longest, shortest = (np.where(special, size / tiles.keys, full) for size in (listed.longest, listed.shortest))
        masked = masked * listed.masked
    splits = _splits(kernel, device, shape, instances * row_tiles, longest, tiles)
    if kernel.splits_fully:  # a part without keys loads and multiplies a tile, too, and leaves zeros
        walked = np.maximum(walked, row_tiles * splits)
    most, mean = np.ceil(longest / splits), walked / row_tiles / splits
    evenly = np.maximum(2 * mean - most, 0) * mean / most  # assumed, of parts of the keys: as many short as long ones
    shortest = np.where(splits > 1, evenly, np.minimum(shortest, mean))
    spread = np.where(splits > 1, np.minimum(2 * (most - mean), most), most - shortest)
    before = (shape.keys - shape.queries) // tiles.keys  # whole tiles of the cache
    appended: Reals = np.maximum(walked - row_tiles * before, 0)
    most_appended: Reals = np.minimum(np.maximum(longest - before, 0), most)
    everything = replace(walk, window=np.zeros_like(walk.window))
    windowed = kernel.passes_window & (seen.window > 0)
    passed, most_passed = (np.where(windowed, more - less, 0).astype(np.float64) for more, less in
                           ((everything.visited, walk.visited), (everything.longest, walk.longest)))  # fmt: skip
    return ThreadBlocks(instances, row_tiles, splits, instances * walked, most, shortest, spread, instances * masked,
                        instances * appended, most_appended, instances * passed, most_passed)


def column_parts(kernel: Kernel, shape: Shape) -> IntegerArray:
    """Blocks that each multiply queries and keys, and a part of the values' columns."""
    return np.asarray(-(-shape.value_dim // (kernel.most_value_columns or shape.value_dim.max())), dtype=np.int64)


def _as_walked(kernel: Kernel, shape: Shape) -> Shape:
    """The mask as the kernel's loops see it."""
    reach = np.where(shape.window > 0, shape.window + kernel.window_excludes_query, 0)
    window = reach if kernel.skips_window else np.zeros_like(shape.window)
    return replace(shape, window=window)


def walked_keys(kernel: Kernel, shape: Shape, tiles: BlockTiles) -> tuple[Reals, Reals]:
    """Keys that a row tile walks over, at least and at most, tiles not rounded up."""
    seen = _as_walked(kernel, shape)
    masked = seen.causal & (shape.queries > 1)
    reach = np.minimum(seen.window + tiles.queries, shape.keys)
    longest = np.where(shape.visited_keys > 0, shape.visited_keys, np.where(seen.window > 0, reach, shape.keys))
    first = np.where(masked & (seen.window == 0), shape.keys - shape.queries, longest)
    return np.asarray(first, dtype=np.float64), np.asarray(longest, dtype=np.float64)


def _splits(
    kernel: Kernel, device: Device, shape: Shape, blocks: IntegerArray, longest: Reals, tiles: BlockTiles
) -> IntegerArray:
    """Blocks that share the keys: as many as the device still has room for, one where the blocks fill it already."""
    if not kernel.splits_keys:
        return np.ones_like(blocks)
    most = np.where((shape.window > 0) & (not kernel.for_windows), 1, kernel.most_splits)
    room = device.sms * tiles.blocks_per_sm
    wanted = np.where(blocks >= FULL * room, 1, room // blocks)
    if kernel.split_waves is not None:
        wanted = device.sms * kernel.split_waves // blocks
    if kernel.split_doublings_of is not None:
        waves = np.maximum(np.log2(shape.keys_in_reach / kernel.split_doublings_of), 1.0)
        wanted = np.ceil(np.floor(device.sms * waves) / blocks)
    if kernel.split_load is not None:
        wanted = np.ceil(longest / np.ceil(kernel.split_load * blocks * longest / device.sms))
    wanted = np.where(longest > kernel.uncut_tiles, wanted, 1)
    if kernel.split_share:
        filled, wanted = blocks / (device.sms * kernel.split_blocks_per_sm), np.ones_like(blocks)
        few = filled < FULL
        wanted[few] = _filling_splits(filled[few], longest[few], kernel)
    smallest = np.maximum(kernel.keys_per_split / tiles.keys, 1)  # in key tiles
    found = np.clip(wanted, 1, np.maximum(np.minimum(longest / smallest, most), 1))
    return np.asarray(np.where(shape.batch <= kernel.splits_fully, most, found), dtype=np.int64)


def _filling_splits(filled: Reals, key_tiles: Reals, kernel: Kernel) -> Reals:
    """FlashAttention-2, num_splits_heuristic. `filled`: rounds of blocks that there are without splits, below one.

    Of the last round as much should be filled as of the best number of parts, or nearly; numbers whose longest part has
    as many tiles as that of one part fewer are left out.
    """
    numbers = range(1, min(kernel.most_splits, int(np.max(key_tiles, initial=1))) + 1)

    def share(parts: int) -> Reals:
        shorter = (parts == 1) | (np.ceil(key_tiles / parts) < np.ceil(key_tiles / max(parts - 1, 1)))
        return np.where(shorter & (parts <= key_tiles), filled * parts / np.ceil(filled * parts), 0.0)

    best, found = np.zeros_like(filled), np.ones_like(filled)
    for parts in numbers:
        best = np.maximum(best, share(parts))
    for parts in reversed(numbers):
        found = np.where(share(parts) >= kernel.split_share * best, parts, found)
    return found
