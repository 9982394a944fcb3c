"""The program of a group in which Einsums have loops of their own: one part of a tile after another, slice by slice.

An Einsum with a loop of its own is a tile of the engine for each slice; those between two such are one together. Where
two tiles overlap, the first part of the next one runs before the last part of this one: scores of the next queries
while the softmax of these is computed. Knows no machine but its sizes. mapping.md 2, 7; FLAT (ASPLOS'23).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import parts
from cascadesim.accelerators.mapping.problem import TensorUse
from cascadesim.accelerators.mapping.runs import DRAM, BoundRun, Resident
from cascadesim.accelerators.mapping.schedule.program import Builder, program
from cascadesim.accelerators.mapping.schedule.rounds import Items, Place, repeated
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
    queues = tuple(Queue(read.tensor, read.copies) for read in group.reads)
    return Program(builder.tasks, tuple(builder.classes), stream, queues, in_flight=1 if group.in_flight == 1 else None,
                   drain_cycles=group.runs[-1].drain_cycles, keeps=tuple(builder.kept))  # fmt: skip


@dataclass(frozen=True)
class TileSlice:
    """One step of a part: whether it is the first and the last of its tile, and its elements; 0 of a whole tile."""

    first: bool
    last: bool
    size: int


@dataclass(frozen=True)
class _SlicedBuilder(Builder):
    """Tiles are numbered while the rounds are written down: `places`, by the number of a tile."""

    places: list[tuple[Place, ...]] = field(default_factory=list)

    @cached_property
    def parts(self) -> Sequence[tuple[BoundRun, ...]]:
        return parts(self.group.runs)

    @cached_property
    def part_of(self) -> dict[int, int]:
        return {run.place: number for number, part in enumerate(self.parts) for run in part}

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        group = self.group
        loads = [self.load(hop) for hop in self.loads]
        loads += [Task(f"begin {state}", DRAM) for state, _ in group.begins]
        ports = self.ports(loads)
        stores = [self.store(use, _NEXT) for use in group.writes]
        return (*loads, *ports, *(self.task(run) for run in group.runs), *stores)

    def task(self, run: BoundRun) -> Task:
        """The last Einsum of a part also waits for the ports of the buffer."""
        task = super().task(run)
        after = [each for each in task.after if each.task not in (*self.rows.values(), run.work.name)]
        if run is self.parts[self.part_of[run.place]][-1]:
            after += map(After, self.rows.values())
        return replace(task, after=tuple(after))

    def made(self, run: BoundRun) -> Iterator[After]:
        """Values of another part are those of its last slice."""
        for producer, _ in self.group.feeding(run):
            together = self.part_of[producer.place] == self.part_of[run.place]
            lag = producer.drain_cycles if producer.unit != run.unit else 0
            streaming = together and producer.streams_into(run)
            yield After(producer.work.name, lag, streaming=streaming, latest=not together)

    def tiles_of(self, places: tuple[Place, ...], edge: bool) -> Items:
        """A tile: all of its parts, or where tiles overlap its number."""
        if self.group.in_flight > 1:
            self.places.append(places)
            return (TileRun(len(self.places) - 1, 1),)
        return self.parts_between(places, 0, len(self.parts))

    def parts_between(self, places: tuple[Place, ...], first: int, past: int) -> Items:
        return tuple(item for number in range(first, past) for item in self.part(places, number))

    def part(self, places: tuple[Place, ...], number: int) -> Iterator[TileRun | Repeat]:
        for each, times in self.slices(places, number):
            tile = TileRun(self.class_of(places, number, each), 1)
            yield tile if times == 1 else Repeat(times, (tile,))

    def slices(self, places: tuple[Place, ...], number: int) -> Iterator[tuple[TileSlice, int]]:
        own = self.parts[number][0].own
        if own is None:
            yield TileSlice(True, True, 0), 1
            return
        count = -(-self.tile(places, len(places))[own.axis] // own.step)
        rest = self.tile(places, len(places))[own.axis] - (count - 1) * own.step
        yield TileSlice(True, False, own.step), 1
        if count > 2:
            yield TileSlice(False, False, own.step), count - 2
        yield TileSlice(False, True, rest), 1

    def class_of(self, places: tuple[Place, ...], number: int, each: TileSlice) -> int:
        return self.numbered(self.part_cycles(places, number, each), tuple(
            read.tensor for read in self.group.reads if not self.gives_back(read, places, number, each)))

    def part_cycles(self, places: tuple[Place, ...], number: int, each: TileSlice) -> tuple[int, ...]:
        """Cycles of each task in one slice, in the order of `tasks`; 0 where it is absent."""
        group, part = self.group, self.parts[number]
        sizes = self.sliced(self.tile(places, len(places)), part, each)
        loaded = [self.loaded(read, places, number, each) for read in group.reads]
        loaded += self.begun(places) if number == 0 and each.first else [0] * len(group.begins)
        stored = [self.stored_words(operand, places, number, each) for operand in group.writes]
        ports = self.row_cycles(part, sizes, sum(loaded), stored)
        sources = *(hop.source for hop in self.loads), *(DRAM for _ in group.begins)
        return (*(ceil(words / group.words_per_cycle(source)) for source, words in zip(sources, loaded, strict=True)),
                *ports, *(run.cycles(sizes) if run in part else 0 for run in group.runs),
                *(ceil(words / group.words_per_cycle(group.store_target(use)))
                  for use, words in zip(group.writes, stored, strict=True)))  # fmt: skip

    def sliced(self, tile: dict[str, int], part: tuple[BoundRun, ...], each: TileSlice) -> dict[str, int]:
        own = part[0].own
        return tile if own is None else {**tile, own.axis: each.size}

    def readers(self, read: Resident) -> list[int]:
        """Parts that read a tensor."""
        return [number for number, part in enumerate(self.parts)
                if any(operand.tensor == read.tensor for run in part for operand in run.work.inputs)]  # fmt: skip

    def loaded(self, read: Resident, places: tuple[Place, ...], number: int, each: TileSlice) -> int:
        """Words of a tensor that come for a slice: of its own, or of the tile where that begins."""
        if self.readers(read)[0] != number:
            return 0
        if read.depth > len(places):
            return read.words(self.sliced(self.tile(places, len(places)), self.parts[number], each))
        begins = each.first and self.changes(read, places, "first")
        return read.words(self.tile(places, read.depth)) if begins else 0

    def gives_back(self, read: Resident, places: tuple[Place, ...], number: int, each: TileSlice) -> bool:
        if read.depth > len(places):
            return True
        return self.readers(read)[-1] == number and each.last and self.changes(read, places, "last")

    def stored_words(self, operand: TensorUse, places: tuple[Place, ...], number: int, each: TileSlice) -> int:
        """Words of a result that leave after a slice: of its own, or of the tile where that ends."""
        run = self.producer(operand)
        if self.part_of[run.place] != number or not self.is_stored(operand, places, True):
            return 0
        depth = self.store_depth(operand)
        if run.own is not None and run.own.axis in operand.axes and depth == len(places):
            return operand.words(self.sliced(self.tile(places, depth), self.parts[number], each))
        return operand.words(self.tile(places, depth)) if each.last else 0

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
