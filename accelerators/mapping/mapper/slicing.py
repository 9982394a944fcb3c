"""The ways of giving contractions of a group loops of their own that a search looks at. Knows no cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cascadesim.accelerators.mapping.legality import Draft
from cascadesim.accelerators.mapping.mapper.candidates import contracts
from cascadesim.accelerators.mapping.runs import BoundLoop, dimension_size

SLICES = (16, 8, 4, 2, 1)  # times the side of the array; assumed: longer slices hold less of the rest of a tile


def in_slices(draft: Draft) -> Iterator[Draft]:
    """The same group with loops of their own for the contractions in it: what only one of them reads passes by.

    Along the longest axis that no loop is over, in slices as long as the sides that it lies along, or several times
    that.
    """
    if len(draft.members) < 2 or draft.after or any(draft.work(member).iterates for member in draft.members):
        return
    for times in SLICES:
        own, spaces = {}, dict(draft.spaces)
        for member in draft.members:
            loop = _own_loop(draft, member, times)
            if loop is None:
                continue
            unit, space, time = draft.spaces[member]
            over = tuple((axis, min(block, loop.step) if axis == loop.axis else block, size)
                         for axis, block, size in space)  # fmt: skip
            own[member], spaces[member] = loop, (unit, over, time)
        steps = {axis: {loop.step for loop in own.values() if loop.axis == axis} for axis in draft.leaf}
        if own and all(len(each) < 2 for each in steps.values()):
            yield replace(draft, own=own, spaces=spaces)


def _own_loop(draft: Draft, member: int, times: int) -> BoundLoop | None:
    """A loop of a contraction along the longest axis of what only it reads; None where it has none of two steps."""
    work, problem = draft.work(member), draft.problem
    if not contracts(work):
        return None
    lone = [operand for operand in work.inputs if operand.tensor not in {
        problem.work[other].output.tensor for other in draft.members} and draft.readers(operand.tensor) == [member]]
    axes = {axis for operand in lone for axis in operand.axes} - draft.axes - problem.chains.keys()
    axis = max(sorted(axes), key=lambda each: draft.leaf[each], default=None)
    if axis is None:
        return None
    sides = [dimension_size(draft.spec, dimension) for dimension in ("rows", "columns")]
    step = times * next((size for each, _, size in draft.spaces[member][1] if each == axis), max(sides))
    return BoundLoop(f"{axis}1", axis, step, draft.leaf[axis]) if step < draft.leaf[axis] else None
