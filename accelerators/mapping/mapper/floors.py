"""What no way of fusing some Einsums undercuts: words that must move, a unit busy with all of its elements.

A search leaves out what such a bound already says is no better. Knows sizes and units; no loops but those of a draft.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod

from cascadesim.accelerators.mapping.attended import PAIRED
from cascadesim.accelerators.mapping.legality import Draft, inputs_of, outputs_of
from cascadesim.accelerators.mapping.mapper.candidates import units_of
from cascadesim.accelerators.mapping.problem import MappingProblem, Tile, Work
from cascadesim.accelerators.mapping.runs import ARRAY_1D, ARRAY_2D, executed, operations_of
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY


def least_of_all(problem: MappingProblem, spec: SpatialArray, members: Sequence[int]) -> tuple[float, float]:
    """Cycles and words that no way of fusing these Einsums undercuts."""
    words = least_words(problem, members)
    on_unit = {ARRAY_2D: 0.0, ARRAY_1D: 0.0}
    longest = 1.0
    for member in members:
        work = problem.work[member]
        cycles = {unit: least_cycles(problem, spec, work, unit) for unit in units_of(spec, work)}
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
    op_cycles = sum(count * can.cycles[name] for name, count in (executed(can, work) or Counter()).items())
    return points * attended * op_cycles / elements


def least_words(problem: MappingProblem, members: Sequence[int]) -> float:
    """Words that any mapping of a group moves: what comes from outside and what leaves, once each.

    Of tensors with keys that part which a mask attends.
    """
    whole, masked = problem.whole(), problem.attended
    total = 0.0
    for operands in (*inputs_of(problem, members).values(), *((use,) for use in outputs_of(problem, members))):
        words = float(max(operand.words(whole) for operand in operands))
        axes = frozenset().union(*(operand.axes for operand in operands))
        if masked is not None and KEY in axes:
            spanned = int(masked.last.max() - masked.first.min() + 1) * masked.queries
            words *= (masked.pairs(1) if QUERY in axes else spanned) / (masked.queries * masked.keys)
        total += words
    return total


def least_busy(draft: Draft, leaf: Tile) -> float:
    """Cycles of the busier array at least: those of whole tiles, of which a mask may leave some out."""
    problem, busy = draft.problem, {ARRAY_2D: 0, ARRAY_1D: 0}
    for run in draft.runs:
        left_out = PAIRED if problem.attended is not None and run.work.axes >= PAIRED else frozenset()
        whole = prod(problem.extents[axis] // leaf[axis] for axis in run.work.axes - left_out)
        pairs = 1 if not left_out or problem.attended is None else dict(
            problem.attended.visited(leaf[QUERY], leaf[KEY])).get((leaf[QUERY], leaf[KEY]), 0)
        busy[run.unit] += whole * pairs * run.cycles(leaf)
    return max(busy.values())
