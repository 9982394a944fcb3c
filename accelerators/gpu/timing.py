"""How long attention takes: key tiles of thread blocks over SMs, memory beside them, launches.

Closed form over arrays of shapes; one shape is an array of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascadesim.accelerators.gpu.gemm import L2_PORT_BYTES_PER_CLOCK
from cascadesim.accelerators.gpu.grid import BooleanArray, Reals
from cascadesim.accelerators.gpu.makespan import makespan_cycles
from cascadesim.accelerators.gpu.memory import (
    FLOAT_BYTES,
    L2_LATENCY_S,
    ROUND_TRIP_S,
    Movement,
    dram_seconds,
    dram_share,
    movement,
    small_kernel_s,
    threads_of_sm,
)
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES
from cascadesim.accelerators.gpu.tile import AttentionCase, Cycles, iteration_cycles, tile_cycles

# assumed: kernels that split keys, or load by TMA, load far ahead, so that the norm of memory and schedule is of twice
# the order; 2.5 to 4 suit calibration rows, the longer of the two does not
AHEAD = 2.0


@dataclass(frozen=True)
class AttentionTiming:
    """Seconds. Units alone, over the whole device and all blocks; then what the schedule makes of them."""

    tensor_s: Reals
    special_s: Reals
    issue_s: Reals
    shared_memory_s: Reals
    l2_s: Reals
    dram_s: Reals
    schedule_s: Reals  # thread blocks over the SMs, memory as fast as wanted
    launch_s: Reals
    total_s: Reals
    movement: Movement


def attention_timing(case: AttentionCase, loops: Sequence[Cycles] = ()) -> AttentionTiming:
    """`loops`: cycles of a key tile in each loop over the keys, of kernels whose instructions were counted."""
    device, work, constants = case.device, case.work, case.constants
    each = tuple(loops) or (tile_cycles(case),)
    per_tile = (np.sum(unit, axis=0) for unit in zip(*each, strict=True))
    tensor, special, issue, shared = (cycles * work.visited / device.sms / device.clock_hz for cycles in per_tile)
    iteration = np.sum([iteration_cycles(case, *loop) for loop in each], axis=0)
    moved = movement(device, case.kernel, case.shape, case.tiles, work, case.dtype, case.kv_dtype, case.cold_keys)
    l2_s = moved.l2_bytes / device.l2_ceiling_bytes_per_s  # asked for ahead, evenly: what benchmarks reach
    share = dram_share(moved.dram_read_bytes, moved.dram_write_bytes)
    dram_s = dram_seconds(device, constants, moved.dram_bytes / share)
    memory_s = np.maximum(l2_s, dram_s)
    schedule_s = makespan_cycles(case, iteration) / device.clock_hz
    launch_s = np.full_like(tensor, device.launch_s + constants.kernel_latency_s) + _extra_kernels_s(case)
    softmax_s = _softmax_s(case)
    beside_s = memory_s - softmax_s
    longer, shorter = np.maximum(schedule_s, beside_s), np.minimum(schedule_s, beside_s)
    # two that run at once disturb each other most where they are equal: a norm between the sum and the longer one
    order = np.where(loads_ahead(case), AHEAD, 1.0) / (1 - min(constants.memory_overlap, 0.99))
    both = longer * (1 + (shorter / longer) ** order) ** (1 / order)
    total_s = launch_s + both + softmax_s
    total_s = np.where(case.tiles.supported, total_s, np.nan)
    return AttentionTiming(tensor, special, issue, shared, l2_s, dram_s, schedule_s, launch_s, total_s, moved)


def _softmax_s(case: AttentionCase) -> Reals:
    """DRAM's time for what a softmax of its own reads and writes, where scores are stored: nothing is multiplied."""
    asked, peak = case.shape, case.constants.dram_fraction * case.device.dram_ceiling_bytes_per_s
    pairs = (asked.batch * asked.heads * asked.queries * asked.keys).astype(np.float64)
    moved = pairs * DTYPE_BYTES[case.dtype] * case.kernel.stores_scores  # read, and written
    return np.asarray(2 * moved / (peak * dram_share(moved, moved)), dtype=np.float64)


def loads_ahead(case: AttentionCase) -> BooleanArray:
    """A latent tile is keys and values at once and stays until multiplied twice: shared memory must hold two."""
    tile_bytes = case.tiles.keys * case.shape.head_dim * DTYPE_BYTES[case.kv_dtype]
    held = (2 * tile_bytes <= case.device.sm.shared_memory_bytes) | (not case.shape.shared_key_value)
    ahead = case.kernel.loads_ahead or (case.kernel.splits_keys and case.kernel.split_load is None)
    return np.asarray(held & ahead | case.tiles.loop.known)


def _extra_kernels_s(case: AttentionCase) -> Reals:
    """Kernels beside it; the one that combines splits runs only where there are any."""
    each = small_kernel_s(case.device)
    if not case.kernel.splits_keys:
        return np.full(len(case.work.splits), each * case.kernel.extra_kernels)
    split = case.work.splits > (0 if case.kernel.always_combines else 1)
    combined = np.where(split, max(case.kernel.extra_kernels, 1), 0)
    if case.kernel.combines_afterwards:
        each += case.constants.kernel_latency_s
    parts_bytes = np.where(split, case.work.splits, 0) * case.value_dim * FLOAT_BYTES  # of one row, by one block
    one_row_s = parts_bytes / L2_PORT_BYTES_PER_CLOCK / case.device.clock_hz
    return np.asarray(each * combined + one_row_s + _blocks_of_all_splits_s(case), dtype=np.float64)


def _blocks_of_all_splits_s(case: AttentionCase) -> Reals:
    """Of kernels that launch and combine in every call as many parts as they have at most.

    Blocks without a part look up how many there are and end; a block of the combining kernel has one row.
    """
    kernel, work, shape = case.kernel, case.work, case.shape
    if not kernel.always_combines:
        return np.zeros(len(work.splits))
    resident = case.device.sms * (threads_of_sm(case.device) // kernel.threads)
    empty = work.blocks / work.splits * (kernel.most_splits - work.splits)
    rows = shape.batch * shape.heads * shape.queries
    return np.asarray((empty * L2_LATENCY_S + rows * ROUND_TRIP_S) / resident, dtype=np.float64)
