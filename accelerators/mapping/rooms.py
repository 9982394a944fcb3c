"""Room that a group of fused Einsums takes beside the arrays: what is alive at once.

What a tile makes and uses up takes turns; where Einsums have loops of their own, so does what only one of them reads.
mapping.md 1 and 8.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from cascadesim.accelerators.mapping.runs import GLOBAL_BUFFER, BoundRun, Resident, parts
from cascadesim.accelerators.mapping.tiling import TiledGroup


@dataclass(frozen=True, repr=False)
class RoomyGroup(TiledGroup):
    """A group with sizes, and the room that it takes."""

    @cached_property
    def footprint_words(self) -> int:
        """Room that the group takes in the buffer."""
        return self.room_in(GLOBAL_BUFFER)

    def room_in(self, memory: str) -> int:
        """Room in the buffer, or in accumulators; what the group makes and uses up in a tile takes turns there.

        Tiles of what stays whole are made in their place. Where Einsums take a tile slice by slice, one tile after
        another, that of the fullest part of a tile.
        """
        innermost, staying = len(self.loops), self.problem.staying
        leaving = {operand.tensor for operand in self.writes}
        kept = [each for each in (*self.reads, *(made for made in self.made if made.depth < innermost
                                                 and made.tensor not in staying)) if each.where == memory]  # fmt: skip
        turns = [(made, Held(self.kept_words(made), run, self.problem.readers.get(made.tensor, ()),
                             made.tensor in leaving))
                 for made, run in zip(self.made, self.runs, strict=True)
                 if made.where == memory and made.depth >= innermost and made.tensor not in staying]  # fmt: skip
        stays = sum(staying.values()) if memory == GLOBAL_BUFFER else 0
        if not (self.in_slices and self.in_flight == 1):
            whole = sum(map(self.room_words, kept))
            return stays + whole + (self.in_flight * most_room([held for _, held in turns], self.ended) if turns else 0)
        return stays + max(
            sum(self.room_words(each) for each in kept if self.is_there(each, number))
            + most_room([held for made, held in turns if self.is_there(made, number)], self.ended)
            for number in range(len(self.parts)))  # fmt: skip

    @cached_property
    def parts(self) -> Sequence[tuple[BoundRun, ...]]:
        """Einsums that work on one tile after another."""
        return parts(self.runs)

    def is_there(self, resident: Resident, number: int) -> bool:
        """Whether a tensor has its room during a part of a tile: what each tile moves anew from the first part that
        makes or reads it to the last one; what stays from tile to tile always."""
        users = [place for place, part in enumerate(self.parts) for run in part
                 if run.work.output.tensor == resident.tensor
                 or any(use.tensor == resident.tensor for use in run.work.inputs)]  # fmt: skip
        return not self.is_moved(resident) or users[0] <= number <= users[-1]

    def is_moved(self, resident: Resident) -> bool:
        """Whether each tile brings or makes another one of what is kept of a tensor."""
        looping = [place for place, loop in enumerate(self.loops) if loop.most > 1]
        made = any(run.work.output.tensor == resident.tensor for run in self.runs) and not resident.evicted
        if resident.depth > len(self.loops) or not looping or (made and resident.depth == len(self.loops)):
            return True
        return resident.depth > looping[-1] and self.loops[looping[-1]].axis in resident.axes

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
