"""Exact top-k in CUDA C++ (cuda/top_k.cu): a radix select, 8 bits at a time, then compaction in order."""

from __future__ import annotations

import torch

from cascadesim.kernels.cuda.launch import launch
from cascadesim.kernels.cuda.source import CudaFunction, Source
from cascadesim.kernels.inputs import FLOATS, rankable

NAME = "top-k"
FUNCTION = CudaFunction(Source("pruned_attention", "top_k"), "top_k")
THREADS = 512  # as in the source


def top_tokens(importance: torch.Tensor, kept: int) -> torch.Tensor:
    """Indices int32 [B, kept], ascending, of the largest of importance [B, M] of at most 32 bits; of equal ones the
    first. As `selection.top_tokens`; raises InputError."""
    importance = rankable(NAME, importance, kept, FLOATS)
    B, tokens = importance.shape
    out = torch.empty(B, kept, dtype=torch.int32, device=importance.device)
    if out.numel():
        launch(FUNCTION, (B,), THREADS, importance.float(), out, tokens, kept)
    return out
