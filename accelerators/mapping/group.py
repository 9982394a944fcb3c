"""What a group of fused Einsums takes on an array: cycles of its units, of tiles that are open, of running values.

Bounds that no schedule undercuts; `program` is a schedule. mapping.md 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import ceil, prod

from cascadesim.accelerators.mapping.attended import PAIRED
from cascadesim.accelerators.mapping.memories import LayeredGroup
from cascadesim.accelerators.mapping.problem import TensorUse, Tile
from cascadesim.accelerators.mapping.runs import ACCUMULATORS, DRAM, GLOBAL_BUFFER, UNITS, BoundRun, Resident
from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY


@dataclass(frozen=True, repr=False)
class BoundGroup(LayeredGroup):
    """A group with sizes, and how long it takes."""

    def cycles(self, run: BoundRun) -> int:
        """Cycles of an Einsum, all tiles together."""
        return self.once(run, "cycles", lambda: run.all_cycles(self.sizes_of(run.work.axes, len(self.loops), run.own)))

    def once(self, run: BoundRun, what: object, counted: Callable[[], int]) -> int:
        """What is counted for an Einsum in tiles of these sizes, whatever the order of the loops: once."""
        sizes = tuple(self.leaf[axis] for axis in run.work.walks)
        on = run.unit, run.space, run.time, run.own, run.op_cycles, run.fold
        key = run.place, on, sizes, self.attended is None, what
        known = self.problem.known
        if key not in known:
            known[key] = counted()
        return int(known[key])

    @cached_property
    def busy_cycles(self) -> Mapping[str, int]:
        """Unit -> cycles that its Einsums take, waits apart."""
        return {unit: sum(self.cycles(run) for run in self.runs if run.unit == unit) for unit in UNITS}

    def like(self, other: BoundGroup) -> BoundGroup:
        """Take what is known of a group that only differs in the tiles that are open at once."""
        if [made.where for made in self.made] == [made.where for made in other.made]:
            kept = ("attended", "busy_cycles", "memory_words", "moved_words", "accumulated_words", "latencies")
            self.__dict__.update({name: other.__dict__[name] for name in kept if name in other.__dict__})
        return self

    @cached_property
    def dram_cycles(self) -> float:
        return self.moving_cycles(DRAM)

    @cached_property
    def port_cycles(self) -> float:
        """Cycles of the ports of the buffer, or of the accumulators where these take longer."""
        return max(map(self.moving_cycles, self.beside))

    @cached_property
    def memory_cycles(self) -> float:
        """Cycles of the busiest memory between DRAM and the buffer, 0 where there is none."""
        return max((self.moving_cycles(each.name) for each in self.spec.memories), default=0.0)

    def moving_cycles(self, memory: str) -> float:
        """Cycles of DRAM, of a memory behind the buffer, or of the ports of one beside the arrays."""
        words = sum(self.memory_words[memory]) if memory not in self.beside else (
            self.moved_words if memory == GLOBAL_BUFFER else self.accumulated_words)  # fmt: skip
        return words * self.spec.word_bytes / self.bytes_per_cycle(memory)

    def path(
        self, ready: Mapping[int, int], origin: int | None = None, tile: Tile | None = None, rare: bool = False
    ) -> dict[int, int]:  # fmt: skip
        """Earliest ends of the Einsums of a tile, by place, of which some are `ready` later than at 0.

        From `origin`: of those that need it. `rare`: with those that come after a loop.
        """
        tile = tile or self.leaf
        start: dict[int, int] = {}
        finish: dict[int, int] = {}
        for run in self.runs:
            if (self.is_rare(run) and not rare) or (origin is not None and run.place < origin):
                continue
            own, end = (ready.get(run.place, 0), 0) if origin is None or run.place == origin else (-1, 0)
            for producer, previous in self.feeding(run):
                if previous or producer.place not in finish:
                    continue
                lag = producer.drain_cycles if producer.unit != run.unit else 0
                streams = producer.streams_into(run) or producer.nest == run.nest > 0
                own = max(own, (start if streams else finish)[producer.place] + lag)
                end = max(end, finish[producer.place] + lag)
            before = [other for other in self.runs if other.nest == run.nest > 0 and other.unit == run.unit
                      and other.place in finish and other.place in self.problem.needs[run.place]]  # fmt: skip
            if before:  # slices of one unit take turns
                end = max(end, min(start[other.place] for other in before)
                          + sum(other.tile_cycles(tile) for other in (*before, run)))  # fmt: skip
            if own >= 0:
                start[run.place], finish[run.place] = own, max(own + run.tile_cycles(tile), end)
        return finish

    def latency(self, tile: Tile) -> int:
        """Cycles of one tile by itself: the longest path through its loads, its Einsums and what leaves the array.

        Loads of a tile that is worked on in slices may come while an earlier part of it runs; where tiles overlap and
        one of an input is used for several of them, loads may come before a tile is open.
        """
        early = self.in_slices or (
            self.in_flight > 1 and any(self.settled(read) < len(self.loops) for read in self.reads))
        loads = {read.tensor: ceil(read.words(tile) * self.cycles_per_word(self.source(read))) for read in self.reads
                 if read.depth == len(self.loops) and not early and self.is_moved(read)}  # fmt: skip
        ready = {run.place: max((loads.get(use.tensor, 0) for use in run.work.inputs), default=0) for run in self.runs}
        return max(self.path(ready, tile=tile).values())

    @cached_property
    def open_cycles(self) -> float:
        """Cycles by the tiles that are open at most: one is opened when the one so many before it is finished."""
        if self.stages is not None:
            return 0.0
        if self.attended is None:
            return float(self.whole_tiles // self.in_flight * self.latencies)
        return self.latencies / self.in_flight

    @cached_property
    def ended_cycles(self) -> float:
        """Cycles by what comes after the innermost loop: no tile is opened before one that ends that loop, and is so
        many before it, is finished. In rounds of fewer tiles than are open, one of several such tiles counts."""
        rare, closed = [run for run in self.runs if self.is_rare(run)], self.loops[-1] if self.loops else None
        if closed is None or not rare or self.stages is not None or self.attended is not None or self.in_slices:
            return 0.0
        if [number for number, loop in enumerate(self.loops) if loop.axis == closed.axis] != [len(self.loops) - 1]:
            return 0.0
        if any(run.after != len(self.loops) - 1 for run in rare):
            return 0.0
        extent, open_tiles = self.problem.extents[closed.axis], self.in_flight
        rounds, last = -(-extent // closed.step), {**self.leaf, closed.axis: extent % closed.step or closed.step}
        blocks = prod(self.problem.extents[axis] // size for axis, size in self.leaf.items() if axis != closed.axis)
        together = -(-open_tiles // rounds)
        often, longest = max(self.path({}).values()), max(self.path({}, tile=last, rare=True).values())
        return float(blocks // together * ((together * rounds // open_tiles - 1) * often + longest))

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
                reached = self.path({}, run.place).get(producer.place) if previous else None
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
    def all_tiles(self) -> int:
        """Tiles that are visited, partial ones too."""
        number = prod(-(-self.problem.extents[axis] // size) for axis, size in self.leaf.items()
                      if self.attended is None or axis not in PAIRED)  # fmt: skip
        return number if self.attended is None else number * sum(count for _, count in self.pairs(len(self.loops)))

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
        running values; slices one after another.
        """
        waiting = max(self.open_cycles, self.ended_cycles, float(self.waited_cycles), self.sliced_cycles,
                      float(self.serial_cycles))  # fmt: skip
        folds = sum(run.fold is not None for run in self.runs)  # the first of each is a cycle shorter: `all_cycles`
        return max(self.busiest_cycles, waiting - folds)

    @cached_property
    def serial_cycles(self) -> int:
        """Cycles of whole tiles one after another, each with the loads that come for it, with what comes after its loop
        and with the store that adds most. Of those as many as there are in any case; what comes in pieces takes none.
        """
        if self.in_flight > 1 or self.in_slices or self.attended is not None:
            return 0
        counts = [max(1, loop.outer // loop.step) for loop in self.loops]  # iterations of whole tiles
        starts = [*(self._loaded(inside, counts) for inside in range(len(counts) + 1)), ({}, 0)]
        paths = [self.path(ready) for ready, _ in starts]
        alone = [max(loaded, *path.values()) for path, (_, loaded) in zip(paths, starts, strict=True)]
        late = any(self.is_rare(run) for run in self.runs)
        whole = [self.path(ready, rare=True) for ready, _ in starts] if late else paths
        total = sum(alone[inside] * count for inside, count in self._begun_tiles().items())
        for after in {run.after for run in self.runs if run.after is not None and self.is_rare(run)}:
            closed = self.loops[after].axis
            ends = prod(self.problem.extents[axis] // size for axis, size in self.leaf.items() if axis != closed)
            total += ends * min(max(0, *(end - cycles for end in each.values()))
                                for each, cycles in zip(whole, alone, strict=True))  # fmt: skip
        return total + max((self._stored_after(use, whole, counts) for use in self.writes), default=0)

    def _begun_tiles(self) -> Counter[int]:
        """Whole tiles that begin with each loop: how many. Those in stretches that are not whole, after all loops."""
        axes, apart = list(self.leaf), len(self.loops) + 1
        tiles = Counter({(0, tuple(self.problem.extents[axis] for axis in axes)): 1})
        for depth, loop in enumerate(self.loops):
            found, place = Counter[tuple[int, tuple[int, ...]]](), axes.index(loop.axis)
            for (inside, sizes), count in tiles.items():
                whole, rest = divmod(sizes[place], loop.step)
                begins = [(loop.step, inside, min(1, whole)), (loop.step, depth + 1, whole - 1), (
                    rest, apart if whole or rest < loop.outer else inside, 1)]  # fmt: skip
                for size, begun, times in begins:
                    if size and times > 0:
                        tile = *sizes[:place], size, *sizes[place + 1 :]
                        found[apart if inside == apart else begun, tile] += count * times
            tiles = found
        leaf, begun_with = tuple(self.leaf.values()), Counter[int]()
        for (inside, sizes), count in tiles.items():
            begun_with[inside] += count * (sizes == leaf)
        return begun_with

    def _loaded(self, inside: int, counts: Sequence[int]) -> tuple[dict[int, int], int]:
        """When each Einsum of a tile has what comes for it, and when all of it is there: of a tile with which all loops
        but so many begin again."""
        arrives: dict[str, int] = {}
        busy: Counter[str] = Counter()
        for read in self.reads:
            moved = inside == 0 or any(count > 1 and loop.axis in read.axes for loop, count in zip(
                self.loops[inside - 1 : read.depth], counts[inside - 1 : read.depth], strict=True))  # fmt: skip
            if moved and inside <= read.depth and not read.piece and not read.upstream:
                busy[self.source(read)] += ceil(self.kept_words(read) * self.cycles_per_word(self.source(read)))
                arrives[read.tensor] = busy[self.source(read)]
        ready = {run.place: max((arrives.get(use.tensor, 0) for use in run.work.inputs), default=0)
                 for run in self.runs}  # fmt: skip
        return ready, max(busy.values(), default=0)

    def _stored_after(self, use: TensorUse, whole: Sequence[Mapping[int, int]], counts: Sequence[int]) -> int:
        """Cycles in which a result leaves after everything else of its tiles: at once, or in pieces."""
        made = next(each for each in self.made if each.tensor == use.tensor)
        run = next(run for run in self.runs if run.work.output.tensor == use.tensor)
        pieces = prod(count for loop, count in zip(self.loops, counts, strict=True) if loop.axis in use.axes)
        ended = None if run.after is None else self.loops[run.after].axis  # it runs where that has ended, not each time
        tiles = prod(count for loop, count in zip(self.loops[: made.depth], counts, strict=False) if loop.axis != ended)
        found = []
        for times, tile in ((tiles, self.tile(made.depth)), (pieces, self.leaf)):
            leaves = run.drain_cycles + ceil(use.words(tile) * self.cycles_per_word(self.store_target(use)))
            found.append(times * max(0, min(each[run.place] + leaves - max(each.values()) for each in whole)))
        return min(found)

    @property
    def sliced_cycles(self) -> float:
        """Cycles of slices one after another, where tiles do not overlap: of each what comes, then the ports, then its
        last Einsum, then what of that leaves; what passes by streams into that."""
        if not self.in_slices or self.in_flight > 1:
            return 0.0
        passing = sum(self.filled(read) for read in self.reads if not read.where)
        last = {part[-1].work.output.tensor for part in self.parts}
        stored = sum(self.stored(use) for use in self.writes if use.tensor in last)
        moved = (self.read_words + stored - passing) / self.words_per_cycle(DRAM)
        return moved + self.moving_cycles(GLOBAL_BUFFER) + sum(self.cycles(part[-1]) for part in self.parts)

    @property
    def least_cycles(self) -> float:
        """Cycles of a bound that do not depend on what stays in registers: of as many tiles open at once, or fewer."""
        return max(*self.busy_cycles.values(), self.dram_cycles, self.open_cycles, float(self.waited_cycles), 1.0)

    @cached_property
    def busiest_cycles(self) -> float:
        """Cycles of the busiest of arrays, DRAM channel, memories and buffer ports."""
        return max(*self.busy_cycles.values(), self.dram_cycles, self.memory_cycles, self.port_cycles, 1.0)

    def port_words(self, run: BoundRun, tile: Tile, memory: str = GLOBAL_BUFFER) -> tuple[int, int]:
        """Words that an Einsum reads from the buffer, or accumulators, and writes there for one tile.

        An operand is read again along loops in time that lack it, unless those are innermost (it stays in registers);
        elements that need the same word at once share one read. Sums stay in registers until they are complete.
        """
        buffered = self.kept_beside(memory)
        made = buffered.get(run.work.output.tensor)
        read = sum(run.operand_reads(operand, tile, buffered[operand.tensor].state)
                   for operand in run.work.inputs if operand.tensor in buffered)
        written = run.operand_reads(run.work.output, tile, made.state) if made else 0
        return read + (written if self.adds_up_in_buffer(run) else 0), written

    def adds_up_in_buffer(self, run: BoundRun) -> bool:
        """Whether an Einsum reads what it writes to the buffer: a sum that is not complete after a tile."""
        made = self.buffered.get(run.work.output.tensor)
        carried = made is not None and (
            made.depth < len(self.loops) or run.sums_slices(self.leaf) or self.returned(made) > 0
            or (not run.has_registers and bool(run.work.reduced)))  # fmt: skip
        return carried and not run.work.iterates

    def kept_beside(self, memory: str) -> Mapping[str, Resident]:
        """Tensors that the group has in the buffer, or in accumulators."""
        if self.spec.accumulators is None:
            return self.buffered if memory == GLOBAL_BUFFER else {}
        return {tensor: each for tensor, each in self.buffered.items() if each.where == memory}

    def all_port_words(self, memory: str = GLOBAL_BUFFER) -> tuple[int, int]:
        """Words that Einsums read from a memory and write to it, all tiles together, loads and stores apart."""
        read, written, beside = 0, 0, self.kept_beside(memory)
        for run in self.runs:
            for number, operand in enumerate(run.work.inputs):
                if (kept := beside.get(operand.tensor)) is not None:
                    read += self.once(run, (number, kept.state), partial(self.words_of, run, operand, kept.state))
            if (made := beside.get(run.work.output.tensor)) is not None:
                own = self.once(run, made.state, partial(self.words_of, run, run.work.output, made.state))
                read, written = read + (own if self.adds_up_in_buffer(run) else 0), written + own
        return read, written

    @cached_property
    def moved_words(self) -> int:
        """Words that go through the ports of the buffer, all tiles together."""
        return sum(self.all_port_words()) + self.loaded_words + self.stored_from(GLOBAL_BUFFER)

    @cached_property
    def accumulated_words(self) -> int:
        """Words that go through the ports of the accumulators, all tiles together."""
        return sum(self.all_port_words(ACCUMULATORS)) + self.stored_from(ACCUMULATORS)
