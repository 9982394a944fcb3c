"""Which rank variables walk the same fiber: `m`, its partition `(m1,m0)`, and other letters for the same coordinates.

Rank variables belong together where they index the same dimension of a tensor and never meet in one Einsum (`m` and
`p` of self-attention meet in QK: they are two ranks). A partition is an affine index whose factors are the extents of
its inner ranks (`m1*M0+m0`), whatever tensor it stands on. FuseMax (MICRO'24), section II: partitioned ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product, takewhile
from typing import TypeAlias

from cascadesim.einsum_cascades.notation.algebra import factor_polynomial
from cascadesim.einsum_cascades.notation.errors import UnknownNameError
from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Einsum, Index

Parts: TypeAlias = tuple[str, ...]  # rank variables, outermost first
Space: TypeAlias = tuple[str, ...] | tuple[str, int]  # ("rank", m), (tensor, dimension) or ("parts", m1, m0)


@dataclass(frozen=True, slots=True)
class RankGroup:
    """Rank variables over one fiber. `covers`: sets of them that walk all of it; `outer`: the outermost loop."""

    name: str
    outer: frozenset[str]
    covers: tuple[frozenset[str], ...]
    members: frozenset[str]
    inner: Parts = ()  # the ranks of its partition, without the outermost; empty where it is not partitioned

    def traversed_by(self, einsum: Einsum) -> bool:
        """Whether the Einsum walks the whole fiber; one over m1 alone walks a summary."""
        return any(cover <= set(einsum.ranks) for cover in self.covers)

    def walked_by(self, einsum: Einsum) -> bool:
        """Whether the Einsum walks the fiber or a summary of it."""
        return not self.outer.isdisjoint(einsum.ranks)


@cache
def rank_groups(cascade: Cascade) -> tuple[RankGroup, ...]:
    """One group per fiber, in order of first use; the parts of a partition are inside the group of the whole."""
    spaces = _spaces(cascade)
    return tuple(map(spaces.group, spaces.wholes()))


def rank_group(cascade: Cascade, rank: str) -> RankGroup:
    """The group called `rank` or that rank variable's own. Raises UnknownNameError."""
    known = {each.name: each for each in rank_groups(cascade)}
    if rank in known:
        return known[rank]
    if rank not in cascade.ranks:
        raise UnknownNameError(f"rank of {cascade.name}", rank, {*known, *cascade.ranks})
    spaces = _spaces(cascade)
    return spaces.group(spaces.find(("rank", rank)))


def all_accesses(cascade: Cascade) -> Iterator[tuple[Einsum, Access]]:
    """Every access with its Einsum, results before what they are computed from."""
    for einsum in cascade.einsums:
        for access in (einsum.output, *einsum.inputs):
            yield einsum, access


@cache
def scattered_extents(cascade: Cascade) -> Mapping[tuple[str, int], tuple[str, ...]]:
    """Extents whose product is the length of each dimension that is written at data: `(Y, 0)` of `Y[IDX[e]] += V[e]`.

    It is as long as the ranks at which another line reads it (N of `Y[n]`), or as those that walk another dimension in
    which the same coordinates are used (N of `X[n]`, where there is `X[IDX[e]]`), or the extent called IDX.
    """
    walked: dict[Space, Parts] = {}  # the ranks at which each dimension is read or written
    held: dict[str, list[Space]] = {}  # the dimensions in which the coordinates of a tensor are used
    for _, access in all_accesses(cascade):
        for place, index in enumerate(access.indices):
            if index.gather is not None:
                held.setdefault(index.gather.tensor, []).append((access.tensor, place))
            elif index.terms:
                walked.setdefault((access.tensor, place), index.ranks)
    found = {}
    for einsum in cascade.einsums:
        for place, index in enumerate(einsum.output.indices):
            if index.gather is not None:
                same = [walked[each] for each in ((einsum.name, place), *held[index.gather.tensor]) if each in walked]
                names = same[0] if same else (index.gather.tensor,)
                found[einsum.name, place] = tuple(name.upper() for name in names)
    return found


def partition(index: Index) -> Parts | None:
    """`(m1, m0)` of `m1*M0+m0`: each factor is the product of the extents further in; None for other indices.

    A number stands for the inner extent where two ranks have the same letters: `m1*4+m0`.
    """
    if len(index.terms) < 2 or index.divisor != 1 or index.offsets:
        return None
    factors = {names: (rank, number) for rank, value in index.terms
               for names, number in factor_polynomial(value).terms.items()}
    if len(factors) != len(index.terms):
        numbers = sorted(((value, rank) for rank, value in index.terms if isinstance(value, int)), reverse=True)
        ranks = tuple(rank for _, rank in numbers)
        same = len(numbers) == len(index.terms) == 2 and len(_stems(ranks)) == 1
        return ranks if same and numbers[0][0] > 1 == numbers[1][0] else None
    found: Parts = ()
    while (extents := tuple(sorted(rank.upper() for rank in found))) in factors and len(found) < len(index.terms):
        rank, number = factors[extents]
        if number != 1:
            return None
        found = (rank, *found)
    return found if len(found) == len(index.terms) else None


@cache
def partitions(cascade: Cascade) -> tuple[Parts, ...]:
    """The parts of every rank that the text splits, outermost first: (m1, m0) of `K[h,m1*M0+m0,e]`."""
    return tuple(dict.fromkeys(parts for parts in map(partition, cascade.indices) if parts is not None))


def whole_extent(parts: Parts) -> str:
    """M of m1, m0, and of mo, mi; C+P of parts with letters of their own."""
    return _whole(parts).upper() or "+".join(_stems(parts)).upper()


def _whole(parts: Parts) -> str:
    """`m` of m1, m0, and of mo, mi: the letters that all parts have or begin with; nothing where there are none."""
    letters = "".join(same[0] for same in takewhile(lambda each: len(set(each)) == 1, zip(*parts, strict=False)))
    stems = _stems(parts)
    return stems[0] if len(stems) == 1 else letters.rstrip("0123456789").rstrip("_")


def _stems(parts: Parts) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.rstrip("0123456789").rstrip("_") for part in parts))


@cache
def _spaces(cascade: Cascade) -> _Spaces:
    return _Spaces(cascade)


class _Spaces:
    """Union-find over ranks, dimensions of tensors and partitions."""

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.parts = partitions(cascade)
        self.parent: dict[Space, Space] = {}
        self.quotients: list[tuple[Space, Space]] = []  # (whole, outer part): LM[m//M0]
        for rank in cascade.ranks:
            self.find(("rank", rank))
        for _, access in all_accesses(cascade):
            for place, index in enumerate(access.indices):
                self._place((access.tensor, place), index)
        for parts in self.parts:  # ranks keep their letters: m1*M0+m0 walks what m walks, on any tensor
            whole = _whole(parts)
            self.find(("parts", *parts))
            if whole in cascade.ranks:
                self._join(("rank", whole), ("parts", *parts))
            for other in self.parts:
                if whole and other[0] == parts[0] and other != parts:
                    self._join(("parts", *other), ("parts", *parts))

    def _place(self, dimension: Space, index: Index) -> None:
        """What walks a dimension of a tensor."""
        parts = partition(index)
        if parts is not None:
            self._join(dimension, ("parts", *parts))
        elif index.step is not None:
            self._join(dimension, ("rank", index.step[0]))
        elif index.divisor != 1 and len(index.terms) == 1 and index.terms[0][1] == 1 and not index.offsets:
            self.quotients.append((("rank", index.terms[0][0]), dimension))

    def find(self, space: Space) -> Space:
        self.parent.setdefault(space, space)
        while self.parent[space] != space:
            space = self.parent[space]
        return space

    def _join(self, one: Space, other: Space) -> None:
        """Two spaces are one, unless rank variables of theirs, those of partitions included, meet in an Einsum."""
        one, other = self.find(one), self.find(other)
        first, second = (frozenset(str(name) for space in self.parent if self.find(space) == root
                                   if space[0] in ("rank", "parts") for name in space[1:]) for root in (one, other))
        meet = any(first - second & set(einsum.ranks) and second - first & set(einsum.ranks)
                   for einsum in self.cascade.einsums)
        if one != other and not meet:
            self.parent[other] = one

    def wholes(self) -> tuple[Space, ...]:
        """Roots of groups, in order of first use; a part is represented by its whole."""
        whole = {self.find(("rank", rank)): self.find(("parts", *parts)) for parts in self.parts for rank in parts}
        found: dict[Space, None] = {}
        for rank in self.cascade.ranks:
            root = self.find(("rank", rank))
            for _ in self.parts:
                root = whole.get(root, root)
            found[root] = None
        return tuple(found)

    def group(self, root: Space) -> RankGroup:
        covers, outer = self._covers(root, len(self.parts)), self._outer(root, len(self.parts))
        plain = self._plain(root)
        parts = next((parts for parts in self.parts if self.find(("parts", *parts)) == root), ())
        letters = _whole(parts) or "".join(_stems(parts[-1:]))
        name = plain[0] if plain else "+".join(parts) if letters in self.cascade.ranks else letters
        return RankGroup(name, outer, covers, frozenset().union(*covers, outer), parts[1:])

    def _covers(self, root: Space, depth: int) -> tuple[frozenset[str], ...]:
        found = [frozenset({rank}) for rank in self._plain(root)]
        for parts in self.parts if depth else ():
            if self.find(("parts", *parts)) == root:
                choices = product(*(self._covers(self.find(("rank", rank)), depth - 1) for rank in parts))
                found += [frozenset().union(*choice) for choice in choices]
        return tuple(dict.fromkeys(found))

    def _outer(self, root: Space, depth: int) -> frozenset[str]:
        found = frozenset(self._plain(root))
        for parts in self.parts if depth else ():
            if self.find(("parts", *parts)) == root:
                found |= self._outer(self.find(("rank", parts[0])), depth - 1)
        for whole, outer in self.quotients:
            if self.find(whole) == root and self.find(outer) != root:
                found |= frozenset(self._plain(self.find(outer)))
        return found

    def _plain(self, root: Space) -> list[str]:
        return [rank for rank in self.cascade.ranks if self.find(("rank", rank)) == root]
