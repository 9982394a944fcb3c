"""Decoding kernels as they are compiled: grouped heads in 16 rows, contiguous and paged keys."""

from __future__ import annotations

from collections.abc import Iterator

from cascadesim.kernels.catalogue import LoopWork, TileProduct, Variant, signature, typed
from cascadesim.kernels.decode_attention import triton

UNALIGNED = ("heads", "group", "capacity", "splits", "split_tiles", "table_stride")  # need not divide by 16
SPLIT = ("Q K V:*fp16 PAGES LENGTHS:*i32 RM RD RNV:*fp32 scale_log2:fp32 page_stride row_stride head_stride "
         f"value_page_stride value_row_stride value_head_stride {' '.join(UNALIGNED)}:i32")  # fmt: skip


def variants(target: int) -> Iterator[Variant]:
    """The same tiles for every target: the tile is too small for the wide matrix instructions of Hopper and later."""
    for D in (64, 128):
        for page in (0, 16):
            yield _split(D, page)
    yield _split(256, 0)
    yield _split(128, 0, rows=triton.MOST_GROUP)
    yield typed(_split(128, 0), "bf16")
    yield typed(_split(128, 0, 4), "fp32")
    yield Variant(
        "decode reduce fp16 D128", "decode_attention", triton.decode_reduce,
        signature("RM RD RNV:*fp32 AV:*fp16 splits:i32"),
        {"F": 128, "FP": 128, "MOST": triton.MOST_SPLITS, "CHUNK": triton.CHUNK}, triton.WARPS, 3,
        unaligned=frozenset({"splits"}),
    )  # fmt: skip


def _split(D: int, page: int, element_bytes: int = 2, rows: int = triton.ROWS) -> Variant:
    keys, stages = triton.key_tile(D, element_bytes)
    constants = {"E": D, "F": D, "EP": D, "FP": D, "P0": rows, "M0": keys, "PAGE": page, "PRECISION": "tf32"}
    loop = LoopWork((TileProduct(rows, keys, D), TileProduct(rows, D, keys)), rows * keys, rows)
    name = f"decode {'paged ' * bool(page)}fp16 D{D}{f', {rows} heads' * (rows > triton.ROWS)}"
    return Variant(name, "decode_attention", triton.decode_split, signature(SPLIT), constants, triton.WARPS,
                   stages, (loop,), frozenset(UNALIGNED))  # fmt: skip
