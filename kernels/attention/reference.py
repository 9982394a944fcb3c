"""Attention in float64, straight from its definition.

A query that attends nothing, because no key is visible or every score is -inf, gets zeros; NaN and +inf give NaN.
"""

from __future__ import annotations

import torch


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = False, scale: float | None = None,
    key_lengths: torch.Tensor | None = None, mask: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """`key_lengths` [B]: keys of each batch entry; `mask`: broadcastable to [B, H, P, M], true where attended."""
    return probabilities(q, k, causal=causal, scale=scale, key_lengths=key_lengths, mask=mask) @ expanded(v, q)


def probabilities(
    q: torch.Tensor, k: torch.Tensor, *, causal: bool = False, scale: float | None = None,
    key_lengths: torch.Tensor | None = None, mask: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """A[b, h, p, m]: rows sum to 1, or to 0 where a query attends nothing."""
    qk = q.double() @ expanded(k, q).transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    keys = torch.arange(k.shape[2], device=q.device)
    visible = torch.ones(qk.shape, dtype=torch.bool, device=q.device)
    if causal:
        visible &= keys <= torch.arange(q.shape[2], device=q.device)[:, None] + k.shape[2] - q.shape[2]
    if key_lengths is not None:
        visible &= keys < key_lengths[:, None, None, None]
    if mask is not None:
        visible &= mask
    qk = qk.masked_fill(~visible, -torch.inf)
    return torch.softmax(qk, -1).masked_fill((qk == -torch.inf).all(-1, keepdim=True), 0.0)


def expanded(tensor: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Each key head once per query head, in float64."""
    return tensor.double().repeat_interleave(q.shape[1] // tensor.shape[1], dim=1)
