"""From a mapping as text to groups with sizes: resolves names and steps.

Says in one line, with the line of the text, what is illegal. `mapper.described` is its inverse. mapping.md 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

from cascadesim.accelerators.mapping.group import BoundGroup
from cascadesim.accelerators.mapping.keep_lines import KeepLines, staying_results
from cascadesim.accelerators.mapping.legality import Draft, IllegalMapping
from cascadesim.accelerators.mapping.nest import TOP, CascadeMapping, Epochs, Fit, Run, Sized, Split
from cascadesim.accelerators.mapping.placing import bind, does_not_fit
from cascadesim.accelerators.mapping.problem import MappingProblem, Work
from cascadesim.accelerators.mapping.runs import DIMENSIONS, GLOBAL_BUFFER, BoundLoop, Spread, dimension_size, units
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import suggestion


def resolved(mapping: CascadeMapping, problem: MappingProblem, spec: SpatialArray) -> tuple[BoundGroup, ...]:
    """Bind every group. Raises IllegalMapping with the line of the text and the first reason."""
    groups, done = [], 0
    staying = staying_results(mapping, problem, spec)
    for number, fused in enumerate(mapping.groups):
        here = {tensor: (memory, words) for tensor, (memory, spanned, words) in staying.items() if number in spanned}
        in_buffer = {tensor: words for tensor, (memory, words) in here.items() if memory == GLOBAL_BUFFER}
        elsewhere = {tensor: place for tensor, place in here.items() if tensor not in in_buffer}
        resolver = _Resolver(fused, problem.with_staying(in_buffer, elsewhere), spec, mapping.name)
        with resolver.at(fused.line):
            resolver = replace(resolver, problem=resolver.spilling())
            group = resolver.group()
        members = [run.place for run in group.runs]
        wrong = next((place for place, member in enumerate(members, start=done) if member != place), None)
        if wrong is not None:
            early = problem.work[members[wrong - done]].name
            raise resolver.error(f"groups take the Einsums in the order of the cascade; {problem.work[wrong].name} "
                                 f"comes next, the text has {early}", resolver.line_of(early))  # fmt: skip
        done += len(members)
        groups.append(group)
    if done < len(problem.work):
        missing = ", ".join(work.name for work in problem.work[done:])
        raise IllegalMapping(f"{mapping.name}: it has no place for {missing}")
    return tuple(groups)


def text_sizes(mapping: CascadeMapping, spec: SpatialArray, extents: Mapping[str, int]) -> dict[str, int]:
    """Extents of parts that the cascade's own text splits (M0), as the mapping's steps give them."""
    found = dict(mapping.sizes)
    for fused in mapping.groups:
        for split in fused.splits:
            sizes = [_size(step, spec) for step in split.steps]
            for part, outer, inner in zip(split.parts[1:], sizes, [*sizes[1:], 1], strict=True):
                if outer is not None and inner is not None:
                    found.setdefault(part.upper(), min(outer, extents.get(split.axis, outer)) // inner or 1)
    return found


def _size(step: object, spec: SpatialArray) -> int | None:
    if isinstance(step, Sized):
        return step.times * dimension_size(spec, step.field.rpartition(".")[2])
    return step if isinstance(step, int) else None


@dataclass(frozen=True)
class _Resolver(KeepLines):
    @cached_property
    def splits(self) -> Mapping[str, Split]:
        found: dict[str, Split] = {}
        for split in self.fused.splits:
            with self.at(split.line):
                if split.axis not in self.problem.extents:
                    raise self.error(f"no axis '{split.axis}'{suggestion(split.axis, self.problem.extents)}")
                if split.axis in found:
                    raise self.error(f"{split.axis} is split twice")
                chain = self.problem.chains.get(split.axis)
                if chain and split.parts[-len(chain):] != chain:
                    raise self.error(f"the cascade splits {split.axis} into {', '.join(chain)}; a mapping goes on from "
                                     f"there: 'split {split.axis}: ..., {', '.join(chain)}'")
                self.check_grains(split, chain or ())
                found[split.axis] = split
        return found

    def check_grains(self, split: Split, chain: Sequence[str]) -> None:
        """Raises where a part of the text advances by what is no multiple of its own tiles."""
        for part, step in zip(split.parts, split.steps, strict=False):
            inner = chain[chain.index(part) + 1:] if part in chain else ()
            grain = prod(self.problem.sizes[each.upper()] for each in inner)
            given = _size(step, self.spec) or grain
            if given % grain and given < self.problem.extents[split.axis]:
                raise self.error(f"{part} advances by {given}, no multiple of a tile of the text: {grain}")

    @cached_property
    def parts(self) -> Mapping[str, tuple[str, int]]:
        """Part -> its axis and its place among the parts."""
        found = {axis: (axis, 0) for axis in self.problem.extents if axis not in self.splits}
        for axis, chain in self.problem.chains.items():
            if axis not in self.splits:
                found |= {part: (axis, place) for place, part in enumerate(chain)}
        for split in self.splits.values():
            found |= {part: (split.axis, place) for place, part in enumerate(split.parts)}
        return found

    def part(self, name: str, whole: bool = False) -> tuple[str, int]:
        """The axis of a part, and its place; `whole`: a split axis may be named, for all of it that a tile has."""
        if whole and name in self.splits and name not in self.parts:
            return name, 0
        if name not in self.parts:
            raise self.error(f"no rank '{name}' here{suggestion(name, self.parts)}")
        return self.parts[name]

    def group(self) -> BoundGroup:
        """Bind, with the largest tiles that fit where the text says so."""
        fits = [(split.axis, place, step) for split in self.splits.values() for place, step in enumerate(split.steps)
                if isinstance(step, Fit)]  # fmt: skip
        if len(fits) > 1:
            raise self.error("at most one step of a group can be as large as fits; give the others a number",
                             self.splits[fits[1][0]].line)  # fmt: skip
        if not fits:
            group = self.bound({})
            problem = does_not_fit(group)
            if problem:
                raise self.error(problem)
            return group
        axis, place, step = fits[0]
        if step.memory != GLOBAL_BUFFER:
            raise self.error(f"no memory '{step.memory}' to keep tiles in{suggestion(step.memory, [GLOBAL_BUFFER])}",
                             self.splits[axis].line)  # fmt: skip
        return self.largest(axis, place, step)

    def largest(self, axis: str, place: int, step: Fit) -> BoundGroup:
        """The largest number of inner tiles that fits, balanced or a divisor, as the step says."""
        inner = self.inner_step(axis, place)
        tiles = -(-self.problem.extents[axis] // inner)
        low, high = 0, tiles
        while low < high:
            middle = (low + high + 1) // 2
            fits = does_not_fit(self.bound({(axis, place): middle * inner})) is None
            low, high = (middle, high) if fits else (low, middle - 1)
        if not low:
            raise self.error(does_not_fit(self.bound({(axis, place): inner})) or "nothing fits")
        divisor = max(count for count in range(1, low + 1) if tiles % count == 0)
        balanced = -(-tiles // -(-tiles // low))
        count = {"fit": balanced, "divisor": divisor,
                 "divisor else fit": divisor if divisor > 1 or low == 1 else balanced}[step.rule]  # fmt: skip
        return self.bound({(axis, place): count * inner})

    def inner_step(self, axis: str, place: int) -> int:
        steps = self.splits[axis].steps
        return (_size(steps[place + 1], self.spec) or 1) if place + 1 < len(steps) else 1

    def step(self, axis: str, place: int, chosen: Mapping[tuple[str, int], int]) -> int:
        split = self.splits.get(axis)
        if split is None:
            parts = self.problem.chains.get(axis, ())
            grains = {part: self.problem.sizes[part.upper()] for part in parts}
            size = 1
            for part in parts[place + 1:]:
                size *= grains[part]
            return size
        if place >= len(split.steps):
            return 1
        return chosen.get((axis, place)) or _size(split.steps[place], self.spec) or 1

    def bound(self, chosen: Mapping[tuple[str, int], int]) -> BoundGroup:
        loops = tuple(self.loops(chosen))
        leaf = self.problem.whole() | {loop.axis: min(loop.step, loop.outer) for loop in loops}
        places = {work.name: place for place, work in enumerate(self.problem.work)}
        spaces, after = {}, {}
        own: dict[int, tuple[BoundLoop, ...]] = {}
        nests: dict[int, int] = {}
        for run in self.fused.runs:
            with self.at(run.line):
                if run.einsum not in places:
                    raise self.error(f"no Einsum '{run.einsum}'{suggestion(run.einsum, places)}")
                place = places[run.einsum]
                if place in spaces:
                    raise self.error(f"{run.einsum} stands twice")
                if around := tuple(self.own_loops(run, leaf, loops, chosen)):
                    own[place] = around
                if run.nest is not None:
                    nests[place] = run.nest.number
                work, inside = self.problem.work[place], leaf | {loop.axis: loop.step for loop in around}
                spaces[place] = (run.unit, self.space(run, work, inside, chosen), self.time(run, work, inside))
                if run.after is not None:
                    after[place] = self.loop_number(run.after, loops)
        if not spaces:
            raise self.error("no Einsum in this group")
        draft = Draft(self.problem, self.spec, tuple(sorted(spaces)), loops, spaces, after,
                      dict(self.kept(tuple(sorted(spaces)), loops, own)), self.fused.in_flight, own,
                      self.upstream(tuple(sorted(spaces)), loops), self.together(nests), self.table)  # fmt: skip
        try:
            group = bind(draft)
        except IllegalMapping as error:
            reason = str(error).removeprefix(f"{self.problem.cascade.name}: ")
            raise self.error(reason, self.line_of(reason)) from None
        self.check_made(group)
        return group

    def line_of(self, reason: str) -> int:
        """The line of what a reason is about: it begins with the name, an Einsum before a tensor that it makes."""
        if "overlap " in reason:
            return self.fused.overlap_line
        subject = reason.replace(":", " ").split()[0]
        about = [run.line for run in self.fused.runs if run.einsum == subject]
        about += [keep.line for keep in self.fused.keeps if keep.tensor == subject]
        return next(iter(about), 0)

    @cached_property
    def table(self) -> Epochs | None:
        """The software pipeline that the text gives."""
        epochs = self.fused.epochs
        if epochs is not None:
            for fault in epochs.faults({run.einsum: run.unit for run in self.fused.runs}):
                raise self.error(f"overlap epochs: {fault}", epochs.line)
        return epochs

    def check_made(self, group: BoundGroup) -> None:
        """Raises for a line that keeps what the group makes elsewhere than where it stays anyway."""
        at = {keep.tensor: keep for keep in self.fused.keeps
              if keep.memory == GLOBAL_BUFFER and keep.tensor not in self.fused.spills}  # fmt: skip
        for made, run in zip(group.made, group.runs, strict=True):
            outside = (*group.loops, *run.own)
            place = outside[made.depth - 1].part if made.depth else TOP
            if made.tensor not in at:
                continue
            with self.at(at[made.tensor].line):
                if made.where != GLOBAL_BUFFER:
                    raise self.error(f"{made.tensor} is used up in its tile and is not kept; leave the line out")
                if at[made.tensor].at != place:
                    raise self.error(f"{made.tensor} is carried over loops, and stays in {GLOBAL_BUFFER} at {place}")

    def loops(self, chosen: Mapping[tuple[str, int], int]) -> Iterator[BoundLoop]:
        outer = self.problem.whole()
        reached: dict[str, int] = {}
        for name in self.fused.loops:
            axis, place = self.part(name)
            if place < reached.get(axis, 0):
                raise self.error(f"{name} is a loop inside of what it splits: outer parts come first")
            reached[axis] = place + 1
            step = self.step(axis, place, chosen)
            if step > outer[axis] and outer[axis] < self.problem.extents[axis]:
                raise self.error(f"{name} advances by {step}, more than the {outer[axis]} elements of the loop outside")
            if outer[axis] % step and outer[axis] < self.problem.extents[axis]:
                raise self.error(f"{name} advances by {step}, no divisor of the {outer[axis]} of the loop outside")
            yield BoundLoop(name, axis, step, outer[axis])
            outer[axis] = min(step, outer[axis])

    def own_loops(
        self, run: Run, leaf: Mapping[str, int], loops: Sequence[BoundLoop], chosen: Mapping[tuple[str, int], int]
    ) -> Iterator[BoundLoop]:
        """The outer parts that an Einsum walks in time by itself, outermost first, before all other ranks."""
        shared, tile = {loop.part for loop in loops}, dict(leaf)
        outer = [name for name in run.time if self.is_outer(name) and name not in shared]
        if run.nest is not None:
            if outer or shared & set(run.nest.loops):
                around = ", ".join(run.nest.loops)
                raise self.error(f"{run.einsum} stands inside 'for {around}': those are all the loops that it has of "
                                 f"its own, inside of the group's")
            outer = list(run.nest.loops)
        elif outer != list(run.time[: len(outer)]):
            raise self.error(f"{run.einsum} has a loop of its own over {outer[-1]}: before its other ranks")
        for name in outer:
            axis, place = self.part(name)
            if axis in self.problem.chains:
                raise self.error(f"the text splits {axis} into {', '.join(self.problem.chains[axis])}, which only a "
                                 f"group may loop over")
            step = self.step(axis, place, chosen)
            yield BoundLoop(name, axis, step, tile[axis])
            tile[axis] = min(step, tile[axis])

    def together(self, nests: Mapping[int, int]) -> dict[int, int]:
        """Numbers of the nests that several Einsums share; these stand next to each other, in the order of the text."""
        places = {number: [place for place in nests if nests[place] == number] for number in nests.values()}
        for found in places.values():
            apart = set(range(min(found), max(found) + 1)) - set(found)
            if apart:
                names = ", ".join(self.problem.work[place].name for place in sorted(apart))
                raise self.error(f"{names} comes between Einsums of one nest: it needs their loops, or a nest before "
                                 f"or after it")
        return {place: number for place, number in nests.items() if len(places[number]) > 1}

    def is_outer(self, name: str) -> bool:
        """Whether a part advances by tiles of a split that the mapping makes."""
        axis, place = self.parts.get(name, ("", 0))
        return axis in self.splits and place < len(self.splits[axis].steps) and axis not in self.problem.chains

    def space(
        self, run: Run, work: Work, leaf: Mapping[str, int], chosen: Mapping[tuple[str, int], int]
    ) -> tuple[Spread, ...]:
        """Axes in space, each with what one round covers at most: of a tile of several of the text's, one of those.

        An axis over columns and units lies along the columns of all 2D arrays. Of those that share a dimension each
        has as many elements as its tile is long, the last one all that are left.
        """
        over, blocks = self.over(run), dict[str, int]()
        for name, _ in run.space:
            axis, place = self.part(name, whole=True)
            block = min(self.step(axis, place - 1, chosen) if place else leaf[axis], leaf[axis])
            blocks[axis] = work.block(axis, block) if axis in work.axes else block  # others are refused by `time`
        found = []
        for dimensions in dict.fromkeys(over.values()):
            beside = [axis for axis in over if over[axis] == dimensions]
            left = prod(dimension_size(self.spec, dimension) for dimension in dimensions)
            for axis in beside:
                own = min(work.points(axis, blocks[axis]), left) if axis in work.axes and axis != beside[-1] else left
                found.append(Spread(axis, blocks[axis], own, dimensions))
                left //= own
        return tuple(found)

    def over(self, run: Run) -> dict[str, tuple[str, ...]]:
        """The dimensions that each axis in space lies over, those over rows first. Raises where one does not exist, or
        the axes do not share the elements of a unit."""
        names, found = DIMENSIONS[run.unit], dict[str, tuple[str, ...]]()
        for name, dimension in sorted(run.space, key=lambda each: names.index(each[1]) if each[1] in names else -1):
            axis, _ = self.part(name, whole=True)
            if dimension not in names or (dimension == "units" and units(self.spec) == 1):
                has = [each for each in names if each != "units" or units(self.spec) > 1]
                raise self.error(f"{run.unit} has {' and '.join(has)}, no {dimension}")
            if dimension == "units" and axis not in found and len({each[0] for each in found.values()}) < 2:
                raise self.error(f"{run.einsum}: a rank lies over units beside others over rows and columns")
            if axis in found and (*found[axis], dimension) != ("columns", "units"):
                raise self.error(f"{run.einsum}: one axis over two dimensions; split it over rows or columns only")
            found[axis] = (*found.get(axis, ()), dimension)
        if ("columns", "units") in found.values() and {("columns",), ("units",)} & set(found.values()):
            raise self.error(f"{run.einsum}: where a rank lies over columns and units, others do over both or neither")
        return found

    def time(self, run: Run, work: Work, leaf: Mapping[str, int]) -> tuple[str, ...]:
        """Axes of its own loops. Raises where the Einsum does not walk all of its points."""
        own = [name for name in run.time if self.is_outer(name) and name not in self.fused.loops]
        named = list(dict.fromkeys(self.part(name, whole=True)[0] for name in run.time if name not in own))
        spatial = {self.part(name, whole=True)[0] for name, _ in run.space}
        around = {*self.fused.loops, *run.time, *(run.nest.loops if run.nest else ())}
        for name, (axis, place) in ((name, self.part(name, whole=True)) for name, _ in run.space):
            outer = self.splits[axis].parts[place - 1] if place and axis in self.splits else ""
            if outer and outer not in around and axis not in self.problem.chains:
                raise self.error(f"{work.name} has {name} in space and no {outer} around it; '{axis}' is all of it")
        strange = [axis for axis in (*named, *spatial) if axis not in work.axes]
        if strange:
            raise self.error(f"{work.name} has no {', '.join(strange)}; it has {', '.join(sorted(work.axes))}")
        missing = [axis for axis in sorted(work.axes) if work.points(axis, leaf[axis]) > 1
                   and axis not in spatial and axis not in named]  # fmt: skip
        if missing:
            raise self.error(f"{work.name} does not walk all of {', '.join(missing)}: add 'for {', '.join(missing)}'")
        return tuple(axis for axis in named if axis not in spatial)
