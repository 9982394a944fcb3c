"""Inputs and launches of the microbenchmarks in Triton: launches, products, exponentials, memory.

Needs torch and triton. Inputs are random, never zeros: power, and so the clock, depends on the data.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from cascadesim.kernels.microbenchmarks.tiles import FP8_SINCE, WARPS, matrix_warps
from cascadesim.validation.measure.cases import LAUNCHES, Prepared
from cascadesim.validation.measure.prepare import error_of, random_tensor
from cascadesim.validation.measure.rate_cases import BLOCKS_PER_SM

TYPES = {"fp16": "float16", "bf16": "bfloat16", "fp8": "float8_e4m3fn", "tf32": "float32", "fp32": "float32"}
CACHED = 2  # a buffer of at most half of the L2 cache stays in it


def _blocks(device: str) -> int:
    import torch

    return BLOCKS_PER_SM * torch.cuda.get_device_properties(device).multi_processor_count if device != "cpu" else 1


def launch(device: str) -> Prepared:
    """One launch, and many in a row; CUDA C++, whose launch skips Triton's own work on the host."""
    from cascadesim.kernels.cuda.launch import launch as driver_launch
    from cascadesim.kernels.cuda.source import CudaFunction, Source
    from cascadesim.kernels.microbenchmarks import triton

    x = random_tensor(device, 16)
    empty = CudaFunction(Source("microbenchmarks", "atomics"), "nothing")

    def once() -> None:
        triton.empty[(1,)](x)

    def repeated() -> None:
        for _ in range(LAUNCHES):
            once()

    return Prepared({"empty": once, f"{LAUNCHES} empty": repeated,
                     "empty, CUDA C++": partial(driver_launch, empty, (1,), 32, x)})  # fmt: skip


def matrix_peak(device: str, kind: str, M: int, N: int, K: int, turns: int) -> Prepared:
    """Raises RuntimeError on a device without products of this kind."""
    import torch

    from cascadesim.kernels.microbenchmarks import triton

    if kind == "fp8" and device != "cpu" and (has := torch.cuda.get_device_capability(device)) < divmod(FP8_SINCE, 10):
        raise RuntimeError(f"8-bit products need compute capability 8.9, this device has {has[0]}.{has[1]}")

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

    return Prepared({"products": run}, {"products": check})


def exponentials(turns: int) -> int:
    return turns * 16 * 1024  # turns x CHAINS x BLOCK of the kernel


def exponential_rate(device: str, turns: int) -> Prepared:
    from cascadesim.kernels.microbenchmarks import triton

    blocks = 4 * _blocks(device)
    x, out = random_tensor(device, 2, blocks * 1024, dtype="float32")
    grid, size = (blocks,), {"BLOCK": 1024, "CHAINS": triton.CHAINS, "num_warps": WARPS}
    return Prepared({"exponentials": lambda: triton.exponential_rate[grid](x, out, turns, **size)})


def memory(device: str, elements: int, rereads: int) -> Prepared:
    """A copy moves twice the bytes of the others. `rereads`: of a buffer that stays in the L2 cache, each program
    reads on in it so many times, past the L1 caches; otherwise everything is read once."""
    import torch

    from cascadesim.kernels.microbenchmarks import triton

    if rereads > 1 and device != "cpu":
        _need_cache(torch.cuda.get_device_properties(device).L2_cache_size, 2 * elements)
    x, out = random_tensor(device, elements), random_tensor(device, elements)
    grid, size = (elements // triton.BLOCK,), {"BLOCK": triton.BLOCK, "num_warps": WARPS}
    readers = min(grid[0], 1 << (8 * _blocks(device)).bit_length() - 1)  # a power of two, as the buffers have blocks
    sums = random_tensor(device, readers, dtype="float32")
    blocks = -(-grid[0] * rereads // readers)

    def read() -> Any:
        triton.read[(readers,)](x, sums, elements, blocks, **size)
        return sums

    def copied() -> float:
        triton.copy[grid](x, out, elements, **size)
        return float((out != x).sum())

    def read_all() -> float:
        """Each program's blocks in turn, around the buffer."""
        each = x.float().reshape(grid[0], triton.BLOCK).sum(1)
        first = torch.arange(readers, device=device)[:, None] * blocks
        expected = each[(first + torch.arange(blocks, device=device)) % grid[0]].sum(1)
        return error_of(read, lambda: expected)

    return Prepared(
        {
            "copy": lambda: triton.copy[grid](x, out, elements, **size),
            "write": lambda: triton.write[grid](out, elements, **size),
            "read": read,
            "torch copy": lambda: out.copy_(x),
        },
        {"copy": copied, "read": read_all},
        {"read": "hot"} if rereads > 1 else {},
    )


def _need_cache(l2_bytes: int, buffer_bytes: int) -> None:
    if CACHED * buffer_bytes > l2_bytes:
        raise RuntimeError(f"a buffer of {buffer_bytes} bytes does not stay in an L2 cache of {l2_bytes}")
