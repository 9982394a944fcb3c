"""Split keys (flash decoding): each program runs the 1-pass cascade over its share of the keys, a second kernel
reduces.

The query heads of one key head are packed as the rows of a tile, padded to 16 for the matrix unit, so keys are read
once per group. Partial RM, RD, RNV are float32. A program without keys writes RM = -inf and RD = 0.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from cascadesim.kernels.attention.configurations import padded, precision
from cascadesim.kernels.attention.tile import accumulate, finite, online_state, scores

WARPS = 4
SPLIT_KEYS = 256  # assumed: fewer keys per program cost more in the reduction than they win
PROGRAMS_PER_SM = 2


def key_tile(head_dim: int, element_bytes: int) -> tuple[int, int]:
    """Keys of one tile, and stages: what fits registers and shared memory."""
    if element_bytes > 2:
        return (32 if head_dim <= 64 else 16), 2
    return 64, 3


@triton.jit
def decode_split(
    Q, K, V, PAGES, LENGTHS, RM, RD, RNV, scale_log2, heads, group, splits, split_tiles, page_stride, row_stride,
    head_stride, table_stride, E: tl.constexpr, EP: tl.constexpr, P0: tl.constexpr, M0: tl.constexpr,
    PAGE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """PAGE: keys of a page, 0 for contiguous keys; row, head and page strides in elements."""
    split, batch, key_head = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    keys = tl.load(LENGTHS + batch)
    row, column = tl.arange(0, P0), tl.arange(0, EP)
    head = batch.to(tl.int64) * heads + key_head * group + row
    q = tl.load(Q + head[:, None] * E + column[None, :], mask=(row < group)[:, None] & (column < E)[None, :], other=0.0)
    maximum = tl.full([P0], float("-inf"), tl.float32)
    total = tl.zeros([P0], tl.float32)
    weighted = tl.zeros([P0, EP], tl.float32)
    last = tl.minimum(tl.cdiv(keys, M0), (split + 1) * split_tiles)
    for m1 in tl.range(split * split_tiles, last):
        m = m1 * M0 + tl.arange(0, M0)
        inside = (m < keys)[:, None] & (column < E)[None, :]
        if PAGE > 0:
            page = tl.load(PAGES + batch * table_stride + m // PAGE, mask=m < keys, other=0).to(tl.int64)
            offset = page * page_stride + m % PAGE * row_stride
        else:
            offset = batch.to(tl.int64) * page_stride + m * row_stride
        place = (offset + key_head * head_stride)[:, None] + column[None, :]
        BK = tl.load(K + place, mask=inside, other=0.0)
        QK = tl.where((m < keys)[None, :], scores(q, BK, PRECISION), float("-inf"))
        maximum, SLN, PRM = online_state(QK, maximum, scale_log2, True)
        total = total * PRM + tl.sum(SLN, 1)
        BV = tl.load(V + place, mask=inside, other=0.0)
        weighted = accumulate(weighted * PRM[:, None], SLN, BV, PRECISION)
    partial = head * splits + split
    tl.store(RM + partial, maximum, mask=row < group)
    tl.store(RD + partial, total, mask=row < group)
    tl.store(RNV + partial[:, None] * EP + column[None, :], weighted, mask=(row < group)[:, None])


@triton.jit
def decode_reduce(RM, RD, RNV, AV, splits, E: tl.constexpr, EP: tl.constexpr, S: tl.constexpr):
    """One program per query head: the partial states of all splits, rescaled to their common maximum."""
    head = tl.program_id(0).to(tl.int64)
    split, column = tl.arange(0, S), tl.arange(0, EP)
    maximum = tl.load(RM + head * splits + split, mask=split < splits, other=float("-inf"))
    PRM = tl.math.exp2(maximum - finite(tl.max(maximum, 0)))
    total = tl.sum(PRM * tl.load(RD + head * splits + split, mask=split < splits, other=0.0), 0)
    partial = RNV + (head * splits + split)[:, None] * EP + column[None, :]
    weighted = tl.sum(PRM[:, None] * tl.load(partial, mask=(split < splits)[:, None], other=0.0), 0)
    AV += head * E
    tl.store(AV + column, (weighted / tl.where(total == 0.0, 1.0, total)).to(AV.dtype.element_ty), mask=column < E)


def decode_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: torch.Tensor, *, pages: torch.Tensor | None = None,
    scale: float | None = None, splits: int | None = None,
) -> torch.Tensor:  # fmt: skip
    """AV [B, H, E]. `lengths` int [B]: keys of each entry, which may be 0."""
    B, H, E = q.shape
    k, v = k.contiguous(), v.contiguous()
    G, capacity, strides = _cache(k, pages)
    splits = splits or _splits(q, B * G, capacity)
    keys, stages = key_tile(padded(E), q.element_size())
    split_tiles = -(-capacity // (keys * splits))
    maxima, totals = torch.empty(2, B, H, splits, dtype=torch.float32, device=q.device)
    weighted = torch.empty(B, H, splits, padded(E), dtype=torch.float32, device=q.device)
    table = lengths.to(torch.int32) if pages is None else pages.to(torch.int32).contiguous()
    decode_split[splits, B, G](
        q.contiguous(), k, v, table, lengths.to(torch.int32), maxima, totals, weighted,
        (E**-0.5 if scale is None else scale) * math.log2(math.e), H, H // G, splits, split_tiles, *strides,
        0 if pages is None else pages.shape[1], E=E, EP=padded(E), P0=padded(H // G), M0=keys,
        PAGE=0 if pages is None else k.shape[1], PRECISION=precision(q.element_size()), num_warps=WARPS,
        num_stages=stages,
    )  # fmt: skip
    out = torch.empty(B, H, E, dtype=q.dtype, device=q.device)
    decode_reduce[(B * H,)](maxima, totals, weighted, out, splits, E=E, EP=padded(E),
                            S=triton.next_power_of_2(splits), num_warps=WARPS)  # fmt: skip
    return out


def _cache(k: torch.Tensor, pages: torch.Tensor | None) -> tuple[int, int, tuple[int, int, int]]:
    """Key heads, keys that fit, and the strides of a page (or batch entry), a key and a head."""
    if pages is None:
        return k.shape[1], k.shape[2], (k.stride(0), k.stride(2), k.stride(1))
    return k.shape[2], pages.shape[1] * k.shape[1], (k.stride(0), k.stride(1), k.stride(2))


def _splits(q: torch.Tensor, programs: int, keys: int) -> int:
    """Enough programs for two on every multiprocessor, none with fewer than SPLIT_KEYS keys."""
    processors = torch.cuda.get_device_properties(q.device).multi_processor_count if q.is_cuda else 4
    return max(1, min(-(-PROGRAMS_PER_SM * processors // programs), keys // SPLIT_KEYS))
