"""The pruning kernels as they are compiled, with the work of one tile where the matrix unit does it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from cascadesim.kernels.attention.configurations import precision, tiles_of
from cascadesim.kernels.attention.variants import scores, values
from cascadesim.kernels.catalogue import LoopWork, TileProduct, Variant, typed
from cascadesim.kernels.pruned_attention import importance, progressive, selection
from cascadesim.kernels.pruned_attention.triton import pruned_2pass

FAMILY = "pruned_attention"
HEADS = {"heads": "i32", "group": "i32"}
SMALL = frozenset({"heads", "kept_heads", "group", "kept", "splits", "split_tiles"})  # need not divide by 16


def variants(target: int) -> Iterator[Variant]:
    for causal in (False, True):
        yield _column_sums(128, causal)
    yield typed(_column_sums(128, False), "bf16")
    yield typed(_column_sums(128, False, 4), "fp32")
    yield Variant("head importance fp16", FAMILY, importance.head_importance_kernel,
                  {"AV": "*fp16", "SUMS": "*fp32", "elements": "i32"}, {"BLOCK": 1024}, 4, 3)  # fmt: skip
    yield Variant("top tokens", FAMILY, selection.top_tokens_kernel,
                  {"IMPORTANCE": "*fp32", "KEPT": "*i32", "tokens": "i32", "kept": "i32"},
                  {"BLOCK": selection.BLOCK, "BITS": 32},
                  selection.WARPS, 3, unaligned=SMALL)  # fmt: skip
    yield Variant("top-k, radix select", FAMILY, selection.CUDA_FUNCTION, {}, {}, selection.CUDA_THREADS // 32, 1)
    for prune in ("none", "tile", "element"):
        yield _pruned(target // 10, 128, prune)
    yield _pruned(target // 10, 64, "tile")
    yield typed(_pruned(target // 10, 128, "tile", 4), "fp32")
    for E, fine in product((64, 128), (False, True)):
        yield from _progressive(E, fine)


def _column_sums(D: int, causal: bool, element_bytes: int = 2) -> Variant:
    M0, P0, stages = importance.tile(D, element_bytes)
    signature = {
        "Q": "*fp16",
        "K": "*fp16",
        "LSE": "*fp32",
        "SUMS": "*fp32",
        "scale_log2": "fp32",
        "P": "i32",
        "M": "i32",
        **HEADS,
    }
    constants = {"E": D, "EP": D, "P0": P0, "M0": M0, "CAUSAL": causal, "PRECISION": precision(2)}
    loop = LoopWork((TileProduct(M0, P0, D),), P0 * M0)
    return Variant(
        f"column sums fp16 D{D}{' causal' * causal}",
        FAMILY,
        importance.column_sums_kernel,
        signature,
        constants,
        importance.WARPS,
        stages,
        (loop,),
        SMALL,
    )


def _pruned(capability: int, D: int, prune: str, element_bytes: int = 2) -> Variant:
    tiles = tiles_of(capability, D, element_bytes, "pruned")
    signature = {
        **{each: "*fp16" for each in ("Q", "K", "V", "AV")},
        **{each: "*i32" for each in ("TOKENS", "HEADS", "FETCHED")},
        "scale_log2": "fp32",
        "threshold": "fp32",
        "P": "i32",
        "M": "i32",
        "kept": "i32",
        "kept_heads": "i32",
        **HEADS,
    }
    constants = {
        "E": D,
        "F": D,
        "EP": D,
        "FP": D,
        "P0": tiles.P0,
        "M0": tiles.M0,
        "PRUNE": prune,
        "COUNT": False,
        "PRECISION": precision(2),
    }
    pairs = tiles.P0 * tiles.M0
    loops = (LoopWork((scores(tiles, D),), pairs, tiles.P0), LoopWork((scores(tiles, D), values(tiles, D)), pairs))
    return Variant(f"pruned attention fp16 D{D}, values by {prune}", FAMILY, pruned_2pass, signature, constants,
                   tiles.warps, tiles.stages, loops, SMALL)  # fmt: skip


def _progressive(E: int, fine: bool) -> Iterator[Variant]:
    state = {"RM": "*fp32", "RD": "*fp32", "RNV": "*fp32"}
    which = "all 8 bits" if fine else "upper 4 bits"
    turn = LoopWork((), 32 * progressive.WARPS, progressive.KEYS)  # PRM in each thread; SLN in those that share a row
    yield Variant(
        f"progressive decode D{E}, {which}", FAMILY, progressive.progressive_split,
        {"Q": "*fp16", "UPPER": "*u8", "LOWER": "*u8", "KEY_SCALE": "*fp32", "V": "*fp16", "NEED": "*i32", **state,
         "scale_log2": "fp32", "M": "i32", **HEADS, "splits": "i32", "split_tiles": "i32"},
        {"E": E, "F": E, "FP": E, "M0": progressive.KEYS, "FINE": fine}, progressive.WARPS,
        progressive.STAGES, (turn,), SMALL,
    )  # fmt: skip
    yield Variant(
        f"progressive reduce D{E}, {which}", FAMILY, progressive.progressive_reduce,
        {**state, "AV": "*fp16", "NEED": "*i32", "threshold": "fp32", "splits": "i32"},
        {"F": E, "FP": E, "S": progressive.MOST_SPLITS, "FINE": fine},
        progressive.WARPS, 3, (), SMALL,
    )  # fmt: skip
