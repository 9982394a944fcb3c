"""Dependences of Einsums, and the passes over a cascade's fibers that follow from them.

FuseMax (MICRO'24), section III-A. A pass begins where an element of a fiber is needed together with something that is
complete only after all elements were visited. Einsums over a summary of the fiber (m1 of m1, m0) wait but do not walk
it again. Of the cascade alone: no mapping and no buffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from cascadesim.einsum_cascades.analysis.rank_groups import RankGroup, rank_group, rank_groups
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Index
from cascadesim.einsum_cascades.notation.operators import is_copy


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
            reduced = over.walked_by(einsum) and over.outer.isdisjoint(einsum.output.ranks)
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
    if over.outer.isdisjoint(written.ranks):
        return False
    if read.gather is not None or not read.terms:
        return read.gather is not None or read.final is not None
    backwards = any(isinstance(factor, int) and factor < 0 for _, factor in read.terms)
    iterated = written.step is not None and written.step[1] > 0
    return over.members.isdisjoint(read.ranks) or (iterated and (backwards or read.step is None))
