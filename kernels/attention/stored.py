"""The 3-pass cascade with its intermediates in memory, one kernel per pass: what three passes cost in DRAM traffic.

QK and SN share one float32 buffer [B * H, P, M]: 4 bytes written and read twice per score.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from cascadesim.kernels.attention.tile import (
    accumulate,
    divided,
    finite,
    key_tiles,
    load_rows,
    masked_scores,
    place,
    store_rows,
)


@triton.jit
def store_scores(
    Q, K, QK, GM, LENGTHS, scale_log2, P, M, heads, group, E: tl.constexpr, EP: tl.constexpr, P0: tl.constexpr,
    M0: tl.constexpr, CAUSAL: tl.constexpr, RAGGED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Pass 1: QK (in units of log2) to memory, and its row maximum GM."""
    p_first, query_row, key_row, keys = place(LENGTHS, P, M, heads, group, P0, CAUSAL, RAGGED)
    p = p_first + tl.arange(0, P0)
    q = load_rows(Q + query_row * P * E, p, P, E, EP, True)
    K += key_row * M * E
    QK += query_row * P * M
    maximum = tl.full([P0], float("-inf"), tl.float32)
    _, last = key_tiles(p_first, M - P, keys, P0, M0, CAUSAL)
    for m1 in tl.range(0, last):
        m = m1 * M0 + tl.arange(0, M0)
        tile = masked_scores(q, load_rows(K, m, keys, E, EP, True), p, m, M - P, keys, True, CAUSAL, PRECISION)
        tile = tile * scale_log2
        maximum = tl.maximum(maximum, tl.max(tile, 1))
        tl.store(QK + p[:, None].to(tl.int64) * M + m[None, :], tile, mask=(p < P)[:, None] & (m < M)[None, :])
    tl.store(GM + query_row * P + p, maximum, mask=p < P)


@triton.jit
def store_numerators(
    QK, GM, SD, LENGTHS, P, M, heads, group, P0: tl.constexpr, M0: tl.constexpr, CAUSAL: tl.constexpr,
    RAGGED: tl.constexpr,
):  # fmt: skip
    """Pass 2: SN = exp(QK - GM) in place, and its row sum SD."""
    p_first, query_row, _, keys = place(LENGTHS, P, M, heads, group, P0, CAUSAL, RAGGED)
    p = p_first + tl.arange(0, P0)
    QK += query_row * P * M
    shift = finite(tl.load(GM + query_row * P + p, mask=p < P, other=0.0))
    total = tl.zeros([P0], tl.float32)
    _, last = key_tiles(p_first, M - P, keys, P0, M0, CAUSAL)
    for m1 in tl.range(0, last):
        m = m1 * M0 + tl.arange(0, M0)
        inside = (p < P)[:, None] & (m < M)[None, :]
        pointer = QK + p[:, None].to(tl.int64) * M + m[None, :]
        SN = tl.math.exp2(tl.load(pointer, mask=inside, other=float("-inf")) - shift[:, None])
        total += tl.sum(SN, 1)
        tl.store(pointer, SN, mask=inside)
    tl.store(SD + query_row * P + p, total, mask=p < P)


@triton.jit
def values_of_stored(
    SN, SD, V, AV, LENGTHS, P, M, heads, group, F: tl.constexpr, FP: tl.constexpr, P0: tl.constexpr,
    M0: tl.constexpr, DIVIDE_FIRST: tl.constexpr, CAUSAL: tl.constexpr, RAGGED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Pass 3: A = SN / SD, AV = A * V."""
    p_first, query_row, key_row, keys = place(LENGTHS, P, M, heads, group, P0, CAUSAL, RAGGED)
    p = p_first + tl.arange(0, P0)
    SN += query_row * P * M
    V += key_row * M * F
    total = tl.load(SD + query_row * P + p, mask=p < P, other=1.0)
    safe = tl.where(total == 0.0, 1.0, total)
    out = tl.zeros([P0, FP], tl.float32)
    _, last = key_tiles(p_first, M - P, keys, P0, M0, CAUSAL)
    for m1 in tl.range(0, last):
        m = m1 * M0 + tl.arange(0, M0)
        pointer = SN + p[:, None].to(tl.int64) * M + m[None, :]
        A = tl.load(pointer, mask=(p < P)[:, None] & (m < M)[None, :], other=0.0)
        if DIVIDE_FIRST:
            A = A / safe[:, None]
        out = accumulate(out, A, load_rows(V, m, keys, F, FP, True), PRECISION)
    if not DIVIDE_FIRST:
        out = divided(out, total)
    store_rows(AV + query_row * P * F, p, P, out, F, FP)
