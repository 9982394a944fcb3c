"""The unfused baseline: QK, then the softmax, then AV, each a phase of its own; scores go through DRAM.

Scores leave the array finished (the depth runs in time), keys or values stream past query tiles that stay in the
buffer, R times over. The tiles are the fastest of all that the array and the buffer hold; ties go to the largest.
FuseMax artifact, unfused baseline (spec 5.6), for the largest tiles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from cascadesim.accelerators.access_counts import Accesses, loop_over
from cascadesim.accelerators.binding import AttentionBinding
from cascadesim.accelerators.energy import Actions
from cascadesim.accelerators.flat.geometry import FlatCase, QueryTiles, query_tiles
from cascadesim.accelerators.flat.spec import FlatArray
from cascadesim.accelerators.flat.traffic import (
    Floats,
    Moved,
    block_table,
    elided,
    moved,
    nest_of,
    row_by_row,
    softmax_table,
    spilled,
    vector_cycles,
)
from cascadesim.accelerators.spatial.attention_tiles import Counts, coarse_sizes, tile_sizes
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Einsum

_REFETCH = {64: 8, 128: 16}  # calibration: fitted to attn-unfused.csv at 256K and 1M (what Timeloop's mapper chose)
_ROUNDING = 1e-12  # relative, of sums of floats: below it two tiles are equally fast


@dataclass(frozen=True, slots=True)
class Stretch:
    """One phase: its Einsums with their cycles, what they move, and the part of the array that it uses."""

    case: FlatCase
    name: str
    unit: str
    cycles: tuple[tuple[Einsum, int], ...]
    dram_read_words: float
    dram_write_words: float
    actions: Actions

    @property
    def busy_cycles(self) -> int:
        return sum(cycles for _, cycles in self.cycles)

    def port_cycles(self, spec: FlatArray) -> float:
        words = self.actions.global_buffer_read_words + self.actions.global_buffer_write_words
        return words / spec.port_words_per_cycle


def stretches(case: FlatCase, binding: AttentionBinding) -> tuple[Stretch, ...]:
    """List the phases in order: QK, the softmax, AV, and each Einsum of the epilogue."""
    return (
        _contraction(case, binding.scores, "e", (binding.tensor("Q"), binding.tensor("K"))),
        _softmax(case, binding),
        _contraction(case, binding.output, "f", (binding.tensor("V"), binding.tensor("AV"))),
        *(_epilogue(case, einsum) for einsum in binding.epilogue),
    )


def _contraction(case: FlatCase, einsum: Einsum, depth: str, kept: Sequence[str]) -> Stretch:
    if not case.exact:
        case = fastest_tiles(case, case.extent(depth), accumulates=depth == "f")
    # DRAM loops over instances, groups of resident query tiles, key tiles; the buffer over query tiles and depth
    refetch = refetches(case, case.extent(depth))
    spread = {"m": min(case.columns_used, case.shape.keys), "p": min(case.rows_used, case.queries)}
    tiles = -(-case.query_tiles // refetch) if case.exact else _tiles_beside(case, case.extent(depth))
    outer = (loop_over("p2", refetch), loop_over("m1", -(-case.shape.keys // spread["m"])))
    inner = (loop_over("p1", tiles), loop_over(depth, case.extent(depth)))
    tensors = [access.tensor for access in (*einsum.inputs, einsum.output)]
    nest = nest_of(case, outer, inner, spread, kept, tensors, block_table(case, (tiles,), spread["m"]))
    counts = moved(case, einsum, nest)
    if not case.exact:  # only scores that the mask lets through leave the chip and come back
        pairs = case.shape.instances * case.shape.pairs
        for access in (*einsum.inputs, einsum.output):
            if {"m", "p"} <= set(access.ranks):
                dram = counts[access.tensor].dram
                attended = Accesses(pairs * bool(dram.reads), dram.fills, pairs * bool(dram.updates))
                counts[access.tensor] = replace(counts[access.tensor], dram=attended)
    macs = {"mac": case.computed_scores * case.extent(depth)}
    return _stretch(case, "array_2d", ((einsum, nest.points(nest.temporal)),), counts, macs)


def refetches(case: FlatCase, depth: int) -> int:
    """Count R, how often keys (or values) are fetched.

    Physical: query tiles stay beside one tile of keys, as many as fit. Artifact: the published rule, R = 1 where all
    queries and keys of a head fit, else fitted. Raises CascadeSimError where nothing is published.
    """
    if not case.exact:
        return -(-case.query_tiles // _tiles_beside(case, depth))
    if 2 * case.shape.keys * depth <= case.spec.buffer_words:
        return 1
    if depth not in _REFETCH:
        raise CascadeSimError(
            f"artifact accounting: unfused refetches are published for heads of {' and '.join(map(str, _REFETCH))} "
            f"elements, got {depth}; use physical accounting"
        )
    return _REFETCH[depth]


def _tiles_beside(case: FlatCase, depth: int) -> int:
    """Count the query tiles that keys pass by together."""
    resident = int(_resident_tiles(case, case.rows_used, np.array(case.columns_used), depth, case.query_tiles))
    return _tiles_per_group(case.tiles(1), resident, case.full)


def _softmax(case: FlatCase, binding: AttentionBinding) -> Stretch:
    """Scores come from DRAM once, weights go there once; a row stays between the passes, as much of it as fits.

    `assumed:` its statistics stay on chip until the epilogue, where there is one: a word per query row.
    """
    share = 0.0 if case.exact else max(0.0, 1 - case.spec.buffer_words / case.shape.keys)
    staying, spilling = softmax_table(case, replace(binding, epilogue=()))[:, :1, 0]
    words = spilled(spilling, np.array([share])) + spilled(staying, np.zeros(1))
    reads, writes, buffer_reads, buffer_writes, register_reads, register_writes = map(float, words[0])
    operations: Counter[str] = Counter()
    for einsum in binding.softmax:
        operations.update(case.vector_operations(einsum))
    actions = Actions(
        reads + writes, buffer_reads, buffer_writes, register_reads_1d=register_reads,
        register_writes_1d=register_writes, operations_1d=operations,
    )  # fmt: skip
    cycles = tuple((einsum, vector_cycles(case, einsum)) for einsum in binding.softmax)
    return Stretch(case, "softmax", "array_1d", cycles, reads, writes, actions)


def _epilogue(case: FlatCase, einsum: Einsum) -> Stretch:
    """Output rows come back from DRAM, and leave again finished."""
    off_chip = {access.tensor for access in (*einsum.inputs, einsum.output) if "f" in access.ranks}
    kept = {access.tensor for access in einsum.inputs} - off_chip
    counts = moved(case, einsum, row_by_row(case, einsum, kept, off_chip))
    cycles = ((einsum, vector_cycles(case, einsum)),)
    return _stretch(case, "array_1d", cycles, counts, case.vector_operations(einsum))


def _stretch(
    case: FlatCase, unit: str, cycles: tuple[tuple[Einsum, int], ...], counts: dict[str, Moved],
    operations: dict[str, int],
) -> Stretch:  # fmt: skip
    """Make a phase of one Einsum. Words that the buffer does not keep cross it, written and read once."""
    dram = [elided(moves.dram) if case.exact else moves.dram for moves in counts.values()]
    reads, writes = float(sum(moves.reads for moves in dram)), float(sum(moves.updates for moves in dram))
    unbuffered = [moves.dram for moves in counts.values() if moves.buffer == Accesses() and not case.exact]
    passing = sum(moves.reads + moves.updates for moves in unbuffered)
    buffer_reads = sum(moves.buffer.reads for moves in counts.values()) + passing
    buffer_writes = sum(moves.buffer.writes for moves in counts.values()) + passing
    registers = [moves.registers for moves in counts.values()]
    read, write = sum(moves.reads for moves in registers), sum(moves.writes for moves in registers)
    words = Actions(reads + writes, buffer_reads, buffer_writes)
    actions = (
        replace(words, register_reads_2d=read, register_writes_2d=write, operations_2d=operations)
        if unit == "array_2d"
        else replace(words, register_reads_1d=read, register_writes_1d=write, operations_1d=operations)
    )
    return Stretch(case, cycles[0][0].name, unit, cycles, reads, writes, actions)


@lru_cache(maxsize=256)
def fastest_tiles(case: FlatCase, depth: int, accumulates: bool) -> FlatCase:
    """Find the part of the array to use. `accumulates`: results stay beside their queries (AV), else they leave (QK).

    Raises CascadeSimError where not even one query and one key fit.
    """
    best: tuple[float, int, int] | None = None
    macs, side = case.shape.instances * case.shape.pairs * depth, case.spec.pe_array.rows
    for rows in sorted({*tile_sizes(side, case.queries), *tile_sizes(side, case.shape.queries)}, reverse=True):
        if best is not None and macs / (rows * case.spec.pe_array.columns) >= best[0]:
            continue  # however they lie
        found = _Streaming(case, rows, depth, accumulates)
        if best is not None and found.fewest_cycles >= best[0] * (1 - _ROUNDING):
            continue
        cycles = found.cycles()
        at = int(np.argmin(cycles))
        if np.isfinite(cycles[at]) and (best is None or cycles[at] < best[0] * (1 - _ROUNDING)):
            best = float(cycles[at]), rows, int(found.columns[at])
    if best is None:
        raise CascadeSimError(
            f"global_buffer.capacity_bytes: {case.spec.global_buffer.capacity_bytes} bytes hold no tile: a query and "
            f"a key of {depth} elements each need {2 * depth * case.spec.word_bytes}"
        )
    return replace(case, tile=best[1], columns=best[2])


@dataclass(frozen=True)
class _Streaming:
    """Query tiles of `rows` rows meet key tiles of every size of `columns`: formulas of what `traffic` counts."""

    case: FlatCase
    rows: int
    depth: int
    accumulates: bool

    @cached_property
    def columns(self) -> Counts:
        sizes = tile_sizes if self.case.full else coarse_sizes
        return np.array(sizes(self.case.spec.pe_array.columns, self.case.shape.keys))

    @cached_property
    def tiles(self) -> QueryTiles:
        return query_tiles(self.case.shape, self.rows, 1)

    @cached_property
    def _alike(self) -> tuple[Counts, Counts, Counts]:
        """Rows and keys of different query tiles, and how many there are of each."""
        if self.case.full:
            counts = np.bincount(self.tiles.rows)
            rows = np.flatnonzero(counts)
            return rows, np.full(len(rows), self.case.shape.keys), counts[rows]
        pairs = np.stack([self.tiles.rows, self.tiles.keys_met])
        (rows, keys), times = np.unique(pairs, axis=1, return_counts=True)
        return rows, keys, times

    @cached_property
    def visits(self) -> Counts:
        """Key tiles of each of those, (different query tiles, sizes of a key tile) int64."""
        return -(-self._alike[1][:, None] // self.columns)

    @property
    def fewest_cycles(self) -> float:
        """No columns take fewer: the array with the largest, every operand once."""
        rows, _, times = self._alike
        shape, spec = self.case.shape, self.case.spec
        least = self.depth * (int((rows * times).sum()) + self.tiles.combinations[0][2]) + shape.pairs
        busy = self.depth * int((times * self.visits[:, 0]).sum())
        return shape.instances * max(busy, least * spec.word_bytes / spec.dram_bytes_per_cycle)

    def cycles(self) -> Floats:
        """Count cycles, (sizes of a key tile,) float64; infinite where nothing fits beside one."""
        case, (rows, keys, times), depth = self.case, self._alike, self.depth
        queries, row_visits = int((rows * times).sum()), (rows[:, None] * times[:, None] * self.visits).sum(axis=0)
        resident = _resident_tiles(case, self.rows, self.columns, depth, self.tiles.count)
        held = np.maximum(resident, 1).tolist()
        keys_of = {most: self.tiles.fetched_keys(_tiles_per_group(self.tiles, most, case.full)) for most in set(held)}
        fetched = np.array([keys_of[most] for most in held])
        fetched = np.where(self.columns < case.shape.keys, fetched, case.shape.keys)  # a single key tile stays for all
        beside_keys = 2 * row_visits - queries if self.accumulates else row_visits + queries
        passing = beside_keys + int((keys * times).sum()) + fetched
        words, ports = depth * (queries + fetched) + case.shape.pairs, depth * passing + 2 * case.shape.pairs
        dram_cycles = words * case.spec.word_bytes / case.spec.dram_bytes_per_cycle
        moving = np.maximum(dram_cycles, ports / case.spec.port_words_per_cycle)
        cycles: Floats = case.shape.instances * np.maximum(depth * (times[:, None] * self.visits).sum(axis=0), moving)
        fitting: Floats = np.where(resident >= 1, cycles, np.inf)
        return fitting


def _tiles_per_group(tiles: QueryTiles, resident: int, full: bool) -> int:
    """Group query tiles that keys pass by: the fewest groups, alike; under a mask those that fetch fewest keys."""
    even = -(-tiles.count // -(-tiles.count // resident))
    if full:
        return even
    return min((even, *coarse_sizes(resident, tiles.count)), key=tiles.fetched_keys)


def _resident_tiles(case: FlatCase, rows: int, columns: Counts, depth: int, tiles: int) -> Counts:
    """Count query tiles that fit beside one tile of keys, all of them at most; below 1 where not even one does."""
    left = case.spec.buffer_words - np.minimum(columns, case.shape.keys) * depth
    fits: Counts = np.minimum(left // (min(rows, case.queries) * depth), tiles)
    return fits
