"""The mapping of an attention operation as lines to print: loop nest, arrays, buffer, binding.

Knows what to say; decides nothing. Notation of FuseMax (MICRO'24), section V.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from cascadesim.accelerators.fusemax.mapping import AttentionTiles
from cascadesim.accelerators.fusemax.pipeline import distances
from cascadesim.accelerators.fusemax.placement import ARRAY_1D, ARRAY_2D, Placement
from cascadesim.accelerators.fusemax.software_pipeline import EPOCH_1D, EPOCH_2D, Slot
from cascadesim.accelerators.fusemax.timing import Timing
from cascadesim.einsum_cascades.sparsity.masks import FULL


def mapping_lines(timing: Timing, resident_words: int) -> tuple[str, ...]:
    return (
        *_loop_nest(timing.placement, timing.tiles, timing.elements),
        *(_array(timing, unit) for unit in (ARRAY_2D, ARRAY_1D)),
        _buffer(timing, resident_words),
        *_binding(timing),
    )


def _loop_nest(placement: Placement, tiles: AttentionTiles, elements: int) -> Iterator[str]:
    shape = tiles.shape
    heads = f", {shape.group} query heads each" if shape.group > 1 else ""
    packed = f", {shape.group} heads side by side" if tiles.packed and shape.group > 1 else ""
    yield f"{placement.cascade.name}: {tiles.tiles:,} score tiles, mask {shape.mask}"
    if shape.mask != FULL:
        met = f"{tiles.visits.mean():,.1f} of them on average"
        yield f"each query tile meets the key tiles from its first to its last attended key (extra keys besides): {met}"
    yield f"for instance in {shape.instances:,}  # batch x key/value heads{heads}"
    yield f"  for p2 in {tiles.P2:,}  # groups of resident query tiles"
    yield f"    for {placement.key_outer} in {tiles.key_tiles:,}  # key tiles: {shape.keys:,} keys in {tiles.rows:,}s"
    queries = f"{shape.queries:,} queries in {tiles.columns:,}s{packed}"
    yield f"      for p1 in {tiles.P1:,}  # resident query tiles of {tiles.query_tiles:,}: {queries}"
    yield f"        in space: {placement.key_inner} over {tiles.rows:,} rows, p0 over {tiles.columns:,} columns"
    if tiles.rows * tiles.columns < elements:
        yield f"        {tiles.rows * tiles.columns:,} of {elements:,} elements: more would be no faster"
    yield f"splits: {placement.key_inner.upper()} = {tiles.rows:,}"


def _array(timing: Timing, unit: str) -> str:
    parts = []
    for placed in timing.placement.on(unit):
        per_query_tile = timing.placement.key_outer not in placed.ranks
        parts.append(f"{placed.name} {timing.tile_cycles(placed):,}{' per query tile' if per_query_tile else ''}")
    return f"{unit}, cycles per score tile: {', '.join(parts)}"


def _buffer(timing: Timing, resident_words: int) -> str:
    tiles, word = timing.tiles, timing.spec.word_bytes
    resident = ", ".join(timing.placement.resident)
    query_bytes = tiles.columns * resident_words * word
    key_bytes = tiles.rows * (tiles.shape.query_depth + tiles.shape.value_depth) * word
    return (
        f"global_buffer: {tiles.P1:,} query tiles ({tiles.buffer_tiles:,} would fit) of {query_bytes:,} bytes each "
        f"({resident}), beside them room for {tiles.kv_slots:,} key and value tiles of {key_bytes:,} bytes"
    )


def _binding(timing: Timing) -> Iterator[str]:
    binding = timing.spec.binding
    if binding.policy == "interleave":
        yield f"binding: interleave, up to {binding.in_flight} tiles at once, each unit takes what can start first"
        return
    if binding.policy == "serial":
        yield "binding: serial, one tile at a time, its drain of LM exposed"
        return
    cycles = {placed.name: timing.tile_cycles(placed) for placed in timing.placement.einsums}
    steps = distances(timing.spec, cycles)
    ages = ", ".join(f"{letter} {getattr(steps, letter)}" for letter in "abcd")
    yield f"binding: epochs, tiles a < b < c < d in order of entry; epochs since a tile entered: {ages}"
    yield f"  2D: {_row(EPOCH_2D, cycles)}"
    yield f"  1D: {_row(EPOCH_1D, cycles)}"


def _row(row: Sequence[Slot], cycles: Mapping[str, int]) -> str:
    parts = []
    for shared, slots in groupby(row, key=lambda slot: slot.shared):
        names = [f"{slot.einsum}[{slot.letter}]" for slot in slots if slot.einsum in cycles]
        parts.append(f"( {' | '.join(names)} )" if shared else " -> ".join(names))
    return " -> ".join(parts)
