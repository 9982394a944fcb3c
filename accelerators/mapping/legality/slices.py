"""Why Einsums cannot have loops of their own, tensors be kept inside of those, words pass by, or sums leave unfinished.

mapping.md 1, "Legal".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cascadesim.accelerators.mapping.legality.draft import Draft
from cascadesim.accelerators.mapping.runs import parts


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


def _unsliced(draft: Draft, passing: Sequence[str]) -> Iterator[str]:
    """What does not go together with loops of single Einsums, words that pass by, sums that leave unfinished."""
    what = ("loops of single Einsums" if draft.own else f"words of {passing[0]} that pass by" if passing
            else "sums that leave unfinished")  # fmt: skip
    if draft.after or any(draft.work(member).iterates for member in draft.members):
        yield f"{what} and running values, or Einsums after a loop, do not go together"
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
