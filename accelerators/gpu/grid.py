"""How many tiles of keys the thread blocks of a kernel walk over: in all, at most, and how unequal they are.

Closed forms over arrays: causal blocks walk from the first key (or the start of the window) to their last query
(`walks`). Knows tiles; knows no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascadesim.accelerators.gpu.kernel import Kernel, Tile
from cascadesim.accelerators.gpu.shape import Counts, Flags, Reals, Shape
from cascadesim.accelerators.gpu.spec import Device
from cascadesim.accelerators.gpu.walks import Walk


@dataclass(frozen=True)
class Tiles:
    """The tile each shape takes, arrays of one size."""

    head_dim: Counts  # padded
    queries: Counts
    keys: Counts
    blocks_per_sm: Counts
    emulated: Reals
    tensor_rate: Reals
    window_instructions: Reals
    supported: Flags  # the kernel has a tile for the head dimension


@dataclass(frozen=True)
class Work:
    """Thread blocks of one call. `visited`: key tiles of all blocks before splitting; the others: of one block."""

    instances: Counts  # (sequence, head) pairs that blocks do not share
    row_tiles: Counts  # of one instance
    splits: Counts  # blocks that share the keys of a row tile
    visited: Reals
    longest: Reals
    shortest: Reals
    spread: Reals  # what the longest has more than blocks have in any case
    masked: Reals  # of `visited`, those that a mask cuts

    @property
    def blocks(self) -> Counts:
        return self.instances * self.row_tiles * self.splits


def tiles_of(kernel: Kernel, device: Device, shape: Shape, operand_bytes: float) -> Tiles:
    """Per shape the first tile that holds its head dimension."""
    plain, causal = (kernel.tiles_on(device.generation, masked, operand_bytes) for masked in (False, True))

    def column(field: str) -> Reals:
        return np.where(shape.causal, _column(causal, shape.head_dim, field), _column(plain, shape.head_dim, field))

    return Tiles(
        head_dim=column("head_dim").astype(np.int64),
        queries=column("queries").astype(np.int64),
        keys=column("keys").astype(np.int64),
        blocks_per_sm=column("blocks_per_sm").astype(np.int64),
        emulated=column("emulated_exponentials"),
        tensor_rate=column("tensor_rate"),
        window_instructions=column("window_instructions"),
        supported=shape.head_dim <= column("head_dim"),
    )


def _column(tiles: Sequence[Tile], head_dim: Counts, field: str) -> Reals:
    index = np.searchsorted([tile.head_dim for tile in tiles], head_dim)
    return np.asarray([getattr(tile, field) for tile in tiles], dtype=np.float64)[np.minimum(index, len(tiles) - 1)]


def shrunk(kernel: Kernel, shape: Shape, tiles: Tiles) -> Tiles:
    """Tiles of fewer rows where a head has fewer, in kernels that can."""
    rows = shape.queries * (shape.group if kernel.packs_group else 1)
    if kernel.row_step:
        return replace(tiles, queries=np.minimum(tiles.queries, -(-rows // kernel.row_step) * kernel.row_step))
    if kernel.row_choices:
        choices = np.array(kernel.row_choices)
        holds = choices[np.minimum(np.searchsorted(choices, rows), len(choices) - 1)]
        return replace(tiles, queries=np.minimum(tiles.queries, np.where(rows > choices[-1], tiles.queries, holds)))
    return tiles


def work_of(kernel: Kernel, device: Device, shape: Shape, tiles: Tiles) -> Work:
    packed = _packs(kernel, shape, tiles) & ((shape.window == 0) | kernel.for_windows)
    group = np.where(packed, shape.group, 1)
    instances = shape.batch * shape.heads // group
    row_tiles = -(-shape.queries * group // tiles.queries)
    walked, longest, shortest, masked = _walked(_as_walked(kernel, shape), tiles, group, row_tiles)
    splits = _splits(kernel, device, shape, instances * row_tiles, longest, tiles)
    most, mean = np.ceil(longest / splits), walked / row_tiles / splits
    evenly = np.maximum(2 * mean - most, 0) * mean / most  # assumed, of parts of the keys: as many short as long ones
    shortest = np.where(splits > 1, evenly, np.minimum(shortest, mean))
    spread = np.where(splits > 1, np.minimum(2 * (most - mean), most), most - shortest)
    return Work(instances, row_tiles, splits, instances * walked, most, shortest, spread, instances * masked)


def _packs(kernel: Kernel, shape: Shape, tiles: Tiles) -> Flags:
    """FlashAttention, hopper/heuristics.h, should_pack_gqa: single heads fill less than 0.9 of what groups fill."""
    if not kernel.packs_where_fuller:
        return np.full(shape.queries.shape, kernel.packs_group)
    return _filled(shape.queries, tiles) < 0.9 * _filled(shape.queries * shape.group, tiles)


def _filled(rows: Counts, tiles: Tiles) -> Reals:
    return rows / (-(-rows // tiles.queries) * tiles.queries)


def _as_walked(kernel: Kernel, shape: Shape) -> Shape:
    """The mask as the kernel's loops see it."""
    causal = shape.causal if kernel.skips_causal else np.zeros_like(shape.causal)
    reach = np.where(shape.window > 0, shape.window + kernel.window_excludes_query, 0)
    window = reach if kernel.skips_window else np.zeros_like(shape.window)
    return replace(shape, causal=causal, window=window)


def walked_keys(kernel: Kernel, shape: Shape, tiles: Tiles) -> tuple[Reals, Reals]:
    """Keys that a row tile walks over, at least and at most, tiles not rounded up."""
    seen = _as_walked(kernel, shape)
    masked = seen.causal & (shape.queries > 1)
    reach = np.minimum(seen.window + tiles.queries, shape.keys)
    longest = np.where(shape.visited_keys > 0, shape.visited_keys, np.where(seen.window > 0, reach, shape.keys))
    first = np.where(masked & (seen.window == 0), shape.keys - shape.queries, longest)
    return np.asarray(first, dtype=np.float64), np.asarray(longest, dtype=np.float64)


def _walked(shape: Shape, tiles: Tiles, group: Counts, row_tiles: Counts) -> tuple[Reals, Reals, Reals, Reals]:
    """Key tiles of the row tiles of one instance: in all, of the longest, of the shortest; those that a mask cuts."""
    walk = Walk(shape.queries, shape.keys, shape.window, group, tiles.queries, tiles.keys)
    every = shape.causal & (shape.queries > 1) | (shape.window > 0)
    special = shape.visited_keys > 0
    full = np.where(special, shape.visited_keys / tiles.keys, np.ceil(shape.keys / tiles.keys))
    walked = np.where(every, walk.visited, row_tiles * full)
    masked = np.where(every, walk.cut, row_tiles * (shape.keys % tiles.keys > 0))
    longest, shortest = (np.where(every, one, full) for one in (walk.longest, walk.shortest))
    return walked, longest, shortest, np.where(special, walked, masked)


def _splits(
    kernel: Kernel, device: Device, shape: Shape, blocks: Counts, longest: Reals, tiles: Tiles
) -> Counts:
    """As many blocks share the keys as the device still has room for; one where the blocks fill it already."""
    if not kernel.splits_keys:
        return np.ones_like(blocks)
    most = np.where((shape.window > 0) & (not kernel.for_windows), 1, kernel.most_splits)
    room = device.sms * tiles.blocks_per_sm
    wanted = np.where(blocks >= 0.8 * room, 1, room // blocks)  # FlashAttention's heuristic: 80% full is full
    if kernel.split_waves is not None:
        wanted = device.sms * kernel.split_waves // blocks
    if kernel.split_doublings_of is not None:
        waves = np.maximum(np.log2(shape.keys_in_reach / kernel.split_doublings_of), 1.0)
        wanted = np.ceil(np.floor(device.sms * waves) / blocks)
    smallest = np.maximum(kernel.keys_per_split / tiles.keys, 1)  # in key tiles
    return np.asarray(np.clip(wanted, 1, np.maximum(np.minimum(longest / smallest, most), 1)), dtype=np.int64)
