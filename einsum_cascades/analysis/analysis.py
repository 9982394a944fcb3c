"""All that can be said of a cascade before any hardware: passes, class, live footprint, operations, traffic.

Gathers what `passes`, `footprint` and `counts` compute into one value, and writes it as the `passes` JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY, BoundCascade
from cascadesim.einsum_cascades.analysis.counts import Extents
from cascadesim.einsum_cascades.analysis.extents import names
from cascadesim.einsum_cascades.analysis.footprint import Footprint, live_footprint, minimum_words
from cascadesim.einsum_cascades.analysis.passes import Traversal, traversal
from cascadesim.einsum_cascades.analysis.rank_groups import Family, families, family, partitions, whole_extent
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, suggestion
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.polynomial import Polynomial
from cascadesim.einsum_cascades.sparsity.masks import FULL, Mask

SCHEMA = "cascadesim.passes/1"
_NO_EXTENTS: Extents = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Analysis:
    """Over the fibers asked for; `main` is the one with the most passes, to which the passes of Einsums refer."""

    cascade: Cascade
    traversals: tuple[Traversal, ...]
    footprints: tuple[Footprint, ...]
    operations: tuple[tuple[str, Mapping[str, Polynomial]], ...]  # by Einsum; initial states and copies have none
    minimum_words: Polynomial

    @property
    def main(self) -> Traversal:
        """A cascade of single numbers has no ranks, and one pass over nothing."""
        return max(self.traversals, key=lambda each: each.passes, default=_over_nothing(self.cascade))

    @property
    def pass_class(self) -> str:
        return f"{self.main.passes}-pass"

    def to_dict(self) -> dict[str, object]:
        return {
            "schema": SCHEMA,
            "cascade": self.cascade.name,
            "passes": {each.family.name: each.passes for each in self.traversals},
            "class": self.pass_class,
            "live_footprint": {
                each.rank: {"elements": str(each.elements), "constant_in_rank": each.constant_in_rank}
                for each in self.footprints
            },
            "operations": {name: {kind: _number_or_text(count) for kind, count in counts.items()}
                           for name, counts in self.operations},
            "minimum_traffic_words": _number_or_text(self.minimum_words),
            "einsums": [{"name": einsum.name, "pass": self.main.pass_of(number)}
                        for number, einsum in enumerate(self.cascade.einsums)],
        }


def _number_or_text(count: Polynomial) -> int | str:
    return str(count) if count.names else count.bound({})


def _over_nothing(cascade: Cascade) -> Traversal:
    times = (0,) * len(cascade.einsums)
    return Traversal(Family("", frozenset(), (), frozenset()), times, times)


def analyse(
    cascade: Cascade, rank: str | None = None, extents: Extents = _NO_EXTENTS, mask: Mask = FULL
) -> Analysis:
    """Over one rank, or over all of them; sizes and counts with `extents` in place, counts under `mask`.

    Without P, a mask has as many queries as keys. Raises UnknownNameError, or CascadeSimError for a state without
    order, an extent that the cascade does not have, extents that contradict each other.
    """
    over = families(cascade) if rank is None else (family(cascade, rank),)
    sized = _sized(cascade, extents, mask)
    footprints = (live_footprint(cascade, rank or each.name) for each in over)
    return Analysis(
        cascade,
        tuple(traversal(cascade, each) for each in over),
        tuple(replace(each, elements=sized.of_polynomial(each.elements)) for each in footprints),
        tuple((name, counts) for name, counts in sized.work.items() if counts),
        sized.of_polynomial(minimum_words(cascade)),
    )


def _sized(cascade: Cascade, extents: Extents, mask: Mask) -> BoundCascade:
    known = {*names(cascade), *(whole_extent(parts) for parts in partitions(cascade))}
    given = {name.upper(): size for name, size in extents.items()}
    for name in given:
        if name not in known:
            raise CascadeSimError(f"{cascade.name}: no extent '{name}'{suggestion(name, known)}")
    if mask != FULL and QUERY.upper() not in given:
        if KEY.upper() not in given:
            raise CascadeSimError(f"{cascade.name}: a mask needs the number of keys: give {KEY.upper()}=N")
        given[QUERY.upper()] = given[KEY.upper()]
    return BoundCascade.of(cascade, given, mask)
