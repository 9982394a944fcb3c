"""The microbenchmarks that `measure` runs: single rates of a GPU, each with the work of a launch, as derived."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cascadesim.validation.measure.cases import LAUNCHES, Case, Prepared

PEAK_TURNS = 2048
MEMORY_ELEMENTS = 1 << 30  # of 2 bytes: 2 GiB, many times any L2 cache
CACHED_ELEMENTS = 1 << 23  # 16 MiB: inside the L2 cache of an H100
REREADS = 64  # times that a buffer inside the L2 cache is read in one launch: 1 GiB in all
EXPONENTIAL_TURNS = 1024
BLOCKS, THREADS = 1024, 256  # of the CUDA C++ rates: several of each on every multiprocessor
MIX_TURNS, CHASE_TURNS, ATOMIC_TURNS, SHARED_TURNS = 4096, 16384, 64, 1024
CHAINS_WORDS = {"L1": 1 << 12, "L2": 1 << 22, "DRAM": 1 << 28}  # 16 KiB, 16 MiB, 1 GiB of 4-byte words
ATOMIC_ADDRESSES = (1, 1024, 1 << 20)
BLOCKS_PER_SM = 2
SUITE = "microbenchmarks"


def microbenchmarks() -> Iterator[Case]:
    """What Triton expresses, then exact instruction sequences."""
    from cascadesim.validation.measure import rates as prepare

    yield Case(SUITE, "launch", {}, {"launches": LAUNCHES}, ("empty", f"{LAUNCHES} empty", "empty, CUDA C++"),
               prepare.launch)  # fmt: skip
    yield from _matrix_peaks()
    yield _case("exponentials", {"turns": EXPONENTIAL_TURNS},
                {"per_block": prepare.exponentials(EXPONENTIAL_TURNS), "blocks_per_multiprocessor": 4 * BLOCKS_PER_SM},
                ("exponentials",), prepare.exponential_rate, EXPONENTIAL_TURNS)  # fmt: skip
    for name, elements, rereads in (("DRAM", MEMORY_ELEMENTS, 1), ("L2", CACHED_ELEMENTS, REREADS)):
        yield _case(f"{name} copy, read, write", {"elements": elements, "rereads": rereads},
                    {"bytes": 2 * elements, "read_bytes": 2 * elements * rereads},
                    ("copy", "write", "read", "torch copy"), prepare.memory, elements, rereads)  # fmt: skip
    yield from _in_cuda()


def _case(name: str, shape: dict[str, Any], work: dict[str, int], variants: tuple[str, ...],
          function: Callable[..., Prepared], *sizes: Any) -> Case:  # fmt: skip
    return Case(SUITE, name, shape, work, variants, lambda device: function(device, *sizes))


def _matrix_peaks() -> Iterator[Case]:
    """8-bit products fail where the device has none."""
    from cascadesim.kernels.microbenchmarks.tiles import MATRIX
    from cascadesim.validation.measure import rates as prepare

    for kind, M, N, K in MATRIX:
        turns = PEAK_TURNS if kind != "fp32" else PEAK_TURNS // 8
        yield _case(f"matrix peak {kind} {M}x{N}x{K}", {"kind": kind, "turns": turns, "M": M, "N": N, "K": K},
                    {"flop_per_block": 2 * turns * M * N * K, "blocks_per_multiprocessor": BLOCKS_PER_SM},
                    ("products",), prepare.matrix_peak, kind, M, N, K, turns)  # fmt: skip


def _in_cuda() -> Iterator[Case]:
    from cascadesim.validation.measure import cuda as prepare

    size = {"blocks": BLOCKS, "threads": THREADS}
    chains = BLOCKS * THREADS * MIX_TURNS * prepare.CHAINS
    yield _case("issue mix", {**size, "turns": MIX_TURNS},
                {name: chains * count for name, count in prepare.MIXES.items()}, tuple(prepare.MIXES),
                prepare.issue_mix, BLOCKS, THREADS, MIX_TURNS)  # fmt: skip
    yield _case("mma.sync peak", {**size, "turns": MIX_TURNS},
                {"flop": chains // 32 * prepare.PRODUCT_FLOP, "exponentials beside": chains}, prepare.PRODUCTS,
                prepare.products, BLOCKS, THREADS, MIX_TURNS)  # fmt: skip
    loads = BLOCKS * THREADS * SHARED_TURNS * prepare.SHARED_LOADS
    yield _case("shared memory", {**size, "turns": SHARED_TURNS},
                {"bytes, 16 a lane": 16 * loads, "bytes, 4 a lane": 4 * loads}, prepare.SHARED,
                prepare.shared_memory, BLOCKS, THREADS, SHARED_TURNS)  # fmt: skip
    for level, words in CHAINS_WORDS.items():
        yield _case(f"latency {level}", {"words": words, "turns": CHASE_TURNS, "level": level}, {"loads": CHASE_TURNS},
                    ("global", "shared"), prepare.latency, words, CHASE_TURNS, level == "DRAM")  # fmt: skip
    for addresses in ATOMIC_ADDRESSES:
        yield _case(f"atomic additions to {addresses}", size, {"additions": BLOCKS * THREADS * ATOMIC_TURNS},
                    ("atomic additions",), prepare.atomics, BLOCKS, THREADS, ATOMIC_TURNS, addresses)  # fmt: skip
