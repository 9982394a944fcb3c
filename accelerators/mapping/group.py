"""What a group of fused Einsums does on an array, with every size known: cycles, words moved, room taken.

All figures are of one instance and exact for partial tiles: axes are independent, so that a sum over all tiles is a
product over axes. Knows no text, no search and no time. mapping.md 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import ceil, prod

from cascadesim.accelerators.mapping.attended import PAIRED, AttendedKeys, Pairs
from cascadesim.accelerators.mapping.problem import MappingProblem, TensorUse, Tile
from cascadesim.accelerators.mapping.runs import GLOBAL_BUFFER, UNITS, BoundLoop, BoundRun, Resident, filled_words
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY

Tiles = tuple[tuple[int, int], ...]  # sizes and how many there are of each


@dataclass(frozen=True)
class BoundGroup:
    """A group with sizes. `reads`, `writes`: tensors that come from outside and that leave."""

    problem: MappingProblem
    spec: SpatialArray
    loops: tuple[BoundLoop, ...]
    runs: tuple[BoundRun, ...]
    reads: tuple[Resident, ...]
    made: tuple[Resident, ...]
    writes: tuple[TensorUse, ...]
    in_flight: int
    stages: Mapping[int, int] | None = None  # of a software pipeline: place of an Einsum -> epochs after its loads

    @property
    def overlap(self) -> int | None:
        """Tiles that are open at most; None for a software pipeline."""
        return self.in_flight if self.stages is None else None

    def __repr__(self) -> str:
        loops = ", ".join(f"{loop.part} by {loop.step}" for loop in self.loops)
        return f"BoundGroup({', '.join(run.work.name for run in self.runs)}; {loops}; {self.problem!r})"

    def tile(self, depth: int) -> dict[str, int]:
        """The tile inside so many loops, at its largest."""
        return self.largest_tiles[depth]

    @cached_property
    def largest_tiles(self) -> tuple[dict[str, int], ...]:
        """The tiles inside 0, 1, ... all loops."""
        found = [self.problem.whole()]
        for loop in self.loops:
            found.append({**found[-1], loop.axis: min(loop.step, found[-1][loop.axis])})
        return tuple(found)

    @cached_property
    def leaf(self) -> dict[str, int]:
        return self.largest_tiles[-1]

    def tiles(self, axis: str, depth: int) -> Tiles:
        """Sizes of tiles along an axis inside so many loops, and how many there are."""
        extent, step = self.problem.extents[axis], self.tile(depth)[axis]
        whole, rest = divmod(extent, step)
        return ((step, whole), (rest, 1)) if rest else ((step, whole),)

    @cached_property
    def attended(self) -> AttendedKeys | None:
        """Which tiles of queries and keys are visited; None where all are: no Einsum works by keys alone then."""
        found = self.problem.attended
        if found is None or not any(run.work.axes >= PAIRED for run in self.runs):
            return None
        by_keys = any(KEY in run.work.axes and QUERY not in run.work.axes for run in self.runs)
        over_queries = any(QUERY in run.work.iterates or QUERY in run.work.reduced for run in self.runs)
        return None if by_keys or over_queries else found

    def pairs(self, depth: int) -> Pairs:
        """Sizes of the tiles of queries and keys that are visited inside so many loops, and how many there are."""
        assert self.attended is not None
        tile = self.tile(depth)
        return self.attended.visited(tile[QUERY], tile[KEY])

    def moving(self, resident: Resident) -> frozenset[str]:
        """Axes along which another tile of a tensor is needed; which of all keys are attended differs by query."""
        tile = self.tile(resident.depth)
        whole = self.attended is not None and KEY in resident.axes and tile[KEY] == self.problem.extents[KEY]
        return resident.axes | {QUERY} if whole else resident.axes

    def filled(self, resident: Resident) -> int:
        """Words that come into the memory of the tensor, all its tiles together.

        A tile comes again where a loop outside moves on, unless nothing inside that loop moved it meanwhile. Where
        tiles are left out, those of a loop that is begun again all come again.
        """
        if self.attended is None:
            return filled_words(self.loops, resident, self.problem.extents)[0]
        depth, moving = resident.depth, self.moving(resident)
        while depth and (self.loops[depth - 1].axis not in moving or self.is_one(self.loops[depth - 1])):
            depth -= 1
        axes = resident.axes | {loop.axis for loop in self.loops[:depth]}
        whole = self.problem.whole()
        return sum(count * resident.words(whole | tile) for tile, count in self.different_tiles(axes, depth))

    def is_rare(self, run: BoundRun) -> bool:
        """Whether an Einsum comes after a loop, and so in few tiles."""
        return run.after is not None and not self.is_one(self.loops[run.after])

    def is_one(self, loop: BoundLoop) -> bool:
        return loop.step >= self.problem.extents[loop.axis]

    def different_tiles(self, axes: frozenset[str], depth: int) -> Iterator[tuple[dict[str, int], int]]:
        """The different tiles inside so many loops along some axes, and how many there are."""
        paired = self.attended is not None and KEY in axes
        alone = sorted(axes - PAIRED if paired else axes)
        pairs = self.pairs(depth) if paired else (((0, 0), 1),)
        for (queries, keys), times in pairs:
            own = {QUERY: queries, KEY: keys} if paired else {}
            for sizes in product(*(self.tiles(axis, depth) for axis in alone)):
                tile = {axis: size for axis, (size, _) in zip(alone, sizes, strict=True)}
                yield own | tile, times * prod(count for _, count in sizes)

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
            sum(count * run.waves(axis, size) for size, count in self.tiles(axis, depth)) for axis in axes
        )

    def points(self, run: BoundRun) -> int:
        """Points of an Einsum, those of pairs that are attended."""
        work, axes, pairs = run.work, run.work.axes, 1
        if self.attended is not None and axes >= PAIRED:
            axes -= PAIRED
            pairs = self.attended.pairs(min(walk.grain for walk in work.walks[KEY]))
        return pairs * prod(work.points(axis, self.problem.extents[axis]) for axis in axes)

    @cached_property
    def busy_cycles(self) -> Mapping[str, int]:
        """Unit -> cycles that its Einsums take, waits apart."""
        return {unit: sum(self.cycles(run) for run in self.runs if run.unit == unit) for unit in UNITS}

    @cached_property
    def read_words(self) -> int:
        """Words that come from DRAM: tiles of inputs, and what running values begin with."""
        made = {run.work.output.tensor for run in self.runs if run.work.iterates}
        begun = sum(operand.words(self.problem.whole()) for state, operand in self.problem.starts if state in made)
        return sum(map(self.filled, self.reads)) + begun

    @cached_property
    def stored_from_buffer(self) -> int:
        """Words of results that were added up in the buffer and leave from there."""
        return sum(self.stored(operand) for operand in self.writes if self.is_buffered(operand))

    @cached_property
    def written_words(self) -> int:
        return sum(map(self.stored, self.writes))

    def stored(self, operand: TensorUse) -> int:
        """Words of a result that leave; of scores those of the tiles that are visited."""
        whole = self.problem.whole()
        if self.attended is None or not operand.axes >= PAIRED:
            return operand.words(whole)
        made = next(each for each in self.made if each.tensor == operand.tensor)
        depth = len(self.loops) if made.state & operand.axes else made.depth  # a sum leaves when its loop has ended
        tiles = self.different_tiles(operand.axes, depth)
        return sum(count * operand.words(whole | tile) for tile, count in tiles)

    def port_words(self, run: BoundRun, tile: Tile) -> tuple[int, int]:
        """Words that an Einsum reads from the buffer and writes to it for one tile.

        An operand is read again along loops in time that lack it, unless those are innermost (it stays in registers);
        elements that need the same word at once share one read. Sums stay in registers until they are complete.
        """
        buffered = self.buffered
        read = sum(run.operand_reads(operand, tile, buffered[operand.tensor].state)
                   for operand in run.work.inputs if operand.tensor in buffered)
        if (own := buffered.get(run.work.output.tensor)) is None:
            return read, 0
        written = run.work.output.words({**tile, **dict.fromkeys(own.state, 1)})
        again = written if own.depth < len(self.loops) and not run.work.iterates else 0  # a sum that is not complete
        return read + again, written

    @cached_property
    def buffered(self) -> Mapping[str, Resident]:
        """Tensors that the group has in the buffer."""
        return {each.tensor: each for each in (*self.reads, *self.made) if each.where == GLOBAL_BUFFER}

    def all_port_words(self) -> tuple[int, int]:
        """Words that Einsums read from the buffer and write to it, all tiles together, loads and stores apart."""
        read = written = 0
        for run in self.runs:
            for tile, count in self.every_tile(run):
                own_read, own_written = self.port_words(run, tile)
                read, written = read + count * own_read, written + count * own_written
        return read, written

    @cached_property
    def moved_words(self) -> int:
        """Words that go through the ports of the buffer, all tiles together."""
        return sum(self.all_port_words()) + self.read_words + self.stored_from_buffer

    def like(self, other: BoundGroup) -> BoundGroup:
        """Take what is known of a group that only differs in the tiles that are open at once."""
        if [made.where for made in self.made] == [made.where for made in other.made]:
            kept = ("attended", "busy_cycles", "read_words", "written_words", "stored_from_buffer", "moved_words",
                    "latencies")  # fmt: skip
            self.__dict__.update({name: other.__dict__[name] for name in kept if name in other.__dict__})
        return self

    def every_tile(self, run: BoundRun) -> Iterator[tuple[dict[str, int], int]]:
        """The different tiles that an Einsum runs on, with their number."""
        for tile, count in self.different_tiles(run.work.axes, len(self.loops)):
            yield self.leaf | tile, count

    def is_buffered(self, operand: TensorUse) -> bool:
        """Whether a result leaves from the buffer, where it was added up."""
        return any(made.tensor == operand.tensor and made.where == GLOBAL_BUFFER for made in self.made)

    @cached_property
    def footprint_words(self) -> int:
        """Room that the group takes in the buffer."""
        kept = (each for each in (*self.reads, *self.made) if each.where == GLOBAL_BUFFER)
        return sum(resident.copies * resident.words(self.tile(resident.depth)) for resident in kept)

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
                start[run.place], finish[run.place] = own, max(own + run.cycles(tile), end)
        return finish

    def feeding(self, run: BoundRun) -> Iterator[tuple[BoundRun, bool]]:
        """Einsums of the group whose results it reads, and whether those of an earlier step."""
        members = {each.place: each for each in self.runs}
        return ((members[place], previous) for place, previous in self.problem.feeds[run.place] if place in members)

    def latency(self, tile: Tile) -> int:
        """Cycles of one tile by itself: the longest path through its loads, its Einsums and what leaves the array."""
        word = self.spec.word_bytes / self.spec.dram_bytes_per_cycle
        loads = [read.words(tile) * word for read in self.reads if read.depth == len(self.loops)]
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
