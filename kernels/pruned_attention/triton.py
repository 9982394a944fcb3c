"""The Triton kernels of this family under the names of the reference."""

from __future__ import annotations

from cascadesim.kernels.pruned_attention.importance import column_sums, head_importance
from cascadesim.kernels.pruned_attention.progressive import planes, progressive_decode, progressive_decode_of_planes
from cascadesim.kernels.pruned_attention.pruned import pruned_attention
from cascadesim.kernels.pruned_attention.selection import top_tokens

__all__ = [
    "column_sums",
    "head_importance",
    "planes",
    "progressive_decode",
    "progressive_decode_of_planes",
    "pruned_attention",
    "top_tokens",
]
