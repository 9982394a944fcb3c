"""A group of fused Einsums as a program for the cycle-level engine: one task an Einsum, a load, a store, per tile.

A tile is one iteration of all shared loops. Loads come where a kept tile changes, stores where an output is complete,
and a tile's place in the buffer is free after its last reader. Tiles of one kind make a class; the order of tiles is
that of the loops, written in rounds. Knows no machine but its sizes. mapping.md 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.memories import PIECES_AHEAD, Hop
from cascadesim.accelerators.mapping.placing import last_use, pieces_in_turn
from cascadesim.accelerators.mapping.problem import TensorUse, Tile
from cascadesim.accelerators.mapping.runs import (
    ACCUMULATORS,
    DRAM,
    GLOBAL_BUFFER,
    BoundRun,
    Resident,
    divides,
)
from cascadesim.accelerators.mapping.schedule.pipeline import (
    in_turn,
    issue_order,
    loads_ahead,
    spacing,
    stores_at,
    turns_of,
)
from cascadesim.accelerators.mapping.schedule.rounds import Items, Place, Rounds, repeated
from cascadesim.accelerators.program import After, Program, Queue, Task, TileRun
from cascadesim.einsum_cascades.analysis.bound_counts import KEY

AFTER = "{} after a loop"
MOST_WATCHED = 64  # assumed: pieces after which one has left long ago: no unit is so far ahead of another
ROWS = {GLOBAL_BUFFER: "buffer rows", ACCUMULATORS: "accumulator rows"}  # memory -> its ports at work


def program(group: BoundGroup) -> Program:
    """All instances of the group, tile by tile."""
    builder = Builder(group)
    body = builder.rounds((), dict(group.problem.extents))
    stream = repeated(body, group.problem.instances)
    queues = tuple(Queue(read.tensor, group.places(read)) for read in group.reads) + tuple(
        Queue(queue_of(hop), PIECES_AHEAD if group.in_flight > 1 else 1) for hop in builder.fetches)
    return Program(builder.tasks, tuple(builder.classes), stream, queues, in_flight=group.overlap,
                   ahead=loads_ahead(group), drain_cycles=group.runs[-1].drain_cycles,
                   keeps=tuple(builder.kept))  # fmt: skip


@dataclass(frozen=True)
class Builder(Rounds):
    """Classes are found while the rounds are written down. `kept`: per class, queues that stay taken."""

    classes: list[tuple[int, ...]] = field(default_factory=list)
    kept: list[tuple[str, ...]] = field(default_factory=list)

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        group, stages = self.group, self.group.stages or {}
        stores = [self.store(use, stores_at(group, self.producer(use))) for use in group.writes]
        loads = [self.load(hop) for hop in self.loads]
        loads += [Task(f"begin {state}", DRAM) for state, _ in self.group.begins]  # before their first step
        stage = min(1, len(stages))
        ports = (*self.ports(loads, stage), *self.ports_after(stage))
        return (*stores, *map(self.fetch, self.fetches), *loads, *ports, *map(self.task, self.issued))

    @cached_property
    def issued(self) -> tuple[BoundRun, ...]:
        """Einsums in the order in which their units take them."""
        return issue_order(self.group)

    @cached_property
    def rows(self) -> Mapping[str, str]:
        """Memories beside the arrays, with the names of the tasks of their ports."""
        return {memory: ROWS[memory] for memory in self.group.beside}

    def ports(self, loads: Sequence[Task], stage: int = 0) -> Iterator[Task]:
        after = tuple(After(load.name) for load in loads)
        return (Task(name, memory, after, stage) for memory, name in self.rows.items())

    def ports_after(self, stage: int) -> Iterator[Task]:
        """The ports for what comes after a loop, behind those for its tile."""
        for memory, name in self.rows.items() if self.rare else ():
            yield Task(AFTER.format(name), memory, (After(name),), stage)

    @property
    def rare(self) -> list[BoundRun]:
        """Einsums that come after a loop."""
        return [run for run in self.group.runs if run.after is not None]

    @cached_property
    def often(self) -> list[BoundRun]:
        return [run for run in self.group.runs if run.after is None]

    def row_cycles(
        self, running: Sequence[BoundRun], sizes: Tile, loaded: int, stored: Sequence[int]
    ) -> Iterator[int]:  # fmt: skip
        """Cycles of the ports of each memory beside the arrays: what comes, is read, is written, and leaves."""
        group = self.group
        for memory in self.rows:
            moved = sum(sum(group.port_words(run, sizes, memory)) for run in running)
            moved += sum(words for words, use in zip(stored, group.writes, strict=True) if group.made_in(use) == memory)
            moved += loaded * (memory == GLOBAL_BUFFER)
            yield ceil(moved * group.spec.word_bytes / group.bytes_per_cycle(memory))

    @cached_property
    def loads(self) -> tuple[Hop, ...]:
        """The last hop of each input, into the buffer."""
        return tuple(self.group.hops[read.tensor][-1] for read in self.group.reads)

    @cached_property
    def fetches(self) -> tuple[Hop, ...]:
        """The hops before, into memories that keep a tile further out: outermost first."""
        return tuple(hop for read in self.group.reads for hop in self.group.hops[read.tensor][:-1])

    def store(self, use: TensorUse, stage: int) -> Task:
        leaves = After(use.name, self.producer(use).drain_cycles)
        return Task(f"store {use.name}", self.group.store_target(use), (leaves,), stage)

    def fetch(self, hop: Hop) -> Task:
        """A piece comes to a memory when it has room for one more that has not gone on yet."""
        return Task(f"fetch {queue_of(hop)}", hop.source, tuple(self.fetched(hop)), takes=(queue_of(hop),),
                    gives_back=tuple(queue_of(other) for other in self.before(hop)), early=True)  # fmt: skip

    def load(self, hop: Hop) -> Task:
        takes = (hop.kept.tensor,) if hop.target else ()
        return Task(f"load {hop.kept.tensor}", hop.source, tuple(self.fetched(hop)), takes=takes,
                    gives_back=tuple(queue_of(other) for other in self.before(hop)), early=True)  # fmt: skip

    def before(self, hop: Hop) -> tuple[Hop, ...]:
        """The hop to where another one starts; nothing where that is the first."""
        return tuple(other for other in self.fetches
                     if (other.kept.tensor, other.target) == (hop.kept.tensor, hop.source))  # fmt: skip

    def fetched(self, hop: Hop) -> Iterator[After]:
        return (After(f"fetch {queue_of(other)}", latest=True) for other in self.before(hop))  # later pieces wait, too

    def begun(self, places: tuple[Place, ...]) -> list[int]:
        """Words of them that come for this tile: its own part, where no loop besides has moved on."""
        tile = self.tile(places, len(places))
        return [operand.words(tile) if all(place.first for loop, place in zip(self.group.loops, places, strict=True)
                                           if loop.axis not in operand.axes) else 0
                for _, operand in self.group.begins]  # fmt: skip

    def producer(self, operand: TensorUse) -> BoundRun:
        return next(run for run in self.group.runs if run.work.output.tensor == operand.tensor)

    def task(self, run: BoundRun) -> Task:
        """An Einsum waits for its loads, and for what it reads of this tile or of an earlier one of its column."""
        after = [After(f"load {operand.tensor}", latest=True) for operand in run.work.inputs
                 if operand.tensor in {read.tensor for read in self.group.reads}]  # fmt: skip
        tensors = {run.work.output.tensor, *(operand.tensor for operand in run.work.inputs)}
        after += [After(f"begin {state}", latest=True) for state, _ in self.group.begins if state in tensors]
        after += self.made(run)
        if run.work.reduced & {loop.axis for loop in self.group.loops}:
            after.append(After(run.work.name, tiles_back=1))  # a sum over tiles is added up in their order
        after += self.left(run)
        if run is self.often[-1]:
            after += (After(name, streaming=True) for name in self.rows.values())
        if self.rare and run is self.rare[-1]:
            after += (After(AFTER.format(name), streaming=True) for name in self.rows.values())
        gives = tuple(read.tensor for read in self.group.reads if self.last_reader(read) is run)
        return Task(run.work.name, run.unit, tuple(dict.fromkeys(after)), self.stage(run),
                    group=turns_of(self.group, run), gives_back=gives)  # fmt: skip

    def left(self, run: BoundRun) -> Iterator[After]:
        """What a software pipeline waits for before it makes a piece of a result: the one whose place it takes."""
        group, made = self.group, next(each for each in self.group.made if each.tensor == run.work.output.tensor)
        pieces = pieces_in_turn(group.loops[made.depth :], run.work)
        moves = made.depth < len(group.loops) and any(loop.most > 1 for loop in group.loops[: made.depth])
        if group.stages is not None and made.copies == 1 and moves and pieces <= MOST_WATCHED:
            last = last_use(group, made, run)
            yield from () if last is None else (After(last[0], tiles_back=pieces),)

    def stage(self, run: BoundRun) -> int:
        """Epochs after the loads of its tile; 0 where tiles are taken as they come."""
        return 0 if self.group.stages is None else self.group.stages[run.place]

    def made(self, run: BoundRun) -> Iterator[After]:
        for producer, previous in self.group.feeding(run):
            if not previous and in_turn(self.group, producer, run):
                continue  # the turns are the order
            lag = producer.drain_cycles if producer.unit != run.unit else 0
            streaming = not previous and producer.streams_into(run)
            yield After(producer.work.name, lag, same_column=previous, streaming=streaming)

    def last_reader(self, read: Resident) -> BoundRun:
        """The last Einsum that reads each tile of an input: what comes after a loop reads no tile that goes with it."""
        readers = [run for run in self.group.runs if any(operand.tensor == read.tensor for operand in run.work.inputs)]
        often = [run for run in readers if run.after is None or read.depth <= run.after] or readers
        return max(often, key=lambda run: (self.stage(run), run.place))

    def tiles_of(self, places: tuple[Place, ...], edge: bool) -> Items:
        """The innermost tile inside all loops as they stand."""
        return (TileRun(self.tile_class(places, edge), 1, 0, self.is_fresh(places, edge)),)

    def is_fresh(self, places: tuple[Place, ...], edge: bool) -> bool:
        if self.iterative is None:
            return False
        if self.group.attended is not None and self.iterative.axis == KEY:
            return self.of_column(places, edge)[0]
        return places[self.group.loops.index(self.iterative)].first

    def tile_class(self, places: tuple[Place, ...], edge: bool) -> int:
        stay = [read.tensor for read in self.group.reads if not self.changes(read, places, "last")]
        stay += [queue_of(hop) for hop in self.fetches if not self.changes(hop.kept, places, "first")]
        return self.numbered(self.cycles(places, edge), tuple(stay))

    def numbered(self, cycles: tuple[int, ...], kept: tuple[str, ...]) -> int:
        """The class of tiles with these cycles of tasks, and with these queues that stay taken."""
        for number, known in enumerate(zip(self.classes, self.kept, strict=True)):
            if known == (cycles, kept):
                return number
        self.classes.append(cycles)
        self.kept.append(kept)
        return len(self.classes) - 1

    def cycles(self, places: tuple[Place, ...], edge: bool) -> tuple[int, ...]:
        """Cycles of each task in one tile, in the order of `tasks`; 0 where it is absent."""
        sizes = self.tile(places, len(places))
        group = self.group
        stored = [operand.words(self.tile(places, self.store_depth(operand)))
                  if self.is_stored(operand, places, edge) else 0 for operand in group.writes]  # fmt: skip
        fetched, loaded = ([self.arriving(hop, places) for hop in hops] for hops in (self.fetches, self.loads))
        begun = self.begun(places)
        running = [run for run in group.runs if self.runs(run, places, edge)]
        rare = [self.producer(use).after is not None for use in group.writes]
        ports = [*self.row_cycles([run for run in running if run.after is None], sizes, sum(loaded) + sum(begun),
                                  [words * (not late) for words, late in zip(stored, rare, strict=True)])]
        if self.rare:
            ports += self.row_cycles([run for run in running if run.after is not None], sizes, 0,
                                     [words * late for words, late in zip(stored, rare, strict=True)])
        moves = [*zip(map(group.store_target, group.writes), stored, strict=True),
                 *((hop.source, self.both_ways(hop, words, places))
                   for hop, words in zip((*self.fetches, *self.loads), (*fetched, *loaded), strict=True)),
                 *((DRAM, words) for words in begun)]  # fmt: skip
        return (*(ceil(words / group.words_per_cycle(memory)) for memory, words in moves), *ports,
                *(run.cycles(sizes) - self.counted_later(run, places) if run in running else 0
                  for run in self.issued))  # fmt: skip

    def arriving(self, hop: Hop, places: tuple[Place, ...]) -> int:
        """Words of an input that come to a memory for this tile."""
        if not self.changes(hop.kept, places, "first"):
            return 0
        return hop.kept.words(self.tile(places, hop.kept.piece or hop.kept.depth))

    def both_ways(self, hop: Hop, words: int, places: tuple[Place, ...]) -> int:
        """Words that the source of a hop moves for it: those that leave, and those that come there for them."""
        return words + sum(self.arriving(other, places) for other in self.before(hop))

    def counted_later(self, run: BoundRun, places: tuple[Place, ...]) -> bool:
        """Whether the first cycle of an Einsum is not counted here: `BoundGroup.cycles`."""
        return run.fold is not None and all(place.first for place in places)

    def store_depth(self, operand: TensorUse) -> int:
        """Loops outside the tile that is stored at once: a history of states goes tile by tile, and so does a sum that
        leaves in pieces."""
        made = next(each for each in self.group.made if each.tensor == operand.tensor)
        in_pieces = made.state & operand.axes or self.leaving.get(operand.tensor) is not None
        return len(self.group.loops) if in_pieces else made.depth

    @cached_property
    def spacing(self) -> int:
        return spacing(self.group)

    def empty(self, tiles: int) -> Items:
        return (TileRun(self.numbered((0,) * len(self.tasks), ()), tiles),)

    @cached_property
    def leaving(self) -> Mapping[str, tuple[int, ...] | None]:
        """Result -> numbers of the loops that it is summed over, where each tile leaves as soon as those stand at their
        last iterations: the loops inside of them go from one piece of it to the next."""
        group, found = self.group, {}
        for operand in group.writes:
            made, run = next(each for each in group.made if each.tensor == operand.tensor), self.producer(operand)
            inner = range(made.depth, len(group.loops))
            sums = tuple(number for number in inner if group.loops[number].axis in run.work.reduced)
            pieces = {group.loops[number].axis for number in inner if number not in sums}
            apart = pieces and run.after is None and not made.state and all(
                divides((operand,), axis, group.problem.extents[axis]) for axis in pieces)
            found[operand.tensor] = sums if apart and group.attended is None and not group.in_slices else None
        return found

    def is_stored(self, operand: TensorUse, places: tuple[Place, ...], edge: bool) -> bool:
        run, sums = self.producer(operand), self.leaving.get(operand.tensor)
        ends = places[self.store_depth(operand):] if sums is None else [places[number] for number in sums]
        return self.runs(run, places, edge) and all(place.last for place in ends)

    def runs(self, run: BoundRun, places: tuple[Place, ...], edge: bool) -> bool:
        if run.after is None:
            return True
        axis = self.group.loops[run.after].axis
        if self.group.attended is not None and axis == KEY:
            return self.of_column(places, edge)[1]
        return all(place.last for loop, place in zip(self.group.loops, places, strict=True) if loop.axis == axis)


def queue_of(hop: Hop) -> str:
    """Pieces of an input that have come to a memory and not gone on yet."""
    return f"{hop.kept.tensor} in {hop.target}"
