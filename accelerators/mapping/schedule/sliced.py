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
from itertools import chain
from math import ceil

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.problem import TensorUse
from cascadesim.accelerators.mapping.runs import DRAM, BoundLoop, BoundRun, Resident
from cascadesim.accelerators.mapping.schedule.program import Builder, program
from cascadesim.accelerators.mapping.schedule.rounds import Items, Place, merged, repeated
from cascadesim.accelerators.program import After, Program, Queue, Repeat, Task, TileRun

_NEXT = 1  # epochs after its own in which a result is stored: the loads of the next part come first


def group_program(group: BoundGroup) -> Program:
    """All instances of a group, tile by tile, and slice by slice where Einsums have loops of their own."""
    if not group.in_slices:
        return program(group)
    builder = _SlicedBuilder(group)
    body = builder.rounds((), dict(group.problem.extents))
    stream = builder.overlapped(repeated(body, group.problem.instances)) if group.in_flight > 1 else repeated(
        body, group.problem.instances)  # fmt: skip
    queues = tuple(Queue(read.tensor, read.copies) for read in group.reads if read.where)
    return Program(builder.tasks, tuple(builder.classes), stream, queues, in_flight=1 if group.in_flight == 1 else None,
                   drain_cycles=group.runs[-1].drain_cycles, keeps=tuple(builder.kept))  # fmt: skip


@dataclass(frozen=True)
class _SlicedBuilder(Builder):
    """Tiles are numbered while the rounds are written down: `places`, by the number of a tile.

    Inside a part, places are those of the shared loops and of the loops of its Einsum.
    """

    places: list[tuple[Place, ...]] = field(default_factory=list)
    known_parts: dict[object, Items] = field(default_factory=dict)

    @property
    def parts(self) -> Sequence[tuple[BoundRun, ...]]:
        return self.group.parts

    @property
    def rare(self) -> list[BoundRun]:
        """None: what comes after a loop is a part of its own, whose ports are those of that part."""
        return []

    @cached_property
    def part_of(self) -> dict[int, int]:
        return {run.place: number for number, part in enumerate(self.parts) for run in part}

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        group = self.group
        loads = [self.load(hop) for hop in self.loads]
        loads += [Task(f"return {use.name}", group.store_target(use)) for use, _ in self.returns]
        loads += [Task(f"begin {state}", DRAM) for state, _ in group.begins]
        ports = self.ports(loads)
        stores = [self.store(use, _NEXT) for use in group.writes]
        return (*loads, *ports, *(self.task(run) for run in group.runs), *stores)

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
            after += map(After, self.rows.values())
        gives = tuple(name for name in task.gives_back if f"load {name}" not in passing)
        return replace(task, after=tuple(after), gives_back=gives)

    def made(self, run: BoundRun) -> Iterator[After]:
        """Values of another part are those of its last slice; those of an earlier tile have been made."""
        for producer in (producer for producer, previous in self.group.feeding(run) if not previous):
            together = self.part_of[producer.place] == self.part_of[run.place]
            lag = producer.drain_cycles if producer.unit != run.unit else 0
            streaming = together and producer.streams_into(run)
            yield After(producer.work.name, lag, streaming=streaming, latest=not together)

    def tiles_of(self, places: tuple[Place, ...], edge: bool) -> Items:
        """A tile: all of its parts, or where tiles overlap its number."""
        if self.group.in_flight > 1:
            self.places.append(places)
            return (TileRun(len(self.places) - 1, 1),)
        return tuple(item for number, part in enumerate(self.parts) if self.runs(part[0], places, edge)
                     for item in self.part(places, number))  # fmt: skip

    def in_columns(self, loop: BoundLoop) -> bool:
        """Running values go from tile to tile in their order."""
        return False

    def parts_between(self, places: tuple[Place, ...], first: int, past: int) -> Items:
        return tuple(item for number in range(first, past) for item in self.part(places, number))

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
        loops = self.loops_of(number)
        if len(places) == len(loops):
            return (TileRun(self.class_of(places, number), 1),)
        loop = loops[len(places)]
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
            depth = len(self.group.loops) if each else made.depth if made.where else self.complete_inside(run)
            goes = all(place.last for place in places[depth:])
        return operand.words(self.slice_of(places, number, depth)) if goes else 0

    def complete_inside(self, run: BoundRun) -> int:
        """Loops outside what leaves the unit at once: those outside the first loop of its own that it sums over."""
        sums = (number for number, loop in enumerate(run.own) if loop.axis in run.work.reduced)
        return len(self.group.loops) + next(sums, len(run.own))

    def overlapped(self, tiles: Items) -> Items:
        """The first parts of the next tile before the last ones of each."""
        found, last = self.paired(tiles, None)
        assert last is not None
        middle, late = self.cuts
        return (*found, *self.parts_between(self.places[last], middle, late),
                *self.parts_between(self.places[last], late, len(self.parts)))  # fmt: skip

    @cached_property
    def cuts(self) -> tuple[int, int]:
        """First part that runs elsewhere than those before it, and the part after it."""
        unit = self.parts[0][-1].unit
        elsewhere = (number for number, part in enumerate(self.parts) if any(run.unit != unit for run in part))
        middle = next(elsewhere, len(self.parts))
        return middle, min(middle + 1, len(self.parts))

    def paired(self, tiles: Items, before: int | None) -> tuple[Items, int | None]:
        """Tiles one after another, each begun before the one before it ends; and the one that is still open."""
        found: list[TileRun | Repeat] = []
        middle, late = self.cuts
        for item in tiles:
            if isinstance(item, Repeat):
                first, before = self.paired(item.body, before)
                again, before = self.paired(item.body, before)
                found += (*first, *repeated(again, item.times - 1))
                continue
            places = self.places[item.tile_class]
            if before is not None:
                found += self.parts_between(self.places[before], middle, late)
            found += self.parts_between(places, 0, middle)
            if before is not None:
                found += self.parts_between(self.places[before], late, len(self.parts))
            before = item.tile_class
        return tuple(found), before
