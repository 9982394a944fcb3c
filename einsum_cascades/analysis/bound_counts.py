"""Operations of a cascade with every extent bound: what a machine has to compute, under a mask, to the last point.

A point counts where all its indices are inside their tensors (a partial last tile counts what it holds), where the
conditions of the text hold and where the mask lets the pair of query and key through. An Einsum over tiles of keys
(`RM[h,m1+1,p]`) counts the tiles in which a query attends something. Classes are those of `passes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.counts import bound, closed_points, holds
from cascadesim.einsum_cascades.analysis.passes import Parts, partitions, whole_extent
from cascadesim.einsum_cascades.notation.algebra import (
    Number,
    Polynomial,
    extents_of,
    factor_polynomial,
    product,
    symbol,
)
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade, Condition, Factor, Index
from cascadesim.einsum_cascades.notation.operators import Charge, Coordinates, charges, kept_extent
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval, Mask

KEY, QUERY = "m", "p"  # the ranks that a mask pairs
_MOST_POINTS = 50_000_000  # that are counted one by one


def bound_work(cascade: Cascade, extents: Mapping[str, int], mask: Mask = FULL) -> dict[str, dict[str, int]]:
    """Einsum -> operation class -> count at `extents` (by name, in upper case: M, M0; more than needed is no error)."""
    work = wholly_bound(cascade, extents, mask).work
    return {name: {kind: count.bound({}) for kind, count in counts.items()} for name, counts in work.items()}


def wholly_bound(cascade: Cascade, extents: Mapping[str, int], mask: Mask) -> BoundCascade:
    """The cascade with every extent known. Raises CascadeSimError where one is missing."""
    return _wholly_bound(cascade, tuple(extents.items()), mask)


@lru_cache(maxsize=1024)
def _wholly_bound(cascade: Cascade, extents: tuple[tuple[str, int], ...], mask: Mask) -> BoundCascade:
    """As `wholly_bound`: a plan and its check ask for the same."""
    sized = BoundCascade.of(cascade, dict(extents), mask)
    inner = [rank.upper() for parts in partitions(cascade) for rank in parts[1:]]  # the outer one follows from them
    for name in (*inner, *extents_of(cascade)):
        if name not in sized.extents:
            raise CascadeSimError(f"{cascade.name}: the extent {name} is not given")
    return sized


@dataclass(frozen=True)
class BoundCascade:
    """A cascade with some or all of its extents, and a mask.

    `wholes` maps the parts of each partition, outermost first, to the extent that they split; only where it is known.
    """

    cascade: Cascade
    extents: Mapping[str, int]
    wholes: Mapping[Parts, int]
    mask: Mask

    @classmethod
    def of(cls, cascade: Cascade, given: Mapping[str, int], mask: Mask = FULL) -> BoundCascade:
        """Derives what partitions and kept fibers say. Raises CascadeSimError where extents contradict each other."""
        extents = dict(given)
        wholes: dict[Parts, int] = {}
        for parts in sorted(partitions(cascade), key=lambda parts: whole_extent(parts) not in given):
            if any(rank.upper() not in extents for rank in parts[1:]):
                continue
            inner = prod(extents[rank.upper()] for rank in parts[1:])
            outer, whole = parts[0].upper(), whole_extent(parts)
            if whole in given:
                tiles = -(-given[whole] // inner)
                if extents.setdefault(outer, tiles) != tiles:
                    raise CascadeSimError(f"{cascade.name}: {outer} is {tiles} with the other extents given, "
                                          f"got {extents[outer]}")
            if outer in extents:  # chunks that ranks share hold as many of each where nothing else is said
                alike = (size for other, size in wholes.items()
                         if parts[0] == other[0] and inner == prod(extents[rank.upper()] for rank in other[1:]))
                wholes[parts] = extents.setdefault(whole, next(alike, inner * extents[outer]))
        for rank, keep in filter(None, map(kept_extent, cascade.einsums)):
            if isinstance(keep, int) or keep in extents:
                extents.setdefault(rank.upper(), keep if isinstance(keep, int) else extents[keep])
        return cls(cascade, extents, wholes, mask)

    @cached_property
    def work(self) -> dict[str, dict[str, Polynomial]]:
        """Einsum -> operation class -> count; a number where all extents that it takes are known."""
        found: dict[str, dict[str, Polynomial]] = {}
        for einsum in self.cascade.einsums:
            own = found.setdefault(einsum.name, {})
            for charge in charges(einsum):
                points = self.points(charge)
                for name, count in charge.operations.items():
                    own[name] = own.get(name, Polynomial()) + points * count
        kept = {name: {kind: count for kind, count in counts.items() if count} for name, counts in found.items()}
        return {name: counts for name, counts in kept.items() if counts}

    def points(self, charge: Charge) -> Polynomial:
        """Points of a charge inside all tensors, under the mask; symbols stand for extents that are not known."""
        keys, queries = self.parts(KEY, charge.ranks), self.parts(QUERY, charge.ranks)
        paired = set(keys) - set(queries) and set(queries) - set(keys)  # and not chunks that both share alone
        masked = self.mask != FULL and bool(paired)
        tested = {*charge.tested, *(keys + queries if masked else ())}
        groups = list(self._groups(charge.ranks))
        free = self._extent_of(group for group in groups if tested.isdisjoint(group))
        together = tuple(group for group in groups if not tested.isdisjoint(group))
        if not together:
            return free
        if any(rank.upper() not in self.extents for group in together for rank in group):
            if masked:
                raise CascadeSimError(f"{self.cascade.name}: a mask needs the extents of {KEY} and {QUERY}, "
                                      f"and of tiles")
            return closed_points(charge)
        pairs = None
        if paired and set(together) <= {keys, queries}:
            pairs = self._pairs(keys, queries, charge.conditions, masked)
        if pairs is None:
            pairs = self._one_by_one(together, charge.conditions, keys, queries, masked)
        return free * pairs

    def of_polynomial(self, size: Polynomial) -> Polynomial:
        """A size with the known extents in place: M0*M1 is M (a partial last tile included), M1 alone its tiles."""
        values = {name: self._of_name(name) for name in size.names}
        found: dict[tuple[str, ...], Number] = {}
        for factors, coefficient in size.terms.items():
            left, total = list(factors), coefficient
            for parts, whole in self.wholes.items():
                while all(rank.upper() in left for rank in parts):
                    total *= whole
                    for rank in parts:
                        left.remove(rank.upper())
            names = tuple(name for name in left if values[name] is None)
            known = prod(value for value in map(values.get, left) if value is not None)
            found[names] = found.get(names, 0) + total * known
        return Polynomial({names: total for names, total in found.items() if total})

    def _of_name(self, name: str) -> int | None:
        """The value of an extent; None where it is not known."""
        try:
            return bound(symbol(name), self.extents)
        except CascadeSimError:
            return None

    def parts(self, rank: str, ranks: Iterable[str]) -> Parts:
        """Those of `ranks` that walk `rank`: itself, or parts of it, outermost first."""
        present = set(ranks)
        if rank in present:
            return (rank,)
        return next((found for parts in partitions(self.cascade) if whole_extent(parts) == rank.upper()
                     for found in [tuple(part for part in parts if part in present)] if found), ())  # fmt: skip

    def coordinates(self, index: Index) -> int:
        """How many coordinates an index of an input or output takes at least; 1 where coordinates are data."""
        ranks = index.ranks
        if index.gather is not None or not ranks:
            return 1
        reached = self._extent_of(self._groups(ranks)).bound({})
        if self.parts(KEY, ranks) and isinstance(self.mask, KeyInterval) and QUERY.upper() in self.extents:
            first, _ = self.mask.interval(np.zeros(1, np.int64), self.extents[QUERY.upper()], reached)
            reached -= min(max(int(first[0]), 0), reached - 1)
        return -(-reached // int(self._value(index.divisor)))

    def _groups(self, ranks: Iterable[str]) -> Iterator[Parts]:
        """`ranks`, those of one partition together, and those of partitions that share chunks: m1, m0, p0."""
        left = dict.fromkeys(ranks)
        found = [tuple(part for part in parts if part in left) for parts in self.wholes]
        for group in found:
            if group and left.keys() >= set(group):
                shared = (part for other in found if group[0] in other for part in other)
                group = tuple(dict.fromkeys((*group, *shared)))
                yield group
                left = {part: None for part in left if part not in group}
        yield from ((rank,) for rank in left)

    def _extent_of(self, groups: Iterable[Parts]) -> Polynomial:
        """Coordinates of ranks taken together: of outer parts the tiles that start, of all parts the whole."""
        number, unknown = 1, []
        for group in groups:
            if self._whole(group) is not None or len(self._parts_in(group)) > 1:
                number *= self._inside(group)
                continue
            number *= prod(self.extents.get(rank.upper(), 1) for rank in group)
            unknown += [rank.upper() for rank in group if rank.upper() not in self.extents]
        return number * product(map(symbol, unknown))

    def _inside(self, group: Parts) -> int:
        """Points of a group inside all its wholes: of chunks that several ranks share all are full but the last."""
        chunks = self.extents[group[0].upper()]
        full, last = 1, 1
        for parts, whole in ((parts, whole) for parts, whole in self.wholes.items() if parts[0] == group[0]):
            inner = [self.extents[part.upper()] for part in parts[1:]]
            tile = prod(self.extents[part.upper()] for part in parts if part not in group)
            full *= prod(inner) // tile
            last *= -(-(whole - prod(inner) * (chunks - 1)) // tile)
        return full * (chunks - 1) + last

    def _parts_in(self, group: Parts) -> set[Parts]:
        """What a group has of each partition, outermost first."""
        return {tuple(part for part in parts if part in group) for parts in self.wholes} - {()}

    def _whole(self, group: Parts) -> int | None:
        """The extent that outer parts walk; None for a rank by itself and for parts without the outermost."""
        return next((whole for parts, whole in self.wholes.items() if group == parts[: len(group)]), None)

    def _tile(self, group: Parts) -> int:
        """How many coordinates of the whole one point of outer parts stands for."""
        inner = next((parts[len(group) :] for parts in self.wholes if group == parts[: len(group)]), ())
        return prod(self.extents[rank.upper()] for rank in inner)

    def _walked(self, rank: str, group: Parts) -> int | None:
        """The extent of a rank that `group` walks; None for parts without the outermost."""
        return self.extents[rank.upper()] if group == (rank,) else self._whole(group)

    @cached_property
    def _pairs(self) -> Callable[[Parts, Parts, tuple[Condition, ...], bool], int | None]:
        """`_counted_pairs`, which most Einsums of a cascade ask for the same."""
        return cache(self._counted_pairs)

    def _counted_pairs(self, keys: Parts, queries: Parts, tests: tuple[Condition, ...], masked: bool) -> int | None:
        """Pairs of query and key (or tile of keys); None where they are no interval of keys for each query."""
        rows, columns = self._walked(QUERY, queries), self._walked(KEY, keys)
        if rows is None or columns is None or self._tile(queries) != 1:
            return None
        tile = self._tile(keys)
        if masked and not tests:
            if tile == 1:
                return self.mask.attended_pairs(rows, columns)
            first, last = self.mask.key_tiles(rows, columns, 1, tile)
            return int(np.maximum(last - first + 1, 0).sum())
        interval = isinstance(self.mask, KeyInterval) or not masked
        limits = [self.limits(test, keys, queries, rows) for test in tests]
        if not interval or None in limits or (tests and tile != 1):
            return None
        first, last = np.zeros(rows, np.int64), np.full(rows, columns - 1, np.int64)
        if masked:
            first, last = self.mask.interval(np.arange(rows), rows, columns)
        for low, high in (limit for limit in limits if limit is not None):
            first, last = np.maximum(first, low), np.minimum(last, high)
        return int(np.maximum(last - first + 1, 0).sum())

    def limits(
        self, test: Condition, keys: Parts, queries: Parts, rows: int
    ) -> tuple[Coordinates, Coordinates] | None:
        """First and last key (inclusive) of each query under one condition; None for other conditions."""
        left, right = (self._line(side, keys, queries) for side in (test.left, test.right))
        if left is None or right is None or test.comparison == "!=":
            return None
        key, query, offset = (one - other for one, other in zip(left, right, strict=True))
        if abs(key) != 1 or query.denominator != 1 or offset.denominator != 1:
            return None
        edge = -(np.arange(rows, dtype=np.int64) * int(query) + int(offset)) * int(key)  # key == edge at equality
        comparison = test.comparison if key > 0 else _MIRRORED[test.comparison]
        low, high = np.full(rows, np.iinfo(np.int64).min), np.full(rows, np.iinfo(np.int64).max)
        if comparison in ("<", "<=", "=="):
            high = edge - (comparison == "<")
        if comparison in (">", ">=", "=="):
            low = edge + (comparison == ">")
        return low, high

    def _line(self, index: Index, keys: Parts, queries: Parts) -> tuple[Fraction, Fraction, Fraction] | None:
        """Coefficients of key and query, and the offset, of an affine index over these ranks; None for others."""
        if index.gather is not None or index.divisor != 1:
            return None
        key, query = self._coefficient(index, keys), self._coefficient(index, queries)
        if key is None or query is None or not set(index.ranks) <= {*keys, *queries}:
            return None
        return key, query, sum((self._value(offset) for offset in index.offsets), Fraction(0))

    def _coefficient(self, index: Index, group: Parts) -> Fraction | None:
        """The factor of the coordinate that the ranks of a group make together, such as m1*M0+m0."""
        factors = dict(index.terms)
        found = [factors.get(rank) for rank in group]
        if all(factor is None for factor in found):
            return Fraction(0)
        steps = [self._tile(group[: number + 1]) for number in range(len(group))]
        ratios = {None if factor is None else self._value(factor) / step
                  for factor, step in zip(found, steps, strict=True)}  # fmt: skip
        return ratios.pop() if len(ratios) == 1 else None

    def _value(self, factor: Factor) -> Fraction:
        """A number or a product of extents. M1*M0 is M, a partial last tile included: M1 counts as M/M0."""
        single, sizes = factor_polynomial(factor), self.extents
        for name in single.names:
            if name not in sizes:
                raise CascadeSimError(f"{self.cascade.name}: a condition needs the extent {name}, which nothing gives; "
                                      f"write a number")
        outer = {parts[0].upper(): Fraction(whole, prod(sizes[rank.upper()] for rank in parts[1:]))
                 for parts, whole in self.wholes.items()}  # fmt: skip
        return Fraction(single.value({**sizes, **outer}))

    def _one_by_one(
        self, groups: tuple[Parts, ...], tests: tuple[Condition, ...], keys: Parts, queries: Parts, masked: bool
    ) -> int:
        """Every point of the ranks; of tiles that no condition tells apart, the first one for all but the last."""
        ranks = tuple(rank for group in groups for rank in group)
        tested = {rank for test in tests for rank in test.ranks} | set(keys + queries if masked else ())
        alike = {group[0] for group in groups if len(group) > 1} - tested
        known = {rank: np.arange(self.extents[rank.upper()]) if rank not in alike
                 else _first_and_last(self.extents[rank.upper()]) for rank in ranks}  # fmt: skip
        sizes = [len(places) for places in known.values()]
        if prod(sizes) > _MOST_POINTS:
            raise CascadeSimError(f"{self.cascade.name}: too many points to count under its conditions: "
                                  f"{' x '.join(f'{rank}={size}' for rank, size in zip(ranks, sizes, strict=True))}, "
                                  f"at most {_MOST_POINTS:,}")
        grid = dict(zip(ranks, np.ix_(*known.values()), strict=True))
        inside = holds(tests, grid, self.extents)
        for parts in {parts for group in groups for parts in self._parts_in(group)}:
            if (whole := self._whole(parts)) is not None:
                inside = inside & (self._coordinate(parts, grid) < whole)
        if masked:
            inside = inside & self._attended(keys, queries, grid)
        others = tuple(axis for axis, rank in enumerate(ranks) if rank not in alike)
        found = np.count_nonzero(np.broadcast_to(inside, sizes), axis=others)
        times = [np.array([self.extents[rank.upper()] - 1, 1])[-len(known[rank]) :] for rank in ranks if rank in alike]
        return int(np.sum(found * prod(np.ix_(*times), start=1)))

    def _coordinate(self, group: Parts, grid: Mapping[str, Coordinates]) -> Coordinates:
        steps = (self._tile(group[: number + 1]) for number in range(len(group)))
        return np.asarray(sum(grid[rank] * step for rank, step in zip(group, steps, strict=True)), np.int64)

    def _attended(self, keys: Parts, queries: Parts, grid: Mapping[str, Coordinates]) -> NDArray[np.bool_]:
        rows, columns = self._walked(QUERY, queries), self._walked(KEY, keys)
        if rows is None or columns is None or not isinstance(self.mask, KeyInterval):
            raise CascadeSimError(f"{self.cascade.name}: its own conditions beside the mask {self.mask} cannot be "
                                  f"counted; give a workload without that mask")
        first, last = self.mask.interval(self._coordinate(queries, grid), rows, columns)
        tile = self._tile(keys)
        place = self._coordinate(keys, grid) // tile
        return np.asarray((place >= first // tile) & (place <= last // tile) & (first <= last))


def _first_and_last(tiles: int) -> NDArray[np.int64]:
    """Places of the first tile, which stands for all but the last, and of the last one, which may be partial."""
    return np.array([0, tiles - 1][-min(tiles, 2) :])


_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}
