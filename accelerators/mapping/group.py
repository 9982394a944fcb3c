"""What a group of fused Einsums takes on an array: cycles of its units, of tiles that are open, of running values.

Bounds that no schedule undercuts; `program` is a schedule. mapping.md 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod

from cascadesim.accelerators.mapping.attended import PAIRED
from cascadesim.accelerators.mapping.problem import Tile
from cascadesim.accelerators.mapping.runs import UNITS, BoundRun
from cascadesim.accelerators.mapping.tiling import TiledGroup
from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY


@dataclass(frozen=True, repr=False)
class BoundGroup(TiledGroup):
    """A group with sizes, and how long it takes."""

    def cycles(self, run: BoundRun) -> int:
        """Cycles of an Einsum, all tiles together; of folds those after the first, as SCALE-Sim counts."""
        depth, axes, pairs = len(self.loops), run.work.axes, 1
        if self.attended is not None and axes >= PAIRED:
            axes -= PAIRED
            pairs = sum(count * run.waves(QUERY, queries) * run.waves(KEY, keys)
                        for (queries, keys), count in self.pairs(depth))  # fmt: skip
        if run.fold is not None:
            return sum(count * run.cycles(tile) for tile, count in self.every_tile(run)) - 1
        return run.op_cycles * pairs * prod(
            sum(count * run.waves(axis, size) for size, count in self.tiles(axis, depth, run.own)) for axis in axes
        )

    @cached_property
    def busy_cycles(self) -> Mapping[str, int]:
        """Unit -> cycles that its Einsums take, waits apart."""
        return {unit: sum(self.cycles(run) for run in self.runs if run.unit == unit) for unit in UNITS}

    def like(self, other: BoundGroup) -> BoundGroup:
        """Take what is known of a group that only differs in the tiles that are open at once."""
        if [made.where for made in self.made] == [made.where for made in other.made]:
            kept = ("attended", "busy_cycles", "read_words", "written_words", "stored_from_buffer", "moved_words",
                    "latencies")  # fmt: skip
            self.__dict__.update({name: other.__dict__[name] for name in kept if name in other.__dict__})
        return self

    @cached_property
    def dram_cycles(self) -> float:
        return (self.read_words + self.written_words) * self.spec.word_bytes / self.spec.dram_bytes_per_cycle

    @cached_property
    def port_cycles(self) -> float:
        return self.moved_words * self.spec.word_bytes / self.spec.global_buffer.bytes_per_cycle

    def path(self, begin: int, origin: int | None = None, tile: Tile | None = None) -> dict[int, int]:
        """Earliest ends of the Einsums of a tile that begins then, by place; from `origin`: of those that need it."""
        tile = tile or self.leaf
        start: dict[int, int] = {}
        finish: dict[int, int] = {}
        for run in self.runs:
            if self.is_rare(run) or (origin is not None and run.place < origin):
                continue
            own, end = (begin, 0) if origin is None or run.place == origin else (-1, 0)
            for producer, previous in self.feeding(run):
                if previous or producer.place not in finish:
                    continue
                lag = producer.drain_cycles if producer.unit != run.unit else 0
                own = max(own, (start if producer.streams_into(run) else finish)[producer.place] + lag)
                end = max(end, finish[producer.place] + lag)
            if own >= 0:
                start[run.place], finish[run.place] = own, max(own + run.tile_cycles(tile), end)
        return finish

    def latency(self, tile: Tile) -> int:
        """Cycles of one tile by itself: the longest path through its loads, its Einsums and what leaves the array.

        Loads of a tile that is worked on in slices may come while an earlier part of it runs.
        """
        word = self.spec.word_bytes / self.spec.dram_bytes_per_cycle
        loads = [read.words(tile) * word for read in self.reads if read.depth == len(self.loops) and not self.in_slices]
        return max(self.path(ceil(max(loads, default=0.0)), tile=tile).values())

    @cached_property
    def open_cycles(self) -> float:
        """Cycles by the tiles that are open at most: one is opened when the one so many before it is finished."""
        if self.stages is not None:
            return 0.0
        if self.attended is None:
            return float(self.whole_tiles // self.in_flight * self.latencies)
        return self.latencies / self.in_flight

    @cached_property
    def latencies(self) -> float:
        """Cycles of a whole tile by itself; under a mask of all tiles that are visited, one after another."""
        if self.attended is None:
            return float(self.latency(self.leaf))
        alone = prod(self.problem.extents[axis] // size for axis, size in self.leaf.items() if axis not in PAIRED)
        cycles = sum(count * self.latency({**self.leaf, QUERY: queries, KEY: keys})
                     for (queries, keys), count in self.pairs(len(self.loops)))  # fmt: skip
        return float(alone * cycles)

    @cached_property
    def recurrence_cycles(self) -> int:
        """Cycles from a running value to its next one: RecMII of one tile (Rau, 1994)."""
        longest = 0
        for run in self.runs:
            for producer, previous in self.feeding(run):
                reached = self.path(0, run.place).get(producer.place) if previous else None
                if reached is not None:
                    lag = producer.drain_cycles if producer.unit != run.unit else 0
                    longest = max(longest, reached + lag)
        return longest

    @cached_property
    def whole_tiles(self) -> int:
        """Tiles that nothing is missing of."""
        number = prod(self.problem.extents[axis] // size for axis, size in self.leaf.items()
                      if self.attended is None or axis not in PAIRED)  # fmt: skip
        if self.attended is None:
            return number
        return number * dict(self.pairs(len(self.loops))).get((self.leaf[QUERY], self.leaf[KEY]), 0)

    @cached_property
    def waited_cycles(self) -> int:
        """Cycles that the steps of running values take one after another, where tiles are whole.

        Steps of one column follow each other; the next column begins when so many tiles are open as may be.
        """
        axes = frozenset().union(*(run.work.iterates for run in self.runs))
        place = next((number for number, loop in enumerate(self.loops) if loop.axis in axes), None)
        if place is None or not self.recurrence_cycles:
            return 0
        extents, outer, leaf, step = self.problem.extents, self.tile(place), self.leaf, self.loops[place].axis
        outside = prod(extents[axis] // outer[axis] for axis in extents if axis != step)
        inside = prod(outer[axis] // leaf[axis] for axis in extents if axis != step)
        if not outside * inside:
            return 0
        if self.attended is None:
            steps, together = extents[step] // leaf[step], inside
        else:  # which columns take turns differs by key
            steps, together = self.whole_tiles // (outside * inside), 1
        return outside * max(0, steps - -(-self.in_flight // together)) * self.recurrence_cycles

    @cached_property
    def bound_cycles(self) -> float:
        """Cycles that no schedule of one instance undercuts.

        The busiest of arrays, DRAM channel and buffer ports; latencies of tiles that are not open at once; steps of
        running values.
        """
        return max(self.busiest_cycles, self.open_cycles, float(self.waited_cycles))

    @property
    def least_cycles(self) -> float:
        """Cycles of a bound that do not depend on what stays in registers: of as many tiles open at once, or fewer."""
        return max(*self.busy_cycles.values(), self.dram_cycles, self.open_cycles, float(self.waited_cycles), 1.0)

    @cached_property
    def busiest_cycles(self) -> float:
        """Cycles of the busiest of arrays, DRAM channel and buffer ports."""
        return max(*self.busy_cycles.values(), self.dram_cycles, self.port_cycles, 1.0)
