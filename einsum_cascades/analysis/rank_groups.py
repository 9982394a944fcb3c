"""Which rank variables walk the same fiber: `m`, its partition `(m1,m0)`, and other letters for the same coordinates.

Rank variables belong together where they index the same dimension of a tensor and never meet in one Einsum (`m` and
`p` of self-attention meet in QK: they are two ranks). A partition is an affine index whose factors are the extents of
its inner ranks (`m1*M0+m0`), whatever tensor it stands on. FuseMax (MICRO'24), section II: partitioned ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product, takewhile
from typing import TypeAlias

from cascadesim.einsum_cascades.notation.affine import affine
from cascadesim.einsum_cascades.notation.errors import UnknownNameError
from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Einsum, Index, conditions

Parts: TypeAlias = tuple[str, ...]  # rank variables, outermost first
Space: TypeAlias = tuple[str, ...] | tuple[str, int]  # ("rank", m), (tensor, dimension) or ("parts", m1, m0)


@dataclass(frozen=True, slots=True)
class Family:
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
        return not self.outer.isdisjoint(einsum.ranks)


@cache
def families(cascade: Cascade) -> tuple[Family, ...]:
    """One family per fiber, in order of first use; the parts of a partition are inside the family of the whole."""
    spaces = _spaces(cascade)
    return tuple(spaces.family(root) for root in spaces.wholes())


def family(cascade: Cascade, rank: str) -> Family:
    """The family called `rank` or that rank variable's own. Raises UnknownNameError."""
    known = families(cascade)
    for each in known:
        if each.name == rank:
            return each
    if rank not in cascade.ranks:
        raise UnknownNameError(f"rank of {cascade.name}", rank, {*(each.name for each in known), *cascade.ranks})
    spaces = _spaces(cascade)
    return spaces.family(spaces.find(("rank", rank)))


def all_accesses(cascade: Cascade) -> Iterator[tuple[Einsum, Access]]:
    for einsum in cascade.einsums:
        for access in (einsum.output, *einsum.inputs):
            yield einsum, access


def partition(index: Index) -> Parts | None:
    """`(m1, m0)` of `m1*M0+m0`: each factor is the product of the extents further in; None for other indices."""
    if len(index.terms) < 2 or index.divisor != 1 or index.offsets:
        return None
    factors = {names: (rank, coefficient) for (rank, names), coefficient in affine(index).parts.items()}
    if len(factors) != len(index.terms):
        return _numbered_partition(index)
    found: list[str] = []
    extents: tuple[str, ...] = ()
    while extents in factors and len(found) < len(index.terms):
        rank, coefficient = factors[extents]
        if coefficient != 1:
            return None
        found.insert(0, rank)
        extents = tuple(sorted((*extents, rank.upper())))
    return tuple(found) if len(found) == len(index.terms) else None


@cache
def partitions(cascade: Cascade) -> tuple[tuple[str, ...], ...]:
    """The parts of every rank that the text splits, outermost first: (m1, m0) of `K[h,m1*M0+m0,e]`."""
    indices = [index for _, access in all_accesses(cascade) for index in access.indices]
    indices += [side for einsum in cascade.einsums for each in conditions(einsum.expression)
                for side in (each.left, each.right)]  # fmt: skip
    return tuple(dict.fromkeys(parts for parts in map(partition, indices) if parts is not None))


def whole_extent(parts: tuple[str, ...]) -> str:
    """M of m1, m0; C+P of parts with letters of their own."""
    stems = dict.fromkeys(part.rstrip("0123456789").rstrip("_") for part in parts)
    return "+".join(stems).upper()


def _numbered_partition(index: Index) -> Parts | None:
    """`m1*4+m0`: a number stands for the inner extent where both ranks have the same letters."""
    ordered = sorted(index.terms, key=lambda term: -term[1] if isinstance(term[1], int) else 0)
    ranks = tuple(rank for rank, _ in ordered)
    numbers = [factor for _, factor in ordered if isinstance(factor, int)]
    good = len(numbers) == len(ranks) == 2 and numbers[1] == 1 and numbers[0] > 1 and _stem(ranks)
    return ranks if good else None


def _stem(ranks: Parts) -> str:
    """`m` of m1, m0; nothing where the letters differ."""
    stems = {rank.rstrip("0123456789").rstrip("_") for rank in ranks}
    return stems.pop() if len(stems) == 1 else ""


def _whole_name(ranks: Parts) -> str:
    """`m` of m1, m0, and of mo, mi: the letters that the parts begin with."""
    letters = "".join(same[0] for same in takewhile(lambda each: len(set(each)) == 1, zip(*ranks, strict=False)))
    return _stem(ranks) or letters.rstrip("0123456789").rstrip("_")


@cache
def _spaces(cascade: Cascade) -> _Spaces:
    return _Spaces(cascade)


class _Spaces:
    """Union-find over ranks, dimensions of tensors and partitions."""

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.parent: dict[Space, Space] = {}
        self.together = [frozenset(einsum.ranks) for einsum in cascade.einsums]
        self.parts: list[Parts] = []
        self.quotients: list[tuple[Space, Space]] = []  # (whole, outer part): LM[m//M0]
        for rank in cascade.ranks:
            self.find(("rank", rank))
        for _, access in all_accesses(cascade):
            for dimension, index in enumerate(access.indices):
                self._index((access.tensor, dimension), index)
        self._conditions()
        self._stems()

    def find(self, space: Space) -> Space:
        self.parent.setdefault(space, space)
        while self.parent[space] != space:
            space = self.parent[space]
        return space

    def _index(self, dimension: Space, index: Index) -> None:
        parts = partition(index)
        if parts is not None:
            self._add(parts, dimension)
        elif index.step is not None:
            self._join(dimension, ("rank", index.step[0]))
        elif index.divisor != 1 and len(index.terms) == 1 and index.terms[0][1] == 1 and not index.offsets:
            self.quotients.append((("rank", index.terms[0][0]), dimension))

    def _add(self, parts: Parts, dimension: Space | None) -> None:
        if parts not in self.parts:
            self.parts.append(parts)
        if dimension is not None:
            self._join(dimension, ("parts", *parts))

    def _conditions(self) -> None:
        """`m1*M0+m0 <= p` says that m1 and m0 are parts, even where no tensor is indexed so."""
        for einsum in self.cascade.einsums:
            for condition in conditions(einsum.expression):
                for side in (condition.left, condition.right):
                    parts = partition(side)
                    if parts is not None:
                        self._add(parts, None)

    def _stems(self) -> None:
        """Ranks keep their letters: `m1*M0+m0` walks what `m` walks, on whatever tensors they stand."""
        for parts in self.parts:
            stem = _whole_name(parts)
            self.find(("parts", *parts))
            if stem in self.cascade.ranks:
                self._join(("rank", stem), ("parts", *parts))
            for other in self.parts:
                if stem and other[0] == parts[0] and other != parts:
                    self._join(("parts", *other), ("parts", *parts))

    def _join(self, one: Space, other: Space) -> None:
        one, other = self.find(one), self.find(other)
        if one != other and not self._meet(self._variables(one), self._variables(other)):
            self.parent[other] = one

    def _variables(self, root: Space) -> frozenset[str]:
        """Rank variables in a space, those of its partitions included."""
        spaces = [space for space in self.parent if self.find(space) == root]
        return frozenset(str(name) for space in spaces if space[0] in ("rank", "parts") for name in space[1:])

    def _meet(self, one: frozenset[str], other: frozenset[str]) -> bool:
        return any(one - other & ranks and other - one & ranks for ranks in self.together)

    def roots(self) -> tuple[Space, ...]:
        return tuple(dict.fromkeys(self.find(("rank", rank)) for rank in self.cascade.ranks))

    def wholes(self) -> tuple[Space, ...]:
        """Roots of families, in order of first use; a part is represented by its whole."""
        whole = {self.find(("rank", rank)): self.find(("parts", *parts)) for parts in self.parts for rank in parts}
        found: dict[Space, None] = {}
        for root in self.roots():
            for _ in self.parts:
                root = whole.get(root, root)
            found[root] = None
        return tuple(found)

    def family(self, root: Space) -> Family:
        covers = self._covers(root, len(self.parts))
        outer = self._outer(root, len(self.parts))
        inner = next((parts[1:] for parts in self.parts if self.find(("parts", *parts)) == root), ())
        return Family(self._name(root), outer, covers, frozenset().union(*covers, outer), inner)

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

    def _name(self, root: Space) -> str:
        plain = self._plain(root)
        parts = next((parts for parts in self.parts if self.find(("parts", *parts)) == root), ())
        letters = _whole_name(parts) or _stem(parts[-1:])
        return plain[0] if plain else "+".join(parts) if letters in self.cascade.ranks else letters
