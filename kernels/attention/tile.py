"""What every attention kernel does with one tile: load rows, score, mask, update the running state, store.

Triton functions only, inlined where they are called, so that kernels differ in their cascade and in nothing else.
Scores are kept in units of log2: exp(x) is exp2(x * log2(e)), and the factor is folded into the scale.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_rows(base, row, row_end, EXTENT: tl.constexpr, PADDED: tl.constexpr, CHECK: tl.constexpr):
    """Rows [row, ...] of EXTENT elements, padded with zeros to PADDED columns; CHECK: rows from row_end on are zero."""
    column = tl.arange(0, PADDED)
    pointer = base + row[:, None] * EXTENT + column[None, :]
    if CHECK and EXTENT < PADDED:
        tile = tl.load(pointer, mask=(row < row_end)[:, None] & (column < EXTENT)[None, :], other=0.0)
    elif CHECK:
        tile = tl.load(pointer, mask=(row < row_end)[:, None], other=0.0)
    elif EXTENT < PADDED:
        tile = tl.load(pointer, mask=(column < EXTENT)[None, :], other=0.0)
    else:
        tile = tl.load(pointer)
    return tile


@triton.jit
def store_rows(base, row, row_end, tile, EXTENT: tl.constexpr, PADDED: tl.constexpr):
    column = tl.arange(0, PADDED)
    inside = (row < row_end)[:, None] & (column < EXTENT)[None, :]
    tl.store(base + row[:, None] * EXTENT + column[None, :], tile.to(base.dtype.element_ty), mask=inside)


@triton.jit
def scores(q, BK, PRECISION: tl.constexpr):
    """QK[p, m0] of one tile, unscaled."""
    return tl.dot(q, tl.trans(BK), input_precision=PRECISION)


@triton.jit
def finite(maximum):
    """The maximum, or 0 where a row has no key yet: exp2(-inf - 0) is 0, exp2(-inf + inf) would be NaN."""
    return tl.where(maximum == float("-inf"), 0.0, maximum)


@triton.jit
def online_state(QK, RM, scale_log2):
    """(new RM, SLN, PRM): numerators against the new running maximum, and what the earlier tiles are worth.

    Scores may be -inf in any tile, masked or not: a key of -inf is one that nobody sees.
    """
    new = tl.maximum(RM, tl.max(QK, 1) * scale_log2)
    shift = finite(new)
    SLN = tl.math.exp2(QK * scale_log2 - shift[:, None])
    PRM = tl.math.exp2(RM - shift)
    return new, SLN, PRM


@triton.jit
def accumulate(RNV, numerators, BV, PRECISION: tl.constexpr):
    """RNV + numerators * BV; numerators are rounded to the type of the values, as the matrix unit takes them."""
    return tl.dot(numerators.to(BV.dtype), BV, RNV, input_precision=PRECISION)


@triton.jit
def seen(QK, V, m, keys, RM, RD, RNV, scale_log2, F: tl.constexpr, FP: tl.constexpr, CHECK: tl.constexpr,
         PRECISION: tl.constexpr):  # fmt: skip
    """The running state (RM, RD, RNV) after the keys m of a tile, whose scores are QK, and their values."""
    RM, SLN, PRM = online_state(QK, RM, scale_log2)
    RD = RD * PRM + tl.sum(SLN, 1)
    RNV = accumulate(RNV * PRM[:, None], SLN, load_rows(V, m, keys, F, FP, CHECK), PRECISION)
    return RM, RD, RNV


@triton.jit
def divided(RNV, RD):
    """RNV / RD, zeros for queries without a key."""
    return RNV / tl.where(RD == 0.0, 1.0, RD)[:, None]


@triton.jit
def key_tiles(p_first, offset, keys, P0: tl.constexpr, M0: tl.constexpr, CAUSAL: tl.constexpr):
    """(tiles that need no mask, tiles with any key to see), counted from key 0."""
    whole_end = keys
    end = keys
    if CAUSAL:
        whole_end = tl.minimum(tl.maximum(p_first + offset + 1, 0), keys)
        end = tl.minimum(tl.maximum(p_first + P0 + offset, 0), keys)
    return whole_end // M0, tl.cdiv(end, M0)


@triton.jit
def masked_scores(q, BK, p, m, offset, keys, MASKED: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr):
    """QK of a tile, -inf where the query does not see the key."""
    QK = scores(q, BK, PRECISION)
    if MASKED:
        visible = (m < keys)[None, :]
        if CAUSAL:
            visible = visible & (m[None, :] <= p[:, None] + offset)
        QK = tl.where(visible, QK, float("-inf"))
    return QK


@triton.jit
def tile_and_head(tiles):
    """Programs are numbered tile by tile of a head, then head by head: one dimension of the grid holds 2^31 - 1."""
    program = tl.program_id(0)
    return program % tiles, (program // tiles).to(tl.int64)


@triton.jit
def key_head_of(bh, heads, group):
    """Row of the key head that query head `bh` (batch and head in one) reads."""
    return bh // heads * (heads // group) + bh % heads // group


@triton.jit
def place(LENGTHS, P, M, heads, group, P0: tl.constexpr, CAUSAL: tl.constexpr, RAGGED: tl.constexpr):
    """(first query, row of the query head, row of the key head, keys); long causal tiles start first."""
    tiles = tl.cdiv(P, P0)
    p1, bh = tile_and_head(tiles)
    if CAUSAL:
        p1 = tiles - 1 - p1
    keys = M
    if RAGGED:  # no length reaches beyond the keys, whatever it says
        keys = tl.minimum(tl.maximum(tl.load(LENGTHS + bh // heads), 0), M)
    return p1 * P0, bh, key_head_of(bh, heads, group), keys
