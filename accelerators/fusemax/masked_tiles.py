"""Which tiles a design works on under a mask: of all rows and columns that the array has, those of the least cycles.

What a mask leaves of each is counted: an array may leave rows and columns idle, so that a larger design can always run
the plan of a smaller one. Most sizes are left out by bounds: of the score tiles that they visit, of the keys that come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from cascadesim.accelerators.fusemax.actions import PHYSICAL, Nests, Projections, count, port_cycles, traffic
from cascadesim.accelerators.fusemax.spec import ARRAY_1D, ARRAY_2D, FuseMaxSpec, Placed, Placement
from cascadesim.accelerators.fusemax.timing import ArrayTiming, busy_cycles, staged_cycles, timing_of
from cascadesim.accelerators.spatial.attention_tiles import AttentionShape, AttentionTiles, resident_tiles, tiles_of
from cascadesim.einsum_cascades.models.operation import TiledMask

_LESS = 1e-9  # by how much a tile must be better than another: more than sums of floats differ


@dataclass(frozen=True)
class MaskedTiles:
    """One attention operation on one design. `depths`: of queries and of values."""

    shape: AttentionShape
    spec: FuseMaxSpec
    placement: Placement
    depths: Mapping[str, int]
    rows_vary: bool = True

    def best(self, known: Sequence[AttentionTiles]) -> tuple[AttentionTiles, float]:
        """The tiles of the least cycles, and these; where none is better than those `known`, the first of these."""
        best, least = known[0], self.cycles(known[0])
        for tiles in sorted(known[1:], key=self._busy):
            if self._busy(tiles) >= least:
                break
            cycles = self.cycles(tiles)
            if cycles < least * (1 - _LESS):
                best, least = tiles, cycles
        if isinstance(self.shape.mask, TiledMask):  # a list is of tiles of one size
            return best, least
        for floor, rows, columns in sorted(self._floors(least)):
            if floor >= least * (1 - _LESS):
                break
            for tiles in self._residents(rows, columns):
                if max(self._busy(tiles), self._least_words(tiles) / self._words_per_cycle) >= least * (1 - _LESS):
                    break
                cycles = self.cycles(tiles)
                if cycles < least * (1 - _LESS):
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

    def _residents(self, rows: int, columns: int) -> Iterator[AttentionTiles]:
        """Tiles of so many rows and columns that fit: as many residents as can be, then fewer, in equal groups."""
        extents = {**self.depths, self.placement.key_inner: rows}
        words = sum(prod(extents.get(rank, 1) for rank in ranks) for ranks in self.placement.resident.values())
        word, capacity = self.spec.word_bytes, self.spec.global_buffer.capacity_bytes
        tile_bytes, kv_bytes = columns * words * word, rows * sum(self.depths.values()) * word
        fits = (capacity - kv_bytes) // tile_bytes
        number = AttentionTiles(self.shape, rows, columns, 1, 1, 1).query_tiles
        residents = resident_tiles(number, fits) if fits >= 1 else 0
        while residents >= 1:
            yield tiles_of(self.shape, capacity, tile_bytes, kv_bytes, (rows, columns, residents))
            fewer = -(-number // (-(-number // residents) + 1))
            residents = fewer if fewer < residents else residents - 1

    def _floors(self, least: float) -> Iterator[tuple[float, int, int]]:
        """Cycles that no tile of so many rows and columns is below, rows and columns, where that is less than `least`.

        Of the arrays; then of the keys that come for groups of as many residents as fit.
        """
        rows = np.arange(1, min(self.spec.pe_array.rows, self.shape.keys) + 1)
        rows = rows if self.rows_vary else np.array([self.spec.pe_array.rows])
        on_1d = self._on_1d(False) + self._on_1d(True) * rows
        for columns in range(1, min(self.spec.pe_array.columns, self.shape.group * self.shape.queries) + 1):
            each = self.shape.instances * np.maximum(self._on_2d, -(-columns // self.spec.vector_array.lanes) * on_1d)
            first, last = AttentionTiles(self.shape, 1, columns, 1, 1, 1).key_range
            met = (last >= first).astype(np.int64)
            own = np.flatnonzero(((last - first + 1) * met).sum() / rows * each < least)
            tiles = ((last[:, None] // rows[own] - first[:, None] // rows[own] + 1) * met[:, None]).sum(axis=0)
            for size, busy in zip(rows[own].tolist(), (tiles * each[own]).tolist(), strict=True):
                most = next(iter(self._residents(size, columns)), None) if busy < least else None
                if most is not None:
                    yield max(busy, self._least_words(most) / self._words_per_cycle), size, columns

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

    @cached_property
    def _on_2d(self) -> float:
        """Cycles of a score tile on the 2D array."""
        return float(sum(map(self._once, self._of_tiles(ARRAY_2D))))

    def _on_1d(self, per_row: bool) -> float:
        """Cycles of a score tile on the 1D array in one turn of its lanes, or for each row of it."""
        inner = self.placement.key_inner
        return float(sum(self._once(each) for each in self._of_tiles(ARRAY_1D) if (inner in each.ranks) == per_row))

    def _of_tiles(self, unit: str) -> Iterator[Placed]:
        return (each for each in self.placement.on(unit) if self.placement.key_outer in each.ranks)

    def _once(self, placed: Placed) -> int:
        return placed.op_cycles * prod(self.depths[rank] for rank in placed.ranks & set(self.depths))


def busy_of(timing: ArrayTiming) -> float:
    """Cycles of the busier array; under the policy `serial` those of its stages."""
    cycles = timing.cycles()
    busy = [busy_cycles(timing.placement, cycles, unit) for unit in (ARRAY_2D, ARRAY_1D)]
    if timing.spec.binding.policy == "serial":
        busy.append(staged_cycles("serial", timing.placement, cycles, timing.tiles.tiles * timing.tiles.rows))
    return float(max(busy))
