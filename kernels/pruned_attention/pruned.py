"""Attention over kept tokens and heads, values left out by tile: the 2-pass cascade, so that probabilities are final.

Pass 1 finds RM and RD over the kept keys (gathered row by row); pass 2 computes A = exp(QK - RM) / RD and fetches the
values of a tile only if its largest probability reaches the threshold: local value pruning at the grain of a tile.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from cascadesim.kernels.attention.configurations import Tiles, padded, precision, tiles_for
from cascadesim.kernels.attention.tile import accumulate, finite, online_state, scores, store_rows


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
    Q, K, V, AV, TOKENS, HEADS, FETCHED, scale_log2, threshold, P, M, kept, heads, group, E: tl.constexpr,
    EP: tl.constexpr, P0: tl.constexpr, M0: tl.constexpr, PRUNE: tl.constexpr, COUNT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """PRUNE: `none`, `tile` (values not fetched) or `element` (masked, saves nothing). COUNT: value tiles fetched."""
    batch = tl.program_id(2).to(tl.int64)
    h = tl.load(HEADS + tl.program_id(1))
    bh = batch * heads + h
    key_head = batch * (heads // group) + h // group
    p = tl.program_id(0) * P0 + tl.arange(0, P0)
    K += key_head * M * E
    V += key_head * M * E
    TOKENS += batch * kept
    q = load_kept(Q + bh * P * E, p, p < P, E, EP)
    RM = tl.full([P0], float("-inf"), tl.float32)
    RD = tl.zeros([P0], tl.float32)
    for m1 in tl.range(0, tl.cdiv(kept, M0)):
        QK, _ = scores_of_kept(q, K, TOKENS, m1 * M0 + tl.arange(0, M0), kept, E, EP, PRECISION)
        RM, SLN, PRM = online_state(QK, RM, scale_log2, True)
        RD = RD * PRM + tl.sum(SLN, 1)
    out = tl.zeros([P0, EP], tl.float32)
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
                out = accumulate(out, A, load_kept(V, row, m < kept, E, EP), PRECISION)
                fetched += 1
        else:
            out = accumulate(out, A, load_kept(V, row, m < kept, E, EP), PRECISION)
            fetched += 1
    store_rows(AV + bh * P * E, p, P, out, E, EP)
    if COUNT:
        tl.store(FETCHED + bh * tl.num_programs(0) + tl.program_id(0), fetched)


def pruned_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tokens: torch.Tensor, heads: torch.Tensor, *,
    value_threshold: float = 0.0, by_tile: bool = True, scale: float | None = None, tiles: Tiles | None = None,
    fetched: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """AV [B, H, P, E], zeros for heads that are not kept. `tokens` int32 [B, kept] ascending, `heads` int32 [n].

    `fetched` int32 [B, H, query tiles] receives the tiles of values that were fetched.
    """
    B, H, P, E = q.shape
    tiles = tiles or tiles_for(q, v, "attention-2pass")
    q, k, v = (each.contiguous() for each in (q, k, v))
    out = torch.zeros_like(q)
    prune = "none" if value_threshold == 0 else "tile" if by_tile else "element"
    if len(heads):
        pruned_2pass[triton.cdiv(P, tiles.P0), len(heads), B](
            q,
            k,
            v,
            out,
            tokens.to(torch.int32).contiguous(),
            heads.to(torch.int32),
            out if fetched is None else fetched,
            (E**-0.5 if scale is None else scale) * math.log2(math.e),
            value_threshold,
            P,
            k.shape[2],
            tokens.shape[1],
            H,
            H // k.shape[1],
            E=E,
            EP=padded(E),
            P0=tiles.P0,
            M0=tiles.M0,
            PRUNE=prune,
            COUNT=fetched is not None,
            PRECISION=precision(q.element_size()),
            num_warps=tiles.warps,
            num_stages=tiles.stages,
        )
    return out
