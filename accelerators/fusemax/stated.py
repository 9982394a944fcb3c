"""Where the cycle level of attention lies: from its closed form, a bound, to rows that follow each other in a period.

Short instances are followed tile by tile (`cycle_range.enclosing`). In longer ones equal rows repeat themselves
(`period`), or wait for all of the row before; on top comes what it may take to change from one kind of row to another,
and one tile to fill the pipeline and one to drain it: an estimate, no theorem, and property tests say how often it
holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf

from cascadesim.accelerators.cycle_range import CycleRange, enclosing, passage_cycles, queueing_cycles
from cascadesim.accelerators.fusemax.pipeline import KEYS, LOAD_KEYS, LOAD_QUERIES, PORTS, QUERIES, STORE
from cascadesim.accelerators.fusemax.simulation import Simulation
from cascadesim.accelerators.fusemax.slots import flow_of, query_slack
from cascadesim.accelerators.fusemax.tilestream import Kind, ResidentGroup, Row
from cascadesim.accelerators.period import Cycles, Rows, Tile

_FOLLOWED_TILES = 16  # of a row; assumed: longer ones hide what tiles wait for, or are long beside it


def stated(simulation: Simulation, least_cycles: float) -> CycleRange:
    """`least_cycles`: of the closed form. Where tiles are taken greedily, no period is known: they queue."""
    program = simulation.program()

    def estimate() -> float:
        if program.in_flight is not None:
            return queueing_cycles(program) if _has_room(simulation, program.in_flight) else inf
        return _Instances(simulation, passage_cycles(program)).cycles()

    return enclosing(program, least_cycles, estimate)


def _has_room(simulation: Simulation, in_flight: int) -> bool:
    """Whether no tile waits for a slot: rows, queries ahead and keys for as many tiles as can be under way."""
    slots, flow = simulation.slots, flow_of(simulation.stream)
    return min(flow.shortest_row, slots.queries - flow.resident) >= in_flight and slots.keys > 1


@dataclass(frozen=True)
class _Instances:
    """`passage_cycles`: of one tile alone. `periods`: that are known."""

    simulation: Simulation
    passage_cycles: int
    periods: dict[tuple[object, ...], int] = field(default_factory=dict)

    def cycles(self) -> int:
        groups = self.simulation.stream.groups
        rows = sum(group.times * self._of_group(group) for group in groups)
        return self.passage_cycles + self.simulation.stream.instances * rows + self.passage_cycles  # to fill, to drain

    def _of_group(self, group: ResidentGroup) -> int:
        """Rows that fetch or finish queries do more than the others: to change between them takes a passage at most."""
        joint, most = self._joint(group), self._most(group.rows)
        found = [self._border_row(row, joint, most[STORE]) if _is_border(row) else self._row(row) for row in group.rows]
        changes = len({pace for _, pace in found}) > 1
        rows = sum(row.times * cycles for row, (cycles, _) in zip(group.rows, found, strict=True))
        after = min(self.simulation.empty_epochs[0] * joint.period_cycles, self.passage_cycles)
        return rows + after + changes * self.passage_cycles

    def _joint(self, group: ResidentGroup) -> Rows:
        """All rows of a group as if alike: the stores of one group meet the loads of the next."""
        tile, each = self._most(group.rows), [self._distances(row) for row in group.rows]
        columns = min((one for one, _ in each if one is not None), default=None)
        slots = {queue: min(own[queue] for _, own in each) for queue in (KEYS, QUERIES)}
        rows = replace(self._alike(Tile(tile, columns), slots), occasional=self._occasional)
        return replace(rows, longer=replace(rows, occasional=frozenset()).busiest_cycles - rows.busiest_cycles)

    @cached_property
    def _occasional(self) -> frozenset[str]:
        """What only rows do that fetch or finish queries."""
        placement = self.simulation.timing.placement
        last = {placed.name for placed in placement.einsums if placement.key_outer not in placed.ranks}
        return frozenset(last | {STORE, LOAD_QUERIES})

    def _border_row(self, row: Row, joint: Rows, store_cycles: int) -> tuple[int, float]:
        """Cycles, and those of an epoch that has nothing occasional. Loads may meet stores of the group before."""
        own = self._most([row])
        if own[LOAD_QUERIES]:
            own = {**own, STORE: store_cycles}
        longer = self._alike(Tile(own), {}).busiest_cycles - joint.busiest_cycles
        apart = self._epochs(row) * (joint.period_cycles + max(0, longer))
        cycles = max(min(apart, self._behind(row)), self._transfers(row))
        return cycles, joint.period_cycles if cycles == apart else cycles / self._epochs(row)

    def _row(self, row: Row) -> tuple[int, float]:
        """Rows of few tiles are followed tile by tile, others as if all of their tiles were alike."""
        empty = self._epochs(row) - row.tiles
        if row.tiles <= _FOLLOWED_TILES and row.spacing == row.tiles:
            tiles = (self._tile(run.kind, row.spacing + empty) for run in row.runs for _ in range(run.tiles))
            slots = {KEYS: self.simulation.slots.keys}
            apart = self._period(Rows(self.simulation.pipeline.tasks, (*tiles, *[None] * empty), slots))
        else:
            columns, slots = self._distances(row)
            apart = self._epochs(row) * self._period(self._alike(Tile(self._most([row]), columns), slots))
        cycles = max(min(apart, self._behind(row)), self._transfers(row))
        return cycles, cycles / self._epochs(row)

    def _behind(self, row: Row) -> int:
        """After all of the row before."""
        return row.tiles * self._period(self._alike(Tile(self._most([row])), {})) + self.passage_cycles

    def _transfers(self, row: Row) -> int:
        """Cycles of the DRAM channel, or of the buffer ports."""
        classes = [(run.tiles, self.simulation.class_cycles(run.kind)) for run in row.runs]
        units = ((STORE, LOAD_QUERIES, LOAD_KEYS), (PORTS,))
        return max(sum(tiles * sum(cycles[name] for name in unit) for tiles, cycles in classes) for unit in units)

    def _distances(self, row: Row) -> tuple[int | None, dict[str, int]]:
        """Epochs from a tile to the next of its column, and tiles to the next that uses its slots."""
        slots, empty = self.simulation.slots, self._epochs(row) - row.tiles
        columns = None if row.spacing is None else row.spacing + empty
        keys = (slots.keys - 1) * self._epochs(row) + 1 + empty
        queries = query_slack(flow_of(self.simulation.stream), slots) + self.simulation.empty_epochs[0]
        return columns, {KEYS: keys, QUERIES: queries}

    def _epochs(self, row: Row) -> int:
        return row.tiles + self.simulation.missing_epochs(row)

    def _period(self, rows: Rows) -> int:
        tiles = ((tile.column_epochs, *tile.cycles.values()) if tile else None for tile in rows.tiles)
        key = (*tiles, *rows.slots.values(), rows.rare)
        if key not in self.periods:
            self.periods[key] = rows.period_cycles
        return self.periods[key]

    def _alike(self, tile: Tile, slots: Mapping[str, int]) -> Rows:
        """Tiles of which one in a row loads keys."""
        return Rows(self.simulation.pipeline.tasks, (tile,), slots, rare=frozenset({LOAD_KEYS}))

    def _tile(self, kind: Kind, column_epochs: int | None) -> Tile:
        keeps = frozenset[str]() if kind.releases_keys else frozenset({KEYS})
        return Tile(self.simulation.class_cycles(kind), column_epochs, keeps)

    def _most(self, rows: Sequence[Row]) -> Cycles:
        """The most that a tile of these rows does; of rows that repeat, what every tile moves through the ports."""
        classes = [self.simulation.class_cycles(run.kind) for row in rows for run in row.runs]
        most = {name: max(own[name] for own in classes) for name in classes[0]}
        return most if any(map(_is_border, rows)) else most | {PORTS: min(own[PORTS] for own in classes)}


def _is_border(row: Row) -> bool:
    return any(run.kind.fetched_queries or run.kind.finished_queries for run in row.runs)
