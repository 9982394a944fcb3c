"""Binds Einsums that share loops, or says in one line why they cannot: what is read must be complete, and must fit.

What the group makes is placed by rules: a sum or a running value outside the loop that it is carried over, in the
buffer; what is made and used up in one tile goes straight to its only reader on the same unit, else into registers,
else into the buffer. mapping.md 1, "Legal". FuseMax (MICRO'24), section V, keeps the same tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cascadesim.accelerators.binding import MADE_OF
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.pipeline import fewest, stages
from cascadesim.accelerators.mapping.problem import Dimension, MappingProblem, TensorUse, Work
from cascadesim.accelerators.mapping.runs import (
    ARRAY_1D,
    ARRAY_2D,
    GLOBAL_BUFFER,
    BoundLoop,
    BoundRun,
    Resident,
    bound_run,
    executed,
    operations_of,
    stationary,
)
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

Spaces = Mapping[int, tuple[str, tuple[tuple[str, int, int], ...], tuple[str, ...]]]  # place -> unit, space, time


class IllegalMapping(CascadeSimError):
    """A mapping that cannot run: says which Einsum, why, and what would be legal."""


@dataclass(frozen=True)
class Draft:
    """A group to be bound. `members`: places of its Einsums; `after`: place -> number of the loop it comes after.

    `kept`: input -> (loops outside its tile, whether there are two of it).
    """

    problem: MappingProblem
    spec: SpatialArray
    members: tuple[int, ...]
    loops: tuple[BoundLoop, ...]
    spaces: Spaces
    after: Mapping[int, int]
    kept: Mapping[str, tuple[int, bool]]  # an input that is missing: as far in as it can be, twice where tiles overlap
    in_flight: int | None = 1  # None: a software pipeline

    @property
    def axes(self) -> frozenset[str]:
        return frozenset(loop.axis for loop in self.loops)

    def work(self, member: int) -> Work:
        return self.problem.work[member]

    @cached_property
    def runs(self) -> tuple[BoundRun, ...]:
        return tuple(_run(self, member) for member in self.members)

    def overlapped(self, in_flight: int | None) -> Draft:
        """The same with so many tiles open at once."""
        other = replace(self, in_flight=in_flight)
        other.__dict__["runs"] = self.runs  # they are the same
        return other


def bind(draft: Draft) -> BoundGroup:
    """Raises IllegalMapping with the first reason."""
    for reason in (*illegal(draft), *illegal_steps(draft)):
        raise IllegalMapping(f"{draft.problem.cascade.name}: {reason}")
    return bound(draft)


def bound(draft: Draft) -> BoundGroup:
    """Bind what is known to be legal."""
    if draft.in_flight is None:
        return _pipelined(draft)
    problem, made = draft.problem, _made(draft)
    inputs, writes = _outside(problem, draft.members)
    reads = tuple(_read(draft, tensor, operands) for tensor, operands in inputs.items())
    group = BoundGroup(problem, draft.spec, draft.loops, draft.runs, reads, made, writes, draft.in_flight or 1)
    return replace(group, made=tuple(_with_registers(group)))


def _pipelined(draft: Draft) -> BoundGroup:
    """Bind with as many tiles open as the pipeline has epochs; loaded tiles in as many copies as its epochs ask for.

    Where a running value would come too late tiles are taken as they come, two at a time.
    """
    group = bound(draft.overlapped(2))
    found = stages(group)
    if found is None:
        return group
    staged = replace(bound(draft.overlapped(max(found.values()) + 1)), stages=found)
    reads = tuple(replace(read, copies=input_copies(staged, read.depth)) for read in staged.reads)
    return replace(staged, reads=reads).like(group)


def input_copies(group: BoundGroup, depth: int) -> int:
    """Tiles of an input that are in the buffer at once: the next one where tiles overlap, more in a long pipeline."""
    outside = any(loop.most > 1 for loop in group.loops[:depth])
    if group.stages is None:
        return 2 if group.in_flight > 1 and outside else 1
    if not outside and group.problem.instances == 1:
        return 1
    return 1 + -(-group.in_flight // fewest(group, depth))


def does_not_fit(group: BoundGroup) -> str | None:
    """Say that the tiles do not fit the buffer, where they do not, and what would make the largest one smaller."""
    needed, room = group.footprint_words, group.spec.buffer_words
    if needed <= room:
        return None
    word = group.spec.word_bytes
    names = " ... ".join(dict.fromkeys(group.runs[place].work.name for place in (0, -1)))
    return (f"tiles of {names} take {needed * word:,} bytes of global_buffer, which has {room * word:,}; "
            f"{_smaller(group)}")


def _smaller(group: BoundGroup) -> str:
    """The tensor that takes most of the buffer, its tile, and which lines of a mapping would make it smaller."""
    kept = (each for each in (*group.reads, *group.made) if each.where == GLOBAL_BUFFER)
    most = max(kept, key=lambda each: each.copies * each.words(group.tile(each.depth)))
    sides = {axis: size for axis, size in group.tile(most.depth).items() if axis in most.axes and size > 1}
    outside, taken = group.loops[: most.depth], most.copies * most.words(group.tile(most.depth))
    ways = [f"keep it at {loop.part}" for depth, loop in enumerate(group.loops, 1) if depth > most.depth
            and most in group.reads and input_copies(group, depth) * most.words(group.tile(depth)) < taken][-1:]
    ways += [f"smaller steps of {loop.part}" for loop in outside if loop.step == sides.get(loop.axis)]
    around = f" around {group.loops[most.depth].part}" if most.depth < len(group.loops) else ""
    ways += [f"loop over {axis}{around}" for axis in sides if axis not in {loop.axis for loop in outside}]
    ways += ["one tile at a time"] * (most.copies > 1)
    tile = " x ".join(f"{size:,} {axis}" for axis, size in sides.items())
    return f"most for {most.tensor}, {most.copies} of {tile}: {', '.join(ways) or 'nothing makes that smaller'}"


def illegal(draft: Draft) -> Iterator[str]:
    """Every reason why the Einsums cannot share these loops."""
    problem, inside = draft.problem, set(draft.members)
    for member in draft.members:
        work = draft.work(member)
        closed = {draft.loops[draft.after[member]].axis} if member in draft.after else set()
        lacking = draft.axes - closed - work.axes
        if lacking:
            yield f"{work.name} does not walk {', '.join(sorted(lacking))}, so it cannot be in that loop"
        if closed & work.axes:
            yield f"{work.name} walks {', '.join(sorted(closed))}, so it cannot come after that loop"
        yield from _units(draft, member)
        yield from (reason for operand in work.inputs for reason in _too_early(draft, member, operand))
        cyclic = problem.cycles[member]
        if len(cyclic) > 1 and not cyclic <= inside:
            missing = ", ".join(problem.work[other].name for other in sorted(cyclic - inside))
            yield f"{work.name} needs earlier values of {missing}, which must share its loops"
        if len(cyclic) > 1 and not any(problem.work[other].iterates & draft.axes for other in cyclic):
            yield f"{work.name} runs step by step along a loop that its group must share"


def illegal_steps(draft: Draft) -> Iterator[str]:
    """Steps of loops that tiles of the text, or running values, do not allow."""
    leaf = draft.problem.whole() | {loop.axis: loop.step for loop in draft.loops}
    for tensor, (depth, _) in draft.kept.items():
        if depth > (outside := _outside_of_late(draft, tensor)):
            yield f"{tensor} is read after {draft.loops[outside].part} alone; keep it outside of that loop"
    for member in draft.members:
        work = draft.work(member)
        for axis in sorted(work.iterates & draft.axes):
            if min(walk.points(leaf[axis]) for walk in work.walks[axis] if walk.grain == _grain(work, axis)) > 1:
                yield (f"{work.name} goes step by step along {axis}; its loop advances by {leaf[axis]}, where one step "
                       f"is {_grain(work, axis)}")
    for loop in draft.loops:
        grain = max((walk.grain for member in draft.members for walk in draft.work(member).walks.get(loop.axis, ())),
                    default=1)  # fmt: skip
        if loop.step % grain and loop.step < draft.problem.extents[loop.axis]:
            yield (f"{loop.part} advances by {loop.step}, no multiple of the {grain} elements that the text makes a "
                   f"tile")


def _grain(work: Work, axis: str) -> int:
    return max(walk.grain for walk in work.walks[axis])


def _units(draft: Draft, member: int) -> Iterator[str]:
    work, (unit, space, _) = draft.work(member), draft.spaces[member]
    can = operations_of(draft.spec, unit)
    if executed(can, work) is None:
        lacking = [name for name in work.operations if name not in can.cycles and (
            name not in MADE_OF or any(part not in can.cycles for part in MADE_OF[name]))]  # fmt: skip
        field = "pe_array" if unit == ARRAY_2D else "vector_array"
        yield (f"{work.name}: {unit} has no {', '.join(lacking)}; it has {', '.join(can.cycles)} "
               f"(--set {field}.operations.{lacking[0]}=CYCLES adds it)")
    kept = stationary(draft.spec, unit, work)
    moving = [] if kept is None else [axis for axis, _, _ in space if axis not in kept]
    if moving:
        yield (f"{work.name}: what stays in the elements of {unit} has no {', '.join(moving)}; it is of "
               f"{', '.join(sorted(kept or ()))}")


def _too_early(draft: Draft, reader: int, operand: TensorUse) -> Iterator[str]:
    """A sum is read when its loop has ended; a running value is read where its loop is shared, or after it."""
    later = draft.problem.producers.get(operand.tensor, -1)
    if later > reader and later not in draft.members:
        yield (f"{draft.work(reader).name} reads {operand.name} of an earlier step, which comes later: both must share "
               f"its loop")
    closed = draft.loops[draft.after[reader]].axis if reader in draft.after else None
    for member in draft.members:
        producer, name = draft.work(member), draft.work(reader).name
        if producer.output.tensor != operand.tensor:
            continue
        carried = producer.iterates & draft.axes
        elsewhere = producer.output.axes - operand.axes - producer.iterates  # keys, of what was made query by query
        open_loops = ((producer.reduced | elsewhere) & draft.axes) - {closed}
        if operand.final and carried - {closed}:
            yield f"{name} reads {operand.name} after its last step, inside the loop over {', '.join(sorted(carried))}"
        elif not producer.iterates and open_loops and member != reader:
            yield f"{name} reads {operand.name} before its loop over {', '.join(sorted(open_loops))} has ended"
        elif reader in draft.after and member not in draft.after and closed not in producer.reduced | carried:
            yield f"{name} reads {operand.name} of a single tile after the loop over {closed}"
        elif member > reader and not (producer.iterates & draft.axes):
            yield f"{name} reads {operand.name}, which comes later"


def _outside(
    problem: MappingProblem, members: tuple[int, ...]
) -> tuple[Mapping[str, tuple[TensorUse, ...]], tuple[TensorUse, ...]]:
    """What comes from outside and what leaves; many groups of the same Einsums are bound."""
    if members not in problem.outside:
        problem.outside[members] = inputs_of(problem, members), tuple(outputs_of(problem, members))
    return problem.outside[members]


def inputs_of(problem: MappingProblem, members: Sequence[int]) -> dict[str, tuple[TensorUse, ...]]:
    """Tensors that a group reads from outside, with the ways in which it uses them."""
    own = {problem.work[member].output.tensor for member in members}
    found: dict[str, dict[TensorUse, None]] = {}
    for member in members:
        for operand in problem.work[member].inputs:
            if operand.tensor not in own:
                found.setdefault(operand.tensor, {})[operand] = None
    return {tensor: tuple(operands) for tensor, operands in found.items()}


def outputs_of(problem: MappingProblem, members: Sequence[int]) -> Iterator[TensorUse]:
    """What leaves a group: outputs of the cascade, and what a later group reads, as it reads it."""
    inside = set(members)
    for member in members:
        own = problem.work[member].output
        uses = [operand for place in problem.readers.get(own.tensor, ()) if place not in inside
                for operand in problem.work[place].inputs if operand.tensor == own.tensor]  # fmt: skip
        if uses and all(operand.final for operand in uses):
            yield uses[0]
        elif uses:
            yield own
        elif own.tensor in problem.outputs:
            copied = [source for source in problem.sources.values() if source == own.tensor]
            yield replace(own, dimensions=_without(own, problem.work[member].iterates)) if copied else own


def _without(operand: TensorUse, axes: frozenset[str]) -> tuple[Dimension, ...]:
    return tuple(dimension for dimension in operand.dimensions if not axes & set(dimension.axes))


def _run(draft: Draft, member: int) -> BoundRun:
    return bound_run(draft.spec, draft.work(member), member, draft.spaces[member], draft.after.get(member))


def _read(draft: Draft, tensor: str, operands: tuple[TensorUse, ...]) -> Resident:
    axes = frozenset(axis for operand in operands for axis in operand.axes)
    relevant = [number for number, loop in enumerate(draft.loops) if loop.axis in axes]
    innermost = min(relevant[-1] + 1 if relevant else 0, _outside_of_late(draft, tensor))
    depth, double = draft.kept.get(tensor, (innermost, draft.in_flight != 1))
    return Resident(tensor, operands, depth, 2 if double else 1, GLOBAL_BUFFER)


def _outside_of_late(draft: Draft, tensor: str) -> int:
    """Loops outside those that all readers of a tensor come after: inside, it would come for tiles that do not run."""
    readers = [member for member in draft.members
               if any(operand.tensor == tensor for operand in draft.work(member).inputs)]  # fmt: skip
    closed = {draft.loops[draft.after[member]].axis for member in readers if member in draft.after}
    if len(closed) != 1 or not all(member in draft.after for member in readers):
        return len(draft.loops)
    return next(number for number, loop in enumerate(draft.loops) if loop.axis in closed)


def _made(draft: Draft) -> tuple[Resident, ...]:
    found = []
    for member in draft.members:
        work = draft.work(member)
        carried = [number for number, loop in enumerate(draft.loops)
                   if loop.axis in work.reduced | work.iterates]
        depth = carried[0] if carried else len(draft.loops)
        state = work.iterates & draft.axes
        outside = any(loop.most > 1 for loop in draft.loops[:depth])
        copies = (2 if draft.in_flight != 1 and outside else 1) if carried else draft.in_flight or 1
        where = GLOBAL_BUFFER if carried else ""
        found.append(Resident(work.output.tensor, (work.output,), depth, copies, where, state))
    return tuple(found)


def _with_registers(group: BoundGroup) -> Iterator[Resident]:
    """Place what is made and used up in one tile: in the registers of its unit as long as they have room."""
    spec = group.spec
    room = {ARRAY_2D: spec.pe_array.register_words_per_pe * spec.pe_array.elements,
            ARRAY_1D: spec.vector_array.register_words_per_lane * spec.vector_array.lanes}  # fmt: skip
    lives: dict[str, list[tuple[int, int, int]]] = {ARRAY_2D: [], ARRAY_1D: []}
    for place, (resident, producer) in enumerate(zip(group.made, group.runs, strict=True)):
        readers = [number for number, run in enumerate(group.runs)
                   if any(operand.tensor == resident.tensor for operand in run.work.inputs)]  # fmt: skip
        if resident.where or not readers or (len(readers) == 1 and group.runs[readers[0]].unit == producer.unit):
            yield resident  # elsewhere already, or straight to its only reader
            continue
        lives[producer.unit].append((place, readers[-1], resident.words(group.leaf)))
        fits = _most_alive(lives[producer.unit]) * group.in_flight <= room[producer.unit]
        if not fits:
            lives[producer.unit].pop()
        yield replace(resident, where="registers" if fits else GLOBAL_BUFFER)


def _most_alive(lives: Sequence[tuple[int, int, int]]) -> int:
    """Words alive at once in a tile; what is read for the last time is overwritten in place."""
    times = {begin for begin, _, _ in lives}
    return max(sum(words for begin, end, words in lives if begin <= time < end) for time in times)
