"""Inputs and launches of the microbenchmarks: launches, products, exponentials, memory, latencies, atomics.

First what Triton expresses, then exact sequences of instructions in CUDA C++. Needs torch and triton, and for the
latter a compiler for the device (`kernels.cuda`). Inputs are random, never zeros: power, and so the
clock, depends on the data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from cascadesim.kernels.cuda.launch import launch as cuda_launch
from cascadesim.kernels.cuda.source import CudaFunction, Source
from cascadesim.kernels.microbenchmarks import FP8_SINCE, WARPS, matrix_warps, triton
from cascadesim.validation.measure import cases
from cascadesim.validation.measure.cases import BLOCKS_PER_SM, Prepared
from cascadesim.validation.measure.prepare import checked, exact, random_tensor

TYPES = {"fp16": "float16", "bf16": "bfloat16", "fp8": "float8_e4m3fn", "tf32": "float32", "fp32": "float32"}
CACHED = 2  # a buffer of at most half of the L2 cache stays in it
BEYOND_L2 = 4  # sizes of the L2 cache that a chain through DRAM needs at least
PRODUCT_WORDS = 6  # as in product_rate.cu
LINE_WORDS = 32  # 128 bytes: a cache line
SHARED_WORDS = 2048  # as in memory_latency.cu
BANK_WORDS = 8192  # as in shared_memory.cu


def _function(source: str, name: str) -> CudaFunction:
    return CudaFunction(Source("microbenchmarks", source), name)


def _blocks(device: str) -> int:
    return BLOCKS_PER_SM * torch.cuda.get_device_properties(device).multi_processor_count if device != "cpu" else 1


def _l2_bytes(device: str) -> int:
    return int(torch.cuda.get_device_properties(device).L2_cache_size)


def launch(device: str) -> Prepared:
    """One launch, and many in a row; CUDA C++, whose launch skips Triton's own work on the host."""
    x = random_tensor(device, 16)

    def once() -> None:
        triton.empty[(1,)](x)

    def repeated() -> None:
        for _ in range(cases.LAUNCHES):
            once()

    in_cuda = partial(cuda_launch, _function("atomics", "nothing"), (1,), 32, x)
    return Prepared({"empty": once, f"{cases.LAUNCHES} empty": repeated, "empty, CUDA C++": in_cuda})


def matrix_peak(device: str, kind: str, M: int, N: int, K: int, turns: int) -> Prepared:
    """Raises RuntimeError on a device without products of this kind."""
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
        """Two iterations only: sums of 8-bit products keep few bits on Hopper."""
        expected = 2 * (a.double() @ b.double())
        return float((run(2).double() - expected).norm(dim=(1, 2)).max() / expected.norm())

    return Prepared({"products": (run, check)})


def exponential_rate(device: str, turns: int) -> Prepared:
    blocks = 4 * _blocks(device)
    x, out = random_tensor(device, 2, blocks * 1024, dtype="float32")
    grid, size = (blocks,), {"BLOCK": 1024, "CHAINS": triton.CHAINS, "num_warps": WARPS}
    return Prepared({"exponentials": lambda: triton.exponential_rate[grid](x, out, turns, **size)})


def memory(device: str, elements: int, rereads: int) -> Prepared:
    """A copy moves twice the bytes of the others. `rereads`: of a buffer that stays in the L2 cache, each program
    reads on in it so many times, past the L1 caches; otherwise everything is read once."""
    if rereads > 1 and device != "cpu" and CACHED * 2 * elements > (l2_bytes := _l2_bytes(device)):
        raise RuntimeError(f"a buffer of {2 * elements} bytes does not stay in an L2 cache of {l2_bytes}")
    x, out = random_tensor(device, elements), random_tensor(device, elements)
    grid, size = (elements // triton.BLOCK,), {"BLOCK": triton.BLOCK, "num_warps": WARPS}
    readers = min(grid[0], 1 << (8 * _blocks(device)).bit_length() - 1)  # a power of two, as the buffers have blocks
    sums = random_tensor(device, readers, dtype="float32")
    blocks = -(-grid[0] * rereads // readers)

    def read() -> Any:
        triton.read[(readers,)](x, sums, elements, blocks, **size)
        return sums

    def copied() -> Any:
        triton.copy[grid](x, out, elements, **size)
        return out

    def read_all() -> Any:
        """Each program's blocks one after another, around the buffer."""
        each = x.float().reshape(grid[0], triton.BLOCK).sum(1)
        first = torch.arange(readers, device=device)[:, None] * blocks
        return each[(first + torch.arange(blocks, device=device)) % grid[0]].sum(1)

    return Prepared(
        {
            "copy": exact(copied, lambda: x),
            "write": lambda: triton.write[grid](out, elements, **size),
            "read": checked(read, read_all),
            "torch copy": lambda: out.copy_(x),
        },
        {"read": "hot"} if rereads > 1 else {},
    )


def issue_mix(device: str, blocks: int, threads: int, turns: int) -> Prepared:
    """`turns` x CHAINS x MIXES[name] instructions in each thread."""
    x, out = torch.rand(cases.CHAINS, device=device), torch.empty(blocks * threads, device=device)
    return Prepared({
        name: partial(cuda_launch, _function("issue_mix", name), (blocks,), threads, x, out, turns, 0.5, 1.0)
        for name in cases.MIXES
    })  # fmt: skip


def products(device: str, blocks: int, threads: int, turns: int) -> Prepared:
    """`turns` x CHAINS products m16n8k16 in each warp, of PRODUCT_FLOP each, then with an exponential in each lane."""
    out = torch.empty(blocks * threads, device=device)
    numbers = torch.randn(2, 32 * PRODUCT_WORDS * 2, device=device)
    half, brain = numbers[0].half(), numbers[1].bfloat16()
    operands = dict(zip(cases.PRODUCTS, (half, brain, half), strict=True))
    return Prepared({
        name: partial(cuda_launch, _function("product_rate", name), (blocks,), threads, each, out, turns)
        for name, each in operands.items()
    })  # fmt: skip


def chain(device: str, words: int, stride: int) -> Any:
    """int32 [words]: one cycle in random order through every `stride`-th word, the first one included."""
    order = stride * torch.randperm(words // stride, device=device)
    follow = torch.zeros(words, dtype=torch.int32, device=device)
    follow[order] = torch.roll(order, -1).int()
    return follow


def latency(device: str, words: int, turns: int, beyond_l2: bool = False) -> Prepared:
    """One thread that waits for each load before the next; shared memory beside it. `beyond_l2`: no line is met twice
    in a launch, and only cold caches tell of DRAM, since what one launch loads is in the L2 cache for the next."""
    if beyond_l2 and device != "cpu":
        l2_bytes = _l2_bytes(device)
        if 4 * words < BEYOND_L2 * l2_bytes or turns > words // LINE_WORDS:
            raise RuntimeError(f"a chain of {4 * words} bytes does not exceed an L2 cache of {l2_bytes} far enough")
    out = torch.empty(1, dtype=torch.int32, device=device)
    far, near = chain(device, words, LINE_WORDS), chain(device, SHARED_WORDS, 1)
    return Prepared(
        {
            "global": partial(cuda_launch, _function("memory_latency", "pointer_chase"), (1,), 1, far, out, turns),
            "shared": partial(cuda_launch, _function("memory_latency", "shared_chase"), (1,), 1, near, out, turns),
        },
        only={"global": "cold" if beyond_l2 else "hot"},
    )


def atomics(device: str, blocks: int, threads: int, turns: int, addresses: int) -> Prepared:
    sums = torch.zeros(addresses, device=device)
    add = partial(cuda_launch, _function("atomics", "atomic_add_rate"), (blocks,), threads, sums, turns, addresses)
    return Prepared({"atomic additions": add})


def shared_memory(device: str, blocks: int, threads: int, turns: int) -> Prepared:
    """`turns` x SHARED_LOADS loads in each thread: 16 bytes a lane side by side, then 4 bytes at each of STRIDES."""
    x, out = torch.rand(BANK_WORDS, device=device), torch.empty(blocks * threads, device=device)

    def run(name: str, *stride: int) -> Any:
        cuda_launch(_function("shared_memory", name), (blocks,), threads, x, out, turns, *stride)
        return out

    thread = torch.arange(threads, device=device)
    loaded = (("shared_read_rate", (), 4, 4 * thread),
              *(("shared_conflict_rate", (stride,), 1, stride * thread) for stride in cases.STRIDES))  # fmt: skip
    runs = ((partial(run, name, *stride), words, first) for name, stride, words, first in loaded)
    return Prepared({name: (launch, partial(_error_of_sums, launch, x, words, first))
                     for name, (launch, words, first) in zip(cases.SHARED, runs, strict=True)})  # fmt: skip


def _error_of_sums(run: Callable[[], Any], x: Any, words: int, first: Any) -> float:
    """Each thread adds what it loaded last: SHARED_LOADS times `words` neighbours; `first`: its own place."""
    got = run().reshape(-1, len(first))
    load = torch.arange(cases.SHARED_LOADS, device=x.device)[:, None] * (BANK_WORDS // cases.SHARED_LOADS)
    place = (first[:, None, None] + load + torch.arange(words, device=x.device)) % BANK_WORDS
    expected = x[place].sum((1, 2))
    return float((got - expected).norm(dim=1).max() / expected.norm())
