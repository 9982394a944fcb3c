"""What a search compares of a group: cycles, words from DRAM, joules; and what it counts for the latter."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import fsum
from typing import Literal

from cascadesim.accelerators.energy import OPERATION_PJ, Actions, dynamic_energy_j
from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.pipeline import epoch_cycles
from cascadesim.accelerators.mapping.runs import ARRAY_1D, ARRAY_2D, executed, operations_of

Objective = Literal["latency", "energy", "dram"]
Cost = tuple[float, float]  # the objective, and what decides between equals
NO_LIMIT: Cost = (float("inf"), 0.0)


def cost(group: BoundGroup, objective: Objective = "latency") -> Cost:
    """What the search compares of one instance: the objective, and what decides between equals.

    Cycles are a bound; where tiles do not overlap, or there is one only, loads and stores of larger tiles come on top.
    """
    several = group.problem.instances > 1 or any(loop.most > 1 for loop in group.loops)
    alone = group.in_flight == 1 or not several
    cycles = group.bound_cycles + (group.dram_cycles if alone else 0.0)
    if group.stages is not None:
        cycles = max(cycles, group.whole_tiles * epoch_cycles(group, group.stages))
    words = float(group.read_words + group.written_words)
    if objective == "energy":
        joules = fsum(dynamic_energy_j(priced(actions(group)), group.spec).values())
        return joules / group.problem.instances, cycles
    return (words, cycles) if objective == "dram" else (cycles, words)


def actions(group: BoundGroup) -> Actions:
    """What all instances do. Registers: a read for each operand of a point, one more where it adds up, and a write."""
    times = group.problem.instances
    read, written = group.all_port_words()
    registers = {ARRAY_2D: [0, 0], ARRAY_1D: [0, 0]}
    operations: dict[str, Counter[str]] = {ARRAY_2D: Counter(), ARRAY_1D: Counter()}
    for run in group.runs:
        points = times * group.points(run)
        registers[run.unit][0] += points * (len(run.work.inputs) + bool(run.work.einsum.reduced_ranks))
        registers[run.unit][1] += points
        made_of = executed(operations_of(group.spec, run.unit), run.work) or {}
        operations[run.unit].update({kind: points * count for kind, count in made_of.items()})
    return Actions(
        times * (group.read_words + group.written_words),
        times * (read + group.stored_from_buffer), times * (written + group.read_words),
        registers[ARRAY_2D][0], registers[ARRAY_2D][1], registers[ARRAY_1D][0], registers[ARRAY_1D][1],
        operations[ARRAY_2D], operations[ARRAY_1D],
    )  # fmt: skip


def priced(done: Actions) -> Actions:
    """Only the operations that have a price: those without one are the same in every mapping."""
    of_2d, of_1d = ({kind: count for kind, count in each.items() if kind in OPERATION_PJ}
                    for each in (done.operations_2d, done.operations_1d))  # fmt: skip
    return replace(done, operations_2d=of_2d, operations_1d=of_1d)
