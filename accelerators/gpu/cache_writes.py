"""What serving libraries run beside attention.

Kernels that rotate, convert and put new keys and values into a cache, and those that combine the parts of split keys.
Each is bound by what its threads wait for (Little's law: a step of all that SMs hold takes as long as the loads that
hang on one another), by lines that warps ask the first cache for, by instructions, or by memory. Knows sizes; knows no
cascade, and of attention only parts and rows.
"""

from __future__ import annotations

import numpy as np

from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.accelerators.gpu.gemm import L2_PORT_BYTES_PER_CLOCK
from cascadesim.accelerators.gpu.grid import Reals, Shape, ThreadBlocks
from cascadesim.accelerators.gpu.kernel import Kernel
from cascadesim.accelerators.gpu.memory import (
    DRAM_LATENCY_S,
    FLOAT_BYTES,
    L2_LATENCY_S,
    LANES,
    MOST_BLOCKS_PER_SM,
    VECTOR_BYTES,
    WARP,
    share_in_l2,
    small_kernel_s,
    stream_seconds,
    threads_of_sm,
)
from cascadesim.accelerators.gpu.spec import Device

ROTATING_THREADS = 1024  # an SM: TensorRT-LLM, unfusedAttentionKernels_2_template.h: what the grid is chosen for
# the same, lines of 128 bytes that a warp asks for: eight loads of angles, whose 256 elements lie in eight lines each
# time; four for 32 vectors of the query, its other half, the key, its other half, the value, and the query written
ROTATING_LINES = 8 * 8 + 6 * 4
PASSING_LINES = 4 * 4  # without rotation and a cache: the query and the key, read and written as they are
ROTATING_S = 2 * L2_LATENCY_S + DRAM_LATENCY_S  # the same: the place of a token, the lengths of its sequence, its rows
# FlashInfer, page.cuh: the sequence of a token, where its pages begin, its page, its rows
APPENDING_S = 2 * L2_LATENCY_S + 2 * DRAM_LATENCY_S
COPYING_THREADS = 128  # a block: Triton's four warps
CONVERTED_HEADS, COLUMNS = 8, 128  # a block: SGLang, trtllm_fp8_kv_kernel.py; mem_cache/utils.py
CASTING_INSTRUCTIONS = 24  # an element: PyTorch, Float8_e4m3fn.h, counted: both ends of its range, rounding, packing


def rotated_seconds(
    device: Device, tokens: Reals, heads: Reals, head_dim: Reals, moved_bytes: Reals, lines: int = ROTATING_LINES
) -> Reals:
    """TensorRT-LLM: a thread rotates a vector of a query, and that of its key, however many queries have the key.

    unfusedAttentionKernels_2_template.h, applyBiasRopeUpdateKVCacheV2. A barrier in each step keeps the warps of a
    block together, so that waiting for loads and taking their lines add up.
    """
    vectors = tokens * heads * np.ceil(head_dim * 2 / VECTOR_BYTES) / device.sms
    lines_s = vectors / WARP * lines / device.clock_hz
    waited_s = np.maximum(vectors / ROTATING_THREADS, 1) * ROTATING_S
    return np.asarray(device.launch_s + np.maximum(lines_s + waited_s, _dram_s(device, moved_bytes)))


def appended_seconds(device: Device, tokens: Reals, heads_kv: Reals, head_dim: Reals, moved_bytes: Reals) -> Reals:
    """FlashInfer: blocks of a thread for each vector of a token, as many as SMs hold, walk over the tokens."""
    vector = np.maximum(VECTOR_BYTES / 2, head_dim / WARP)
    threads = np.maximum(np.ceil(head_dim / vector) * heads_kv, WARP)
    held = np.clip(threads_of_sm(device) // threads, 1, MOST_BLOCKS_PER_SM)
    waited_s = np.maximum(tokens / (device.sms * held), 1) * APPENDING_S
    return np.asarray(device.launch_s + np.maximum(waited_s, _dram_s(device, moved_bytes)))


def converted_seconds(device: Device, tokens: Reals, heads_kv: Reals, head_dim: Reals, moved_bytes: Reals) -> Reals:
    """SGLang: a block for eight heads of the key, or of the value, of a token, which converts 128 columns at a time."""
    blocks = tokens * 2 * np.ceil(heads_kv / CONVERTED_HEADS)
    return _by_blocks_s(device, blocks, 1 + np.ceil(head_dim / COLUMNS), moved_bytes)


def latent_stored_seconds(device: Device, tokens: Reals, width: Reals, moved_bytes: Reals) -> Reals:
    """SGLang: a block for 128 elements of the latent key of a token (set_mla_kv_buffer_triton)."""
    return _by_blocks_s(device, tokens * np.ceil(width / COLUMNS), 2.0 + 0 * tokens, moved_bytes)


def _by_blocks_s(device: Device, blocks: Reals, trips: Reals, moved_bytes: Reals) -> Reals:
    """Blocks that load the token's place first; `trips`: loads that hang on one another."""
    held = device.sms * min(threads_of_sm(device) // COPYING_THREADS, MOST_BLOCKS_PER_SM)
    waited_s = np.maximum(blocks / held, 1) * trips * DRAM_LATENCY_S
    return np.asarray(device.launch_s + np.maximum(waited_s, _dram_s(device, moved_bytes)))


def cast_seconds(device: Device, constants: Constants, elements: Reals) -> Reals:
    """PyTorch's kernel that turns 16-bit numbers into fp8, by integer instructions."""
    issue_s = elements * CASTING_INSTRUCTIONS / (device.sms * LANES * device.clock_hz)
    return np.maximum(stream_seconds(device, constants, 2 * elements, elements), small_kernel_s(device) + issue_s)


def extra_kernels_s(
    device: Device, kernel: Kernel, constants: Constants, shape: Shape, work: ThreadBlocks, value_dim: Reals
) -> Reals:
    """Seconds of all of them; the one that combines parts runs only where there are any, unless it always does."""
    each = small_kernel_s(device)
    if not kernel.splits_keys:
        return np.full(len(work.splits), each * kernel.extra_kernels)
    split = work.splits > (0 if kernel.always_combines else 1)
    combined = np.where(split, max(kernel.extra_kernels, 1), 0)
    if kernel.combines_afterwards:
        each += constants.kernel_latency_s
    parts_bytes = np.where(split, work.splits, 0) * value_dim * FLOAT_BYTES  # of one row, by one block
    one_row_s = parts_bytes / L2_PORT_BYTES_PER_CLOCK / device.clock_hz
    if kernel.always_combines:
        return np.asarray(device.launch_s + one_row_s + _row_by_row_s(device, kernel, shape, work), dtype=np.float64)
    # the last block finds that it is the last one, and loads the parts
    itself = split & (shape.queries * shape.group <= kernel.sums_itself)
    return np.asarray(np.where(itself, 2 * L2_LATENCY_S, each * combined) + one_row_s, dtype=np.float64)


def _row_by_row_s(device: Device, kernel: Kernel, shape: Shape, work: ThreadBlocks) -> Reals:
    """Of kernels that launch in every call as many parts as they have at most, and combine them.

    Blocks without a part look up how many there are and end. SGLang, decode_attention.py, _fwd_kernel_stage2: a block
    has one row, looks up how many parts that has, and loads one part after the other; all of it was written just
    before, and is in L2.
    """
    resident = device.sms * (threads_of_sm(device) // kernel.threads)
    empty = work.blocks / work.splits * (kernel.most_splits - work.splits)
    rows = shape.batch * shape.heads * shape.queries
    in_turn = np.maximum(rows / resident, 1) * (1 + work.splits)
    return np.asarray((empty / resident + in_turn) * L2_LATENCY_S, dtype=np.float64)


def _dram_s(device: Device, moved_bytes: Reals) -> Reals:
    missed = 1 - share_in_l2(device.l2_kept_bytes, moved_bytes)
    return np.asarray(moved_bytes * missed / device.dram_ceiling_bytes_per_s, dtype=np.float64)
