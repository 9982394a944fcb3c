"""Results that stay whole in the buffer between groups: which ones pay off.

A result that stays is written to the buffer where it is made and read from there; neither its store nor its loads pass
the DRAM channel. It takes its room in all groups from the one that makes it to the last that reads it, of all instances
at once, as one group runs all of them before the next one begins. Knows groups, no text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import (
    Draft,
    IllegalMapping,
    Kept,
    span_of,
    staying_words,
    why_not_staying,
)
from cascadesim.accelerators.mapping.mapper.costs import Cost, Objective, cost
from cascadesim.accelerators.mapping.placing import bind


def with_staying(groups: Sequence[BoundGroup], objective: Objective) -> tuple[BoundGroup, ...]:
    """The same groups, with results in the buffer between them where that fits and costs less.

    Those first that save most words; deterministic. Tiles are those that were found without.
    """
    found = tuple(groups)
    if len(found) < 2:
        return found
    problem = found[0].problem
    group_of = {run.place: number for number, group in enumerate(found) for run in group.runs}
    tensors = [tensor for tensor in problem.producers if why_not_staying(problem, group_of, tensor) is None]
    for tensor in sorted(tensors, key=lambda each: -_moved(found, each)):
        other = _staying_too(found, tensor, span_of(problem, group_of, tensor), staying_words(problem, tensor))
        if other is not None and _total(other, objective) < _total(found, objective):
            found = other
    return found


def _moved(groups: Sequence[BoundGroup], tensor: str) -> int:
    """Words of a tensor that groups load and store."""
    loaded = sum(group.filled(read) for group in groups for read in group.reads if read.tensor == tensor)
    return loaded + sum(group.stored(use) for group in groups for use in group.writes if use.tensor == tensor)


def _staying_too(
    groups: Sequence[BoundGroup], tensor: str, span: range, words: int
) -> tuple[BoundGroup, ...] | None:
    """The groups with one more tensor that stays; None where it does not fit beside their tiles."""
    found = list(groups)
    for number in span:
        group = found[number]
        if group.footprint_words + words - _own_room(group, tensor) > group.spec.buffer_words:
            return None
        try:
            found[number] = bind(_draft(group, {**group.problem.staying, tensor: words}))
        except IllegalMapping:
            return None
        if not found[number].fits:
            return None
    return tuple(found)


def _own_room(group: BoundGroup, tensor: str) -> int:
    """Words that tiles of a tensor take now, at most."""
    return sum(group.in_flight * group.room_words(each) for each in (*group.reads, *group.made)
               if each.tensor == tensor)  # fmt: skip


def _draft(group: BoundGroup, staying: Mapping[str, int]) -> Draft:
    """What a group was bound from, while other tensors stay."""
    kept = {read.tensor: Kept(read.depth, read.copies > 1, read.piece) for read in group.reads
            if read.tensor not in staying}  # fmt: skip
    return Draft(
        group.problem.with_staying(staying), group.spec, tuple(run.place for run in group.runs), group.loops,
        {run.place: (run.unit, run.space, run.time) for run in group.runs},
        {run.place: run.after for run in group.runs if run.after is not None}, kept, group.overlap,
        {run.place: run.own for run in group.runs if run.own is not None},
    )  # fmt: skip


def _total(groups: Sequence[BoundGroup], objective: Objective) -> Cost:
    costs = [cost(group, objective) for group in groups]
    return sum(first for first, _ in costs), sum(second for _, second in costs)
