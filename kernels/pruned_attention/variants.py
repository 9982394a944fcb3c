"""The pruning kernels as they are compiled, with the work of one tile where the matrix unit does it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from cascadesim.kernels.attention.configurations import precision, tiles_of
from cascadesim.kernels.attention.variants import scores, sides, values
from cascadesim.kernels.catalogue import LoopWork, TileProduct, Variant, signature, typed
from cascadesim.kernels.pruned_attention import importance, progressive, selection
from cascadesim.kernels.pruned_attention.triton import pruned_2pass

FAMILY = "pruned_attention"
SMALL = frozenset({"heads", "kept_heads", "group", "kept", "splits", "split_tiles"})  # need not divide by 16


def variants(target: int) -> Iterator[Variant]:
    for causal in (False, True):
        yield _column_sums(128, causal)
    yield typed(_column_sums(128, False), "bf16")
    yield typed(_column_sums(128, False, 4), "fp32")
    yield _variant("head importance fp16", importance.head_importance_kernel, "AV:*fp16 SUMS:*fp32 elements:i32",
                   {"BLOCK": importance.BLOCK}, 4, 3)  # fmt: skip
    yield _variant("top tokens", selection.top_tokens_kernel, "IMPORTANCE:*fp32 KEPT:*i32 tokens kept:i32",
                   {"BLOCK": selection.BLOCK, "BITS": 32}, selection.WARPS, 3)  # fmt: skip
    yield Variant("top-k, radix select", FAMILY, selection.CUDA_FUNCTION, {}, {}, selection.CUDA_THREADS // 32, 1)
    for prune in ("none", "tile", "element"):
        yield _pruned(target // 10, 128, prune)
    yield _pruned(target // 10, 64, "tile")
    yield typed(_pruned(target // 10, 128, "tile", 4), "fp32")
    for E, fine in product((64, 128), (False, True)):
        yield from _progressive(E, fine)


def _column_sums(D: int, causal: bool, element_bytes: int = 2) -> Variant:
    M0, P0, stages = importance.tile(D, element_bytes)
    constants = {"E": D, "EP": D, "P0": P0, "M0": M0, "CAUSAL": causal, "PRECISION": precision(2)}
    return _variant(f"column sums fp16 D{D}{' causal' * causal}", importance.column_sums_kernel,
                    "Q K:*fp16 LSE SUMS:*fp32 scale_log2:fp32 P M heads group:i32", constants, importance.WARPS, stages,
                    LoopWork((TileProduct(M0, P0, D),), P0 * M0))  # fmt: skip


def _pruned(capability: int, D: int, prune: str, element_bytes: int = 2) -> Variant:
    tiles = tiles_of(capability, D, element_bytes, "pruned")
    pairs = tiles.P0 * tiles.M0
    return _variant(
        f"pruned attention fp16 D{D}, values by {prune}", pruned_2pass,
        "Q K V AV:*fp16 TOKENS HEADS FETCHED:*i32 scale_log2 threshold:fp32 P M kept kept_heads heads group:i32",
        {**sides(tiles, D), "PRUNE": prune, "COUNT": False, "PRECISION": precision(2)}, tiles.warps, tiles.stages,
        LoopWork((scores(tiles, D),), pairs, tiles.P0), LoopWork((scores(tiles, D), values(tiles, D)), pairs),
    )  # fmt: skip


def _progressive(E: int, fine: bool) -> Iterator[Variant]:
    which = "all 8 bits" if fine else "upper 4 bits"
    turn = LoopWork((), 32 * progressive.WARPS, progressive.KEYS)  # PRM in each thread; SLN in those that share a row
    yield _variant(
        f"progressive decode D{E}, {which}", progressive.progressive_split,
        "Q V:*fp16 UPPER LOWER:*u8 KEY_SCALE RM RD RNV:*fp32 NEED:*i32 scale_log2:fp32 "
        "M heads group splits split_tiles:i32",
        {"E": E, "F": E, "FP": E, "M0": progressive.KEYS, "FINE": fine}, progressive.WARPS, progressive.STAGES, turn,
    )  # fmt: skip
    yield _variant(
        f"progressive reduce D{E}, {which}", progressive.progressive_reduce,
        "RM RD RNV:*fp32 AV:*fp16 NEED:*i32 threshold:fp32 splits:i32",
        {"F": E, "FP": E, "S": progressive.MOST_SPLITS, "FINE": fine}, progressive.WARPS, 3,
    )  # fmt: skip


def _variant(name: str, function: Any, arguments: str, constants: dict[str, Any], warps: int, stages: int,
             *loops: LoopWork) -> Variant:  # fmt: skip
    return Variant(name, FAMILY, function, signature(arguments), constants, warps, stages, loops, SMALL)
