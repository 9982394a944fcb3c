"""Passes: how often, at least, the whole fiber of a rank is walked, whatever the mapping. The class of a cascade.

FuseMax (MICRO'24), section III-A. A pass begins where an element of the fiber is needed together with something that
is complete only after all elements were visited. Einsums over a summary of the fiber (m1 of m1, m0) wait but do not
walk it again. The count is of the cascade: it knows no mapping, no buffer and no numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

from cascadesim.einsum_cascades.analysis.dependences import Dependence, dependences, is_final, same_cycle
from cascadesim.einsum_cascades.analysis.rank_groups import Family, families, family
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade, Index
from cascadesim.einsum_cascades.notation.operators import is_copy


@dataclass(frozen=True, slots=True)
class Traversal:
    """When Einsums run along one fiber. Times: 2k is in the k-th pass, element by element; 2k+1 is after it.

    Inputs, and Einsums that only rename them, can be read at any time (0).
    """

    family: Family
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
    return traversal(cascade, family(cascade, rank)).passes


def all_passes(cascade: Cascade) -> dict[str, int]:
    return {each.name: traversal(cascade, each).passes for each in families(cascade)}


def pass_class(cascade: Cascade) -> str:
    """`1-pass`, `2-pass`, ...: the most passes over any rank."""
    return f"{max(all_passes(cascade).values(), default=1)}-pass"


def traversal(cascade: Cascade, over: Family) -> Traversal:
    """The earliest time of each Einsum; iterates because states are read before they are written.

    Raises CascadeSimError where a state needs a sum over its own later steps.
    """
    found, together = dependences(cascade), same_cycle(cascade)
    reads = [[each for each in found if each.reader == reader and not _other_iteration(each, over, together)]
             for reader, _ in enumerate(cascade.einsums)]
    given = _as_given(cascade)
    runs, values = [0] * len(reads), [0] * len(reads)
    for _ in range(2 * len(reads) + 2):
        before = list(values)
        for number, own in enumerate(reads):
            runs[number] = _run(cascade, number, own, values, over)
            values[number] = 0 if number in given else _value(cascade, number, runs[number], over)
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


def _other_iteration(dependence: Dependence, over: Family, together: frozenset[tuple[int, int]]) -> bool:
    """An earlier step of another rank's iteration: passes are counted within one step."""
    pair = (dependence.reader, dependence.producer)
    return pair in together and bool(dependence.carried) and dependence.carried.isdisjoint(over.members)


def _run(cascade: Cascade, number: int, reads: list[Dependence], values: list[int], over: Family) -> int:
    einsum = cascade.einsums[number]
    ready = max((_ready(cascade, each, values, over) for each in reads), default=1)
    return max(2, ready + ready % 2) if over.traversed_by(einsum) else max(1, ready)


def _ready(cascade: Cascade, dependence: Dependence, values: list[int], over: Family) -> int:
    """When a read can happen; one that takes the fiber out of order waits for all of it."""
    value = values[dependence.producer]
    written = cascade.einsums[dependence.producer].output
    streamed = value % 2 == 0 and value > 0
    pairs = zip(written.indices, dependence.access.indices, strict=False)
    return value + 1 if streamed and any(_waits(*pair, over) for pair in pairs) else value


def _waits(written: Index, read: Index, over: Family) -> bool:
    """Whether a read along the fiber needs it whole: gathered, final, backwards, by another rank."""
    if over.outer.isdisjoint(written.ranks):
        return False
    if read.gather is not None or not read.terms:
        return read.gather is not None or is_final(read)
    backwards = any(isinstance(factor, int) and factor < 0 for _, factor in read.terms)
    iterated = written.step is not None and written.step[1] > 0
    return over.members.isdisjoint(read.ranks) or (iterated and (backwards or read.step is None))


def _value(cascade: Cascade, number: int, run: int, over: Family) -> int:
    einsum = cascade.einsums[number]
    reduced = over.walked_by(einsum) and over.outer.isdisjoint(einsum.output.ranks)
    return run + 1 if reduced and run % 2 == 0 else run
