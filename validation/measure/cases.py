"""What `measure` runs: shapes, kernels, and the library's attention beside them in the same case; and single rates.

The list is the same on every machine and needs no torch: what a machine cannot run fails there, variant by variant. A
case makes its random inputs when it is prepared, on a device of torch's, by a function of `prepare`, `pruned` or
`rates`. Work is stated as derived: FLOP, exponentials, and the fewest bytes that must move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from math import prod
from typing import Any, TypeAlias

from cascadesim.kernels.microbenchmarks import MATRIX
from cascadesim.kernels.neighborhood_attention.pattern import boxes, pattern
from cascadesim.validation.measure.timing import Caches, Launch

Checked: TypeAlias = tuple[Launch, Callable[[], float]]  # what is timed; its error, a function because it costs time


@dataclass(frozen=True)
class Prepared:
    """`only`: variants of which one state of the caches says something."""

    given: Mapping[str, Launch | Checked]
    only: Mapping[str, Caches] = field(default_factory=dict)

    @property
    def variants(self) -> Mapping[str, Launch]:
        return {name: each[0] if isinstance(each, tuple) else each for name, each in self.given.items()}

    @property
    def checks(self) -> Mapping[str, Callable[[], float]]:
        """Of the variants that are given with one: the error against the reference."""
        return {name: each[1] for name, each in self.given.items() if isinstance(each, tuple)}


@dataclass(frozen=True)
class BenchmarkCase:
    """`variants`: the names of what `prepare` makes, in its order."""

    suite: str
    name: str
    shape: Mapping[str, Any]
    work: Mapping[str, int]
    variants: tuple[str, ...]
    prepare: Callable[[str], Prepared]


ATTENTION = tuple((B, L, D) for D in (64, 128) for B, L in ((16, 1024), (4, 4096), (1, 16384)))  # batch x length fixed
HEADS = {64: 32, 128: 16}  # 2048 model dimensions, as FlashAttention's papers measure
COMPILED = {(1, 16384, 128)}  # where flex_attention is compiled too, which takes longest
DECODE = ((1, 8192), (16, 8192), (64, 4096), (16, 32768))  # batch, keys; the last holds 4 GB of cache
GNA = (  # layout, window, stride, query tile, key tile; GNA (arXiv 2504.16922), section 4, scaled to H100 minutes
    ((16, 48, 80), (8, 24, 24), (1, 1, 1), (2, 8, 8), (1, 8, 8)),
    ((16, 48, 80), (8, 24, 24), (2, 8, 8), (2, 8, 8), (1, 8, 8)),
    ((128, 128), (48, 48), (1, 1), (16, 8), (8, 8)),
    ((128, 128), (48, 48), (16, 8), (16, 8), (8, 8)),
    ((16384,), (2048,), (1,), (128,), (64,)),
)
LISTED = (  # small enough for a whole mask: boxes of tiles against a list of the same tiles, ours and flex_attention's
    ((64, 64), (24, 24), (1, 1), (16, 8), (8, 8)),
    ((64, 64), (24, 24), (16, 8), (16, 8), (8, 8)),
)  # fmt: skip
PRUNED = ((4096, 2048), (4096, 1024), (16384, 2048))  # tokens, kept
LONG, SHORT = 16384, 4096  # tokens of the other mechanisms
PROGRESSIVE = (16, 16, 8192, 64)  # batch, heads, keys, head dimension: 134 MB of codes, 268 MB of values
THRESHOLD = 1e-3  # of a value's probability, in units of the mean one
STORED_BYTES = 8 * 2**30  # most that stored scores may take
CASCADES = ("attention-1pass", "attention-2pass", "attention-3pass", "attention-3pass-stored")
STORED = "attention-3pass-stored"
MMA = "attention-1pass, mma.sync"
BACKENDS = ("FLASH_ATTENTION", "CUDNN_ATTENTION", "MATH")  # torch.nn.attention.SDPBackend, pinned
FLEX, FLEX_TILES = "flex_attention", "flex_attention, block mask"
DENSE_LIBRARY = "dense, sdpa FLASH_ATTENTION"

LAUNCHES = 100
PEAK_TURNS = 2048
MEMORY_ELEMENTS = 1 << 30  # of 2 bytes: 2 GiB, many times any L2 cache
CACHED_ELEMENTS = 1 << 23  # 16 MiB: inside the L2 cache of an H100
REREADS = 64  # times that a buffer inside the L2 cache is read in one launch: 1 GiB in all
EXPONENTIAL_TURNS, EXPONENTIALS_A_TURN = 1024, 16 * 1024  # the latter: CHAINS x BLOCK of the kernel
BLOCKS_PER_SM = 2
BLOCKS, THREADS = 1024, 256  # of the CUDA C++ rates: several of each on every multiprocessor
MIX_TURNS, CHASE_TURNS, ATOMIC_TURNS, SHARED_TURNS = 4096, 16384, 64, 1024
CHAINS_WORDS = {"L1": 1 << 12, "L2": 1 << 22, "DRAM": 1 << 28}  # 16 KiB, 16 MiB, 1 GiB of 4-byte words
ATOMIC_ADDRESSES = (1, 1024, 1 << 20)
CHAINS = 8  # as in issue_mix.cu
MIXES = {"fma_rate": 1, "exponential_rate": 1, "fma_and_exponential_rate": 5}  # instructions of a chain per iteration
PRODUCTS = ("product_rate_fp16", "product_rate_bf16", "product_and_exponential_rate")
PRODUCT_FLOP = 2 * 16 * 8 * 16  # as in product_rate.cu
SHARED_LOADS = 8  # as in shared_memory.cu
STRIDES = {1: "no conflict", 2: "2 lanes a bank", 8: "8 lanes a bank", 32: "32 lanes a bank"}  # words between lanes
SHARED = ("16 bytes a lane", *(f"4 bytes a lane, {name}" for name in STRIDES.values()))


@cache
def cases() -> tuple[BenchmarkCase, ...]:
    """All cases, in the order in which they are measured."""
    families = (_rates, _rates_in_cuda, _attention, _decode, _neighborhood, _pruned)
    return tuple(case for family in families for case in family())


def case_named(suite: str, name: str) -> BenchmarkCase:
    """Raises KeyError."""
    return {(case.suite, case.name): case for case in cases()}[suite, name]


def _prepared(function: str, *sizes: Any) -> Callable[[str], Prepared]:
    """`module.function` of this folder, imported when a case is prepared, because these modules need torch."""

    def prepare(device: str) -> Prepared:
        module, _, name = function.partition(".")
        found = getattr(import_module(f"cascadesim.validation.measure.{module}"), name)
        prepared: Prepared = found(device, *sizes)
        return prepared

    return prepare


def _rate(name: str, shape: dict[str, Any], work: dict[str, int], variants: tuple[str, ...], function: str,
          *sizes: Any) -> BenchmarkCase:  # fmt: skip
    return BenchmarkCase("microbenchmarks", name, shape, work, variants, _prepared(f"rates.{function}", *sizes))


def _rates() -> Iterator[BenchmarkCase]:
    """What Triton expresses. 8-bit products fail where the device has none."""
    yield _rate("launch", {}, {"launches": LAUNCHES}, ("empty", f"{LAUNCHES} empty", "empty, CUDA C++"), "launch")
    for kind, M, N, K in MATRIX:
        turns = PEAK_TURNS if kind != "fp32" else PEAK_TURNS // 8
        yield _rate(f"matrix peak {kind} {M}x{N}x{K}", {"kind": kind, "turns": turns, "M": M, "N": N, "K": K},
                    {"flop_per_block": 2 * turns * M * N * K, "blocks_per_multiprocessor": BLOCKS_PER_SM},
                    ("products",), "matrix_peak", kind, M, N, K, turns)  # fmt: skip
    yield _rate("exponentials", {"turns": EXPONENTIAL_TURNS},
                {"per_block": EXPONENTIAL_TURNS * EXPONENTIALS_A_TURN, "blocks_per_multiprocessor": 4 * BLOCKS_PER_SM},
                ("exponentials",), "exponential_rate", EXPONENTIAL_TURNS)  # fmt: skip
    for name, elements, rereads in (("DRAM", MEMORY_ELEMENTS, 1), ("L2", CACHED_ELEMENTS, REREADS)):
        yield _rate(f"{name} copy, read, write", {"elements": elements, "rereads": rereads},
                    {"bytes": 2 * elements, "read_bytes": 2 * elements * rereads},
                    ("copy", "write", "read", "torch copy"), "memory", elements, rereads)  # fmt: skip


def _rates_in_cuda() -> Iterator[BenchmarkCase]:
    """Exact sequences of instructions."""
    size = {"blocks": BLOCKS, "threads": THREADS}
    chains = BLOCKS * THREADS * MIX_TURNS * CHAINS
    yield _rate("issue mix", {**size, "turns": MIX_TURNS}, {name: chains * count for name, count in MIXES.items()},
                tuple(MIXES), "issue_mix", BLOCKS, THREADS, MIX_TURNS)  # fmt: skip
    yield _rate("mma.sync peak", {**size, "turns": MIX_TURNS},
                {"flop": chains // 32 * PRODUCT_FLOP, "exponentials beside": chains}, PRODUCTS, "products", BLOCKS,
                THREADS, MIX_TURNS)  # fmt: skip
    loads = BLOCKS * THREADS * SHARED_TURNS * SHARED_LOADS
    yield _rate("shared memory", {**size, "turns": SHARED_TURNS},
                {"bytes, 16 a lane": 16 * loads, "bytes, 4 a lane": 4 * loads}, SHARED, "shared_memory", BLOCKS,
                THREADS, SHARED_TURNS)  # fmt: skip
    for level, words in CHAINS_WORDS.items():
        yield _rate(f"latency {level}", {"words": words, "turns": CHASE_TURNS, "level": level}, {"loads": CHASE_TURNS},
                    ("global", "shared"), "latency", words, CHASE_TURNS, level == "DRAM")  # fmt: skip
    for addresses in ATOMIC_ADDRESSES:
        yield _rate(f"atomic additions to {addresses}", size, {"additions": BLOCKS * THREADS * ATOMIC_TURNS},
                    ("atomic additions",), "atomics", BLOCKS, THREADS, ATOMIC_TURNS, addresses)  # fmt: skip


def sdpa(backend: str) -> str:
    return f"sdpa {backend}"


def _attention() -> Iterator[BenchmarkCase]:
    """Scores that are stored, by us or by the library, only where they fit."""
    for B, L, D in ATTENTION:
        for causal in (False, True):
            H = HEADS[D]
            scores = B * H * L * L // (1 + causal)
            fits = 4 * B * H * L * L <= STORED_BYTES
            work = {"flop": 4 * scores * D, "exponentials": scores, "bytes": 2 * 4 * B * H * L * D}
            shape = {"B": B, "H": H, "L": L, "D": D, "causal": causal, "dtype": "fp16"}
            ours = (*(name for name in CASCADES if fits or name != STORED), MMA)
            library = tuple(sdpa(backend) for backend in BACKENDS if fits or backend != "MATH")
            names = (*ours, *library, *((FLEX,) if (B, L, D) in COMPILED else ()))
            yield BenchmarkCase("attention", f"B{B} H{H} L{L} D{D}{' causal' * causal}", shape, work, names,
                                _prepared("prepare.attention", B, H, L, D, causal, names))  # fmt: skip


def _decode() -> Iterator[BenchmarkCase]:
    names = ("split keys", "split keys, paged", *map(sdpa, BACKENDS), "copy of the keys")
    for B, M in DECODE:
        shape = {"B": B, "H": 32, "G": 8, "M": M, "D": 128, "dtype": "fp16"}
        work = {"flop": 4 * B * 32 * M * 128, "bytes": 2 * 2 * B * 8 * M * 128}
        yield BenchmarkCase("decode", f"B{B} H32 G8 M{M} D128", shape, work, names,
                            _prepared("prepare.decode", B, 32, 8, M, 128))  # fmt: skip


def _neighborhood() -> Iterator[BenchmarkCase]:
    for layout, window, stride, query_tile, key_tile in (*GNA, *LISTED):
        listed = (layout, window, stride, query_tile, key_tile) in LISTED
        shape = {"layout": layout, "window": window, "stride": stride, "query_tile": query_tile, "key_tile": key_tile,
                 "H": 16, "D": 128, "dtype": "fp16"}  # fmt: skip
        found = boxes(pattern(layout, window, stride), query_tile, key_tile)
        dense = -(-prod(layout) // prod(query_tile)) * -(-prod(layout) // prod(key_tile))
        work = {"key_tiles": int(found.visited.sum()), "without_mask": int(found.whole.sum()), "dense_key_tiles": dense}
        sizes = ["x".join(map(str, each)) for each in (layout, window, stride)]
        names = ("permutation", "attention in tile order", "masks in every tile",
                 *(("list of tiles", FLEX_TILES) if listed else ()), "inverse permutation", "dense, ours",
                 DENSE_LIBRARY)  # fmt: skip
        yield BenchmarkCase("neighborhood", f"layout {sizes[0]} window {sizes[1]} stride {sizes[2]}", shape, work,
                            names, _prepared("prepare.neighborhood", shape, listed))  # fmt: skip


def _pruned() -> Iterator[BenchmarkCase]:
    """SpAtten's mechanisms, H 16 and head dimension 128, but for progressive quantization."""
    H, D = 16, 128
    size = {"B": 1, "H": H, "D": D, "dtype": "fp16"}

    def case(name: str, shape: dict[str, Any], work: dict[str, int], variants: tuple[str, ...], function: str,
             *sizes: Any) -> BenchmarkCase:  # fmt: skip
        return BenchmarkCase("pruned", name, shape, work, variants, _prepared(f"pruned.{function}", *sizes))

    for tokens, kept in PRUNED:
        work = {"flop": 4 * H * tokens * kept * D, "bytes": 2 * 2 * H * (tokens + kept) * D}
        names = ("dense", "top-k", "top-k, radix select", "torch top-k", "compaction", "dense after compaction",
                 "gathered")  # fmt: skip
        yield case(f"{kept} of {tokens} tokens", {**size, "M": tokens, "kept": kept}, work, names, "pruned", H, tokens,
                   kept, D)  # fmt: skip
    for tokens in (SHORT, LONG):
        work = {"flop": 2 * H * tokens**2 * D, "exponentials": H * tokens**2, "bytes": (2 * 2 * D + 4) * H * tokens}
        yield case(f"importance of {tokens} tokens", {**size, "M": tokens}, work,
                   ("forward", "forward, denominators kept", "column sums", "importance of heads"), "importance", H,
                   tokens, D)  # fmt: skip
    half, scores = H // 2, H * SHORT**2
    yield case(f"{half} of {H} heads", {**size, "M": SHORT, "kept_heads": half}, {"flop": 6 * half * SHORT**2 * D},
               ("all heads", f"{half} heads"), "heads", H, half, SHORT, D)  # fmt: skip
    yield case(f"values of {SHORT // 2} of {SHORT} tokens by tile", {**size, "M": SHORT},
               {"flop": 4 * scores * D + 2 * scores // 2 * D}, ("all values", "values by tile", "values masked"),
               "values_by_tile", H, SHORT, D)  # fmt: skip
    # bytes of one pass: a plane of the keys, and values; all 8 bits need both planes after the upper one
    B, H, M, D = PROGRESSIVE
    keys = B * H * M * D
    plane, values = keys // 2, 2 * keys
    work = {"upper_bytes": plane + values, "all_bytes": plane + values + 2 * plane + values,
            "full_width_bytes": 2 * keys + values}  # fmt: skip
    yield case(f"progressive quantization B{B} H{H} M{M} D{D}",
               {"B": B, "H": H, "M": M, "D": D, "dtype": "fp16 values, 4+4-bit keys"}, work,
               ("upper 4 bits", "all 8 bits", "16 bits, full width"), "progressive", B, H, M, D)  # fmt: skip
