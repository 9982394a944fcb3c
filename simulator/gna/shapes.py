"""Tile shapes that NATTEN's kernels can run, per backend: data and the rule each backend's list follows.

Source: NATTEN 0.21 (docs and kernel configurations), for 16-bit types. Knows shapes only; counting is `neighborhood`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.simulator.gna.neighborhood import Mode, Tiles


@dataclass(frozen=True)
class Backend:
    """A kernel family. `masks_all`: unless nothing at all needs a mask, every visited tile is masked."""

    name: str
    mode: Mode
    masks_all: bool
    permutes: bool  # tokens must be brought into tile order before, and back after
    largest_head_dim: int


BACKENDS: Mapping[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("hopper-fna", "multidim_static", True, True, 256),  # sm_90
        Backend("blackwell-fna", "multidim_static", True, True, 128),  # sm_100, sm_103
        Backend("cutlass-fna", "multidim_dynamic", True, False, 1024),  # sm_50 and later
        Backend("flex-fna", "multidim_static", False, True, 256),  # PyTorch 2.7 and later
    )
}

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


def legal_tiles(backend: str, dimensions: int, head_dim: int = 128) -> tuple[Tiles, ...]:
    """Shapes of the forward pass, in the backend's own order.

    cutlass-fna: every size is a power of two from 2 on, and the key tile is a multiple of the query tile in each
    dimension: 3, 27 and 76 shapes in one, two and three dimensions, as its list has.
    """
    if backend not in BACKENDS:
        raise UnknownNameError("backend", backend, BACKENDS)
    limit = BACKENDS[backend].largest_head_dim
    if not 1 <= head_dim <= limit:
        raise CascadeSimError(f"{backend}: head dimension must be 1 to {limit}, got {head_dim}")
    if not 1 <= dimensions <= 3:
        raise CascadeSimError(f"{backend}: layouts have one to three dimensions, got {dimensions}")
    if backend == "cutlass-fna":
        return tuple(_cutlass(dimensions))
    table = {
        "hopper-fna": _HOPPER_64 if head_dim <= 64 else _HOPPER_128 if head_dim <= 128 else _HOPPER_256,
        "blackwell-fna": _BLACKWELL,
        "flex-fna": _FLEX,
    }[backend]
    return tuple(Tiles(_sizes(query), _sizes(key)) for query, key in table[dimensions])


def _cutlass(dimensions: int) -> Iterator[Tiles]:
    for queries, keys in _CUTLASS_VOLUMES:
        for query in _factorings(queries, dimensions, least=2):
            for factor in _factorings(keys // queries, dimensions, least=1):
                yield Tiles(query, tuple(size * times for size, times in zip(query, factor, strict=True)))


def _factorings(volume: int, dimensions: int, least: int) -> Iterator[tuple[int, ...]]:
    """Powers of two, each at least `least`, whose product is `volume`."""
    powers = [1 << exponent for exponent in range(volume.bit_length()) if 1 << exponent >= least]
    for head in product(powers, repeat=dimensions - 1):
        rest = volume
        for size in head:
            rest = rest // size if rest % size == 0 else 0
        if rest >= least:
            yield (*head, rest)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x")))
