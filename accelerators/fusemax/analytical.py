"""Attention on many designs at once: arrays of array sizes, buffers, bandwidths, clocks and extents in, arrays out.

The scalar plan (`attention`, physical accounting, full masks) in closed form: the same placement, stages and counts,
counted once and evaluated for all points, no shorter than what few resident query tiles wait (`recurrence`). Knows no
cycle level. FuseMax (MICRO'24), sections V and VI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascadesim.accelerators.fusemax.linearform import LinearForm
from cascadesim.accelerators.fusemax.placement import ARRAY_1D, ARRAY_2D, Placed, Placement, place
from cascadesim.accelerators.fusemax.recurrence import least_cycles
from cascadesim.accelerators.fusemax.residency import ceil_div, resident_tiles
from cascadesim.accelerators.fusemax.spec import FuseMaxSpec
from cascadesim.accelerators.fusemax.streams import Streams
from cascadesim.accelerators.fusemax.timing import STAGES, check_policy
from cascadesim.accelerators.fusemax.wordforms import WordForms, word_forms
from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.einsum_cascades.ir import Cascade

Floats: TypeAlias = NDArray[np.float64]  # whole numbers too: exact up to 2^53, and faster than integers

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
        chunk = ClosedForm(spec, placement, forms, given)
        for row, values in zip(found, quantities(chunk), strict=True):
            row[part] = values
    return found


@dataclass(frozen=True)
class ClosedForm:
    """Every quantity of some points, one element per point."""

    spec: FuseMaxSpec
    placement: Placement
    forms: Callable[[int, int, int], WordForms]
    given: Mapping[str, Floats]

    @cached_property
    def depths(self) -> Mapping[str, Floats]:
        return {"e": self.given["query_depth"], "f": self.given["value_depth"]}

    @cached_property
    def key_tiles(self) -> Floats:
        return ceil_div(self.given["keys"], self.given["rows"])

    @cached_property
    def query_tiles(self) -> Floats:
        queries, columns, group = (self.given[name] for name in ("queries", "columns", "group"))
        apart, together = group * ceil_div(queries, columns), ceil_div(group * queries, columns)
        return np.where(queries >= columns, apart, together)

    @cached_property
    def buffer_tiles(self) -> Floats:
        given, word = self.given, self.spec.word_bytes
        key_bytes = given["rows"] * (self.depths["e"] + self.depths["f"]) * word
        return np.floor((given["buffer_bytes"] - key_bytes) / (given["columns"] * self.resident_words * word))

    @cached_property
    def resident_words(self) -> Floats:
        """In the buffer for each resident query."""
        extents = {**self.depths, self.placement.key_inner: self.given["rows"]}
        return _sum(_product(extents, ranks) for ranks in self.placement.resident.values())

    @cached_property
    def streams(self) -> Streams:
        """Designs whose buffer holds no query tile pass as if it held one."""
        given = {field.name: self.given[field.name] for field in fields(Streams) if field.name in self.given}
        per_cycle = self.given["bandwidth_bytes_per_s"] / self.given["clock_hz"]
        return Streams(
            self.placement, self.spec, **given, bytes_per_cycle=per_cycle, resident_words=self.resident_words,
            key_tiles=self.key_tiles, query_tiles=self.query_tiles, P1=self.P1,
        )  # fmt: skip

    @cached_property
    def P1(self) -> Floats:
        return resident_tiles(self.query_tiles, np.maximum(self.buffer_tiles, 1))

    @cached_property
    def P2(self) -> Floats:
        return ceil_div(self.query_tiles, self.P1)

    @cached_property
    def tiles(self) -> Floats:
        return self.given["instances"] * self.query_tiles * self.key_tiles

    def estimates(self) -> tuple[Floats, ...]:
        given, word = self.given, self.spec.word_bytes
        least, read, write, *busy, ports = self._bounds()
        shares = [self._useful(unit) / least for unit in (ARRAY_2D, ARRAY_1D)]
        found = (least, least / given["clock_hz"], read * word, write * word, *busy, ports, *shares)
        return (np.where(self.fits, self.P1, 0), *(np.where(self.fits, values, np.nan) for values in found))

    def cycles_and_dram_bytes(self) -> tuple[Floats, Floats]:
        """As in `estimates`, without the rest."""
        least, read, write, *_ = self._bounds()
        return np.where(self.fits, least, np.nan), np.where(self.fits, (read + write) * self.spec.word_bytes, np.nan)

    def _bounds(self) -> tuple[Floats, ...]:
        """Least cycles, words read and written, cycles of each array and of the ports."""
        cycles = {placed.name: self._cycles(placed) for placed in self.placement.einsums}
        busy = [_sum(cycles[placed.name] for placed in self.placement.on(unit)) for unit in (ARRAY_2D, ARRAY_1D)]
        read, write = self.words(lambda forms: (forms.dram_read, forms.dram_write))
        moving, ports, waiting = least_cycles(self.streams, busy[0])
        least = np.maximum(np.maximum(*busy), np.maximum(moving, ports))
        least = np.maximum(least, waiting)
        if self.spec.binding.policy == "serial":
            least = np.maximum(least, self._serial(cycles))
        return (least, read, write, *busy, ports)

    @cached_property
    def fits(self) -> NDArray[np.bool_]:
        """Whether the buffer holds a query tile."""
        return self.buffer_tiles >= 1

    def _cycles(self, placed: Placed) -> Floats:
        """Busy cycles over the whole operation."""
        per_key_tile = self.placement.key_outer in placed.ranks
        times = self.tiles if per_key_tile else self.given["instances"] * self.query_tiles
        cycles = times * _product(self.depths, placed.ranks) * placed.op_cycles
        if placed.unit == ARRAY_2D:
            return cycles
        cycles = cycles * ceil_div(self.given["columns"], self.given["lanes"])
        return cycles * self.given["rows"] if self.placement.key_inner in placed.ranks else cycles

    def _serial(self, cycles: Mapping[str, Floats]) -> Floats:
        """Stages as long as the slower array, and the drain of each tile."""
        total = self.tiles * self.given["rows"]
        for stage in STAGES["serial"]:
            total = total + np.maximum(*(_sum(cycles[name] for name in sorted(side)) for side in stage))
        return total

    def _useful(self, unit: str) -> Floats:
        """Cycles of a unit, had all its lanes useful work."""
        lanes = self.given["rows"] * self.given["columns"] if unit == ARRAY_2D else self.given["lanes"]
        return _sum(self.points(placed) * placed.op_cycles for placed in self.placement.on(unit)) / lanes

    def points(self, placed: Placed) -> Floats:
        """Useful points of an Einsum, all of them where nothing is masked."""
        queries = self.given["instances"] * self.given["group"] * self.given["queries"]
        points = queries * _product(self.depths, placed.ranks)
        if self.placement.key_inner in placed.ranks:
            return points * self.given["keys"]
        return points * self.key_tiles if self.placement.key_outer in placed.ranks else points

    def words(self, chosen: Callable[[WordForms], tuple[LinearForm, ...]]) -> tuple[Floats, ...]:
        """Words of the chosen forms, by pattern of loops of a single iteration."""
        single = [bound == 1 for bound in (self.key_tiles, self.P1, self.P2)]
        pattern = single[0] + 2 * single[1] + 4 * single[2]
        found: list[Floats] = []
        for code in np.unique(pattern).tolist():
            forms = chosen(self.forms(*(1 if code & bit else 2 for bit in (1, 2, 4))))
            found = found or [np.empty(pattern.size) for _ in forms]
            for row, form in zip(found, forms, strict=True):
                np.copyto(row, form.evaluate(self.sizes), where=pattern == code)
        return tuple(found)

    @cached_property
    def sizes(self) -> Callable[[frozenset[str]], Floats]:
        """Size of a projection, as `nests.Projections` has it for masked spaces."""
        return cache(self._size)

    def _size(self, loops: frozenset[str]) -> Floats:
        points = self._tile_points(loops) * _product(self.depths, loops)
        return points * self.given["instances"] if "instance" in loops else points

    def _tile_points(self, loops: frozenset[str]) -> Floats:
        given, rows = self.given, "m0" in loops
        keys = given["keys"] if rows else self.key_tiles
        in_tile = given["rows"] if rows else np.ones(())
        if "p1" in loops:
            queries = given["group"] * given["queries"] if "p0" in loops else self.query_tiles
            return queries * (keys if "m1" in loops else in_tile)
        columns = given["columns"] if "p0" in loops else np.ones(())
        groups = self.P2 if "p2" in loops else np.ones(())
        return columns * groups * (keys if "m1" in loops else in_tile)


def _product(extents: Mapping[str, Floats], ranks: Iterable[str]) -> Floats:
    found = np.ones(())
    for rank in sorted(set(ranks) & set(extents)):
        found = found * extents[rank]
    return found


def _sum(parts: Iterable[Floats]) -> Floats:
    return sum(parts, np.zeros(()))
