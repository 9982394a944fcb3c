"""Decoding in float64: dense attention of one query per batch entry."""

from __future__ import annotations

import torch

from cascadesim.kernels.attention import reference


def decode_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: torch.Tensor, *, pages: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:  # fmt: skip
    if pages is not None:
        k, v = contiguous(k, pages), contiguous(v, pages)
    return reference.attention(q[:, :, None], k, v, scale=scale, key_lengths=lengths)[:, :, 0]


def contiguous(cache: torch.Tensor, pages: torch.Tensor) -> torch.Tensor:
    """[pages, page size, G, E] -> [B, G, M, E]; entries of -1 in the table stand for no page."""
    gathered = cache[pages.clamp(min=0).long()]
    return gathered.flatten(1, 2).transpose(1, 2)
