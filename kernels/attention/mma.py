"""The 1-pass cascade in CUDA C++ with mma.sync (cuda/mma_attention.cu): 16-bit types, head dimensions 64 and 128."""

from __future__ import annotations

import torch

from cascadesim.kernels.attention.configurations import TileShape
from cascadesim.kernels.cuda.launch import launch
from cascadesim.kernels.cuda.source import CudaFunction, Source
from cascadesim.kernels.inputs import MOST_PROGRAMS, InputError, indices, number, operands, together

NAME = "mma.sync attention"
SOURCE = Source("attention", "mma_attention")
TILES = {64: TileShape(128, 32, 4, 1), 128: TileShape(128, 64, 8, 1)}  # head dimension -> what the source has for it
TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16"}


def function(dtype: str, D: int, causal: bool) -> CudaFunction:
    return CudaFunction(SOURCE, f"attention_{dtype}_d{D}{'_causal' * causal}")


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = False, scale: float | None = None,
    key_lengths: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """AV [B, H, P, D] in the type of q; `key_lengths` as in `triton.attention`. Raises InputError."""
    given = operands(NAME, q, k, v, scale, types=tuple(TYPES), most_head_dim=max(TILES))
    P, M, D, F, programs = given.sizes
    if D not in TILES or F != D:
        raise InputError(f"{NAME}: the head dimensions of q, k and v must be equal, 64 or 128; got {D} and {F}")
    lengths = None
    if key_lengths is not None:
        together(NAME, q=q, key_lengths=key_lengths)
        lengths = indices(NAME, "key_lengths", key_lengths, q.shape[:1], 0, M)
    out = given.output()
    programs *= -(-P // TILES[D].P0)
    number(NAME, "programs", programs, 0, MOST_PROGRAMS)
    if out.numel():
        launch(function(TYPES[q.dtype], D, causal), (programs,), 32 * TILES[D].warps,
               given.q, given.k, given.v, out, lengths, given.scale_log2, P, M, *given.heads)  # fmt: skip
    return out
