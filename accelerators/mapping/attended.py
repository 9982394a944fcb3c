"""Which tiles of queries and keys a mapping visits: those in which a query attends a key.

From the mask of the operation and the conditions of the text (`m <= p + M - P`). Each query attends an interval of
keys; where intervals would step back or leave keys out they are taken wider, which visits more. Knows no loop and no
array. mapping.md 2, "Masks".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from cascadesim.einsum_cascades.analysis.bound_counts import KEY, QUERY, BoundCascade, wholly_bound
from cascadesim.einsum_cascades.analysis.passes import partitions, whole_extent
from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Condition, Einsum, Select, accesses
from cascadesim.einsum_cascades.notation.operators import charges
from cascadesim.einsum_cascades.sparsity.masks import Mask, Positions

PAIRED = frozenset((KEY, QUERY))
FEW_SIZES = 32  # assumed: a 32nd of all keys more than needed costs little, and the search compares fewer sizes
Pairs = tuple[tuple[tuple[int, int], int], ...]  # ((queries, keys), tiles of these sizes)


@dataclass(frozen=True)
class AttendedKeys:
    """First and last key (inclusive) of each query, (queries,) int64: never falling, and no key between is left out.

    `grain`: keys of a tile of the text (M0), which come together.
    """

    first: Positions
    last: Positions
    keys: int
    grain: int = 1
    _known: dict[tuple[int, int], Pairs] = field(default_factory=dict, repr=False, compare=False)

    @property
    def queries(self) -> int:
        return len(self.first)

    @property
    def unit(self) -> int:
        """Keys that come together where a tile has all that are attended: tiles then have few sizes."""
        return -(-(1 << max(0, -(-self.keys // FEW_SIZES) - 1).bit_length()) // self.grain) * self.grain

    def keys_of(self, start: Positions | int, queries: Positions | int) -> Positions:
        """Keys from the first to the last that neighbouring queries attend, in whole units."""
        first, last = self.first[start] // self.unit, self.last[start + queries - 1] // self.unit
        spans: Positions = np.minimum((last + 1) * self.unit, self.keys) - first * self.unit
        return spans

    def visited(self, query_tile: int, key_tile: int) -> Pairs:
        """Sizes of the tiles that are visited; a tile of all keys has `keys_of` its queries."""
        if (query_tile, key_tile) not in self._known:
            self._known[query_tile, key_tile] = tuple(sorted(self._visited(query_tile, key_tile).items()))
        return self._known[query_tile, key_tile]

    def _visited(self, query_tile: int, key_tile: int) -> Counter[tuple[int, int]]:
        starts = np.arange(0, self.queries, query_tile)
        ends = np.minimum(starts + query_tile, self.queries)
        found: Counter[tuple[int, int]] = Counter()
        if key_tile >= self.keys:
            sizes = np.stack([ends - starts, self.keys_of(starts, ends - starts)])
            sizes, counts = np.unique(sizes, axis=1, return_counts=True)
            found.update({(queries, keys): count for queries, keys, count in zip(*sizes.tolist(), counts.tolist(),
                                                                                strict=True)})  # fmt: skip
            return found
        first, last = self.first[starts], self.last[ends - 1]
        tiles, rest = last // key_tile - first // key_tile + 1, self.keys % key_tile
        partial = (last // key_tile == self.keys // key_tile) & (rest > 0)
        for size in np.unique(ends - starts).tolist():
            own = ends - starts == size
            found[size, key_tile] += int((tiles - partial)[own].sum())
            found[size, rest] += int(partial[own].sum())
        return +found

    def pairs(self, grain: int) -> int:
        """Pairs of a query and a stretch of `grain` keys, in which it attends one."""
        return int((self.last // grain - self.first // grain + 1).sum())


def attended(cascade: Cascade, extents: Mapping[str, int], mask: Mask, heads: int = 1) -> AttendedKeys | None:
    """What the Einsums over queries and keys attend, all together; None where that is everything.

    `heads`: query heads that are stacked, side by side at each position.
    """
    sized = wholly_bound(cascade, extents, mask)
    if KEY.upper() not in sized.extents or QUERY.upper() not in sized.extents:
        return None
    queries, keys = sized.extents[QUERY.upper()], sized.extents[KEY.upper()]
    limits = [_interval(sized, einsum, queries, keys) for einsum in cascade.einsums
              if charges(einsum) and _by_pairs(sized, einsum)]  # fmt: skip
    if not limits:
        return None
    first = np.clip(np.min([low for low, _ in limits], axis=0), 0, keys - 1)
    last = np.maximum(np.clip(np.max([high for _, high in limits], axis=0), 0, keys - 1), first)
    first, last = np.minimum.accumulate(first[::-1])[::-1], np.maximum.accumulate(last)
    last[:-1] = np.maximum(last[:-1], first[1:] - 1)
    if first.max() == 0 and last.min() == keys - 1:
        return None
    grain = max((prod(sized.extents[part.upper()] for part in parts[1:]) for parts in partitions(cascade)
                 if whole_extent(parts) == KEY.upper()), default=1)  # fmt: skip
    return AttendedKeys(np.repeat(first, heads), np.repeat(last, heads), keys, grain)


def _by_pairs(sized: BoundCascade, einsum: Einsum) -> bool:
    """Whether it walks queries and keys, or stretches of keys, of which a text may leave out none."""
    return all(sized.parts(rank, einsum.ranks) for rank in (KEY, QUERY))


def _interval(sized: BoundCascade, einsum: Einsum, queries: int, keys: int) -> tuple[Positions, Positions]:
    """First and last key of each query of one Einsum; conditions that give no interval are left out."""
    first, last = sized.mask.interval(np.arange(queries), queries, keys)
    parts = sized.parts(KEY, einsum.ranks), sized.parts(QUERY, einsum.ranks)
    for test in _tests(einsum):
        limits = sized.limits(test, *parts, queries)
        if limits is not None:
            first, last = np.maximum(first, limits[0]), np.minimum(last, limits[1])
    return first, last


def _tests(einsum: Einsum) -> tuple[Condition, ...]:
    """Conditions outside which nothing is computed: a value that is given, or a running one that stays as it is."""
    chosen = einsum.expression
    if not isinstance(chosen, Select):
        return ()
    otherwise = chosen.otherwise
    stays = isinstance(otherwise, Access) and otherwise.tensor == einsum.name
    return chosen.conditions if stays or not any(True for _ in accesses(otherwise)) else ()
