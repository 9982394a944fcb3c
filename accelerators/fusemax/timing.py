"""How long the Einsums of an attention operation keep the two arrays busy, and how their stages add up.

A tile costs its full cycles, however many of its queries and keys are real; occupancy says how many are. Knows sizes
and operation costs; knows no dependences beyond the stages of the published formulas. FuseMax (MICRO'24), section V
(`epochs`), section VI (`serial`); formulas of its artifact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod

from cascadesim.accelerators.binding import on_arrays
from cascadesim.accelerators.fusemax.pipeline import EPOCH_1D, EPOCH_2D, Slot, distances
from cascadesim.accelerators.fusemax.placement import ARRAY_1D, ARRAY_2D, Placed, Placement
from cascadesim.accelerators.fusemax.spec import FuseMaxSpec, Policy
from cascadesim.accelerators.protocol import EinsumActivity
from cascadesim.accelerators.spatial.attention_tiles import AttentionTiles
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import FULL

# Stages of a tile: what the 2D array and the 1D array do meanwhile (artifact; spec of the two published schedules).
STAGES: Mapping[Policy, tuple[tuple[frozenset[str], frozenset[str]], ...]] = {
    "epochs": (
        (frozenset({"QK", "LM"}), frozenset({"RD", "RNV", "AV"})),  # of this tile | of the tile before
        (frozenset(), frozenset({"RM"})),
        (frozenset({"SLN", "SLD"}), frozenset({"PRM", "SPD"})),
        (frozenset({"SLNV"}), frozenset({"SPNV"})),
    ),
    "serial": (
        (frozenset({"QK", "LM"}), frozenset({"RD", "AV"})),
        (frozenset(), frozenset({"RM"})),
        (frozenset({"SLN", "SLD"}), frozenset({"PRM", "SPD"})),
        (frozenset({"SLNV"}), frozenset({"SPNV", "RNV"})),
    ),
}


@dataclass(frozen=True)
class ArrayTiming:
    """Cycles and useful work of each Einsum. `spec`: with the rows and columns of the tile, of `elements` there are."""

    spec: FuseMaxSpec
    elements: int
    placement: Placement
    tiles: AttentionTiles
    depths: Mapping[str, int]

    def tile_cycles(self, placed: Placed) -> int:
        """Cycles of one tile: every point of it that the unit does one after another."""
        depth = prod(self.depths[rank] for rank in placed.ranks & set(self.depths))
        if placed.unit == ARRAY_2D:
            return depth * placed.op_cycles
        serial_keys = self.tiles.rows if self.placement.key_inner in placed.ranks else 1
        return depth * placed.op_cycles * serial_keys * -(-self.tiles.columns // self.spec.vector_array.lanes)

    def times(self, placed: Placed) -> int:
        """How many tiles do it: every score tile, or every query tile once its last key tile has passed."""
        if self.placement.key_outer in placed.ranks:
            return self.tiles.tiles
        return self.tiles.shape.instances * int((self.tiles.visits > 0).sum())

    def cycles(self) -> dict[str, int]:
        """Busy cycles of each Einsum."""
        return {placed.name: self.tile_cycles(placed) * self.times(placed) for placed in self.placement.einsums}

    def activity(self, placed: Placed, operations: Mapping[str, int]) -> EinsumActivity:
        """`operations`: those of the cascade, which a part of the tiles' cycles is useful for."""
        on_2d = placed.unit == ARRAY_2D
        lanes = self.elements if on_2d else self.spec.vector_array.lanes
        can = self.spec.pe_array.operations if on_2d else self.spec.vector_array.operations
        cycles, useful = self.tile_cycles(placed) * self.times(placed), can.cycles_of(on_arrays(operations))
        return EinsumActivity(placed.name, placed.unit, cycles, operations, useful / (cycles * lanes))

    def activities(self, work: Mapping[str, Mapping[str, int]]) -> tuple[EinsumActivity, ...]:
        """`work`: operations of each Einsum. A copy keeps no array busy."""
        computed = (placed for placed in self.placement.einsums if placed.op_cycles)
        return tuple(self.activity(placed, work[placed.name]) for placed in computed)


def busy_cycles(placement: Placement, cycles: Mapping[str, int], unit: str) -> int:
    return sum(cycles[placed.name] for placed in placement.on(unit))


def staged_cycles(policy: Policy, placement: Placement, cycles: Mapping[str, int], stall_cycles: int) -> int:
    """Compute cycles of the published schedules from the busy cycles of each Einsum over all tiles.

    epochs: four stages, each as long as the slower array. serial: the same with the drain exposed in each tile.
    interleave: both arrays overlap freely.
    """
    if policy == "interleave":
        return max(busy_cycles(placement, cycles, unit) for unit in (ARRAY_2D, ARRAY_1D))
    stages = STAGES[policy]
    total = sum(max(sum(cycles[name] for name in side) for side in stage) for stage in stages)
    return total + (stall_cycles if policy == "serial" else 0)


def check_policy(policy: Policy, placement: Placement) -> None:
    """The published schedules are for the Einsums of the published cascade."""
    known = frozenset().union(*(side for stage in STAGES["epochs"] for side in stage))
    odd = {placed.name for placed in placement.einsums} ^ known
    if policy != "interleave" and odd:
        raise CascadeSimError(
            f"binding.policy {policy} is for the Einsums of attention-1pass; {placement.cascade.name} differs in "
            f"{', '.join(sorted(odd))}: use binding.policy=interleave with binding.in_flight"
        )


def mapping_lines(timing: ArrayTiming, resident_words: int) -> tuple[str, ...]:
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


def _array(timing: ArrayTiming, unit: str) -> str:
    parts = []
    for placed in timing.placement.on(unit):
        per_query_tile = timing.placement.key_outer not in placed.ranks
        parts.append(f"{placed.name} {timing.tile_cycles(placed):,}{' per query tile' if per_query_tile else ''}")
    return f"{unit}, cycles per score tile: {', '.join(parts)}"


def _buffer(timing: ArrayTiming, resident_words: int) -> str:
    tiles, word = timing.tiles, timing.spec.word_bytes
    resident = ", ".join(timing.placement.resident)
    query_bytes = tiles.columns * resident_words * word
    key_bytes = tiles.rows * (tiles.shape.query_depth + tiles.shape.value_depth) * word
    return (
        f"global_buffer: {tiles.P1:,} query tiles ({tiles.buffer_tiles:,} would fit) of {query_bytes:,} bytes each "
        f"({resident}), beside them room for {tiles.kv_slots:,} key and value tiles of {key_bytes:,} bytes"
    )


def _binding(timing: ArrayTiming) -> Iterator[str]:
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
