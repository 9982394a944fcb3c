"""What no way of fusing Einsums, or no order of loops over tiles, undercuts: cycles of units and ports, words, room.

A search leaves out what a bound already says is no better. mapping.md 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from cascadesim.accelerators.mapping.attended import PAIRED
from cascadesim.accelerators.mapping.legality import Draft
from cascadesim.accelerators.mapping.mapper.candidates import units_of
from cascadesim.accelerators.mapping.placing import goes_straight, outside, reads, register_words
from cascadesim.accelerators.mapping.problem import MappingProblem, TensorUse, Tile, Work
from cascadesim.accelerators.mapping.runs import (
    ARRAY_1D,
    ARRAY_2D,
    GLOBAL_BUFFER,
    BoundRun,
    executed,
    home,
    operations_of,
    sizes_of,
)
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY


def least_of_all(problem: MappingProblem, spec: SpatialArray, members: Sequence[int]) -> tuple[float, float]:
    """Cycles and words that no way of fusing these Einsums undercuts."""
    words = sum(least_words(problem, tuple(members)))
    on_unit, longest = {ARRAY_2D: 0.0, ARRAY_1D: 0.0}, 1.0
    known = problem.known.setdefault(("least cycles", spec), {})
    for member in members:
        if member not in known:
            work = problem.work[member]
            known[member] = {unit: least_cycles(problem, spec, work, unit) for unit in units_of(spec, work)}
        cycles = known[member]
        longest = max(longest, min(cycles.values(), default=0.0))
        if len(cycles) == 1:
            unit, = cycles
            on_unit[unit] += cycles[unit]
    cycles_least = max(longest, *on_unit.values(), words * spec.word_bytes / spec.dram_bytes_per_cycle)
    return cycles_least, words


def least_cycles(problem: MappingProblem, spec: SpatialArray, work: Work, unit: str) -> float:
    """Cycles of one Einsum with all elements of a unit busy; those of pairs that a mask leaves out take none."""
    whole, masked, can = problem.whole(), problem.attended, operations_of(spec, unit)
    points = prod(work.points(axis, whole[axis]) for axis in work.axes)
    attended = masked.pairs(1) / (masked.queries * masked.keys) if masked and work.axes >= PAIRED else 1.0
    elements = spec.pe_array.elements if unit == ARRAY_2D else spec.vector_array.lanes
    op_cycles = sum(count * can.cycles[name] for name, count in (executed(can, work) or {}).items())
    return points * attended * op_cycles / elements


def least_words(problem: MappingProblem, members: tuple[int, ...]) -> tuple[float, float]:
    """Words that any mapping of a group moves: what comes from outside, and what leaves, once each."""
    inputs, leaving = outside(problem, members)
    if (key := ("least words", members)) not in problem.known:
        problem.known[key] = tuple(_least_words(problem, uses) for uses in (
            inputs.values(), [(use,) for use in leaving]))  # fmt: skip
    found: tuple[float, float] = problem.known[key]
    return found


def _least_words(problem: MappingProblem, uses: Iterable[Sequence[TensorUse]]) -> float:
    """Words of tensors in several uses each; of those with keys that part which a mask attends."""
    whole, masked, total = problem.whole(), problem.attended, 0.0
    for operands in uses:
        words = float(max(operand.words(whole) for operand in operands))
        axes = frozenset().union(*(operand.axes for operand in operands))
        if masked is not None and KEY in axes:
            spanned = int(masked.last.max() - masked.first.min() + 1) * masked.queries
            words *= (masked.pairs(1) if QUERY in axes else spanned) / (masked.queries * masked.keys)
        total += words
    return total


def least_room(draft: Draft, leaf: Tile) -> int:
    """Words that the buffer holds at least while such tiles are worked on: one of each input."""
    known, key = draft.problem.known, ("room", draft.members, tuple(leaf.values()))
    if key not in known:
        inputs, _ = outside(draft.problem, draft.members)
        known[key] = sum(max(use.words(leaf) for use in uses) for uses in inputs.values())
    return int(known[key])


def least_of_tiles(draft: Draft, leaf: Tile) -> float:
    """Cycles at least of the busiest of both arrays and the ports of the buffer, whatever the order of the loops.

    Through the ports goes what comes from outside, once, and for each tile that nothing is missing of, but what a mask
    leaves out, what Einsums read of inputs, and what they make where a tile of it alone is more than registers hold.
    """
    problem, spec, busy = draft.problem, draft.spec, {ARRAY_2D: 0, ARRAY_1D: 0}
    words, _ = least_words(problem, draft.members)
    buffered: dict[str, frozenset[str]] = dict.fromkeys(outside(problem, draft.members)[0], frozenset())
    for run in draft.runs:
        made, state = run.work.output, dict.fromkeys(run.work.iterates, 1)
        readers = [reader for reader in draft.runs if reads(reader, made.tensor)]
        written = made.words({**leaf, **state})
        spilled = readers and written > register_words(spec, run.unit) and not goes_straight(run, readers, leaf)
        inside = spilled and home(spec, run.unit) == GLOBAL_BUFFER
        cycles, taken, given = _of_run(problem, run, leaf, tuple(buffered.get(use.tensor) for use in run.work.inputs))
        busy[run.unit] += cycles
        words += taken + (given if inside else 0)
        if inside:
            buffered[made.tensor] = run.work.iterates
    return max(*busy.values(), words * spec.word_bytes / spec.global_buffer.bytes_per_cycle)


def _of_run(
    problem: MappingProblem, run: BoundRun, leaf: Tile, states: tuple[frozenset[str] | None, ...]
) -> tuple[int, int, int]:
    """Cycles of an Einsum in all tiles, and words that it reads and makes in those that nothing is missing of. Known
    of tiles of all other axes, too. `states`: of each input that comes from the buffer, axes of its state; else None.
    """
    key = id(run), tuple(leaf[axis] for axis in run.work.walks), states
    known: dict[object, tuple[BoundRun, tuple[int, int, int]]] = problem.known.setdefault("least of runs", {})
    if key not in known:
        taken = given = 0
        for tile, count in _tiles(problem, run.work, leaf):
            given += count * run.work.output.words({**tile, **dict.fromkeys(run.work.iterates, 1)})
            taken += count * sum(run.operand_reads(use, tile, state)
                                 for use, state in zip(run.work.inputs, states, strict=True) if state is not None)
        known[key] = run, (_cycles(problem, run, leaf), taken, given)  # it lives as long as its number is a key
    return known[key][1]


def _cycles(problem: MappingProblem, run: BoundRun, leaf: Tile) -> int:
    """Cycles of an Einsum in all tiles, as a group counts them where it visits those alone that a mask attends."""
    masked = problem.attended if run.work.axes >= PAIRED else None
    pairs = None if masked is None else masked.visited(leaf[QUERY], leaf[KEY])
    return run.all_cycles(sizes_of(run.work.axes, problem.extents, leaf, pairs))


def _tiles(problem: MappingProblem, work: Work, leaf: Tile) -> list[tuple[Tile, int]]:
    """Tiles that an Einsum runs on and nothing is missing of but what a mask leaves out, and how many there are."""
    masked = problem.attended if work.axes >= PAIRED else None
    if masked is None:
        return [(leaf, prod(problem.extents[axis] // leaf[axis] for axis in work.axes))]
    others = prod(problem.extents[axis] // leaf[axis] for axis in work.axes - PAIRED)
    return [({**leaf, QUERY: queries, KEY: keys}, others * count)
            for (queries, keys), count in masked.visited(leaf[QUERY], leaf[KEY])]
