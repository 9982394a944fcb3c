"""What accelerators offer for neighborhood attention: found by name, refused by name, priced by hand."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.gpu.natten import BACKENDS, DEVICES
from cascadesim.accelerators.neighborhood_kernels import (
    KernelConstants,
    TileShapes,
    backends,
    device,
    legal_tiles,
)
from cascadesim.einsum_cascades.notation.errors import CascadeSimError


def test_two_waves_by_hand() -> None:
    """4 SMs of 1 Tflop/s; 5 query tiles of one head visit 12 full and 3 masked key tiles, and 2 extra ones each.

    A launch and two waves; the mean query tile takes (12 + 3 x 1.5) / 5 + 2 + 0.5 tiles, each 4 x 8 x 16 x 32 flops.
    """
    on = KernelConstants("toy", "hopper-fna", 4, 4e12, overhead_tiles=0.5, masked_cost=1.5, copy_bytes_per_s=1e12,
                         launch_s=1e-6)  # fmt: skip
    found = on.kernel_s(TileShapes((8,), (16,)), 12, 3, extra=2, query_tiles=5, instances=1, head_dim=32)
    assert found == pytest.approx(1e-6 + 2 * (16.5 / 5 + 2.5) * 4 * 8 * 16 * 32 / 1e12)
    assert on.kernels is BACKENDS["hopper-fna"]


def test_every_backend_and_device_is_found_by_name() -> None:
    assert dict(backends()) == dict(BACKENDS)
    assert {name: device(name) for name in DEVICES} == dict(DEVICES)


def test_tile_shapes_say_every_side_that_cannot_be() -> None:
    assert (TileShapes((4, 8), (2, 8)).queries, TileShapes((4, 8), (2, 8)).keys) == (32, 16)
    with pytest.raises(CascadeSimError, match="query tile, dimension 2: must be 1 to 16,777,216, got 0\nkey/value"):
        TileShapes((4, 0), (2**25, 8))


def test_what_a_backend_cannot_run_is_refused() -> None:
    with pytest.raises(CascadeSimError, match="did you mean 'hopper-fna'"):
        legal_tiles("hoper-fna", 2)
    with pytest.raises(CascadeSimError, match="head dimension must be 1 to 128, got 256"):
        legal_tiles("blackwell-fna", 2, 256)
    with pytest.raises(CascadeSimError, match="one to three dimensions, got 4"):
        legal_tiles("hopper-fna", 4)


def test_a_device_without_constants_is_refused_by_name() -> None:
    with pytest.raises(CascadeSimError, match="h100-sxm"):
        device("h100")
