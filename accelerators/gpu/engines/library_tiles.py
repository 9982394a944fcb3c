"""Tiles of products of matrices that libraries have: those to choose from, and those that sizes alone decide.

A tile is the rows and the outputs of one thread block. Knows names and numbers of kernels; knows no time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from cascadesim.accelerators.gpu.engines.engine import GemmLibrary
from cascadesim.accelerators.gpu.spec import Generation

# (rows, outputs) of a block; CUTLASS profiler lists. assumed: the same on every generation
TILES = (
    (256, 128), (128, 256), (192, 128), (128, 192), (128, 128), (256, 64), (64, 256), (128, 64), (64, 128), (64, 64),
    (128, 32), (32, 128), (64, 32), (32, 64), (128, 16), (16, 128), (64, 16), (16, 64),
)  # fmt: skip
# cuBLAS names its kernels of Hopper and Blackwell by such tiles (nvjet_*_192x192 and others)
FINE_TILES = (
    *TILES, (192, 192), (192, 208), (160, 192), (192, 160), (256, 160), (160, 256), (256, 112), (112, 256), (320, 128),
    (128, 320), (96, 256), (256, 96), (192, 96), (96, 192), (64, 320), (320, 64), (64, 192), (192, 64),
)  # fmt: skip
# cuBLAS before these, on Hopper: sm90_xmma_gemm_*_tilesize128x256x64_*_execute_segment_k_off_*, in powers of two, whose
# blocks do not share the depth of a tile (names of kernels in public profiles, as recalled)
XMMA_TILES = ((256, 128), (128, 256), (128, 128), (256, 64), (64, 256), (128, 64), (64, 128), (64, 64))


@dataclass(frozen=True)
class LibraryTile:
    """A tile that a library takes up to `most_rows` and `most_outputs`.

    `share_rows`, `share_outputs`: blocks of a cluster that share its rows, its outputs.
    """

    most_rows: float
    tile: tuple[int, int]
    share_rows: int = 1
    share_outputs: int = 1
    most_outputs: float = inf


# sgl-kernel, csrc/gemm/fp8_gemm_kernel.cu: sm89_ and sm100_fp8_dispatch_shape of 2026, on Blackwell for each of the two
# SMs that share a tile; those of Hopper as recalled of an older version (the newest has 64 x 64 up to 256 rows, which
# calibration rows exclude: L2 would have to give 15 TB/s). A product takes the first that holds
FIXED_TILES: Mapping[tuple[GemmLibrary, Generation], Sequence[LibraryTile]] = {
    ("sgl-kernel", "ada"): (
        LibraryTile(1, (16, 64), most_outputs=8192), LibraryTile(1, (32, 64)),
        LibraryTile(16, (16, 64), most_outputs=8192), LibraryTile(16, (32, 64), most_outputs=16384),
        LibraryTile(16, (16, 64)),
        LibraryTile(64, (32, 64), most_outputs=16384), LibraryTile(64, (16, 64)),
        LibraryTile(128, (64, 64), most_outputs=16384), LibraryTile(128, (32, 64)),
        LibraryTile(256, (128, 64), most_outputs=8192), LibraryTile(256, (64, 128), most_outputs=16384),
        LibraryTile(256, (128, 64)), LibraryTile(inf, (128, 128)),
    ),
    ("sgl-kernel", "hopper"): (
        LibraryTile(64, (64, 64), 4), LibraryTile(128, (64, 128), 1, 2), LibraryTile(inf, (128, 128), 1, 2),
    ),
    ("sgl-kernel", "blackwell"): (
        LibraryTile(16, (64, 64), 4), LibraryTile(64, (64, 64)), LibraryTile(256, (64, 128), 1, 2),
        LibraryTile(inf, (128, 128), 2, 2),
    ),
}  # fmt: skip
