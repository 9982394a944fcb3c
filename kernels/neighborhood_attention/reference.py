"""Neighborhood attention as masked attention in float64."""

from __future__ import annotations

import torch

from cascadesim.kernels.attention import reference
from cascadesim.kernels.neighborhood_attention.pattern import WindowPattern


def neighborhood_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, pattern: WindowPattern, *, scale: float | None = None
) -> torch.Tensor:
    mask = torch.from_numpy(pattern.mask()).to(q.device)
    return reference.attention(q, k, v, scale=scale, mask=mask)
