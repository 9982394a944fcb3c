"""Gather and scatter of rows, by indexing."""

from __future__ import annotations

import torch


def gather_rows(source: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """out[..., i, :] = source[..., index[i], :]; zeros where index[i] < 0."""
    rows = source[..., index.clamp(min=0).long(), :]
    return torch.where((index >= 0)[:, None], rows, torch.zeros((), dtype=source.dtype, device=source.device))


def scatter_rows(source: torch.Tensor, index: torch.Tensor, rows: int) -> torch.Tensor:
    """out[..., index[i], :] = source[..., i, :], for index[i] >= 0; every row is written at most once, others are 0."""
    out = torch.zeros(*source.shape[:-2], rows, source.shape[-1], dtype=source.dtype, device=source.device)
    kept = index >= 0
    out[..., index[kept].long(), :] = source[..., kept, :]
    return out
