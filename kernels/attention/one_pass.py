"""The 1-pass cascade in one kernel (FlashAttention-2): running maximum, running denominator, running numerator * V."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from cascadesim.kernels.attention.tile import (
    accumulate,
    divided,
    key_tiles,
    load_rows,
    masked_scores,
    online_state,
    place,
    store_rows,
)


@triton.jit
def stream_1pass(
    q, K, V, p, offset, keys, RM, RD, RNV, scale_log2, first, last,
    E: tl.constexpr, F: tl.constexpr, EP: tl.constexpr, FP: tl.constexpr, M0: tl.constexpr,
    MASKED: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    for m1 in tl.range(first, last):
        m = m1 * M0 + tl.arange(0, M0)
        BK = load_rows(K, m, keys, E, EP, MASKED)
        QK = masked_scores(q, BK, p, m, offset, keys, MASKED, CAUSAL, PRECISION)
        RM, SLN, PRM = online_state(QK, RM, scale_log2)
        RD = RD * PRM + tl.sum(SLN, 1)
        BV = load_rows(V, m, keys, F, FP, MASKED)
        RNV = accumulate(RNV * PRM[:, None], SLN, BV, PRECISION)
    return RM, RD, RNV


@triton.jit
def attention_1pass(
    Q, K, V, AV, LSE, LENGTHS, scale_log2, P, M, heads, group,
    E: tl.constexpr, F: tl.constexpr, EP: tl.constexpr, FP: tl.constexpr, P0: tl.constexpr, M0: tl.constexpr,
    CAUSAL: tl.constexpr, RAGGED: tl.constexpr, TAIL: tl.constexpr, PRECISION: tl.constexpr, KEEP_LSE: tl.constexpr,
):  # fmt: skip
    p_first, query_row, key_row, keys = place(LENGTHS, P, M, heads, group, P0, CAUSAL, RAGGED)
    p = p_first + tl.arange(0, P0)
    K += key_row * M * E
    V += key_row * M * F
    q = load_rows(Q + query_row * P * E, p, P, E, EP, True)
    RM = tl.full([P0], float("-inf"), tl.float32)
    RD = tl.zeros([P0], tl.float32)
    RNV = tl.zeros([P0, FP], tl.float32)
    whole, last = key_tiles(p_first, M - P, keys, P0, M0, CAUSAL)
    RM, RD, RNV = stream_1pass(q, K, V, p, M - P, keys, RM, RD, RNV, scale_log2, 0, whole,
                               E, F, EP, FP, M0, False, CAUSAL, PRECISION)  # fmt: skip
    if CAUSAL or RAGGED or TAIL:
        RM, RD, RNV = stream_1pass(q, K, V, p, M - P, keys, RM, RD, RNV, scale_log2, whole, last,
                                   E, F, EP, FP, M0, True, CAUSAL, PRECISION)  # fmt: skip
    store_rows(AV + query_row * P * F, p, P, divided(RNV, RD), F, FP)
    if KEEP_LSE:  # log2 of the denominator; +inf where there is no key, so that exp2(score - LSE) is 0 there
        tl.store(LSE + query_row * P + p, tl.where(RD == 0.0, float("inf"), RM + tl.math.log2(RD)), mask=p < P)
