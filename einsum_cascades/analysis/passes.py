"""Which rank variables walk the same fiber, which Einsum reads what another writes, and how often fibers are walked.

Rank variables belong together where they index the same dimension of a tensor and never meet in one Einsum (`m` and
`p` of self-attention meet in QK: they are two ranks). A partition is an affine index whose factors are the extents of
its inner ranks (`m1*M0+m0`), whatever tensor it stands on. FuseMax (MICRO'24), section II: partitioned ranks.

Passes: FuseMax, section III-A. A pass begins where an element of a fiber is needed together with something that is
complete only after all elements were visited. Einsums over a summary of the fiber (m1 of m1, m0) wait but do not walk
it again. Of the cascade alone: no mapping and no buffer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product, takewhile
from typing import TypeAlias

from cascadesim.einsum_cascades.notation.algebra import factor_polynomial
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError
from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Einsum, Index
from cascadesim.einsum_cascades.notation.operators import is_copy

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
    """M of m1, m0, and of mo, mi; P of m1, p0, chunks that queries share with keys; C+P of c, p."""
    own = parts[-1].rstrip("0123456789").rstrip("_")
    chunked = own if own != parts[-1] else "+".join(_stems(parts))
    return (_whole(parts) or chunked).upper()


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


@dataclass(frozen=True, slots=True)
class Dependence:
    """Einsum number `reader` reads `access`, which Einsum number `producer` may have written.

    `distances` has the iterative ranks that carry it, with the number of steps since the value was written:
    `RM[h,m1,p]` of `RM[h,m1+1,p] = ...` is carried by m1 over 1 step.
    """

    reader: int
    producer: int
    access: Access
    distances: Mapping[str, int]


@cache
def dependences(cascade: Cascade) -> tuple[Dependence, ...]:
    """All dependences, by reader."""
    found = []
    for reader, einsum in enumerate(cascade.einsums):
        for access in einsum.inputs:
            for producer, other in enumerate(cascade.einsums):
                pairs = tuple(zip(other.output.indices, access.indices, strict=False))
                # an extent is the state after the last step, and a rank has at least one
                if other.name == access.tensor and not any(
                    written.apart(read) or (written.fixed is not None and read.final) for written, read in pairs
                ):
                    steps = [(written.step, read.step) for written, read in pairs if written.step and read.step]
                    distances = {rank: ahead - behind for (rank, ahead), (other_rank, behind) in steps
                                 if rank == other_rank and behind < ahead}
                    found.append(Dependence(reader, producer, access, distances))
    return tuple(found)


@cache
def cycles(cascade: Cascade) -> tuple[frozenset[int], ...]:
    """The Einsums in one cycle with each Einsum: it depends on them and they on it, itself included."""
    reached: list[set[int]] = [set() for _ in cascade.einsums]  # without networkx: every simulation asks for passes
    for each in dependences(cascade):
        reached[each.producer].add(each.reader)
    for middle, further in enumerate(reached):
        for readers in reached:
            readers |= further if middle in readers else set()
    return tuple(frozenset({number} | {other for other in readers if number in reached[other]})
                 for number, readers in enumerate(reached))


@dataclass(frozen=True, slots=True)
class Traversal:
    """When Einsums run along one fiber. Times: 2k is in the k-th pass, element by element; 2k+1 is after it.

    Inputs, and Einsums that only rename them, can be read at any time (0).
    """

    over: RankGroup
    runs: tuple[int, ...]  # per Einsum
    values: tuple[int, ...]  # per Einsum: when its output can be read

    def pass_of(self, einsum: int) -> int:
        """The pass in which an Einsum runs, or after which, where it does not walk the fiber."""
        return max(self.runs[einsum] // 2, 1)

    @property
    def passes(self) -> int:
        return max((self.pass_of(einsum) for einsum, _ in enumerate(self.runs)), default=1)


def passes(cascade: Cascade, rank: str) -> int:
    """Passes over a rank. A partitioned rank goes by the name of the whole (`m` of m1, m0) or by one of its parts."""
    return traversal(cascade, rank_group(cascade, rank)).passes


def all_passes(cascade: Cascade) -> dict[str, int]:
    return {each.name: traversal(cascade, each).passes for each in rank_groups(cascade)}


def pass_class(cascade: Cascade) -> str:
    """`1-pass`, `2-pass`, ...: the most passes over any rank."""
    return f"{max(all_passes(cascade).values(), default=1)}-pass"


def traversal(cascade: Cascade, over: RankGroup) -> Traversal:
    """The earliest time of each Einsum; iterates because states are read before they are written.

    Raises CascadeSimError where a state needs a sum over its own later steps.
    """
    reads: list[list[Dependence]] = [[] for _ in cascade.einsums]
    for each in dependences(cascade):  # passes are counted within one step of the iterations over other ranks
        other_step = each.distances and over.members.isdisjoint(each.distances)
        if not other_step or each.reader not in cycles(cascade)[each.producer]:
            reads[each.reader].append(each)
    given = _as_given(cascade)
    runs, values = [0] * len(reads), [0] * len(reads)
    for _ in range(2 * len(reads) + 2):
        before = list(values)
        for number, einsum in enumerate(cascade.einsums):
            ready = max((_ready(cascade, each, values, over) for each in reads[number]), default=1)
            run = runs[number] = max(2, ready + ready % 2) if over.traversed_by(einsum) else max(1, ready)
            reduced = over.walked_by(einsum) and over.outer.isdisjoint(einsum.written_ranks)
            values[number] = 0 if number in given else run + 1 if reduced and run % 2 == 0 else run
        if values == before:
            return Traversal(over, tuple(runs), tuple(values))
    late = next(cascade.einsums[number] for number, value in enumerate(values) if value != before[number])
    raise CascadeSimError(f"{cascade.name}, line {late.line}: {late.name} needs a reduction over '{over.name}' that "
                          f"needs {late.name} at later steps of '{over.name}'")


def _as_given(cascade: Cascade) -> set[int]:
    """Einsums that only rename inputs or write numbers: like inputs, their elements are there in any order."""
    given = {number for number, einsum in enumerate(cascade.einsums) if not einsum.inputs}
    for number, einsum in enumerate(cascade.einsums):
        makers = {maker for maker, other in enumerate(cascade.einsums) for read in einsum.inputs
                  if other.name == read.tensor}
        if is_copy(einsum) and makers <= given:
            given.add(number)
    return given


def _ready(cascade: Cascade, dependence: Dependence, values: list[int], over: RankGroup) -> int:
    """When a read can happen; one that takes the fiber out of order waits for all of it."""
    value = values[dependence.producer]
    written = cascade.einsums[dependence.producer].output
    streamed = value % 2 == 0 and value > 0
    pairs = zip(written.indices, dependence.access.indices, strict=False)
    return value + 1 if streamed and any(_waits(*pair, over) for pair in pairs) else value


def _waits(written: Index, read: Index, over: RankGroup) -> bool:
    """Whether a read along the fiber needs it whole: gathered, final, backwards, by another rank."""
    if written.gather is not None or over.outer.isdisjoint(written.ranks):
        return False
    if read.gather is not None or not read.terms:
        return read.gather is not None or read.final is not None
    backwards = any(isinstance(factor, int) and factor < 0 for _, factor in read.terms)
    iterated = written.step is not None and written.step[1] > 0
    return over.members.isdisjoint(read.ranks) or (iterated and (backwards or read.step is None))
