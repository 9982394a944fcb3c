"""Progressive quantization while decoding (SpAtten, section III-D): 4 upper bits of the keys first, 4 lower if needed.

Keys are int8, in two planes of two 4-bit codes per byte: byte j of a plane holds element j below and element j + E/2
above, so a score is two half-length products and nothing is shuffled. Programs of heads that need no lower bits exit.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from cascadesim.kernels.attention.tile import finite

KEYS, WARPS, STAGES = 64, 4, 2


@triton.jit
def unpacked(plane, SIGNED: tl.constexpr):
    """(lower, upper) codes of bytes as float32; SIGNED: two's complement of 4 bits."""
    low, high = plane & 15, (plane >> 4) & 15
    if SIGNED:
        low, high = (low ^ 8).to(tl.int32) - 8, (high ^ 8).to(tl.int32) - 8
    return low.to(tl.float32), high.to(tl.float32)


@triton.jit
def progressive_split(
    Q, UPPER, LOWER, KEY_SCALE, V, NEED, RM, RD, RNV, scale_log2, M, heads, group, splits, split_tiles,
    E: tl.constexpr, M0: tl.constexpr, FINE: tl.constexpr,
):  # fmt: skip
    """One query head and a share of its keys; FINE: all 8 bits, only for heads that need them."""
    split, bh = tl.program_id(0), tl.program_id(1).to(tl.int64)
    if FINE and tl.load(NEED + bh) == 0:
        return
    key_head = bh // heads * (heads // group) + bh % heads // group
    half, column = tl.arange(0, E // 2), tl.arange(0, E)
    q_low = tl.load(Q + bh * E + half).to(tl.float32)
    q_high = tl.load(Q + bh * E + E // 2 + half).to(tl.float32)
    factor = tl.load(KEY_SCALE + key_head) * scale_log2
    maximum = float("-inf")
    total = 0.0
    weighted = tl.zeros([E], tl.float32)
    last = tl.minimum(tl.cdiv(M, M0), (split + 1) * split_tiles)
    for m1 in tl.range(split * split_tiles, last):
        m = m1 * M0 + tl.arange(0, M0)
        place = (key_head * M + m)[:, None] * (E // 2) + half[None, :]
        low, high = unpacked(tl.load(UPPER + place, mask=(m < M)[:, None], other=0), True)
        low, high = low * 16, high * 16
        if FINE:
            low_rest, high_rest = unpacked(tl.load(LOWER + place, mask=(m < M)[:, None], other=0), False)
            low, high = low + low_rest, high + high_rest
        QK = tl.sum(low * q_low[None, :] + high * q_high[None, :], 1) * factor
        QK = tl.where(m < M, QK, float("-inf"))
        new = tl.maximum(maximum, tl.max(QK, 0))
        SLN = tl.math.exp2(QK - finite(new))
        PRM = tl.math.exp2(maximum - finite(new))
        BV = tl.load(V + (key_head * M + m)[:, None] * E + column[None, :], mask=(m < M)[:, None], other=0.0)
        total = total * PRM + tl.sum(SLN, 0)
        weighted = weighted * PRM + tl.sum(SLN[:, None] * BV.to(tl.float32), 0)
        maximum = new
    partial = bh * splits + split
    tl.store(RM + partial, maximum)
    tl.store(RD + partial, total)
    tl.store(RNV + partial * E + column, weighted)


@triton.jit
def progressive_reduce(RM, RD, RNV, AV, NEED, threshold, splits, E: tl.constexpr, S: tl.constexpr, FINE: tl.constexpr):
    """Combines the splits; the coarse pass also decides: the largest probability is 1 / RD."""
    bh = tl.program_id(0).to(tl.int64)
    if FINE and tl.load(NEED + bh) == 0:
        return
    split, column = tl.arange(0, S), tl.arange(0, E)
    maximum = tl.load(RM + bh * splits + split, mask=split < splits, other=float("-inf"))
    PRM = tl.math.exp2(maximum - finite(tl.max(maximum, 0)))
    total = tl.sum(PRM * tl.load(RD + bh * splits + split, mask=split < splits, other=0.0), 0)
    partial = RNV + (bh * splits + split)[:, None] * E + column[None, :]
    weighted = tl.sum(PRM[:, None] * tl.load(partial, mask=(split < splits)[:, None], other=0.0), 0)
    tl.store(AV + bh * E + column, (weighted / total).to(AV.dtype.element_ty))
    if not FINE:
        tl.store(NEED + bh, (threshold * total > 1.0).to(tl.int32))


def planes(codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(upper, lower) uint8 [..., E/2] of int8 codes [..., E]."""
    wide = codes.to(torch.int32)
    return _packed(wide >> 4 & 15), _packed(wide & 15)


def _packed(nibbles: torch.Tensor) -> torch.Tensor:
    half = nibbles.shape[-1] // 2
    return (nibbles[..., :half] | nibbles[..., half:] << 4).to(torch.uint8)


def progressive_decode(
    q: torch.Tensor, codes: torch.Tensor, key_scale: torch.Tensor, v: torch.Tensor, threshold: float, *,
    scale: float | None = None, splits: int = 4,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """(AV [B, H, E], need [B, H]); codes int8 [B, G, M, E] with E a power of two, key_scale [B, G]."""
    upper, lower = planes(codes)
    return progressive_decode_of_planes(q, upper, lower, key_scale, v, threshold, scale=scale, splits=splits)


def progressive_decode_of_planes(
    q: torch.Tensor, upper: torch.Tensor, lower: torch.Tensor, key_scale: torch.Tensor, v: torch.Tensor,
    threshold: float, *, scale: float | None = None, splits: int = 4,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    B, H, E = q.shape
    M = v.shape[2]
    maxima, totals = torch.empty(2, B, H, splits, dtype=torch.float32, device=q.device)
    weighted = torch.empty(B, H, splits, E, dtype=torch.float32, device=q.device)
    need = torch.zeros(B, H, dtype=torch.int32, device=q.device)
    out = torch.empty_like(q)
    state = (maxima, totals, weighted)
    scale_log2 = (E**-0.5 if scale is None else scale) * math.log2(math.e)
    for fine in (False, True):
        progressive_split[splits, B * H](
            q.contiguous(), upper, lower, key_scale, v.contiguous(), need, *state, scale_log2, M, H, H // v.shape[1],
            splits, -(-M // (KEYS * splits)), E=E, M0=KEYS, FINE=fine, num_warps=WARPS, num_stages=STAGES,
        )  # fmt: skip
        progressive_reduce[(B * H,)](*state, out, need, threshold, splits, E=E, S=triton.next_power_of_2(splits),
                                     FINE=fine, num_warps=WARPS)  # fmt: skip
    return out, need
