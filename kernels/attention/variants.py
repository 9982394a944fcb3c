"""Every attention kernel in every configuration that ships, with the work of one key tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from cascadesim.kernels.attention import mma
from cascadesim.kernels.attention.configurations import TileShape, precision, tiles_of
from cascadesim.kernels.attention.one_pass import attention_1pass
from cascadesim.kernels.attention.recomputing import attention_recomputing
from cascadesim.kernels.attention.stored import store_numerators, store_scores, values_of_stored
from cascadesim.kernels.catalogue import LoopWork, TileProduct, Variant

SIZES = {"P": "i32", "M": "i32", "heads": "i32", "group": "i32"}
UNALIGNED = frozenset({"heads", "group"})
ELEMENT_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}


def variants(target: int) -> Iterator[Variant]:
    """`target`: 80, 90, 100."""
    capability = target // 10
    for D in (64, 128, 256):
        for causal in (False, True):
            yield _one_pass(capability, D, causal, "fp16")
    yield _one_pass(capability, 128, False, "bf16")
    for D in (64, 128, 256):
        yield _one_pass(capability, D, False, "fp32")
    for causal in (False, True):
        yield _one_pass(capability, 128, causal, "fp16", ragged=True)
    for D, passes, causal in product((64, 128), (2, 3), (False, True)):
        yield _recomputing(capability, D, passes, causal)
    for passes in (2, 3):
        yield _recomputing(capability, 256, passes, True)
    yield _recomputing(capability, 128, 2, True, "fp32")
    for passes in (2, 3):
        plain = _recomputing(capability, 128, passes, False)
        constants = {**plain.constants, "DIVIDE_FIRST": True}
        yield replace(plain, name=f"{plain.name} dividing first", constants=constants)
    yield from _stored(capability, 128)
    for dtype, D, causal in product(mma.TYPES.values(), mma.TILES, (False, True)):
        yield _mma(D, causal, dtype)


def scores(tiles: TileShape, E: int) -> TileProduct:
    """QK of one tile."""
    return TileProduct(tiles.P0, tiles.M0, E)


def values(tiles: TileShape, F: int) -> TileProduct:
    """Numerators times V of one tile."""
    return TileProduct(tiles.P0, F, tiles.M0)


def _pointers(dtype: str, *names: str) -> dict[str, str]:
    return {name: f"*{dtype}" for name in names}


def _one_pass(capability: int, D: int, causal: bool, dtype: str, ragged: bool = False) -> Variant:
    """`ragged`: lengths of each batch entry, any number of keys, and the denominators kept."""
    tiles = tiles_of(capability, D, ELEMENT_BYTES[dtype])
    signature = {
        **_pointers(dtype, "Q", "K", "V", "AV"),
        "LSE": "*fp32",
        "LENGTHS": "*i32",
        "scale_log2": "fp32",
        **SIZES,
    }
    constants = {"E": D, "F": D, "EP": D, "FP": D, "P0": tiles.P0, "M0": tiles.M0, "CAUSAL": causal, "RAGGED": ragged,
                 "TAIL": ragged, "PRECISION": precision(ELEMENT_BYTES[dtype]), "KEEP_LSE": ragged}  # fmt: skip
    tile = LoopWork((scores(tiles, D), values(tiles, D)), tiles.P0 * tiles.M0, tiles.P0)
    if dtype == "fp32":  # on the FP32 units
        tile = replace(tile, products=())
    loops = (tile,) * (1 + (causal or ragged))
    name = f"attention-1pass {dtype} D{D}{' causal' * causal}{' ragged' * ragged}"
    return Variant(
        name, "attention", attention_1pass, signature, constants, tiles.warps, tiles.stages, loops, UNALIGNED
    )


def _recomputing(capability: int, D: int, passes: int, causal: bool, dtype: str = "fp16") -> Variant:
    tiles = tiles_of(capability, D, ELEMENT_BYTES[dtype], f"attention-{passes}pass")
    signature = {**_pointers(dtype, "Q", "K", "V", "AV"), "LENGTHS": "*i32", "scale_log2": "fp32", **SIZES}
    constants = {"E": D, "F": D, "EP": D, "FP": D, "P0": tiles.P0, "M0": tiles.M0, "PASSES": passes,
                 "DIVIDE_FIRST": False, "CAUSAL": causal, "RAGGED": False, "TAIL": False,
                 "PRECISION": precision(ELEMENT_BYTES[dtype])}  # fmt: skip
    exponentials = tiles.P0 * tiles.M0
    online = (LoopWork((scores(tiles, D),), exponentials, tiles.P0),)
    apart = (LoopWork((scores(tiles, D),)), LoopWork((scores(tiles, D),), exponentials))
    each = (*(online if passes == 2 else apart), LoopWork((scores(tiles, D), values(tiles, D)), exponentials))
    loops = () if dtype == "fp32" else tuple(loop for loop in each for _ in range(1 + causal))
    name = f"attention-{passes}pass {dtype} D{D}{' causal' * causal}"
    return Variant(name, "attention", attention_recomputing, signature, constants, tiles.warps, tiles.stages, loops,
                   UNALIGNED)  # fmt: skip


def _stored(capability: int, D: int) -> Iterator[Variant]:
    tiles = tiles_of(capability, D, 2, "attention-3pass-stored")
    flags = {"P0": tiles.P0, "M0": tiles.M0, "CAUSAL": False, "RAGGED": False}
    precise = {"PRECISION": precision(2)}
    yield Variant(
        f"attention-3pass-stored pass 1 fp16 D{D}",
        "attention",
        store_scores,
        {
            **_pointers("fp16", "Q", "K"),
            **_pointers("fp32", "QK", "GM"),
            "LENGTHS": "*i32",
            "scale_log2": "fp32",
            **SIZES,
        },
        {"E": D, "EP": D, **flags, **precise},
        tiles.warps,
        tiles.stages,
        (LoopWork((scores(tiles, D),)),),
        UNALIGNED,
    )
    yield Variant(
        "attention-3pass-stored pass 2",
        "attention",
        store_numerators,
        {**_pointers("fp32", "QK", "GM", "SD"), "LENGTHS": "*i32", **SIZES},
        flags,
        tiles.warps,
        tiles.stages,
        (LoopWork((), tiles.P0 * tiles.M0),),
        UNALIGNED,
    )
    yield Variant(
        f"attention-3pass-stored pass 3 fp16 D{D}", "attention", values_of_stored,
        {**_pointers("fp32", "SN", "SD"), **_pointers("fp16", "V", "AV"), "LENGTHS": "*i32", **SIZES},
        {"F": D, "FP": D, "DIVIDE_FIRST": False, **flags, **precise}, tiles.warps, tiles.stages,
        (LoopWork((values(tiles, D),)),), UNALIGNED,
    )  # fmt: skip


def _mma(D: int, causal: bool, dtype: str) -> Variant:
    """CUDA C++: whole tiles, then masked ones, as lengths are known at run time only."""
    tiles = mma.TILES[D]
    tile = LoopWork((scores(tiles, D), values(tiles, D)), tiles.P0 * tiles.M0, tiles.P0)
    constants = {"E": D, "F": D, "P0": tiles.P0, "M0": tiles.M0, "CAUSAL": causal}
    name = f"mma.sync attention {dtype} D{D}{' causal' * causal}"
    return Variant(name, "attention", mma.function(dtype, D, causal), {}, constants, tiles.warps, tiles.stages,
                   (tile, tile), instruction="HMMA")  # fmt: skip
