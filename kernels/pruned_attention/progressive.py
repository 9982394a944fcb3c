"""Progressive quantization while decoding (SpAtten, section III-D): 4 upper bits of the keys first, 4 lower if needed.

Keys are int8, in two planes of two 4-bit codes per byte: byte j of a plane holds element j below and element j + E/2
above, so a score is two half-length products and nothing is shuffled. Programs of heads that need no lower bits exit.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl

from cascadesim.kernels import inputs
from cascadesim.kernels.attention.configurations import padded
from cascadesim.kernels.attention.tile import finite, key_head_of, tile_and_head
from cascadesim.kernels.inputs import InputError

NAME = "progressive decode"
KEYS, WARPS, STAGES = 64, 4, 2
MOST_HEAD_DIM, MOST_SPLITS = 128, 16  # what is compiled without spills


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
    E: tl.constexpr, F: tl.constexpr, FP: tl.constexpr, M0: tl.constexpr, FINE: tl.constexpr,
):  # fmt: skip
    """One query head and a share of its keys; FINE: all 8 bits, only for heads that need them."""
    split, bh = tile_and_head(splits)
    if FINE and tl.load(NEED + bh) == 0:
        return
    key_head = key_head_of(bh, heads, group)
    half, column = tl.arange(0, E // 2), tl.arange(0, FP)
    q_low = tl.load(Q + bh * E + half).to(tl.float32)
    q_high = tl.load(Q + bh * E + E // 2 + half).to(tl.float32)
    factor = tl.load(KEY_SCALE + key_head) * scale_log2
    maximum = float("-inf")
    total = 0.0
    weighted = tl.zeros([FP], tl.float32)
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
        inside = (m < M)[:, None] & (column < F)[None, :]
        BV = tl.load(V + (key_head * M + m)[:, None] * F + column[None, :], mask=inside, other=0.0)
        total = total * PRM + tl.sum(SLN, 0)
        weighted = weighted * PRM + tl.sum(SLN[:, None] * BV.to(tl.float32), 0)
        maximum = new
    partial = bh * splits + split
    tl.store(RM + partial, maximum)
    tl.store(RD + partial, total)
    tl.store(RNV + partial * FP + column, weighted)


@triton.jit
def progressive_reduce(
    RM, RD, RNV, AV, NEED, threshold, splits, F: tl.constexpr, FP: tl.constexpr, S: tl.constexpr, FINE: tl.constexpr
):
    """Combines the splits; the coarse pass also decides: the largest probability is 1 / RD, 0 where nothing is seen."""
    bh = tl.program_id(0).to(tl.int64)
    if FINE and tl.load(NEED + bh) == 0:
        return
    split, column = tl.arange(0, S), tl.arange(0, FP)
    maximum = tl.load(RM + bh * splits + split, mask=split < splits, other=float("-inf"))
    PRM = tl.math.exp2(maximum - finite(tl.max(maximum, 0)))
    total = tl.sum(PRM * tl.load(RD + bh * splits + split, mask=split < splits, other=0.0), 0)
    partial = RNV + (bh * splits + split)[:, None] * FP + column[None, :]
    weighted = tl.sum(PRM[:, None] * tl.load(partial, mask=(split < splits)[:, None], other=0.0), 0)
    weighted = weighted / tl.where(total == 0.0, 1.0, total)
    tl.store(AV + bh * F + column, weighted.to(AV.dtype.element_ty), mask=column < F)
    if not FINE:
        tl.store(NEED + bh, ((threshold * total > 1.0) | ((total == 0.0) & (threshold > 0.0))).to(tl.int32))


def planes(codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(upper, lower) uint8 [..., E/2] of int8 codes [..., E], E even. Raises InputError."""
    inputs.together(NAME, codes=codes)
    if codes.dtype != torch.int8 or not codes.dim() or codes.shape[-1] % 2:
        raise InputError(f"{NAME}: codes must be int8 with an even last dimension, got {codes.dtype} {[*codes.shape]}")
    wide = codes.to(torch.int32)
    return _packed(wide >> 4 & 15), _packed(wide & 15)


def _packed(nibbles: torch.Tensor) -> torch.Tensor:
    half = nibbles.shape[-1] // 2
    return (nibbles[..., :half] | nibbles[..., half:] << 4).to(torch.uint8)


def progressive_decode(
    q: torch.Tensor, codes: torch.Tensor, key_scale: torch.Tensor, v: torch.Tensor, threshold: float, *,
    scale: float | None = None, splits: int = 4,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """(AV [B, H, F], need [B, H]); codes int8 [B, G, M, E] with E a power of two, key_scale float32 [B, G].

    A head needs all 8 bits where no probability of the upper 4 reaches the threshold. Raises InputError.
    """
    upper, lower = planes(codes)
    return progressive_decode_of_planes(q, upper, lower, key_scale, v, threshold, scale=scale, splits=splits)


def progressive_decode_of_planes(
    q: torch.Tensor, upper: torch.Tensor, lower: torch.Tensor, key_scale: torch.Tensor, v: torch.Tensor,
    threshold: float, *, scale: float | None = None, splits: int = 4,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Likewise; upper and lower uint8 [B, G, M, E/2]."""
    q, scale_log2 = _fitting(q, upper, lower, key_scale, v, threshold, scale, splits)
    B, H, E = q.shape
    G, M, F = v.shape[1:]
    maxima, totals = torch.empty(2, B, H, splits, dtype=torch.float32, device=q.device)
    weighted = torch.empty(B, H, splits, padded(F), dtype=torch.float32, device=q.device)
    need = torch.zeros(B, H, dtype=torch.int32, device=q.device)
    out = q.new_empty(B, H, F)
    if not out.numel():
        return out, need
    state = (maxima, totals, weighted)
    q, upper, lower, key_scale, v = (inputs.plain(each) for each in (q, upper, lower, key_scale, v))
    for fine in (False, True):
        inputs.launch(NAME, progressive_split, splits * B * H, q, upper, lower, key_scale, v, need, *state, scale_log2,
                      M, H, H // G, splits, -(-M // (KEYS * splits)), E=E, F=F, FP=padded(F), M0=KEYS, FINE=fine,
                      num_warps=WARPS, num_stages=STAGES)  # fmt: skip
        inputs.launch(NAME, progressive_reduce, B * H, *state, out, need, threshold, splits, F=F, FP=padded(F),
                      S=triton.next_power_of_2(splits), FINE=fine, num_warps=WARPS)  # fmt: skip
    return out, need


def _fitting(
    q: torch.Tensor, upper: torch.Tensor, lower: torch.Tensor, key_scale: torch.Tensor, v: torch.Tensor,
    threshold: float, scale: float | None, splits: int,
) -> tuple[torch.Tensor, float]:  # fmt: skip
    """(q, factor of the scores); planes stand for keys of twice their width in the type of q."""
    inputs.together(NAME, q=q, upper=upper, lower=lower, key_scale=key_scale, v=v)
    if q.dim() != 3 or not upper.dim() == v.dim() == 4:
        raise InputError(f"{NAME}: q [B, H, E], planes [B, G, M, E/2] and v [B, G, M, F]; got q {[*q.shape]}, "
                         f"upper {[*upper.shape]}, v {[*v.shape]}")  # fmt: skip
    if upper.dtype != torch.uint8 or lower.dtype != torch.uint8:
        raise InputError(f"{NAME}: planes are uint8, got {upper.dtype} and {lower.dtype}")
    inputs.shaped(NAME, "lower", lower, upper.shape)
    E = 2 * upper.shape[3]
    inputs.check_heads(NAME, q[:, :, None], upper[..., :1].expand(*upper.shape[:3], E).to(q.dtype), v,
                       most_head_dim=MOST_HEAD_DIM)  # fmt: skip
    if E & (E - 1):
        raise InputError(f"{NAME}: the head dimension of q must be a power of two, got {E}")
    inputs.shaped(NAME, "key_scale", key_scale, v.shape[:2])
    inputs.one_type(NAME, (torch.float32,), key_scale=key_scale)
    inputs.number(NAME, "threshold", threshold, 0, inputs.FLOAT32.max, whole=False)
    inputs.number(NAME, "splits", splits, 1, MOST_SPLITS)
    return inputs.scaled(NAME, q, scale)
