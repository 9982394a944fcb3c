"""Attention on many designs at once: arrays of array sizes, buffers, bandwidths, clocks and extents in, arrays out.

The placement and counts of the scalar plan (`accelerator`, physical accounting, full masks), counted once and evaluated
for all points, each on the tiles that it works on (`tile_choice`). Knows no cycle level. FuseMax (MICRO'24),
sections V and VI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cascadesim.accelerators.access_counts import Accesses, LinearForm
from cascadesim.accelerators.fusemax.actions import (
    PHYSICAL,
    REGISTERS,
    REGISTERS_1D,
    CountedAccesses,
    Nests,
    count,
    form_of,
    single_loops,
    symbols,
)
from cascadesim.accelerators.fusemax.spec import (
    ARRAY_1D,
    ARRAY_2D,
    DRAM,
    GLOBAL_BUFFER,
    FuseMaxSpec,
    Placed,
    Placement,
    place,
)
from cascadesim.accelerators.fusemax.tile_choice import best_tiles
from cascadesim.accelerators.fusemax.tile_costs import FIGURES
from cascadesim.accelerators.fusemax.timing import check_policy
from cascadesim.accelerators.spatial.attention_tiles import AttentionShape, AttentionTiles
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade

Floats = NDArray[np.float64]  # whole numbers too: exact up to 2^53, and faster than integers

_SIDE = 2  # any size above 1 shows the same pattern of loops
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
        """All columns in one length and dimension, scalars repeated without a copy.

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


@dataclass(frozen=True)
class WordForms:
    """Words read and written at each level; `registers_1d` also where the 2D array uses them."""

    dram_read: LinearForm
    dram_write: LinearForm
    buffer_read: LinearForm
    buffer_write: LinearForm
    registers_2d_read: LinearForm
    registers_2d_write: LinearForm
    registers_1d_read: LinearForm
    registers_1d_write: LinearForm

    @property
    def buffer(self) -> LinearForm:
        return self.buffer_read + self.buffer_write


def word_forms(placement: Placement, key_tiles: int, P1: int, P2: int) -> WordForms:
    """Words of every operation whose three loops have a single iteration where these numbers are 1."""
    single = single_loops(key_tiles, P1, P2)
    counted = count(Nests(placement, _example(key_tiles, P1, P2), {"e": _SIDE, "f": _SIDE}, symbols(single)), PHYSICAL)
    on_2d = [einsum for einsum in counted if einsum.placed.unit == ARRAY_2D]
    on_1d = [einsum for einsum in counted if einsum.placed.unit != ARRAY_2D]
    levels = (
        _level(counted, DRAM), _level(counted, GLOBAL_BUFFER), _level(on_2d, REGISTERS),
        _level(on_1d, REGISTERS) + _level(on_2d, REGISTERS_1D),
    )  # fmt: skip
    return WordForms(*(form_of(words) for level in levels for words in (level.reads, level.writes)))


def _level(counted: Iterable[CountedAccesses], level: str) -> Accesses:
    return sum((einsum.level(level) for einsum in counted), Accesses())


def _example(key_tiles: int, P1: int, P2: int) -> AttentionTiles:
    shape = AttentionShape(_SIDE, _SIDE * min(P1, 2) * min(P2, 2), _SIDE * min(key_tiles, 2), _SIDE, _SIDE)
    return AttentionTiles(shape, _SIDE, _SIDE, buffer_tiles=min(P1, 2), P1=min(P1, 2), kv_slots=1)


def evaluate(points: Points, spec: FuseMaxSpec, cascade: Cascade) -> Estimates:
    """Every point on a design like `spec` (operations, word, ports, policy) of the sizes that the point gives."""
    placement = place(cascade, spec)
    check_policy(spec.binding.policy, placement)
    return Estimates(*by_chunk(points, spec, placement, len(fields(Estimates)), ClosedForm.estimates))


def by_chunk(
    points: Points, spec: FuseMaxSpec, placement: Placement, rows: int,
    quantities: Callable[[ClosedForm], tuple[Floats, ...]],
) -> Floats:  # fmt: skip
    """`rows` quantities of every point on its best tile, one in each row."""
    arrays = points.arrays()

    @cache
    def forms(key_tiles: int, P1: int, P2: int) -> WordForms:
        return word_forms(placement, key_tiles, P1, P2)

    found = np.empty((rows, arrays["rows"].size))
    for start in range(0, found.shape[1], _CHUNK):
        part = slice(start, start + _CHUNK)
        given = {name: array[part].astype(np.float64) for name, array in arrays.items()}
        chunk = ClosedForm(spec, placement, forms, given, best_tiles(spec, placement, given))
        for row, values in zip(found, quantities(chunk), strict=True):
            row[part] = values
    return found


@dataclass(frozen=True)
class ClosedForm:
    """Every quantity of some points, one element per point. `given`: the columns of Points; `found`: FIGURES."""

    spec: FuseMaxSpec
    placement: Placement
    forms: Callable[[int, int, int], WordForms]
    given: Mapping[str, Floats]
    found: Mapping[str, Floats]

    def but_for_the_channel(self) -> tuple[ClosedForm, NDArray[np.intp]]:
        """The first of neighbours on the same tile that differ in channel and clock alone, and which each point has."""
        sizes = [own for name, own in self.given.items() if name not in ("bandwidth_bytes_per_s", "clock_hz")]
        first = np.zeros(self.given["rows"].size, dtype=bool)
        first[:1] = True
        for own in (*sizes, *(self.found[name] for name in FIGURES[:3])):
            first[1:] |= own[1:] != own[:-1]
        given, found = ({name: own[first] for name, own in columns.items()} for columns in (self.given, self.found))
        return replace(self, given=given, found=found), np.cumsum(first) - 1

    @cached_property
    def fits(self) -> NDArray[np.bool_]:
        """Whether the buffer holds a query beside a key."""
        return np.isfinite(self.found["rows"])

    @cached_property
    def tile(self) -> tuple[Floats, Floats, Floats]:
        """Rows, columns and resident query tiles; 1 where nothing fits."""
        rows, columns, residents = (np.where(self.fits, self.found[name], 1.0) for name in FIGURES[:3])
        return rows, columns, residents

    @cached_property
    def key_tiles(self) -> Floats:
        return np.ceil(self.given["keys"] / self.tile[0])

    @cached_property
    def query_tiles(self) -> Floats:
        queries, group, columns = self.given["queries"], self.given["group"], self.tile[1]
        apart = group * np.ceil(queries / columns)
        return np.where(queries >= columns, apart, np.ceil(group * queries / columns))

    @cached_property
    def groups(self) -> Floats:
        """P2: groups of resident query tiles."""
        return np.ceil(self.query_tiles / self.tile[2])

    @cached_property
    def least_cycles(self) -> Floats:
        """Cycles of the busiest resource; nan where nothing fits."""
        most: Floats = np.max([self.found[name] for name in FIGURES[6:]], axis=0)
        return most

    def estimates(self) -> tuple[Floats, ...]:
        """The fields of Estimates."""
        least, word = self.least_cycles, self.spec.word_bytes
        read, write = self.words(lambda forms: (forms.dram_read, forms.dram_write))
        lanes = {ARRAY_2D: self.given["rows"] * self.given["columns"], ARRAY_1D: self.given["lanes"]}
        useful = [sum((self.points(placed) * placed.op_cycles for placed in self.placement.on(unit)), np.zeros(()))
                  for unit in lanes]  # fmt: skip
        shares = [cycles / own / least for cycles, own in zip(useful, lanes.values(), strict=True)]
        busy = [self.found[name] for name in ("array_2d", "array_1d", "ports")]
        found = (least, least / self.given["clock_hz"], read * word, write * word, *busy, *shares)
        return (np.where(self.fits, self.tile[2], 0), *(np.where(self.fits, values, np.nan) for values in found))

    def points(self, placed: Placed) -> Floats:
        """Useful points of an Einsum, all of them where nothing is masked."""
        queries = self.given["instances"] * self.given["group"] * self.given["queries"]
        points = queries * self._product(placed.ranks)
        if self.placement.key_inner in placed.ranks:
            return points * self.given["keys"]
        return points * self.key_tiles if self.placement.key_outer in placed.ranks else points

    def words(self, chosen: Callable[[WordForms], tuple[LinearForm, ...]]) -> tuple[Floats, ...]:
        """Words of the chosen forms, by pattern of loops of a single iteration."""
        single = [bound == 1 for bound in (self.key_tiles, self.tile[2], self.groups)]
        pattern = single[0] + 2 * single[1] + 4 * single[2]
        found: list[Floats] = []
        for code in np.unique(pattern).tolist():
            forms = chosen(self.forms(*(1 if code & bit else 2 for bit in (1, 2, 4))))
            found = found or [np.empty(pattern.size) for _ in forms]
            for row, form in zip(found, forms, strict=True):
                np.copyto(row, form.evaluate(self.size), where=pattern == code)
        return tuple(found)

    @cached_property
    def size(self) -> Callable[[frozenset[str]], Floats]:
        """Size of a projection, as `nests.Projections` has it for masked spaces."""

        @cache
        def size(loops: frozenset[str]) -> Floats:
            given, (rows, columns, _) = self.given, self.tile
            keys, in_tile = (given["keys"], rows) if "m0" in loops else (self.key_tiles, np.ones(()))
            if "p1" in loops:
                over = given["group"] * given["queries"] if "p0" in loops else self.query_tiles
            else:
                over = (columns if "p0" in loops else np.ones(())) * (self.groups if "p2" in loops else np.ones(()))
            points = over * (keys if "m1" in loops else in_tile) * self._product(loops)
            return points * given["instances"] if "instance" in loops else points

        return size

    def _product(self, ranks: Iterable[str]) -> Floats:
        depths = {"e": self.given["query_depth"], "f": self.given["value_depth"]}
        found = np.ones(())
        for rank in sorted(set(ranks) & set(depths)):
            found = found * depths[rank]
        return found
