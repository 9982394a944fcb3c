"""Which Einsum reads what which other one writes, and along which iterative ranks it reads an earlier value.

Knows the order of a computation, no numbers and no passes. A dependence is *carried* by a rank where the value read
was written in an earlier step of it: `RM[h,m1,p]` of `RM[h,m1+1,p] = ...`. FuseMax (MICRO'24), section II: iteration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Index


@dataclass(frozen=True, slots=True)
class Dependence:
    """Einsum number `reader` reads `access`, which Einsum number `producer` may have written."""

    reader: int
    producer: int
    access: Access
    carried: frozenset[str]


@cache
def dependences(cascade: Cascade) -> tuple[Dependence, ...]:
    return tuple(_dependences(cascade))


def _dependences(cascade: Cascade) -> Iterator[Dependence]:
    for reader, einsum in enumerate(cascade.einsums):
        for access in einsum.inputs:
            for producer, other in enumerate(cascade.einsums):
                if other.name == access.tensor and not _apart(other.output, access):
                    yield Dependence(reader, producer, access, _carried(other.output, access))


def _apart(written: Access, read: Access) -> bool:
    """Whether a read surely takes other coordinates: `RM[h,0,p]` is not written by `RM[h,m1+1,p] = ...`."""
    return any(_never(*pair) for pair in zip(written.indices, read.indices, strict=False))


def _never(written: Index, read: Index) -> bool:
    fixed, target = fixed_coordinate(read), fixed_coordinate(written)
    if target is not None and is_final(read):
        return True  # the state after the last step; a rank has at least one
    if fixed is None:
        return target is not None and read.step is not None and read.step[1] > target
    return target != fixed if target is not None else written.step is not None and written.step[1] > fixed


def fixed_coordinate(index: Index) -> int | None:
    """The coordinate, where it is a plain number."""
    if index.terms or index.gather is not None or index.divisor != 1 or len(index.offsets) > 1:
        return None
    offset = index.offsets[0] if index.offsets else 0
    return offset if isinstance(offset, int) else None


def is_final(index: Index) -> bool:
    """Whether an index is an extent, such as `M1`: the state after the last step."""
    return index.gather is None and not index.terms and len(index.offsets) == 1 and isinstance(index.offsets[0], str)


def _carried(written: Access, read: Access) -> frozenset[str]:
    found = set()
    for target, source in zip(written.indices, read.indices, strict=False):
        if target.step and source.step and target.step[0] == source.step[0] and source.step[1] < target.step[1]:
            found.add(target.step[0])
    return frozenset(found)


def cycles(members: Iterable[int], found: Iterable[Dependence]) -> list[tuple[int, ...]]:
    """Groups of Einsums that depend on each other, each after the groups it reads; single ones included."""
    order = sorted(members)
    reads: dict[int, set[int]] = {member: set() for member in order}
    for dependence in found:
        if dependence.reader in reads and dependence.producer in reads:
            reads[dependence.reader].add(dependence.producer)
    reached = {member: _reached(member, reads) for member in order}
    groups: list[tuple[int, ...]] = []
    left = list(order)
    while left:
        first = next(each for each in left if all(each in reached[one] for one in reached[each] if one in left))
        group = tuple(each for each in left if each == first or (each in reached[first] and first in reached[each]))
        groups.append(group)
        left = [each for each in left if each not in group]
    return groups


def _reached(start: int, reads: dict[int, set[int]]) -> set[int]:
    found: set[int] = set()
    waiting = [start]
    while waiting:
        for each in reads[waiting.pop()]:
            if each not in found:
                found.add(each)
                waiting.append(each)
    return found


@cache
def same_cycle(cascade: Cascade) -> frozenset[tuple[int, int]]:
    """Pairs of Einsums that depend on each other through an iterative rank."""
    groups = cycles(range(len(cascade.einsums)), dependences(cascade))
    return frozenset((one, other) for group in groups for one in group for other in group)
