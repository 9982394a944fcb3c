"""Attention on many designs at once: arrays of array sizes, buffers, bandwidths, clocks and extents in, arrays out.

The scalar plan (`attention`, physical accounting, full masks) in closed form, each design on the tiles that it works
on (`choice`). Knows no cycle level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascadesim.accelerators.fusemax.choice import best
from cascadesim.accelerators.fusemax.closedform import ClosedForm, Floats
from cascadesim.accelerators.fusemax.placement import Placement, place
from cascadesim.accelerators.fusemax.spec import FuseMaxSpec
from cascadesim.accelerators.fusemax.timing import check_policy
from cascadesim.accelerators.fusemax.wordforms import WordForms, word_forms
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade

_CHUNK = 1 << 15  # points at a time: their intermediate arrays stay in the cache


@dataclass(frozen=True)
class Points:
    """One design and one attention operation per element; a scalar holds for all of them.

    `instances`: batch x key/value heads; `group`: query heads of each.
    """

    rows: ArrayLike
    columns: ArrayLike
    lanes: ArrayLike
    buffer_bytes: ArrayLike
    row_bytes: ArrayLike
    bandwidth_bytes_per_s: ArrayLike
    clock_hz: ArrayLike
    instances: ArrayLike
    queries: ArrayLike
    keys: ArrayLike
    query_depth: ArrayLike
    value_depth: ArrayLike
    group: ArrayLike = 1

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Of one length and dimension, scalars repeated without a copy.

        Raises CascadeSimError on sizes below 1, and on depths below 2.
        """
        names = [entry.name for entry in fields(self)]
        given = [np.asarray(getattr(self, name)) for name in names]
        for name, array in zip(names, given, strict=True):
            least = 2 if name.endswith("depth") else 1
            if not np.all(array >= least):
                raise CascadeSimError(f"{name}: must be at least {least}, got {array.min():g}")
        shape = (np.broadcast(*given).size,)
        flat = (array.ravel() if array.ndim > 1 else array for array in np.broadcast_arrays(*given))
        return {name: np.broadcast_to(array, shape) for name, array in zip(names, flat, strict=True)}


@dataclass(frozen=True)
class Estimates:
    """One element per point; nan where the buffer holds no query tile (`resident_tiles` is 0 there)."""

    resident_tiles: Floats  # P1
    cycles: Floats
    latency_s: Floats
    dram_read_bytes: Floats
    dram_write_bytes: Floats
    busy_2d_cycles: Floats
    busy_1d_cycles: Floats
    port_cycles: Floats
    utilization_2d: Floats
    utilization_1d: Floats

    @property
    def dram_bytes(self) -> Floats:
        return self.dram_read_bytes + self.dram_write_bytes


def evaluate(points: Points, spec: FuseMaxSpec, cascade: Cascade) -> Estimates:
    """Every point on a design like `spec` (operations, word, ports, policy) of the sizes that the point gives."""
    placement = place(cascade, spec)
    check_policy(spec.binding.policy, placement)
    return Estimates(*by_chunk(points, spec, placement, len(fields(Estimates)), ClosedForm.estimates))


def by_chunk(
    points: Points, spec: FuseMaxSpec, placement: Placement, rows: int,
    quantities: Callable[[ClosedForm], tuple[Floats, ...]],
) -> Floats:  # fmt: skip
    """`rows` quantities of every point, one in each row."""
    arrays = points.arrays()

    @cache
    def forms(key_tiles: int, P1: int, P2: int) -> WordForms:
        return word_forms(placement, key_tiles, P1, P2)

    found = np.empty((rows, arrays["rows"].size))
    for start in range(0, found.shape[1], _CHUNK):
        part = slice(start, start + _CHUNK)
        given = {name: array[part].astype(np.float64) for name, array in arrays.items()}
        given["elements"] = given["rows"] * given["columns"]
        chunk = best(ClosedForm(spec, placement, forms, given))
        for row, values in zip(found, quantities(chunk), strict=True):
            row[part] = values
    return found


