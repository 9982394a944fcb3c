"""Exact top-k in CUDA C++ (cuda/top_k.cu): a radix select, 8 bits at a time, then compaction in order."""

from __future__ import annotations

import torch

from cascadesim.kernels.cuda.launch import launch
from cascadesim.kernels.cuda.source import CudaFunction, Source

FUNCTION = CudaFunction(Source("pruned_attention", "top_k"), "top_k")
THREADS = 512  # as in the source


def top_tokens(importance: torch.Tensor, kept: int) -> torch.Tensor:
    """Indices int32 [B, kept] in ascending order of importance float32 [B, M], of any sign but not NaN."""
    B, tokens = importance.shape
    if not 0 <= kept <= tokens:
        raise ValueError(f"top tokens: keeps 0 to {tokens}, got {kept}")
    out = torch.empty(B, kept, dtype=torch.int32, device=importance.device)
    if out.numel():
        launch(FUNCTION, (B,), THREADS, importance.float().contiguous(), out, tokens, kept)
    return out
