"""How long the ports of the buffer are busy: one row for each port and cycle. FuseMax artifact (rows, ports).

Knows words counted by `actions`; knows no order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from cascadesim.accelerators.access_counts import Accesses
from cascadesim.accelerators.fusemax.actions import PHYSICAL, Counted, count
from cascadesim.accelerators.fusemax.mapping import AttentionShape, AttentionTiles
from cascadesim.accelerators.fusemax.nests import Nests
from cascadesim.accelerators.fusemax.placement import GLOBAL_BUFFER, QUERY_RANK, Placement
from cascadesim.accelerators.fusemax.tilestream import Kind
from cascadesim.accelerators.spec import SpatialArray


def port_cycles(counted: tuple[Counted, ...], spec: SpatialArray) -> float:
    """Cycles that all accesses of an operation take at least, however they are spread."""
    buffer = sum((einsum.level(GLOBAL_BUFFER) for einsum in counted), Accesses())
    return _rows(buffer.reads + buffer.writes, spec) / spec.global_buffer.ports


def _rows(words: int, spec: SpatialArray) -> float:
    return words * spec.word_bytes / spec.global_buffer.row_bytes


@dataclass(frozen=True)
class TileRows:
    """Words through the ports in one whole tile: always, and when it fetches or finishes what a Kind says."""

    spec: SpatialArray
    always: int
    queries_fetched: int
    keys_fetched: int
    finished: int

    def port_cycles(self, kind: Kind) -> int:
        words = self.always
        words += self.queries_fetched if kind.fetched_queries else 0
        words += self.keys_fetched if kind.fetched_keys else 0
        words += self.finished if kind.finished_queries else 0
        return ceil(_rows(words, self.spec) / self.spec.global_buffer.ports)


def tile_rows(placement: Placement, spec: SpatialArray, depths: Mapping[str, int]) -> TileRows:
    """Counted on an operation of a single tile."""
    rows, columns = spec.pe_array.rows, spec.pe_array.columns
    shape = AttentionShape(1, columns, rows, depths["e"], depths["f"])
    single = AttentionTiles(shape, rows, columns, buffer_tiles=1, P1=1, kv_slots=1)
    return TileRows(spec, *tile_words(placement, count(Nests(placement, single, depths, None), PHYSICAL)))


def tile_words(placement: Placement, counted: Iterable[Counted]) -> tuple[int, int, int, int]:
    """The words of a TileRows, of an operation of a single tile."""
    counted = tuple(counted)
    in_tile = [einsum for einsum in counted if placement.key_outer in einsum.placed.ranks]
    after_keys = [einsum for einsum in counted if placement.key_outer not in einsum.placed.ranks]
    return (
        sum(found.reads + found.updates for _, found in _buffer(in_tile)),
        sum(found.fills for of_queries, found in _buffer(in_tile) if of_queries),
        sum(found.fills for of_queries, found in _buffer(in_tile) if not of_queries),
        sum(found.reads + found.writes for _, found in _buffer(after_keys)),
    )


def _buffer(counted: Iterable[Counted]) -> Iterable[tuple[bool, Accesses]]:
    """(whether the operand has a query rank, its accesses) at the buffer."""
    for einsum in counted:
        ranks = {operand.name: operand.ranks for operand in einsum.placed.operands}
        for (level, operand), found in einsum.accesses.items():
            if level == GLOBAL_BUFFER:
                yield QUERY_RANK in ranks[operand], found
