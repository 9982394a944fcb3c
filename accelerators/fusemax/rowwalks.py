"""Rows of few tiles under the published binding, and the longest walks from row to row and from group to group.

What ties rows together: running values of a column, slots of the buffer, the order of each unit. Machines that share
a pipeline share their walks; the cycles of transfers come in later (`walks`). Knows no streams. FuseMax, section V.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.fusemax.pipeline import (
    KEYS,
    LOAD_KEYS,
    LOAD_QUERIES,
    PORTS,
    QUERIES,
    STORE,
    Pipeline,
    pipeline,
)
from cascadesim.accelerators.fusemax.placement import ARRAY_2D, Placement, place_over
from cascadesim.accelerators.fusemax.slots import Flow, Slots, bubbles
from cascadesim.accelerators.fusemax.spec import FuseMaxSpec
from cascadesim.accelerators.fusemax.walks import Graph, Lengths, Place, walks
from cascadesim.einsum_cascades.notation.ir import Cascade

Floats = NDArray[np.float64]

SHORT_ROW = 8  # query tiles; assumed: with more, loads of queries and stores are few beside what a group computes
_MOST_ROWS = 4  # tied together by slots; assumed: with more slots, rows do not wait for them
_REMEMBERED = 1 << 16
_ENTRANCES = ("QK", "RM")  # the first task of a tile on either array: every circuit has a task on one of them


@dataclass(frozen=True, eq=False)
class Family:
    """Designs that differ in sizes only. One object for each, so that it is found fast."""

    placement: Placement
    spec: FuseMaxSpec


def family_of(placement: Placement, spec: FuseMaxSpec) -> Family:
    """With the sizes of `spec` forgotten."""
    return _family(placement.cascade, placement.key_outer, placement.key_inner, spec.model_copy(update={
        "clock_hz": 1.0,
        "pe_array": spec.pe_array.model_copy(update={"rows": 1, "columns": 1}),
        "vector_array": spec.vector_array.model_copy(update={"lanes": 1}),
        "global_buffer": spec.global_buffer.model_copy(update={"capacity_bytes": 1, "row_bytes": 1}),
        "dram": spec.dram.model_copy(update={"bandwidth_bytes_per_s": 1.0}),
    }))  # fmt: skip


@lru_cache(maxsize=_REMEMBERED)
def _family(cascade: Cascade, key_outer: str, key_inner: str, spec: FuseMaxSpec) -> Family:
    return Family(place_over(cascade, spec, key_outer, key_inner), spec)


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides the cycles of a tile and the order of its tasks."""

    family: Family
    rows: int
    turns: int  # of the 1D array for all columns of a tile
    query_depth: int
    value_depth: int

    def pipeline(self, lead: int) -> Pipeline:
        return _pipeline(self, lead)

    @property
    def cycles(self) -> dict[str, int]:
        """Of a tile, by Einsum."""
        depths, found = {"e": self.query_depth, "f": self.value_depth}, {}
        placement = self.family.placement
        for placed in placement.einsums:
            cycles = placed.op_cycles
            for rank in placed.ranks & set(depths):
                cycles *= depths[rank]
            if placed.unit != ARRAY_2D:
                cycles *= self.turns * (self.rows if placement.key_inner in placed.ranks else 1)
            found[placed.name] = cycles
        return found


@lru_cache(maxsize=_REMEMBERED)
def _pipeline(machine: Machine, lead: int) -> Pipeline:
    base = machine.family.spec
    spec = base.model_copy(update={"pe_array": base.pe_array.model_copy(update={"rows": machine.rows})})
    return pipeline(machine.family.placement, spec, machine.cycles, lead)


@dataclass(frozen=True, slots=True)
class Rows:
    """How rows of `resident` tiles follow each other: empty epochs after each row, after the last one of a group.

    `lead`: epochs that loads are ahead of the arrays.
    """

    resident: int
    after_row: int
    after_last_row: int
    lead: int
    slots: Slots


def rows_of(machine: Machine, flow: Flow, slots: Slots, most_lead: int) -> Rows:
    """With the longest lead that leaves no epoch empty, as in `simulation`."""
    lead, (after_group, after_row) = 0, _bubbles(machine.pipeline(0), flow, slots)
    while lead < most_lead and not any(longer := _bubbles(machine.pipeline(lead + 1), flow, slots)):
        lead, (after_group, after_row) = lead + 1, longer
    missing = max(after_row, machine.pipeline(lead).spacing - flow.resident, 0)
    return Rows(flow.resident, missing, after_row + after_group, lead, slots)


def _bubbles(chosen: Pipeline, flow: Flow, slots: Slots) -> tuple[int, int]:
    return bubbles(flow, slots, chosen.stage(STORE), chosen.last_read)


@dataclass(frozen=True)
class Lines:
    """Longest walks from an entrance of a tile to the same of a later one, the longest for some transfers.

    Cycles without transfers, loads of keys, loads of queries and stores: [walk, entrance], -inf where there are fewer.
    """

    cycles: Floats
    loads: Floats
    moves: Floats

    def longest(self, load_cycles: Floats, last_load_cycles: Floats, lasts: int, move_cycles: Floats) -> Floats:
        """[entrance, design]. Of the loads on a walk at most `lasts` are those of a last key tile."""
        found = np.full((self.cycles.shape[1], load_cycles.size), -np.inf)
        for cycles, loads, moves in zip(self.cycles, self.loads, self.moves, strict=True):
            few = np.minimum(loads, lasts)[:, None]
            loading = few * last_load_cycles + (loads[:, None] - few) * load_cycles
            np.maximum(found, cycles[:, None] + loading + moves[:, None] * move_cycles, out=found)
        return found


def _lines(lengths: Lengths) -> Lines:
    """Without walks that another with no fewer transfers is no shorter than."""
    best = np.flip(lengths, (1, 2))
    best = np.flip(np.maximum.accumulate(np.maximum.accumulate(best, axis=1), axis=2), (1, 2))
    more_loads, more_moves = np.full_like(best, -np.inf), np.full_like(best, -np.inf)
    more_loads[:, :-1], more_moves[:, :, :-1] = best[:, 1:], best[:, :, 1:]
    kept = [np.argwhere(own) for own in lengths > np.maximum(more_loads, more_moves)]
    found = np.full((3, max(1, *map(len, kept)), len(kept)), 0.0)
    found[0] = -np.inf
    for own, counts in enumerate(kept):
        found[0, : len(counts), own] = lengths[own][tuple(counts.T)]
        found[1:, : len(counts), own] = counts.T
    return Lines(*found)


@dataclass(frozen=True)
class Inside:
    """Longest walks in the midst of a group, over one row and over `rows`."""

    one: Lines
    several: Lines
    rows: int


@dataclass(frozen=True)
class Ends:
    """Longest walks at the very beginning and at the very end of a stream; where nothing is known, none at all."""

    opening: Lines
    closing: Lines


@lru_cache(maxsize=_REMEMBERED)
def inside(machine: Machine, rows: Rows) -> Inside:
    """Groups of any length: neither their ends nor slots for queries matter here."""
    alike = replace(rows, after_last_row=rows.after_row, slots=Slots(rows.resident, rows.slots.keys))
    return inside(machine, alike) if alike != rows else _Layout(machine, rows).inside()


@lru_cache(maxsize=_REMEMBERED)
def across(machine: Machine, rows: Rows) -> Lines:
    """From `depth_of` rows before the last row of a long group to as many rows after the first of the next."""
    return _Layout(machine, rows).across()


@lru_cache(maxsize=_REMEMBERED)
def ends(machine: Machine, rows: Rows) -> Ends:
    """Over `depth_of` rows from the first row of the first long group, and from as many before its last to the end."""
    return _Layout(machine, rows).ends()


@lru_cache(maxsize=_REMEMBERED)
def group_by_group(machine: Machine, rows: Rows, key_tiles: int) -> tuple[Lines, Ends]:
    """Of short groups, passed whole: from the first row of a group to that of the next, and at the ends.

    `closing`: from the first row of the group that is `groups_ahead` before the last.
    """
    return _Layout(machine, rows).group_by_group(key_tiles)


@lru_cache(maxsize=_REMEMBERED)
def few_groups(machine: Machine, rows: Rows, key_tiles: int, groups: int) -> Lines:
    """From the first row of all to the end of a stream of so many short groups."""
    return _Layout(machine, rows).few_groups(key_tiles, groups)


def groups_ahead(machine: Machine, rows: Rows, key_tiles: int) -> int:
    """Of which tasks may be between those of another."""
    return -(-depth_of(machine, rows) // key_tiles)


def depth_of(machine: Machine, rows: Rows) -> int:
    """Rows that may still be under way when another begins."""
    last = machine.pipeline(rows.lead).stage(STORE) + rows.resident  # epochs until its last tile is done
    return -(-(last + 1) // (rows.resident + rows.after_row))


@dataclass(frozen=True)
class _Layout:
    """Streams of rows, as long as the walks asked for need them."""

    machine: Machine
    rows: Rows

    @cached_property
    def several(self) -> list[list[Place | None]]:
        """As many rows in the midst of a group as may be under way."""
        return [self._row()] * depth_of(self.machine, self.rows)

    def inside(self) -> Inside:
        tied = min(max(2, self.rows.slots.keys), _MOST_ROWS)
        stream = [*self.several, *[self._row()] * (1 + tied), *self.several]
        (one, more), _ = self._walks(stream, len(self.several), (1, tied))
        return Inside(one, more, tied)

    def across(self) -> Lines:
        several, edge = self.several, [self._row(last=True), self._row(first=True)]
        stream = [*several, *several, *edge, *several, *several]
        return self._walks(stream, len(several), (2 * len(several) + 1,))[0][0]

    def ends(self) -> Ends:
        several = self.several
        (opening,), _ = self._walks([self._row(first=True), *several, *several], 0, (len(several),))
        _, closing = self._walks([*several, *several, self._row(last=True)], len(several), ())
        return Ends(opening, closing)

    def few_groups(self, key_tiles: int, groups: int) -> Lines:
        return self._walks(self._group(key_tiles) * groups, 0, ())[1]

    def _group(self, key_tiles: int) -> list[list[Place | None]]:
        return [self._row(first=row == 0, last=row == key_tiles - 1) for row in range(key_tiles)]

    def group_by_group(self, key_tiles: int) -> tuple[Lines, Ends]:
        group = self._group(key_tiles)
        ahead = groups_ahead(self.machine, self.rows, key_tiles)
        (opening,), _ = self._walks(group * (2 + ahead), 0, (key_tiles,))
        (following,), _ = self._walks(group * (2 + 2 * ahead), ahead * key_tiles, (key_tiles,))
        _, closing = self._walks(group * (1 + ahead), 0, ())
        return following, Ends(opening, closing)

    def _walks(
        self, stream: list[list[Place | None]], begin: int, steps: tuple[int, ...]
    ) -> tuple[list[Lines], Lines]:
        """From each entrance of row `begin` to the same of rows so many steps later, and to the end."""
        at = np.cumsum([0, *map(len, stream)]).tolist()
        epochs = [place for row in stream for place in row]
        begins = [(task, at[begin] + column) for task in _ENTRANCES for column in sorted({0, self.rows.resident - 1})]
        loads = max(steps, default=len(stream) - begin) + 1 + self.rows.lead
        entered, end = walks(self._graph(stream[0]), epochs, begins, (loads, self._most_moves(stream)))
        found = []
        for count in steps:
            away = at[begin + count] - at[begin]
            ends = [entered[task, epoch + away][own] for own, (task, epoch) in enumerate(begins)]
            found.append(_lines(np.array(ends)))
        return found, _lines(end)

    def _most_moves(self, stream: list[list[Place | None]]) -> int:
        """Loads of queries and stores that are counted: all of them, in short rows."""
        edges = sum(place is not None and (place.fresh or STORE not in place.without) for place, *_ in stream)
        return edges * self.rows.resident if self.rows.resident <= SHORT_ROW else 0

    def _graph(self, first: list[Place | None]) -> Graph:
        """Residents are there already unless the first row fetches them."""
        fetched = first[0] is not None and first[0].fresh
        absent = {PORTS, *(name for name, cycles in self.machine.cycles.items() if cycles == 0)}
        own = self.machine.pipeline(self.rows.lead).tasks
        tasks = tuple(task.without(PORTS) for task in own if task.name not in absent)
        slots, counted = self.rows.slots, {LOAD_KEYS: 0}
        if self.rows.resident <= SHORT_ROW:
            counted |= {LOAD_QUERIES: 1, STORE: 1}
        return Graph(
            tasks, self.machine.cycles, {QUERIES: slots.queries, KEYS: slots.keys}, counted, _ENTRANCES,
            taken={QUERIES: 0 if fetched else self.rows.resident, KEYS: 0},
        )  # fmt: skip

    def _row(self, first: bool = False, last: bool = False) -> list[Place | None]:
        rows = self.rows
        empty = rows.after_last_row if last else rows.after_row
        return [*(_place(rows, column, first, last) for column in range(rows.resident)), *([None] * empty)]


def _place(rows: Rows, column: int, first: bool, last: bool) -> Place:
    leaves_out = {LOAD_QUERIES: not first, STORE: not last, "AV": not last, LOAD_KEYS: column > 0}
    return Place(
        column, frozenset(name for name, out in leaves_out.items() if out),
        keeps=frozenset({KEYS} if column < rows.resident - 1 else ()), fresh=first,
    )  # fmt: skip
