"""Split keys (flash decoding): each program runs the 1-pass cascade over its share of the keys, a second kernel
reduces.

The query heads of one key head are packed as the rows of a tile, padded to 16 for the matrix unit, so keys are read
once per group. Partial RM, RD, RNV are float32. A program without keys writes RM = -inf and RD = 0.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl

from cascadesim.kernels import inputs
from cascadesim.kernels.attention.configurations import padded, precision
from cascadesim.kernels.attention.tile import accumulate, finite, online_state, scores, tile_and_head
from cascadesim.kernels.inputs import InputError

NAME = "decode"
WARPS = 4
SPLIT_KEYS = 256  # assumed: fewer keys per program cost more in the reduction than they win
PROGRAMS_PER_SM = 2
MOST_SPLITS, CHUNK = 256, 16  # partial states of a head, and how many of them are added at a time
MOST_GROUP = 64  # query heads of one key head, where 16 bits and a head dimension of 128 leave registers for them
ROWS = 16  # elsewhere, and of every smaller group: what the matrix unit takes
MOST_HEAD_DIM = {2: 256, 4: 128}  # bytes of an element -> what is compiled without spills


def key_tile(head_dim: int, element_bytes: int) -> tuple[int, int]:
    """Keys of one tile, and stages: what fits registers and shared memory."""
    if element_bytes > 2:
        return (32 if head_dim <= 64 else 16), 2
    return 64, 3


@triton.jit
def load_keys(base, offset, inside, E: tl.constexpr, EP: tl.constexpr):
    """Rows at these offsets; zeros past the last key, where memory may hold anything."""
    column = tl.arange(0, EP)
    return tl.load(base + offset[:, None] + column[None, :], mask=inside[:, None] & (column < E)[None, :], other=0.0)


@triton.jit
def decode_split(
    Q, K, V, PAGES, LENGTHS, RM, RD, RNV, scale_log2, heads, group, capacity, splits, split_tiles, page_stride,
    row_stride, head_stride, value_page_stride, value_row_stride, value_head_stride, table_stride,
    E: tl.constexpr, F: tl.constexpr, EP: tl.constexpr, FP: tl.constexpr, P0: tl.constexpr, M0: tl.constexpr,
    PAGE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """PAGE: keys of a page, 0 for keys in one piece; page, row and head strides in elements, offsets in 64 bits."""
    split, place = tile_and_head(splits)
    batch, key_head = place // (heads // group), place % (heads // group)
    keys = tl.minimum(tl.maximum(tl.load(LENGTHS + batch), 0), capacity)
    row, column = tl.arange(0, P0), tl.arange(0, FP)
    head = batch * heads + key_head * group + row
    q = load_keys(Q, head * E, row < group, E, EP)
    K += key_head * head_stride
    V += key_head * value_head_stride
    if PAGE == 0:
        K += batch * page_stride
        V += batch * value_page_stride
    maximum = tl.full([P0], float("-inf"), tl.float32)
    total = tl.zeros([P0], tl.float32)
    weighted = tl.zeros([P0, FP], tl.float32)
    last = tl.minimum(tl.cdiv(keys, M0), (split + 1) * split_tiles)
    for m1 in tl.range(split * split_tiles, last):
        m = m1 * M0 + tl.arange(0, M0)
        if PAGE > 0:
            slot = (m % PAGE).to(tl.int64)
            page = tl.load(PAGES + batch * table_stride + m // PAGE, mask=m < keys, other=0).to(tl.int64)
            key_offset = page * page_stride + slot * row_stride
            value_offset = page * value_page_stride + slot * value_row_stride
        else:
            key_offset = m.to(tl.int64) * row_stride
            value_offset = m.to(tl.int64) * value_row_stride
        QK = scores(q, load_keys(K, key_offset, m < keys, E, EP), PRECISION)
        QK = tl.where((m < keys)[None, :], QK, float("-inf"))
        maximum, SLN, PRM = online_state(QK, maximum, scale_log2)
        total = total * PRM + tl.sum(SLN, 1)
        BV = load_keys(V, value_offset, m < keys, F, FP)
        weighted = accumulate(weighted * PRM[:, None], SLN, BV, PRECISION)
    partial = head * splits + split
    tl.store(RM + partial, maximum, mask=row < group)
    tl.store(RD + partial, total, mask=row < group)
    tl.store(RNV + partial[:, None] * FP + column[None, :], weighted, mask=(row < group)[:, None])


@triton.jit
def decode_reduce(RM, RD, RNV, AV, splits, F: tl.constexpr, FP: tl.constexpr, MOST: tl.constexpr, CHUNK: tl.constexpr):
    """One program per query head: the partial states of all splits, rescaled to their common maximum."""
    head = tl.program_id(0).to(tl.int64)
    split, column = tl.arange(0, MOST), tl.arange(0, FP)
    maximum = tl.load(RM + head * splits + split, mask=split < splits, other=float("-inf"))
    shift = finite(tl.max(maximum, 0))
    RD = tl.load(RD + head * splits + split, mask=split < splits, other=0.0)
    total = tl.sum(tl.math.exp2(maximum - shift) * RD, 0)
    weighted = tl.zeros([FP], tl.float32)
    for first in tl.range(0, splits, CHUNK):
        chunk = first + tl.arange(0, CHUNK)
        PRM = tl.math.exp2(tl.load(RM + head * splits + chunk, mask=chunk < splits, other=float("-inf")) - shift)
        partial = RNV + (head * splits + chunk)[:, None] * FP + column[None, :]
        weighted += tl.sum(PRM[:, None] * tl.load(partial, mask=(chunk < splits)[:, None], other=0.0), 0)
    AV += head * F
    tl.store(AV + column, (weighted / tl.where(total == 0.0, 1.0, total)).to(AV.dtype.element_ty), mask=column < F)


def decode_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: torch.Tensor, *, pages: torch.Tensor | None = None,
    scale: float | None = None, splits: int | None = None,
) -> torch.Tensor:  # fmt: skip
    """AV [B, H, F]; q [B, H, E], k [B, G, M, E], v [B, G, M, F], or their pages [pages, keys of one, G, E or F].

    `lengths` [B], integers: keys of each entry, 0 to M; on a GPU, where they are not looked at, longer ones count as M.
    `pages` [B, n], integers: entries past the last key are not read. Raises InputError.
    """
    k, v, capacity, strides = _cache(q, k, v, pages)
    B, H, E = q.shape
    F, G = v.shape[-1], k.shape[1 if pages is None else 2]
    lengths = inputs.indices(NAME, "lengths", lengths, (B,), 0, capacity)
    table = lengths if pages is None else _table(pages, lengths, k)
    inputs.together(NAME, q=q, lengths=lengths, pages=table)
    splits = _splits(q, max(B * G, 1), capacity) if splits is None else splits
    inputs.number(NAME, "splits", splits, 1, MOST_SPLITS)
    q, scale_log2 = inputs.scaled(NAME, q, scale)
    out = q.new_empty(B, H, F)
    if not out.numel():
        return out
    keys, stages = key_tile(padded(max(E, F)), q.element_size())
    maxima, totals = torch.empty(2, B, H, splits, dtype=torch.float32, device=q.device)
    weighted = torch.empty(B, H, splits, padded(F), dtype=torch.float32, device=q.device)
    inputs.launch(
        NAME, decode_split, splits * B * G, inputs.plain(q), k, v, table, lengths, maxima, totals, weighted, scale_log2,
        H, H // G, capacity, splits, -(-capacity // (keys * splits)), *strides, 0 if pages is None else table.shape[1],
        E=E, F=F, EP=padded(E), FP=padded(F), P0=padded(H // G), M0=keys, PAGE=0 if pages is None else k.shape[1],
        PRECISION=precision(q.element_size()), num_warps=WARPS, num_stages=stages,
    )  # fmt: skip
    inputs.launch(NAME, decode_reduce, B * H, maxima, totals, weighted, out, splits, F=F, FP=padded(F),
                  MOST=MOST_SPLITS, CHUNK=CHUNK, num_warps=WARPS)  # fmt: skip
    return out


def _cache(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, pages: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, int, tuple[int, ...]]:
    """(k, v, keys that fit, strides of a page or batch entry, a key and a head: of k, then of v)."""
    inputs.together(NAME, q=q, k=k, v=v)
    if q.dim() != 3 or not k.dim() == v.dim() == 4:
        raise InputError(f"{NAME}: q [B, H, E] has 3 dimensions, k and v have 4; got q {[*q.shape]}, k {[*k.shape]}, "
                         f"v {[*v.shape]}")  # fmt: skip
    row, head = (2, 1) if pages is None else (1, 2)
    if pages is None:
        inputs.check_heads(NAME, q[:, :, None], k, v)
    else:  # a page is no batch entry: none of them, so that everything else is compared
        inputs.check_heads(NAME, q[:0, :, None], k[:0].transpose(1, 2), v[:0].transpose(1, 2))
    inputs.number(NAME, "head dimension", max(q.shape[2], v.shape[3]), 1, MOST_HEAD_DIM[q.element_size()])
    most = MOST_GROUP if q.element_size() == 2 and max(q.shape[2], v.shape[3]) <= 128 else ROWS
    inputs.number(NAME, "query heads of one key head", q.shape[1] // max(k.shape[head], 1), 0, most)
    capacity = k.shape[2] if pages is None else _in_pages(q, k, v, pages)
    k, v = (each if each.stride(3) == 1 and not each.is_neg() else inputs.plain(each) for each in (k, v))
    return k, v, capacity, tuple(each.stride(at) for each in (k, v) for at in (0, row, head))


def _in_pages(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, pages: torch.Tensor) -> int:
    """Keys that fit the table."""
    inputs.shaped(NAME, "v", v, (*k.shape[:3], v.shape[3]))
    if not isinstance(pages, torch.Tensor) or pages.dim() != 2:
        raise InputError(f"{NAME}: pages must be a tensor of 2 dimensions [B, pages of one]")
    inputs.number(NAME, "keys of a page", k.shape[1], 1, inputs.MOST_ELEMENTS)
    keys: int = pages.shape[1] * k.shape[1]
    inputs.number(NAME, "keys of the table", keys, 0, inputs.MOST_ELEMENTS)
    return keys


def _table(pages: torch.Tensor, lengths: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """int32 [B, pages of one]; on the host, entries up to the last key name pages that there are."""
    table = inputs.indices(NAME, "pages", pages, (len(lengths), pages.shape[1]), -(2**31), inputs.MOST_ELEMENTS)
    used = torch.arange(pages.shape[1], device=lengths.device) * k.shape[1] < lengths[:, None]
    if not table.is_cuda and bool(((table < 0) | (table >= k.shape[0]))[used].any()):
        raise InputError(f"{NAME}: pages of keys within the lengths must be from 0 to {k.shape[0] - 1}")
    return table


def _splits(q: torch.Tensor, programs: int, keys: int) -> int:
    """Enough programs for two on every multiprocessor, none with fewer than SPLIT_KEYS keys."""
    processors = torch.cuda.get_device_properties(q.device).multi_processor_count if q.is_cuda else 4
    return max(1, min(-(-PROGRAMS_PER_SM * processors // programs), keys // SPLIT_KEYS, MOST_SPLITS))
