"""Spatial arrays for tests of what all accelerators share: the two published architectures, and smaller ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cascadesim.accelerators.spec import Buffer, Dram, Operations, PeArray, SpatialArray, VectorArray

GIB = 2**30
MIB = 2**20
UNIT_2D = Operations(mac=1)
UNIT_1D = Operations(mac=1, add=1, max=1, exp=1, exp_by="unit", divide=1)
MAC_2D = Operations(mac=1, add=1, max=1, exp=6, exp_by="mac")
MAC_1D = Operations(mac=1, add=1, max=1, exp=6, exp_by="mac", divide=1)


def make_array(
    rows: int = 256,
    columns: int | None = None,
    capacity_bytes: int = 16 * MIB,
    registers_2d: int = 12,
    registers_1d: int = 32,
    operations_2d: Operations = MAC_2D,
    operations_1d: Operations = MAC_1D,
    bandwidth_bytes_per_s: float = 400.0 * GIB,
) -> SpatialArray:
    """An array of the FuseMax architecture, a word of the buffer per column."""
    columns = rows if columns is None else columns
    return SpatialArray(
        architecture="any",
        clock_hz=940e6,
        word_bytes=2,
        pe_array=PeArray(rows=rows, columns=columns, register_words_per_pe=registers_2d, operations=operations_2d),
        vector_array=VectorArray(lanes=columns, register_words_per_lane=registers_1d, operations=operations_1d),
        global_buffer=Buffer(capacity_bytes=capacity_bytes, row_bytes=2 * columns, ports=4),
        dram=Dram(bandwidth_bytes_per_s=bandwidth_bytes_per_s),
    )


@pytest.fixture(scope="session")
def array() -> Callable[..., SpatialArray]:
    return make_array


@pytest.fixture(scope="session")
def fusemax() -> SpatialArray:
    """The FuseMax architecture (MICRO'24, section VI)."""
    return make_array()


@pytest.fixture(scope="session")
def flat() -> SpatialArray:
    """The FLAT architecture as FuseMax evaluates it."""
    return make_array(
        capacity_bytes=32 * MIB, registers_2d=4, registers_1d=16, operations_2d=UNIT_2D, operations_1d=UNIT_1D
    )
