"""Single rates of a GPU, one kernel each: matrix unit, exponentials, memory levels, launches. No reference: they
measure.

`triton` holds those that Triton can express; `cuda/*.cu` exact instruction sequences, plain extern "C". Here are the
tiles of the products whose peak is measured, without Triton: what is measured is listed where there is none.
"""

from __future__ import annotations

WARPS = 8
MATRIX = (  # kind of product, M, N, K of its tile; tf32 and fp32 multiply float32, fp32 on the FP32 units
    ("fp16", 128, 256, 64), ("fp16", 128, 128, 64), ("fp16", 128, 64, 64), ("bf16", 128, 256, 64),
    ("fp8", 128, 256, 128), ("fp8", 128, 128, 128), ("tf32", 128, 128, 32), ("fp32", 64, 64, 32),
)  # fmt: skip
FP8_SINCE = 89  # compute capability; the type is e4m3


def matrix_warps(M: int, N: int) -> int:
    """16 rows each, so that no work is done twice, and half of them at 128 columns: with 8, Triton 3.6's ptxas
    serialises the products of Hopper."""
    return min(WARPS // 2 if N == 128 else WARPS, M // 16)

