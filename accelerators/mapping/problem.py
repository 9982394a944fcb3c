"""A cascade at given sizes, as a mapping sees it: axes, which ranks walk them, how many words a tile of a tensor has.

An axis is a whole fiber: m, also where the text walks it as m1 and m0. A tile is a number of elements along each axis;
a rank walks so many points of it, and an access needs so many words. Copies (`BK[m1,m0] = K[m1*M0+m0]`) are names of
what they copy. Knows no machine and no loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any

from cascadesim.accelerators.mapping.attended import AttendedKeys
from cascadesim.accelerators.spec import differences_of_exponentials, point_operations
from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY, wholly_bound
from cascadesim.einsum_cascades.analysis.passes import cycles, dependences, partitions, whole_extent
from cascadesim.einsum_cascades.notation.algebra import factor_polynomial
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Einsum, Factor, Index
from cascadesim.einsum_cascades.notation.operators import fiber_operator, is_copy
from cascadesim.einsum_cascades.sparsity.masks import FULL

STACKED = "stacked heads"  # an axis of what each query head has for itself; no Einsum walks it
Tile = Mapping[str, int]  # axis -> elements


@dataclass(frozen=True, slots=True)
class AxisWalk:
    """How a rank walks its axis: points that are `grain` elements apart, inside stretches of `cap` elements."""

    axis: str
    grain: int
    cap: int

    def points(self, elements: int) -> int:
        return min(elements, self.cap) if self.grain == 1 else -(-min(elements, self.cap) // self.grain)


@dataclass(frozen=True)
class Dimension:
    """One coordinate of an access: a sum of walks times factors and an offset (`RM[m1+1]`), divided."""

    walks: tuple[tuple[AxisWalk, int], ...]
    divisor: int = 1
    offset: int = 0

    def span(self, tile: Tile, offsets: int = 1) -> int:
        """Count the coordinates that a tile needs; `offsets`: neighbouring ones that are read beside each, itself too.

        A stride that is longer than what is read leaves out what lies between; a divided one is a whole stretch.
        """
        if self.divisor != 1:
            last = sum((walk.points(tile[walk.axis]) - 1) * factor for walk, factor in self.walks)
            return last // self.divisor + offsets
        if len(self.walks) == 1:
            (walk, factor), = self.walks
            points = walk.points(tile[walk.axis])
            return offsets + (points - 1) * factor if factor <= offsets else offsets * points
        count = reach = offsets
        for factor, points in sorted((factor, walk.points(tile[walk.axis])) for walk, factor in self.walks):
            dense = count == reach and factor <= reach
            reach += (points - 1) * factor
            count = reach if dense else count * points
        return count

    @cached_property
    def axes(self) -> tuple[str, ...]:
        return tuple(walk.axis for walk, _ in self.walks)


@dataclass(frozen=True)
class TensorUse:
    """A tensor as an Einsum uses it. `tensor`: what is moved (the source of a copy); `state`: of an iterative rank."""

    name: str
    tensor: str
    dimensions: tuple[Dimension, ...]
    final: bool = False  # the value after the last step

    @cached_property
    def axes(self) -> frozenset[str]:
        return frozenset(axis for dimension in self.dimensions for axis in dimension.axes)

    def words(self, tile: Tile) -> int:
        if self.sides is None:
            return prod(dimension.span(tile) for dimension in self.dimensions)
        return prod([min(tile[axis], cap) for axis, cap in self.sides])  # a search asks this millions of times

    @cached_property
    def sides(self) -> tuple[tuple[str, int], ...] | None:
        """Axis and longest stretch of each coordinate, where each walks one axis element by element."""
        walks = [each for dimension in self.dimensions for each in dimension.walks]
        alone = all(len(dimension.walks) < 2 and dimension.divisor == 1 for dimension in self.dimensions)
        plain = alone and all(walk.grain * factor == 1 for walk, factor in walks)
        return tuple((walk.axis, walk.cap) for walk, _ in walks) if plain else None

    @cached_property
    def shape(self) -> tuple[Dimension, ...]:
        """The dimensions without their offsets."""
        return tuple(replace(dimension, offset=0) for dimension in self.dimensions)


@dataclass(frozen=True)
class Work:
    """An Einsum that computes. `axes`: those it walks, with the walk that covers them; `cyclic`: needed by itself."""

    number: int
    einsum: Einsum
    walks: Mapping[str, tuple[AxisWalk, ...]]
    output: TensorUse
    inputs: tuple[TensorUse, ...]
    operations: Mapping[str, int]  # per point, in the classes of arrays
    iterates: frozenset[str]  # axes along which it writes the next value of a state

    @property
    def name(self) -> str:
        return self.einsum.name

    @cached_property
    def axes(self) -> frozenset[str]:
        return frozenset(self.walks)

    @cached_property
    def differences(self) -> int:
        """Of its additions, the differences that go straight into exponentials."""
        return differences_of_exponentials(self.einsum.expression)

    def __repr__(self) -> str:
        return f"Work({self.name})"

    @cached_property
    def reduced(self) -> frozenset[str]:
        """Axes that it sums over, or takes the maximum over; walking the state of an axis keeps it."""
        return self.axes - self.output.axes - self.iterates

    def points(self, axis: str, elements: int) -> int:
        """Count the points along one axis of a tile: all ranks that walk it together."""
        walks = self.walks[axis]
        if len(walks) == 1:
            return walks[0].points(elements)
        return -(-elements // min(walk.grain for walk in walks))  # m1 and m0 together walk m

    def block(self, axis: str, elements: int) -> int:
        """Elements of a tile that one round in space covers at most: those of its innermost rank."""
        return min(elements, min(self.walks[axis], key=lambda walk: (walk.grain, walk.cap)).cap)


@dataclass(frozen=True)
class MappingProblem:
    """`extents` of axes, `instances` of everything, and the extents of ranks by name (`sizes`), for the text."""

    cascade: Cascade
    extents: Mapping[str, int]
    sizes: Mapping[str, int]
    instances: int
    work: tuple[Work, ...]
    sources: Mapping[str, str]  # copy -> what it copies
    chains: Mapping[str, tuple[str, ...]]  # axis -> ranks of the text that split it, outermost first
    starts: tuple[tuple[str, TensorUse], ...] = ()  # state and input that it begins with: `RM[h,0,p] = SINK[h]`
    attended: AttendedKeys | None = None  # None: all pairs of query and key
    # results of any group that lie whole in the buffer while a group runs, or in another memory: words of all instances
    staying: Mapping[str, int] = field(default_factory=dict)
    resting: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    spilled: Mapping[str, str] = field(default_factory=dict)  # the name by which a group reads a result -> that result
    known: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)  # what many groups ask for again

    @property
    def outputs(self) -> frozenset[str]:
        return frozenset((*(self.sources.get(name, name) for name in self.cascade.outputs), *self.spilled.values()))

    @cached_property
    def cycles(self) -> tuple[frozenset[int], ...]:
        """For each Einsum that computes, by place: the places of those that it and they need each other's values."""
        place, found = {work.number: index for index, work in enumerate(self.work)}, cycles(self.cascade)
        return tuple(frozenset(place[other] for other in found[work.number] if other in place) for work in self.work)

    @cached_property
    def stretches(self) -> frozenset[tuple[int, int]]:
        """First and last place of Einsums that must share loops: between a reader and what makes its value later."""
        spans = sorted((min(own), max(own)) for own in self.cycles if len(own) > 1)
        spans += [(place, self.producers[use.tensor]) for place, work in enumerate(self.work) for use in work.inputs
                  if self.producers.get(use.tensor, -1) > place]  # fmt: skip
        merged: list[tuple[int, int]] = []
        for first, last in sorted(spans):
            if merged and first <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(last, merged[-1][1])
            else:
                merged.append((first, last))
        return frozenset(merged)

    @cached_property
    def producers(self) -> Mapping[str, int]:
        """Tensor -> place of the last Einsum that makes it."""
        return {work.output.tensor: place for place, work in enumerate(self.work)}

    @cached_property
    def readers(self) -> Mapping[str, tuple[int, ...]]:
        """Tensor -> places of the Einsums that read it."""
        found: dict[str, list[int]] = {}
        for index, work in enumerate(self.work):
            for operand in work.inputs:
                found.setdefault(operand.tensor, []).append(index)
        return {tensor: tuple(dict.fromkeys(places)) for tensor, places in found.items()}

    @cached_property
    def feeds(self) -> tuple[tuple[tuple[int, bool], ...], ...]:
        """For each Einsum that computes: places of those whose results it reads, and whether of an earlier step."""
        place = {work.number: index for index, work in enumerate(self.work)}
        found: list[list[tuple[int, bool]]] = [[] for _ in self.work]
        for each in dependences(self.cascade):
            if each.reader in place and each.producer in place:
                found[place[each.reader]].append((place[each.producer], bool(each.distances)))
        return tuple(tuple(dict.fromkeys(each)) for each in found)

    @cached_property
    def needs(self) -> tuple[frozenset[int], ...]:
        """For each Einsum that computes: places of those whose results of the same step it needs, directly or not."""
        found: list[frozenset[int]] = []
        for feeds in self.feeds:
            direct = {place for place, previous in feeds if not previous and place < len(found)}
            found.append(frozenset(direct).union(*(found[place] for place in direct)))
        return tuple(found)

    def __repr__(self) -> str:
        return f"MappingProblem({self.cascade.name}, {dict(self.extents)}, {self.instances} instances)"

    def whole(self) -> dict[str, int]:
        return dict(self.extents)

    def stored(self, tensor: str) -> str:
        return self.spilled.get(tensor, tensor)

    def with_staying(self, words: Mapping[str, int], resting: Mapping[str, tuple[str, int]]) -> MappingProblem:
        """The same while tensors of so many words lie in the buffer, and others in the memories outside of it."""
        same = dict(words) == dict(self.staying) and dict(resting) == dict(self.resting)
        return self if same else replace(self, staying=dict(words), resting=dict(resting), known={})


def problem(
    cascade: Cascade, given: Mapping[str, int], instances: int = 1, stacked_heads: int = 1,
    attended: AttendedKeys | None = None,
) -> MappingProblem:  # fmt: skip
    """Bind a cascade. `given`: extents by name in upper case, inner extents of its partitions (M0) included.

    `stacked_heads`: query heads along the queries; what each has for itself (a sink) comes so many times. Raises
    CascadeSimError for extents that are missing, and for gathered coordinates and operators on whole fibers.
    """
    sizes = dict(wholly_bound(cascade, given, FULL).extents)
    chains = _chains(cascade)
    walks = _walks(cascade, chains, sizes)
    extents = {walk.axis: max(walk.cap, 1) for walk in walks.values()} | {axis: sizes[axis.upper()] for axis in chains}
    sources = _sources(cascade)
    extents |= {STACKED: stacked_heads} if stacked_heads > 1 else {}
    reader = _Reader(cascade, walks, chains, sources, sizes, stacked_heads)
    work = tuple(reader.work(number, einsum) for number, einsum in enumerate(cascade.einsums)
                 if einsum.inputs and not (is_copy(einsum) and (einsum.name in sources or _is_start(einsum))))
    starts = tuple((einsum.name, reader.operand(einsum.inputs[0], f"{cascade.name}, line {einsum.line}"))
                   for einsum in cascade.einsums if is_copy(einsum) and _is_start(einsum))
    return MappingProblem(cascade, extents, sizes, instances, work, sources, chains, starts, attended)


def _is_start(einsum: Einsum) -> bool:
    """A copy into the first value of a state, `RM[h,0,p] = SINK[h]`: it moves nothing by itself."""
    return any(index.fixed is not None for index in einsum.output.indices)


def _chains(cascade: Cascade) -> dict[str, tuple[str, ...]]:
    """Axes that the text itself splits and no other partition shares a part with: m of (m1, m0)."""
    found = partitions(cascade)
    shared = {part for parts in found for part in parts if sum(part in other for other in found) > 1}
    own = {whole_extent(parts).lower(): parts for parts in found if shared.isdisjoint(parts)}
    return {axis: parts for axis, parts in own.items() if axis.isidentifier() and axis.upper() not in parts}


def _walks(cascade: Cascade, chains: Mapping[str, tuple[str, ...]], sizes: Mapping[str, int]) -> dict[str, AxisWalk]:
    found: dict[str, AxisWalk] = {}
    for axis, parts in chains.items():
        cap = sizes[axis.upper()]
        for position, part in enumerate(parts):
            grain = prod(sizes[inner.upper()] for inner in parts[position + 1 :])
            found[part] = AxisWalk(axis, grain, cap)
            cap = grain
        found.setdefault(axis, AxisWalk(axis, 1, sizes[axis.upper()]))
    return found | {rank: AxisWalk(rank, 1, sizes[rank.upper()]) for rank in cascade.ranks if rank not in found}


def _sources(cascade: Cascade) -> dict[str, str]:
    """Copy -> what it copies, where that is a whole tensor or the last value of a state."""
    found: dict[str, str] = {}
    for einsum in cascade.einsums:
        if is_copy(einsum) and not _is_start(einsum) and set(einsum.output.ranks) <= set(einsum.inputs[0].ranks):
            source = einsum.inputs[0].tensor
            if sum(other.name == einsum.name for other in cascade.einsums) == 1:
                found[einsum.name] = found.get(source, source)
    return found


@dataclass(frozen=True)
class _Reader:
    cascade: Cascade
    ranks: Mapping[str, AxisWalk]
    chains: Mapping[str, tuple[str, ...]]
    sources: Mapping[str, str]
    sizes: Mapping[str, int]
    stacked_heads: int

    def work(self, number: int, einsum: Einsum) -> Work:
        where = f"{self.cascade.name}, line {einsum.line}"
        if fiber_operator(einsum) is not None:
            raise CascadeSimError(f"{where}: {einsum.text}: no loop nest of an array has an operator on whole fibers")
        walks: dict[str, tuple[AxisWalk, ...]] = {}
        for rank in einsum.ranks:
            walk = self.ranks[rank]
            walks[walk.axis] = (*walks.get(walk.axis, ()), walk)
        inputs = tuple(dict.fromkeys(self.operand(access, where) for access in einsum.inputs))
        iterates = frozenset(self.ranks[rank].axis for rank in einsum.iterates)
        output = self.operand(einsum.output, where)
        return Work(number, einsum, walks, output, inputs, dict(point_operations(einsum)), iterates)

    def operand(self, access: Access, where: str) -> TensorUse:
        if any(index.gather is not None for index in access.indices):
            raise CascadeSimError(f"{where}: {access.tensor} is read where another tensor says; no loop nest of an "
                                  f"array has gathered coordinates yet")
        dimensions = tuple(self._dimensions(access))
        final = any(index.final is not None for index in access.indices)
        return TensorUse(access.tensor, self.sources.get(access.tensor, access.tensor), dimensions, final)

    def _dimensions(self, access: Access) -> Iterator[Dimension]:
        """Ranks that split one axis (m1, m0) make one dimension of it, on one coordinate or on several."""
        joint = {axis for axis, parts in self.chains.items() if set(parts) <= set(access.ranks)}
        axes = {self.ranks[rank].axis for rank in access.ranks}
        if self.stacked_heads > 1 and "h" in axes and not axes & {KEY, QUERY}:
            yield Dimension(((AxisWalk(STACKED, 1, self.stacked_heads), 1),))
        for axis in sorted(joint):
            yield Dimension(((AxisWalk(axis, 1, self.sizes[axis.upper()]), 1),))
        for index in access.indices:
            terms = tuple(self._terms(index, joint))
            if terms:
                yield Dimension(terms, self._number(index.divisor), sum(map(self._number, index.offsets)))

    def _terms(self, index: Index, joint: set[str]) -> Iterator[tuple[AxisWalk, int]]:
        for rank, factor in index.terms:
            if self.ranks[rank].axis not in joint:
                yield self.ranks[rank], abs(self._number(factor))

    def _number(self, factor: Factor) -> int:
        return int(factor_polynomial(factor).value(self.sizes))
