"""Live footprint: how many elements of a fiber must stay live while it is walked, for a cascade, not for a mapping.

FuseMax (MICRO'24), section III-A. A tensor that one pass makes and a later one reads stays live whole; a fiber walked
once is live one tile at a time, or one element where it is not partitioned. Counted per point of the ranks that can
be looped outside (h and p of attention). Running states, which have no element per coordinate, are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cascadesim.einsum_cascades.analysis.counts import Extents, bound, extent, largest, tensor_size
from cascadesim.einsum_cascades.analysis.passes import Traversal, traversal
from cascadesim.einsum_cascades.analysis.rank_groups import Family, families, family
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.operators import is_copy
from cascadesim.einsum_cascades.notation.polynomial import Polynomial, polynomial, product


@dataclass(frozen=True, slots=True)
class Footprint:
    """`elements` per point of the `outside` ranks; constant where longer fibers need no more."""

    rank: str
    elements: Polynomial
    constant_in_rank: bool
    outside: tuple[str, ...]

    def bound(self, extents: Extents) -> int:
        return bound(self.elements, extents)


@dataclass(frozen=True, slots=True)
class Live:
    """A tensor along a fiber, from the time it is first there to the time it is last read."""

    tensor: str
    since: int
    until: int
    ranks: tuple[str, ...]
    kept: frozenset[str]  # its ranks that are outside all its readers' sums


def live_footprint(cascade: Cascade, rank: str) -> Footprint:
    """What stays live of a fiber. Raises UnknownNameError."""
    return _footprint(cascade, family(cascade, rank))


def _footprint(cascade: Cascade, over: Family) -> Footprint:
    waiting = crossing(cascade, over)
    outside = _outside(cascade, waiting, over)
    moments = sorted({each.since for each in waiting})
    sums = [sum((_size(each, outside) for each in waiting if each.since <= moment < each.until), Polynomial())
            for moment in moments]
    whole = any(cover <= set(each.ranks) for each in waiting for cover in over.covers)
    elements = largest(sums) if sums else Polynomial()
    if not whole:
        elements += _inside(cascade, over)
    return Footprint(over.name, elements, not waiting, outside)


def _inside(cascade: Cascade, over: Family) -> Polynomial:
    """One tile, as far as it is walked again; one element where there are no tiles."""
    return _footprint(cascade, family(cascade, over.inner[0])).elements if over.inner else polynomial(1)


def _size(live: Live, outside: tuple[str, ...]) -> Polynomial:
    return product(extent(rank) for rank in live.ranks if rank not in outside)


def crossing(cascade: Cascade, over: Family) -> list[Live]:
    """Tensors along the fiber that are read after the pass in which they are made, or first read."""
    times = traversal(cascade, over)
    found = []
    for tensor in (*cascade.inputs, *cascade.produced):
        live = _live(cascade, tensor, over, times)
        if live is not None and live.since < live.until:
            found.append(live)
    return found


def _live(cascade: Cascade, tensor: str, over: Family, times: Traversal) -> Live | None:
    """Reads of one fixed element, such as the state after the last step, keep no fiber. Copies are their source.

    What needs only inputs (time 1) can as well be made in the first pass.
    """
    reads = [(reader, ranks) for reader, ranks in _reads(cascade, tensor, set()) if over.outer & set(ranks)]
    if not reads or any(einsum.name == tensor and is_copy(einsum) for einsum in cascade.einsums):
        return None
    made = [max(2, times.runs[number]) for number, einsum in enumerate(cascade.einsums)
            if einsum.name == tensor and over.outer & set(einsum.output.ranks)]
    runs = [max(2, times.runs[reader]) for reader, _ in reads]
    kept = set(reads[0][1]).intersection(*(cascade.einsums[reader].output.ranks for reader, _ in reads))
    return Live(tensor, min(made or runs), max(runs), reads[0][1], frozenset(kept))


def _reads(cascade: Cascade, tensor: str, seen: set[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(Einsum, ranks of the access) of every read, through copies."""
    for number, einsum in enumerate(cascade.einsums):
        for access in einsum.inputs:
            if access.tensor != tensor:
                continue
            if is_copy(einsum) and einsum.name not in seen and access.tensor in cascade.inputs:
                yield from _reads(cascade, einsum.name, seen | {einsum.name})
            elif any(index.gather for index in access.indices) and tensor in cascade.produced:
                yield number, cascade.einsum(tensor).output.ranks  # any element may be asked for
            else:
                yield number, access.ranks


def _outside(cascade: Cascade, waiting: list[Live], over: Family) -> tuple[str, ...]:
    """Ranks that every live tensor has and no reader sums: each of their points is a fiber of its own."""
    common = set(cascade.ranks).intersection(*(each.kept for each in waiting)) if waiting else set()
    return tuple(rank for rank in cascade.ranks if rank in common and rank not in over.members)


def fibers(cascade: Cascade, footprint: Footprint) -> Polynomial:
    """How many fibers there are: points of the ranks outside."""
    return product(extent(rank) for rank in footprint.outside)


def minimum_words(cascade: Cascade) -> Polynomial:
    """Algorithmic-minimum memory traffic: every input read once, every output written once."""
    return sum((tensor_size(cascade, tensor) for tensor in (*cascade.inputs, *cascade.outputs)), Polynomial())


def minimum_traffic_words(cascade: Cascade, extents: Extents, buffer_words: int | None = None) -> int:
    """The minimum with a buffer between: what stays live of one fiber beyond it goes out and comes back.

    Of mappings that keep what they computed; one that computes it again reads the inputs again instead.
    """
    words = bound(minimum_words(cascade), extents)
    if buffer_words is None:
        return words
    return words + max((_spilled(cascade, over, extents, buffer_words) for over in families(cascade)), default=0)


def _spilled(cascade: Cascade, over: Family, extents: Extents, buffer_words: int) -> int:
    waiting = crossing(cascade, over)
    outside = _outside(cascade, waiting, over)
    spilled = 0
    for moment in sorted({each.since for each in waiting}):
        live = [each for each in waiting if each.since <= moment < each.until]
        inputs = sum(bound(_size(each, outside), extents) for each in live if each.tensor in cascade.inputs)
        computed = sum(bound(_size(each, outside), extents) for each in live) - inputs
        excess = max(0, inputs + computed - buffer_words)
        again = min(excess, inputs)  # inputs are in memory already: they come back, but need not go out
        spilled += again + 2 * (excess - again)
    return spilled * bound(product(extent(each) for each in outside), extents)
