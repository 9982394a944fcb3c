"""Attention, one launch per cascade; each program keeps P0 queries and streams tiles of M0 keys and values.

1-pass:  QK, LM, RM, SLN, SLD, PRM, SLNV, RD, RNV per key tile; AV = RNV / RD after the last one (FlashAttention-2).
2-pass:  RM and RD first; then QK again, SN = exp(QK - RM), AV += SN * V: 3 products where 1-pass has 2.
3-pass:  GM; QK again for SD; QK again, A = SN / SD, AV += A * V: 4 products. A GPU recomputes rather than spill.
3-pass, stored: QK goes to memory, is read for SN, which goes to memory, is read for A: the cascade as it is written.
Causal and ragged tiles only are masked: the loop over whole tiles comes first and checks nothing.
"""

from __future__ import annotations

import math

import torch
import triton

from cascadesim.kernels.attention import CASCADES
from cascadesim.kernels.attention.configurations import Tiles, padded, precision, tiles_for
from cascadesim.kernels.attention.one_pass import attention_1pass
from cascadesim.kernels.attention.recomputing import attention_recomputing
from cascadesim.kernels.attention.stored import store_numerators, store_scores, values_of_stored


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = False, scale: float | None = None,
    key_lengths: torch.Tensor | None = None, cascade: str = "attention-1pass", divide_first: bool = False,
    tiles: Tiles | None = None, lse: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """AV [B, H, P, F] in the type of q. `lse` [B, H, P] float32 receives log2 of the denominators (1-pass only)."""
    q, k, v = _checked(q, k, v, cascade, scale)
    tiles = tiles or tiles_for(q, v, cascade)
    B, H, P, E = q.shape
    sizes = (_scale_log2(E, scale), P, k.shape[2], H, H // k.shape[1])
    out = torch.empty(B, H, P, v.shape[-1], dtype=q.dtype, device=q.device)
    if out.numel() == 0:
        return out
    lengths = q if key_lengths is None else key_lengths.to(torch.int32)
    flags = {"CAUSAL": causal, "RAGGED": key_lengths is not None, "PRECISION": precision(q.element_size())}
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
    grid = (triton.cdiv(P, tiles.P0), B * H)
    if cascade == "attention-3pass-stored":
        _stored(q, k, v, out, lengths, sizes, grid, tiles, divide_first, flags, options)
        return out
    shape = {"E": E, "F": v.shape[-1], "EP": padded(E), "FP": padded(v.shape[-1]), "P0": tiles.P0, "M0": tiles.M0,
             "TAIL": k.shape[2] % tiles.M0 != 0}  # fmt: skip
    if cascade == "attention-1pass":
        kept = q if lse is None else lse
        attention_1pass[grid](
            q, k, v, out, kept, lengths, *sizes, **shape, KEEP_LSE=lse is not None, **flags, **options
        )
    else:
        attention_recomputing[grid](q, k, v, out, lengths, *sizes, **shape, PASSES=int(cascade[10]),
                                    DIVIDE_FIRST=divide_first, **flags, **options)  # fmt: skip
    return out


def _stored(q, k, v, out, lengths, sizes, grid, tiles, divide_first, flags, options) -> None:  # type: ignore[no-untyped-def]
    """Three launches over one float32 buffer of scores."""
    B, H, P, E = q.shape
    F = v.shape[-1]
    scores = torch.empty(B, H, P, k.shape[2], dtype=torch.float32, device=q.device)
    maxima, sums = torch.empty(2, B, H, P, dtype=torch.float32, device=q.device)
    tile = {"P0": tiles.P0, "M0": tiles.M0}
    place = {name: flags[name] for name in ("CAUSAL", "RAGGED")}
    store_scores[grid](q, k, scores, maxima, lengths, *sizes, E=E, EP=padded(E), **tile, **flags, **options)
    store_numerators[grid](scores, maxima, sums, lengths, *sizes[1:], **tile, **place, **options)
    values_of_stored[grid](scores, sums, v, out, lengths, *sizes[1:], F=F, FP=padded(F), DIVIDE_FIRST=divide_first,
                           **tile, **flags, **options)  # fmt: skip


def _scale_log2(E: int, scale: float | None) -> float:
    return (E**-0.5 if scale is None else scale) * math.log2(math.e)


def _checked(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cascade: str, scale: float | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Contiguous inputs of one kind. Raises ValueError that says what does not fit."""
    if cascade not in CASCADES:
        raise ValueError(f"attention: no cascade {cascade!r}; known: {', '.join(CASCADES)}")
    if q.shape[0] != k.shape[0] or q.shape[-1] != k.shape[-1] or k.shape[:3] != v.shape[:3]:
        raise ValueError(f"attention: shapes do not fit: q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}")
    if q.shape[1] % k.shape[1]:
        raise ValueError(f"attention: {q.shape[1]} query heads are no multiple of {k.shape[1]} key heads")
    if scale is not None and scale <= 0:
        raise ValueError(f"attention: scale must be above 0, got {scale}")
    if not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"attention: types differ: q {q.dtype}, k {k.dtype}, v {v.dtype}")
    return q.contiguous(), k.contiguous(), v.contiguous()
