"""How many tiles of keys the thread blocks of a kernel walk over: in all, at most, and how unequal they are.

Closed forms over arrays: causal blocks walk from the first key (or the start of the window) to their last query.
`tests` hold them against a count block by block. Knows tiles; knows no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascadesim.accelerators.gpu.kernel import Kernel, Tile
from cascadesim.accelerators.gpu.shape import Counts, Flags, Reals, Shape
from cascadesim.accelerators.gpu.spec import Device


@dataclass(frozen=True)
class Tiles:
    """The tile each shape takes, arrays of one size."""

    head_dim: Counts  # padded
    queries: Counts
    keys: Counts
    blocks_per_sm: Counts
    emulated: Reals
    tensor_rate: Reals
    supported: Flags  # the kernel has a tile for the head dimension


@dataclass(frozen=True)
class Work:
    """Thread blocks of one call. `visited`: key tiles of all blocks before splitting; `longest`: of one block."""

    instances: Counts  # (sequence, head) pairs that blocks do not share
    row_tiles: Counts  # of one instance
    splits: Counts  # blocks that share the keys of a row tile
    visited: Reals
    longest: Reals
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
    packed = kernel.packs_group & ((shape.window == 0) | kernel.for_windows)
    group = np.where(packed, shape.group, 1)
    instances = shape.batch * shape.heads // group
    row_tiles = -(-shape.queries * group // tiles.queries)
    span = np.minimum(tiles.queries / group, shape.queries)  # query positions of a full row tile
    walked, longest, masked = _walked(_as_walked(kernel, shape), tiles, row_tiles, span)
    splits = _splits(kernel, device, shape, instances * row_tiles, longest, tiles)
    per_block = np.asarray(np.ceil(longest / splits))
    return Work(instances, row_tiles, splits, instances * walked, per_block, instances * masked)


def _as_walked(kernel: Kernel, shape: Shape) -> Shape:
    """The mask as the kernel's loops see it."""
    causal = shape.causal if kernel.skips_causal else np.zeros_like(shape.causal)
    window = shape.window if kernel.skips_window else np.zeros_like(shape.window)
    return replace(shape, causal=causal, window=window)


def _walked(shape: Shape, tiles: Tiles, row_tiles: Counts, span: Reals) -> tuple[Reals, Reals, Reals]:
    """Key tiles of the row tiles of one instance: in all, of the longest, and those that the mask cuts."""
    special = shape.visited_keys > 0
    full = np.where(special, shape.visited_keys / tiles.keys, np.ceil(shape.keys / tiles.keys))
    ragged = shape.keys % tiles.keys > 0
    last = np.minimum(_sum_of_ends(shape, tiles, row_tiles, span), row_tiles * full)
    first = np.where(shape.window > 0, _sum_of_starts(shape, tiles, row_tiles, span), 0.0)
    every = shape.causal & (shape.queries > 1) | (shape.window > 0)
    walked = np.where(every, np.maximum(last - first, row_tiles), row_tiles * full)
    in_window = np.ceil((shape.window + span) / tiles.keys + 0.5)
    longest = np.where(every & (shape.window > 0), np.minimum(in_window, full), full)
    cut = np.ceil(span / tiles.keys) * np.where(shape.window > 0, 2, 1)
    masked = np.where(every, np.minimum(row_tiles * cut, walked), row_tiles * ragged)
    masked = np.where(special, walked, masked)
    return walked, longest, masked


def _sum_of_ends(shape: Shape, tiles: Tiles, row_tiles: Counts, span: Reals) -> Reals:
    """Sum over row tiles of ceil((keys - queries + min((i+1) span, queries)) / tile): an arithmetic series.

    A ceiling adds (1 - step) / 2 on average, where the ends move in steps of `step` of a tile.
    """
    before = (shape.keys - shape.queries) / tiles.keys
    whole = row_tiles - 1
    ends = whole * before + span * whole * (whole + 1) / 2 / tiles.keys
    return np.asarray(ends + whole * _rounding(span, tiles, before) + np.ceil(shape.keys / tiles.keys))


def _sum_of_starts(shape: Shape, tiles: Tiles, row_tiles: Counts, span: Reals) -> Reals:
    """Sum over row tiles of floor(max(0, keys - queries + i span - window + 1) / tile)."""
    offset = shape.keys - shape.queries - shape.window + 1
    skipped = np.clip(np.ceil(np.maximum(-offset, 0) / span), 0, row_tiles)  # the first ones start at key 0
    count = row_tiles - skipped
    total = count * offset + span * (row_tiles * (row_tiles - 1) - skipped * (skipped - 1)) / 2
    return np.asarray(np.maximum(total / tiles.keys - 0.5 * count, 0.0))


def _rounding(span: Reals, tiles: Tiles, before: Reals) -> Reals:
    """What rounding up adds on average: nothing where every end is a whole tile."""
    steps = span / tiles.keys
    whole = (steps % 1 == 0) & (before % 1 == 0)
    step = np.gcd(np.maximum(span, 1).astype(np.int64), tiles.keys) / tiles.keys
    return np.where(whole, 0.0, (1 - np.where(span % 1 == 0, step, 1 / tiles.keys)) / 2)


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
