"""Full attention on many designs as streams of tiles: what the DRAM channel and the buffer ports are busy.

A tile reads and writes its words of the buffer however few of its queries are real: what the program of `simulation`
has, counted by kind of tile. That a transfer of the program takes whole cycles is left out: a bound that grows with
the work and falls with the bandwidth, whatever the tiles. Knows no schedule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.fusemax.linearform import LinearForm
from cascadesim.accelerators.fusemax.pipeline import LONGEST_LEAD
from cascadesim.accelerators.fusemax.placement import ARRAY_1D, ARRAY_2D, Placed, Placement
from cascadesim.accelerators.fusemax.residency import ceil_div
from cascadesim.accelerators.fusemax.slots import TILES_AHEAD
from cascadesim.accelerators.fusemax.spec import FuseMaxSpec
from cascadesim.accelerators.fusemax.wordforms import tile_forms

Floats: TypeAlias = NDArray[np.float64]

_THROUGH = ("QK", "LM", "RM", "SLN", "SLNV")  # RM after the drain of LM


@dataclass(frozen=True)
class Streams:
    """One element of each array per design, or one for all. `resident_words`: for each query."""

    placement: Placement
    spec: FuseMaxSpec
    rows: Floats
    columns: Floats
    lanes: Floats
    buffer_bytes: Floats
    row_bytes: Floats
    bytes_per_cycle: Floats
    instances: Floats
    queries: Floats
    keys: Floats
    query_depth: Floats
    value_depth: Floats
    group: Floats
    resident_words: Floats
    key_tiles: Floats
    query_tiles: Floats
    P1: Floats

    def at(self, designs: NDArray[np.intp]) -> Streams:
        """Some of the designs."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)[2:]}
        chosen = {name: np.broadcast_to(array, self.P1.shape)[designs] for name, array in arrays.items()}
        return Streams(self.placement, self.spec, **chosen)

    @cached_property
    def P2(self) -> Floats:
        return ceil_div(self.query_tiles, self.P1)

    @cached_property
    def fits(self) -> NDArray[np.bool_]:
        """Whether the buffer holds the resident query tiles beside a key tile and a value tile."""
        words = self.rows * (self.query_depth + self.value_depth) + self.P1 * self.columns * self.resident_words
        found: NDArray[np.bool_] = words * self.spec.word_bytes <= self.buffer_bytes
        return found

    @cached_property
    def turns(self) -> Floats:
        """Of the 1D array for all columns of a tile."""
        return ceil_div(self.columns, self.lanes)

    @cached_property
    def rest(self) -> Floats:
        """Query tiles of the last group of an instance where it is smaller than the others, 0 otherwise."""
        return np.mod(self.query_tiles, self.P1)

    @cached_property
    def slots(self) -> tuple[Floats, Floats]:
        """For queries and for keys, by the rule of `slots.split_buffer`."""
        shortest = np.where(self.rest > 0, self.rest, self.P1)
        query_bytes = self.columns * self.resident_words * self.spec.word_bytes
        key_bytes = self.rows * (self.query_depth + self.value_depth) * self.spec.word_bytes
        wanted = np.minimum(TILES_AHEAD, self.P1 * ceil_div(np.full(1, TILES_AHEAD), shortest * self.key_tiles))
        spare = np.floor((self.buffer_bytes - self.P1 * query_bytes - 2 * key_bytes) / query_bytes)
        queries = self.P1 + np.clip(spare, 0, wanted)
        keys = np.floor((self.buffer_bytes - queries * query_bytes) / key_bytes)
        return queries, np.minimum(keys, np.maximum(2, 1 + ceil_div(np.full(1, TILES_AHEAD), shortest)))

    @cached_property
    def is_tight(self) -> NDArray[np.bool_]:
        """Whether there is no room for a second key tile and its values."""
        depths = self.query_depth + self.value_depth
        words = 2 * self.rows * depths + self.P1 * self.columns * self.resident_words
        found: NDArray[np.bool_] = words * self.spec.word_bytes > self.buffer_bytes
        return found

    @cached_property
    def tile_cycles(self) -> Floats:
        """Of a tile that finishes its column, on the busier array."""
        return self._busier(self.placement.einsums)

    @cached_property
    def inner_tile_cycles(self) -> Floats:
        """Of a tile before the last of its column, on the busier array."""
        return self._busier(placed for placed in self.placement.einsums if self.placement.key_outer in placed.ranks)

    def _busier(self, einsums: Iterable[Placed]) -> Floats:
        chosen = tuple(einsums)
        return np.maximum(self._tile_cycles(chosen, ARRAY_2D, 1), self._tile_cycles(chosen, ARRAY_1D, self.turns))

    def _tile_cycles(self, einsums: Iterable[Placed], unit: str, turns: Floats | int) -> Floats:
        depths = {"e": self.query_depth, "f": self.value_depth}
        keys = self.rows if unit == ARRAY_1D else np.ones(())
        found = np.zeros(())
        for placed in (each for each in einsums if each.unit == unit):
            cycles = placed.op_cycles * (keys if self.placement.key_inner in placed.ranks else np.ones(()))
            for rank in sorted(placed.ranks & set(depths)):
                cycles = cycles * depths[rank]
            found = found + cycles
        return found * turns

    @cached_property
    def wanted_lead(self) -> Floats:
        """Epochs for what one tile may load and store, as in `simulation`."""
        transfers = np.ceil(self.load_cycles) + sum(map(np.ceil, self._query_transfers(self.columns)), np.zeros(()))
        return np.minimum(LONGEST_LEAD, 1 + ceil_div(transfers, self.tile_cycles))

    def dram_cycles(self) -> Floats:
        """Of all loads and stores."""
        whole, (loads, stores) = self.query_tiles - self._last_tiles, self._query_transfers(self.columns)
        last = self._last_tiles * (self.last_query_cycles + self.last_store_cycles)
        cycles: Floats = self._key_cycles + self.instances * (whole * (loads + stores) + last)
        return cycles

    def least_dram_cycles(self, groups: Floats) -> Floats:
        """Of all loads and stores on any tiles, where keys and values pass by so many times."""
        words = groups * self.keys * (self.query_depth + self.value_depth)
        words = words + self.group * self.queries * (self.query_depth + self._stored_words)
        cycles: Floats = self.instances * self._transfer(words)
        return cycles

    @cached_property
    def _key_cycles(self) -> Floats:
        """Of all loads of keys and values: for every group of residents, unless one key tile is all there is."""
        again = self.P2 * ((self.key_tiles - 1) * self.load_cycles + self.last_load_cycles)
        cycles: Floats = self.instances * np.where(self.key_tiles > 1, again, self.last_load_cycles)
        return cycles

    def turn_cycles(self, busy_2d_cycles: Floats) -> Floats:
        """Where a single slot holds keys, loading a key tile and working on it take turns; 0 elsewhere.

        In the published orders the 2D array does all of a row between its load and its last read; so is the last tile
        of the row from its first product to its last, its drain included.
        """
        if self.spec.binding.policy == "interleave":
            return np.zeros(())
        rows = self.instances * np.where(self.key_tiles > 1, self.P2 * self.key_tiles, 1)
        work = np.where(self.is_tight, np.maximum(busy_2d_cycles, rows * self._through_cycles), 0)
        return self.turned_load_cycles + work

    @cached_property
    def turned_load_cycles(self) -> Floats:
        """Of loads that wait for work and are waited for."""
        if self.spec.binding.policy == "interleave":
            return np.zeros(())
        return np.where(self.is_tight, self._key_cycles, 0)

    def likely_waits(self) -> tuple[Floats, Floats, Floats]:
        """No bounds: cycles of all rows, bytes of their loads, and cycles on top of these with few slots for keys.

        Rows are likely to take as long as one of: their tiles, the passage of one tile, their loads; -inf: no such.
        """
        if self.spec.binding.policy == "interleave":
            return np.zeros(()), np.zeros(()), np.full((), -np.inf)
        rows, (_, keys) = self.instances * self.P2 * self.key_tiles, self.slots
        tiles, through = self.P1 * self.inner_tile_cycles, self._through_cycles
        through = np.where(self.key_tiles > 1, through - np.where(keys < 3, 0, self.value_depth), 0)
        alone = np.maximum(tiles, through)  # SLNV of a tile shares its turns with QK of the next
        few = np.where(keys < 2, alone, np.where(keys < 3, np.minimum(alone, self.inner_tile_cycles), -np.inf))
        return rows * alone, rows * self.load_cycles * self.bytes_per_cycle, rows * few

    @cached_property
    def _through_cycles(self) -> Floats:
        """Of one tile from QK to SLNV, each of which waits for the one before."""
        chain = [placed for placed in self.placement.einsums if placed.name in _THROUGH]
        return self.rows + self._tile_cycles(chain, ARRAY_2D, 1) + self._tile_cycles(chain, ARRAY_1D, self.turns)

    @cached_property
    def load_cycles(self) -> Floats:
        """Of a whole key tile and its values."""
        return self._transfer(self.rows * (self.query_depth + self.value_depth))

    @cached_property
    def last_load_cycles(self) -> Floats:
        """Of the keys of the last key tile and their values."""
        last = self.keys - (self.key_tiles - 1) * self.rows
        return self._transfer(last * (self.query_depth + self.value_depth))

    @cached_property
    def last_query_cycles(self) -> Floats:
        """Of the queries of a last query tile, the smallest there is."""
        return self._query_transfers(self._last_queries)[0]

    @cached_property
    def last_store_cycles(self) -> Floats:
        return self._query_transfers(self._last_queries)[1]

    def _query_transfers(self, queries: Floats) -> tuple[Floats, Floats]:
        return self._transfer(queries * self.query_depth), self._transfer(queries * self._stored_words)

    @cached_property
    def _stored_words(self) -> Floats:
        """Of each query, as in `simulation`."""
        depths = {"e": self.query_depth, "f": self.value_depth}
        words = (np.prod([depths[rank] for rank in sorted(ranks)], axis=0) for ranks in self.placement.results)
        return np.maximum(1.0, sum(words, np.zeros(())))

    def _transfer(self, words: Floats) -> Floats:
        cycles: Floats = words * self.spec.word_bytes / self.bytes_per_cycle
        return cycles

    @cached_property
    def _packed(self) -> NDArray[np.bool_]:
        return self.queries < self.columns

    @cached_property
    def _last_tiles(self) -> Floats:
        """Query tiles of an instance that may be partial: of each head its last, or the last of heads side by side."""
        return np.where(self._packed, 1.0, self.group)

    @cached_property
    def _last_queries(self) -> Floats:
        queries = np.where(self._packed, self.group * self.queries, self.queries)
        return queries - (ceil_div(queries, self.columns) - 1) * self.columns

    def port_cycles(self) -> Floats:
        """Of all tiles, a tile at a time."""
        found = sum((count * self._tile_ports(*kind) for kind, count in self._kinds()), np.zeros(()))
        cycles: Floats = self.instances * found
        return cycles

    def _kinds(self) -> Iterator[tuple[tuple[bool, bool, bool], Floats]]:
        """(fetches queries, fetches keys, finishes queries) -> how many tiles of an instance."""
        heads, others = self.P2, self.query_tiles - self.P2  # of a row of each group: the first tile, the others
        single = self.key_tiles == 1
        for fetches_keys, tiles in ((True, heads), (False, others)):
            yield (True, fetches_keys, False), np.where(single, 0, tiles)
            yield (False, fetches_keys, False), np.where(single, 0, (self.key_tiles - 2) * tiles)
            yield (False, fetches_keys, True), np.where(single, 0, tiles)
        if single.any():  # one key tile stays where it is for all groups
            yield (True, True, True), np.where(single, 1, 0)
            yield (True, False, True), np.where(single, self.query_tiles - 1, 0)

    def _tile_ports(self, queries: bool, keys: bool, finished: bool) -> Floats:
        always, *others = self._tile_words
        words = always + sum((own for own, does in zip(others, (queries, keys, finished), strict=True) if does),
                             np.zeros(()))  # fmt: skip
        return words * self.spec.word_bytes / self.row_bytes / self.spec.global_buffer.ports

    @cached_property
    def _tile_words(self) -> tuple[Floats, ...]:
        forms = tile_forms(self.placement)
        return tuple(self._evaluated(form) for form in (forms.always, forms.queries_fetched, forms.keys_fetched,
                                                        forms.finished))  # fmt: skip

    def _evaluated(self, form: LinearForm) -> Floats:
        sizes = {"m0": self.rows, "p0": self.columns, "e": self.query_depth, "f": self.value_depth}

        def size(loops: frozenset[str]) -> Floats:
            found = np.ones(())
            for loop in sorted(loops & set(sizes)):
                found = found * sizes[loop]
            return found

        return form.evaluate(size)
