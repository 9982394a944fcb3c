"""NATTEN's kernels on GPUs: the tile shapes that each backend runs, and the constants of each device's time model.

Shapes: NATTEN 0.21 (docs and kernel configurations), for 16-bit types. Knows no pattern and counts no tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod

from cascadesim.accelerators.neighborhood_kernels import Backend, KernelConstants, TileShapes

# (query tile, key/value tile) by number of dimensions, forward pass
_HOPPER_128: Mapping[int, tuple[tuple[str, str], ...]] = {  # head dimension 65..128
    1: (("128", "128"),),
    2: (("16x8", "16x8"),),
    3: (("4x4x8", "4x4x8"), ("2x8x8", "2x8x8")),
}
_HOPPER_64: Mapping[int, tuple[tuple[str, str], ...]] = {  # head dimension up to 64
    1: (("64", "128"),),
    2: (("8x8", "16x8"), ("8x8", "8x16")),
    3: (("4x4x4", "4x4x8"), ("4x4x4", "2x8x8")),
}
_HOPPER_256: Mapping[int, tuple[tuple[str, str], ...]] = {  # assumed: the shapes of 128 queries with those of 64 keys
    1: (("128", "64"),),
    2: (("16x8", "8x8"),),
    3: (("4x4x8", "4x4x4"), ("2x8x8", "4x4x4")),
}
_BLACKWELL: Mapping[int, tuple[tuple[str, str], ...]] = {
    1: (("256", "128"),),
    2: (("16x16", "16x8"), ("16x16", "8x16"), ("8x32", "8x16"), ("8x32", "4x32")),
    3: (
        ("8x4x8", "4x4x8"), ("8x4x8", "2x8x8"), ("2x8x16", "4x4x8"), ("2x8x16", "2x8x8"), ("4x4x16", "2x4x16"),
        ("2x16x8", "2x8x8"), ("4x8x8", "2x8x8"),
    ),
}  # fmt: skip
_FLEX: Mapping[int, tuple[tuple[str, str], ...]] = {
    1: (("64", "64"),),
    2: (("8x8", "8x8"), ("4x16", "4x16")),
    3: (("4x4x4", "4x4x4"), ("2x4x8", "2x4x8")),
}
_CUTLASS_VOLUMES = ((32, 128), (64, 64), (64, 128))  # queries, keys of a tile


def _listed(table: Mapping[int, tuple[tuple[str, str], ...]], dimensions: int) -> Iterator[TileShapes]:
    for pair in table[dimensions]:
        query, key = (tuple(map(int, text.split("x"))) for text in pair)
        yield TileShapes(query, key)


def _hopper(dimensions: int, head_dim: int) -> Iterator[TileShapes]:
    return _listed(_HOPPER_64 if head_dim <= 64 else _HOPPER_128 if head_dim <= 128 else _HOPPER_256, dimensions)


def _cutlass(dimensions: int, _head_dim: int) -> Iterator[TileShapes]:
    """Every size is a power of two from 2 on, and the key tile is a multiple of the query tile in each dimension.

    These are 3, 27 and 76 shapes in one, two and three dimensions, as the backend's own list has.
    """
    for queries, keys in _CUTLASS_VOLUMES:
        for query in _factorings(queries, dimensions, least=2):
            for factor in _factorings(keys // queries, dimensions, least=1):
                yield TileShapes(query, tuple(size * times for size, times in zip(query, factor, strict=True)))


def _factorings(volume: int, dimensions: int, least: int) -> Iterator[tuple[int, ...]]:
    """Powers of two, each at least `least`, whose product is `volume`."""
    powers = [1 << exponent for exponent in range(volume.bit_length()) if 1 << exponent >= least]
    return (sizes for sizes in product(powers, repeat=dimensions) if prod(sizes) == volume)


BACKENDS: Mapping[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("hopper-fna", "multidim_static", True, True, 256, _hopper),  # sm_90
        Backend("blackwell-fna", "multidim_static", True, True, 128, lambda n, _: _listed(_BLACKWELL, n)),  # sm_100
        Backend("cutlass-fna", "multidim_dynamic", True, False, 1024, _cutlass),  # sm_50 and later
        Backend("flex-fna", "multidim_static", False, True, 256, lambda n, _: _listed(_FLEX, n)),  # PyTorch 2.7
    )
}

# Derived from the kernel times in NATTEN's documentation (docs/profiler.md, sample output of v0.20-0.21), head
# dimension 128, fp16: rate and overhead from FLUX 256x256, window 80x80, stride 16x16 and from one-dimensional
# 32K, window 2048, stride 256 (nothing masked: two equations); masked_cost from FLUX at stride 1x1 (all masked), each
# time without launch_s, which is that of small kernels (`memory.small_kernel_s`).
# H100: 7.914 ms, 62.687 us, 16.201 ms. B200: 4.114 ms, 37.888 us, 8.692 ms. `test_neighborhood.py` derives them again.
# copy_bytes_per_s: FLUX and HunyuanVideo permutations of the same source, 1.0-1.3 and 1.06-1.42 TB/s, middle.
DEVICES: Mapping[str, KernelConstants] = {
    device.name: device
    for device in (
        KernelConstants("h100-sxm", "hopper-fna", 132, 696.3e12, 2.923, 1.547, 1.15e12, 2.5e-6),
        KernelConstants("b200", "blackwell-fna", 148, 1342.3e12, 2.914, 1.502, 1.24e12, 2.9e-6),
    )
}
