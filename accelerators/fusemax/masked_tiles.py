"""Which tiles a design works on under a mask: of all rows and columns that the array has, those of the least cycles.

What a mask leaves of each is counted: an array may leave rows and columns idle, so that a larger design can always run
the plan of a smaller one. Most sizes are left out by bounds: of the score tiles that they visit, of the keys that come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from math import prod

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.fusemax.actions import PHYSICAL, Nests, Projections, count, port_cycles, traffic
from cascadesim.accelerators.fusemax.spec import ARRAY_1D, ARRAY_2D, FuseMaxSpec, Placed, Placement
from cascadesim.accelerators.fusemax.tile_costs import LESS
from cascadesim.accelerators.fusemax.timing import STAGES, ArrayTiming, busy_cycles, staged_cycles, timing_of
from cascadesim.accelerators.spatial.attention_tiles import (
    AttentionShape,
    AttentionTiles,
    query_tiles,
    resident_tiles,
    tiles_of,
)
from cascadesim.einsum_cascades.models.operation import TiledMask

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MaskedTiles:
    """One attention operation on one design. `depths`: of queries and of values."""

    shape: AttentionShape
    spec: FuseMaxSpec
    placement: Placement
    depths: Mapping[str, int]

    def best(self, known: Sequence[AttentionTiles]) -> tuple[AttentionTiles, float]:
        """The tiles of the least cycles, and these; where none is better than those `known`, the first of these."""
        best, least = known[0], self.cycles(known[0])
        for tiles in sorted(known[1:], key=self._busy):
            if self._busy(tiles) >= least:
                break
            cycles = self.cycles(tiles)
            if cycles < least * (1 - LESS):
                best, least = tiles, cycles
        if isinstance(self.shape.mask, TiledMask):  # a list is of tiles of one size
            return best, least
        for floor, rows, columns in sorted(self._floors(least)):
            if floor >= least * (1 - LESS):
                break
            for tiles in self.residents(rows, columns):
                if max(self._busy(tiles), self._least_words(tiles) / self._words_per_cycle) >= least * (1 - LESS):
                    break
                cycles = self.cycles(tiles)
                if cycles < least * (1 - LESS):
                    best, least = tiles, cycles
        return best, least

    def _busy(self, tiles: AttentionTiles) -> float:
        return busy_of(timing_of(self.spec, self.placement, tiles, self.depths))

    def cycles(self, tiles: AttentionTiles) -> float:
        """A lower bound of any schedule: the busiest of arrays, DRAM channel and buffer ports."""
        timing = timing_of(self.spec, self.placement, tiles, self.depths)
        nests = Nests(self.placement, tiles, self.depths, Projections(tiles, self.depths))
        counted = count(nests, PHYSICAL)
        moved = traffic(counted, self.spec.word_bytes).total_bytes / self.spec.dram_bytes_per_cycle
        return max(busy_of(timing), moved, port_cycles(counted, self.spec))

    def residents(self, rows: int, columns: int) -> Iterator[AttentionTiles]:
        """Tiles of so many rows and columns that fit: as many residents as can be, then fewer, in equal groups."""
        number, residents = self._query_tiles(columns), self._most_residents(rows, columns)
        tile_bytes, kv_bytes = self._tile_bytes(rows, columns)
        while residents >= 1:
            yield tiles_of(self.shape, self.spec.global_buffer.capacity_bytes, tile_bytes, kv_bytes,
                           (rows, columns, residents))  # fmt: skip
            fewer = -(-number // (-(-number // residents) + 1))
            residents = fewer if fewer < residents else residents - 1

    def _query_tiles(self, columns: int) -> int:
        return query_tiles(self.shape.queries, self.shape.group, columns)

    def _most_residents(self, rows: int, columns: int) -> int:
        """Query tiles of the buffer beside one key tile, by the published rule; 0: not even one fits."""
        tile_bytes, kv_bytes = self._tile_bytes(rows, columns)
        fits = (self.spec.global_buffer.capacity_bytes - kv_bytes) // tile_bytes
        return resident_tiles(self._query_tiles(columns), fits) if fits >= 1 else 0

    def _tile_bytes(self, rows: int, columns: int) -> tuple[int, int]:
        """Bytes of a query tile with its running values, and of a key tile and its values."""
        words, word = self.placement.resident_words(self.depths, rows), self.spec.word_bytes
        return columns * words * word, rows * sum(self.depths.values()) * word

    def _floors(self, least: float) -> Iterator[tuple[float, int, int]]:
        """Cycles that no tile of so many rows and columns is below, rows and columns, where that is less than `least`.

        Of the arrays, and of the keys that come for groups of as many residents as fit.
        """
        rows = np.arange(1, min(self.spec.pe_array.rows, self.shape.keys) + 1)
        for columns in range(1, min(self.spec.pe_array.columns, self.shape.group * self.shape.queries) + 1):
            each = self.shape.instances * self._of_a_tile(rows, -(-columns // self.spec.vector_array.lanes))
            first, last = AttentionTiles(self.shape, 1, columns, 1, 1, 1).key_range
            met = (last >= first).astype(np.int64)
            own = np.flatnonzero(((last - first + 1) * met).sum() / rows * each < least)
            tiles = ((last[:, None] // rows[own] - first[:, None] // rows[own] + 1) * met[:, None]).sum(axis=0)
            moved = cache(partial(self._least_moved_cycles, columns))
            for size, busy in zip(rows[own].tolist(), (tiles * each[own]).tolist(), strict=True):
                residents = self._most_residents(size, columns) if busy < least else 0
                if residents and moved(residents) < least:
                    yield max(busy, moved(residents)), size, columns

    def _least_moved_cycles(self, columns: int, residents: int) -> float:
        """Cycles of the DRAM channel for groups of so many query tiles, key by key."""
        groups = AttentionTiles(self.shape, 1, columns, residents, residents, 1)
        return self._least_words(groups) / self._words_per_cycle

    def _least_words(self, tiles: AttentionTiles) -> float:
        """Words that DRAM moves at least: queries and results once, keys and values for each group of residents."""
        shape, depths = self.shape, sum(self.depths.values())
        first, last = tiles.key_range
        starts = np.arange(0, len(first), tiles.P1)
        before = np.concatenate([[-1], last[:-1]])  # key tiles that the residents before have met
        before[starts] = -1
        keys = np.maximum(last - np.maximum(first, before + 1) + 1, 0).sum() * tiles.rows
        missing = tiles.key_tiles * tiles.rows - shape.keys  # rows that the last key tile leaves empty
        keys -= missing * (np.maximum.reduceat(last, starts) == tiles.key_tiles - 1).sum()
        loaded = keys if tiles.key_tiles > 1 else 0  # a single key tile stays
        return float(shape.instances * (loaded + shape.group * shape.queries) * depths)

    @cached_property
    def _words_per_cycle(self) -> float:
        return self.spec.dram_bytes_per_cycle / self.spec.word_bytes

    def _of_a_tile(self, rows: NDArray[np.int64], turns: int) -> Floats:
        """Cycles of a score tile of so many rows, in so many turns of the lanes, at least; (rows,) float64."""
        inner = self.placement.key_inner
        cycles = {each.name: self._once(each) if each.unit == ARRAY_2D else
                  self._once(each) * turns * (rows if inner in each.ranks else 1)
                  for each in self.placement.einsums if self.placement.key_outer in each.ranks}  # fmt: skip

        def together(names: Iterable[str]) -> Floats:
            return np.asarray(sum((cycles[name] for name in names if name in cycles), np.zeros(len(rows))))

        on_2d, on_1d = (together(each.name for each in self.placement.on(unit)) for unit in (ARRAY_2D, ARRAY_1D))
        longest = np.maximum(on_2d, on_1d)
        if self.spec.binding.policy != "serial":
            return np.asarray(longest)
        staged = np.sum([np.maximum(*map(together, stage)) for stage in STAGES["serial"]], axis=0)
        return np.asarray(np.maximum(longest, staged + rows))

    def _once(self, placed: Placed) -> int:
        return placed.op_cycles * prod(self.depths[rank] for rank in placed.ranks & set(self.depths))


def busy_of(timing: ArrayTiming) -> float:
    """Cycles of the busier array; under the policy `serial` those of its stages."""
    cycles = timing.cycles()
    busy = [busy_cycles(timing.placement, cycles, unit) for unit in (ARRAY_2D, ARRAY_1D)]
    if timing.spec.binding.policy == "serial":
        busy.append(staged_cycles("serial", timing.placement, cycles, timing.tiles.tiles * timing.tiles.rows))
    return float(max(busy))
