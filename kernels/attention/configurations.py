"""Tile sizes, warps and stages of the attention kernels: one explicit table, so that a measurement is reproducible.

Chosen from ahead-of-time compilation with the newest Triton and with 3.6: no spills, the matrix instruction of the
device, products that do not wait for one another. No autotuning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TileShape:
    """P0 queries by M0 keys per tile."""

    P0: int
    M0: int
    warps: int
    stages: int


HALF = {  # (compute capability, major; largest padded head dimension) -> tiles, 2-byte elements
    (8, 64): TileShape(128, 64, 8, 3), (8, 128): TileShape(128, 32, 8, 3), (8, 256): TileShape(32, 32, 4, 3),
    (9, 64): TileShape(128, 64, 8, 3), (9, 128): TileShape(128, 64, 8, 3), (9, 256): TileShape(128, 32, 8, 2),
    (10, 64): TileShape(128, 64, 4, 3), (10, 128): TileShape(128, 64, 8, 3), (10, 256): TileShape(128, 32, 8, 2),
}  # fmt: skip
RECOMPUTING = {  # where several passes in one kernel need more registers than one
    (8, 64): TileShape(64, 32, 4, 3), (8, 128): TileShape(64, 32, 4, 3), (8, 256): TileShape(32, 32, 4, 2),
    (10, 64): TileShape(128, 64, 8, 3),
}  # fmt: skip
STORED = {  # where scores come from memory: Triton 3.6 waits for products once per 16 keys, and twice is allowed
    (8, 128): TileShape(128, 32, 8, 3), (9, 64): TileShape(128, 32, 8, 3), (9, 128): TileShape(128, 32, 8, 3),
}  # fmt: skip
PRUNED = {  # where rows come from a list: these spill least
    (8, 128): TileShape(128, 32, 8, 3), (10, 128): TileShape(128, 32, 8, 3),
}  # fmt: skip
# 4-byte elements, no matrix unit
FLOAT = {64: TileShape(64, 32, 8, 2), 128: TileShape(32, 32, 8, 1), 256: TileShape(16, 32, 8, 1)}
FLOAT_RECOMPUTING = {128: TileShape(16, 32, 8, 1)}


def tiles_of(capability: int, head_dim: int, element_bytes: int, cascade: str = "attention-1pass") -> TileShape:
    """For a device of this major compute capability; older or unknown ones as the nearest that is known. `pruned` is
    the 2-pass cascade over listed rows."""
    size = next((size for size in (64, 128, 256) if head_dim <= size), None)
    if size is None:
        raise ValueError(f"attention: head dimensions go up to 256, got {head_dim}")
    if element_bytes > 2:
        return FLOAT[size] if cascade == "attention-1pass" else FLOAT_RECOMPUTING.get(size, FLOAT[size])
    device = min(max(capability, 8), 10), size
    if cascade == "attention-1pass":
        return HALF[device]
    special = {"attention-3pass-stored": STORED, "pruned": PRUNED}.get(cascade, {})
    return (HALF | RECOMPUTING | special)[device]


def tiles_for(q: torch.Tensor, v: torch.Tensor, cascade: str = "attention-1pass") -> TileShape:
    import torch

    capability = torch.cuda.get_device_capability(q.device)[0] if q.is_cuda else 9
    return tiles_of(capability, padded(max(q.shape[-1], v.shape[-1])), q.element_size(), cascade)


def padded(extent: int) -> int:
    """A tile's side must be a power of two, at least 16 for the matrix unit."""
    return max(16, 1 << (extent - 1).bit_length())


def precision(element_bytes: int) -> str:
    """float32 is multiplied as float32, never rounded to tf32."""
    return "ieee" if element_bytes > 2 else "tf32"
