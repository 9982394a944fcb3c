"""The lines of a mapping that keep something: tiles of inputs of a group, results between groups.

Names become tensors, memories and numbers of loops. mapping.md 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from cascadesim.accelerators.mapping.legality import IllegalMapping, Kept
from cascadesim.accelerators.mapping.nest import TOP, CascadeMapping, Fused, Keep
from cascadesim.accelerators.mapping.placing import with_spills
from cascadesim.accelerators.mapping.problem import MappingProblem, TensorUse
from cascadesim.accelerators.mapping.runs import GLOBAL_BUFFER, BoundLoop, divides
from cascadesim.accelerators.mapping.tiling import inputs_of
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import suggestion


def staying_results(
    mapping: CascadeMapping, problem: MappingProblem, spec: SpatialArray
) -> dict[str, tuple[str, range, int]]:  # fmt: skip
    """The memory of each tensor that stays between groups, the groups during which it is there, and its words."""
    places = {work.name: place for place, work in enumerate(problem.work)}
    group_of = {places[run.einsum]: number for number, fused in enumerate(mapping.groups) for run in fused.runs
                if run.einsum in places}  # fmt: skip
    found: dict[str, tuple[str, range, int]] = {}
    for stay in mapping.staying:
        where = f"{mapping.name}, line {stay.line}"
        if stay.memory not in memories(spec):
            raise IllegalMapping(f"{where}: no memory '{stay.memory}' to keep {stay.tensor} in"
                                 f"{suggestion(stay.memory, memories(spec))}")  # fmt: skip
        if stay.tensor not in places:
            raise IllegalMapping(f"{where}: no Einsum makes '{stay.tensor}'{suggestion(stay.tensor, places)}")
        reason = why_not_staying(problem, group_of, stay.tensor, stay.memory)
        if reason:
            raise IllegalMapping(f"{where}: {reason}")
        span = span_of(problem, group_of, stay.tensor)
        found[stay.tensor] = stay.memory, span, staying_words(problem, stay.tensor)
    return found


def why_not_staying(
    problem: MappingProblem, group_of: Mapping[int, int], tensor: str, memory: str = GLOBAL_BUFFER
) -> str | None:  # fmt: skip
    """Why a result cannot stay between groups; None where it can. `group_of`: place of an Einsum -> its group."""
    makers = [place for place, work in enumerate(problem.work) if work.output.tensor == tensor]
    if any(problem.work[place].iterates for place in makers):
        return f"{tensor} is a running value, which stays where its loop is shared"
    if len(span_of(problem, group_of, tensor)) < 2:
        return f"no later group reads {tensor}"
    if memory != GLOBAL_BUFFER and tensor in problem.outputs:
        return f"{tensor} is an output, which goes to DRAM"
    return None


def span_of(problem: MappingProblem, group_of: Mapping[int, int], tensor: str) -> range:
    """Groups from the one that makes a result to the last that reads it."""
    first = group_of.get(problem.producers[tensor], 0)
    last = max((group_of.get(place, first) for place in problem.readers.get(tensor, ())), default=first)
    return range(first, last + 1)


def staying_words(problem: MappingProblem, tensor: str) -> int:
    """Words of a result, of all instances."""
    return problem.instances * problem.work[problem.producers[tensor]].output.words(problem.whole())


def memories(spec: SpatialArray) -> list[str]:
    """Memories that a mapping may keep something in, from DRAM inwards."""
    return [*(each.name for each in spec.memories), GLOBAL_BUFFER]


class MisplacedLine(IllegalMapping):
    """What a line of a text says and cannot be; `line` is 0 as long as nobody knows which one."""

    def __init__(self, name: str, line: int, message: str) -> None:
        super().__init__(f"{name}, line {line}: {message}")
        self.name, self.line, self.reason = name, line, message


@dataclass(frozen=True)
class KeepLines:
    """Those of one group of a text."""

    fused: Fused
    problem: MappingProblem
    spec: SpatialArray
    name: str

    def error(self, message: str, line: int = 0) -> MisplacedLine:
        return MisplacedLine(self.name, line, message)

    @contextmanager
    def at(self, line: int) -> Iterator[None]:
        """What is wrong inside is so in this line, unless it is known to be in another one."""
        try:
            yield
        except MisplacedLine as error:
            if error.line:
                raise
            raise self.error(error.reason, line) from None

    def spilling(self) -> MappingProblem:
        """The problem where Einsums of the group read what it spills from DRAM, those of the nest that makes it apart.
        """
        places = {work.name: place for place, work in enumerate(self.problem.work)}
        members = tuple(sorted(places[run.einsum] for run in self.fused.runs if run.einsum in places))
        made = {self.problem.work[member].name: self.problem.work[member].output.tensor for member in members}
        nests = {places[run.einsum]: run.nest for run in self.fused.runs if run.nest and run.einsum in places}
        spilled: dict[str, list[int]] = {}
        for name in self.fused.spills:
            if name not in made:
                raise self.error(f"no Einsum '{name}' of this group to spill{suggestion(name, made)}")
            readers = set(self.problem.readers.get(made[name], ())) & set(members)
            if not readers:
                raise self.error(f"no Einsum of this group reads {name}, which goes to DRAM anyway; leave it out")
            apart = [place for place in sorted(readers) if places[name] not in nests
                     or nests.get(place) != nests[places[name]]]  # fmt: skip
            spilled[made[name]] = apart or sorted(readers)
        return with_spills(self.problem, spilled)

    def loop_number(self, name: str, loops: Sequence[BoundLoop]) -> int:
        found = [number for number, loop in enumerate(loops) if loop.part == name]
        if not found:
            raise self.error(f"no shared loop '{name}'{suggestion(name, [loop.part for loop in loops])}")
        return found[0]

    def piece(self, keep: Keep, depth: int, loops: Sequence[BoundLoop], uses: Sequence[TensorUse]) -> int:
        """Loops outside a piece of a tensor that comes piece by piece, 0 where it comes whole."""
        if keep.by is None:
            return 0
        number = self.loop_number(keep.by, loops)
        axes = {loop.axis for loop in loops[depth : number + 1]} & frozenset().union(*(use.axes for use in uses))
        if loops[number].axis not in axes or number < depth:
            raise self.error(f"{keep.tensor} comes in pieces of a loop inside {keep.at} along one of its ranks; "
                             f"{keep.by} is none")
        if not all(divides(uses, axis, self.problem.extents[axis]) for axis in axes):
            raise self.error(f"{keep.tensor} cannot come in pieces of {keep.by}: they have words in common")
        return number + 1

    def kept(
        self, members: tuple[int, ...], loops: Sequence[BoundLoop], own: Mapping[int, tuple[BoundLoop, ...]]
    ) -> Iterator[tuple[str, Kept]]:
        inputs, names = self.named_inputs(members)
        made = {self.problem.work[member].name: member for member in members}
        yield from ((names[tensor], Kept(len(loops), False, 0, passes=True)) for tensor in self.passing(names))
        once = set[tuple[str, str]]()
        for keep in self.fused.keeps:
            with self.at(keep.line):
                place = self.problem.sources.get(keep.tensor, keep.tensor), keep.memory
                if place in once:
                    raise self.error(f"{keep.tensor} is kept in {keep.memory} twice; it has one place there")
                once.add(place)
                if keep.memory not in memories(self.spec):
                    raise self.error(f"no memory '{keep.memory}' to keep tiles in"
                                     f"{suggestion(keep.memory, memories(self.spec))}")  # fmt: skip
                depth = self.depth_inside(keep, loops, own)
                if keep.tensor in names:
                    uses = inputs[names[keep.tensor]]
                    if keep.memory == GLOBAL_BUFFER:
                        yield names[keep.tensor], Kept(depth, keep.double, self.piece(keep, depth, loops, uses))
                elif keep.tensor in self.problem.staying:
                    raise self.error(f"{keep.tensor} stays in {GLOBAL_BUFFER} between groups; leave the line out")
                elif keep.tensor not in made:
                    raise self.error(f"no tensor '{keep.tensor}' in this group"
                                     f"{suggestion(keep.tensor, {*names, *made})}")  # fmt: skip
                elif keep.memory == GLOBAL_BUFFER and self.leaves(made[keep.tensor], members):
                    tensor = self.problem.work[made[keep.tensor]].output.tensor
                    yield tensor, Kept(depth, keep.double, self.piece(keep, depth, loops, ()) if keep.by else 0)

    def passing(self, names: Mapping[str, str]) -> Iterator[str]:
        """Inputs that pass by."""
        for tensor in self.fused.bypass:
            if tensor not in names:
                raise self.error(f"no tensor '{tensor}' comes from outside this group{suggestion(tensor, names)}")
            if tensor in {keep.tensor for keep in self.fused.keeps}:
                raise self.error(f"{tensor} passes by; 'bypass' and 'keep' do not go together")
            yield tensor

    def depth_inside(
        self, keep: Keep, loops: Sequence[BoundLoop], own: Mapping[int, tuple[BoundLoop, ...]]
    ) -> int:  # fmt: skip
        """Loops outside a tile: shared ones, and those of the Einsum alone that reads or makes the tensor."""
        parts = [[loop.part for loop in around] for place, around in own.items()
                 if keep.memory == GLOBAL_BUFFER and self.uses(place, keep.tensor)]  # fmt: skip
        found = [around.index(keep.at) for around in parts if keep.at in around]
        if not found and keep.at in {loop.part for around in own.values() for loop in around}:
            raise self.error(f"{keep.tensor} cannot be kept inside a loop that only another Einsum has")
        return len(loops) + found[0] + 1 if found else self.depth(keep, loops)

    def uses(self, place: int, name: str) -> bool:
        """Whether an Einsum makes or reads what goes by that name."""
        work, tensor = self.problem.work[place], self.problem.sources.get(name, name)
        makes = work.name == name and work.output.tensor not in self.problem.spilled.values()
        return makes or any(self.problem.stored(use.tensor) == tensor for use in work.inputs)

    def leaves(self, place: int, members: tuple[int, ...]) -> bool:
        """Whether a result only leaves the group: nothing in it reads it, nor goes on from it."""
        work = self.problem.work[place]
        readers = self.problem.readers.get(work.output.tensor, ())
        return not work.iterates and not set(readers) & set(members) and work.output.tensor not in self.problem.staying

    def named_inputs(self, members: tuple[int, ...]) -> tuple[Mapping[str, Sequence[TensorUse]], Mapping[str, str]]:
        """Inputs of the group with their uses; names of them, those of copies too."""
        inputs = inputs_of(self.problem, members)
        copies = {copy: source for copy, source in self.problem.sources.items() if source in inputs}
        return inputs, {**{self.problem.stored(tensor): tensor for tensor in inputs}, **copies}

    def depth(self, keep: Keep, loops: Sequence[BoundLoop]) -> int:
        return 0 if keep.at == TOP else self.loop_number(keep.at, loops) + 1

    def upstream(self, members: tuple[int, ...], loops: Sequence[BoundLoop]) -> dict[str, tuple[tuple[str, int], ...]]:
        """Input -> the memories outside of the buffer that keep a tile of it, from DRAM inwards, with loops outside."""
        _, names = self.named_inputs(members)
        found: dict[str, tuple[tuple[str, int], ...]] = {}
        for memory in (each.name for each in self.spec.memories):
            for keep in (keep for keep in self.fused.keeps if keep.memory == memory):
                with self.at(keep.line):
                    if keep.tensor not in names:
                        raise self.error(f"{keep.tensor} is made here; 'keep {keep.tensor} in {memory}', before the "
                                         f"first group, keeps it there for later ones")  # fmt: skip
                    if keep.double or keep.by is not None:
                        raise self.error(f"{keep.tensor} comes to {memory} as the buffer first needs it: leave out "
                                         f"'{'double' if keep.double else f'by {keep.by}'}'")  # fmt: skip
                    own = names[keep.tensor]
                    if self.problem.resting.get(own, ("", 0))[0] == memory:
                        raise self.error(f"{keep.tensor} stays in {memory} between groups; leave the line out")
                    found[own] = (*found.get(own, ()), (memory, self.depth(keep, loops)))
        return found
