"""FuseMax as the simulator sees it: presets in, plans out, in either accounting.

Physical (default): the real buffer, exact words of partial tiles and masks, a lower bound of the cycle level.
Artifact: the published formulas, for full attention over whole tiles only. Linear and element-wise work is that of any
spatial array. FuseMax (MICRO'24), sections V and VI; its +Cascade, +Architecture, +Binding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import NamedTuple

import numpy as np

from cascadesim.accelerators import fusemax
from cascadesim.accelerators.energy import dynamic_energy_j
from cascadesim.accelerators.fusemax.actions import (
    PHYSICAL,
    Nests,
    Projections,
    actions,
    artifact_rules,
    count,
    tile_rows,
    traffic,
)
from cascadesim.accelerators.fusemax.masked_tiles import MaskedTiles
from cascadesim.accelerators.fusemax.pipeline import distances
from cascadesim.accelerators.fusemax.spec import Distances, FuseMaxSpec, Placement, place
from cascadesim.accelerators.fusemax.tile_choice import best_tiles
from cascadesim.accelerators.fusemax.tile_costs import FIGURES
from cascadesim.accelerators.fusemax.timing import (
    ArrayTiming,
    Simulation,
    check_policy,
    mapping_lines,
    staged_cycles,
    timing_of,
)
from cascadesim.accelerators.protocol import Accounting, Capabilities, Phase, Plan
from cascadesim.accelerators.spatial.array import SpatialMachine
from cascadesim.accelerators.spatial.attention_tiles import AttentionShape, AttentionTiles, map_tiles, tiles_of
from cascadesim.accelerators.spatial.tile_order import TILES_AHEAD, Slots, TileStream, flow_of, split_buffer, used
from cascadesim.einsum_cascades.models.operation import Operation, mask_of, work_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.schema import validate
from cascadesim.einsum_cascades.sparsity.masks import FULL


@dataclass(frozen=True)
class FuseMax(SpatialMachine[FuseMaxSpec]):
    """A configured design."""

    @property
    def attention(self) -> str:
        return "attention-1pass"

    @property
    def capabilities(self) -> Capabilities:
        """Key tiles are fetched one by one, so a list of them may be given; nothing here chooses it by the data.

        assumed: query tiles that are resident together want neighbouring key tiles, as under a window.
        """
        return replace(super().capabilities, patterns="static")

    def prepared(self, operations: tuple[Operation, ...], workload: str) -> tuple[FuseMax, tuple[Operation, ...]]:
        """Pruned attention runs on the tokens that the workload's published schedule keeps."""
        return self, tuple(part for operation in operations for part in (
            fusemax.by_schedule(operation, workload) if _may_prune(operation) else (operation,)))

    def notes(self, sequence_length: int) -> tuple[str, ...]:
        return ()

    def plan_attention(self, operation: Operation, accounting: Accounting) -> Plan:
        if _may_prune(operation) and fusemax.is_pruned(operation):
            return fusemax.plan_pruned(operation, self.spec, accounting)
        return plan_attention(operation, self.spec, accounting)


def _may_prune(operation: Operation) -> bool:
    """Whether a text gives more than the result of attention, such as the importance of tokens."""
    return operation.kind == "attention" and len(operation.cascade.outputs) > 1


class ChosenTiles(NamedTuple):
    """What a plan works on. None: the buffer is split, and a maximum is worked on, by the published rules."""

    tiles: AttentionTiles
    slots: Slots | None
    maximum_age: int | None
    least_cycles: float


def plan_attention(operation: Operation, spec: FuseMaxSpec, accounting: Accounting) -> Plan:
    """Raises CascadeSimError if the cascade does not run here, nothing fits, or the artifact has no such case."""
    placement = place(operation.cascade, spec)
    check_policy(spec.binding.policy, placement)
    if accounting == "artifact":
        return _artifact(operation, spec, placement)
    return _physical(operation, spec, placement)


def shape_of(operation: Operation) -> AttentionShape:
    """Raises CascadeSimError if the text leaves out keys that the workload attends, or has conditions that are no mask.

    Its Einsums over whole key tiles (RM, RD) have no such condition, so they want tiles that the array would skip.
    """
    mask = mask_of(operation)
    if mask != operation.mask:
        raise CascadeSimError(
            f"{operation.cascade.name} masks keys in its text ({mask}) where this workload attends more "
            f"({operation.mask}); use attention-1pass on a workload with that mask"
        )
    instances = operation.extent("b") * operation.extent("h") // operation.extent("g")
    p, m, e, f, g = (operation.extent(rank) for rank in "pmefg")
    return AttentionShape(instances, p, m, e, f, g, mask)


def depths_of(operation: Operation) -> dict[str, int]:
    return {"e": operation.extent("e"), "f": operation.extent("f")}


def _physical(operation: Operation, spec: FuseMaxSpec, placement: Placement) -> Plan:
    """A placed cascade over the best tiles."""
    depths = depths_of(operation)
    tiles, slots, maximum_age, least = chosen_tiles(shape_of(operation), spec, placement, depths)
    words = placement.resident_words(depths, tiles.rows)
    nests = Nests(placement, tiles, depths, Projections(tiles, depths))
    counted = count(nests, PHYSICAL)
    timing = _with_distances(timing_of(spec, placement, tiles, depths), slots, maximum_age)
    moved = traffic(counted, spec.word_bytes)
    splits = splits_of(placement, tiles)
    activities = timing.activities(work_of(operation, splits))
    phase = Phase(operation.name, activities, moved, least, lambda: simulation(timing, slots).program())
    energy = dynamic_energy_j(actions(counted, nests, PHYSICAL), spec)
    lines = mapping_lines(timing, words)
    return Plan(operation, "physical", lines, (phase,), energy, splits, element_bytes(operation.cascade, spec))


def _with_distances(timing: ArrayTiming, slots: Slots | None, maximum_age: int | None) -> ArrayTiming:
    """The timing with the distances of the published order, no longer than the rows and key slots of the tiles bear.

    RNV comes at most one row after the maximum of its tile, where the next row would wait for it in empty epochs. With
    a single key slot all scores of a row come first: its epochs are empty until the slot is loaded again anyway.
    """
    spec = timing.spec
    if spec.binding.policy != "epochs" or spec.binding.distances is not None or slots is None or maximum_age is None:
        return timing
    cycles = {placed.name: timing.tile_cycles(placed) for placed in timing.placement.einsums}
    hiding = distances(timing.placement, spec, cycles)
    residents = timing.tiles.P1
    if slots.keys == 1:
        c = max(hiding.c, residents)
        steps = Distances(a=c + residents, b=c + 1, c=c)
    else:
        c = min(hiding.c, maximum_age)
        b = hiding.b if c == hiding.c else c + 1
        steps = Distances(a=max(b, c + min(hiding.a - hiding.c, residents)), b=b, c=c)
    binding = spec.binding.model_copy(update={"distances": steps})
    return replace(timing, spec=spec.model_copy(update={"binding": binding}))


def chosen_tiles(
    shape: AttentionShape, spec: FuseMaxSpec, placement: Placement, depths: Mapping[str, int]
) -> ChosenTiles:
    """The tiles of the least closed form. Raises CascadeSimError if not even one query fits beside one key."""
    found = _best_on_arrays(shape, spec, placement, [(spec.pe_array.rows, spec.pe_array.columns)])
    if not found:
        raise _nothing_fits(spec, shape, placement.resident_words(depths, 1))
    if shape.mask == FULL:
        return found[0]
    return _masked_tiles(shape, spec, placement, depths)


def _best_on_arrays(
    shape: AttentionShape, spec: FuseMaxSpec, placement: Placement, arrays: Sequence[tuple[int, int]]
) -> list[ChosenTiles]:
    """The best tiles under full attention on each array of so many rows and columns, where one fits."""
    rows, columns = np.array(arrays, dtype=np.float64).T
    sizes = {
        "rows": rows, "columns": columns, "lanes": spec.vector_array.lanes,
        "buffer_bytes": spec.global_buffer.capacity_bytes, "row_bytes": spec.global_buffer.row_bytes,
        "bandwidth_bytes_per_s": spec.dram.bandwidth_bytes_per_s, "clock_hz": spec.clock_hz,
        "instances": shape.instances, "queries": shape.queries, "keys": shape.keys,
        "query_depth": shape.query_depth, "value_depth": shape.value_depth, "group": shape.group,
    }  # fmt: skip
    given = {name: np.broadcast_to(np.asarray(size, dtype=np.float64), rows.shape) for name, size in sizes.items()}
    best = best_tiles(spec, placement, given)
    fitting = np.flatnonzero(np.isfinite(best["rows"])).tolist()
    depths = {"e": shape.query_depth, "f": shape.value_depth}
    chosen = []
    for own in fitting:
        rows, columns, residents, *slots, maximum_age = (int(best[name][own]) for name in FIGURES[:6])
        tile_bytes = columns * placement.resident_words(depths, rows) * spec.word_bytes
        kv_bytes = rows * (shape.query_depth + shape.value_depth) * spec.word_bytes
        tiles = tiles_of(shape, spec.global_buffer.capacity_bytes, tile_bytes, kv_bytes, (rows, columns, residents))
        least = max(float(best[name][own]) for name in FIGURES[6:])
        chosen.append(ChosenTiles(tiles, Slots(*slots), maximum_age, least))
    return chosen


def _masked_tiles(
    shape: AttentionShape, spec: FuseMaxSpec, placement: Placement, depths: Mapping[str, int]
) -> ChosenTiles:
    """The best tiles of all that the array has, of published tiles on all of it and of its halves at the outset."""
    rows, columns = spec.pe_array.rows, spec.pe_array.columns
    arrays = [(size, width) for size in _halves(rows) for width in _halves(columns)]
    found = list(dict.fromkeys(tiles for tiles, *_ in _best_on_arrays(shape, spec, placement, arrays)))
    search = MaskedTiles(shape, spec, placement, depths)
    tiles, least = search.best(found)
    return ChosenTiles(tiles, None, None, least)


def _halves(size: int) -> list[int]:
    return [size >> step for step in range(size.bit_length())]


def _nothing_fits(spec: FuseMaxSpec, shape: AttentionShape, words: int) -> CascadeSimError:
    least = (words + shape.query_depth + shape.value_depth) * spec.word_bytes
    return CascadeSimError(
        f"global_buffer.capacity_bytes: {spec.global_buffer.capacity_bytes} bytes hold no query tile: one query of "
        f"{words} words beside a key and a value needs {least}"
    )


def splits_of(placement: Placement, tiles: AttentionTiles) -> dict[str, int]:
    """Keys of a tile, by the name of their extent in the text."""
    return {placement.key_inner.upper(): tiles.rows}


def element_bytes(cascade: Cascade, spec: FuseMaxSpec) -> dict[str, float]:
    """Everything that comes from outside or goes there passes by DRAM."""
    return dict.fromkeys((*cascade.inputs, *cascade.outputs), float(spec.word_bytes))


def simulation(timing: ArrayTiming, slots: Slots | None) -> Simulation:
    """What the engine runs; `slots` None: the buffer split by the published rule."""
    spec, tiles, stream = timing.spec, timing.tiles, TileStream(timing.tiles)
    flow, ahead = flow_of(stream), max(TILES_AHEAD, spec.binding.in_flight or 0)
    if slots is None:
        words = timing.placement.resident_words(timing.depths, tiles.rows)
        key_words = tiles.rows * (tiles.shape.query_depth + tiles.shape.value_depth)
        sizes = (tiles.columns * words * spec.word_bytes, key_words * spec.word_bytes)
        slots = split_buffer(spec.global_buffer.capacity_bytes, *sizes, flow, ahead)
    return Simulation(timing, stream, used(slots, flow, ahead), tile_rows(timing.placement, spec, timing.depths))


def _artifact(operation: Operation, spec: FuseMaxSpec, placement: Placement) -> Plan:
    depths, shape = depths_of(operation), shape_of(operation)
    _check_published(operation, shape, spec)
    capacity = spec.published.resident_capacity_bytes
    words = placement.resident_words(depths, spec.pe_array.rows)
    tiles = map_tiles(shape, spec, words, capacity, whole_groups=True)
    nests, rules = Nests(placement, tiles, depths, None), artifact_rules(spec.published)
    counted = count(nests, rules)
    timing = timing_of(spec, placement, tiles, depths)
    moved = traffic(counted, spec.word_bytes)
    stall = tiles.tiles * spec.pe_array.rows
    compute = staged_cycles(spec.binding.policy, placement, timing.cycles(), stall)
    cycles = max(float(compute), moved.total_bytes / spec.dram_bytes_per_cycle)
    splits = splits_of(placement, tiles)
    phase = Phase(operation.name, timing.activities(work_of(operation, splits)), moved, cycles)
    energy = dynamic_energy_j(actions(counted, nests, rules), spec)
    lines = mapping_lines(timing, words)
    return Plan(operation, "artifact", lines, (phase,), energy, splits, element_bytes(operation.cascade, spec))


def _check_published(operation: Operation, shape: AttentionShape, spec: FuseMaxSpec) -> None:
    side = lcm(spec.pe_array.rows, spec.pe_array.columns)
    cases = (
        (f"a mask ({shape.mask})", shape.mask != FULL),
        (f"{shape.group} query heads for each key/value head", shape.group > 1),
        (f"{shape.queries} queries on {shape.keys} keys", shape.queries != shape.keys),
        (f"a length of {shape.keys}, no multiple of {side}", shape.keys % side != 0),
    )
    wrong = [reason for reason, applies in cases if applies]
    if wrong:
        raise CascadeSimError(
            f"{operation.name}: artifact accounting covers full self-attention with one key/value head per query head "
            f"over whole tiles, not {', '.join(wrong)}; use --accounting physical"
        )


def build(name: str, content: Mapping[str, object], source: str) -> FuseMax:
    """Raises SpecError with every problem of `content`."""
    return FuseMax(name, validate(FuseMaxSpec, content, source))
