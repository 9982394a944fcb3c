"""Inputs and launches of the microbenchmarks in Triton: launches, products, exponentials, memory.

Needs torch and triton. Inputs are random, never zeros: power, and so the clock, depends on the data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from cascadesim.kernels.microbenchmarks.tiles import FP8_SINCE, WARPS, matrix_warps
from cascadesim.validation.measure_cases import LAUNCHES, Prepared
from cascadesim.validation.measure_prepare import random_tensor

BLOCKS_PER_SM = 2
TYPES = {"fp16": "float16", "bf16": "bfloat16", "fp8": "float8_e4m3fn", "tf32": "float32", "fp32": "float32"}


def _blocks(device: str) -> int:
    import torch

    return BLOCKS_PER_SM * torch.cuda.get_device_properties(device).multi_processor_count if device != "cpu" else 1


def multiplies(device: str, kind: str) -> bool:
    """8-bit floating point from compute capability 8.9 on; the rest everywhere."""
    if kind != "fp8" or device == "cpu":
        return True
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    return bool(10 * major + minor >= FP8_SINCE)


def launch(device: str) -> Prepared:
    """One launch (its graph times are those of a node), and many in a row, which a host issues as fast as it can."""
    from cascadesim.kernels.microbenchmarks import triton

    x = random_tensor(device, 16)

    def once() -> None:
        triton.empty[(1,)](x)

    return Prepared({"empty": once, f"{LAUNCHES} empty": partial(_repeated, once), **_by_driver(device, x)})


def _repeated(once: Callable[[], object]) -> None:
    for _ in range(LAUNCHES):
        once()


def _by_driver(device: str, x: Any) -> dict[str, Callable[[], object]]:
    """CUDA C++, whose launch skips Triton's own work on the host."""
    from cascadesim.kernels.cuda.launch import available
    from cascadesim.kernels.cuda.launch import launch as driver_launch
    from cascadesim.kernels.cuda.source import CudaFunction, Source

    if not available(device):
        return {}
    empty = CudaFunction(Source("microbenchmarks", "atomics"), "nothing")
    return {"empty, CUDA C++": partial(driver_launch, empty, (1,), 32, x)}


def matrix_peak(device: str, kind: str, M: int, N: int, K: int, turns: int) -> Prepared:
    from cascadesim.kernels.microbenchmarks import triton

    a, b = (random_tensor(device, *side, dtype=TYPES[kind]) for side in ((M, K), (K, N)))
    blocks = _blocks(device)
    out = random_tensor(device, blocks, M, N, dtype="float32")

    def run(turns: int = turns) -> Any:
        triton.matrix_peak[(blocks,)](
            a, b, out, turns, M=M, N=N, K=K, PRECISION="ieee" if kind == "fp32" else "tf32",
            num_warps=matrix_warps(M, N), num_stages=triton.STAGES,
        )  # fmt: skip
        return out

    def check() -> float:
        """Two turns only: sums of 8-bit products keep few bits on Hopper."""
        expected = 2 * (a.double() @ b.double())
        return float((run(2).double() - expected).norm(dim=(1, 2)).max() / expected.norm())

    return Prepared({f"{blocks} blocks": run}, {f"{blocks} blocks": check})


def exponentials(turns: int) -> int:
    return turns * 16 * 1024  # turns x CHAINS x BLOCK of the kernel


def exponential_rate(device: str, turns: int) -> Prepared:
    from cascadesim.kernels.microbenchmarks import triton

    blocks = 4 * _blocks(device)
    x, out = random_tensor(device, 2, blocks * 1024, dtype="float32")
    return Prepared(
        {
            f"{blocks} blocks": lambda: triton.exponential_rate[(blocks,)](
                x, out, turns, BLOCK=1024, CHAINS=triton.CHAINS, num_warps=WARPS
            )
        }
    )


def memory(device: str, elements: int) -> Prepared:
    """A copy moves twice the bytes of the others."""
    from cascadesim.kernels.microbenchmarks import triton

    x, out = random_tensor(device, elements), random_tensor(device, elements)
    grid, size = (elements // triton.BLOCK,), {"BLOCK": triton.BLOCK, "num_warps": WARPS}
    readers = max(1, min(grid[0], 8 * _blocks(device)))
    sums = random_tensor(device, readers, dtype="float32")

    def copied() -> float:
        triton.copy[grid](x, out, elements, **size)
        return float((out != x).sum())

    return Prepared(
        {
            "copy": lambda: triton.copy[grid](x, out, elements, **size),
            "write": lambda: triton.write[grid](out, elements, **size),
            "read": lambda: triton.read[(readers,)](x, sums, elements, grid[0] // readers, **size),
            "torch copy": lambda: out.copy_(x),
        },
        {"copy": copied},
    )
