"""What `measure` runs: shapes, kernels, and the library's attention beside them in the same case.

The list is the same on every machine and needs no torch: what a machine cannot run fails there, variant by variant. A
case makes its random inputs when it is prepared, on a device of torch's. Work is stated as derived: FLOP, exponentials,
and the fewest bytes that must move. The microbenchmarks are in `rate_cases`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import Any

from cascadesim.validation.measure.timing import Caches, Launch


@dataclass(frozen=True)
class Prepared:
    """`checks`: name of a variant -> its error against the reference, a function because it costs time. `only`:
    variants of which one state of the caches says something."""

    variants: Mapping[str, Launch]
    checks: Mapping[str, Callable[[], float]] = field(default_factory=dict)
    only: Mapping[str, Caches] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
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
LAUNCHES = 100
STORED_BYTES = 8 * 2**30  # most that stored scores may take
CASCADES = ("attention-1pass", "attention-2pass", "attention-3pass", "attention-3pass-stored")
STORED = "attention-3pass-stored"
MMA = "attention-1pass, mma.sync"
BACKENDS = ("FLASH_ATTENTION", "CUDNN_ATTENTION", "MATH")  # torch.nn.attention.SDPBackend, pinned
FLEX, FLEX_TILES = "flex_attention", "flex_attention, block mask"
DENSE_LIBRARY = "dense, sdpa FLASH_ATTENTION"


@cache
def cases() -> tuple[Case, ...]:
    """In the order in which they are measured."""
    from cascadesim.validation.measure.rate_cases import microbenchmarks

    kernels = (_attention, _decode, _neighborhood, _pruned)
    return (*microbenchmarks(), *(case for family in kernels for case in family()))


def sdpa(backend: str) -> str:
    return f"sdpa {backend}"


def _attention() -> Iterator[Case]:
    """Scores that are stored, by us or by the library, only where they fit."""
    from cascadesim.validation.measure import prepare

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
            yield Case("attention", f"B{B} H{H} L{L} D{D}{' causal' * causal}", shape, work, names,
                       _prepared(prepare.attention, B, H, L, D, causal, names))  # fmt: skip


def _prepared(function: Callable[..., Prepared], *sizes: Any) -> Callable[[str], Prepared]:
    return lambda device: function(device, *sizes)


def _decode() -> Iterator[Case]:
    from cascadesim.validation.measure import prepare

    names = ("split keys", "split keys, paged", *map(sdpa, BACKENDS), "copy of the keys")
    for B, M in DECODE:
        shape = {"B": B, "H": 32, "G": 8, "M": M, "D": 128, "dtype": "fp16"}
        work = {"flop": 4 * B * 32 * M * 128, "bytes": 2 * 2 * B * 8 * M * 128}
        yield Case("decode", f"B{B} H32 G8 M{M} D128", shape, work, names,
                   _prepared(prepare.decode, B, 32, 8, M, 128))  # fmt: skip


def _neighborhood() -> Iterator[Case]:
    from cascadesim.kernels.neighborhood_attention.pattern import boxes, pattern
    from cascadesim.validation.measure import neighborhood as prepare

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
        yield Case("neighborhood", f"layout {sizes[0]} window {sizes[1]} stride {sizes[2]}", shape, work, names,
                   _prepared(prepare.neighborhood, shape, listed))  # fmt: skip


def _pruned() -> Iterator[Case]:
    """H 16 and head dimension 128, but for progressive quantization."""
    from cascadesim.validation.measure import pruned as prepare

    H, D = 16, 128
    size = {"B": 1, "H": H, "D": D, "dtype": "fp16"}
    for tokens, kept in PRUNED:
        work = {"flop": 4 * H * tokens * kept * D, "bytes": 2 * 2 * H * (tokens + kept) * D}
        names = ("dense", "top-k", "top-k, radix select", "torch top-k", "compaction", "dense after compaction",
                 "gathered")  # fmt: skip
        yield Case("pruned", f"{kept} of {tokens} tokens", {**size, "M": tokens, "kept": kept}, work, names,
                   _prepared(prepare.pruned, H, tokens, kept, D))  # fmt: skip
    for tokens in (SHORT, LONG):
        work = {"flop": 2 * H * tokens**2 * D, "exponentials": H * tokens**2, "bytes": (2 * 2 * D + 4) * H * tokens}
        yield Case("pruned", f"importance of {tokens} tokens", {**size, "M": tokens}, work,
                   ("forward", "forward, denominators kept", "column sums", "importance of heads"),
                   _prepared(prepare.importance, H, tokens, D))  # fmt: skip
    half = H // 2
    yield Case("pruned", f"{half} of {H} heads", {**size, "M": SHORT, "kept_heads": half},
               {"flop": 6 * half * SHORT**2 * D}, ("all heads", f"{half} heads"),
               _prepared(prepare.heads, H, half, SHORT, D))  # fmt: skip
    scores = H * SHORT**2
    yield Case("pruned", f"values of {SHORT // 2} of {SHORT} tokens by tile", {**size, "M": SHORT},
               {"flop": 4 * scores * D + 2 * scores // 2 * D}, ("all values", "values by tile", "values masked"),
               _prepared(prepare.values_by_tile, H, SHORT, D))  # fmt: skip
    yield _progressive(*PROGRESSIVE)


def _progressive(B: int, H: int, M: int, D: int) -> Case:
    """Bytes of one pass: a plane of the keys, and values; all 8 bits need both planes after the upper one."""
    from cascadesim.validation.measure import pruned as prepare

    keys = B * H * M * D
    plane, values = keys // 2, 2 * keys
    work = {"upper_bytes": plane + values, "all_bytes": plane + values + 2 * plane + values,
            "full_width_bytes": 2 * keys + values}  # fmt: skip
    shape = {"B": B, "H": H, "M": M, "D": D, "dtype": "fp16 values, 4+4-bit keys"}
    return Case("pruned", f"progressive quantization B{B} H{H} M{M} D{D}", shape, work,
                ("upper 4 bits", "all 8 bits", "16 bits, full width"),
                _prepared(prepare.progressive, B, H, M, D))  # fmt: skip
