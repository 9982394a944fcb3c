"""The text of groups with sizes, in numbers: what a search found, as `resolve` reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.nest import TOP, CascadeMapping, Epochs, Fused, Keep, Run, Split, Stay, SubNest
from cascadesim.accelerators.mapping.resolve import text_sizes
from cascadesim.accelerators.mapping.runs import GLOBAL_BUFFER, BoundRun, Resident
from cascadesim.einsum_cascades.analysis.passes import partitions


def described(name: str, groups: Sequence[BoundGroup]) -> CascadeMapping:
    """The text of groups with sizes, in numbers."""
    problem = groups[0].problem
    staying = {tensor: GLOBAL_BUFFER for group in groups for tensor in group.problem.staying}
    staying |= {tensor: memory for group in groups for tensor, (memory, _) in group.problem.resting.items()}
    stays = tuple(Stay(problem.work[problem.producers[tensor]].name, memory) for tensor, memory in staying.items())
    text = CascadeMapping(name, problem.cascade.name, tuple(map(_fused, groups)), staying=stays)
    known, chains = text_sizes(text, groups[0].spec, problem.extents), set().union(*problem.chains.values())
    inner = dict.fromkeys(part for parts in partitions(problem.cascade) for part in parts[1:])
    sizes = {part.upper(): problem.sizes[part.upper()] for part in inner}
    return replace(text, sizes=tuple((size, extent) for size, extent in sizes.items()
                                     if size.lower() not in chains or known.get(size) != extent))


def _fused(group: BoundGroup) -> Fused:
    splits = tuple(_splits(group))
    parts = {split.axis: split.parts for split in splits}
    runs = sorted((_described_run(group, run, parts) for run in group.runs), key=lambda run: run.after is not None)
    keeps = tuple(Keep(group.problem.stored(read.tensor), GLOBAL_BUFFER, _place(group, read), read.copies > 1,
                       group.loops[read.piece - 1].part if read.piece else None) for read in group.reads if read.where)
    keeps += tuple(Keep(made.tensor, GLOBAL_BUFFER, _place(group, made)) for made in group.made if made.kept)
    keeps += tuple(Keep(read.tensor, hop.target, _place(group, hop.kept)) for read in group.reads
                   for hop in group.hops[read.tensor][:-1])  # fmt: skip
    bypass = tuple(group.problem.stored(read.tensor) for read in group.reads if not read.where)
    made = {made.tensor: run.work.name for made, run in zip(group.made, group.runs, strict=True)}
    spills = tuple(made[tensor] for tensor in group.problem.spilled.values())
    return Fused(splits, tuple(loop.part for loop in group.loops), tuple(runs), keeps, group.overlap, bypass, spills,
                 epochs=_table(group))  # fmt: skip


def _table(group: BoundGroup) -> Epochs | None:
    """The software pipeline that the text gave, with its distances."""
    if group.epochs is None or group.stages is None:
        return None
    places, first = {run.work.name: run.place for run in group.runs}, min(group.stages.values())
    ages = {slot.letter: group.stages[places[slot.einsum]] - first for slot in group.epochs.slots}
    return replace(group.epochs, distances=tuple(sorted(ages.items())))


def _place(group: BoundGroup, read: Resident) -> str:
    """The innermost loop outside what is kept."""
    outside = *group.loops[: read.depth], *group.own_loops(read)
    return outside[-1].part if outside else TOP


def _splits(group: BoundGroup) -> Iterator[Split]:
    """Loops of an axis, then the parts of the text, or one part of single elements."""
    for axis in group.problem.extents:
        own = dict.fromkeys(loop for run in group.runs for loop in run.own)
        loops = [loop for loop in (*group.loops, *own) if loop.axis == axis]
        chain = group.problem.chains.get(axis, ())
        steps = {loop.part: loop.step for loop in loops}
        size = 1
        for part, inner in zip(reversed(chain), (None, *reversed(chain)), strict=False):
            size *= group.problem.sizes[inner.upper()] if inner else 1
            steps.setdefault(part, size)
        if (not loops and not chain) or [loop.part for loop in loops] == [axis]:
            continue
        if not chain:
            steps.setdefault(f"{axis}0", 1)
        if len(steps) == 1:  # a loop over single elements, where the text splits the axis and has no loop outside
            steps[f"{axis}1"] = group.problem.extents[axis]
        ordered = sorted(steps, key=lambda part: (-steps[part], chain.index(part) if part in chain else -1))
        yield Split(axis, tuple(ordered), tuple(steps[part] for part in ordered[:-1]))


def _described_run(group: BoundGroup, run: BoundRun, parts: Mapping[str, tuple[str, ...]]) -> Run:
    def inner(axis: str) -> str:
        """The innermost part that the Einsum walks: m1 of what has a value for each tile of the text.

        Where others have loops of their own along the axis that it lacks, all of it that a tile has.
        """
        of_others = {loop.part for other in group.runs for loop in other.own if loop.axis == axis}
        if of_others and parts[axis][-2] not in {loop.part for loop in run.own}:
            return axis
        chain = group.problem.chains.get(axis, ())
        own = [part for part in chain if part in run.work.einsum.ranks]
        return own[-1] if own and own[-1] != chain[-1] else parts[axis][-1] if axis in parts else axis

    space = tuple((inner(each.axis), dimension) for each in run.space for dimension in each.over)
    after = None if run.after is None else group.loops[run.after].part
    own, time = tuple(loop.part for loop in run.own), tuple(map(inner, run.time))
    if run.nest:
        nests = list(dict.fromkeys(each.nest for each in group.runs if each.nest))
        return Run(run.work.name, run.unit, space, time, after, SubNest(nests.index(run.nest) + 1, own))
    return Run(run.work.name, run.unit, space, (*own, *time), after)
