"""Attention, one launch per cascade; each program keeps P0 queries and streams tiles of M0 keys and values.

1-pass:  QK, LM, RM, SLN, SLD, PRM, SLNV, RD, RNV per key tile; AV = RNV / RD after the last one (FlashAttention-2).
2-pass:  RM and RD first; then QK again, SN = exp(QK - RM), AV += SN * V: 3 products where 1-pass has 2.
3-pass:  GM; QK again for SD; QK again, A = SN / SD, AV += A * V: 4 products. A GPU recomputes rather than spill.
3-pass, stored: QK goes to memory, is read for SN, which goes to memory, is read for A: the cascade as it is written.
Causal and ragged tiles only are masked: the loop over whole tiles comes first and checks nothing. Queries that attend
nothing, because no key is visible or all their scores are -inf, get zeros; NaN and +inf give NaN.
"""

from __future__ import annotations

from typing import Any

import torch
import triton

from cascadesim.kernels.attention import CASCADES
from cascadesim.kernels.attention.configurations import TileShape, padded, precision, tiles_for
from cascadesim.kernels.attention.one_pass import attention_1pass
from cascadesim.kernels.attention.recomputing import attention_recomputing
from cascadesim.kernels.attention.stored import store_numerators, store_scores, values_of_stored
from cascadesim.kernels.inputs import InputError, Tensors, buffer, indices, launch, operands, together

NAME = "attention"


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = False, scale: float | None = None,
    key_lengths: torch.Tensor | None = None, cascade: str = "attention-1pass", divide_first: bool = False,
    tiles: TileShape | None = None, lse: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """AV [B, H, P, F] in the type of q. `lse` [B, H, P] float32 receives log2 of the denominators (1-pass only).

    `key_lengths` [B], integers, 0 to M; on a GPU, where they are not looked at, longer ones count as M. `tiles` of
    one's own are not among those that are checked for spills. Raises InputError.
    """
    given = operands(NAME, q, k, v, scale)
    _check_options(given, cascade, key_lengths, lse)
    tiles = tiles or tiles_for(given.q, given.v, cascade)
    P, M, E, F, programs = given.sizes
    lengths = given.q if key_lengths is None else indices(NAME, "key_lengths", key_lengths, q.shape[:1], 0, M)
    out = given.output()
    if not out.numel():
        return out
    flags = {"CAUSAL": causal, "RAGGED": key_lengths is not None, "PRECISION": precision(q.element_size())}
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
    programs *= triton.cdiv(P, tiles.P0)
    if cascade == "attention-3pass-stored":
        _stored(given, out, lengths, programs, tiles, divide_first, flags, options)
        return out
    sizes = (given.scale_log2, P, M, *given.heads)
    shape = {"E": E, "F": F, "EP": padded(E), "FP": padded(F), "P0": tiles.P0, "M0": tiles.M0,
             "TAIL": M % tiles.M0 != 0}  # fmt: skip
    if cascade == "attention-1pass":
        launch(NAME, attention_1pass, programs, given.q, given.k, given.v, out, given.q if lse is None else lse,
               lengths, *sizes, **shape, KEEP_LSE=lse is not None, **flags, **options)  # fmt: skip
    else:
        launch(NAME, attention_recomputing, programs, given.q, given.k, given.v, out, lengths, *sizes, **shape,
               PASSES=int(cascade[10]), DIVIDE_FIRST=divide_first, **flags, **options)  # fmt: skip
    return out


def _stored(
    given: Tensors, out: torch.Tensor, lengths: torch.Tensor, programs: int, tiles: TileShape, divide_first: bool,
    flags: dict[str, Any], options: dict[str, Any],
) -> None:  # fmt: skip
    """Three launches over one float32 buffer of scores."""
    P, M, E, F, _ = given.sizes
    sizes = (P, M, *given.heads)
    scores = torch.empty(*out.shape[:3], M, dtype=torch.float32, device=out.device)
    maxima, sums = torch.empty(2, *out.shape[:3], dtype=torch.float32, device=out.device)
    tile = {"P0": tiles.P0, "M0": tiles.M0}
    place = {name: flags[name] for name in ("CAUSAL", "RAGGED")}
    launch(NAME, store_scores, programs, given.q, given.k, scores, maxima, lengths, given.scale_log2, *sizes, E=E,
           EP=padded(E), **tile, **flags, **options)  # fmt: skip
    launch(NAME, store_numerators, programs, scores, maxima, sums, lengths, *sizes, **tile, **place, **options)
    launch(NAME, values_of_stored, programs, scores, sums, given.v, out, lengths, *sizes, F=F, FP=padded(F),
           DIVIDE_FIRST=divide_first, **tile, **flags, **options)  # fmt: skip


def _check_options(given: Tensors, cascade: str, key_lengths: torch.Tensor | None, lse: torch.Tensor | None) -> None:
    if cascade not in CASCADES:
        raise InputError(f"attention: no cascade {str(cascade)[:60]!r}; known: {', '.join(CASCADES)}")
    if key_lengths is not None:
        together(NAME, q=given.q, key_lengths=key_lengths)
    if lse is not None:
        if cascade != "attention-1pass":
            raise InputError(f"attention: only attention-1pass keeps denominators (lse), not {cascade}")
        together(NAME, q=given.q, lse=lse)
        buffer(NAME, "lse", lse, given.q.shape[:3], torch.float32)
