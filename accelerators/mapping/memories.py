"""Words between DRAM, the memories on the way inwards, and the buffer of a group with sizes; the room they take there.

A tensor may have a tile of its own, further out, in each memory: it comes there piece by piece, each as the buffer
first needs it, and from there as often as the buffer needs it again. A result may rest whole in a memory between
groups. What a memory keeps nothing of passes it by. mapping.md 1, 2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import NamedTuple

from cascadesim.accelerators.mapping.problem import MappingProblem, TensorUse
from cascadesim.accelerators.mapping.runs import ACCUMULATORS, DRAM, GLOBAL_BUFFER, UNITS, BoundRun, Resident, parts
from cascadesim.accelerators.mapping.tiling import TiledGroup

PIECES_AHEAD = 2  # of a tile in a memory, one on its way in and one out, where tiles of the loops overlap


class Hop(NamedTuple):
    """A tensor on its way from one memory to the next one inwards; `kept`: what that keeps of it. `target`: "" where it
    goes straight to the arrays."""

    source: str
    target: str
    kept: Resident


@dataclass(frozen=True, repr=False)
class LayeredGroup(TiledGroup):
    """A group with sizes on an array that may have memories between DRAM and the buffer."""

    @cached_property
    def hops(self) -> Mapping[str, tuple[Hop, ...]]:
        """Input -> its way into the buffer, from where it lies whole inwards."""
        return {read.tensor: tuple(self._way(read)) for read in self.reads}

    def _way(self, read: Resident) -> Iterator[Hop]:
        source = read.rests_in or DRAM
        for memory, depth in read.upstream:
            yield Hop(source, memory, read._replace(depth=depth, piece=read.piece or read.depth))
            source = memory
        yield Hop(source, GLOBAL_BUFFER if read.where else "", read)

    def store_target(self, use: TensorUse) -> str:
        """Where a result goes that leaves the group."""
        return self.problem.resting.get(use.tensor, (DRAM, 0))[0]

    @cached_property
    def memory_words(self) -> Mapping[str, tuple[int, int]]:
        """Memory, DRAM among them -> words that leave it inwards, and that come into it."""
        found = {name: [0, 0] for name in (DRAM, *(each.name for each in self.spec.memories), GLOBAL_BUFFER)}
        for way in self.hops.values():
            for hop in way:
                words = self.filled(hop.kept)
                found[hop.source][0] += words
                if hop.target:
                    found[hop.target][1] += words
        found[DRAM][0] += self.begun_words
        found[GLOBAL_BUFFER][1] += self.begun_words
        for use in self.writes:
            made, target = next(each for each in self.made if each.tensor == use.tensor), self.store_target(use)
            found[target][1] += self.stored(use)
            found[target][0] += self.returned(made)
            found[GLOBAL_BUFFER][1] += self.returned(made)
        return {name: (read, written) for name, (read, written) in found.items()}

    @property
    def read_words(self) -> int:
        """Words that come from DRAM: tiles of inputs, and what running values begin with."""
        return self.memory_words[DRAM][0]

    @property
    def written_words(self) -> int:
        """Words that go to DRAM."""
        return self.memory_words[DRAM][1]

    @property
    def loaded_words(self) -> int:
        """Words that come into the buffer from outside of it."""
        return self.memory_words[GLOBAL_BUFFER][1]

    @property
    def beside(self) -> tuple[str, ...]:
        """Memories beside the arrays."""
        return (GLOBAL_BUFFER,) if self.spec.accumulators is None else (GLOBAL_BUFFER, ACCUMULATORS)

    def bytes_per_cycle(self, memory: str) -> float:
        """Bytes that a memory moves in a cycle."""
        spec = self.spec
        if memory == ACCUMULATORS and spec.accumulators is not None:
            return spec.accumulators.bytes_per_cycle
        if memory == GLOBAL_BUFFER:
            return spec.global_buffer.bytes_per_cycle
        return spec.dram_bytes_per_cycle if memory == DRAM else spec.memory(memory).bytes_per_cycle

    def words_per_cycle(self, memory: str) -> float:
        return self.bytes_per_cycle(memory) / self.spec.word_bytes

    def cycles_per_word(self, memory: str) -> float:
        return self.spec.word_bytes / self.bytes_per_cycle(memory)

    def source(self, read: Resident) -> str:
        """The memory from which an input comes into the buffer."""
        return self.hops[read.tensor][-1].source

    @cached_property
    def rooms(self) -> Mapping[str, int]:
        """Memory between DRAM and the buffer -> words that are taken there."""
        found = dict.fromkeys((each.name for each in self.spec.memories), 0)
        for memory, words in self.problem.resting.values():
            found[memory] += words
        for way in self.hops.values():
            for hop in way[:-1]:
                found[hop.target] += self.room_upstream(hop.kept)
        return found

    def room_upstream(self, kept: Resident) -> int:
        """Words that a tile takes in a memory outside of the buffer, with the pieces of the next one."""
        return self.kept_words(kept) + self.pieces_ahead(kept) * self.arriving_words(kept)

    def pieces_ahead(self, kept: Resident) -> int:
        """Pieces of the next tile that come into a memory while this one is there."""
        moves = self.problem.instances > 1 or any(loop.most > 1 for loop in self.loops[: kept.depth])
        return PIECES_AHEAD if moves and self.in_flight > 1 else 0

    @cached_property
    def footprint_words(self) -> int:
        """Room that the group takes in the buffer."""
        return self.room_in(GLOBAL_BUFFER)

    def room_in(self, memory: str) -> int:
        """Room in the buffer, or in accumulators; what the group makes and uses up in a tile takes turns there.

        Tiles of what stays whole are made in their place. Where Einsums take a tile slice by slice, one tile after
        another, that of the fullest part of a tile; where tiles overlap, nests of different ones run side by side.
        """
        innermost, staying = len(self.loops), self.problem.staying
        leaving = {operand.tensor for operand in self.writes}
        in_place = in_states(self.problem, tuple(self.by_place), leaving) if self.in_flight == 1 else ()
        kept = [each for each in (*self.reads, *(made for made in self.made if made.depth < innermost
                                                 and made.tensor not in staying)) if each.where == memory]  # fmt: skip
        turns = [(made, Held(self.kept_words(made), run, self.problem.readers.get(made.tensor, ()),
                             made.tensor in leaving))
                 for made, run in zip(self.made, self.runs, strict=True)
                 if made.where == memory and made.depth >= innermost and made.tensor not in staying
                 and run.place not in in_place]  # fmt: skip
        stays = sum(staying.values()) if memory == GLOBAL_BUFFER else 0
        if not (self.in_slices and self.in_flight == 1):
            apart: dict[int, list[Held]] = {}  # what nests make has the places of their slices
            for made, held in turns:
                apart.setdefault(held.maker.nest if made.depth > innermost else 0, []).append(held)
            most = sum(most_room(each, self.ended) for each in apart.values())
            return stays + sum(map(self.room_words, kept)) + self.in_flight * most
        return stays + max(
            sum(self.room_words(each) for each in kept if self.is_there(each, number))
            + most_room([held for made, held in turns if self.is_there(made, number)], self.ended)
            for number in range(len(self.parts)))  # fmt: skip

    @cached_property
    def slice_places(self) -> Mapping[str, tuple[str, str]]:
        """What nests make slice by slice has as many places as tiles overlap: for its last user in the nest, and for
        its store, the tasks that fill a place and free it."""
        found: dict[str, tuple[str, str]] = {}
        nested = self.problem.spilled or any(run.nest for run in self.runs)
        for made, run in zip(self.made, self.runs, strict=True) if nested and self.in_flight > 1 else ():
            name, tensor, inside = run.work.name, made.tensor, len(self.loops) + len(run.own)
            readers = [other.work.name for part in self.parts if run in part for other in part
                       if any(use.tensor == tensor for use in other.work.inputs)]  # fmt: skip
            if run.own and readers and made.depth == inside:
                found[f"{tensor} for {readers[-1]}"] = name, readers[-1]
            stored_inside = made.depth if made.where else self.complete_inside(run)
            if run.own and tensor in {use.tensor for use in self.writes} and stored_inside == inside:
                found[f"{tensor} to leave"] = name, f"store {tensor}"
        return found

    @cached_property
    def places_ahead(self) -> Mapping[str, int]:
        """Places of what comes or leaves slice by slice, where tiles overlap, beside those that overlap asks for: so
        many that the slices last while a tile, or a slice, of all else holds DRAM, as far as the buffer has room."""
        moves = {read.tensor: read for read in self.reads if read.where and self.source(read) == DRAM}
        leaving = {use.tensor for use in self.writes if self.store_target(use) == DRAM}
        for run, made in zip(self.runs, self.made, strict=True):
            if made.tensor in leaving:
                inside = made.depth if made.where else self.complete_inside(run)
                moves[f"{made.tensor} to leave"] = made._replace(depth=inside)
        words = {name: self.kept_words(each) for name, each in moves.items()}
        streams = [name for name, each in moves.items() if each.where in (GLOBAL_BUFFER, "") and (
            name in self.slice_places or (each.depth > len(self.loops) and each.copies > 1))]  # fmt: skip
        found, left = dict[str, int](), self.spec.buffer_words - self.footprint_words
        users = [(part, [name for name in streams if self.user_of(moves[name]) in part]) for part in self.parts]
        for part, own in sorted(users, key=lambda user: sum(words[name] for name in user[1])):
            tile = {**self.leaf, **{loop.axis: loop.step for loop in part[0].own}}
            lasts = max(sum(run.cycles(tile) for run in part if run.unit == unit) for unit in UNITS)
            held = sum(words[name] for name in moves if name not in own) * self.cycles_per_word(DRAM)
            taken = sum(words[name] for name in own)
            more = min(ceil(held / max(1, lasts)), max(0, left) // taken) if own and self.in_flight > 1 else 0
            found, left = found | dict.fromkeys(own, more), left - more * taken
        return found

    def complete_inside(self, run: BoundRun) -> int:
        """Loops outside what leaves the unit at once: those outside the first loop of its own that it sums over."""
        sums = (number for number, loop in enumerate(run.own) if loop.axis in run.work.reduced)
        return len(self.loops) + next(sums, len(run.own))

    @cached_property
    def parts(self) -> Sequence[tuple[BoundRun, ...]]:
        """Einsums that work on one tile after another; where tiles do not overlap, those of one unit do anyway."""
        return parts(self.runs, self.in_flight == 1)

    def is_there(self, resident: Resident, number: int) -> bool:
        """Whether a tensor has its room during a part of a tile: what each tile moves anew from the first part that
        makes or reads it to the last one; what stays from tile to tile always."""
        users = [place for place, part in enumerate(self.parts) for run in part
                 if run.work.output.tensor == resident.tensor
                 or any(use.tensor == resident.tensor for use in run.work.inputs)]  # fmt: skip
        return not self.is_moved(resident) or users[0] <= number <= users[-1]

    def is_moved(self, resident: Resident) -> bool:
        """Whether each tile brings or makes another one of what is kept of a tensor."""
        looping = [loop for loop in self.loops if loop.most > 1]
        made = any(run.work.output.tensor == resident.tensor for run in self.runs) and not resident.evicted
        if resident.depth > len(self.loops) or not looping or (made and resident.depth == len(self.loops)):
            return True
        last, extent = looping[-1], self.problem.extents[looping[-1].axis]
        outside = [number for number, loop in enumerate(looping[:-1]) if loop.axis == last.axis]
        between = looping[outside[-1] + 1 : -1] if outside else []  # a last stretch of a single tile stays for those
        alone = 0 < extent % last.outer <= last.step and any(loop.axis not in resident.axes for loop in between)
        return resident.depth > self.loops.index(last) and last.axis in resident.axes and not alone

    @cached_property
    def ended(self) -> Mapping[int, frozenset[int]]:
        """Place of an Einsum -> places of those of its tile that have ended, for certain, when it begins.

        It waits for the end of what it reads, and of all before that; what streams into it may still run. Of one tile
        at a time all parts before its own have ended.
        """
        found: dict[int, frozenset[int]] = {}
        earlier: frozenset[int] = frozenset()
        for part in self.parts:
            for run in part:
                own = earlier
                for producer, previous in self.feeding(run):
                    if not previous and producer.place in found:
                        own |= (found[producer.place] if producer.streams_into(run)
                                else {producer.place} | self.problem.needs[producer.place])  # fmt: skip
                found[run.place] = own
            if self.in_slices and self.in_flight == 1:
                earlier |= {run.place for run in part}
        return found

    @property
    def lacking(self) -> str | None:
        """The first memory that has not the room that the group takes in it; None where all have."""
        return next((memory for memory, taken in self.shares.items() if taken > 1), None)

    @property
    def shares(self) -> Mapping[str, float]:
        """Share of each memory on the chip that the group takes, from the arrays outwards."""
        spec, own = self.spec, self.spec.accumulators
        found = {GLOBAL_BUFFER: _share(self.footprint_words, spec.buffer_words)}
        if own is not None:
            found[ACCUMULATORS] = _share(self.room_in(ACCUMULATORS), spec.words_of(own))
        return found | {each.name: _share(self.rooms[each.name], spec.words_of(each)) for each in spec.memories}

    @property
    def taken(self) -> float:
        """Share of the buffer, or of the accumulators, that the group takes: of the fuller one."""
        return max(share for memory, share in self.shares.items() if memory in (GLOBAL_BUFFER, ACCUMULATORS))

    @property
    def fits(self) -> bool:
        """Whether all memories have that room."""
        return self.lacking is None


def _share(words: int, room: int) -> float:
    """Share of a room that words take; a memory may be too small for any."""
    return words / room if room else float("inf") if words else 0.0


def in_states(problem: MappingProblem, places: tuple[int, ...], leaving: Collection[str]) -> Collection[int]:
    """Places of Einsums whose results lie in the place of a running value, from the last reading of that to the next
    writing: made of it element by element, and only it is made of that (`SPNV` of `RNV`), one tile at a time."""
    key = "in states", places, frozenset(leaving)
    if key not in problem.known:
        problem.known[key] = {place for place in places if problem.work[place].output.tensor not in leaving
                              and _lies_in_a_state(problem, place, places)}  # fmt: skip
    found: Collection[int] = problem.known[key]
    return found


def _lies_in_a_state(problem: MappingProblem, place: int, places: tuple[int, ...]) -> bool:
    work = problem.work[place]
    states = [state for state, previous in problem.feeds[place] if previous and state > place and state in places]
    if work.reduced or len(states) != 1:
        return False
    state, made = problem.work[states[0]], work.output
    later = any((states[0], True) in problem.feeds[other] for other in places if other > place)
    of_it = [use.shape for use in work.inputs if use.tensor == state.output.tensor]
    into_it = [use.shape for use in state.inputs if use.tensor == made.tensor]
    alone = problem.readers.get(made.tensor) == (states[0],) and not state.reduced and not later
    return alone and of_it == [made.shape] == into_it == [state.output.shape]


@dataclass(frozen=True, slots=True)
class Held:
    """A tensor that a tile makes, with its maker and the places of its readers. `leaves`: the tile ends with it."""

    words: int
    maker: BoundRun
    readers: tuple[int, ...]
    leaves: bool


def most_room(tensors: Sequence[Held], ended: Mapping[int, Collection[int]]) -> int:
    """Words that hold all tensors of a tile, made in this order. `ended`: place -> places that end before it begins.

    A tensor may lie where another one was that is dead by then: all that read it have ended, for certain. An Einsum may
    overwrite, element by element, what it alone still reads (numerators over scores). mapping.md 8.
    """
    slots: list[tuple[int, Held]] = []
    for tensor in tensors:
        free = [number for number, (_, before) in enumerate(slots) if _is_dead(before, tensor, ended)]
        fitting = [number for number in free if slots[number][0] >= tensor.words]
        if free:
            number = min(fitting, key=lambda each: slots[each][0]) if fitting else max(
                free, key=lambda each: slots[each][0])  # fmt: skip
            slots[number] = max(slots[number][0], tensor.words), tensor
        else:
            slots.append((tensor.words, tensor))
    return sum(words for words, _ in slots)


def _is_dead(before: Held, tensor: Held, ended: Mapping[int, Collection[int]]) -> bool:
    """Whether all that read a tensor have ended when another one is made, or only what makes that still reads it."""
    place = tensor.maker.place
    return not before.leaves and all(
        reader in ended[place] or (reader == place and _is_in_place(before, tensor)) for reader in before.readers)


def _is_in_place(before: Held, tensor: Held) -> bool:
    """Whether each element is made, once, of the one that lies in its place: of no neighbour, not transposed."""
    work, name = tensor.maker.work, before.maker.work.output.tensor
    uses = [use for use in work.inputs if use.tensor == name]
    return tensor.words == before.words and not work.reduced and all(
        use.dimensions == work.output.dimensions == before.maker.work.output.dimensions for use in uses)
