"""The program of a group in which Einsums have loops of their own: one part of a tile after another, slice by slice.

An Einsum with loops of its own is a tile of the engine for each slice; those between two such are one together. Words
of an input of which no tile is kept come with each slice; a sum that left unfinished comes back. Where two tiles
overlap, the first part of the next one runs before the last part of this one: scores of the next queries while the
softmax of these is computed. Knows no machine but its sizes. mapping.md 2, 7; FLAT (ASPLOS'23).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, groupby
from math import ceil

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.memories import Hop
from cascadesim.accelerators.mapping.nest import MOST_IN_FLIGHT
from cascadesim.accelerators.mapping.problem import TensorUse
from cascadesim.accelerators.mapping.runs import DRAM, BoundLoop, BoundRun, Resident
from cascadesim.accelerators.mapping.schedule.program import Builder, program
from cascadesim.accelerators.mapping.schedule.rounds import (
    Items,
    Numbered,
    Open,
    Place,
    count_tiles,
    in_column,
    merged,
    repeated,
    woven,
)
from cascadesim.accelerators.program import After, Program, Queue, Repeat, Task, TileRun
from cascadesim.accelerators.protocol import PlanError

SPARE = 8  # assumed: with 16 slices more blocks of 512 to 8,192 keys are no faster; with 4 up to 1.3 % slower
MOST_OPEN = 256  # assumed: with 400 open rows of 512 to 8,192 keys are no faster; with 128 up to 12 % slower
CUT_FROM = 1.1  # times the busiest unit; assumed: random groups that are cut take 0.57 to 1.03 of the cycles
_NEXT = 2  # parts after its own with which a result is stored: their loads come first


def group_program(group: BoundGroup) -> Program:
    """All instances of a group, tile by tile, and slice by slice where Einsums have loops of their own.

    Raises PlanError where they would take other cycles than in closed form: a fault of ours."""
    made = _sliced(group) if group.in_slices else program(group)
    busy = made.busy_cycles()
    for run in group.runs:
        if busy[run.work.name] != group.problem.instances * group.cycles(run):
            raise PlanError(f"internal error: {run.work.name} takes {busy[run.work.name]:,} cycles in the schedule, "
                            f"{group.problem.instances * group.cycles(run):,} in closed form; please report it")
    return made


def _sliced(group: BoundGroup) -> Program:
    builder = _SlicedBuilder(group)
    tiles = repeated(builder.rounds((), dict(group.problem.extents)), group.problem.instances)
    stream = builder.overlapped(tiles) if group.in_flight > 1 else tiles
    places = {read.tensor: read.copies for read in group.reads if read.where}
    places |= dict.fromkeys(group.slice_places, group.in_flight)
    queues = tuple(Queue(name, number + group.places_ahead.get(name, 0)) for name, number in places.items())
    in_flight = 1 if group.in_flight == 1 else builder.window if builder.weaves else None
    return Program(builder.tasks, tuple(builder.classes), stream, queues, in_flight=in_flight,
                   drain_cycles=group.runs[-1].drain_cycles, keeps=tuple(builder.kept))  # fmt: skip


@dataclass(frozen=True)
class _SlicedBuilder(Builder):
    """Tiles are numbered while the rounds are written down: `places`, by the number of a tile. Inside a part those of
    the shared loops and of the loops of its Einsum."""

    places: list[tuple[Place, ...]] = field(default_factory=list)
    known_parts: dict[object, Items] = field(default_factory=dict)

    @cached_property
    def parts(self) -> Sequence[tuple[BoundRun, ...]]:
        """Those of the group; where tiles overlap, the first is cut between Einsums of both units if these take much
        longer than the busiest: the next tile begins beside the second one."""
        first, *others = self.group.parts
        cut = self.group.in_flight > 1 and not first[0].nest and (
            sum(self.group.busy_cycles.values()) > CUT_FROM * self.group.busiest_cycles)
        return [*(tuple(own) for _, own in groupby(first, lambda run: cut and run.unit)), *others]

    @property
    def rare(self) -> list[BoundRun]:
        """None: what comes after a loop is a part of its own."""
        return []

    @cached_property
    def part_of(self) -> dict[int, int]:
        return {run.place: number for number, part in enumerate(self.parts) for run in part}

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        group = self.group
        loads = [self.reload(hop) for hop in self.loads]
        loads += [Task(f"return {use.name}", group.store_target(use)) for use, _ in self.returns]
        loads += [Task(f"begin {state}", DRAM) for state, _ in group.begins]
        spilled = group.problem.spilled.values()  # which come back with the next part
        stores = [self.in_turn(self.store(use, 1 if use.tensor in spilled else _NEXT)) for use in group.writes]
        return (*loads, *self.ports(loads), *(self.task(run) for run in group.runs), *stores)

    def reload(self, hop: Hop) -> Task:
        """A load; of what this group stores, all of that has to be there."""
        task, spilled = self.load(hop), self.group.problem.spilled.get(hop.kept.tensor)
        apart = {"same_column" if self.weaves else "latest": True}
        return task if spilled is None else replace(task, after=(*task.after, After(f"store {spilled}", **apart)))

    @property
    def weaves(self) -> bool:
        """Whether slices of tiles take turns, as what comes back from DRAM does. Every second tile is a column."""
        return bool(self.group.problem.spilled) and self.group.in_flight > 1 and self.cuts[0] < len(self.parts)

    def freed_by(self, number: int) -> Iterator[str]:
        """Einsums of the tile before the last one that are the last to use the places of what a part makes."""
        middle, late = self.cuts
        users = self.parts[middle:late] if self.mixes and number < middle else self.parts[late:]
        if self.weaves and number < (late if self.mixes else middle):
            yield from (run.work.name for part in users for run in part)

    def in_turn(self, task: Task) -> Task:
        """The task with the places of slices that it takes and gives back."""
        takes, gives = (tuple(name for name, ends in self.group.slice_places.items() if ends[way] == task.name)
                        for way in (0, 1))  # fmt: skip
        return replace(task, takes=(*task.takes, *takes), gives_back=(*task.gives_back, *gives))

    @cached_property
    def returns(self) -> tuple[tuple[TensorUse, Resident], ...]:
        """Results whose sums leave unfinished and come back."""
        return tuple((use, made) for use in self.group.writes for made in self.group.made
                     if made.tensor == use.tensor and made.evicted)  # fmt: skip

    def task(self, run: BoundRun) -> Task:
        """The last Einsum of a part also waits for the ports of the buffer; words that pass by stream into theirs."""
        task, passing = super().task(run), {f"load {read.tensor}" for read in self.group.reads if not read.where}
        after = [After(each.task, streaming=True) if each.task in passing else each for each in task.after
                 if each.task not in (*self.rows.values(), run.work.name)]  # fmt: skip
        after += [After(f"return {use.name}") for use, made in self.returns if made.tensor == run.work.output.tensor]
        if run is self.parts[self.part_of[run.place]][-1]:
            after += [After(name, streaming=self.group.in_flight > 1) for name in self.rows.values()]
        after += [After(name, same_column=True) for name in self.freed_by(self.part_of[run.place])]
        gives = tuple(name for name in task.gives_back if f"load {name}" not in passing)
        return self.in_turn(replace(task, after=tuple(after), gives_back=gives))

    def made(self, run: BoundRun) -> Iterator[After]:
        """Values of another part are those of its last slice; those of an earlier tile have been made."""
        for producer in (producer for producer, previous in self.group.feeding(run) if not previous):
            together = self.part_of[producer.place] == self.part_of[run.place]
            lag = producer.drain_cycles if producer.unit != run.unit else 0
            streaming = together and producer.streams_into(run)
            apart = {"same_column" if self.weaves else "latest": not together}
            yield After(producer.work.name, lag, streaming=streaming, **apart)

    def tiles_of(self, places: tuple[Place, ...], edge: bool) -> Items:
        """A tile: all of its parts, or where tiles overlap its number."""
        if self.group.in_flight > 1:
            self.places.append(places)
            return (TileRun(len(self.places) - 1, 1),)
        return tuple(item for number, part in enumerate(self.parts) if self.runs(part[0], places, edge)
                     for item in self.part(places, number))  # fmt: skip

    @property
    def steps(self) -> tuple[int, ...]:
        """None: running values go from tile to tile in their order."""
        return ()

    def loops_of(self, number: int) -> tuple[BoundLoop, ...]:
        """All loops around a part: shared ones, and those of its Einsum."""
        return *self.group.loops, *self.parts[number][0].own

    def part(self, places: tuple[Place, ...], number: int) -> Items:
        """The slices of a part inside the loops as they stand."""
        key = number, tuple(place.kind for place in places)
        if key not in self.known_parts:
            self.known_parts[key] = self.new_part(places, number)
        return self.known_parts[key]

    def new_part(self, places: tuple[Place, ...], number: int) -> Items:
        inside = len(places) == len(self.loops_of(number))
        found = (TileRun(self.class_of(places, number), 1),) if inside else self.slices(places, number)
        spilled, made = self.group.problem.spilled.values(), (run.work.output.tensor for run in self.parts[number])
        ends = len(places) == len(self.group.loops) and any(tensor in spilled for tensor in made)
        return (*found, *self.empty(1)) if ends else found  # it is stored before another part may load it

    def slices(self, places: tuple[Place, ...], number: int) -> Items:
        """The slices of a part, loop by loop."""
        loop = self.loops_of(number)[len(places)]
        elements = self.slice_of(places, number, len(places))[loop.axis]
        count = -(-elements // loop.step)
        found: list[tuple[Items, int]] = []
        for first, times in ((0, 1), (1, count - 2), (count - 1, 1))[: 1 if count == 1 else 3]:
            size = min(loop.step, elements - first * loop.step)
            place = Place(first == 0, first + times == count, size, 0, count == 1)
            found += [(self.part((*places, place), number), times)] if times else []
        return merged(found)

    def slice_of(self, places: tuple[Place, ...], number: int, depth: int) -> dict[str, int]:
        """What so many loops around a part have inside as they stand."""
        found = self.group.problem.whole()
        for loop, place in zip(self.loops_of(number)[:depth], places, strict=False):
            found[loop.axis] = place.size
        return found

    def class_of(self, places: tuple[Place, ...], number: int) -> int:
        return self.numbered(self.part_cycles(places, number), tuple(
            read.tensor for read in self.group.reads if read.where and not self.gives_back(read, places, number)))

    def part_cycles(self, places: tuple[Place, ...], number: int) -> tuple[int, ...]:
        """Cycles of each task in one slice, in the order of `tasks`; 0 where it is absent."""
        group, part = self.group, self.parts[number]
        sizes = self.slice_of(places, number, len(places))
        loaded = [self.loaded(read, places, number) for read in group.reads]
        back = [self.returned(use, made, places, number) for use, made in self.returns]
        first = number == 0 and all(place.first for place in places[len(group.loops):])
        begun = self.begun(places[: len(group.loops)]) if first else [0] * len(group.begins)
        stored = [self.stored_words(operand, places, number) for operand in group.writes]
        comes = sum(words for words, read in zip(loaded, group.reads, strict=True) if read.where)
        ports = self.row_cycles(part, sizes, comes + sum(back) + sum(begun), stored)
        sources = (*(hop.source for hop in self.loads), *(group.store_target(use) for use, _ in self.returns),
                   *(DRAM for _ in group.begins))  # fmt: skip
        memories = chain(sources, map(group.store_target, group.writes))
        cycles = [ceil(words / group.words_per_cycle(memory)) for words, memory in zip(
            (*loaded, *back, *begun, *stored), memories, strict=True)]  # fmt: skip
        return (*cycles[: len(sources)], *ports, *(run.cycles(sizes) if run in part else 0 for run in group.runs),
                *cycles[len(sources):])  # fmt: skip

    def readers(self, read: Resident) -> list[int]:
        """Parts that read a tensor."""
        return [number for number, part in enumerate(self.parts)
                if any(operand.tensor == read.tensor for run in part for operand in run.work.inputs)]  # fmt: skip

    def moves(self, kept: Resident, places: tuple[Place, ...], number: int, end: str) -> bool:
        """Whether a kept tile comes before this slice (`first`), or goes after it (`last`). What is kept inside the
        loops of one Einsum comes and goes with each tile."""
        shared = len(self.group.loops)
        moving = [place for place, loop in enumerate(self.loops_of(number)[: kept.depth])
                  if loop.axis in kept.axes and not places[place].alone]  # fmt: skip
        outer = max((*moving, shared - 1 if kept.depth > shared else -1), default=-1)
        after = self.parts[number][0].after  # the part runs in the last iterations of that loop alone
        late = frozenset() if after is None else {self.group.loops[after].axis}
        return all(getattr(place, end) for loop, place in zip(self.loops_of(number)[outer + 1 :], places[outer + 1 :],
                                                              strict=True) if loop.axis not in late)  # fmt: skip

    def loaded(self, read: Resident, places: tuple[Place, ...], number: int) -> int:
        """Words of a tensor that come for a slice."""
        if not read.where:
            sizes = self.slice_of(places, number, len(places))
            return sum(run.operand_reads(use, sizes, frozenset()) for run in self.parts[number]
                       for use in run.work.inputs if use.tensor == read.tensor)  # fmt: skip
        if self.readers(read)[0] != number or not self.moves(read, places, number, "first"):
            return 0
        return read.words(self.slice_of(places, number, read.depth))

    def gives_back(self, read: Resident, places: tuple[Place, ...], number: int) -> bool:
        return self.part_of[self.last_reader(read).place] == number and self.moves(read, places, number, "last")

    def returned(self, use: TensorUse, made: Resident, places: tuple[Place, ...], number: int) -> int:
        """Words of a sum that come back for a slice: not where its tile is begun."""
        run = self.producer(use)
        sums = (place for loop, place in zip(self.loops_of(number)[: made.depth], places, strict=False)
                if loop.axis in run.work.reduced)  # fmt: skip
        if self.part_of[run.place] != number or not self.moves(made, places, number, "first"):
            return 0
        return 0 if all(place.first for place in sums) else made.words(self.slice_of(places, number, made.depth))

    def stored_words(self, operand: TensorUse, places: tuple[Place, ...], number: int) -> int:
        """Words of a result that leave after a slice: of its own, or of the tile where that ends."""
        run, made = self.producer(operand), next(each for each in self.group.made if each.tensor == operand.tensor)
        if self.part_of[run.place] != number:
            return 0
        if made.kept:
            goes, depth = self.moves(made, places, number, "last"), made.depth
        else:
            each = bool(made.state & operand.axes)  # a history of states goes tile by tile
            depth = len(self.group.loops) if each else made.depth if made.where else self.group.complete_inside(run)
            goes = all(place.last for place in places[depth:])
        return operand.words(self.slice_of(places, number, depth)) if goes else 0

    def overlapped(self, tiles: Items) -> Items:
        """Tiles of which the first parts of one run beside the middle one of the one before it."""
        found, still = self.paired(tiles, ())
        middle, late = self.cuts
        *older, last = (self.parts_of_tile(tile, late, len(self.parts)) for tile in still)
        return *found, *woven(self.parts_of_tile(still[-1], middle, late), *older), *last

    @property
    def window(self) -> int:
        """Slices open at once: those between two of the shorter stretch, some more, and what has places besides."""
        middle, _ = self.cuts
        counts = [sum(count_tiles(self.part(self.places[0], number)) for number in range(*parts))
                  for parts in ((0, middle), (middle, middle + 1))]
        turns = min(MOST_IN_FLIGHT, SPARE + ceil(max(counts) / max(1, min(counts))))
        return min(MOST_OPEN, turns + max(self.group.places_ahead.values(), default=0))

    @cached_property
    def cuts(self) -> tuple[int, int]:
        """First part that keeps another unit busy than those before it, and the part after it."""
        units = [max(part, key=self.group.cycles).unit for part in self.parts]
        middle = next((number for number, unit in enumerate(units) if unit != units[0]), len(units))
        return middle, min(middle + 1, len(self.parts))

    @cached_property
    def mixes(self) -> bool:
        """Whether slices of three tiles take turns: nothing is used before and after the middle, so two places do."""
        early, late = self.parts[: self.cuts[0]], self.parts[self.cuts[1] :]
        return self.group.tensors(chain(*early)).isdisjoint(self.group.tensors(chain(*late)))

    def paired(self, tiles: Items, still: Open) -> tuple[Items, Open]:
        """Tiles one after another, each begun before the one before it ends; and those that are still open."""
        found: list[TileRun | Repeat] = []
        for item in tiles:
            if isinstance(item, Repeat):
                begun, still = self.again(item, still)
            else:
                tile = Numbered(item.tile_class, 1 - still[-1].column if self.weaves and still else 0)
                begun, still = self.begun_before(tile, still), (*still, tile)[-2 if self.weaves else -1 :]
            found += begun
        return tuple(found), still

    def again(self, item: Repeat, still: Open) -> tuple[Items, Open]:
        """Rounds that are begun with what those before them left open, until that is as it was before."""
        rounds: list[Items] = []
        states = [still]
        while len(rounds) < item.times and states[-1] not in states[:-1]:
            found, still = self.paired(item.body, states[-1])
            rounds.append(found)
            states.append(still)
        cycle = rounds[states.index(states[-1]) :]
        whole, left = divmod(item.times - len(rounds), max(1, len(cycle)))
        found = tuple(chain(*rounds, repeated(tuple(chain(*cycle)), whole), *cycle[:left]))
        return found, states[states.index(states[-1]) + left] if left else states[-1]

    def begun_before(self, tile: Numbered, still: Open) -> Items:
        """The first parts of a tile, the middle one of the tile before it, and the last ones of that, or, where slices
        take turns, of the one before that."""
        middle, late = self.cuts
        begun = self.parts_of_tile(tile, 0, middle)
        if not still:
            return begun
        beside = self.parts_of_tile(still[-1], middle, late)
        if not self.weaves:
            return *beside, *begun, *self.parts_of_tile(still[-1], late, len(self.parts))
        ended = self.parts_of_tile(still[0], late, len(self.parts)) if len(still) > 1 else ()
        return woven(beside, *((ended, begun) if self.mixes else ((*ended, *begun),)))

    def parts_of_tile(self, tile: Numbered, first: int, past: int) -> Items:
        """Some parts of a tile, one after another, in its column."""
        found = tuple(item for number in range(first, past) for item in self.part(self.places[tile.number], number))
        return tuple(in_column(item, tile.column) for item in found) if self.weaves else found
