"""The GNA kernels in the configurations that ship, with the work of one key tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cascadesim.kernels.attention.configurations import TileShape, precision, tiles_of
from cascadesim.kernels.attention.variants import UNALIGNED, one_pass_work, sides
from cascadesim.kernels.catalogue import Variant, signature, typed
from cascadesim.kernels.neighborhood_attention.block_sparse import block_sparse_1pass
from cascadesim.kernels.neighborhood_attention.pattern import DIMENSIONS, SLABS
from cascadesim.kernels.neighborhood_attention.tiled import neighborhood_1pass
from cascadesim.kernels.neighborhood_attention.triton import unrolled

KEY_TILES = {"1-D": (1, 1, 64), "2-D": (1, 8, 8), "3-D": (1, 8, 8)}
QUERIES = 128
BOXES = ("Q K V AV:*fp16 TABLE WINDOWS EXECUTED:*i32 scale_log2:fp32 "
         "query_slots key_slots g1 g2 heads group:i32")  # fmt: skip
LISTED = "Q K V AV:*fp16 ROWS COLUMNS MASK_OF:*i32 MASKS:*u8 scale_log2:fp32 P M heads group:i32"


def variants(target: int) -> Iterator[Variant]:
    capability = target // 10
    yield _boxes(capability, sparse_tiles(capability, 64), "2-D", 64, KEY_TILES["2-D"])
    for name, key_tile in KEY_TILES.items():
        yield _boxes(capability, sparse_tiles(capability, 128), name, 128, key_tile)
    for D in (64, 128):
        dense = tiles_of(capability, D, 2)
        yield _block_sparse(TileShape(dense.P0, dense.M0, 8, dense.stages), D)
    yield typed(_boxes(capability, sparse_tiles(capability, 128), "2-D", 128, KEY_TILES["2-D"]), "bf16")
    yield typed(_boxes(capability, TileShape(32, 32, 8, 1), "2-D", 128, (1, 4, 8)), "fp32")
    yield typed(_block_sparse(tiles_of(capability, 128, 4), 128), "fp32")


def sparse_tiles(capability: int, D: int) -> TileShape:
    """128 queries by 64 keys, 16 queries per warp."""
    return TileShape(QUERIES, 64, QUERIES // 16, tiles_of(capability, D, 2).stages)


def _boxes(capability: int, tiles: TileShape, name: str, D: int, key_tile: tuple[int, int, int]) -> Variant:
    U0, U1, U2 = key_tile
    constants = {"E": D, "F": D, "EP": D, "FP": D, "P0": tiles.P0, "U0": U0, "U1": U1, "U2": U2, "SLABS": SLABS,
                 "UNROLLED": unrolled(capability), "WIDTH": 1 + (1 + SLABS) * 2 * DIMENSIONS, "COUNT": False,
                 "PRECISION": precision(2)}  # fmt: skip
    whole = one_pass_work(tiles, D)
    masked = replace(whole, copies=SLABS if unrolled(capability) else 1)
    return Variant(f"neighborhood {name} fp16 D{D}", "neighborhood_attention", neighborhood_1pass, signature(BOXES),
                   constants, tiles.warps, tiles.stages, (whole, masked),
                   frozenset({"g1", "g2", "heads", "group"}))  # fmt: skip


def _block_sparse(tiles: TileShape, D: int) -> Variant:
    constants = {**sides(tiles, D), "PRECISION": precision(2)}
    return Variant(f"block-sparse fp16 D{D}", "neighborhood_attention", block_sparse_1pass, signature(LISTED),
                   constants, tiles.warps, tiles.stages, (one_pass_work(tiles, D),) * 2, UNALIGNED)  # fmt: skip
