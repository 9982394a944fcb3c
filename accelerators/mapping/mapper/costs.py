"""What a search compares of a group: cycles, words from DRAM, joules; and what no way of fusing Einsums undercuts.

A search leaves out what a bound already says is no better: words that must move, a unit busy with all of its elements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, product
from math import ceil, fsum, prod
from typing import Literal

from cascadesim.accelerators.energy import OPERATION_PJ, Actions, dynamic_energy_j
from cascadesim.accelerators.mapping.attended import PAIRED
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.mapper.bounds import least_of_all
from cascadesim.accelerators.mapping.mapper.candidates import FEW_EINSUMS
from cascadesim.accelerators.mapping.problem import MappingProblem, TensorUse, Work
from cascadesim.accelerators.mapping.runs import (
    ACCUMULATORS,
    ARRAY_1D,
    ARRAY_2D,
    DRAM,
    GLOBAL_BUFFER,
    UNITS,
    BoundRun,
    executed,
    operations_of,
)
from cascadesim.accelerators.mapping.schedule.pipeline import epoch_cycles, load_wait_cycles, loads, several_tiles
from cascadesim.accelerators.spec import FoldedPeArray, SpatialArray

Objective = Literal["latency", "energy", "dram"]
Cost = tuple[float, float]  # the objective, and what decides between equals
MOST_AXES = 4  # of a plain Einsum: all orders of loops over them are tried
SHORT_CYCLES = 3_000  # assumed: fill and drain, some hundreds, are a tenth of longer ones and more alike
# assumed: a thousandth longer is as fast, and fewer words decide; of words and joules none more
ALIKE: Mapping[Objective, float] = {"latency": 1.001, "dram": 1.0, "energy": 1.0}
NO_LIMIT: Cost = (float("inf"), 0.0)


def cost(group: BoundGroup, objective: Objective = "latency") -> Cost:
    """What the search compares of one instance: the objective, and what decides between equals.

    Cycles are a bound; where tiles do not overlap, or there is one only, loads and stores of larger tiles come on top,
    and what transfers lose in whole cycles. Of a single plain Einsum, of which many sizes are compared, and where work
    is short, the first tile by itself counts, too; of the former also rounds that wait for the channel, and loads.
    """
    tiles = group.problem.instances * prod(loop.most for loop in group.loops)
    plain = len(group.problem.work) == 1 and is_plain(group.problem, group.spec, 0)
    short = plain or _is_short(group.problem, group.spec)
    alone = (group.in_flight == 1 or tiles == 1) and not group.in_slices  # slices one after another have it already
    cycles = group.bound_cycles
    if alone and not (short and tiles == 1):
        cycles = max(cycles, group.dram_cycles + (worked_cycles(group) if group.serial_cycles else cycles))
    if group.stages is not None:
        cycles = max(cycles, group.whole_tiles * epoch_cycles(group, group.stages))
    if plain:
        cycles = max(cycles, paced_cycles(group))
    elif group.in_flight > 1 and not group.in_slices:
        cycles = max(cycles, last_round_cycles(group), held_up_cycles(group))
    if (channel := _channel_cycles(group)) > (1.0 if short else ALIKE["latency"]) * cycles:
        cycles = channel
    if plain and group.in_flight > 1:
        cycles += load_wait_cycles(group)
    if plain and group.stages is None and group.in_flight > 1:
        cycles = max(cycles, group.all_tiles * alone_cycles(group) / group.in_flight)
    if short:
        cycles = max(cycles, first_cycles(group) / group.problem.instances + cycles * (tiles - 1) / tiles)
    if objective == "latency":
        return cycles, float(group.read_words + group.written_words)
    return least_of(group, objective), cycles


def least_of(group: BoundGroup, objective: Objective) -> float:
    """The objective of one instance, or of latency what is known of it at once."""
    if objective == "latency":
        return group.busiest_cycles
    if objective == "dram":
        return float(group.read_words + group.written_words)
    return fsum(dynamic_energy_j(priced(actions(group)), group.spec).values()) / group.problem.instances


def total(groups: Sequence[BoundGroup], objective: Objective) -> Cost:
    """What groups cost that run one after another."""
    costs = [cost(group, objective) for group in groups]
    return sum(first for first, _ in costs), sum(second for _, second in costs)


def alone_cycles(group: BoundGroup) -> float:
    """Cycles of a tile of one Einsum with the loads that no other tile shares, its drain and its store: as many tiles
    that are not pipelined are open at once."""
    run, = group.runs
    own = sum(ceil(cycles) for period, cycles, _, _ in loads(group) if period == 1)
    stored = sum(use.words(group.leaf) * group.cycles_per_word(group.store_target(use)) for use in group.writes)
    return own + run.cycles(group.leaf) + run.drain_cycles + stored


def paced_cycles(group: BoundGroup) -> float:
    """Cycles where loads, steps and stores overlap round by round.

    Pieces of an input that stays come in the first round of the loops that it lacks; a sum leaves in the last round of
    the loops that it is over. The channel may take longer than those rounds: then the arrays wait for it there, and it
    has less to do in the others.
    """
    if group.attended is not None or group.in_slices:
        return 0.0
    per_word = group.spec.word_bytes / group.spec.dram_bytes_per_cycle
    kept = [hop.kept for way in group.hops.values() for hop in way if hop.source == DRAM]
    moves = [(_rounded(group.arriving_words(each), group.filled(each), per_word), "first", frozenset(
        number for number in range(group.settled(each), each.piece) if group.loops[number].axis not in each.axes))
        for each in kept]  # fmt: skip
    for use in (use for use in group.writes if group.store_target(use) == DRAM):
        run = next(run for run in group.runs if run.work.output.tensor == use.tensor)
        sums = frozenset(number for number, loop in enumerate(group.loops) if loop.axis in run.work.reduced)
        stored = _rounded(use.words(group.leaf), group.stored(use), per_word)
        moves.append((stored, "last", sums if run.after is None else frozenset()))
    loops = sorted(loop for loop in frozenset().union(*(own for *_, own in moves)) if group.loops[loop].most > 1)
    if not loops:
        return 0.0
    most, total = {loop: group.loops[loop].most for loop in loops}, 0.0
    for states in product(("first", "middle", "last"), repeat=len(loops)):
        stands = dict(zip(loops, states, strict=True))
        share = prod((most[loop] - 2 if state == "middle" else 1) / most[loop] for loop, state in stands.items())
        moved = sum(cycles * prod(most.get(loop, 1) for loop in own) for cycles, when, own in moves
                    if all(stands.get(loop, when) == when for loop in own))  # fmt: skip
        total += share * max(group.bound_cycles, moved)
    return total


def worked_cycles(group: BoundGroup) -> float:
    """Cycles of the arrays, tiles one after another, partial ones by their share; what moves apart."""
    often, all_of = (max(group.path({}, rare=rare).values()) for rare in (False, True))
    tiles = prod(extent / group.leaf[axis] for axis, extent in group.problem.extents.items())
    closed = {group.loops[run.after].axis for run in group.runs if run.after is not None and group.is_rare(run)}
    ends = prod(group.leaf[axis] / group.problem.extents[axis] for axis in closed)
    return tiles * (often + ends * (all_of - often))


def last_round_cycles(group: BoundGroup) -> float:
    """Cycles where what comes after a loop is more, for one unit, than what others do meanwhile: all rounds of it, and
    what its last one takes longer, but for the tiles that are open by then."""
    rare = [run for run in group.runs if group.is_rare(run)]
    if not rare or group.attended is not None:
        return 0.0
    number = max(run.after for run in rare if run.after is not None)
    closed = group.loops[number].axis
    rounds = prod(loop.most for loop in group.loops if loop.axis == closed)
    blocks = prod(loop.most for loop in group.loops[:number] if loop.axis != closed)
    stores = sum(group.stored(use) * group.cycles_per_word(DRAM) for use in group.writes
                 if group.store_target(use) == DRAM and any(run.work.output.tensor == use.tensor for run in rare))
    last = {DRAM: stores} | {unit: float(sum(group.cycles(run) for run in rare if run.unit == unit)) for unit in UNITS}
    every = {unit: cycles - last[unit] for unit, cycles in (*group.busy_cycles.items(), (DRAM, group.dram_cycles))}
    steady = max(*every.values(), group.port_cycles)
    longer = max(cycles / rounds + last[unit] for unit, cycles in every.items()) - steady / rounds
    return steady + max(0.0, longer - blocks * group.in_flight * steady / group.all_tiles)


def held_up_cycles(group: BoundGroup) -> float:
    """Cycles where a result holds the channel for longer than what was loaded before lasts: the arrays wait for it."""
    apart = max(*group.busy_cycles.values(), group.port_cycles, group.memory_cycles)
    lasts = [(group.places(read) - 1) * period * group.busiest_cycles / group.all_tiles for read in group.reads
             for period in several_tiles(group, read) if group.source(read) == DRAM]  # fmt: skip
    if not lasts or group.attended is not None:
        return 0.0
    for use in (use for use in group.writes if group.store_target(use) == DRAM):
        made = next(each for each in group.made if each.tensor == use.tensor)
        words = use.words(group.tile(len(group.loops) if made.state else made.depth))
        waits = words * group.cycles_per_word(DRAM) - min(lasts)
        apart += max(0.0, waits) * (group.stored(use) // words)
    return apart


def _channel_cycles(group: BoundGroup) -> int:
    """Cycles of the DRAM channel for one instance, each transfer of a tile in whole cycles."""
    per_word = group.spec.word_bytes / group.spec.dram_bytes_per_cycle
    moves = [(group.arriving_words(hop.kept), group.filled(hop.kept)) for way in group.hops.values() for hop in way
             if hop.source == DRAM]  # fmt: skip
    moves += [(use.words(group.leaf), group.stored(use)) for use in group.writes if group.store_target(use) == DRAM]
    return sum(_rounded(words, total, per_word) for words, total in moves)


def _rounded(words: int, total: int, per_word: float) -> int:
    """Cycles of all transfers, of so many words each, in whole ones."""
    return ceil(words * per_word) * (total // words)


def first_cycles(group: BoundGroup) -> float:
    """Cycles of the first tile by itself, with its loads one after another, drains and stores; and of all that comes
    after a loop, for which the tiles of the next round wait."""
    arrives = dict(zip((read.tensor for read in group.reads), accumulate(
        sum(ceil(group.arriving_words(read) * group.cycles_per_word(hop.source)) for hop in group.hops[read.tensor])
        for read in group.reads), strict=True))  # fmt: skip
    ready = {run.place: max((arrives.get(use.tensor, 0) for use in run.work.inputs), default=0) for run in group.runs}
    after = sum(run.cycles(group.leaf) * prod(loop.most for loop in group.loops[:run.after])
                for run in group.runs if group.is_rare(run))  # fmt: skip
    drain = max((run.drain_cycles for run in group.runs if not group.is_rare(run)), default=0)
    stores = sum(use.words(group.leaf) * group.cycles_per_word(group.store_target(use)) for use in group.writes)
    return max(group.path(ready).values()) + drain + after + stores


def _is_short(problem: MappingProblem, spec: SpatialArray) -> bool:
    """Whether the cascade, of all instances together, is so short that fill and drain count, however it is grouped.

    Of few Einsums: with fill no way of fusing reaches its bound, and a search must look at all.
    """
    key = "short", spec
    if key not in problem.known:
        least, _ = least_of_all(problem, spec, range(len(problem.work)))
        problem.known[key] = len(problem.work) <= FEW_EINSUMS and least * problem.instances < SHORT_CYCLES
    return bool(problem.known[key])


def is_plain(problem: MappingProblem, spec: SpatialArray, place: int) -> bool:
    """Whether an Einsum `is_whole`, and all orders of loops over its axes can be tried."""
    return is_whole(problem, spec, place) and 1 <= len(looped_axes(problem, problem.work[place])) <= MOST_AXES


def is_whole(problem: MappingProblem, spec: SpatialArray, place: int, states: bool = False) -> bool:
    """Whether each coordinate of the tensors of an Einsum walks one axis, whole, with no state, mask or folds,
    and none of them is made later. `states`: but for running values, and axes that the text splits into single ones."""
    key = "whole", place, states, isinstance(spec.pe_array, FoldedPeArray) and spec.pe_array.stationary
    if key not in problem.known:
        work = problem.work[place]
        later = any(problem.producers.get(use.tensor, -1) > place for use in work.inputs)  # of an earlier step
        problem.known[key] = not key[-1] and not (later and not states) and _is_whole(problem, work, states)
    return bool(problem.known[key])


def _is_whole(problem: MappingProblem, work: Work, states: bool) -> bool:
    uses = (*work.inputs, work.output)
    masked = problem.attended is not None and bool(work.axes & PAIRED)
    whole = all(walk.grain == 1 for own in work.walks.values() for walk in own) and all(
        (states or len(own) == 1) and max(walk.cap for walk in own) >= problem.extents[axis]
        for axis, own in work.walks.items())  # fmt: skip
    return (
        whole and not masked and not problem.staying and (states or not work.iterates)
        and (states or len({use.tensor for use in work.inputs}) == len(work.inputs))
        and all(use.axes <= work.axes for use in uses) and all(_is_alone(use, problem) for use in uses)
    )  # fmt: skip


def _is_alone(use: TensorUse, problem: MappingProblem) -> bool:
    """Whether a tile of a tensor has as many words as the product of its sides."""
    terms = [each.walks for each in use.dimensions]
    return len(use.axes) == len(terms) and all(
        len(walks) == 1 and walks[0][1] == 1 and each.divisor == 1
        and walks[0][0].grain == 1 and walks[0][0].cap >= problem.extents[walks[0][0].axis]
        for walks, each in zip(terms, use.dimensions, strict=True))  # fmt: skip


def looped_axes(problem: MappingProblem, work: Work) -> list[str]:
    """Axes of more than one element that an Einsum walks."""
    return [axis for axis in problem.extents if axis in work.axes and problem.extents[axis] > 1]


def actions(group: BoundGroup) -> Actions:
    """What all instances do.

    Registers: a read for each operand of a point and one more where it adds up, a write of its result, and a write for
    each operand that an element has not just had (FuseMax artifact, with the registers of all elements).
    """
    times = group.problem.instances
    (read, written), (own_read, own_written) = group.all_port_words(), group.all_port_words(ACCUMULATORS)
    memories = [each.name for each in group.spec.memories]
    registers = {ARRAY_2D: [0, 0], ARRAY_1D: [0, 0]}
    operations: dict[str, Counter[str]] = {ARRAY_2D: Counter(), ARRAY_1D: Counter()}
    for run in group.runs:
        points = times * group.points(run)
        registers[run.unit][0] += points * (len(run.work.inputs) + bool(run.work.einsum.reduced_ranks))
        registers[run.unit][1] += points + sum(round(points * _new(group, run, operand)) for operand in run.work.inputs)
        made_of = executed(operations_of(group.spec, run.unit), run.work) or {}
        operations[run.unit].update({kind: points * count for kind, count in made_of.items()})
    return Actions(
        times * (group.read_words + group.written_words),
        times * (read + group.stored_from(GLOBAL_BUFFER)), times * (written + group.loaded_words),
        registers[ARRAY_2D][0], registers[ARRAY_2D][1], registers[ARRAY_1D][0], registers[ARRAY_1D][1],
        operations[ARRAY_2D], operations[ARRAY_1D],
        *({name: times * words for name, words in each.items()} for each in (
            {**{name: group.memory_words[name][0] for name in memories},
             ACCUMULATORS: own_read + group.stored_from(ACCUMULATORS)},
            {**{name: group.memory_words[name][1] for name in memories}, ACCUMULATORS: own_written})),
    )  # fmt: skip


def _new(group: BoundGroup, run: BoundRun, operand: TensorUse) -> float:
    """Share of the points at which an element gets another value of an operand: it stays along the innermost axes in
    time that the operand lacks."""
    spatial, share = {each.axis for each in run.space}, 1.0
    for axis in reversed([axis for axis in run.time if axis not in spatial]):
        if axis in operand.axes:
            break
        extent = group.problem.extents[axis]
        share *= -(-extent // group.leaf[axis]) / run.work.points(axis, extent)
    return share


def priced(done: Actions) -> Actions:
    """Only the operations that have a price: those without one are the same in every mapping."""
    of_2d, of_1d = ({kind: count for kind, count in each.items() if kind in OPERATION_PJ}
                    for each in (done.operations_2d, done.operations_1d))  # fmt: skip
    return replace(done, operations_2d=of_2d, operations_1d=of_1d)
