"""Inputs and launches of the microbenchmarks in CUDA C++: issue rates, products, shared memory, latencies, atomics.

Needs torch, and a compiler for the device (`kernels.cuda.launch.available`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from cascadesim.kernels.cuda.launch import launch
from cascadesim.kernels.cuda.source import CudaFunction, Source
from cascadesim.validation.measure.cases import Prepared

CHAINS = 8  # as in issue_mix.cu
MIXES = {"fma_rate": 1, "exponential_rate": 1, "fma_and_exponential_rate": 5}  # instructions of a chain per turn
PRODUCT_WORDS, PRODUCT_FLOP = 6, 2 * 16 * 8 * 16  # as in product_rate.cu
LINE_WORDS = 32  # 128 bytes: a cache line
SHARED_WORDS = 2048  # as in memory_latency.cu
BANK_WORDS, SHARED_LOADS = 8192, 8  # as in shared_memory.cu
STRIDES = {1: "no conflict", 2: "2 lanes a bank", 8: "8 lanes a bank", 32: "32 lanes a bank"}  # words between lanes


PRODUCTS = ("product_rate_fp16", "product_rate_bf16", "product_and_exponential_rate")
SHARED = ("16 bytes a lane", *(f"4 bytes a lane, {name}" for name in STRIDES.values()))
BEYOND_L2 = 4  # sizes of the L2 cache that a chain through DRAM needs at least


def _function(source: str, name: str) -> CudaFunction:
    return CudaFunction(Source("microbenchmarks", source), name)


def issue_mix(device: str, blocks: int, threads: int, turns: int) -> Prepared:
    """`turns` x CHAINS x MIXES[name] instructions in each thread."""
    import torch

    x, out = torch.rand(CHAINS, device=device), torch.empty(blocks * threads, device=device)
    return Prepared({
        name: partial(launch, _function("issue_mix", name), (blocks,), threads, x, out, turns, 0.5, 1.0)
        for name in MIXES
    })  # fmt: skip


def products(device: str, blocks: int, threads: int, turns: int) -> Prepared:
    """`turns` x CHAINS products m16n8k16 in each warp, of PRODUCT_FLOP each, then with an exponential in each lane."""
    import torch

    out = torch.empty(blocks * threads, device=device)
    numbers = torch.randn(2, 32 * PRODUCT_WORDS * 2, device=device)
    half, brain = numbers[0].half(), numbers[1].bfloat16()
    operands = dict(zip(PRODUCTS, (half, brain, half), strict=True))
    return Prepared({
        name: partial(launch, _function("product_rate", name), (blocks,), threads, each, out, turns)
        for name, each in operands.items()
    })  # fmt: skip


def chain(device: str, words: int, stride: int) -> Any:
    """int32 [words]: one cycle in random order through every `stride`-th word, the first one included."""
    import torch

    order = stride * torch.randperm(words // stride, device=device)
    follow = torch.zeros(words, dtype=torch.int32, device=device)
    follow[order] = torch.roll(order, -1).int()
    return follow


def latency(device: str, words: int, turns: int, beyond_l2: bool = False) -> Prepared:
    """One thread that waits for each load before the next; shared memory beside it. `beyond_l2`: no line is met twice
    in a launch, and only cold caches tell of DRAM, since what one launch loads is in the L2 cache for the next."""
    import torch

    if beyond_l2 and device != "cpu":
        l2_bytes = torch.cuda.get_device_properties(device).L2_cache_size
        if 4 * words < BEYOND_L2 * l2_bytes or turns > words // LINE_WORDS:
            raise RuntimeError(f"a chain of {4 * words} bytes does not exceed an L2 cache of {l2_bytes} far enough")
    out = torch.empty(1, dtype=torch.int32, device=device)
    far, near = chain(device, words, LINE_WORDS), chain(device, SHARED_WORDS, 1)
    return Prepared(
        {
            "global": partial(launch, _function("memory_latency", "pointer_chase"), (1,), 1, far, out, turns),
            "shared": partial(launch, _function("memory_latency", "shared_chase"), (1,), 1, near, out, turns),
        },
        only={"global": "cold" if beyond_l2 else "hot"},
    )


def atomics(device: str, blocks: int, threads: int, turns: int, addresses: int) -> Prepared:
    import torch

    sums = torch.zeros(addresses, device=device)
    add = partial(launch, _function("atomics", "atomic_add_rate"), (blocks,), threads, sums, turns, addresses)
    return Prepared({"atomic additions": add})


def shared_memory(device: str, blocks: int, threads: int, turns: int) -> Prepared:
    """`turns` x SHARED_LOADS loads in each thread: 16 bytes a lane side by side, then 4 bytes at each of STRIDES."""
    import torch

    x, out = torch.rand(BANK_WORDS, device=device), torch.empty(blocks * threads, device=device)

    def run(name: str, *stride: int) -> Any:
        launch(_function("shared_memory", name), (blocks,), threads, x, out, turns, *stride)
        return out

    runs = (partial(run, "shared_read_rate"), *(partial(run, "shared_conflict_rate", stride) for stride in STRIDES))
    variants: dict[str, Callable[[], Any]] = dict(zip(SHARED, runs, strict=True))
    thread = torch.arange(threads, device=device)
    loaded = ((4, 4 * thread), *((1, stride * thread) for stride in STRIDES))
    checks = {
        name: partial(_error_of_sums, run, x, words, first)
        for (name, run), (words, first) in zip(variants.items(), loaded, strict=True)
    }
    return Prepared(variants, checks)


def _error_of_sums(run: Callable[[], Any], x: Any, words: int, first: Any) -> float:
    """Each thread adds what its last turn loaded: SHARED_LOADS times `words` neighbours; `first`: its own place."""
    import torch

    got = run().reshape(-1, len(first))
    load = torch.arange(SHARED_LOADS, device=x.device)[:, None] * (BANK_WORDS // SHARED_LOADS)
    place = (first[:, None, None] + load + torch.arange(words, device=x.device)) % BANK_WORDS
    expected = x[place].sum((1, 2))
    return float((got - expected).norm(dim=1).max() / expected.norm())
