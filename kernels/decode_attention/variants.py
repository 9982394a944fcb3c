"""Decoding kernels as they are compiled: grouped heads in 16 rows, contiguous and paged keys."""

from __future__ import annotations

from collections.abc import Iterator

from cascadesim.kernels.catalogue import LoopWork, TileProduct, Variant, typed
from cascadesim.kernels.decode_attention.triton import (
    CHUNK,
    MOST_GROUP,
    MOST_SPLITS,
    ROWS,
    WARPS,
    decode_reduce,
    decode_split,
    key_tile,
)

STATE = {"RM": "*fp32", "RD": "*fp32", "RNV": "*fp32"}
STRIDES = tuple(f"{of}{each}_stride" for of in ("", "value_") for each in ("page", "row", "head"))
UNALIGNED = ("heads", "group", "capacity", "splits", "split_tiles", "table_stride")  # need not divide by 16


def variants(target: int) -> Iterator[Variant]:
    """The same tiles for every target: the tile is too small for the wide matrix instructions of Hopper and later."""
    for D in (64, 128):
        for page in (0, 16):
            yield _split(D, page)
    yield _split(256, 0)
    yield _split(128, 0, rows=MOST_GROUP)
    yield typed(_split(128, 0), "bf16")
    yield typed(_split(128, 0, 4), "fp32")
    yield Variant(
        "decode reduce fp16 D128", "decode_attention", decode_reduce, {**STATE, "AV": "*fp16", "splits": "i32"},
        {"F": 128, "FP": 128, "MOST": MOST_SPLITS, "CHUNK": CHUNK}, WARPS, 3, unaligned=frozenset({"splits"}),
    )  # fmt: skip


def _split(D: int, page: int, element_bytes: int = 2, rows: int = ROWS) -> Variant:
    keys, stages = key_tile(D, element_bytes)
    signature = {**{each: "*fp16" for each in ("Q", "K", "V")}, "PAGES": "*i32", "LENGTHS": "*i32", **STATE,
                 "scale_log2": "fp32", **{each: "i32" for each in (*STRIDES, *UNALIGNED)}}  # fmt: skip
    constants = {"E": D, "F": D, "EP": D, "FP": D, "P0": rows, "M0": keys, "PAGE": page, "PRECISION": "tf32"}
    loop = LoopWork((TileProduct(rows, keys, D), TileProduct(rows, D, keys)), rows * keys, rows)
    name = f"decode {'paged ' * bool(page)}fp16 D{D}{f', {rows} heads' * (rows > ROWS)}"
    return Variant(name, "decode_attention", decode_split, signature, constants, WARPS, stages, (loop,),
                   frozenset(UNALIGNED))  # fmt: skip
