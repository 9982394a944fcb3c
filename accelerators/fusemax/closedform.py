"""The closed form of full attention for many designs at once: arrays of sizes and extents in, cycles and words out.

The same placement, stages and counts as the scalar plan, counted once and evaluated for all points, no shorter than
what few resident query tiles wait (`recurrence`). Knows one tile for each point; which one is the business of `choice`.
FuseMax (MICRO'24), sections V and VI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.fusemax.linearform import LinearForm
from cascadesim.accelerators.fusemax.placement import ARRAY_1D, ARRAY_2D, Placed, Placement
from cascadesim.accelerators.fusemax.recurrence import waiting_cycles
from cascadesim.accelerators.fusemax.residency import ceil_div, resident_tiles
from cascadesim.accelerators.fusemax.spec import FuseMaxSpec
from cascadesim.accelerators.fusemax.streams import Streams
from cascadesim.accelerators.fusemax.timing import STAGES
from cascadesim.accelerators.fusemax.wordforms import WordForms

Floats: TypeAlias = NDArray[np.float64]  # whole numbers too: exact up to 2^53, and faster than integers


@dataclass(frozen=True)
class ClosedForm:
    """Every quantity of some points, one element per point.

    `given`: the columns of Points, `rows` and `columns` of the tile, `elements` of the array, and P1 where it is not
    that of the published rule. `known_least`: cycles, where they are known already.
    """

    spec: FuseMaxSpec
    placement: Placement
    forms: Callable[[int, int, int], WordForms]
    given: Mapping[str, Floats]
    known_least: Floats | None = None

    def at(self, designs: NDArray[np.intp]) -> ClosedForm:
        """Some of the points."""
        known = None if self.known_least is None else self.known_least[designs]
        return replace(self, given={name: array[designs] for name, array in self.given.items()}, known_least=known)

    def on(self, rows: Floats, columns: Floats, P1: Floats | None = None) -> ClosedForm:
        """The same designs on other tiles."""
        given = {**self.given, "rows": rows, "columns": columns}
        given.pop("P1", None)
        return replace(self, given=given if P1 is None else given | {"P1": P1}, known_least=None)

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

    def fewest_columns(self, columns: Floats) -> Floats:
        """The smallest tile of which there are as few as of this one: heads apart, or side by side."""
        queries, together = self.given["queries"], self.given["group"] * self.given["queries"]
        apart = ceil_div(queries, ceil_div(queries, columns))
        return np.where(queries >= columns, apart, ceil_div(together, ceil_div(together, columns)))

    @cached_property
    def resident_queries(self) -> Floats:
        """That the buffer has room for beside a key tile and a value tile."""
        given, word = self.given, self.spec.word_bytes
        key_bytes = given["rows"] * (self.depths["e"] + self.depths["f"]) * word
        return np.floor((given["buffer_bytes"] - key_bytes) / (self.resident_words * word))

    @cached_property
    def buffer_tiles(self) -> Floats:
        return np.floor(self.resident_queries / self.given["columns"])

    @cached_property
    def resident_words(self) -> Floats:
        """In the buffer for each resident query."""
        extents = {**self.depths, self.placement.key_inner: self.given["rows"]}
        return _sum(_product(extents, ranks) for ranks in self.placement.resident.values())

    @cached_property
    def streams(self) -> Streams:
        """Designs whose buffer holds no query tile pass as if it held one."""
        given = {name: self.given[name] for name in (field.name for field in fields(Streams))
                 if name in self.given and name != "P1"}  # fmt: skip
        per_cycle = self.given["bandwidth_bytes_per_s"] / self.given["clock_hz"]
        return Streams(
            self.placement, self.spec, **given, bytes_per_cycle=per_cycle, resident_words=self.resident_words,
            key_tiles=self.key_tiles, query_tiles=self.query_tiles, P1=self.P1,
        )  # fmt: skip

    @cached_property
    def P1(self) -> Floats:
        if "P1" in self.given:
            return self.given["P1"]
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
        read, write = self.words(lambda forms: (forms.dram_read, forms.dram_write))
        return (self.least, read, write, *self._busy, self.streams.port_cycles())

    @cached_property
    def least(self) -> Floats:
        """Cycles; inf where the buffer does not hold the residents."""
        if self.known_least is not None:
            return self.known_least
        return np.maximum(self.cheap_cycles, waiting_cycles(self.streams))

    @cached_property
    def cheap_cycles(self) -> Floats:
        """Without what rows wait for each other."""
        moving = np.maximum(self.streams.dram_cycles(), self.streams.port_cycles())
        found = np.maximum(np.maximum(self.busy_cycles, moving), self.streams.turn_cycles(self._busy[0]))
        return np.where(self.fits, found, np.inf)

    def bytes_and_turns(self) -> tuple[Floats, Floats, Floats]:
        """Bytes of DRAM; where loads and work take turns, cycles of the work and bytes of the loads, 0 elsewhere."""
        per_cycle, work = self.streams.bytes_per_cycle, self.streams.turn_cycles(self._busy[0])
        loads = self.streams.turned_load_cycles
        return self.streams.dram_cycles() * per_cycle, work - loads, loads * per_cycle

    @cached_property
    def busy_cycles(self) -> Floats:
        """Of the busier array; under the policy `serial` of the stages."""
        busiest = np.maximum(*self._busy)
        if self.spec.binding.policy != "serial":
            return busiest
        return np.maximum(busiest, self._serial(self._einsum_cycles, self.tiles * self.given["rows"]))

    @cached_property
    def floor(self) -> Floats:
        """What no tile can be faster than: all of the array busy, keys passing by as seldom as the buffer allows."""
        given, lanes = self.given, self.given["lanes"]
        least = {placed.name: self._least_cycles(placed, ceil_div(given["group"] * given["queries"], lanes))
                 for placed in self.placement.einsums}  # fmt: skip
        found = np.maximum(*self._by_unit(least))
        if self.spec.binding.policy == "serial":
            found = np.maximum(found, self._serial(least, given["instances"] * self.query_tiles * given["keys"]))
        smallest = self.on(np.ones_like(found), given["columns"]).resident_queries
        groups = ceil_div(given["group"] * given["queries"], np.maximum(smallest, 1))
        return np.maximum(found, self.streams.least_dram_cycles(np.where(self.key_tiles > 1, groups, 1)))

    def _least_cycles(self, placed: Placed, turns: Floats) -> Floats:
        """Of an Einsum on any tile; `turns`: of full lanes for all queries of an instance."""
        outer, inner = (rank in placed.ranks for rank in (self.placement.key_outer, self.placement.key_inner))
        cycles = self.given["instances"] * _product(self.depths, placed.ranks) * placed.op_cycles
        if placed.unit == ARRAY_2D:
            return cycles * self.query_tiles * (self.key_tiles if outer else 1)
        return cycles * turns * (self.given["keys"] if inner else self.key_tiles if outer else 1)

    @cached_property
    def _einsum_cycles(self) -> Mapping[str, Floats]:
        return {placed.name: self._cycles(placed) for placed in self.placement.einsums}

    @cached_property
    def _busy(self) -> tuple[Floats, Floats]:
        return self._by_unit(self._einsum_cycles)

    def _by_unit(self, cycles: Mapping[str, Floats]) -> tuple[Floats, Floats]:
        on_2d, on_1d = (self.placement.on(unit) for unit in (ARRAY_2D, ARRAY_1D))
        return _sum(cycles[placed.name] for placed in on_2d), _sum(cycles[placed.name] for placed in on_1d)

    @cached_property
    def fits(self) -> NDArray[np.bool_]:
        """Whether the buffer holds the resident query tiles."""
        return self.buffer_tiles >= self.P1

    def _cycles(self, placed: Placed) -> Floats:
        """Busy cycles over the whole operation."""
        per_key_tile = self.placement.key_outer in placed.ranks
        times = self.tiles if per_key_tile else self.given["instances"] * self.query_tiles
        cycles = times * _product(self.depths, placed.ranks) * placed.op_cycles
        if placed.unit == ARRAY_2D:
            return cycles
        cycles = cycles * ceil_div(self.given["columns"], self.given["lanes"])
        return cycles * self.given["rows"] if self.placement.key_inner in placed.ranks else cycles

    def _serial(self, cycles: Mapping[str, Floats], drains: Floats) -> Floats:
        """Stages as long as the slower array, and the drains of all tiles."""
        total = drains
        for stage in STAGES["serial"]:
            total = total + np.maximum(*(_sum(cycles[name] for name in sorted(side)) for side in stage))
        return total

    def _useful(self, unit: str) -> Floats:
        """Cycles of a unit, had all its lanes useful work."""
        lanes = self.given["elements"] if unit == ARRAY_2D else self.given["lanes"]
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
