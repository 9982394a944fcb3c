"""Loops over the keys that Triton compiled: what a key tile takes of an SM, from instructions that were counted.

Their warps do everything, step by step, so that nothing else hides how long each instruction waits for the one before.
Counted with cuobjdump in what Triton 3.6 makes of SGLang's kernels (extend_attention.py, prefill_attention.py,
decode_attention.py).
"""

from __future__ import annotations

import numpy as np

from cascadesim.accelerators.gpu.gemm import L2_PORT_BYTES_PER_CLOCK
from cascadesim.accelerators.gpu.grid import BlockTiles, BooleanArray, LoopCounts, Reals, WarpCounts
from cascadesim.accelerators.gpu.memory import L2_LATENCY_S, WARP
from cascadesim.accelerators.gpu.spec import Device

SCHEDULERS = 4  # of an SM, each of which issues one instruction a clock
BETWEEN_INSTRUCTIONS = 4.0  # clocks to one that depends: arithmetic (Jia et al., arXiv 1804.06826); 4 to 4.5 suit rows
SHARED_LATENCY = 19.0  # clocks, a load of shared memory on Volta (the same)
SPILLED_IN_FLIGHT = 4.0  # assumed: loads of spilled registers from L2, which instructions after some of them wait for
BYTES_OF_THREAD = 16  # the widest load
WARP_ROWS = 16  # of a tile's products: mma.sync, and a warp's part of wgmma (PTX ISA)
ROWS_OF_GROUPS = 64  # of wgmma and tcgen05, at least; Triton, AccelerateMatmul.cpp, takes mma.sync for fewer
TCGEN05_ROWS = 128  # of its full rate


def issue_cycles(loop: LoopCounts) -> Reals:
    """Of the SM."""
    return np.asarray(loop.attended.instructions * loop.warps / SCHEDULERS, dtype=np.float64)


def waiting_cycles(device: Device, tiles: BlockTiles, key_bytes: float) -> Reals:
    """Of a block in an iteration, beyond its products and what it issues: each warp's instructions for one another,
    and keys, which pass by the port of the SM (values do so meanwhile)."""
    arriving = tiles.keys * tiles.head_dim * key_bytes / L2_PORT_BYTES_PER_CLOCK
    found = block_cycles(device, tiles.loop, tiles.loop.attended) - issue_cycles(tiles.loop) + arriving
    return np.asarray(np.maximum(found, 0.0) * tiles.loop.known, dtype=np.float64)


def block_cycles(device: Device, loop: LoopCounts, counts: WarpCounts) -> Reals:
    """Of a block by itself, without its products. At a barrier a store to shared memory ends, and a load begins."""
    issued = counts.instructions * np.maximum(BETWEEN_INSTRUCTIONS, loop.warps / SCHEDULERS)
    reloaded = counts.spilled * L2_LATENCY_S / SPILLED_IN_FLIGHT * device.clock_hz
    return np.asarray(issued + counts.barriers * 2 * SHARED_LATENCY + reloaded, dtype=np.float64)


def transposed_cycles(device: Device, tiles: BlockTiles, value_dim: Reals, width: float) -> Reals:
    """Of shared memory: wgmma takes 8-bit values by columns of keys, which Triton stores byte by byte.

    16 columns of a key lie in a thread, so that the threads of a warp write to as many rows at a time as a value has
    times 16 columns, all of which begin in the same bank; two keys and more share a word.
    """
    stores = tiles.keys * value_dim / WARP
    conflicts = np.minimum(value_dim / BYTES_OF_THREAD, WARP)
    narrow = (width < 2) & (device.generation == "hopper") & (tiles.queries >= ROWS_OF_GROUPS)
    return np.asarray(stores * conflicts * narrow, dtype=np.float64)


def score_copies(device: Device, tiles: BlockTiles) -> Reals:
    """Warps lie along the rows of queries times keys: where there are more than rows, several compute the same."""
    groups = (device.generation == "hopper") & (tiles.queries >= ROWS_OF_GROUPS)
    return np.asarray(np.where(groups, np.maximum(tiles.loop.warps * WARP_ROWS / tiles.queries, 1), 1.0))


def with_few_rows(device: Device, tiles: BlockTiles) -> Reals:
    """Share of the rate of its instructions that a tile reaches: tcgen05 has 128 rows."""
    partial = (device.generation == "blackwell") & (tiles.queries >= ROWS_OF_GROUPS)
    return np.asarray(np.where(partial, np.minimum(tiles.queries / TCGEN05_ROWS, 1), 1.0))


def on_mma_sync(device: Device, tiles: BlockTiles) -> BooleanArray:
    newer = device.generation in ("hopper", "blackwell")
    return np.asarray((tiles.queries < ROWS_OF_GROUPS) & newer)


def elements_read(tiles: BlockTiles, value_dim: Reals) -> Reals:
    """From shared memory, by products of mma.sync: warps along columns each read all rows, those along rows all keys.

    Triton, AccelerateMatmul.cpp, warpsPerTileV2: along the longer side of the results.
    """
    depth, scores = tiles.head_dim + value_dim, tiles.queries * tiles.keys
    along_columns = tiles.loop.warps * (tiles.queries * tiles.head_dim + scores) + tiles.keys * depth
    along_rows = tiles.loop.warps * tiles.keys * depth
    return np.asarray(np.where(tiles.queries < value_dim, along_columns, along_rows), dtype=np.float64)
