"""Microbenchmarks in Triton. Each does a known amount of work: `work` gives operations or bytes of a launch.

matrix_peak: one product of tiles that stay on chip, over and over. exponential_rate: chains of exp2 in every thread.
clock_rate: cycles per nanosecond. read, write, copy: contiguous blocks; re-reading a small buffer measures the L2
cache. empty: the cost of a launch.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

STAGES = 3
BLOCK = 4096  # elements of one program of a memory kernel
CHAINS = 16  # exponentials in a row per loop turn


@triton.jit
def matrix_peak(
    A, B, OUT, turns, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    a = tl.load(A + m[:, None] * K + k[None, :])
    b = tl.load(B + k[:, None] * N + n[None, :])
    total = tl.zeros([M, N], tl.float32)
    for _ in tl.range(0, turns):
        total = tl.dot(a, b, total, input_precision=PRECISION)
    tl.store(OUT + tl.program_id(0) * M * N + m[:, None] * N + n[None, :], total)


@triton.jit
def exponential_rate(X, OUT, turns, BLOCK: tl.constexpr, CHAINS: tl.constexpr):
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(X + place)
    for _ in tl.range(0, turns):
        for _chain in tl.static_range(CHAINS):
            x = tl.math.exp2(-x)  # settles at 0.64, where exp2(x) would run to infinity
    tl.store(OUT + place, x)


@triton.jit
def copy(X, OUT, elements, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(OUT + place, tl.load(X + place, mask=place < elements), mask=place < elements)


@triton.jit
def write(OUT, elements, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(OUT + place, tl.full([BLOCK], 1.0, OUT.dtype.element_ty), mask=place < elements)


@triton.jit
def read(X, OUT, elements, blocks, BLOCK: tl.constexpr):
    """Every program reads `blocks` blocks, wrapping around a buffer of whole blocks: larger than L2, or inside it."""
    total = tl.zeros([BLOCK], tl.float32)
    for block in tl.range(0, blocks):
        start = (tl.program_id(0).to(tl.int64) * blocks + block) * BLOCK % elements
        total += tl.load(X + start + tl.arange(0, BLOCK), cache_modifier=".cg").to(tl.float32)
    tl.store(OUT + tl.program_id(0), tl.sum(total, 0))


@triton.jit
def read_counter(zero, INSTRUCTION: tl.constexpr):
    """A counter of the device; barriers around keep its place."""
    return tl.inline_asm_elementwise(INSTRUCTION, "=l,r", [zero], dtype=tl.int64, is_pure=False, pack=1)


@triton.jit
def clock_rate(X, OUT, turns):
    """Cycles and nanoseconds around a fixed loop: the clock that the multiprocessor really runs at. No interpreter."""
    x = tl.load(X)
    tl.debug_barrier()
    cycles = read_counter(0, "mov.u64 $0, %clock64; // $1")
    time_ns = read_counter(0, "mov.u64 $0, %globaltimer; // $1")
    for _ in tl.range(0, turns):
        x = tl.math.exp2(-x)
    tl.store(X, x)
    tl.debug_barrier()
    end = read_counter(0, "mov.u64 $0, %clock64; // $1")
    end_ns = read_counter(0, "mov.u64 $0, %globaltimer; // $1")
    tl.store(OUT, end - cycles)
    tl.store(OUT + 1, end_ns - time_ns)


@triton.jit
def empty(X):
    """Reads nothing and writes nothing."""
