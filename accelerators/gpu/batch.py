"""Seconds of attention, products and element-wise work on a GPU, for arrays of shapes at once.

Plans call the same functions with arrays of one. `before` says what a library runs ahead of attention and its
measurements include (new keys and values go into the cache by index, as they lie, or token by token), `launches` how
many small kernels besides; `constants` overrides the calibrated ones (for calibrating them).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from cascadesim.accelerators.gpu import calibration
from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.accelerators.gpu.cache_writes import appended_seconds, converted_seconds, rotated_seconds
from cascadesim.accelerators.gpu.gemm import GemmLibrary, InL2, gemm_timing
from cascadesim.accelerators.gpu.grid import Reals, shape
from cascadesim.accelerators.gpu.kernel import Kernel
from cascadesim.accelerators.gpu.memory import (
    WalkedRows,
    copy_seconds,
    share_in_l2,
    small_kernel_s,
    stream_seconds,
    token_copy_seconds,
    waiting_s,
)
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Dtype
from cascadesim.accelerators.gpu.timing import attention_timing, case_of

MANY_ROWS = 16  # an SM: sgl-kernel, per_token_quant_fp8.cu, twice the eight rows of a block
Before: TypeAlias = Literal[
    "nothing", "cache_write", "cache_stored", "cache_by_token", "cache_appended", "cache_converted", "rotation",
    "rope_and_cache_write",
]


def attention_seconds(
    device: Device, kernel: Kernel, *, batch: ArrayLike, heads: ArrayLike, heads_kv: ArrayLike, queries: ArrayLike,
    keys: ArrayLike, head_dim: ArrayLike, value_dim: ArrayLike | None = None, causal: ArrayLike = False,
    window: ArrayLike = 0, dtype: Dtype = "bf16", kv_dtype: Dtype | None = None, before: Before = "nothing",
    launches: int = 0, cold: bool = False, constants: Constants | None = None,
) -> Reals:  # fmt: skip
    """Seconds of every shape, (shapes) float64; decode where `queries` is 1, prefill elsewhere.

    `window`: 0 for none. `cold`: keys and values are not in L2, as other layers ran since they were used.
    """
    asked = shape(batch, heads, heads_kv, queries, keys, head_dim, value_dim, causal, window)
    known, cached = constants or calibration.constants(device.generation), kv_dtype or dtype
    seconds = attention_timing(case_of(device, kernel, known, asked, dtype, cached, cold)).total_s
    if before != "nothing":  # new keys and values go into the cache; to rotate, queries are read and written, too
        tokens = (asked.batch * asked.queries).astype(np.float64)
        new = tokens * asked.heads_kv * asked.key_elements
        rotated = tokens * asked.heads * asked.head_dim if before == "rope_and_cache_write" else 0.0 * tokens
        read, written = 2 * (new + rotated), new * DTYPE_BYTES[cached] + rotated * DTYPE_BYTES[dtype]
        sizes = (device, tokens, asked.heads_kv.astype(np.float64), asked.head_dim.astype(np.float64))
        if before == "rotation":
            turned = tokens * asked.heads * asked.head_dim * (2 + DTYPE_BYTES[dtype])
            seconds = seconds + rotated_seconds(device, tokens, asked.heads, asked.head_dim, read + written + turned)
        elif before == "cache_appended":
            seconds = seconds + appended_seconds(*sizes, read + written)
        elif before == "cache_converted":
            seconds = seconds + converted_seconds(*sizes, read + written)
            cast = tokens * asked.heads * asked.head_dim
            lanes_s = 30.0 * cast / (device.sms * 128 * device.clock_hz)
            seconds = seconds + np.maximum(stream_seconds(device, known, 2 * cast, cast), small_kernel_s(device) + lanes_s)
        elif before == "cache_by_token":
            elements = (asked.heads_kv * asked.head_dim).astype(np.float64)
            seconds = seconds + token_copy_seconds(device, tokens, elements, read + written)
        else:
            moving = stream_seconds if before == "cache_stored" else copy_seconds
            seconds = seconds + moving(device, known, read, written)
    return seconds + launches * small_kernel_s(device)


def mla_seconds(
    device: Device, kernel: Kernel, *, batch: ArrayLike, heads: ArrayLike, queries: ArrayLike, keys: ArrayLike,
    absorbed: bool, dtype: Dtype = "bf16", kv_dtype: Dtype | None = None, launches: int = 0,
    constants: Constants | None = None,
) -> Reals:  # fmt: skip
    """DeepSeek's latent attention: absorbed (one latent key of 576, value 512), or unfolded, causal (192 and 128)."""
    known = constants or calibration.constants(device.generation)
    cached = kv_dtype or dtype
    latent = absorbed or kernel.absorbed
    if latent:
        asked = shape(batch, heads, 1, queries, keys, 576, 512, not absorbed, shared_key_value=True)
    else:
        asked = shape(batch, heads, heads, queries, keys, 192, 128, True)
    seconds = attention_timing(case_of(device, kernel, known, asked, dtype, cached)).total_s
    rows, width = (asked.batch * asked.heads * asked.queries).astype(np.float64), DTYPE_BYTES[dtype]
    if not latent and cached == dtype:  # keys are put together of two parts
        moved = rows * asked.head_dim * width
        seconds = seconds + stream_seconds(device, known, moved, moved)
    elif not latent:  # queries, keys and values are converted for an 8-bit product
        elements = rows * (2 * asked.head_dim + asked.value_dim)
        seconds = seconds + copy_seconds(device, known, elements * width, elements * DTYPE_BYTES[cached])
    return seconds + launches * small_kernel_s(device)


def gemm_seconds(
    device: Device, *, rows: ArrayLike, outputs: ArrayLike, depth: ArrayLike, copies: ArrayLike = 1,
    dtype: Dtype = "bf16", library: GemmLibrary = "best", quantises: int = 0, launches: int = 0,
    in_l2: InL2 | None = None, constants: Constants | None = None,
) -> Reals:  # fmt: skip
    """Z[rows,outputs] = A[rows,depth] W[depth,outputs], `copies` of them with weights of their own.

    `quantises`: kernels that turn 16-bit rows into `dtype` first: 1 for scales per row, 2 for one scale of all, whose
    first kernel finds the largest element. `launches`: further small kernels of the call. `in_l2`: what L2 has of the
    operands when the call starts; None: its rows as they fit.
    """
    known = constants or calibration.constants(device.generation)
    elements = np.asarray(rows, dtype=np.float64) * np.asarray(depth, dtype=np.float64)
    elements = elements * np.asarray(copies, dtype=np.float64)
    written, multiplied = DTYPE_BYTES[dtype] * elements, in_l2
    if in_l2 is not None and quantises:  # 8-bit rows were written just before
        multiplied = replace(in_l2, rows=share_in_l2(device.l2_bytes, 2 * elements + written))
    product_s = gemm_timing(device, known, rows, outputs, depth, copies, dtype, library, in_l2=multiplied).total_s
    total = product_s + launches * small_kernel_s(device)
    if not quantises:
        return total
    warm = True if in_l2 is None else in_l2.rows
    again = _quantised(device, rows, depth, DTYPE_BYTES[dtype]).again_bytes(device) if quantises == 1 else 0.0
    casts = stream_seconds(device, known, 2 * elements + again, written, warm)
    return total + casts + (quantises - 1) * stream_seconds(device, known, 2 * elements, 0 * written, warm)


def _quantised(device: Device, rows: ArrayLike, depth: ArrayLike, element_bytes: float) -> WalkedRows:
    """Rows of a kernel that finds the largest element of each, and divides by it.

    sgl-kernel, csrc/gemm/per_token_quant_fp8.cu: a warp has a row where there are many, else a block of 256.
    """
    first, second = np.broadcast_arrays(*(np.atleast_1d(np.asarray(size, dtype=np.float64)) for size in (rows, depth)))
    threads = np.where(first >= MANY_ROWS * device.sms, 32.0, 256.0)
    return WalkedRows(first, 2 * second, element_bytes * second, np.full_like(first, 2.0), threads)


def elementwise_seconds(
    device: Device, *, read_bytes: ArrayLike, write_bytes: ArrayLike, warm: bool = True, scalar_passes: int = 0,
    walked: WalkedRows | None = None, constants: Constants | None = None,
) -> Reals:  # fmt: skip
    """`walked`: rows that are walked over several times.

    `scalar_passes`: how often a kernel reads its rows, where its threads load 16-bit elements one at a time; 0: it
    loads vectors.
    """
    known = constants or calibration.constants(device.generation)
    again = 0.0 if walked is None else walked.again_bytes(device)
    streamed = stream_seconds(device, known, np.asarray(read_bytes) + again, write_bytes, warm)
    if not scalar_passes:
        return streamed
    return np.maximum(streamed, small_kernel_s(device) + waiting_s(device, read_bytes, 2, scalar_passes))
