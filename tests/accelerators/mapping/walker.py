"""Executes a group of fused Einsums point by point, and moves its tiles word by word: slow, and free of formulas.

What mappings claim is held against this: results equal those of `evaluate`, words moved are those that a tile needs
and does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from math import ceil, log2

import numpy as np

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.problem import MappingProblem
from cascadesim.accelerators.mapping.runs import BoundLoop, BoundRun, Resident
from cascadesim.accelerators.mapping.runs import parts as parts_of_tile
from cascadesim.einsum_cascades.analysis.counts import shape_of
from cascadesim.einsum_cascades.notation import ir, operators

Ranges = Mapping[str, range]  # axis -> its elements


def leaves(group: BoundGroup, depth: int = 0, ranges: Ranges | None = None) -> Iterator[tuple[dict[str, range], ...]]:
    """The ranges inside 0, 1, ... all loops, for each tile in the order of the loops in which something is attended."""
    current = dict(ranges or {axis: range(extent) for axis, extent in group.problem.extents.items()})
    if group.attended is not None and not is_attended(group, current):
        return
    if depth == len(group.loops):
        yield (of_attended(group, current),)
        return
    loop = group.loops[depth]
    for start in range(current[loop.axis].start, current[loop.axis].stop, loop.step):
        inner = range(start, min(start + loop.step, current[loop.axis].stop))
        for rest in leaves(group, depth + 1, {**current, loop.axis: inner}):
            yield (of_attended(group, current), *rest)


def slices(ranges: dict[str, range], own: Sequence[BoundLoop]) -> Iterator[dict[str, range]]:
    """A tile, or its slices where an Einsum has loops of its own."""
    if not own:
        yield ranges
        return
    loop, *inner = own
    whole = ranges[loop.axis]
    for start in range(whole.start, whole.stop, loop.step):
        yield from slices({**ranges, loop.axis: range(start, min(start + loop.step, whole.stop))}, inner)


def is_attended(group: BoundGroup, ranges: Ranges) -> bool:
    return any(group.problem.attended.first[query] <= key <= group.problem.attended.last[query]
               for query in ranges["p"] for key in ranges["m"])  # fmt: skip


def of_attended(group: BoundGroup, ranges: dict[str, range]) -> dict[str, range]:
    """A tile of all keys has those from the first to the last that one of its queries attends."""
    if group.attended is None or len(ranges["m"]) < group.problem.extents["m"]:
        return ranges
    keys = [key for key in ranges["m"] if is_attended(group, {**ranges, "m": range(key, key + 1)})]
    unit = 1 if len(ranges["m"]) <= 32 else 2 ** ceil(log2(len(ranges["m"]) / 32))
    unit = ceil(unit / group.problem.sizes.get("M0", 1)) * group.problem.sizes.get("M0", 1)  # tiles of the text
    return {**ranges, "m": range(keys[0] // unit * unit, min((keys[-1] // unit + 1) * unit, len(ranges["m"])))}


def is_run(group: BoundGroup, run: BoundRun, ranges: tuple[dict[str, range], ...]) -> bool:
    """Whether an Einsum runs in a tile: one that comes after a loop runs in its last iteration."""
    if run.after is None:
        return True
    axis, last = group.loops[run.after].axis, ranges[-1]
    if group.attended is not None and axis == "m":
        return not any(is_attended(group, {**last, "m": range(key, key + 1)})
                       for key in range(last["m"].stop, group.problem.extents["m"]))  # fmt: skip
    return last[axis].stop == group.problem.extents[axis]


def rank_values(problem: MappingProblem, einsum: ir.Einsum, ranges: Ranges) -> Iterator[dict[str, int]]:
    """Every point of an Einsum inside ranges of axes, ranks of the text that split an axis included."""
    chains = {part: (axis, parts) for axis, parts in problem.chains.items() for part in parts}
    for values in product(*(_along(problem, rank, chains, ranges) for rank in einsum.ranks)):
        point = dict(zip(einsum.ranks, values, strict=True))
        if _inside(problem, point, ranges):
            yield point


def _along(
    problem: MappingProblem, rank: str, chains: Mapping[str, tuple[str, tuple[str, ...]]], ranges: Ranges
) -> range:
    if rank in chains:
        axis, parts = chains[rank]
        grain = int(np.prod([problem.sizes[part.upper()] for part in parts[parts.index(rank) + 1:]], dtype=int))
        if rank == parts[0]:
            return range(ranges[axis].start // grain, -(-ranges[axis].stop // grain))
        return range(problem.sizes[rank.upper()])
    return ranges[rank]


def _inside(problem: MappingProblem, point: Mapping[str, int], ranges: Ranges) -> bool:
    """Whether the ranks that together walk a split axis stay inside it: a partial last tile has what it holds."""
    for axis, parts in problem.chains.items():
        if all(part in point for part in parts):
            place = 0
            for part in parts:
                place = place * problem.sizes[part.upper()] + point[part]
            if place not in ranges[axis]:
                return False
    return True


class Execution:
    """Arrays of all tensors, filled as the Einsums run."""

    def __init__(self, problem: MappingProblem, inputs: Mapping[str, np.ndarray]) -> None:
        self.problem = problem
        self.arrays = {name: np.array(values, dtype=float) for name, values in inputs.items()}
        cascade = problem.cascade
        for name in cascade.produced:
            self.arrays[name] = np.full(shape_of(cascade, name, problem.sizes), np.nan)
        self.working = {work.number for work in problem.work}
        everything = {axis: range(extent) for axis, extent in problem.extents.items()}
        for number, einsum in enumerate(cascade.einsums):
            if number not in self.working and set(self.sources(einsum)) <= set(inputs):
                self.einsum(einsum, everything)

    def sources(self, einsum: ir.Einsum) -> list[str]:
        return [access.tensor for access in einsum.inputs]

    def groups(self, groups: tuple[BoundGroup, ...]) -> None:
        everything = {axis: range(extent) for axis, extent in self.problem.extents.items()}
        for group in groups:
            for ranges in leaves(group):
                for part in parts_of_tile(group.runs, one_by_one=True):
                    if is_run(group, part[0], ranges):
                        if part[0].after is not None:
                            self.carry_on(group)
                        for each in slices(ranges[-1], part[0].own):
                            for run in part:
                                self.einsum(run.work.einsum, each)
            self.carry_on(group)
        for number, einsum in enumerate(self.problem.cascade.einsums):  # results under other names
            given = set(self.sources(einsum)) <= set(self.problem.cascade.inputs)
            if number not in self.working and einsum.inputs and not given:
                self.einsum(einsum, everything)

    def carry_on(self, group: BoundGroup) -> None:
        """Running values stay as they are where a mask leaves out their last tiles."""
        for einsum in (run.work.einsum for run in group.runs if group.attended is not None and run.work.iterates):
            for axis, index in enumerate(einsum.output.indices):
                if {rank for rank, _ in index.terms} & set(einsum.iterates):
                    along = np.moveaxis(self.arrays[einsum.output.tensor], axis, 0)  # a view
                    for before, after in pairwise(along):
                        after[np.isnan(after)] = before[np.isnan(after)]

    def einsum(self, einsum: ir.Einsum, ranges: Ranges) -> None:
        target = self.arrays[einsum.output.tensor]
        combine = operators.REDUCTIONS[einsum.reduction]
        for point in rank_values(self.problem, einsum, ranges):
            place = tuple(self.index(index, point) for index in einsum.output.indices)
            value = self.value(einsum.expression, point)
            if einsum.reduced_ranks and not np.isnan(target[place]):
                value = float(combine(target[place], value))
            target[place] = value

    def index(self, index: ir.Index, point: Mapping[str, int]) -> int:
        sizes = {**self.problem.sizes, **point}

        def number(factor: ir.Factor) -> int:
            parts = factor if isinstance(factor, tuple) else (factor,)
            return int(np.prod([sizes[part] if isinstance(part, str) else part for part in parts], dtype=int))

        total = sum(point[rank] * number(factor) for rank, factor in index.terms) + sum(map(number, index.offsets))
        return int(total // number(index.divisor))

    def value(self, expression: ir.Expression, point: Mapping[str, int]) -> float:
        match expression:
            case ir.Access(tensor=tensor, indices=indices):
                return float(self.arrays[tensor][tuple(self.index(index, point) for index in indices)])
            case ir.Constant(value=value):
                return value
            case ir.Extent(name=name):
                return float(self.problem.sizes[name])
            case ir.Select(conditions=tests, value=value, otherwise=otherwise):
                holds = all(_compare(test, self.index(test.left, point), self.index(test.right, point))
                            for test in tests)  # fmt: skip
                return self.value(value if holds else otherwise, point)
            case ir.Apply(operator=operator, operands=operands):
                return float(operators.ELEMENTWISE[operator].function(*(
                    np.float64(self.value(operand, point)) for operand in operands)))
        raise AssertionError(expression)


def _compare(test: ir.Condition, left: int, right: int) -> bool:
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right, "==": left == right,
            "!=": left != right}[test.comparison]  # fmt: skip


def words_moved(group: BoundGroup, kept: Resident, again: bool = False) -> int:
    """Words of one input that come into the buffer: those of each tile that is not the one that is there. Of a result
    those that leave it.

    `again`: tiles of a loop that is begun again all come again, be it the same. What is kept inside the loops of one
    Einsum comes again for each tile of the shared loops; of what passes by every point takes its words.
    """
    execution = Execution.__new__(Execution)
    execution.problem = group.problem
    moved, present = 0, None
    outside = max((number for number, loop in enumerate(group.loops[: kept.depth])
                   if loop.axis in group.moving(kept) and loop.step < group.problem.extents[loop.axis]), default=-1)
    own = group.own_loops(kept)
    for number, ranges in enumerate(leaves(group)):
        if own and not is_run(group, group.user_of(kept), ranges):
            continue
        for tile in slices(ranges[min(kept.depth, len(group.loops))], own):
            needed = frozenset(places_of(execution, group, kept.tensor, tile))
            place = needed, tuple(ranges[outside + 1].values()) if again else (), number if own else 0
            if place != present:
                moved += len(needed)
                present = place
    return moved


def places_of(execution: Execution, group: BoundGroup, tensor: str, tile: Ranges) -> Iterator[tuple[int, ...]]:
    """The places of a tensor that points of Einsums take inside ranges, each as often as it is taken."""
    spilled = group.problem.stored(tensor) != tensor
    for run in group.runs:
        einsum = run.work.einsum  # what is spilled comes for those that read it alone
        accesses = [access for access in (*einsum.inputs, *([] if spilled else [einsum.output]))
                    if group.problem.sources.get(access.tensor, access.tensor) == group.problem.stored(tensor)]
        for point in rank_values(group.problem, run.work.einsum, tile) if accesses else ():
            for access in accesses:
                yield tuple(execution.index(index, point) for index in access.indices)
