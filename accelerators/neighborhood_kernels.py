"""Kernels of neighborhood attention: what an accelerator may offer so that a pattern gets tile shapes and times.

A folder for which NATTEN has kernels has `natten.py` with `BACKENDS` and `DEVICES`, found here by name. Tiles are
counted elsewhere and come in as numbers. Knows no accelerator and no pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from math import ceil, prod
from typing import Any, Literal

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.einsum_cascades.sparsity.masks import LONGEST_AXIS, times

FLOPS_PER_PAIR = 4  # two products of the head dimension, a multiply and an add each


@dataclass(frozen=True, slots=True)
class TileShapes:
    """Tile shapes in tokens of one dilation group, one size per dimension of the layout."""

    query: tuple[int, ...]
    key: tuple[int, ...]

    def __post_init__(self) -> None:
        problems = [
            f"{name} tile, dimension {number}: must be 1 to {LONGEST_AXIS:,}, got {size}"
            for name, shape in (("query", self.query), ("key/value", self.key))
            for number, size in enumerate(shape, start=1)
            if not 1 <= size <= LONGEST_AXIS
        ]
        if problems:
            raise CascadeSimError("\n".join(problems))

    @property
    def queries(self) -> int:
        """Queries of a query tile."""
        return prod(self.query)

    @property
    def keys(self) -> int:
        return prod(self.key)

    def __str__(self) -> str:
        return f"q {times(self.query)}, kv {times(self.key)}"


@dataclass(frozen=True)
class Backend:
    """A kernel family. `masks_all`: unless nothing at all needs a mask, every visited tile is masked."""

    name: str
    mode: Literal["multidim_static", "multidim_dynamic"]
    masks_all: bool
    permutes: bool  # tokens must be brought into tile order before, and back after
    largest_head_dim: int
    shapes: Callable[[int, int], Iterable[TileShapes]]  # dimensions, head dimension -> shapes of the forward pass


@dataclass(frozen=True)
class KernelConstants:
    """The constants of a device that runs the kernels of one backend, for the time model.

    `tile_flops_per_s`: rate of the tensor cores over full tiles, all SMs together. `overhead_tiles`: start and end of
    a query tile (its queries in, the first keys' latency, its output) in units of a full tile. `masked_cost`: time of
    a masked tile over that of a full one. `copy_bytes_per_s`: token permutation by the framework's copies. `launch_s`:
    what any kernel of the device takes before and after its work.
    """

    name: str
    backend: str
    streaming_multiprocessors: int
    tile_flops_per_s: float
    overhead_tiles: float
    masked_cost: float
    copy_bytes_per_s: float
    launch_s: float

    @property
    def kernels(self) -> Backend:
        return backends()[self.backend]

    def kernel_s(
        self, tiles: TileShapes, full: int, masked: int, extra: int, query_tiles: int, instances: int, head_dim: int
    ) -> float:
        """Seconds of `instances` heads: a launch, and waves of blocks, each as long as the mean query tile takes.

        `full` and `masked` key tiles are visited by all `query_tiles` of one head together, `extra` ones by each.
        """
        per_query_tile = (full + masked * self.masked_cost) / query_tiles + extra + self.overhead_tiles
        rate = self.tile_flops_per_s / self.streaming_multiprocessors
        tile_s = FLOPS_PER_PAIR * tiles.queries * tiles.keys * head_dim / rate
        waves = ceil(query_tiles * instances / self.streaming_multiprocessors)
        return self.launch_s + waves * per_query_tile * tile_s


@cache
def _modules() -> tuple[Any, ...]:
    names = (f"{__package__}.{folder}.natten" for folder in catalogue.folders())
    return tuple(import_module(name) for name in names if find_spec(name) is not None)


@cache
def backends() -> Mapping[str, Backend]:
    """Every backend of every accelerator, by name."""
    return {name: backend for module in _modules() for name, backend in module.BACKENDS.items()}


def device(name: str) -> KernelConstants:
    """Raises UnknownNameError for a device without constants."""
    known: dict[str, KernelConstants] = {}
    for module in _modules():
        known |= module.DEVICES
    if name not in known:
        raise UnknownNameError("device with neighborhood constants", name, known)
    return known[name]


def legal_tiles(backend: str, dimensions: int, head_dim: int = 128) -> tuple[TileShapes, ...]:
    """Shapes of the forward pass, in the backend's own order. Raises CascadeSimError on what it cannot run."""
    if backend not in backends():
        raise UnknownNameError("backend", backend, backends())
    limit = backends()[backend].largest_head_dim
    if not 1 <= head_dim <= limit:
        raise CascadeSimError(f"{backend}: head dimension must be 1 to {limit}, got {head_dim}")
    if not 1 <= dimensions <= 3:
        raise CascadeSimError(f"{backend}: layouts have one to three dimensions, got {dimensions}")
    return tuple(backends()[backend].shapes(dimensions, head_dim))
