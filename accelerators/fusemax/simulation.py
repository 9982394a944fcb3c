"""The program that the cycle-level engine runs for one attention operation: tasks, classes of tiles, stream, queues.

Chooses how far loads run ahead, splits the buffer between query slots and key slots, and leaves epochs empty where a
running value or a slot would be due before it can be there. FuseMax (MICRO'24), section V.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil, prod

from cascadesim.accelerators.fusemax.actions import TileRows
from cascadesim.accelerators.fusemax.pipeline import (
    KEYS,
    LOAD_KEYS,
    LOAD_QUERIES,
    LONGEST_LEAD,
    PORTS,
    QUERIES,
    STORE,
    TilePipeline,
    pipeline,
)
from cascadesim.accelerators.fusemax.placement import ARRAY_1D, ARRAY_2D, Placement
from cascadesim.accelerators.fusemax.tile_order import KeyRow, Kind, Slots, TileStream, bubbles, flow_of
from cascadesim.accelerators.fusemax.timing import ArrayTiming, busy_cycles
from cascadesim.accelerators.program import Program, Queue, Repeat, TileRun


def stored_words(placement: Placement, depths: Mapping[str, int]) -> int:
    """Words that a store moves for each query: at least one, which frees its slot."""
    return max(1, sum(prod(depths[rank] for rank in ranks) for ranks in placement.results))


@dataclass(frozen=True)
class Simulation:
    """Everything the program is made of."""

    timing: ArrayTiming
    stream: TileStream
    slots: Slots
    rows: TileRows

    @cached_property
    def cycles(self) -> dict[str, int]:
        """Cycles of a whole tile, by Einsum."""
        return {placed.name: self.timing.tile_cycles(placed) for placed in self.timing.placement.einsums}

    @cached_property
    def pipeline(self) -> TilePipeline:
        """The pipeline whose loads run ahead as far as the buffer has room."""
        chosen = self._pipeline(0)
        if chosen.in_flight is None:
            for lead in range(1, self._wanted_lead() + 1):
                longer = self._pipeline(lead)
                if max(self._bubbles(longer)) > 0:
                    break
                chosen = longer
        return chosen

    def _pipeline(self, lead: int) -> TilePipeline:
        return pipeline(self.timing.placement, self.timing.spec, self.cycles, lead)

    def _wanted_lead(self) -> int:
        """Enough epochs for what one tile may load and store."""
        tiles, placement = self.stream.tiles, self.timing.placement
        transfer = sum(self._transfers(Kind(tiles.columns, tiles.rows, tiles.columns)).values())
        epoch = max(busy_cycles(placement, self.cycles, unit) for unit in (ARRAY_2D, ARRAY_1D))
        return min(LONGEST_LEAD, 1 + ceil(transfer / epoch))

    def _bubbles(self, chosen: TilePipeline) -> tuple[int, int]:
        """Empty epochs that slots need: after each group of resident queries, after each row of keys."""
        if chosen.in_flight is not None:
            return 0, 0
        return bubbles(flow_of(self.stream), self.slots, chosen.stage(STORE), chosen.last_read)

    @cached_property
    def empty_epochs(self) -> tuple[int, int]:
        """That slots need: after each group of resident queries, after each row of keys."""
        return self._bubbles(self.pipeline)

    def missing_epochs(self, row: KeyRow) -> int:
        """Empty epochs after a row: for its slot of keys, and for running values that the next row takes up."""
        _, after_row = self.empty_epochs
        spacing = self.pipeline.spacing if self.pipeline.in_flight is None else 0
        return max(after_row, spacing - row.spacing if row.spacing is not None else 0)

    def _transfers(self, kind: Kind) -> dict[str, int]:
        """Cycles of the DRAM channel for each task."""
        shape = self.stream.tiles.shape
        words = {
            STORE: kind.finished_queries * stored_words(self.timing.placement, self.timing.depths),
            LOAD_QUERIES: kind.fetched_queries * shape.query_depth,
            LOAD_KEYS: kind.fetched_keys * (shape.query_depth + shape.value_depth),
        }
        spec = self.timing.spec
        return {name: ceil(count * spec.word_bytes / spec.dram_bytes_per_cycle) for name, count in words.items()}

    def class_cycles(self, kind: Kind) -> Mapping[str, int]:
        outer = self.timing.placement.key_outer
        einsums = {
            placed.name: self.cycles[placed.name] if outer in placed.ranks or kind.finished_queries else 0
            for placed in self.timing.placement.einsums
        }
        return {**einsums, **self._transfers(kind), PORTS: self.rows.port_cycles(kind)}

    def program(self) -> Program:
        chosen, classes = self.pipeline, _Classes(self)
        stream = (Repeat(self.stream.instances, tuple(self._groups(classes))),)
        queues = (Queue(QUERIES, self.slots.queries), Queue(KEYS, self.slots.keys))
        table = classes.table(tuple(task.name for task in chosen.tasks))
        return Program(chosen.tasks, table, stream, queues, chosen.in_flight, keeps=classes.keeps)

    def _groups(self, classes: _Classes) -> Iterator[Repeat]:
        for group in self.stream.groups:
            rows = (self._row(row, classes) for row in group.rows)
            yield Repeat(group.times, (*rows, *classes.bubbles(self.empty_epochs[0])))

    def _row(self, row: KeyRow, classes: _Classes) -> Repeat:
        runs = (
            TileRun(classes.index(run.kind), run.tiles, run.first_column, fresh=run.kind.fetched_queries > 0)
            for run in row.runs
        )
        return Repeat(row.times, (*runs, *classes.bubbles(self.missing_epochs(row))))


@dataclass
class _Classes:
    """Kinds of tiles numbered as they appear; class 0 is an empty epoch."""

    simulation: Simulation
    numbers: dict[Kind, int] = field(default_factory=dict)

    def index(self, kind: Kind) -> int:
        return self.numbers.setdefault(kind, len(self.numbers) + 1)

    def bubbles(self, epochs: int) -> tuple[TileRun, ...]:
        return (TileRun(0, epochs),) if epochs > 0 else ()

    def table(self, names: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
        known = [self.simulation.class_cycles(kind) for kind in self.numbers]
        return ((0,) * len(names), *(tuple(cycles[name] for name in names) for cycles in known))

    @property
    def keeps(self) -> tuple[tuple[str, ...], ...]:
        return ((), *(() if kind.releases_keys else (KEYS,) for kind in self.numbers))
