"""What one key tile takes of an SM: products, exponentials, instructions, shared memory, and what overlaps.

A case is one kernel on one device with many shapes. Every number comes from instruction counts, sizes and rates, and
from the constants of `calibration`. FlashAttention-3 (arXiv 2407.08608), section 3; FA4 (2603.05451).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from cascadesim.accelerators.gpu.attention import compiled
from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.accelerators.gpu.grid import (
    BlockTiles,
    Reals,
    Shape,
    ThreadBlocks,
    column_parts,
    shrunk,
    tiles_of,
    work_of,
)
from cascadesim.accelerators.gpu.kernel import Kernel
from cascadesim.accelerators.gpu.memory import L2_LATENCY_S, LANES, WARP
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Dtype, Generation

FP32_PER_SCORE = 2.0  # of the instructions: the scaled difference and the sum, on lanes that A100 has 64 of, not 128
EMULATION_INSTRUCTIONS = 8.0  # FA4, section on software exp2: range reduction, degree-3 polynomial, exponent bits
MMA_SYNC_ON_HOPPER = 2 / 3  # of the tensor peak (FA3 paper)
MMA_SYNC_ON_BLACKWELL = 0.33  # assumed: as much an SM as on Hopper, of twice the peak; any from a quarter suits rows
ROWS_PER_READ = {"mma_sync": 32, "wgmma": 64, "tcgen05": 128}  # rows that one reading of keys or values serves
MASK_INSTRUCTIONS = 2.0  # a comparison and a select
WINDOW_INSTRUCTIONS = 10.0  # assumed: comparisons with both ends, spills among them; 8 to 12 suit calibration rows
ROWS_OF_A_WARP = 16  # at least: PTX ISA, mma.m16n8k16
CONSUMER_REGISTERS = 240  # of a thread in two consumer groups: FA3, hopper/flash_fwd_kernel_sm90.h
Cycles: TypeAlias = tuple[Reals, Reals, Reals, Reals]  # of one SM: products, exponentials, instructions, shared memory


@dataclass(frozen=True)
class AttentionCase:
    """One kernel on one device, with many shapes."""

    device: Device
    kernel: Kernel
    constants: Constants
    shape: Shape
    dtype: Dtype
    kv_dtype: Dtype
    tiles: BlockTiles
    work: ThreadBlocks
    cold_keys: bool = False  # keys and values are not in L2 when the kernel starts

    @property
    def value_dim(self) -> Reals:
        """Of one block. Padded like the head dimension where it is as large."""
        padded = np.where(self.shape.value_dim == self.shape.head_dim, self.tiles.head_dim, self.shape.value_dim)
        return np.asarray(padded / column_parts(self.kernel, self.shape), dtype=np.float64)

    @property
    def instructions_per_score(self) -> float:
        """Its own where they were counted, else those of its kind."""
        known, specialised = self.constants, self.kernel.overlap == "specialised"
        kind = known.instructions_specialised if specialised else known.instructions_plain
        return self.kernel.instructions_per_score or kind

    @property
    def hidden(self) -> Reals:
        """The share of the shorter of products and softmax that runs unseen."""
        specialised = self.constants.overlap_specialised * (self.kernel.overlap == "specialised")
        counted = self.tiles.loop.known  # by other blocks alone, see `waiting_cycles`
        return np.asarray(np.where(counted, 1.0, self.tiles.overlapped * specialised))


def case_of(
    device: Device, kernel: Kernel, constants: Constants, shape: Shape, dtype: Dtype, kv_dtype: Dtype,
    cold_keys: bool = False,
) -> AttentionCase:  # fmt: skip
    if kernel.multiplies_in_cache_type:
        dtype = min(dtype, kv_dtype, key=DTYPE_BYTES.__getitem__)
    counted = any(tile.loop for tile in kernel.tiles)
    loaded = kv_dtype if kernel.converts_cache or counted else dtype
    tiles = shrunk(kernel, shape, tiles_of(kernel, device, shape, DTYPE_BYTES[loaded]))
    work = work_of(kernel, device, shape, tiles)
    return AttentionCase(device, kernel, constants, shape, dtype, kv_dtype, tiles, work, cold_keys)


def tile_cycles(case: AttentionCase) -> Cycles:
    """Cycles of one SM for one tile: products, exponentials, instructions issued, shared memory; each (shapes) float64.

    Shared memory: keys and values are written once and read by every group of rows, queries are read.
    """
    device, tiles, constants, kernel = case.device, case.tiles, case.constants, case.kernel
    scores, width = tiles.queries * tiles.keys, DTYPE_BYTES[case.dtype]
    depth = tiles.head_dim + case.value_dim
    reached = legacy_rate(kernel.instructions, device.generation)
    rate = device.flop_per_clock_sm(case.dtype) * constants.tensor_fraction * reached
    slowed = 1 + _beyond_registers(case) * (1 / constants.spilled_rate - 1)
    tensor = 2.0 * scores * (tiles.head_dim + case.value_dim * slowed) / rate
    by_unit = scores * (1 - tiles.emulated)
    special = by_unit / (device.sm.special_per_clock * constants.special_fraction)
    per_score = case.instructions_per_score + 1 + mask_instructions(case) + tiles.emulated * EMULATION_INSTRUCTIONS
    sums = 2 if kernel.adds_apart and width < 2 else 1  # the running output, once a tile, and those of the tile
    rescale = tiles.queries * case.value_dim * sums
    narrow = DTYPE_BYTES[case.kv_dtype] < width
    one_by_one = depth * (kernel.converts_cache and narrow)
    converted = (kernel.converting_instructions or constants.conversion_instructions) * one_by_one
    if kernel.merges_warps:  # warps that divide the rows convert all keys, each for its own
        converted = converted * np.clip(tiles.queries / ROWS_OF_A_WARP, 1, kernel.threads / WARP)
    on_lanes = constants.element_instructions * depth * kernel.on_fp32_units
    issued = (scores * per_score + rescale + tiles.keys * (converted + on_lanes)) / LANES
    issue = np.maximum(issued, (scores * FP32_PER_SCORE + rescale) / device.sm.fp32_fma_per_clock)
    groups = np.ceil(tiles.queries / np.minimum(tiles.queries, _rows_per_read(case)))
    reads = groups * tiles.keys * depth + tiles.queries * tiles.head_dim
    shared_bytes = np.asarray((reads + tiles.keys * depth) * width, dtype=np.float64)
    cost = 1.0 if case.shape.listed is None else case.shape.listed.cost
    shared = cost * shared_bytes / device.sm.shared_memory_bytes_per_clock
    found = tensor * cost, special * cost, issue * cost, shared
    return compiled_cycles(case, found) if tiles.loop.known.any() else found


def _rows_per_read(case: AttentionCase) -> Reals | float:
    """Rows that one reading of keys or values serves: with mma.sync those of a warp, which reads for itself."""
    kernel, most = case.kernel, ROWS_PER_READ[case.kernel.instructions]
    if kernel.instructions != "mma_sync" or kernel.warps_divide_keys:
        return most
    return np.asarray(np.clip(case.tiles.queries * WARP / kernel.threads, ROWS_OF_A_WARP, most), dtype=np.float64)


def compiled_cycles(case: AttentionCase, by_score: Cycles) -> Cycles:
    """Those of a loop whose instructions were counted, exponentials among them; `by_score` where they were not."""
    device, tiles, generation = case.device, case.tiles, case.device.generation
    scores, width = tiles.queries * tiles.keys, DTYPE_BYTES[case.dtype]
    on_mma_sync = compiled.on_mma_sync(device, tiles)
    # mma.sync of Hopper and Blackwell takes no 8-bit floats: they are converted (PTX ISA)
    peak = np.where(on_mma_sync, device.flop_per_clock_sm("bf16"), device.flop_per_clock_sm(case.dtype))
    reached = np.where(on_mma_sync, legacy_rate("mma_sync", generation),
                       compiled.with_few_rows(device, tiles))  # fmt: skip
    columns = tiles.head_dim * compiled.score_copies(device, tiles) + case.value_dim
    tensor = 2.0 * scores * columns / (peak * case.constants.tensor_fraction * reached)
    issue = compiled.issue_cycles(tiles.loop)
    read = compiled.elements_read(tiles, case.value_dim) + tiles.keys * (tiles.head_dim + case.value_dim)
    shared = np.where(on_mma_sync | (generation not in ("hopper", "blackwell")), read * width, 0.0)
    shared = shared / device.sm.shared_memory_bytes_per_clock
    shared = shared + compiled.transposed_cycles(device, tiles, case.value_dim, width)
    own, known = (tensor, 0 * tensor, issue, shared), tiles.loop.known
    return tuple(np.where(known, one, other) for one, other in zip(own, by_score, strict=True))  # type: ignore[return-value]


def _beyond_registers(case: AttentionCase) -> Reals:
    """Share of the tiles whose products with values find two sums where registers hold one.

    vllm-project/flash-attention#104, hopper/utils.h: the sums so far wait while those of an 8-bit tile are made, unless
    it is the first, which begins at zero. Two of 64 rows in 128 threads are as many as a value has elements.
    """
    two = case.kernel.adds_apart & (DTYPE_BYTES[case.dtype] < 2) & (case.value_dim > CONSUMER_REGISTERS)
    return np.asarray(np.maximum(1 - case.work.blocks / case.work.visited, 0) * two, dtype=np.float64)


def legacy_rate(instructions: str, generation: Generation) -> float:
    """Share of the tensor peak that a kind of instruction reaches on devices that have newer ones."""
    newer = {"hopper": MMA_SYNC_ON_HOPPER, "blackwell": MMA_SYNC_ON_BLACKWELL}
    return newer.get(generation, 1.0) if instructions == "mma_sync" else 1.0


def mask_instructions(case: AttentionCase) -> Reals:
    """Instructions a score for the mask, on average over all tiles: those that no mask cuts have none."""
    windowed = (case.shape.window > 0) & (case.shape.window < case.shape.keys)  # others take the causal kernel
    in_a_cut_tile = MASK_INSTRUCTIONS + WINDOW_INSTRUCTIONS * (case.kernel.compares_ends & windowed)
    return np.asarray(in_a_cut_tile * case.work.masked / case.work.visited)


def iteration_cycles(case: AttentionCase, tensor: Reals, special: Reals, issue: Reals, shared: Reals) -> Reals:
    """One key tile of one block on an SM of its own (or its share of blocks that run together)."""
    products, softmax = np.maximum(tensor, shared), np.maximum(special, issue)
    return np.maximum(products + softmax - case.hidden * np.minimum(products, softmax), producer_cycles(case))


def producer_cycles(case: AttentionCase) -> Reals:
    """Of warps that load a key tile and transpose its 8-bit values, while others multiply the tile before.

    hopper/mainloop_fwd_sm90_tma_gmma_ws.hpp: the same warps, in order; hopper/paged_kv.h: they look up the pages first.
    """
    transposes = case.kernel.transposes_values and DTYPE_BYTES[case.dtype] < 2
    issued = case.constants.conversion_instructions * case.tiles.keys * case.value_dim / LANES
    return np.asarray((L2_LATENCY_S * case.device.clock_hz + issued) * transposes, dtype=np.float64)
