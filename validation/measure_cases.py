"""What `measure` runs: shapes, kernels, and the library's attention beside them in the same case.

A case makes its random inputs when it is prepared, and checks each result against float32 attention of the library
before anything is timed. Work is stated as derived: FLOP, exponentials, and the fewest bytes that must move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

from cascadesim.validation.measure_timing import Launch


@dataclass(frozen=True)
class Prepared:
    """`checks`: name of a variant -> its error against the reference, a function because it costs time."""

    variants: Mapping[str, Launch]
    checks: Mapping[str, Callable[[], float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    suite: str
    name: str
    shape: Mapping[str, Any]
    work: Mapping[str, int]
    prepare: Callable[[], Prepared]


ATTENTION = tuple((B, L, D) for D in (64, 128) for B, L in ((16, 1024), (4, 4096), (1, 16384)))  # batch x length fixed
HEADS = {64: 32, 128: 16}  # 2048 model dimensions, as FlashAttention's papers measure
DECODE = ((1, 8192), (16, 8192), (64, 4096), (16, 32768))  # batch, keys; the last holds 4 GB of cache
GNA = (  # layout, window, stride, query tile, key tile; GNA (arXiv 2504.16922), section 4, scaled to H100 minutes
    ((16, 48, 80), (8, 24, 24), (1, 1, 1), (2, 8, 8), (1, 8, 8)),
    ((16, 48, 80), (8, 24, 24), (2, 8, 8), (2, 8, 8), (1, 8, 8)),
    ((128, 128), (48, 48), (1, 1), (16, 8), (8, 8)),
    ((128, 128), (48, 48), (16, 8), (16, 8), (8, 8)),
    ((16384,), (2048,), (1,), (128,), (64,)),
)
PRUNED = ((4096, 2048), (4096, 1024), (16384, 2048))  # tokens, kept
PEAK_TURNS = 2048
MEMORY_ELEMENTS = 1 << 30  # of 2 bytes: 2 GiB, many times any L2 cache
CACHED_ELEMENTS = 1 << 23  # 16 MiB: inside the L2 cache of an H100
BLOCKS, THREADS = 1024, 256  # of the CUDA C++ rates: several of each on every multiprocessor
MIX_TURNS, CHASE_TURNS, ATOMIC_TURNS = 4096, 16384, 64
CHAINS_WORDS = {"L1": 1 << 12, "L2": 1 << 22, "DRAM": 1 << 28}  # 16 KiB, 16 MiB, 1 GiB of 4-byte words
ATOMIC_ADDRESSES = (1, 1024, 1 << 20)


def cases(device: str) -> tuple[Case, ...]:
    """In the order in which they are measured."""
    return (*_microbenchmarks(device), *_attention(device), *_decode(device), *_neighborhood(device), *_pruned(device))


def _microbenchmarks(device: str) -> Iterator[Case]:
    from cascadesim.validation import measure_prepare as prepare

    yield Case("microbenchmarks", "launch", {}, {}, lambda: prepare.launch(device))
    for dtype in ("fp16", "bf16"):
        flop = prepare.matrix_flop(dtype, PEAK_TURNS)
        yield Case("microbenchmarks", f"matrix peak {dtype}", {"turns": PEAK_TURNS}, {"flop_per_block": flop},
                   partial(prepare.matrix_peak, device, dtype, PEAK_TURNS))  # fmt: skip
    yield Case("microbenchmarks", "exponentials", {"turns": 1024}, {"per_block": prepare.exponentials(1024)},
               lambda: prepare.exponential_rate(device, 1024))  # fmt: skip
    for name, elements in (("DRAM", MEMORY_ELEMENTS), ("L2", CACHED_ELEMENTS)):
        yield Case("microbenchmarks", f"{name} copy, read, write", {"elements": elements}, {"bytes": 2 * elements},
                   partial(prepare.memory, device, elements))  # fmt: skip


    yield from _in_cuda(device)


def _in_cuda(device: str) -> Iterator[Case]:
    """None where nothing compiles CUDA C++."""
    from cascadesim.kernels.cuda.launch import available
    from cascadesim.validation import measure_cuda as prepare

    if not available(device):
        return
    mix = {name: BLOCKS * THREADS * MIX_TURNS * prepare.CHAINS * count for name, count in prepare.MIXES.items()}
    yield Case("microbenchmarks", "issue mix", {"blocks": BLOCKS, "threads": THREADS, "turns": MIX_TURNS}, mix,
               partial(prepare.issue_mix, device, BLOCKS, THREADS, MIX_TURNS))  # fmt: skip
    flop = BLOCKS * THREADS // 32 * MIX_TURNS * prepare.CHAINS * prepare.PRODUCT_FLOP
    yield Case("microbenchmarks", "mma.sync peak", {"blocks": BLOCKS, "threads": THREADS, "turns": MIX_TURNS},
               {"flop": flop}, partial(prepare.products, device, BLOCKS, THREADS, MIX_TURNS))  # fmt: skip
    for level, words in CHAINS_WORDS.items():
        yield Case("microbenchmarks", f"latency {level}", {"words": words, "turns": CHASE_TURNS},
                   {"loads": CHASE_TURNS}, partial(prepare.latency, device, words, CHASE_TURNS))  # fmt: skip
    for addresses in ATOMIC_ADDRESSES:
        yield Case("microbenchmarks", f"atomic additions to {addresses}", {"blocks": BLOCKS, "threads": THREADS},
                   {"additions": BLOCKS * THREADS * ATOMIC_TURNS},
                   partial(prepare.atomics, device, BLOCKS, THREADS, ATOMIC_TURNS, addresses))  # fmt: skip


def _attention(device: str) -> Iterator[Case]:
    from cascadesim.validation import measure_prepare as prepare

    for B, L, D in ATTENTION:
        for causal in (False, True):
            H = HEADS[D]
            scores = B * H * L * L // (1 + causal)
            work = {"flop": 4 * scores * D, "exponentials": scores, "bytes": 2 * 4 * B * H * L * D}
            shape = {"B": B, "H": H, "L": L, "D": D, "causal": causal, "dtype": "fp16"}
            yield Case("attention", f"B{B} H{H} L{L} D{D}{' causal' * causal}", shape, work,
                       partial(prepare.attention, device, B, H, L, D, causal))  # fmt: skip


def _decode(device: str) -> Iterator[Case]:
    from cascadesim.validation import measure_prepare as prepare

    for B, M in DECODE:
        shape = {"B": B, "H": 32, "G": 8, "M": M, "D": 128, "dtype": "fp16"}
        work = {"flop": 4 * B * 32 * M * 128, "bytes": 2 * 2 * B * 8 * M * 128}
        yield Case("decode", f"B{B} H32 G8 M{M} D128", shape, work,
                   partial(prepare.decode, device, B, 32, 8, M, 128))  # fmt: skip


def _neighborhood(device: str) -> Iterator[Case]:
    from cascadesim.kernels.neighborhood_attention.pattern import boxes, pattern
    from cascadesim.validation import measure_prepare as prepare

    for layout, window, stride, query_tile, key_tile in GNA:
        shape = {"layout": layout, "window": window, "stride": stride, "query_tile": query_tile, "key_tile": key_tile,
                 "H": 16, "D": 128, "dtype": "fp16"}  # fmt: skip
        found = boxes(pattern(layout, window, stride), query_tile, key_tile)
        dense = -(-prod(layout) // prod(query_tile)) * -(-prod(layout) // prod(key_tile))
        work = {"key_tiles": int(found.visited.sum()), "without_mask": int(found.whole.sum()), "dense_key_tiles": dense}
        sizes = ["x".join(map(str, each)) for each in (layout, window, stride)]
        yield Case("neighborhood", f"layout {sizes[0]} window {sizes[1]} stride {sizes[2]}", shape, work,
                   partial(prepare.neighborhood, device, shape))  # fmt: skip


def _pruned(device: str) -> Iterator[Case]:
    from cascadesim.validation import measure_prepare as prepare

    for tokens, kept in PRUNED:
        shape = {"B": 1, "H": 16, "M": tokens, "kept": kept, "D": 128, "dtype": "fp16"}
        yield Case("pruned", f"{kept} of {tokens} tokens", shape, {},
                   partial(prepare.pruned, device, tokens, kept))  # fmt: skip
