"""Seconds of attention, products and element-wise work on a GPU, for arrays of shapes at once.

Plans call the same functions with arrays of one. `before` and `library` say what a library runs ahead of attention and
its measurements include (new keys and values go into the cache), `launches` how many small kernels besides; `constants`
overrides the calibrated ones (for calibrating them).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from cascadesim.accelerators.gpu import calibration
from cascadesim.accelerators.gpu.attention.tile import case_of
from cascadesim.accelerators.gpu.cache_writes import (
    PASSING_LINES,
    appended_seconds,
    cast_seconds,
    converted_seconds,
    latent_stored_seconds,
    rotated_seconds,
)
from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.accelerators.gpu.engines.engine import GemmLibrary
from cascadesim.accelerators.gpu.gemm import InL2, gemm_timing
from cascadesim.accelerators.gpu.grid import Reals, Shape, shape
from cascadesim.accelerators.gpu.kernel import Kernel
from cascadesim.accelerators.gpu.memory import (
    VECTOR_BYTES,
    WalkedRows,
    copy_seconds,
    share_in_l2,
    small_kernel_s,
    stream_seconds,
    token_copy_seconds,
    waiting_s,
)
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Dtype
from cascadesim.accelerators.gpu.timing import attention_timing

MANY_ROWS = 16  # an SM: sgl-kernel, per_token_quant_fp8.cu, twice the eight rows of a block
# new keys and values: SGLang's rows as they lie, or in 8 bits, with one scale of all queries that is sought first in
# prompts; vLLM's; FlashInfer's; TensorRT-LLM's, which are rotated, or passed by the same kernel where there is no
# cache; PyTorch's of all three, each by a kernel, as its batched products want the rows of a head together
Before: TypeAlias = Literal[
    "nothing", "cache_stored", "cache_converted", "cache_by_token", "cache_appended", "rotation", "passed",
    "heads_apart", "scale_sought",
]
LatentLibrary: TypeAlias = Literal["tensorrt-llm", "sglang"]


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
    return seconds + _before_s(device, known, asked, before, dtype, cached) + launches * small_kernel_s(device)


def _before_s(
    device: Device, known: Constants, asked: Shape, before: Before, dtype: Dtype, cached: Dtype
) -> Reals | float:
    if before == "nothing":
        return 0.0
    tokens, heads_kv = (asked.batch * asked.queries).astype(np.float64), asked.heads_kv.astype(np.float64)
    depth, new = asked.head_dim.astype(np.float64), tokens * heads_kv * asked.key_elements
    queries = tokens * asked.heads * asked.head_dim
    turned = queries if before == "rotation" else 0 * queries
    read, written = 2 * (new + turned), new * DTYPE_BYTES[cached] + turned * DTYPE_BYTES[dtype]
    if before == "passed":
        moved = (2 * queries + new) * DTYPE_BYTES[dtype]  # queries and keys, read and written
        return rotated_seconds(device, tokens, asked.heads.astype(np.float64), depth, moved, PASSING_LINES)
    if before == "heads_apart":
        copied = [stream_seconds(device, known, size, size) for size in (2 * queries, new, new)]  # keys: half of `new`
        return np.asarray(np.sum(copied, axis=0), dtype=np.float64)
    if before == "rotation":
        return rotated_seconds(device, tokens, asked.heads.astype(np.float64), depth, read + written)
    if before == "cache_appended":
        return appended_seconds(device, tokens, heads_kv, depth, read + written)
    if before in ("cache_converted", "scale_sought"):  # and queries are cast by a kernel of their own
        stored = converted_seconds(device, tokens, heads_kv, depth, read + written)
        sought = stream_seconds(device, known, 2 * queries, 0 * queries) if before == "scale_sought" else 0.0
        return stored + sought + cast_seconds(device, known, queries)
    if before == "cache_by_token":
        return token_copy_seconds(device, tokens, heads_kv * depth, read + written)
    return stream_seconds(device, known, new * DTYPE_BYTES[dtype], written)


def mla_seconds(
    device: Device, kernel: Kernel, *, batch: ArrayLike, heads: ArrayLike, queries: ArrayLike, keys: ArrayLike,
    absorbed: bool, dtype: Dtype = "bf16", kv_dtype: Dtype | None = None, launches: int = 0,
    library: LatentLibrary = "tensorrt-llm", constants: Constants | None = None,
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
    ahead = _before_latent_s(device, known, asked, kernel, absorbed, (dtype, cached), library)
    return seconds + ahead + launches * small_kernel_s(device)


def _before_latent_s(
    device: Device, known: Constants, asked: Shape, kernel: Kernel, absorbed: bool, types: tuple[Dtype, Dtype],
    library: LatentLibrary,
) -> Reals:  # fmt: skip
    """TensorRT-LLM puts keys together of two parts, SGLang queries, which are as many bytes; its cache is stored here.

    Where products have 8 bits: queries, keys and values of TensorRT-LLM are converted; SGLang casts queries. Where they
    have 16 beside a cache of 8, it casts what is new, and the whole cache back (flashattention_backend.py).
    """
    width, cached_width = (DTYPE_BYTES[one] for one in types)
    tokens, depth = (asked.batch * asked.queries).astype(np.float64), asked.head_dim.astype(np.float64)
    rows, latent, narrower = tokens * asked.heads, absorbed or kernel.absorbed, cached_width < width
    moved = rows * depth * width
    ahead = np.zeros_like(tokens) if latent else stream_seconds(device, known, moved, moved)
    if library == "sglang":
        ahead = ahead + latent_stored_seconds(device, tokens, depth, tokens * depth * (width + cached_width))
        if narrower and not kernel.multiplies_in_cache_type:
            ahead = ahead + cast_seconds(device, known, tokens * depth)
            ahead = ahead + cast_seconds(device, known, asked.batch * asked.keys * depth)
        return ahead + cast_seconds(device, known, rows * depth) if narrower and not latent else ahead
    if latent or not narrower:
        return ahead
    elements = rows * (2 * depth + asked.value_dim)
    return ahead + copy_seconds(device, known, elements * width, elements * cached_width)


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
        multiplied = replace(in_l2, rows=share_in_l2(device.l2_kept_bytes, 2 * elements + written))
    product_s = gemm_timing(device, known, rows, outputs, depth, copies, dtype, library, in_l2=multiplied).total_s
    total = product_s + launches * small_kernel_s(device)
    if not quantises:
        return total
    warm = True if in_l2 is None else in_l2.rows
    if quantises > 1:
        scales = stream_seconds(device, known, 2 * elements, 0 * written, warm)
        return total + scales + stream_seconds(device, known, 2 * elements, written, warm)
    walked = _quantised(device, rows, depth, DTYPE_BYTES[dtype])
    casts = stream_seconds(device, known, 2 * elements + walked.again_bytes(device), written, warm)
    return total + np.maximum(casts, small_kernel_s(device) + walked.waited_s(device, warm))


def _quantised(device: Device, rows: ArrayLike, depth: ArrayLike, element_bytes: float) -> WalkedRows:
    """Rows of a kernel that finds the largest element of each, and divides by it.

    sgl-kernel, csrc/gemm/per_token_quant_fp8.cu: a warp has a row where there are many, else a block of 256.
    """
    first, second = np.broadcast_arrays(*(np.atleast_1d(np.asarray(size, dtype=np.float64)) for size in (rows, depth)))
    threads = np.where(first >= MANY_ROWS * device.sms, 32.0, 256.0)
    return WalkedRows(first, 2 * second, element_bytes * second, np.full_like(first, 2.0), threads, 2 * VECTOR_BYTES)


def elementwise_seconds(
    device: Device, *, read_bytes: ArrayLike, write_bytes: ArrayLike, warm: bool = True, scalar_loads: int = 0,
    just_written_bytes: ArrayLike = 0.0, walked: WalkedRows | None = None, constants: Constants | None = None,
) -> Reals:  # fmt: skip
    """`walked`: rows that are walked over several times. `just_written_bytes`: of those read, by the operation before.

    `scalar_loads`: how many a kernel needs for an element, where its threads load 16-bit elements one at a time; 0: it
    loads vectors.
    """
    known = constants or calibration.constants(device.generation)
    reads, writes, new = (np.asarray(size, dtype=np.float64) for size in (read_bytes, write_bytes, just_written_bytes))
    # between writing and reading pass half of what was written with it and half of what this kernel moves, on average
    held = new * share_in_l2(device.l2_kept_bytes, (new + reads + writes) / 2)
    again = 0.0 if walked is None else walked.again_bytes(device)
    streamed = stream_seconds(device, known, reads - held + again, writes, warm)
    if not scalar_loads:
        return streamed
    return np.maximum(streamed, small_kernel_s(device) + waiting_s(device, reads, 2, scalar_loads))
