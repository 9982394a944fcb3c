"""What stays live of a fiber between its passes, least traffic, and all that `cascadesim passes` says of a cascade.

FuseMax (MICRO'24), section III-A. A tensor that one pass makes and a later one reads stays live whole; a fiber walked
once is live one tile at a time, or one element where it is not partitioned. Knows no mapping and no buffer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY, BoundCascade
from cascadesim.einsum_cascades.analysis.counts import Extents, extent, largest, tensor_size
from cascadesim.einsum_cascades.analysis.passes import (
    RankGroup,
    Traversal,
    partitions,
    rank_group,
    rank_groups,
    traversal,
    whole_extent,
)
from cascadesim.einsum_cascades.notation.algebra import Polynomial, extents_of, polynomial, product
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, suggestion
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.operators import is_copy, repeated_ranks
from cascadesim.einsum_cascades.sparsity.masks import FULL, Mask

SCHEMA = "cascadesim.passes/1"
_NO_EXTENTS: Extents = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Footprint:
    """Elements of a fiber that stay live, per point of the ranks that can be looped outside (h and p of attention).

    `constant_in_rank`: longer fibers need no more. Running states, which have no element per coordinate, do not count.
    """

    rank: str
    elements: Polynomial
    constant_in_rank: bool


@dataclass(frozen=True, slots=True)
class LiveTensor:
    """A tensor along a fiber, from the time it is first there to the time it is last read."""

    since: int
    until: int
    ranks: tuple[str, ...]
    kept: frozenset[str]  # its ranks that are outside all its readers' sums


def live_footprint(cascade: Cascade, rank: str) -> Footprint:
    """What stays live of a fiber: the most at a time, and one tile, as far as it is walked again.

    One element where it is not partitioned. Raises UnknownNameError.
    """
    over = rank_group(cascade, rank)
    times = traversal(cascade, over)
    tensors = (_live(cascade, tensor, over, times) for tensor in (*cascade.inputs, *cascade.produced))
    waiting = [live for live in tensors if live is not None and live.since < live.until]
    # each point of the ranks that every live tensor has and no reader sums is a fiber of its own
    outside = frozenset(cascade.ranks).intersection(*(each.kept for each in waiting)) - over.members
    sums = [sum((product(extent(rank) for rank in each.ranks if rank not in outside)
                 for each in waiting if each.since <= moment < each.until), Polynomial())
            for moment in sorted({each.since for each in waiting})]
    elements = largest(sums) if sums else Polynomial()
    if not any(cover <= set(each.ranks) for each in waiting for cover in over.covers):
        elements += live_footprint(cascade, over.inner[0]).elements if over.inner else polynomial(1)
    return Footprint(over.name, elements, not waiting)


def _live(cascade: Cascade, tensor: str, over: RankGroup, times: Traversal) -> LiveTensor | None:
    """Reads of one fixed element, such as the state after the last step, keep no fiber. Copies are their source.

    What needs only inputs (time 1) can as well be made in the first pass; what is scattered over the fiber is there
    before it is walked. A result that is repeated along the fiber is one element.
    """
    reads = [(reader, ranks) for reader, ranks in _reads(cascade, tensor, set()) if over.outer & set(ranks)]
    makers = [(number, einsum) for number, einsum in enumerate(cascade.einsums) if einsum.name == tensor]
    if not reads or any(is_copy(einsum) or over.outer & set(repeated_ranks(einsum)) for _, einsum in makers):
        return None
    made = [times.runs[number] if over.outer.isdisjoint(einsum.written_ranks) else max(2, times.runs[number])
            for number, einsum in makers if einsum.scatters or over.outer & set(einsum.written_ranks)]
    runs = [max(2, times.runs[reader]) for reader, _ in reads]
    kept = set(reads[0][1]).intersection(*(cascade.einsums[reader].written_ranks for reader, _ in reads))
    return LiveTensor(min(made or runs), max(runs), reads[0][1], frozenset(kept))


def _reads(cascade: Cascade, tensor: str, seen: set[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(Einsum, ranks of the access) of every read, through copies."""
    for number, einsum in enumerate(cascade.einsums):
        for access in einsum.inputs:
            if access.tensor != tensor:
                continue
            if is_copy(einsum) and einsum.name not in seen and access.tensor in cascade.inputs:
                yield from _reads(cascade, einsum.name, seen | {einsum.name})
            elif any(index.gather for index in access.indices) and tensor in cascade.produced:
                yield number, cascade.einsum(tensor).written_ranks  # any element may be asked for
            else:
                yield number, access.ranks


def minimum_words(cascade: Cascade) -> Polynomial:
    """Algorithmic-minimum memory traffic: every input read once, every output written once."""
    return sum((tensor_size(cascade, tensor) for tensor in (*cascade.inputs, *cascade.outputs)), Polynomial())


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known of a cascade, over the fibers asked for.

    `main` is the traversal with the most passes, to which the passes of Einsums refer.
    """

    cascade: Cascade
    traversals: tuple[Traversal, ...]
    footprints: tuple[Footprint, ...]
    operations: Mapping[str, Mapping[str, Polynomial]]  # by Einsum; initial states and copies have none
    minimum_words: Polynomial

    @property
    def main(self) -> Traversal:
        """A cascade of single numbers has no ranks, and one pass over nothing."""
        times = (0,) * len(self.cascade.einsums)
        nothing = Traversal(RankGroup("", frozenset(), (), frozenset()), times, times)
        return max(self.traversals, key=lambda each: each.passes, default=nothing)

    @property
    def pass_class(self) -> str:
        return f"{self.main.passes}-pass"

    def to_dict(self) -> dict[str, object]:
        def number_or_text(count: Polynomial) -> int | str:
            return str(count) if count.names else count.bound({})

        return {
            "schema": SCHEMA,
            "cascade": self.cascade.name,
            "passes": {each.over.name: each.passes for each in self.traversals},
            "class": self.pass_class,
            "live_footprint": {each.rank: {"elements": str(each.elements), "constant_in_rank": each.constant_in_rank}
                               for each in self.footprints},
            "operations": {name: {kind: number_or_text(count) for kind, count in counts.items()}
                           for name, counts in self.operations.items()},
            "minimum_traffic_words": number_or_text(self.minimum_words),
            "einsums": [{"name": einsum.name, "pass": self.main.pass_of(number)}
                        for number, einsum in enumerate(self.cascade.einsums)],
        }


def analyse(cascade: Cascade, rank: str | None = None, extents: Extents = _NO_EXTENTS, mask: Mask = FULL) -> Analysis:
    """Analyses one rank, or all of them, with `extents` in place of their names, counts under `mask`.

    Without P, a mask has as many queries as keys. Raises UnknownNameError, or CascadeSimError for a state without
    order, an extent that the cascade does not have, extents that contradict each other.
    """
    over = rank_groups(cascade) if rank is None else (rank_group(cascade, rank),)
    sized = _sized(cascade, extents, mask)
    footprints = [live_footprint(cascade, rank or each.name) for each in over]
    sized_footprints = tuple(replace(each, elements=sized.of_polynomial(each.elements)) for each in footprints)
    return Analysis(cascade, tuple(traversal(cascade, each) for each in over), sized_footprints, sized.work,
                    sized.of_polynomial(minimum_words(cascade)))


def _sized(cascade: Cascade, extents: Extents, mask: Mask) -> BoundCascade:
    known = {*extents_of(cascade), *map(whole_extent, partitions(cascade))}
    given = {name.upper(): size for name, size in extents.items()}
    for name in given:
        if name not in known:
            raise CascadeSimError(f"{cascade.name}: no extent '{name}'{suggestion(name, known)}")
    if mask != FULL and QUERY.upper() not in given:
        if KEY.upper() not in given:
            raise CascadeSimError(f"{cascade.name}: a mask needs the number of keys: give {KEY.upper()}=N")
        given[QUERY.upper()] = given[KEY.upper()]
    return BoundCascade.of(cascade, given, mask)
