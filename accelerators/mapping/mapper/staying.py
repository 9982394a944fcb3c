"""What stays where besides the tiles of a group: tiles further out in other memories, results between groups. And what
a group lets go to DRAM: what one of its passes over an axis makes for another.

A result that stays whole in the buffer is written there where it is made and read from there: neither its store nor its
loads pass the DRAM channel. In another memory it is stored there and loaded from there. It takes its room in all groups
from the one that makes it to the last that reads it, of all instances at once, as one group runs all of them before the
next one begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.keep_lines import span_of, staying_words, why_not_staying
from cascadesim.accelerators.mapping.legality import Draft, IllegalMapping, Kept
from cascadesim.accelerators.mapping.mapper.costs import ALIKE, Objective, cost, total
from cascadesim.accelerators.mapping.mapper.residency import SLICES, resident, widest
from cascadesim.accelerators.mapping.placing import bind, reasons, with_spills, without_spills
from cascadesim.accelerators.mapping.runs import ARRAY_2D, GLOBAL_BUFFER, BoundLoop, Resident, divides, layouts
from cascadesim.accelerators.spec import OnChipMemory


def in_memories(group: BoundGroup, objective: Objective) -> BoundGroup:
    """The group with tiles of its inputs in the memories outside of the buffer: those that fit together and move fewest
    words, as long as that costs no more than without.

    From the buffer outwards: each memory keeps what the next one asks for again.
    """
    if group.in_slices:
        return group
    for memory in reversed(group.spec.memories):
        before = cost(group, objective)[0] * ALIKE[objective]
        for depths in _kept_together(group, memory):
            reads = tuple(read._replace(upstream=((memory.name, depths[read.tensor]), *read.upstream))
                          if read.tensor in depths else read for read in group.reads)  # fmt: skip
            trial = replace(group, reads=reads)
            if cost(trial, objective)[0] <= before:
                group = trial
                break
    return group


def _kept_together(group: BoundGroup, memory: OnChipMemory) -> list[dict[str, int]]:
    """Tensors with the loops outside the tiles that a memory keeps, those first that move fewest words: of all choices
    that fit those that no other one beats in words and room."""
    room = group.spec.words_of(memory) - group.rooms[memory.name]
    front: list[tuple[int, int, dict[str, int]]] = [(0, 0, {})]  # words saved, negative; room; depths
    for tensor, way in group.hops.items():
        if way[0].source == memory.name:
            continue
        options = list(_tiles(group, way[0].kept))
        joined = [*front, *((saved + own_saved, taken + own_taken, {**depths, tensor: depth})
                            for saved, taken, depths in front for own_saved, own_taken, depth in options
                            if taken + own_taken <= room)]  # fmt: skip
        front, least = [], 1
        for each in sorted(joined, key=lambda each: (each[1], each[0])):
            if each[0] < least:
                front.append(each)
                least = each[0]
    return [depths for _, _, depths in reversed(front) if depths]


def _tiles(group: BoundGroup, inner: Resident) -> Iterator[tuple[int, int, int]]:
    """Tiles that a memory may keep of a tensor: words saved, negative; room; loops outside."""
    for depth in reversed(range(inner.depth)):
        loop, kept = group.loops[depth], inner._replace(depth=depth, piece=inner.piece or inner.depth)
        if loop.axis in inner.axes and not divides(inner.operands, loop.axis, group.problem.extents[loop.axis]):
            return
        saved = group.filled(kept) - group.filled(inner)
        if saved < 0:
            yield saved, group.room_upstream(kept), depth


def with_staying(groups: Sequence[BoundGroup], objective: Objective) -> tuple[BoundGroup, ...]:
    """The same groups, with results in the buffer, or in a memory outside of it, between them where that fits and costs
    less.

    Those first that save most words, as far inside as they fit; deterministic. Tiles are those that were found without.
    """
    found = tuple(groups)
    if len(found) < 2:
        return found
    problem, outer = without_spills(found[0].problem), [each.name for each in found[0].spec.memories]
    group_of = {run.place: number for number, group in enumerate(found) for run in group.runs}
    tensors = [tensor for tensor in problem.producers if why_not_staying(problem, group_of, tensor) is None]
    for tensor in sorted(tensors, key=lambda each: -_moved_words(found, each)):
        for memory in (GLOBAL_BUFFER, *reversed(outer)):
            if why_not_staying(problem, group_of, tensor, memory) is not None:
                continue
            other = _staying_too(found, tensor, memory, span_of(problem, group_of, tensor), objective)
            if other is not None and total(other, objective) < total(found, objective):
                found = other
                break
    return found


def pass_by_pass(drafts: Iterable[Draft]) -> Iterator[BoundGroup]:
    """Groups with a nest for each pass over an axis, in tiles as long as fit along their innermost loop: what goes from
    pass to pass along that axis has room for slices only, and goes by DRAM."""
    for draft in (draft for draft in drafts if draft.loops):
        *outer, last = draft.loops
        for nested in _in_passes(draft.stepped((*outer, last._replace(step=last.outer)))):
            own = nested.stepped((*outer, last._replace(step=max(1, widest(nested)))))
            found = resident(own) if next(reasons(own), None) is None else None
            if found is not None:
                yield found


def _in_passes(draft: Draft) -> Iterator[Draft]:
    """The group with its passes over the longest axis that it sums over and does not loop over, in slices of several
    lengths. A pass ends before an Einsum that reads a sum of it, or lacks the axis."""
    works = {member: draft.work(member) for member in draft.members}
    axes = frozenset().union(*(work.reduced for work in works.values())) - draft.axes - draft.problem.chains.keys()
    axis = max(sorted(axes), key=lambda each: draft.leaf[each], default=None)
    if axis is None or draft.after or any(work.iterates for work in works.values()):
        return
    passes: list[list[int]] = []
    closed: set[str] = set()
    for member, work in works.items():
        apart = not passes or axis not in works[passes[-1][-1]].axes
        if apart or axis not in work.axes or any(use.tensor in closed for use in work.inputs):
            passes.append([])
            closed = set()
        passes[-1].append(member)
        closed |= {work.output.tensor} if axis in work.reduced else set()
    spills = dict(_between(draft, passes, axis))
    side = max(each.size for each in layouts(draft.spec, ARRAY_2D)[0])
    for step in (times * side for times in SLICES if spills and times * side < draft.leaf[axis]):
        loop = BoundLoop(f"{axis}1", axis, step, draft.leaf[axis])
        own = {member: (loop,) for member, work in works.items() if axis in work.axes}
        nests = {member: number for number, each in enumerate(passes, 1) for member in each if len(each) > 1}
        yield replace(draft, problem=with_spills(draft.problem, spills), own=own, nests=nests)


def _between(draft: Draft, passes: Sequence[Sequence[int]], axis: str) -> Iterator[tuple[str, list[int]]]:
    """Results along an axis that later passes read, with the Einsums that do."""
    for each in passes:
        for member in (member for member in each if axis in draft.work(member).output.axes):
            tensor = draft.work(member).output.tensor
            readers = [reader for reader in draft.readers(tensor) if reader not in each]
            if readers:
                yield tensor, readers


def _moved_words(groups: Sequence[BoundGroup], tensor: str) -> int:
    """Words of a tensor that groups load and store."""
    loaded = sum(group.filled(read) for group in groups for read in group.reads if read.tensor == tensor)
    return loaded + sum(group.stored(use) for group in groups for use in group.writes if use.tensor == tensor)


def _staying_too(
    groups: Sequence[BoundGroup], tensor: str, memory: str, span: range, objective: Objective
) -> tuple[BoundGroup, ...] | None:  # fmt: skip
    """The groups with one more tensor that stays in a memory; None where it does not fit beside their tiles."""
    found, words = list(groups), staying_words(groups[0].problem, tensor)
    for number in span:
        group = found[number]
        needed = group.footprint_words + words - _own_room(group, tensor)
        if memory == GLOBAL_BUFFER and needed > group.spec.buffer_words:
            return None
        try:
            found[number] = bind(_redrafted(group, tensor, memory, words))
        except IllegalMapping:
            return None
        if not found[number].fits:
            return None
        if memory != GLOBAL_BUFFER:
            found[number] = in_memories(found[number], objective)
    return tuple(found)


def _own_room(group: BoundGroup, tensor: str) -> int:
    """Words that tiles of a tensor take now, at most."""
    return sum(group.in_flight * group.room_words(each) for each in (*group.reads, *group.made)
               if each.tensor == tensor)  # fmt: skip


def _redrafted(group: BoundGroup, tensor: str, memory: str, words: int) -> Draft:
    """What a group was bound from, while one more tensor stays; of other memories than the buffer nothing else is kept
    in tiles."""
    staying, resting = dict(group.problem.staying), dict(group.problem.resting)
    if memory == GLOBAL_BUFFER:
        staying[tensor] = words
    else:
        resting[tensor] = memory, words
    kept = {read.tensor: Kept(read.depth, read.copies > 1, read.piece, not read.where) for read in group.reads
            if read.tensor not in staying}  # fmt: skip
    kept |= {made.tensor: Kept(made.depth, False) for made in group.made if made.kept and made.tensor not in staying}
    upstream = {read.tensor: read.upstream for read in group.reads
                if read.upstream and read.tensor not in staying and memory == GLOBAL_BUFFER}  # fmt: skip
    return Draft(
        group.problem.with_staying(staying, resting), group.spec, tuple(run.place for run in group.runs), group.loops,
        {run.place: (run.unit, run.space, run.time) for run in group.runs},
        {run.place: run.after for run in group.runs if run.after is not None}, kept, group.overlap,
        {run.place: run.own for run in group.runs if run.own}, upstream,
        {run.place: run.nest for run in group.runs if run.nest},
    )  # fmt: skip
