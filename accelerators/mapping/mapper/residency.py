"""How far tiles of a group overlap and how far outside its inputs are kept: as far as it helps and the buffer goes.

And which of its contractions get loops of their own, where not even one tile fits.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from math import inf, prod

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.legality import (
    Draft,
    Kept,
    outside_of_late,
)
from cascadesim.accelerators.mapping.mapper.bounds import least_of_tiles, least_room
from cascadesim.accelerators.mapping.mapper.candidates import MANY_EINSUMS, Neighbours, contracts
from cascadesim.accelerators.mapping.mapper.costs import (
    NO_LIMIT,
    Cost,
    Objective,
    cost,
    first_cycles,
    least_of,
)
from cascadesim.accelerators.mapping.placing import (
    OVERLAPS,
    bound,
    input_copies,
    outside,
    pieces_ahead,
)
from cascadesim.accelerators.mapping.runs import (
    ARRAY_2D,
    BoundLoop,
    Resident,
    divides,
    layouts,
)

SLICES = (16, 8, 4, 2, 1)  # times the side of the array; assumed: longer slices hold less of the rest of a tile
MOST_BETWEEN = 8  # assumed: longest first, and the longest one that fits moves fewest words


def residents(
    neighbours: Neighbours, draft: Draft, objective: Objective = "latency", least: Cost = NO_LIMIT
) -> Iterator[BoundGroup]:
    """The group with tiles overlapped; where that does not fit, with what one Einsum alone reads passing in slices.

    Also with one tile at a time, which leaves more room for what moves: for latency where the channel is the slow one;
    for words, where even so more move than `least` and two tiles fit, nothing else does better.
    """
    single = bound(draft.overlapped(1)) if least_room(draft, draft.leaf) <= draft.spec.buffer_words else None
    fits = single is not None and single.fits
    if objective != "latency" and fits:
        alone = list(_alone(draft))
        yield from alone
        fewest = min((least_of(group, objective) for group in alone), default=0.0)
        if objective == "dram" and fewest > least[0] and bound(draft.overlapped(2)).fits:
            return
    hopeless = objective == "latency" and fits and single is not None and _moves_too_much(single, least)
    if hopeless and bound(draft.overlapped(2)).fits:
        return
    fits = fits and not hopeless
    group = resident(draft, objective, least) if fits else None
    if group is not None and (objective == "latency" or group.overlap != 1):
        yield group
    if objective == "latency" and fits and (group is None or (waits_for_dram(group) and comes_again(group))):
        yield from _alone(draft)
    many = len(draft.problem.work) >= MANY_EINSUMS
    if many or not neighbours.slices or (group is not None and group.in_flight > 1):
        return
    for number, each in enumerate(in_slices(draft)):
        sliced = resident(each, objective, least)
        if sliced is not None:
            yield sliced
        if sliced is None or sliced.in_flight == 1:
            shorter = neighbours.narrowed(draft, widest(each)) if draft.loops else ()
            same = (other for narrow in shorter for other in islice(in_slices(narrow), number, number + 1))
            yield from (found for other in same if (found := resident(other, objective, least)) is not None)


def _moves_too_much(alone: BoundGroup, least: Cost) -> bool:
    """Whether the channel is busy for so long even where one tile at a time leaves all of the buffer for inputs."""
    return alone.dram_cycles >= least[0] and alone.fits and _further_out(alone).dram_cycles >= least[0]


def shorter(neighbours: Neighbours, draft: Draft, least: Cost) -> Iterator[BoundGroup]:
    """The group with as long a step of its innermost loop as lets two tiles fit, where two of its own do not."""
    shortest = neighbours.shortest(draft)
    if shortest is None or least_room(draft, shortest) > draft.spec.buffer_words:
        return
    if bound(draft.overlapped(2)).fits:
        return
    for narrow in neighbours.narrowed(draft, widest(draft)):
        if least_of_tiles(narrow, narrow.leaf) >= least[0] or _moves_too_much(bound(narrow.overlapped(1)), least):
            continue
        group = resident(narrow, limit=least)
        if group is not None:
            yield group


def between(draft: Draft) -> Iterator[BoundGroup]:
    """The group with other steps of the outer one of two loops over its innermost axis: up to twice as long, balanced.

    Longer steps of powers of two may not fit where these do, and move fewer words.
    """
    number = next((number for number, loop in enumerate(draft.loops) if loop.axis == draft.loops[-1].axis), 0)
    if number >= len(draft.loops) - 1:
        return
    outer, leaf = draft.loops[number], draft.loops[-1]
    tiles, now = -(-outer.outer // leaf.step), outer.step // leaf.step
    times = {-(-tiles // rounds) for rounds in range(max(1, -(-tiles // (2 * now))), -(-tiles // now) + 1)}
    for longer in islice(sorted((each for each in times if now < each < 2 * now), reverse=True), MOST_BETWEEN):
        group = resident(draft.stepped(_stepped(draft.loops, number, longer)))
        if group is not None:
            yield group


def _alone(draft: Draft) -> Iterator[BoundGroup]:
    """One tile at a time, with inputs as far out as they fit."""
    group = bound(draft.overlapped(1))
    if group.fits:
        yield _further_out(group)
        yield from map(_further_out, _wider(draft))


def _wider(draft: Draft) -> Iterator[BoundGroup]:
    """One tile at a time, with the longest step of the outer loop over its innermost axis: with inputs along that axis
    as far in as they can be, and with them kept inside of that loop."""
    number = next((number for number, loop in enumerate(draft.loops) if loop.axis == draft.loops[-1].axis), 0)
    if number >= len(draft.loops) - 1:
        return
    outer, leaf = draft.loops[number], draft.loops[-1]
    inputs, _ = outside(draft.problem, draft.members)
    along = {tensor: Kept(min(number + 1, outside_of_late(draft, tensor)), False) for tensor, operands in inputs.items()
             if any(outer.axis in operand.axes for operand in operands)}  # fmt: skip
    now = outer.step // leaf.step

    def stepped(times: int, kept: Mapping[str, Kept]) -> BoundGroup:
        return bound(replace(draft.stepped(_stepped(draft.loops, number, times)), kept=kept, in_flight=1))

    def too_long(kept: Mapping[str, Kept], times: int) -> bool:
        return not stepped(times, kept).fits

    for kept in ({}, along):
        if not too_long(kept, now) and too_long(kept, 2 * now):
            fitting = bisect(range(now + 1, 2 * now), False, key=partial(too_long, kept))
            if fitting:
                yield stepped(now + fitting, kept)


def _stepped(loops: tuple[BoundLoop, ...], number: int, times: int) -> tuple[BoundLoop, ...]:
    """The loops with the outer one over the innermost axis in steps of so many tiles."""
    step = times * loops[-1].step
    return (*loops[:number], loops[number]._replace(step=step), *loops[number + 1:-1], loops[-1]._replace(outer=step))


def widest(draft: Draft) -> int:
    """The longest step of its innermost loop with which two tiles fit, 0 where none does.

    What is kept grows with the step by nearly as much for each element: guesses lie where a straight line says.
    """

    def taken(step: int) -> float:
        loops = (*draft.loops[:-1], draft.loops[-1]._replace(step=step))
        return bound(draft.stepped(loops).overlapped(2)).taken

    low, high = 1, draft.loops[-1].step
    least = taken(low)
    if least > 1:
        return 0
    most = taken(high)
    if most <= 1:
        return high
    while high - low > 1:
        guess = low + int((high - low) * (1 - least) / (most - least))
        middle = min(max(guess, low + 1), high - 1)
        own = taken(middle)
        if own <= 1:
            low, least = middle, own
            if high - low > 1 and (above := taken(low + 1)) > 1:
                high, most = low + 1, above
        else:
            high, most = middle, own
    return low


def resident(draft: Draft, objective: Objective = "latency", limit: Cost = NO_LIMIT) -> BoundGroup | None:
    """Overlap tiles as far as helps and the buffer goes, then keep inputs further out where that saves traffic.

    For latency less overlap is tried, too, where the channel is the slow one and more room would save words; nothing
    where the arrays are busy for longer than `limit`, which more overlap does not change.
    """
    best, first, least = None, None, NO_LIMIT
    for in_flight in ((2, 1) if draft.pairs_tiles else (1,)) if draft.own else (None, *OVERLAPS):
        group = bound(draft.overlapped(in_flight))
        first = group if first is None else first
        group.like(first)
        if objective == "latency" and max(group.busy_cycles.values()) > limit[0]:
            return None
        if in_flight is None and group.stages is None:
            continue
        if group.fits:
            waits = objective == "latency" and waits_for_dram(group) and comes_again(group)
            group = _further_out(group) if waits else group
            own = cost(group)
            if own < least:
                best, least = group, own
            known = group.busiest_cycles if group.stages else group.least_cycles
            if own[0] <= known and not (waits and comes_again(group)):
                break  # fewer tiles that are open at once are no faster
        elif group.stages is None and not bound(draft.overlapped(1)).fits:
            break
    return None if best is None else _further_out(best)


def waits_for_dram(group: BoundGroup) -> bool:
    """Whether the channel is the busiest of all: then room for what moves saves more than tiles that overlap."""
    return group.dram_cycles >= max(*group.busy_cycles.values(), group.memory_cycles, group.port_cycles)


def comes_again(group: BoundGroup) -> bool:
    """Whether words of an input come more than once: with more room fewer would."""
    whole = group.problem.whole()
    return any(group.filled(read) > read.words(whole) for read in group.reads)


def _further_out(group: BoundGroup) -> BoundGroup:
    """Keep inputs outside of loops that make them come again, as far out as they fit, the largest traffic first."""
    in_turn = group.in_slices and group.in_flight == 1  # then not all that is kept has its room at once
    left = inf if in_turn else group.spec.buffer_words - group.footprint_words
    for resident in sorted(group.reads, key=group.filled, reverse=True):
        words = group.filled(resident)
        for depth in range(resident.depth):
            moved = further_out(group, resident, depth)
            more = group.room_words(moved) - group.room_words(resident)
            if more > left or group.filled(moved) >= words:
                continue
            trial = replace(group, reads=tuple(moved if read is resident else read for read in group.reads))
            if trial.fits:
                group, left = trial, left - more
                break
    return group


def further_out(group: BoundGroup, resident: Resident, depth: int) -> Resident:
    """An input inside so many loops: in pieces of the tiles that it is kept in now, where tiles overlap and there are
    several of them and a mask leaves none out; else whole, once for each that is in the buffer at once."""
    moved, extents = resident._replace(depth=depth, copies=1, piece=resident.depth), group.problem.extents
    if group.in_slices or group.in_flight == 1 or group.problem.attended is not None:
        return resident._replace(depth=depth, copies=input_copies(group, depth))
    several = [group.loops[number] for number in group.piece_loops(moved) if group.loops[number].most > 1]
    apart = several and all(divides(resident.operands, loop.axis, extents[loop.axis]) for loop in several)
    if apart:
        return moved._replace(ahead=pieces_ahead(group, moved))
    return resident._replace(depth=depth, copies=input_copies(group, depth))


def in_slices(draft: Draft) -> Iterator[Draft]:
    """The same group with loops of their own for the contractions in it: what only one of them reads passes by.

    Along the longest axis that no loop is over, in slices as long as the sides that it lies along, or several times
    that.
    """
    if len(draft.members) < 2 or draft.after or any(draft.work(member).iterates for member in draft.members):
        return
    for times in SLICES:
        found = {member: _own_loop(draft, member, times) for member in draft.members}
        own = {member: (loop,) for member, loop in found.items() if loop is not None}
        steps = {axis: {loop.step for loop, in own.values() if loop.axis == axis} for axis in draft.leaf}
        if own and all(len(each) < 2 for each in steps.values()):
            yield replace(draft, own=own)


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
    longest = max(each.size for each in layouts(draft.spec, ARRAY_2D)[0])
    step = times * next((each.size for each in draft.spaces[member][1] if each.axis == axis), longest)
    return BoundLoop(f"{axis}1", axis, step, draft.leaf[axis]) if step < draft.leaf[axis] else None


def late_cycles(group: BoundGroup) -> float:
    """Cycles of the first tile by itself in which the busiest unit has nothing to do."""
    return first_cycles(group) - group.bound_cycles / prod(loop.most for loop in group.loops)
