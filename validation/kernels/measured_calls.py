"""Which compiled kernels a variant of a measured case launches, and on what: the calls that the GPU model then times.

Names are those of `cases` and of kernels/static_counts.json. What depends on the data (values by tile, top-k)
has no calls: nothing is predicted of it, for a stated reason. Rates and the library's kernels are in `measured_rates`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeAlias

HALF_BYTES, FLOAT_BYTES = 2, 4
SPLITS = {"packs_group": True, "splits_keys": True, "split_waves": 2, "keys_per_split": 256, "always_combines": True,
          "extra_kernels": 1}  # kernels/decode_attention/triton.py: PROGRAMS_PER_SM, SPLIT_KEYS, decode_reduce
Sizes: TypeAlias = Mapping[str, Any]  # the shape, or the work, that a record states


@dataclass(frozen=True)
class Streamed:
    """A kernel that only moves bytes."""

    read_bytes: int
    write_bytes: int


@dataclass(frozen=True)
class Attended:
    """A kernel with counts; sizes as in `accelerators.gpu.shape`. `masked`: share of its tiles with a mask."""

    counts: str
    batch: int
    heads: int
    heads_kv: int
    queries: int
    keys: int
    head_dim: int
    value_dim: int | None = None
    causal: bool = False
    visited_keys: float = 0.0
    masked: float | None = None
    traits: Mapping[str, Any] = field(default_factory=dict)


Call: TypeAlias = Attended | Streamed


def calls_of(suite: str, shape: Sizes, work: Sizes) -> Mapping[str, Sequence[Call]]:
    """Variant -> its kernels; none for a suite without predictions."""
    of = {"attention": _attention, "decode": _decode, "neighborhood": _neighborhood, "pruned": _pruned}
    return of[suite](shape, work) if suite in of else {}


DATA = "what it fetches depends on the data"
SELECTS = "no model of selecting: the time depends on the data"
UNPREDICTED: Mapping[str, str] = {
    "top-k": SELECTS, "top-k, radix select": SELECTS, "torch top-k": SELECTS, "values by tile": DATA,
    "values masked": "the kernel that masks single values is not described",
}  # fmt: skip # variant of ours -> why nothing is predicted of it


def _attention(shape: Sizes, work: Sizes) -> Mapping[str, Sequence[Call]]:
    B, H, L, D, causal = (shape[name] for name in ("B", "H", "L", "D", "causal"))
    end = f"fp16 D{D}{' causal' * causal}"
    compiled = {f"attention-{passes}pass": f"attention-{passes}pass {end}" for passes in (1, 2, 3)}
    compiled["attention-1pass, mma.sync"] = f"mma.sync attention {end}"
    found: dict[str, Sequence[Call]] = {
        variant: (Attended(counts, B, H, H, L, L, D, causal=causal),) for variant, counts in compiled.items()
    }
    return {**found, "attention-3pass-stored": _stored(B * H * L * D, B * H * L * L // (1 + causal))}


def _stored(elements: int, scores: int) -> tuple[Streamed, ...]:
    """Bound by memory: scores written, read and written, read; 4 bytes each."""
    one, many = HALF_BYTES * elements, FLOAT_BYTES * scores
    return Streamed(2 * one, many), Streamed(many, many), Streamed(many + one, one)


def _decode(shape: Sizes, work: Sizes) -> Mapping[str, Sequence[Call]]:
    B, H, G, M, D = (shape[name] for name in "BHGMD")
    return {
        variant: (Attended(f"decode {paged}fp16 D{D}", B, H, G, 1, M, D, traits=SPLITS),)
        for variant, paged in (("split keys", ""), ("split keys, paged", "paged "))
    }


def _neighborhood(shape: Sizes, work: Sizes) -> Mapping[str, Sequence[Call]]:
    """A list of tiles holds those of the boxes."""
    H, D, tokens = shape["H"], shape["D"], prod(shape["layout"])
    visited = work["key_tiles"] * prod(shape["key_tile"]) / -(-tokens // prod(shape["query_tile"]))
    moved = HALF_BYTES * H * tokens * D
    masked = 1 - work["without_mask"] / work["key_tiles"]

    def walked(kernel: str, masked: float) -> tuple[Attended, ...]:
        counts = f"{kernel} fp16 D{D}"
        return (Attended(counts, 1, H, H, tokens, tokens, D, visited_keys=visited, masked=masked),)

    boxes = f"neighborhood {len(shape['layout'])}-D"
    return {
        "attention in tile order": walked(boxes, masked),
        "masks in every tile": walked(boxes, 1.0),
        "list of tiles": walked("block-sparse", masked),
        "permutation": (Streamed(moved, moved),) * 3,
        "inverse permutation": (Streamed(0, moved), Streamed(moved, moved)),  # zeros first
        "dense, ours": (Attended(f"attention-1pass fp16 D{D}", 1, H, H, tokens, tokens, D),),
    }


def _pruned(shape: Sizes, work: Sizes) -> Mapping[str, Sequence[Call]]:
    """A case has some of these. Column sums keep keys and walk over queries; they have no values."""
    if "upper_bytes" in work:
        return _progressive(shape, work)
    H, M, D = (shape[name] for name in "HMD")
    kept, kept_heads = shape.get("kept", M), shape.get("kept_heads", H)
    dense, gathered = f"attention-1pass fp16 D{D}", f"pruned attention fp16 D{D}, values by none"
    moved = HALF_BYTES * H * kept * D

    def attended(counts: str, heads: int, keys: int) -> tuple[Attended, ...]:
        return (Attended(counts, shape["B"], heads, heads, M, keys, D),)

    return {
        **dict.fromkeys(("dense", "forward", "forward, denominators kept"), attended(dense, H, M)),
        "dense after compaction": attended(dense, H, kept),
        "gathered": attended(gathered, H, kept),
        **dict.fromkeys(("all heads", "all values"), attended(gathered, H, M)),
        f"{kept_heads} heads": attended(gathered, kept_heads, M),
        "column sums": (Attended(f"column sums fp16 D{D}", shape["B"], H, H, M, M, D, 1),),
        "compaction": (Streamed(moved, moved),),
        "importance of heads": (Streamed(HALF_BYTES * H * M * D, 0),),
    }


def _progressive(shape: Sizes, work: Sizes) -> Mapping[str, Sequence[Call]]:
    """Few bits are unpacked and multiplied on the FP32 units; taken as bound by memory, pass by pass."""
    B, H, M, D = (shape[name] for name in "BHMD")
    upper, rest = Streamed(work["upper_bytes"], 0), Streamed(work["all_bytes"] - work["upper_bytes"], 0)
    return {
        "upper 4 bits": (upper,),
        "all 8 bits": (upper, rest),
        "16 bits, full width": (Attended(f"decode fp16 D{D}", B, H, H, 1, M, D, traits=SPLITS),),
    }
