"""One attention operation planned: tiles, activities, traffic, closed-form cycles and energy, in either accounting.

Physical (default): the real buffer, exact words of partial tiles and masks, a lower bound of the cycle level.
Artifact: the published formulas, for full attention over whole tiles only. FuseMax (MICRO'24), sections V and VI.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import lcm, prod

import numpy as np

from cascadesim.accelerators.energy import dynamic_energy_j
from cascadesim.accelerators.fusemax.actions import PHYSICAL, Counted, actions, artifact_rules, count, traffic
from cascadesim.accelerators.fusemax.describe import mapping_lines
from cascadesim.accelerators.fusemax.mapping import AttentionShape, AttentionTiles, map_tiles
from cascadesim.accelerators.fusemax.nests import Nests, Projections
from cascadesim.accelerators.fusemax.placement import ARRAY_1D, ARRAY_2D, Placement, place
from cascadesim.accelerators.fusemax.ports import port_cycles, tile_rows
from cascadesim.accelerators.fusemax.recurrence import least_cycles
from cascadesim.accelerators.fusemax.simulation import Simulation
from cascadesim.accelerators.fusemax.slots import flow_of, split_buffer
from cascadesim.accelerators.fusemax.spec import FuseMaxSpec
from cascadesim.accelerators.fusemax.stated import stated
from cascadesim.accelerators.fusemax.streams import Streams
from cascadesim.accelerators.fusemax.tilestream import TileStream
from cascadesim.accelerators.fusemax.timing import Timing, busy_cycles, check_policy, staged_cycles
from cascadesim.accelerators.protocol import Accounting, Phase, Plan, Traffic
from cascadesim.einsum_cascades.bound_counts import work_of
from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.einsum_cascades.ir import Cascade
from cascadesim.einsum_cascades.masks import FULL
from cascadesim.einsum_cascades.operation import Operation
from cascadesim.einsum_cascades.text_masks import mask_of


def plan_attention(operation: Operation, spec: FuseMaxSpec, accounting: Accounting) -> Plan:
    """Raises CascadeSimError if the cascade does not run here, nothing fits, or the artifact has no such case."""
    placement = place(operation.cascade, spec)
    check_policy(spec.binding.policy, placement)
    if accounting == "artifact":
        return _artifact(operation, spec, placement)
    return plan_physical(operation, spec, placement, shape_of(operation))


def shape_of(operation: Operation) -> AttentionShape:
    """Raises CascadeSimError if the text leaves out keys that the workload attends, or has conditions that are no mask.

    Its Einsums over whole key tiles (RM, RD) have no such condition, so they want tiles that the array would skip.
    """
    mask = mask_of(operation)
    if mask != operation.mask:
        raise CascadeSimError(
            f"{operation.cascade.name} masks keys in its text ({mask}) where this workload attends more ({operation.mask}); "
            "use attention-1pass on a workload with that mask"
        )
    instances = operation.extent("b") * operation.extent("h") // operation.extent("g")
    p, m, e, f, g = (operation.extent(rank) for rank in "pmefg")
    return AttentionShape(instances, p, m, e, f, g, mask)


def depths_of(operation: Operation) -> dict[str, int]:
    return {"e": operation.extent("e"), "f": operation.extent("f")}


def resident_words(placement: Placement, depths: Mapping[str, int], rows: int) -> int:
    """Words in the buffer for each resident query."""
    extents = {**depths, placement.key_inner: rows}
    return sum(prod(extents.get(rank, 1) for rank in ranks) for ranks in placement.resident.values())


def plan_physical(operation: Operation, spec: FuseMaxSpec, placement: Placement, shape: AttentionShape) -> Plan:
    """A placed cascade over the tiles of a shape."""
    depths = depths_of(operation)
    words = resident_words(placement, depths, spec.pe_array.rows)
    tiles = map_tiles(shape, spec, words)
    nests = Nests(placement, tiles, depths, Projections(tiles, depths))
    counted = count(nests, PHYSICAL)
    timing = Timing(spec, placement, tiles, depths)
    moved = traffic(counted, spec.word_bytes)
    least = _least_cycles(timing, counted, moved)
    splits = splits_of(placement, tiles)
    activities = timing.activities(work_of(operation, splits))
    phase = Phase(operation.name, activities, moved, least, lambda: simulation(timing).program(),
                  stated=lambda: stated(simulation(timing), least))  # fmt: skip
    energy = dynamic_energy_j(actions(counted, nests, PHYSICAL), spec)
    lines = mapping_lines(timing, words)
    return Plan(operation, "physical", lines, (phase,), energy, splits, element_bytes(operation.cascade, spec))


def splits_of(placement: Placement, tiles: AttentionTiles) -> dict[str, int]:
    """Keys of a tile, by the name of their extent in the text."""
    return {placement.key_inner.upper(): tiles.rows}


def element_bytes(cascade: Cascade, spec: FuseMaxSpec) -> dict[str, float]:
    """Everything that comes from outside or goes there passes by DRAM."""
    return dict.fromkeys((*cascade.inputs, *cascade.outputs), float(spec.word_bytes))


def simulation(timing: Timing) -> Simulation:
    """What the engine runs."""
    spec, tiles, depths = timing.spec, timing.tiles, timing.depths
    words = resident_words(timing.placement, depths, tiles.rows)
    query_bytes = tiles.columns * words * spec.word_bytes
    key_bytes = tiles.rows * (tiles.shape.query_depth + tiles.shape.value_depth) * spec.word_bytes
    stream = TileStream(tiles)
    capacity, in_flight = spec.global_buffer.capacity_bytes, spec.binding.in_flight
    slots = split_buffer(capacity, query_bytes, key_bytes, flow_of(stream), in_flight)
    return Simulation(timing, stream, slots, tile_rows(timing.placement, spec, depths))


def _least_cycles(timing: Timing, counted: tuple[Counted, ...], moved: Traffic) -> float:
    """A lower bound of any schedule of the policy: the busiest of arrays, DRAM channel and buffer ports.

    Under full attention also what the pipeline waits for itself, and transfers and rows of the buffer as they are.
    """
    spec, cycles = timing.spec, timing.cycles()
    busy = [busy_cycles(timing.placement, cycles, unit) for unit in (ARRAY_2D, ARRAY_1D)]
    if spec.binding.policy == "serial":
        stall = timing.tiles.tiles * spec.pe_array.rows
        busy.append(staged_cycles("serial", timing.placement, cycles, stall))
    if timing.tiles.shape.mask == FULL:
        least = least_cycles(streams_of(timing), np.array([float(busy[0])]))
        return max(*busy, *(float(found[0]) for found in least))
    return max(*busy, moved.total_bytes / spec.dram_bytes_per_cycle, port_cycles(counted, spec))


def streams_of(timing: Timing) -> Streams:
    """This one design as arrays of one."""
    spec, tiles, shape = timing.spec, timing.tiles, timing.tiles.shape
    words = resident_words(timing.placement, timing.depths, tiles.rows)
    sizes = (
        tiles.rows, tiles.columns, spec.vector_array.lanes, spec.global_buffer.capacity_bytes,
        spec.global_buffer.row_bytes, spec.dram_bytes_per_cycle, shape.instances, shape.queries, shape.keys,
        shape.query_depth, shape.value_depth, shape.group, words, tiles.key_tiles, tiles.query_tiles, tiles.P1,
    )  # fmt: skip
    return Streams(timing.placement, spec, *(np.array([float(size)]) for size in sizes))


def _artifact(operation: Operation, spec: FuseMaxSpec, placement: Placement) -> Plan:
    depths, shape = depths_of(operation), shape_of(operation)
    _check_published(operation, shape, spec)
    capacity = spec.published.resident_capacity_bytes
    words = resident_words(placement, depths, spec.pe_array.rows)
    tiles = map_tiles(shape, spec, words, capacity, whole_groups=True)
    nests, rules = Nests(placement, tiles, depths, None), artifact_rules(spec.published)
    counted = count(nests, rules)
    timing = Timing(spec, placement, tiles, depths)
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
