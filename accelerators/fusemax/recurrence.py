"""What a pipeline with few resident query tiles waits for itself: the critical circuit of its rows, for many designs.

Under the published binding a running value, or a slot of the buffer, ties each row of tiles to the one before. No
schedule is shorter than the longest walk (`rowwalks`) through all rows and groups of the stream. Covers full masks,
the policy `epochs`, and few resident query tiles: with many, hardly anything waits. FuseMax (MICRO'24), section V.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.fusemax.rowwalks import (
    SHORT_ROW,
    Family,
    Lines,
    Machine,
    Rows,
    across,
    depth_of,
    ends,
    family_of,
    few_groups,
    group_by_group,
    groups_ahead,
    inside,
    rows_of,
)
from cascadesim.accelerators.fusemax.slots import Flow, Slots
from cascadesim.accelerators.fusemax.streams import Streams

Floats = NDArray[np.float64]

MOST_RESIDENT = 16  # query tiles; assumed: with more, a row is so long that hardly anything waits for the one before
_SEEN = 0.001  # of the cycles of a group; assumed: what makes less of a difference is not looked for
_MANY_ROWS = 50_000  # in a stream; assumed: of so many, the first and the last few are not seen
_LONG_GROUP = 128  # key tiles; assumed: longer than any pipeline is deep, so that more of them change no order


def waiting_cycles(streams: Streams) -> Floats:
    """Least cycles of each design by the walks alone; 0 where nothing waits or nothing is known."""
    found = np.zeros(streams.P1.shape)
    if streams.spec.binding.policy != "epochs":
        return found
    open_designs = np.flatnonzero(_may_wait(streams))
    chosen, base = streams.at(open_designs), family_of(streams.placement, streams.spec)
    loads_matter = _loads_matter(chosen)
    for members, values in _alike(_shared(chosen)):
        bound = _Bound(chosen, base, members, _Shape(*map(int, values)), loads_matter[members])
        found[open_designs[members]] = bound.cycles()
    return found


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the order of tasks depends on, and with it the walks. `key_tiles` of long groups are all the same."""

    rows: int
    turns: int
    query_depth: int
    value_depth: int
    resident: int
    rest: int
    query_slots: int
    key_slots: int
    key_tiles: int
    most_lead: int

    @property
    def flow(self) -> Flow:
        smallest = self.rest or self.resident
        return Flow(self.resident, smallest * self.key_tiles, smallest)


def _shared(streams: Streams) -> tuple[Floats, ...]:
    """The columns of _Shape."""
    key_tiles = np.minimum(streams.key_tiles, _LONG_GROUP)
    return (streams.rows, streams.turns, streams.query_depth, streams.value_depth, streams.P1, streams.rest,
            *streams.slots, key_tiles, streams.wanted_lead)  # fmt: skip


def _may_wait(streams: Streams) -> NDArray[np.bool_]:
    """Short rows, tight buffers, and loads that take about as long as a row: nothing else waits much."""
    short = streams.P1 * streams.inner_tile_cycles < _longest_wait(streams)
    few = (streams.P1 <= MOST_RESIDENT) & (streams.key_tiles >= 2) & streams.fits
    found: NDArray[np.bool_] = few & (short | streams.is_tight | _loads_matter(streams))
    return found


def _longest_wait(streams: Streams) -> Floats:
    """Of a tile in the pipeline: its work and its drains."""
    return 2 * streams.inner_tile_cycles + 3 * streams.rows


def _loads_matter(streams: Streams) -> NDArray[np.bool_]:
    """Where a load of keys takes about as long as a row, or those of queries and stores longer than the tiles."""
    tile = streams.inner_tile_cycles
    balanced = np.abs(streams.load_cycles - streams.P1 * tile) < _longest_wait(streams)
    longer = streams.last_query_cycles + streams.last_store_cycles - tile  # than a tile, once in a group
    seen = (streams.P1 <= SHORT_ROW) & (longer > _SEEN * streams.key_tiles * tile)
    found: NDArray[np.bool_] = balanced | seen
    return found


def _alike(columns: Sequence[Floats]) -> Iterator[tuple[NDArray[np.intp], tuple[float, ...]]]:
    """Members and values of each combination that occurs."""
    which = np.zeros(columns[0].size, dtype=np.int64)
    for column in columns:
        if column.size and not (column == column[0]).all():
            values, own = np.unique(column, return_inverse=True)
            _, which = np.unique(which * len(values) + own, return_inverse=True)
    order = np.argsort(which, kind="stable")
    edges = np.flatnonzero(np.diff(which[order])) + 1
    for members in np.split(order, edges) if order.size else ():
        yield members, tuple(float(column[members[0]]) for column in columns)


@dataclass(frozen=True)
class _Bound:
    """Designs of one shape."""

    streams: Streams
    family: Family
    designs: NDArray[np.intp]
    shape: _Shape
    loads_matter: NDArray[np.bool_]

    def cycles(self) -> Floats:
        """Walks through all full groups of residents, and through the smaller last group of each instance."""
        instances = self.streams.instances[self.designs]
        groups = np.floor(self.streams.query_tiles / self.streams.P1)[self.designs]
        own = self._rows(self.shape.resident)
        waits = own.lead == 0 or own.after_row > 0 or self.loads_matter
        if not np.any(waits):
            return np.zeros(self.designs.size)
        if not self.shape.rest:
            return np.where(waits, self._chain(own, instances * groups, closed=True), 0)
        smaller = self._chain(self._rows(self.shape.rest), np.ones(self.designs.size), closed=False)
        return np.where(waits, instances * (self._chain(own, groups, closed=False) + smaller), 0)

    @cached_property
    def machine(self) -> Machine:
        shape = self.shape
        return Machine(self.family, shape.rows, shape.turns, shape.query_depth, shape.value_depth)

    def _rows(self, resident: int) -> Rows:
        """Of groups with so many residents, in the order that the smallest group allows."""
        slots = Slots(self.shape.query_slots, self.shape.key_slots)
        rows = rows_of(self.machine, self.shape.flow, slots, self.shape.most_lead)
        missing = max(rows.after_row, self.machine.pipeline(rows.lead).spacing - resident)
        return replace(rows, resident=resident, after_row=missing)

    def _chain(self, rows: Rows, groups: Floats, closed: bool) -> Floats:
        """One walk through `groups` groups one after another; `closed`: to the end of the last."""
        short = self.shape.key_tiles <= 2 * depth_of(self.machine, rows)
        least: Floats = (self._short_groups if short else self._long_groups)(rows, groups, closed).max(axis=0)
        return least

    def _long_groups(self, rows: Rows, groups: Floats, closed: bool) -> Floats:
        """Row by row, [entrance, design]."""
        found, between = inside(self.machine, rows), self._best(across(self.machine, rows), lasts=1)
        key_tiles = self.streams.key_tiles[self.designs]
        steps = key_tiles - 1 - 2 * depth_of(self.machine, rows)
        within = np.mod(steps, found.rows) * self._best(found.one)
        within = within + np.floor(steps / found.rows) * self._best(found.several)
        total = within + (groups - 1) * (between + within)
        few = groups * key_tiles < _MANY_ROWS
        if not np.any(few):
            return total
        at_ends = ends(self.machine, rows)
        closing = np.minimum(self._best(at_ends.closing, lasts=1), between) if closed else 0
        return total + np.where(few, self._best(at_ends.opening, lasts=1) + closing, 0)

    def _short_groups(self, rows: Rows, groups: Floats, closed: bool) -> Floats:
        """Group by group, [entrance, design]; a few groups one after another, if nothing follows them."""
        key_tiles = self.shape.key_tiles
        lines, at_ends = group_by_group(self.machine, rows, key_tiles)
        ahead, following = groups_ahead(self.machine, rows, key_tiles), self._best(lines, lasts=2)
        closing = np.minimum(self._best(at_ends.closing, lasts=2 + ahead), (1 + ahead) * following) if closed else 0
        total = self._best(at_ends.opening, lasts=2) + (groups - 2 - ahead) * following + closing
        total = np.where(groups >= 2 + ahead, total, 0)
        for few in np.unique(groups[groups < 2 + ahead]).astype(int).tolist() if closed else ():
            own = self._best(few_groups(self.machine, rows, key_tiles, few), lasts=few)
            total = np.where(groups == few, own.max(axis=0), total)
        return total

    def _best(self, lines: Lines, lasts: int = 0) -> Floats:
        """The longest, [entrance, design], at the cycles of each transfer; `lasts` of them for a last key tile."""
        queries = np.minimum(self.streams.last_query_cycles, self.streams.last_store_cycles)
        whole, last = self.streams.load_cycles, self.streams.last_load_cycles
        return lines.longest(whole[self.designs], last[self.designs], lasts, queries[self.designs])
