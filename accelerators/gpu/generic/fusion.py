"""Which Einsums of a text one kernel computes: everything that makes one pass over the ranks that its blocks walk.

A block of the grid owns some coordinates of the ranks that are not reduced, and walks the others in tiles. A kernel
ends where a reduced result is needed whole: to walk the same fiber again (the next pass of FuseMax, MICRO'24, section
III-A), or by blocks that did not make it (all queries read the sum over all keys of linear attention). No block repeats
a reduction of another. Depths (e, f, k) stay within a block. Knows no sizes and no device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache, cached_property

from cascadesim.accelerators.binding import DEPTHS
from cascadesim.einsum_cascades.analysis.passes import (
    Dependence,
    RankGroup,
    Traversal,
    cycles,
    dependences,
    rank_groups,
    traversal,
)
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Einsum
from cascadesim.einsum_cascades.notation.operators import fiber_operator

INNERMOST = "0"  # what ranks of one tile end with in the texts: a block keeps all of m0, and of i0 beside it


@dataclass(frozen=True)
class FusedKernel:
    """Einsums, by their numbers in the text, that one kernel computes.

    `streamed`: what each block walks whole, because an Einsum reduces it, or steps along it with a running value.
    `grid`: what is divided among blocks. `after`: Einsums that wait for the end of the walk. `circuit`: Einsums from
    one running value to its next one; 0 where nothing runs.
    """

    einsums: tuple[int, ...]
    after: frozenset[int]
    streamed: tuple[RankGroup, ...]
    grid: tuple[RankGroup, ...]
    circuit: int

    @property
    def running(self) -> bool:
        return self.circuit > 0

    @property
    def during(self) -> tuple[int, ...]:
        return tuple(number for number in self.einsums if number not in self.after)


@cache
def fused_kernels(cascade: Cascade) -> tuple[FusedKernel, ...]:
    """Kernels in the order in which they run. Raises CascadeSimError for an operator that no kernel here has."""
    for einsum in cascade.einsums:
        accesses = (einsum.output, *einsum.inputs)
        gathers = any(index.gather is not None for access in accesses for index in access.indices)
        if gathers or fiber_operator(einsum) is not None:
            what = "a gather of elements by coordinates in a tensor" if gathers else "a selection from a whole fiber"
            raise CascadeSimError(f"{cascade.name}, line {einsum.line}: {einsum.name} needs {what}; no rate of that on "
                                  f"GPUs is known here, write the text without it")  # fmt: skip
    return tuple(_in_order(_Text(cascade)))


@dataclass(frozen=True)
class _Signature:
    """What a reduction or a running value makes of the ranks of its kernel."""

    streamed: frozenset[RankGroup]
    grid: frozenset[RankGroup]


@dataclass
class _Group:
    """Einsums that are found to belong together. `signature`: of its reductions, which all have the same."""

    level: int
    numbers: set[int]
    walked: frozenset[RankGroup]
    signature: _Signature | None

    def joins(self, other: _Group) -> bool:
        """Whether one kernel can compute both: what either walks is streamed or divided by the reductions of both."""
        found = {each.signature for each in (self, other)} - {None}
        covered = [one.streamed | one.grid for one in found if one is not None]
        return self.level == other.level and len(found) < 2 and all(self.walked | other.walked <= one
                                                                     for one in covered)  # fmt: skip

    def absorb(self, other: _Group) -> None:
        self.numbers |= other.numbers
        self.walked |= other.walked
        self.signature = self.signature or other.signature


@dataclass(frozen=True)
class _Text:
    """A cascade with when its Einsums run along every fiber that is no depth."""

    cascade: Cascade

    @cached_property
    def times(self) -> Mapping[RankGroup, Traversal]:
        return {each: traversal(self.cascade, each) for each in rank_groups(self.cascade)
                if DEPTHS.isdisjoint({each.name, *each.members}) and not each.name.endswith(INNERMOST)}

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Einsums that a kernel computes; renamed inputs and first values of states cost nothing."""
        return tuple(number for number, _ in enumerate(self.cascade.einsums)
                     if all(each.values[number] for each in self.times.values()))  # fmt: skip

    @cached_property
    def edges(self) -> tuple[Dependence, ...]:
        own = set(self.numbers)
        return tuple(each for each in dependences(self.cascade) if {each.producer, each.reader} <= own)

    def walked(self, number: int) -> frozenset[RankGroup]:
        return frozenset(each for each in self.times if each.walked_by(self.cascade.einsums[number]))

    def signature(self, number: int) -> _Signature | None:
        """None for an Einsum that completes nothing; a state within a tile (over m0) is none of its kernel."""
        einsum = self.cascade.einsums[number]
        streamed = frozenset(each for each, when in self.times.items() if not each.outer.isdisjoint(einsum.iterates)
                             or (when.runs[number] % 2 == 0 and _reduces(einsum, each)))  # fmt: skip
        return _Signature(streamed, self.walked(number) - streamed) if streamed else None

    def ends_kernel(self, edge: Dependence) -> bool:
        """Whether the reader walks a fiber again, of which the producer was there in an earlier walk or after it."""
        for when in self.times.values():
            made, read = when.values[edge.producer], when.runs[edge.reader]
            if made >= 2 and read % 2 == 0 and read > made:
                return True
        return False

    @cached_property
    def levels(self) -> Mapping[int, int]:
        """How many walks of the same fiber, one after another, come before that of each Einsum.

        What waits for nothing that is complete goes to its first reader.
        """
        found = dict.fromkeys(self.numbers, 0)
        ends = [(edge, self.ends_kernel(edge)) for edge in self.edges]
        for _ in self.numbers:
            for edge, later in ends:
                found[edge.reader] = max(found[edge.reader], found[edge.producer] + later)
        for number in reversed(self.numbers):
            readers = [found[edge.reader] for edge in self.edges if edge.producer == number]
            waits = any(when.values[number] >= 3 for when in self.times.values())
            if readers and not waits and self.signature(number) is None:
                found[number] = max(found[number], min(readers))
        return found


def _reduces(einsum: Einsum, over: RankGroup) -> bool:
    return over.walked_by(einsum) and over.outer.isdisjoint(einsum.output.ranks)


def _groups(text: _Text) -> list[_Group]:
    """Producers join their readers in the order of the text; then reductions of the same ranks join each other."""
    groups = {number: _Group(text.levels[number], {number}, text.walked(number), text.signature(number))
              for number in text.numbers}  # fmt: skip
    alike = [(one, other) for one in text.numbers for other in text.numbers
             if one < other and text.signature(one) is not None and text.signature(one) == text.signature(other)]
    for one, other in (*((edge.producer, edge.reader) for edge in text.edges), *alike):
        first, second = groups[one], groups[other]
        if first is not second and first.joins(second):
            first.absorb(second)
            groups.update(dict.fromkeys(second.numbers, first))
    return list({id(group): group for group in groups.values()}.values())


def _in_order(text: _Text) -> Iterator[FusedKernel]:
    """Producers first. Raises CascadeSimError where two kernels need each other."""
    left = sorted(_groups(text), key=lambda group: (group.level, min(group.numbers)))
    made = {number for number, _ in enumerate(text.cascade.einsums)} - set(text.numbers)
    while left:
        needed = {id(group): {edge.producer for edge in text.edges if edge.reader in group.numbers} - group.numbers
                  for group in left}  # fmt: skip
        ready = next((group for group in left if needed[id(group)] <= made), None)
        if ready is None:
            names = ", ".join(text.cascade.einsums[number].name for number in sorted(left[0].numbers))
            raise CascadeSimError(f"{text.cascade.name}: no order of kernels computes {names}: they need values of "
                                  f"kernels that need theirs")  # fmt: skip
        left.remove(ready)
        made |= ready.numbers
        yield _kernel(text, ready)


def _kernel(text: _Text, group: _Group) -> FusedKernel:
    found = group.signature or _Signature(frozenset(), group.walked)
    anchors = [number for number in group.numbers if text.signature(number) is not None]
    ends = {each: max(text.times[each].runs[number] for number in anchors) for each in found.streamed}
    after = frozenset(number for number in group.numbers if number not in anchors and any(
        text.times[each].runs[number] % 2 == 1 and text.times[each].runs[number] > end
        for each, end in ends.items()))  # fmt: skip
    order = tuple(each for each in text.times if each in found.streamed | found.grid)
    return FusedKernel(
        tuple(sorted(group.numbers)), after, tuple(each for each in order if each in found.streamed),
        tuple(each for each in order if each in found.grid),
        max((len(cycles(text.cascade)[number]) for number in anchors
             if text.cascade.einsums[number].iterates), default=0),
    )  # fmt: skip


def free_depth(cascade: Cascade, kernel: FusedKernel) -> str | None:
    """A depth of results that no Einsum of the kernel sums over, the innermost: blocks may divide it."""
    einsums = [cascade.einsums[number] for number in kernel.einsums]
    made = {rank for einsum in einsums for rank in einsum.output.ranks} & DEPTHS
    summed = {rank for einsum in einsums for rank in einsum.reduced_ranks}
    return next((rank for rank in reversed(cascade.ranks) if rank in made - summed), None)


def loads(cascade: Cascade, numbers: Set[int]) -> tuple[tuple[str, Access], ...]:
    """(tensor, access) of everything that these Einsums read and do not make; renamed inputs by their own name."""
    given = _renamed(cascade)
    made = {cascade.einsums[number].name for number in numbers}
    found: dict[tuple[str, tuple[str, ...]], Access] = {}
    for access in (access for number in sorted(numbers) for access in cascade.einsums[number].inputs):
        for tensor in given.get(access.tensor, (access.tensor,)):
            if tensor not in made and tensor in {*cascade.inputs, *cascade.produced}:
                found.setdefault((tensor, access.ranks), access)
    return tuple((tensor, access) for (tensor, _), access in found.items())


def stores(cascade: Cascade, numbers: Set[int]) -> tuple[str, ...]:
    """Results of these Einsums that others read, or that are outputs of the cascade."""
    made = dict.fromkeys(cascade.einsums[number].name for number in sorted(numbers))
    own = {number for number, einsum in enumerate(cascade.einsums) if einsum.name in made}
    read = {edge.access.tensor for edge in dependences(cascade) if edge.reader not in numbers | own}
    return tuple(name for name in made if name in read or name in cascade.outputs)


def spilled(cascade: Cascade, kernel: FusedKernel) -> tuple[tuple[str, Access], ...]:
    """What is made tile by tile and read again after the walk, such as the maxima of all tiles: kept in memory."""
    during = {cascade.einsums[number].name for number in kernel.during}
    walked = frozenset[str]().union(*(each.outer for each in kernel.streamed))
    return tuple((tensor, access) for tensor, access in loads(cascade, kernel.after)
                 if tensor in during and walked & set(access.ranks))  # fmt: skip


@cache
def _renamed(cascade: Cascade) -> Mapping[str, tuple[str, ...]]:
    """Tensor that only renames inputs -> those inputs; a state that begins as one reads it and its own steps."""
    given: dict[str, tuple[str, ...]] = {}
    computed = set(_Text(cascade).numbers)
    for number, einsum in enumerate(cascade.einsums):
        if number not in computed:
            sources = tuple(source for access in einsum.inputs for source in given.get(access.tensor, (access.tensor,)))
            steps = [other for other in computed if cascade.einsums[other].name == einsum.name]
            given[einsum.name] = (*sources, *((einsum.name,) if steps else ()))
    return given
