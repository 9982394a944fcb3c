"""Tile shapes of NATTEN's backends; its constants are re-derived where tiles are counted, in `gna`."""

from __future__ import annotations

import pytest

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.memory import small_kernel_s
from cascadesim.accelerators.gpu.natten import BACKENDS, DEVICES
from cascadesim.accelerators.neighborhood_kernels import TileShapes, legal_tiles


@pytest.mark.parametrize("name", DEVICES)
def test_a_launch_takes_as_long_as_that_of_any_kernel_of_the_device(name: str) -> None:
    machine = catalogue.load(name)
    assert isinstance(machine, Gpu)
    assert DEVICES[name].launch_s == pytest.approx(small_kernel_s(machine.spec))


def test_blackwell_runs_four_shapes_in_two_dimensions() -> None:
    assert [str(tiles) for tiles in legal_tiles("blackwell-fna", 2)] == [
        "q 16x16, kv 16x8", "q 16x16, kv 8x16", "q 8x32, kv 8x16", "q 8x32, kv 4x32",
    ]  # fmt: skip


@pytest.mark.parametrize(("dimensions", "shapes"), [(1, 3), (2, 27), (3, 76)])
def test_cutlass_has_as_many_shapes_as_its_list(dimensions: int, shapes: int) -> None:
    found = legal_tiles("cutlass-fna", dimensions)
    assert len(found) == len(set(found)) == shapes
    assert {(tiles.queries, tiles.keys) for tiles in found} == {(32, 128), (64, 64), (64, 128)}
    assert TileShapes((2, 8, 4), (2, 8, 8)) in legal_tiles("cutlass-fna", 3)  # NATTEN's optimised A100 example


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("head_dim", [32, 64, 128])
def test_every_shape_has_as_many_sizes_as_the_layout(backend: str, dimensions: int, head_dim: int) -> None:
    for tiles in legal_tiles(backend, dimensions, head_dim):
        assert len(tiles.query) == len(tiles.key) == dimensions
