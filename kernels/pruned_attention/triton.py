"""Attention over kept tokens and heads, values left out by tile: the 2-pass cascade, so that probabilities are final.

Pass 1 finds RM and RD over the kept keys (gathered row by row); pass 2 computes A = exp(QK - RM) / RD and fetches the
values of a tile only if its largest probability reaches the threshold: local value pruning at the grain of a tile.
Also the other Triton kernels of this family, under the names of the reference.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl

from cascadesim.kernels.attention.configurations import TileShape, padded, precision, tiles_for
from cascadesim.kernels.attention.tile import (
    accumulate,
    finite,
    key_head_of,
    online_state,
    scores,
    store_rows,
    tile_and_head,
)
from cascadesim.kernels.inputs import FLOAT32, InputError, buffer, indices, launch, number, operands, together
from cascadesim.kernels.pruned_attention.importance import column_sums, head_importance
from cascadesim.kernels.pruned_attention.progressive import planes, progressive_decode, progressive_decode_of_planes
from cascadesim.kernels.pruned_attention.selection import top_tokens

__all__ = [
    "column_sums",
    "head_importance",
    "planes",
    "progressive_decode",
    "progressive_decode_of_planes",
    "pruned_attention",
    "top_tokens",
]
NAME = "pruned attention"
MOST_HEAD_DIM = 128  # what is compiled


@triton.jit
def load_kept(base, row, inside, E: tl.constexpr, EP: tl.constexpr):
    """Rows from a list; a row of 128 to 256 bytes is whole sectors, wherever it lies."""
    column = tl.arange(0, EP)
    mask = inside[:, None] & (column < E)[None, :]
    return tl.load(base + row[:, None] * E + column[None, :], mask=mask, other=0.0)


@triton.jit
def scores_of_kept(q, K, TOKENS, m, kept, E: tl.constexpr, EP: tl.constexpr, PRECISION: tl.constexpr):
    """(QK of a tile of kept keys, -inf past the last; their rows)."""
    row = tl.load(TOKENS + m, mask=m < kept, other=0)
    QK = scores(q, load_kept(K, row, m < kept, E, EP), PRECISION)
    return tl.where((m < kept)[None, :], QK, float("-inf")), row


@triton.jit
def pruned_2pass(
    Q, K, V, AV, TOKENS, HEADS, FETCHED, scale_log2, threshold, P, M, kept, heads, kept_heads, group,
    E: tl.constexpr, F: tl.constexpr, EP: tl.constexpr, FP: tl.constexpr, P0: tl.constexpr, M0: tl.constexpr,
    PRUNE: tl.constexpr, COUNT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """PRUNE: `none`, `tile` (values not fetched) or `element` (masked, saves nothing). COUNT: value tiles fetched."""
    tiles = tl.cdiv(P, P0)
    p1, place = tile_and_head(tiles)
    batch = place // kept_heads
    bh = batch * heads + tl.load(HEADS + place % kept_heads)
    key_head = key_head_of(bh, heads, group)
    p = p1 * P0 + tl.arange(0, P0)
    K += key_head * M * E
    V += key_head * M * F
    TOKENS += batch * kept
    q = load_kept(Q + bh * P * E, p, p < P, E, EP)
    RM = tl.full([P0], float("-inf"), tl.float32)
    RD = tl.zeros([P0], tl.float32)
    for m1 in tl.range(0, tl.cdiv(kept, M0)):
        QK, _ = scores_of_kept(q, K, TOKENS, m1 * M0 + tl.arange(0, M0), kept, E, EP, PRECISION)
        RM, SLN, PRM = online_state(QK, RM, scale_log2)
        RD = RD * PRM + tl.sum(SLN, 1)
    out = tl.zeros([P0, FP], tl.float32)
    shift, safe = finite(RM), tl.where(RD == 0.0, 1.0, RD)
    fetched = 0
    for m1 in tl.range(0, tl.cdiv(kept, M0)):
        m = m1 * M0 + tl.arange(0, M0)
        QK, row = scores_of_kept(q, K, TOKENS, m, kept, E, EP, PRECISION)
        A = tl.math.exp2(QK * scale_log2 - shift[:, None]) / safe[:, None]
        if PRUNE == "element":
            A = tl.where(threshold <= A, A, 0.0)
        if PRUNE == "tile":
            if tl.max(tl.where((p < P)[:, None], A, 0.0)) >= threshold:
                out = accumulate(out, A, load_kept(V, row, m < kept, F, FP), PRECISION)
                fetched += 1
        else:
            out = accumulate(out, A, load_kept(V, row, m < kept, F, FP), PRECISION)
            fetched += 1
    store_rows(AV + bh * P * F, p, P, out, F, FP)
    if COUNT:
        tl.store(FETCHED + bh * tiles + p1, fetched)


def pruned_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tokens: torch.Tensor, heads: torch.Tensor, *,
    value_threshold: float = 0.0, by_tile: bool = True, scale: float | None = None, tiles: TileShape | None = None,
    fetched: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """AV [B, H, P, F], zeros for heads that are not kept. `tokens` [B, kept] and `heads` [n] are integers, heads
    distinct; on a GPU they are not looked at and must name tokens and heads that there are.

    `fetched` int32 [B, H, query tiles] receives the tiles of values that were fetched. Raises InputError.
    """
    given = operands(NAME, q, k, v, scale, most_head_dim=MOST_HEAD_DIM)
    number(NAME, "value_threshold", value_threshold, 0, FLOAT32.max, whole=False)
    P, M, E, F, _ = given.sizes
    B, H = q.shape[:2]
    tiles = tiles or tiles_for(given.q, given.v, "pruned")
    together(NAME, q=q, tokens=tokens, heads=heads)
    if tokens.dim() != 2 or heads.dim() != 1:
        raise InputError(f"{NAME}: tokens [B, kept] and heads [n]; got {[*tokens.shape]} and {[*heads.shape]}")
    tokens = indices(NAME, "tokens", tokens, (B, tokens.shape[1]), 0, M - 1)
    heads = indices(NAME, "heads", heads, heads.shape, 0, H - 1, distinct=True)
    if fetched is not None:
        together(NAME, q=q, fetched=fetched)
        buffer(NAME, "fetched", fetched, (B, H, triton.cdiv(P, tiles.P0)), torch.int32)
    out = given.output().zero_()
    if out.numel():
        prune = "none" if value_threshold == 0 else "tile" if by_tile else "element"
        launch(
            NAME, pruned_2pass, triton.cdiv(P, tiles.P0) * len(heads) * B, given.q, given.k, given.v, out, tokens,
            heads, out if fetched is None else fetched, given.scale_log2, value_threshold, P, M, tokens.shape[1], H,
            len(heads), given.heads[1], E=E, F=F, EP=padded(E), FP=padded(F), P0=tiles.P0, M0=tiles.M0, PRUNE=prune,
            COUNT=fetched is not None, PRECISION=precision(q.element_size()), num_warps=tiles.warps,
            num_stages=tiles.stages,
        )  # fmt: skip
    return out
