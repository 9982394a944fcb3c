"""The 1-pass cascade in CUDA C++ with mma.sync (cuda/mma_attention.cu): 16-bit types, head dimensions 64 and 128."""

from __future__ import annotations

import math

import torch

from cascadesim.kernels.attention.configurations import Tiles
from cascadesim.kernels.cuda.launch import launch
from cascadesim.kernels.cuda.source import CudaFunction, Source

SOURCE = Source("attention", "mma_attention")
TILES = {64: Tiles(128, 32, 4, 1), 128: Tiles(128, 64, 8, 1)}  # head dimension -> what the source has for it
TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16"}


def function(dtype: str, D: int, causal: bool) -> CudaFunction:
    return CudaFunction(SOURCE, f"attention_{dtype}_d{D}{'_causal' * causal}")


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = False, scale: float | None = None,
    key_lengths: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """AV [B, H, P, D] in the type of q. Raises ValueError for types, head dimensions or shapes it is not made for."""
    B, H, P, D = q.shape
    if not q.dtype == k.dtype == v.dtype or q.dtype not in TYPES or D not in TILES:
        raise ValueError(f"mma.sync attention: float16 or bfloat16 and head dimension 64 or 128, got {q.dtype}, {D}")
    if k.shape != v.shape or k.shape[0] != B or k.shape[3] != D or H % k.shape[1]:
        raise ValueError(f"mma.sync attention: shapes do not fit: q {[*q.shape]}, k {[*k.shape]}, v {[*v.shape]}")
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    out = torch.empty_like(q)
    lengths = None if key_lengths is None else key_lengths.to(torch.int32)
    scale_log2 = (D**-0.5 if scale is None else scale) * math.log2(math.e)
    if out.numel():
        launch(function(TYPES[q.dtype], D, causal), (-(-P // TILES[D].P0), B * H), 32 * TILES[D].warps,
               q, k, v, out, lengths, scale_log2, P, k.shape[2], H, H // k.shape[1])  # fmt: skip
    return out
