"""All that can be said of a cascade before any hardware: passes, class, live footprint, operations, traffic.

Gathers what `passes`, `footprint` and `counts` compute into one value, and writes it as the `passes` JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from cascadesim.einsum_cascades.counts import Extents, bound, bound_operations, operations
from cascadesim.einsum_cascades.families import Family, families, family
from cascadesim.einsum_cascades.footprint import Footprint, live_footprint, minimum_words
from cascadesim.einsum_cascades.ir import Cascade
from cascadesim.einsum_cascades.passes import Traversal, traversal
from cascadesim.einsum_cascades.polynomial import Polynomial

SCHEMA = "cascadesim.passes/1"


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
            "operations": {name: {kind: str(count) for kind, count in counts.items()}
                           for name, counts in self.operations},
            "minimum_traffic_words": str(self.minimum_words),
            "einsums": [{"name": einsum.name, "pass": self.main.pass_of(number)}
                        for number, einsum in enumerate(self.cascade.einsums)],
        }

    def bound(self, extents: Extents) -> dict[str, object]:
        """The counts as whole numbers, extents by name. Raises CascadeSimError where one is not given."""
        operations: dict[str, Counter[str]] = {name: Counter() for name, _ in self.operations}
        for einsum in self.cascade.einsums:
            if einsum.name in operations:
                operations[einsum.name].update(bound_operations(einsum, extents))
        return {
            "live_footprint": {each.rank: each.bound(extents) for each in self.footprints},
            "operations": {name: dict(counts) for name, counts in operations.items()},
            "minimum_traffic_words": bound(self.minimum_words, extents),
        }


def _over_nothing(cascade: Cascade) -> Traversal:
    times = (0,) * len(cascade.einsums)
    return Traversal(Family("", frozenset(), (), frozenset()), times, times)


def analyse(cascade: Cascade, rank: str | None = None) -> Analysis:
    """Over one rank, or over all of them. Raises UnknownNameError, or CascadeSimError for a state without order."""
    over = families(cascade) if rank is None else (family(cascade, rank),)
    counted: dict[str, dict[str, Polynomial]] = {}
    for einsum in cascade.einsums:
        own = counted.setdefault(einsum.name, {})
        for kind, count in operations(einsum).items():
            own[kind] = own.get(kind, Polynomial()) + count
    return Analysis(
        cascade,
        tuple(traversal(cascade, each) for each in over),
        tuple(live_footprint(cascade, rank or each.name) for each in over),
        tuple((name, counts) for name, counts in counted.items() if counts),
        minimum_words(cascade),
    )
