"""Einsums that are to share loops, and every reason in one line why they cannot: what is read must be complete.

Knows no room and no time (`placing`). mapping.md 1, "Legal".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from cascadesim.accelerators.mapping.nest import Epochs
from cascadesim.accelerators.mapping.problem import Dimension, MappingProblem, TensorUse, Work
from cascadesim.accelerators.mapping.runs import (
    ARRAY_2D,
    GLOBAL_BUFFER,
    BoundLoop,
    BoundRun,
    Space,
    bound_run,
    divides,
    executed,
    home,
    operations_of,
    parts,
    stationary,
)
from cascadesim.accelerators.mapping.tiling import inputs_of
from cascadesim.accelerators.spec import MADE_OF, SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError


class IllegalMapping(CascadeSimError):
    """A mapping that cannot run: says which Einsum, why, and what would be legal."""


class Kept(NamedTuple):
    """How an input is kept, or a result that leaves: loops outside its tile, whether there are two of it, loops outside
    a piece of the tile, 0 where it comes whole; `passes`: no tile is kept, each use is for itself."""

    depth: int
    double: bool
    piece: int = 0
    passes: bool = False


@dataclass(frozen=True)
class Draft:
    """A group to be bound. `members`: places of its Einsums; `after`: place -> number of the loop it comes after.

    `kept`: how inputs are kept, and results that leave. `own`: place -> loops of its own, inside the shared ones,
    outermost first: they are more loops outside what only that Einsum reads or makes, or only Einsums of the same one
    of `nests` (place -> number), which share them. `upstream`: input -> memories
    outside of the buffer that keep a tile of it, from DRAM inwards, with the loops outside that tile.
    """

    problem: MappingProblem
    spec: SpatialArray
    members: tuple[int, ...]
    loops: tuple[BoundLoop, ...]
    spaces: Mapping[int, Space]  # of each place
    after: Mapping[int, int]
    kept: Mapping[str, Kept]  # an input that is missing: as far in as it can be, twice where tiles overlap
    in_flight: int | None = 1  # None: a software pipeline
    own: Mapping[int, tuple[BoundLoop, ...]] = field(default_factory=dict)
    upstream: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    nests: Mapping[int, int] = field(default_factory=dict)
    epochs: Epochs | None = None  # of a software pipeline that the text gives

    @cached_property
    def axes(self) -> frozenset[str]:
        return frozenset(loop.axis for loop in self.loops)

    def work(self, member: int) -> Work:
        return self.problem.work[member]

    @cached_property
    def leaf(self) -> dict[str, int]:
        """The tile inside all loops, at its largest."""
        return self.problem.whole() | {loop.axis: min(loop.step, loop.outer) for loop in self.loops}

    @property
    def pairs_tiles(self) -> bool:
        """Whether a tile is finished with its last Einsum, on the unit of the first: the one after next waits there."""
        first, last = self.runs[0], self.runs[-1]
        return first.unit == last.unit and self.problem.needs[last.place] >= set(self.members[:-1])

    def readers(self, tensor: str) -> list[int]:
        return [member for member in self.members
                if any(operand.tensor == tensor for operand in self.work(member).inputs)]  # fmt: skip

    def own_loops(self, tensor: str) -> tuple[BoundLoop, ...]:
        """The loops in whose slices a tensor passes by: those of its only user, or of all of them together, down to the
        last along its axes."""
        if not self.own:
            return ()
        makers = [member for member in self.members if self.work(member).output.tensor == tensor]
        users = list(dict.fromkeys((*self.readers(tensor), *makers)))
        nests = {self.nests.get(user, 0) for user in users}
        own = self.own.get(users[0], ()) if len(users) == 1 or (len(nests) == 1 and 0 not in nests) else ()
        axes = frozenset().union(*(use.axes for user in users for use in (*self.work(user).inputs,
                                   self.work(user).output) if use.tensor == tensor))  # fmt: skip
        return own[: max((number for number, loop in enumerate(own, 1) if loop.axis in axes), default=0)]

    @cached_property
    def runs(self) -> tuple[BoundRun, ...]:
        return tuple(self._run(member) for member in self.members)

    def _run(self, member: int) -> BoundRun:
        """An Einsum in its space; the same value for as many drafts as have it, whatever their shared loops."""
        space, after, own = self.spaces[member], self.after.get(member), self.own.get(member, ())
        nest, known = self.nests.get(member, 0), self.problem.known
        key = member, id(space), id(self.spec), after, own, nest
        if key not in known:
            run = bound_run(self.spec, self.work(member), member, space, after, own, nest)
            known[key] = run, space, self.spec  # these live as long as their numbers are keys
        return known[key][0]  # type: ignore[no-any-return]

    def comes_back(self, tensor: str) -> bool:
        """Whether a tile of a result leaves before its sum is complete: it is kept inside a loop that it is over."""
        if tensor not in self.kept:
            return False
        makers = [member for member in self.members if self.work(member).output.tensor == tensor]
        if not makers:
            return False
        loops = (*self.loops, *self.own.get(makers[0], ()))[: self.kept[tensor].depth]
        return any(loop.axis in self.work(makers[0]).reduced and loop.most > 1 for loop in loops)

    def overlapped(self, in_flight: int | None) -> Draft:
        """The same with so many tiles open at once."""
        return self._alike(replace(self, in_flight=in_flight))

    def stepped(self, loops: tuple[BoundLoop, ...]) -> Draft:
        """The same with other steps of its shared loops."""
        return self._alike(replace(self, loops=loops))

    def _alike(self, other: Draft) -> Draft:
        other.__dict__["runs"] = self.runs  # they know no shared loop
        return other


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
    for tensor, (depth, *_, passes) in draft.kept.items():
        if not passes and (outside := outside_of_late(draft, tensor)) < depth <= len(draft.loops):
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


def illegal_memories(draft: Draft) -> Iterator[str]:
    """Every reason why tensors cannot be kept further out, in memories outside of the buffer."""
    known, uses = [each.name for each in draft.spec.memories], inputs_of(draft.problem, draft.members)
    for tensor, levels in draft.upstream.items():
        names = [memory for memory, _ in levels]
        if names != [name for name in known if name in names]:
            yield f"{tensor} is kept once in each memory on its way inwards: {', '.join(known)}; got {', '.join(names)}"
        inner = draft.kept[tensor].depth if tensor in draft.kept else len(draft.loops)
        for (memory, depth), within in zip(levels, [*(depth for _, depth in levels[1:]), inner], strict=True):
            between = draft.loops[depth:within]
            if depth > within:
                yield f"{tensor} is kept in {memory} further in than where it comes to from there"
            apart = [loop.part for loop in between if any(loop.axis in use.axes for use in uses[tensor])
                     and not divides(uses[tensor], loop.axis, draft.problem.extents[loop.axis])]  # fmt: skip
            if apart:
                yield (f"{tensor} comes to {memory} in tiles of {', '.join(apart)}, which have words in common: keep "
                       "it there inside of that loop")


def illegal_slices(draft: Draft) -> Iterator[str]:
    """Every reason why Einsums cannot have loops of their own, or tensors be kept inside of them."""
    passing = [tensor for tensor, kept in draft.kept.items() if kept.passes]
    for tensor, (depth, double, piece, _) in draft.kept.items():
        if piece and draft.own:
            yield f"{tensor} comes in pieces of a shared loop; where Einsums have loops of their own it comes whole"
        if depth > len(draft.loops) + len(draft.own_loops(tensor)) and tensor not in passing:
            yield (f"{tensor} cannot be kept inside a loop that only one Einsum has; its only reader must walk it "
                   f"there, in tiles of {tensor}")
        if draft.own and draft.in_flight == 2 and not double and _is_read_apart(draft, tensor):
            yield f"{tensor} is read by Einsums of two tiles at once; keep it 'double'"
        yield from _result(draft, tensor)
    for member, loops in draft.own.items():
        work, tile = draft.work(member), dict(draft.leaf)
        for own in loops:
            grain = max((walk.grain for walk in work.walks.get(own.axis, ())), default=1)
            extent = tile.get(own.axis, 0)
            if own.axis not in work.axes or own.axis in work.iterates or own.step >= extent or own.step % grain:
                yield (f"{work.name}: a loop of its own is over an axis that it walks, in at least two steps of a "
                       f"multiple of {grain}; {own.part} advances by {own.step} of {extent}")
            tile[own.axis] = own.step
    if draft.own or passing or any(draft.comes_back(tensor) for tensor in draft.kept):
        yield from _unsliced(draft, passing)


def _result(draft: Draft, tensor: str) -> Iterator[str]:
    """Why a result cannot be kept where a draft says."""
    makers = [member for member in draft.members if draft.work(member).output.tensor == tensor]
    if not makers:
        return
    if len(makers) > 1 or draft.readers(tensor) or draft.work(makers[0]).iterates or tensor in draft.problem.staying:
        yield f"{tensor} is read here, or carried on, and stays where that asks for it; leave the line out"
    elif draft.kept[tensor].double or draft.kept[tensor].piece or draft.kept[tensor].passes:
        yield f"{tensor} is made here, tile by tile: leave out what is said of the next tile"
    elif makers[0] in draft.after:
        yield f"{tensor} is made after {draft.loops[draft.after[makers[0]]].part}; leave the line out"
    elif (where := home(draft.spec, draft.spaces[makers[0]][0])) != GLOBAL_BUFFER:
        yield f"{tensor} is added up in {where} and stays there as its loops ask; leave the line out"


def _unsliced(draft: Draft, passing: Sequence[str]) -> Iterator[str]:
    """What does not go together with loops of single Einsums, words that pass by, sums that leave unfinished."""
    what = ("loops of single Einsums" if draft.own else f"words of {passing[0]} that pass by" if passing
            else "sums that leave unfinished")  # fmt: skip
    if draft.in_flight != 1 and (draft.after or any(draft.work(member).iterates for member in draft.members)):
        yield f"{what} and running values, or Einsums after a loop: one tile at a time then, 'overlap serial'"
    if any(run.fold is not None for run in draft.runs):
        yield f"{what} and folds that do not overlap do not go together"
    if draft.upstream:
        yield f"{what} and tiles in {next(iter(draft.upstream.values()))[0][0]} do not go together"
    if draft.problem.attended is not None and not draft.own:
        yield f"{what} and tiles that a mask leaves out do not go together"
    tiles = [tensor for tensor in draft.kept if draft.comes_back(tensor)]
    deep = [draft.work(member).name for member, own in draft.own.items() if len(own) > 1]
    if draft.in_flight != 1 and (passing or tiles or deep):
        why = (f"words of {passing[0]} pass by" if passing else f"sums of {tiles[0]} leave unfinished" if tiles
               else f"{deep[0]} has several loops of its own")  # fmt: skip
        yield f"{why}: one tile at a time then, 'overlap serial'"
    elif draft.in_flight not in (1, 2):
        yield "tiles of Einsums with loops of their own overlap two at a time: 'overlap interleave 2', or 'serial'"
    if draft.in_flight == 2 and not draft.pairs_tiles:
        yield ("tiles of Einsums with loops of their own overlap where the last Einsum needs all others, on the unit "
               "of the first")


def _is_read_apart(draft: Draft, tensor: str) -> bool:
    """Whether Einsums that read a tensor may work on different tiles: they are not all in one part of the group."""
    readers = set(draft.readers(tensor))
    return sum(any(run.place in readers for run in part) for part in parts(draft.runs)) > 1


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
    moving = [] if kept is None else [each.axis for each in space if each.axis not in kept]
    if moving:
        yield (f"{work.name}: what stays in the elements of {unit} has no {', '.join(moving)}; it is of "
               f"{', '.join(sorted(kept or ()))}")
    if kept is not None and len({each.over for each in space}) < len(space):
        yield f"{work.name}: {unit} works in folds, which have one rank over each dimension"


def _too_early(draft: Draft, reader: int, operand: TensorUse) -> Iterator[str]:
    """A sum is read when its loop has ended; a running value is read where its loop is shared, or after it."""
    later = draft.problem.producers.get(operand.tensor, -1)
    if later > reader and later not in draft.members:
        yield (f"{draft.work(reader).name} reads {operand.name} of an earlier step, which comes later: both must share "
               f"its loop")
    closed = draft.loops[draft.after[reader]].axis if reader in draft.after else None
    for member in draft.members:
        producer, name = draft.work(member), draft.work(reader).name
        if producer.output.tensor != draft.problem.stored(operand.tensor):
            continue
        carried = producer.iterates & draft.axes
        elsewhere = producer.output.axes - operand.axes - producer.iterates  # keys, of what was made query by query
        together = draft.nests.get(member, 0) == draft.nests.get(reader, 0) > 0
        around = {loop.axis for loop in draft.own[member]} if together else frozenset[str]()
        open_loops = ((producer.reduced | elsewhere) & (draft.axes | around)) - {closed}
        if operand.final and carried - {closed}:
            yield f"{name} reads {operand.name} after its last step, inside the loop over {', '.join(sorted(carried))}"
        elif not producer.iterates and open_loops and member != reader:
            yield f"{name} reads {operand.name} before its loop over {', '.join(sorted(open_loops))} has ended"
        elif reader in draft.after and member not in draft.after and closed not in producer.reduced | carried:
            yield f"{name} reads {operand.name} of a single tile after the loop over {closed}"
        elif member > reader and not (producer.iterates & draft.axes):
            yield f"{name} reads {operand.name}, which comes later"


def outputs_of(problem: MappingProblem, members: Sequence[int]) -> Iterator[TensorUse]:
    """What leaves a group: outputs of the cascade, and what a later group reads, as it reads it, unless it stays."""
    inside = set(members)
    for member in members:
        own = problem.work[member].output
        if own.tensor in problem.staying and own.tensor not in problem.outputs:
            continue
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


def outside_of_late(draft: Draft, tensor: str) -> int:
    """Loops outside those that all readers of a tensor come after: inside, it would come for tiles that do not run."""
    readers = draft.readers(tensor) if draft.after else ()
    closed = {draft.loops[draft.after[member]].axis for member in readers if member in draft.after}
    if len(closed) != 1 or not all(member in draft.after for member in readers):
        return len(draft.loops)
    return next(number for number, loop in enumerate(draft.loops) if loop.axis in closed)
