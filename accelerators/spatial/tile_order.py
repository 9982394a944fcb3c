"""The stream of score tiles of an operation, in the order of the loop nest, as runs of tiles of the same kind.

A kind says what a tile does besides its score tile: fetch its queries (first key tile of its column), fetch keys and
values (first tile of a key row), release them (last of the row), finish its column (last key tile). Knows tiles and
masks; knows no cycles. FuseMax (MICRO'24), section V, mapping 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, pairwise

import numpy as np

from cascadesim.accelerators.spatial.attention_tiles import AttentionTiles, Counts, KeyStep


@dataclass(frozen=True, slots=True)
class Kind:
    """What happens in a tile. Sizes are 0 where it does not: queries fetched, keys fetched, queries finished."""

    fetched_queries: int = 0
    fetched_keys: int = 0
    finished_queries: int = 0
    releases_keys: bool = False


@dataclass(frozen=True, slots=True)
class KindRun:
    """`tiles` neighbours of one kind, columns in order from `first_column`."""

    kind: Kind
    tiles: int
    first_column: int


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key tile met by resident query tiles from left to right; `times` such rows in a row.

    `spacing`: tiles from a query tile of this row to the same query tile of the next; None where they share none.
    """

    runs: tuple[KindRun, ...]
    spacing: int | None
    times: int = 1

    @property
    def tiles(self) -> int:
        return sum(run.tiles for run in self.runs)


@dataclass(frozen=True, slots=True)
class ResidentGroup:
    """All rows of query tiles that are resident together; `times` such groups one after another."""

    rows: tuple[KeyRow, ...]
    times: int = 1


@dataclass(frozen=True)
class TileStream:
    """The stream of one instance; the operation repeats it `instances` times."""

    tiles: AttentionTiles

    @property
    def instances(self) -> int:
        return self.tiles.shape.instances

    @cached_property
    def groups(self) -> tuple[ResidentGroup, ...]:
        known = {start: self._rows(start) for start in set(self.tiles.group_starts)}
        found = [rows for start in self.tiles.group_starts if (rows := known[start])]
        if self.tiles.key_tiles == 1:
            found = [_staying(rows, group == 0, group == len(found) - 1) for group, (rows,) in enumerate(found)]
        return tuple(ResidentGroup(rows, sum(1 for _ in same)) for rows, same in groupby(found))

    def _rows(self, start: int) -> tuple[KeyRow, ...]:
        group = slice(start, start + self.tiles.P1)
        first, last = (bound[group] for bound in self.tiles.key_range)
        columns = self.tiles.tile_queries[group]
        stretches = (_Stretch(step, first, last, columns, self.tiles) for step in self.tiles.steps(start))
        spaced = _spaced([row for stretch in stretches for row in stretch.rows()])
        return tuple(replace(row, times=sum(same.times for same in alike)) for row, alike in _alike(spaced))


def _staying(row: KeyRow, first: bool, last: bool) -> tuple[KeyRow]:
    """The only key tile of an instance stays where it is for all groups."""
    kinds = [
        replace(
            run.kind,
            fetched_keys=run.kind.fetched_keys if first else 0,
            releases_keys=run.kind.releases_keys and last,
        )
        for run in row.runs
    ]
    return (replace(row, runs=tuple(replace(run, kind=kind) for run, kind in zip(row.runs, kinds, strict=True))),)


@dataclass(frozen=True)
class _Stretch:
    """Key tiles met by the same query tiles: only its first row fetches queries, only its last row finishes them."""

    step: KeyStep
    first: Counts
    last: Counts
    columns: Counts
    tiles: AttentionTiles

    def rows(self) -> Iterator[tuple[tuple[KindRun, ...], int]]:
        """(runs of a row, how often)."""
        begin, end = self.step.first_key_tile, self.step.first_key_tile + self.step.key_tiles
        at = begin
        for key_tile in sorted({begin, end - 1}):  # the last key tile, perhaps a partial one, ends a stretch
            if key_tile > at:
                yield self._row(at), key_tile - at
            yield self._row(key_tile), 1
            at = key_tile + 1

    def _row(self, key_tile: int) -> tuple[KindRun, ...]:
        here = range(self.step.first_query_tile, self.step.first_query_tile + self.step.query_tiles)
        fetched, finished = self.first == key_tile, self.last == key_tile
        edges = {here.start, here.start + 1, here.stop - 1, here.stop}
        for values in (fetched, finished, self.columns):
            changes = np.flatnonzero(values[here.start + 1 : here.stop] != values[here.start : here.stop - 1])
            edges.update((changes + here.start + 1).tolist())
        return tuple(self._run(key_tile, fetched, finished, *pair) for pair in pairwise(sorted(edges)))

    def _run(self, key_tile: int, fetched: Counts, finished: Counts, begin: int, end: int) -> KindRun:
        columns = int(self.columns[begin])
        at_start = begin == self.step.first_query_tile
        at_end = end == self.step.first_query_tile + self.step.query_tiles
        kind = Kind(
            fetched_queries=columns if fetched[begin] else 0,
            fetched_keys=self._keys(key_tile) if at_start else 0,
            finished_queries=columns if finished[begin] else 0,
            releases_keys=at_end,
        )
        return KindRun(kind, end - begin, begin)

    def _keys(self, key_tile: int) -> int:
        return min(self.tiles.rows, self.tiles.shape.keys - key_tile * self.tiles.rows)


def _alike(rows: Iterable[KeyRow]) -> Iterator[tuple[KeyRow, Iterable[KeyRow]]]:
    return groupby(rows, key=lambda row: replace(row, times=1))


def _spaced(rows: list[tuple[tuple[KindRun, ...], int]]) -> Iterator[KeyRow]:
    """Rows with the distance to the same query tile of the next row; equal rows keep their own."""
    for position, (runs, times) in enumerate(rows):
        length = sum(run.tiles for run in runs)
        if times > 1:
            yield KeyRow(runs, length, times - 1)
        end = runs[0].first_column + length
        following = rows[position + 1][0][0].first_column if position + 1 < len(rows) else end
        yield KeyRow(runs, end - following if following < end else None)


TILES_AHEAD = 16  # assumed: more than any pipeline of tiles is deep; further slots would change no cycle


@dataclass(frozen=True, slots=True)
class Slots:
    queries: int
    keys: int


@dataclass(frozen=True, slots=True)
class Flow:
    """A stream: query tiles resident at a time, tiles of its smallest group, query tiles of its shortest row."""

    resident: int
    smallest_group: int
    shortest_row: int


def flow_of(stream: TileStream) -> Flow:
    rows = [row for group in stream.groups for row in group.rows]
    smallest = min(sum(row.tiles * row.times for row in group.rows) for group in stream.groups)
    return Flow(stream.tiles.P1, smallest, min(row.tiles for row in rows))


def split_buffer(capacity_bytes: int, query_bytes: int, key_bytes: int, flow: Flow, ahead: int) -> Slots:
    """Room for the resident query tiles, for two key slots, for queries ahead, and for keys ahead.

    `ahead`: tiles that can be under way.
    """
    wanted = min(ahead, flow.resident * -(-ahead // flow.smallest_group))
    spare_bytes = capacity_bytes - flow.resident * query_bytes - 2 * key_bytes
    queries = flow.resident + max(0, min(wanted, spare_bytes // query_bytes))
    return Slots(queries, (capacity_bytes - queries * query_bytes) // key_bytes)


def used(slots: Slots, flow: Flow, ahead: int) -> Slots:
    """Only as many as `ahead` tiles under way need: a buffer has room for more, but nothing would use it."""
    return Slots(slots.queries, min(slots.keys, max(2, 1 + -(-ahead // flow.shortest_row))))


def query_slack(flow: Flow, slots: Slots) -> int:
    """Tiles from the last tile of a query slot to the first tile of its next query tile, at least.

    In between every other slot finishes or begins a column in a tile of its own, and whole groups pass by: as many as
    the slots hold beside one.
    """
    whole_groups = slots.queries // flow.resident - 1
    return max(slots.queries, whole_groups * flow.smallest_group + 1)


def key_slack(flow: Flow, slots: Slots) -> int:
    """Tiles from the last tile of a key slot to the first tile of its next key tile, at least: the rows in between."""
    return 1 + (slots.keys - 1) * flow.shortest_row


def bubbles(flow: Flow, slots: Slots, store_stage: int, last_read_stage: int) -> tuple[int, int]:
    """Empty epochs that slots need: after each group of resident queries, after each row of keys."""
    after_group = max(0, store_stage - query_slack(flow, slots))
    return after_group, max(0, last_read_stage + 1 - key_slack(flow, slots))
