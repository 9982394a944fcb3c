"""What serving libraries run before attention: kernels that rotate, convert and put new keys and values into a cache.

Each is bound by what its threads wait for (Little's law: a step of all that an SM holds takes as many trips as its
loads hang on one another), by the lines that its warps ask the first cache for, or by memory. Knows sizes; knows no
cascade and nothing of attention.
"""

from __future__ import annotations

import numpy as np

from cascadesim.accelerators.gpu.grid import Reals
from cascadesim.accelerators.gpu.memory import (
    DRAM_LATENCY_S,
    L2_LATENCY_S,
    MOST_BLOCKS_PER_SM,
    WARP,
    share_in_l2,
    threads_of_sm,
)
from cascadesim.accelerators.gpu.spec import Device

VECTOR_BYTES = 16  # what a thread loads at once
ROTATING_THREADS = 1024  # an SM: unfusedAttentionKernels_2_template.h, what the grid is chosen for
# the same: of a warp, eight loads of cosine and sine that its 256 elements spread over 1,024 bytes, then the query, its
# other half, the key, its other half and the value, and the query that is written; a line is 128 bytes
ROTATING_LINES = 8 * 8 + 6 * 4
ROTATING_S = 2 * L2_LATENCY_S + DRAM_LATENCY_S  # the place of a token, the lengths of its sequence, then its row
CONVERTING_THREADS, CONVERTED_HEADS, CONVERTED_COLUMNS = 128, 8, 128  # SGLang, trtllm_fp8_kv_kernel.py
# page.cuh, AppendPagedKVCacheKernel: the sequence of a token, where its pages begin, its page, its row
APPENDING_S = 2 * L2_LATENCY_S + 2 * DRAM_LATENCY_S


def rotated_seconds(device: Device, tokens: Reals, heads: Reals, head_dim: Reals, moved_bytes: Reals) -> Reals:
    """TensorRT-LLM: a thread rotates a vector of a query, and that of the key beside it, whoever else has the key.

    unfusedAttentionKernels_2_template.h, applyBiasRopeUpdateKVCacheV2.
    """
    vectors = tokens * heads * np.ceil(head_dim * 2 / VECTOR_BYTES) / device.sms
    lines_s = vectors / WARP * ROTATING_LINES / device.clock_hz
    waited_s = np.maximum(vectors / ROTATING_THREADS, 1) * ROTATING_S
    return np.asarray(device.launch_s + np.maximum(lines_s + waited_s, _dram_s(device, moved_bytes)))


def appended_seconds(device: Device, tokens: Reals, heads_kv: Reals, head_dim: Reals, moved_bytes: Reals) -> Reals:
    """FlashInfer: blocks of a thread for each vector of a token, as many as SMs hold, walk over the tokens."""
    vector = np.maximum(VECTOR_BYTES / 2, head_dim / WARP)
    threads = np.maximum(head_dim / vector * heads_kv, WARP)
    resident = device.sms * np.minimum(threads_of_sm(device) // threads, MOST_BLOCKS_PER_SM)
    waited_s = np.maximum(tokens / resident, 1) * APPENDING_S
    return np.asarray(device.launch_s + np.maximum(waited_s, _dram_s(device, moved_bytes)))


def converted_seconds(device: Device, tokens: Reals, heads_kv: Reals, head_dim: Reals, moved_bytes: Reals) -> Reals:
    """SGLang: a block for eight heads of the key, or of the value, of a token, which converts 128 columns at a time.

    It loads the token's place first and ends with its last store.
    """
    blocks = tokens * 2 * np.ceil(heads_kv / CONVERTED_HEADS)
    resident = device.sms * min(threads_of_sm(device) // CONVERTING_THREADS, MOST_BLOCKS_PER_SM)
    trips = 1 + np.ceil(head_dim / CONVERTED_COLUMNS)
    waited_s = np.maximum(blocks / resident, 1) * trips * DRAM_LATENCY_S
    return np.asarray(device.launch_s + np.maximum(waited_s, _dram_s(device, moved_bytes)))


def _dram_s(device: Device, moved_bytes: Reals) -> Reals:
    missed = 1 - share_in_l2(device.l2_kept_bytes, moved_bytes)
    return np.asarray(moved_bytes * missed / device.dram_ceiling_bytes_per_s, dtype=np.float64)
