"""Every attention kernel in every configuration that ships, with the work of one key tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

from cascadesim.kernels.attention import mma
from cascadesim.kernels.attention.configurations import TileShape, precision, tiles_of
from cascadesim.kernels.attention.one_pass import attention_1pass
from cascadesim.kernels.attention.recomputing import attention_recomputing
from cascadesim.kernels.attention.stored import store_numerators, store_scores, values_of_stored
from cascadesim.kernels.catalogue import LoopWork, TileProduct, Variant, signature, typed

PLACE = "LENGTHS:*i32 P M heads group:i32 "
FUSED = f"Q K V AV:*fp16 {PLACE} scale_log2:fp32 LSE:*fp32"
UNALIGNED = frozenset({"heads", "group"})


def variants(target: int) -> Iterator[Variant]:
    """`target`: 80, 90, 100."""
    capability = target // 10
    for D, causal in product((64, 128, 256), (False, True)):
        yield _one_pass(capability, D, causal)
    yield typed(_one_pass(capability, 128, False), "bf16")
    for D in (64, 128, 256):
        plain = _one_pass(capability, D, False, element_bytes=4)
        yield replace(typed(plain, "fp32"), loops=tuple(replace(loop, products=()) for loop in plain.loops))
    for causal in (False, True):
        yield _one_pass(capability, 128, causal, ragged=True)
    for D, passes, causal in product((64, 128), (2, 3), (False, True)):
        yield _recomputing(capability, D, passes, causal)
    for passes in (2, 3):
        yield _recomputing(capability, 256, passes, True)
    yield typed(_recomputing(capability, 128, 2, True, element_bytes=4), "fp32")
    for passes in (2, 3):
        plain = _recomputing(capability, 128, passes, False)
        yield replace(plain, name=f"{plain.name} dividing first", constants={**plain.constants, "DIVIDE_FIRST": True})
    yield from _stored(capability, 128)
    for dtype, D, causal in product(mma.TYPES.values(), mma.TILES, (False, True)):
        yield _mma(D, causal, dtype)


def scores(tiles: TileShape, E: int) -> TileProduct:
    """QK of one tile."""
    return TileProduct(tiles.P0, tiles.M0, E)


def values(tiles: TileShape, F: int) -> TileProduct:
    """Numerators times V of one tile."""
    return TileProduct(tiles.P0, F, tiles.M0)


def one_pass_work(tiles: TileShape, D: int) -> LoopWork:
    """Both products of a tile, an exponential for each score, and one for each row (PRM)."""
    return LoopWork((scores(tiles, D), values(tiles, D)), tiles.P0 * tiles.M0, tiles.P0)


def sides(tiles: TileShape, D: int) -> dict[str, Any]:
    """Constants of a kernel whose keys and values have D elements, a power of two: nothing is padded."""
    return {"E": D, "F": D, "EP": D, "FP": D, "P0": tiles.P0, "M0": tiles.M0}


def _one_pass(capability: int, D: int, causal: bool, ragged: bool = False, element_bytes: int = 2) -> Variant:
    """`ragged`: lengths of each batch entry, any number of keys, and the denominators kept."""
    tiles = tiles_of(capability, D, element_bytes)
    constants = {**sides(tiles, D), "CAUSAL": causal, "RAGGED": ragged, "TAIL": ragged, "PRECISION": precision(2),
                 "KEEP_LSE": ragged}  # fmt: skip
    loops = (one_pass_work(tiles, D),) * (1 + (causal or ragged))
    return Variant(f"attention-1pass fp16 D{D}{' causal' * causal}{' ragged' * ragged}", "attention", attention_1pass,
                   signature(FUSED), constants, tiles.warps, tiles.stages, loops, UNALIGNED)  # fmt: skip


def _recomputing(capability: int, D: int, passes: int, causal: bool, element_bytes: int = 2) -> Variant:
    tiles = tiles_of(capability, D, element_bytes, f"attention-{passes}pass")
    constants = {**sides(tiles, D), "PASSES": passes, "DIVIDE_FIRST": False, "CAUSAL": causal, "RAGGED": False,
                 "TAIL": False, "PRECISION": precision(2)}  # fmt: skip
    exponentials = tiles.P0 * tiles.M0
    online = (LoopWork((scores(tiles, D),), exponentials, tiles.P0),)
    apart = (LoopWork((scores(tiles, D),)), LoopWork((scores(tiles, D),), exponentials))
    each = (*(online if passes == 2 else apart), LoopWork((scores(tiles, D), values(tiles, D)), exponentials))
    return Variant(f"attention-{passes}pass fp16 D{D}{' causal' * causal}", "attention", attention_recomputing,
                   signature(FUSED.removesuffix(" LSE:*fp32")), constants, tiles.warps, tiles.stages,
                   tuple(loop for loop in each for _ in range(1 + causal)), UNALIGNED)  # fmt: skip


def _stored(capability: int, D: int) -> Iterator[Variant]:
    tiles = tiles_of(capability, D, 2, "attention-3pass-stored")
    flags = {"P0": tiles.P0, "M0": tiles.M0, "CAUSAL": False, "RAGGED": False}
    precise = {"PRECISION": precision(2)}
    passes: tuple[tuple[str, Any, str, dict[str, Any], LoopWork], ...] = (
        (f"1 fp16 D{D}", store_scores, "Q K:*fp16 QK GM:*fp32 scale_log2:fp32", {"E": D, "EP": D, **flags, **precise},
         LoopWork((scores(tiles, D),))),
        ("2", store_numerators, "QK GM SD:*fp32", flags, LoopWork((), tiles.P0 * tiles.M0)),
        (f"3 fp16 D{D}", values_of_stored, "SN SD:*fp32 V AV:*fp16",
         {"F": D, "FP": D, "DIVIDE_FIRST": False, **flags, **precise}, LoopWork((values(tiles, D),))),
    )  # fmt: skip
    for name, function, arguments, constants, work in passes:
        yield Variant(f"attention-3pass-stored pass {name}", "attention", function, signature(PLACE + arguments),
                      constants, tiles.warps, tiles.stages, (work,), UNALIGNED)  # fmt: skip


def _mma(D: int, causal: bool, dtype: str) -> Variant:
    """CUDA C++: whole tiles, then masked ones, as lengths are known at run time only."""
    tiles = mma.TILES[D]
    constants = {"E": D, "F": D, "P0": tiles.P0, "M0": tiles.M0, "CAUSAL": causal}
    return Variant(f"mma.sync attention {dtype} D{D}{' causal' * causal}", "attention", mma.function(dtype, D, causal),
                   {}, constants, tiles.warps, tiles.stages, (one_pass_work(tiles, D),) * 2,
                   instruction="HMMA")  # fmt: skip
