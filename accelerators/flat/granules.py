"""How the work of one instance spreads over its granules: whole cycles of each task, shares of the traffic.

Granules without an attended key are left out; what they would load belongs to the others. Knows tiles and loop
orders; no dependences.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cascadesim.accelerators.flat.dataflow import LoopOrder
from cascadesim.accelerators.flat.fused import Bits
from cascadesim.accelerators.flat.geometry import Tiles
from cascadesim.accelerators.flat.nests import Case
from cascadesim.accelerators.flat.words import Floats
from cascadesim.accelerators.fusemax.mapping import Counts
from cascadesim.einsum_cascades.notation.ir import Einsum

_ROUNDING = 1e-9  # of a cycle: sums of shares carry rounding errors that must not cost a whole one


@dataclass(frozen=True)
class Granules:
    """`tiles` query tiles to a granule."""

    case: Case
    tiles: int

    @property
    def count(self) -> int:
        return int(self._present.sum())

    @cached_property
    def _starts(self) -> Counts:
        return np.arange(0, self.case.query_tiles, self.tiles)

    @cached_property
    def _present(self) -> Bits:
        visited: Bits = np.add.reduceat(self._geometry.visits, self._starts) > 0
        return visited

    def _sum(self, per_tile: Counts) -> Counts:
        total: Counts = np.add.reduceat(per_tile, self._starts)[self._present]
        return total

    @cached_property
    def rows(self) -> Counts:
        return self._sum(self._geometry.rows)

    @cached_property
    def keys(self) -> Counts:
        """Keys that pass by, tile by tile."""
        return self._sum(self._geometry.keys_met)

    @cached_property
    def scores(self) -> Counts:
        return self._sum(self._geometry.rows * self._geometry.keys_met)

    @cached_property
    def first(self) -> Counts:
        first: Counts = (np.arange(self.count) == 0).astype(np.int64)
        return first

    @property
    def _geometry(self) -> Tiles:
        return self.case.tiles(self.case.columns_used)

    def contraction(self, order: LoopOrder) -> Counts:
        """Cycles of QK or AV: temporal loops of each tile."""
        sides = {order.rows: self.case.rows_used, order.columns: self.case.columns_used}
        depth = next(rank for rank in (order.temporal, *sides) if rank in "ef")
        extent = self.case.extent(depth)
        times = extent if depth == order.temporal else -(-extent // min(sides[depth], extent))
        tiles = self.case.tiles(min(sides.get("m", self.case.columns_used), self.case.shape.keys))
        keys = tiles.keys_met if order.temporal == "m" else tiles.visits
        return self._sum((tiles.rows if order.temporal == "p" else 1) * keys * times)

    def epilogue(self, einsums: Iterable[Einsum]) -> Counts:
        vectors = -(-self.case.shape.value_depth // self.case.spec.vector_array.lanes)
        return self.rows * vectors * sum(self.case.point_cycles(einsum) for einsum in einsums)

    def softmax(self, einsums: Iterable[Einsum]) -> Counts:
        return self._sum(self._vectors) * sum(self.case.point_cycles(einsum) for einsum in einsums)

    @cached_property
    def _vectors(self) -> Counts:
        """Vectors of keys of the rows of each query tile, each row with its own; shared alike by packed heads."""
        shape = self.case.shape
        visits = self.case.vectors(min(self.case.spec.vector_array.lanes, shape.keys)).visits
        if shape.queries < self.case.rows_used:
            done = np.cumsum(self._geometry.rows) * int(visits.sum()) // shape.queries
            return np.diff(done, prepend=0)
        starts = np.arange(0, shape.queries, self.case.rows_used)
        return np.repeat(np.add.reduceat(visits, starts), shape.group)

    def words(self, total: float, weights: Counts) -> Floats:
        """`total`, of all instances, spread by `weights` over the granules of one."""
        shares: Floats = weights / weights.sum() * (total / self.case.shape.instances)
        return shares

    def spread(self, cycles: float, weights: Counts) -> Counts:
        return self.whole_cycles(self.words(cycles, weights))

    def whole_cycles(self, cycles: Floats) -> Counts:
        """Never fewer than `cycles`."""
        rounded: Counts = np.ceil(cycles - _ROUNDING * np.maximum(cycles, 1)).astype(np.int64)
        return rounded
