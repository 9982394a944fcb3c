"""Tiles of a phase without fusion: query tiles stay in the buffer, keys or values stream past them, R times over.

The fastest of all tiles that the array and the buffer hold; ties go to the largest. Formulas of what `unfused` counts
tile by tile. FuseMax artifact, unfused baseline (spec 5.6), for the largest tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from cascadesim.accelerators.flat.geometry import Tiles, query_tiles
from cascadesim.accelerators.flat.nests import Case
from cascadesim.accelerators.flat.words import Floats
from cascadesim.accelerators.fusemax.mapping import Counts
from cascadesim.accelerators.spatial.tile_sizes import coarse_sizes, tile_sizes
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

_ROUNDING = 1e-12  # relative, of sums of floats: below it two tiles are equally fast


@lru_cache(maxsize=256)
def fastest_tiles(case: Case, depth: int, accumulates: bool) -> Case:
    """The array as far as it is used. `accumulates`: results stay beside their queries (AV), else they leave (QK).

    Raises CascadeSimError where not even one query and one key fit.
    """
    best: tuple[float, int, int] | None = None
    macs = case.shape.instances * case.shape.pairs * depth
    for rows in _row_sizes(case):
        if best is not None and macs / (rows * case.spec.pe_array.columns) >= best[0]:
            continue  # however they lie
        found = _Streaming(case, rows, depth, accumulates)
        if best is not None and found.fewest_cycles >= best[0] * (1 - _ROUNDING):
            continue
        cycles = found.cycles
        at = int(np.argmin(cycles))
        if np.isfinite(cycles[at]) and (best is None or cycles[at] < best[0] * (1 - _ROUNDING)):
            best = float(cycles[at]), rows, int(found.columns[at])
    if best is None:
        raise CascadeSimError(
            f"global_buffer.capacity_bytes: {case.spec.global_buffer.capacity_bytes} bytes hold no tile: a query and "
            f"a key of {depth} elements each need {2 * depth * case.spec.word_bytes}"
        )
    return replace(case, tile=best[1], columns=best[2])


def _row_sizes(case: Case) -> Iterator[int]:
    """Every size where all tiles are alike; some where a mask makes each of its own."""
    sizes = tile_sizes if case.full else coarse_sizes
    side = case.spec.pe_array.rows
    found = {tile_sizes(side, case.queries)[0], *sizes(side, case.queries), *sizes(side, case.shape.queries)}
    yield from sorted(found, reverse=True)


@dataclass(frozen=True)
class _Streaming:
    """Query tiles of `rows` rows, against key tiles of every size of `columns`."""

    case: Case
    rows: int
    depth: int
    accumulates: bool

    @cached_property
    def columns(self) -> Counts:
        side, keys = self.case.spec.pe_array.columns, self.case.shape.keys
        return np.array((tile_sizes if self.case.full else coarse_sizes)(side, keys))

    @cached_property
    def tiles(self) -> Tiles:
        return query_tiles(self.case.shape, self.rows, 1)

    @cached_property
    def _alike(self) -> tuple[Counts, Counts, Counts]:
        """Rows and keys of query tiles, and how many there are of each."""
        if self.case.full:
            counts = np.bincount(self.tiles.rows)
            rows = np.flatnonzero(counts)
            return rows, np.full(len(rows), self.case.shape.keys), counts[rows]
        pairs = np.stack([self.tiles.rows, self.tiles.keys_met])
        different, times = np.unique(pairs[:, pairs[1] > 0], axis=1, return_counts=True)
        return different[0], different[1], times

    @cached_property
    def visits(self) -> Counts:
        """Key tiles of each of those, by size of a key tile."""
        return -(-self._alike[1][:, None] // self.columns)

    @property
    def fewest_cycles(self) -> float:
        """Of any columns: the array with the largest, every operand once."""
        rows, _, times = self._alike
        shape, spec = self.case.shape, self.case.spec
        least = self.depth * (int((rows * times).sum()) + self.tiles.combinations[0][2]) + shape.pairs
        busy = self.depth * int((times * self.visits[:, 0]).sum())
        return shape.instances * max(busy, least * spec.word_bytes / spec.dram_bytes_per_cycle)

    @cached_property
    def cycles(self) -> Floats:
        """By size of a key tile; infinite where nothing fits beside one."""
        case, (rows, keys, times), depth = self.case, self._alike, self.depth
        queries, row_visits = int((rows * times).sum()), (rows[:, None] * times[:, None] * self.visits).sum(axis=0)
        fetched = self._fetched_keys
        beside_keys = 2 * row_visits - queries if self.accumulates else row_visits + queries
        passing = beside_keys + int((keys * times).sum()) + fetched
        words, moved = depth * (queries + fetched) + case.shape.pairs, depth * passing + 2 * case.shape.pairs
        moving = np.maximum(
            words * case.spec.word_bytes / case.spec.dram_bytes_per_cycle, moved / case.spec.port_words_per_cycle
        )
        cycles: Floats = case.shape.instances * np.maximum(depth * (times[:, None] * self.visits).sum(axis=0), moving)
        fitting: Floats = np.where(self._resident >= 1, cycles, np.inf)
        return fitting

    @cached_property
    def _resident(self) -> Counts:
        return resident_tiles(self.case, self.rows, self.columns, self.depth, self.tiles.count)

    @property
    def _fetched_keys(self) -> Counts:
        """Keys of all groups of resident query tiles together; a single key tile stays for all of them."""
        residents = np.maximum(self._resident, 1).tolist()
        known = {resident: self._fetched_beside(resident) for resident in set(residents)}
        fetched = np.array([known[resident] for resident in residents])
        return np.where(self.columns < self.case.shape.keys, fetched, self.case.shape.keys)

    def _fetched_beside(self, resident: int) -> int:
        return self.tiles.fetched_keys(tiles_per_group(self.tiles, resident, self.case.full))


def tiles_per_group(tiles: Tiles, resident: int, full: bool) -> int:
    """Query tiles that keys pass by together: the fewest groups, alike; under a mask those that fetch fewest keys."""
    even = -(-tiles.count // -(-tiles.count // resident))
    if full:
        return even
    return min((even, *coarse_sizes(resident, tiles.count)), key=tiles.fetched_keys)


def resident_tiles(case: Case, rows: int, columns: Counts, depth: int, tiles: int) -> Counts:
    """Query tiles that fit beside one tile of keys, all of them at most; below 1 where not even one does."""
    left = case.spec.buffer_words - np.minimum(columns, case.shape.keys) * depth
    fits: Counts = np.minimum(left // (min(rows, case.queries) * depth), tiles)
    return fits
