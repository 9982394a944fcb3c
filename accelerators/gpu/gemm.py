"""Dense products of matrices: the tile a library would choose, waves of thread blocks, L2 and DRAM.

Z[rows,outputs] = A[rows,depth] W[depth,outputs]. Closed form over arrays; the fastest of a list of tiles is taken, as
cuBLAS and CUTLASS heuristics try to. Weights come from DRAM, activations from L2 where they fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.accelerators.gpu.shape import Reals
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Dtype

# (rows, outputs) of a block; CUTLASS profiler lists. assumed: the same on every generation
TILES = ((256, 128), (128, 256), (128, 128), (128, 64), (64, 128), (64, 64), (64, 256), (256, 64), (16, 64), (32, 64))
SPLITS = (1, 2, 4, 8, 16)  # blocks that share the depth of an output tile
OUTPUT_BYTES = 2
PARTIAL_BYTES = 4


@dataclass(frozen=True)
class GemmTiming:
    """Seconds of each unit alone, and of the whole; the tile that was chosen, as an index into TILES x SPLITS."""

    tensor_s: Reals
    l2_s: Reals
    dram_s: Reals
    launch_s: Reals
    total_s: Reals
    dram_read_bytes: Reals
    dram_write_bytes: Reals
    choice: Reals


@dataclass(frozen=True)
class Product:
    """Sizes as arrays of one size."""

    rows: Reals
    outputs: Reals
    depth: Reals
    copies: Reals
    element_bytes: float


def gemm_timing(
    device: Device, constants: Constants, rows: ArrayLike, outputs: ArrayLike, depth: ArrayLike, copies: ArrayLike,
    dtype: Dtype,
) -> GemmTiming:  # fmt: skip
    sizes = (np.atleast_1d(np.asarray(size, dtype=np.float64)) for size in (rows, outputs, depth, copies))
    product = Product(*np.broadcast_arrays(*sizes), element_bytes=DTYPE_BYTES[dtype])
    options = [_option(device, constants, product, dtype, tile, splits) for tile in TILES for splits in SPLITS]
    totals = np.stack([option.total_s for option in options])
    choice = np.argmin(totals, axis=0)
    picked = {
        name: np.take_along_axis(np.stack([getattr(option, name) for option in options]), choice[None], 0)[0]
        for name in ("tensor_s", "l2_s", "dram_s", "launch_s", "total_s", "dram_read_bytes", "dram_write_bytes")
    }
    return GemmTiming(**picked, choice=choice.astype(np.float64))


def _option(
    device: Device, constants: Constants, product: Product, dtype: Dtype, tile: tuple[int, int], splits: int
) -> GemmTiming:
    fraction = constants.gemm_fraction if product.element_bytes >= 2 else constants.gemm_fp8_fraction
    tile_rows, tile_outputs = tile
    row_tiles, output_tiles = np.ceil(product.rows / tile_rows), np.ceil(product.outputs / tile_outputs)
    blocks = product.copies * row_tiles * output_tiles * splits
    depth = np.ceil(product.depth / splits / 64) * 64
    rate = device.flop_per_clock_sm(dtype) * fraction * device.clock_hz
    block_s = 2.0 * max(tile_rows, 64) * tile_outputs * depth / rate
    loaded = (tile_rows + tile_outputs) * depth * product.element_bytes
    sm_l2_bytes_per_s = 64.0 * device.clock_hz  # assumed: one sector pair a clock and SM
    block_s = np.maximum(block_s, loaded / sm_l2_bytes_per_s)
    waves = np.ceil(blocks / device.sms)
    partial = product.rows * product.outputs * product.copies * PARTIAL_BYTES * (splits if splits > 1 else 0)
    l2_bytes = blocks * loaded + 2 * partial
    l2_s = l2_bytes / (constants.l2_fraction * device.l2_ceiling_bytes_per_s)
    reads, writes = _dram_bytes(device, product, tile_rows, tile_outputs)
    dram_s = (reads + writes) / (constants.dram_fraction * device.dram_ceiling_bytes_per_s)
    schedule_s = waves * block_s + constants.block_latency_s * (1 + (waves - 1) * 0.5)
    memory_s = np.maximum(l2_s, dram_s)
    kernels = 2 if splits > 1 else 1
    launch_s = np.full_like(block_s, kernels * (device.launch_s + constants.kernel_latency_s))
    total_s = launch_s + schedule_s + memory_s - constants.memory_overlap * np.minimum(schedule_s, memory_s)
    tensor_s = blocks * block_s / device.sms
    return GemmTiming(tensor_s, l2_s, dram_s, launch_s, total_s, reads, writes, np.zeros_like(total_s))


def _dram_bytes(device: Device, product: Product, tile_rows: int, tile_outputs: int) -> tuple[Reals, Reals]:
    """Each operand once; rows again for every wave of outputs that L2 does not hold."""
    rows_bytes = product.copies * product.rows * product.depth * product.element_bytes
    weight_bytes = product.copies * product.depth * product.outputs * product.element_bytes
    writes = product.copies * product.rows * product.outputs * OUTPUT_BYTES
    kept = np.clip(2 * device.l2_bytes / (rows_bytes + writes) - 1, 0, 1)
    side = np.sqrt(device.sms * tile_rows * tile_outputs)  # a wave covers about a square of outputs
    again = np.clip(1 - device.l2_bytes / np.minimum(rows_bytes, weight_bytes), 0, 1)
    sweeps = np.ceil(np.maximum(product.outputs, 1) / side) - 1
    repeated = again * sweeps * np.minimum(rows_bytes, weight_bytes) * 0.5
    return rows_bytes * (1 - kept) + weight_bytes + repeated, writes * (1 - kept)
