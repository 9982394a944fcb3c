"""Importance of keys and heads (SpAtten, sections III-A and III-B), deterministic: no atomic additions.

A pass of its own, stationary in the keys: the forward pass leaves log2 of the denominators (LSE), and a program that
owns M0 keys sums exp2(score - LSE) over all queries. Half the products of the forward pass, and as many exponentials.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl

from cascadesim.kernels import inputs
from cascadesim.kernels.attention.configurations import padded, precision
from cascadesim.kernels.attention.tile import key_head_of, load_rows, tile_and_head
from cascadesim.kernels.inputs import InputError

NAME, HEADS = "column sums", "head importance"
WARPS, BLOCK = 8, 1024
MOST_HEAD_DIM = 128  # what is compiled


def tile(head_dim: int, element_bytes: int) -> tuple[int, int, int]:
    """Keys, queries and stages: what fits registers and shared memory."""
    if element_bytes > 2:
        return (64 if head_dim <= 64 else 32 if head_dim <= 128 else 16), 32, 1
    return 128, 64, 3


@triton.jit
def column_sums_kernel(
    Q, K, LSE, SUMS, scale_log2, P, M, heads, group, E: tl.constexpr, EP: tl.constexpr, P0: tl.constexpr,
    M0: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    m1, bh = tile_and_head(tl.cdiv(M, M0))
    key_head = key_head_of(bh, heads, group)
    m = m1 * M0 + tl.arange(0, M0)
    k = load_rows(K + key_head * M * E, m, M, E, EP, True)
    Q += bh * P * E
    LSE += bh * P
    sums = tl.zeros([M0], tl.float32)
    first = 0
    if CAUSAL:  # queries before the first one that sees a key of this tile
        first = tl.maximum(m1 * M0 - (M - P), 0) // P0
    for p1 in tl.range(first, tl.cdiv(P, P0)):
        p = p1 * P0 + tl.arange(0, P0)
        lse = tl.load(LSE + p, mask=p < P, other=float("inf"))
        QK = tl.dot(k, tl.trans(load_rows(Q, p, P, E, EP, True)), input_precision=PRECISION)
        A = tl.math.exp2(QK * scale_log2 - lse[None, :])
        if CAUSAL:
            A = tl.where(m[:, None] <= p[None, :] + (M - P), A, 0.0)
        sums += tl.sum(A, 1)
    tl.store(SUMS + bh * M + m, sums, mask=m < M)


@triton.jit
def head_importance_kernel(AV, SUMS, elements, BLOCK: tl.constexpr):
    """One program per head: the sum of magnitudes, in a fixed order."""
    head = tl.program_id(0).to(tl.int64)
    total = tl.zeros([BLOCK], tl.float32)
    for block in tl.range(0, tl.cdiv(elements, BLOCK)):
        place = block * BLOCK + tl.arange(0, BLOCK)
        value = tl.load(AV + head * elements + place, mask=place < elements, other=0.0).to(tl.float32)
        total += tl.abs(value)
    tl.store(SUMS + head, tl.sum(total, 0))


def column_sums(
    q: torch.Tensor, k: torch.Tensor, lse: torch.Tensor, *, causal: bool = False, scale: float | None = None
) -> torch.Tensor:
    """Importance of each key in each head, float32 [B, H, M]; over a row of heads it sums to the number of queries.

    `lse` [B, H, P] float32 as `attention` leaves it at the same scale. Raises InputError.
    """
    given = inputs.operands(NAME, q, k, k, scale, most_head_dim=MOST_HEAD_DIM)
    P, M, E, _, programs = given.sizes
    inputs.together(NAME, q=q, lse=lse)
    inputs.buffer(NAME, "lse", lse, q.shape[:3], torch.float32)
    sums = torch.zeros(*q.shape[:2], M, dtype=torch.float32, device=q.device)
    if sums.numel() and P:
        keys, queries, stages = tile(padded(E), q.element_size())
        inputs.launch(NAME, column_sums_kernel, programs * triton.cdiv(M, keys), given.q, given.k, lse, sums,
                      given.scale_log2, P, M, *given.heads, E=E, EP=padded(E), P0=queries, M0=keys, CAUSAL=causal,
                      PRECISION=precision(q.element_size()), num_warps=WARPS, num_stages=stages)  # fmt: skip
    return sums


def head_importance(out: torch.Tensor) -> torch.Tensor:
    """[B, H] float32, of [B, H, P, F]. Raises InputError."""
    inputs.together(HEADS, out=out)
    inputs.one_type(HEADS, inputs.FLOATS, out=out)
    if out.dim() != 4:
        raise InputError(f"{HEADS}: the output of attention has 4 dimensions [B, H, P, F], got {[*out.shape]}")
    elements = out.shape[2] * out.shape[3]
    inputs.number(HEADS, "elements of one head", elements, 0, inputs.MOST_ELEMENTS - BLOCK)
    sums = torch.empty(out.shape[:2], dtype=torch.float32, device=out.device)
    inputs.launch(HEADS, head_importance_kernel, sums.numel(), inputs.plain(out), sums, elements, BLOCK=BLOCK)
    return sums
