"""The 2-pass and 3-pass cascades in one kernel each: every pass reads the keys again and computes the scores again.

DIVIDE_FIRST: A = SN / SD before the product with V (an M by P division); otherwise AV = (SN * V) / SD (an F by P one).
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
    online_state,
    place,
    store_rows,
)


@triton.jit
def row_statistics(
    q, K, p, offset, keys, GM, SD, scale_log2, first, last, E: tl.constexpr, EP: tl.constexpr, M0: tl.constexpr,
    STATISTIC: tl.constexpr, MASKED: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One pass over the keys. STATISTIC: the maximum, the denominator of a known maximum, or both at once (online)."""
    for m1 in tl.range(first, last):
        m = m1 * M0 + tl.arange(0, M0)
        BK = load_rows(K, m, keys, E, EP, MASKED)
        QK = masked_scores(q, BK, p, m, offset, keys, MASKED, CAUSAL, PRECISION)
        if STATISTIC == "maximum":
            GM = tl.maximum(GM, tl.max(QK, 1) * scale_log2)
        elif STATISTIC == "denominator":
            SD += tl.sum(tl.math.exp2(QK * scale_log2 - finite(GM)[:, None]), 1)
        else:
            GM, SLN, PRM = online_state(QK, GM, scale_log2)
            SD = SD * PRM + tl.sum(SLN, 1)
    return GM, SD


@triton.jit
def weighted_values(
    q, K, V, p, offset, keys, shift, SD, AV, scale_log2, first, last,
    E: tl.constexpr, F: tl.constexpr, EP: tl.constexpr, FP: tl.constexpr, M0: tl.constexpr,
    DIVIDE_FIRST: tl.constexpr, MASKED: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The last pass: numerators against the final maximum, normalised or not, times V."""
    for m1 in tl.range(first, last):
        m = m1 * M0 + tl.arange(0, M0)
        BK = load_rows(K, m, keys, E, EP, MASKED)
        QK = masked_scores(q, BK, p, m, offset, keys, MASKED, CAUSAL, PRECISION)
        SN = tl.math.exp2(QK * scale_log2 - shift[:, None])
        if DIVIDE_FIRST:
            SN = SN / SD[:, None]
        AV = accumulate(AV, SN, load_rows(V, m, keys, F, FP, MASKED), PRECISION)
    return AV


@triton.jit
def statistics_of_all(
    q, K, p, offset, keys, GM, SD, scale_log2, whole, last, E: tl.constexpr, EP: tl.constexpr, M0: tl.constexpr,
    STATISTIC: tl.constexpr, CHECKED: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One pass: tiles that need no mask, then those that do."""
    GM, SD = row_statistics(q, K, p, offset, keys, GM, SD, scale_log2, 0, whole,
                            E, EP, M0, STATISTIC, False, CAUSAL, PRECISION)  # fmt: skip
    if CHECKED:
        GM, SD = row_statistics(q, K, p, offset, keys, GM, SD, scale_log2, whole, last,
                                E, EP, M0, STATISTIC, True, CAUSAL, PRECISION)  # fmt: skip
    return GM, SD


@triton.jit
def attention_recomputing(
    Q, K, V, AV, LENGTHS, scale_log2, P, M, heads, group,
    E: tl.constexpr, F: tl.constexpr, EP: tl.constexpr, FP: tl.constexpr, P0: tl.constexpr, M0: tl.constexpr,
    PASSES: tl.constexpr, DIVIDE_FIRST: tl.constexpr, CAUSAL: tl.constexpr, RAGGED: tl.constexpr,
    TAIL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    p_first, query_row, key_row, keys = place(LENGTHS, P, M, heads, group, P0, CAUSAL, RAGGED)
    p = p_first + tl.arange(0, P0)
    K += key_row * M * E
    V += key_row * M * F
    q = load_rows(Q + query_row * P * E, p, P, E, EP, True)
    GM = tl.full([P0], float("-inf"), tl.float32)
    SD = tl.zeros([P0], tl.float32)
    offset = M - P
    CHECKED: tl.constexpr = CAUSAL or RAGGED or TAIL
    FIRST: tl.constexpr = "online" if PASSES == 2 else "maximum"
    whole, last = key_tiles(p_first, offset, keys, P0, M0, CAUSAL)
    GM, SD = statistics_of_all(q, K, p, offset, keys, GM, SD, scale_log2, whole, last,
                               E, EP, M0, FIRST, CHECKED, CAUSAL, PRECISION)  # fmt: skip
    if PASSES == 3:
        GM, SD = statistics_of_all(q, K, p, offset, keys, GM, SD, scale_log2, whole, last,
                                   E, EP, M0, "denominator", CHECKED, CAUSAL, PRECISION)  # fmt: skip
    shift, safe = finite(GM), tl.where(SD == 0.0, 1.0, SD)
    out = tl.zeros([P0, FP], tl.float32)
    out = weighted_values(q, K, V, p, offset, keys, shift, safe, out, scale_log2, 0, whole,
                          E, F, EP, FP, M0, DIVIDE_FIRST, False, CAUSAL, PRECISION)  # fmt: skip
    if CHECKED:
        out = weighted_values(q, K, V, p, offset, keys, shift, safe, out, scale_log2, whole, last,
                              E, F, EP, FP, M0, DIVIDE_FIRST, True, CAUSAL, PRECISION)  # fmt: skip
    if not DIVIDE_FIRST:
        out = divided(out, SD)
    store_rows(AV + query_row * P * F, p, P, out, F, FP)
