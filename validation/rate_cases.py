"""The microbenchmarks that `measure` runs: single rates of a GPU, each with the work of a launch, as derived."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from cascadesim.validation.measure_cases import LAUNCHES, Case

PEAK_TURNS = 2048
MEMORY_ELEMENTS = 1 << 30  # of 2 bytes: 2 GiB, many times any L2 cache
CACHED_ELEMENTS = 1 << 23  # 16 MiB: inside the L2 cache of an H100
BLOCKS, THREADS = 1024, 256  # of the CUDA C++ rates: several of each on every multiprocessor
MIX_TURNS, CHASE_TURNS, ATOMIC_TURNS, SHARED_TURNS = 4096, 16384, 64, 1024
CHAINS_WORDS = {"L1": 1 << 12, "L2": 1 << 22, "DRAM": 1 << 28}  # 16 KiB, 16 MiB, 1 GiB of 4-byte words
ATOMIC_ADDRESSES = (1, 1024, 1 << 20)
SUITE = "microbenchmarks"


def microbenchmarks(device: str) -> Iterator[Case]:
    """What Triton expresses, then exact instruction sequences."""
    from cascadesim.validation import measure_rates as prepare

    yield Case(SUITE, "launch", {}, {"launches": LAUNCHES}, lambda: prepare.launch(device), 3)
    yield from _matrix_peaks(device)
    yield Case(SUITE, "exponentials", {"turns": 1024}, {"per_block": prepare.exponentials(1024)},
               lambda: prepare.exponential_rate(device, 1024))  # fmt: skip
    for name, elements in (("DRAM", MEMORY_ELEMENTS), ("L2", CACHED_ELEMENTS)):
        yield Case(SUITE, f"{name} copy, read, write", {"elements": elements}, {"bytes": 2 * elements},
                   partial(prepare.memory, device, elements), 4)  # fmt: skip
    yield from _in_cuda(device)


def _matrix_peaks(device: str) -> Iterator[Case]:
    from cascadesim.kernels.microbenchmarks.tiles import MATRIX
    from cascadesim.validation import measure_rates as prepare

    for kind, M, N, K in MATRIX:
        if prepare.multiplies(device, kind):
            turns = PEAK_TURNS if kind != "fp32" else PEAK_TURNS // 8
            yield Case(SUITE, f"matrix peak {kind} {M}x{N}x{K}", {"turns": turns, "M": M, "N": N, "K": K},
                       {"flop_per_block": 2 * turns * M * N * K},
                       partial(prepare.matrix_peak, device, kind, M, N, K, turns))  # fmt: skip


def _in_cuda(device: str) -> Iterator[Case]:
    """None where nothing compiles CUDA C++."""
    from cascadesim.kernels.cuda.launch import available
    from cascadesim.validation import measure_cuda as prepare

    if not available(device):
        return
    size = {"blocks": BLOCKS, "threads": THREADS}
    chains = BLOCKS * THREADS * MIX_TURNS * prepare.CHAINS
    yield Case(SUITE, "issue mix", {**size, "turns": MIX_TURNS},
               {name: chains * count for name, count in prepare.MIXES.items()},
               partial(prepare.issue_mix, device, BLOCKS, THREADS, MIX_TURNS), 3)  # fmt: skip
    yield Case(SUITE, "mma.sync peak", {**size, "turns": MIX_TURNS},
               {"flop": chains // 32 * prepare.PRODUCT_FLOP, "exponentials beside": chains},
               partial(prepare.products, device, BLOCKS, THREADS, MIX_TURNS), 3)  # fmt: skip
    loads = BLOCKS * THREADS * SHARED_TURNS * prepare.SHARED_LOADS
    yield Case(SUITE, "shared memory", {**size, "turns": SHARED_TURNS},
               {"bytes, 16 a lane": 16 * loads, "bytes, 4 a lane": 4 * loads},
               partial(prepare.shared_memory, device, BLOCKS, THREADS, SHARED_TURNS),
               1 + len(prepare.STRIDES))  # fmt: skip
    for level, words in CHAINS_WORDS.items():
        yield Case(SUITE, f"latency {level}", {"words": words, "turns": CHASE_TURNS}, {"loads": CHASE_TURNS},
                   partial(prepare.latency, device, words, CHASE_TURNS), 2)  # fmt: skip
    for addresses in ATOMIC_ADDRESSES:
        yield Case(SUITE, f"atomic additions to {addresses}", size, {"additions": BLOCKS * THREADS * ATOMIC_TURNS},
                   partial(prepare.atomics, device, BLOCKS, THREADS, ATOMIC_TURNS, addresses))  # fmt: skip
