"""One attention operation planned: tiles, activities, traffic, closed-form cycles and energy, in either accounting.

Physical (default): the real buffer, exact words of partial tiles and masks, a lower bound of the cycle level.
Artifact: the published formulas, for full attention over whole tiles only. FuseMax (MICRO'24), sections V and VI.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import lcm, prod

import numpy as np

from cascadesim.accelerators.energy import dynamic_energy_j
from cascadesim.accelerators.fusemax.actions import PHYSICAL, Counted, actions, artifact_rules, count, traffic
from cascadesim.accelerators.fusemax.choice import best, tiles_to_try
from cascadesim.accelerators.fusemax.closedform import ClosedForm
from cascadesim.accelerators.fusemax.describe import mapping_lines
from cascadesim.accelerators.fusemax.mapping import AttentionShape, AttentionTiles, map_tiles, tiles_of
from cascadesim.accelerators.fusemax.nests import Nests, Projections
from cascadesim.accelerators.fusemax.placement import ARRAY_1D, ARRAY_2D, Placement, place
from cascadesim.accelerators.fusemax.ports import port_cycles, tile_rows
from cascadesim.accelerators.fusemax.simulation import Simulation
from cascadesim.accelerators.fusemax.slots import flow_of, split_buffer
from cascadesim.accelerators.fusemax.spec import FuseMaxSpec
from cascadesim.accelerators.fusemax.tilestream import TileStream
from cascadesim.accelerators.fusemax.timing import Timing, busy_cycles, check_policy, staged_cycles
from cascadesim.accelerators.fusemax.wordforms import word_forms
from cascadesim.accelerators.protocol import Accounting, Phase, Plan, Traffic
from cascadesim.einsum_cascades.models.operation import Operation, mask_of, work_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.sparsity.masks import FULL


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
            f"{operation.cascade.name} masks keys in its text ({mask}) where this workload attends more "
            f"({operation.mask}); use attention-1pass on a workload with that mask"
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


def plan_physical(
    operation: Operation, spec: FuseMaxSpec, placement: Placement, shape: AttentionShape, rows_vary: bool = True
) -> Plan:
    """A placed cascade over the best tiles of a shape. `rows_vary` False: tiles have all rows of the array."""
    depths = depths_of(operation)
    tiles = chosen_tiles(shape, spec, placement, depths, rows_vary)
    words = resident_words(placement, depths, tiles.rows)
    nests = Nests(placement, tiles, depths, Projections(tiles, depths))
    counted = count(nests, PHYSICAL)
    timing = timing_of(spec, placement, tiles, depths)
    moved = traffic(counted, spec.word_bytes)
    least = _least_cycles(timing, counted, moved)
    splits = splits_of(placement, tiles)
    activities = timing.activities(work_of(operation, splits))
    phase = Phase(operation.name, activities, moved, least, lambda: simulation(timing).program())
    energy = dynamic_energy_j(actions(counted, nests, PHYSICAL), spec)
    lines = mapping_lines(timing, words)
    return Plan(operation, "physical", lines, (phase,), energy, splits, element_bytes(operation.cascade, spec))


def timing_of(spec: FuseMaxSpec, placement: Placement, tiles: AttentionTiles, depths: Mapping[str, int]) -> Timing:
    """On the part of the array that the tiles use."""
    sizes = {"rows": tiles.rows, "columns": tiles.columns}
    used = spec.model_copy(update={"pe_array": spec.pe_array.model_copy(update=sizes)})
    return Timing(used, spec.pe_array.elements, placement, tiles, depths)


def chosen_tiles(
    shape: AttentionShape, spec: FuseMaxSpec, placement: Placement, depths: Mapping[str, int], rows_vary: bool = True
) -> AttentionTiles:
    """Those of the least closed form. Raises CascadeSimError if not even one query fits beside one key."""
    form = single_form(shape, spec, placement)
    if shape.mask != FULL:
        return _masked_tiles(form, shape, spec, placement, depths, rows_vary)
    found = best(form, rows_vary)
    if not found.fits[0]:
        raise _nothing_fits(spec, shape, resident_words(placement, depths, 1 if rows_vary else spec.pe_array.rows))
    return _tiles(found, 0, shape, spec, placement, depths)


def _tiles(
    form: ClosedForm, point: int, shape: AttentionShape, spec: FuseMaxSpec, placement: Placement,
    depths: Mapping[str, int],
) -> AttentionTiles:  # fmt: skip
    rows, columns, residents = (int(values[point]) for values in (form.given["rows"], form.given["columns"], form.P1))
    tile_bytes = columns * resident_words(placement, depths, rows) * spec.word_bytes
    kv_bytes = rows * (shape.query_depth + shape.value_depth) * spec.word_bytes
    return tiles_of(shape, spec.global_buffer.capacity_bytes, tile_bytes, kv_bytes, (rows, columns, residents))


def _masked_tiles(
    form: ClosedForm, shape: AttentionShape, spec: FuseMaxSpec, placement: Placement, depths: Mapping[str, int],
    rows_vary: bool,
) -> AttentionTiles:  # fmt: skip
    """Of the published tile and those that full attention tries: what a mask leaves of each is counted."""
    tried = np.stack([values[:, 0] for values in tiles_to_try(form, rows_vary).sizes])
    whole = np.stack([form.given["rows"], form.given["columns"], form.P1])
    sizes = np.concatenate([whole, np.unique(tried, axis=1)[:, ::-1]], axis=1)
    forms = form.at(np.zeros(sizes.shape[1], dtype=np.intp)).on(*sizes)
    found = [_tiles(forms, int(point), shape, spec, placement, depths) for point in np.flatnonzero(forms.fits)]
    if not found:
        raise _nothing_fits(spec, shape, resident_words(placement, depths, 1 if rows_vary else spec.pe_array.rows))
    busy = [_busy_cycles(timing_of(spec, placement, tiles, depths)) for tiles in found]
    best_tiles, least = found[0], np.inf
    for own, tiles in sorted(zip(busy, found, strict=True), key=lambda pair: pair[0]):
        if own >= least:
            break
        cycles = _masked_cycles(timing_of(spec, placement, tiles, depths))
        if cycles < least * (1 - 1e-9):
            best_tiles, least = tiles, cycles
    return best_tiles


def _nothing_fits(spec: FuseMaxSpec, shape: AttentionShape, words: int) -> CascadeSimError:
    least = (words + shape.query_depth + shape.value_depth) * spec.word_bytes
    return CascadeSimError(
        f"global_buffer.capacity_bytes: {spec.global_buffer.capacity_bytes} bytes hold no query tile: one query of "
        f"{words} words beside a key and a value needs {least}"
    )


def single_form(shape: AttentionShape, spec: FuseMaxSpec, placement: Placement) -> ClosedForm:
    """This one design on its whole array, as arrays of one."""
    sizes = {
        "rows": spec.pe_array.rows, "columns": spec.pe_array.columns, "elements": spec.pe_array.elements,
        "lanes": spec.vector_array.lanes, "buffer_bytes": spec.global_buffer.capacity_bytes,
        "row_bytes": spec.global_buffer.row_bytes, "bandwidth_bytes_per_s": spec.dram.bandwidth_bytes_per_s,
        "clock_hz": spec.clock_hz, "instances": shape.instances, "queries": shape.queries, "keys": shape.keys,
        "query_depth": shape.query_depth, "value_depth": shape.value_depth, "group": shape.group,
    }  # fmt: skip
    given = {name: np.array([float(size)]) for name, size in sizes.items()}
    return ClosedForm(spec, placement, partial(word_forms, placement), given)


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

    Under full attention also what the pipeline waits for itself.
    """
    if timing.tiles.shape.mask == FULL:
        tiles = timing.tiles
        sizes = (np.array([float(size)]) for size in (tiles.rows, tiles.columns, tiles.P1))
        return float(single_form(tiles.shape, timing.spec, timing.placement).on(*sizes).least[0])
    spec = timing.spec
    return max(_busy_cycles(timing), moved.total_bytes / spec.dram_bytes_per_cycle, port_cycles(counted, spec))


def _busy_cycles(timing: Timing) -> float:
    """Of the busier array; under the policy `serial` of its stages."""
    cycles = timing.cycles()
    busy = [busy_cycles(timing.placement, cycles, unit) for unit in (ARRAY_2D, ARRAY_1D)]
    if timing.spec.binding.policy == "serial":
        busy.append(staged_cycles("serial", timing.placement, cycles, timing.tiles.tiles * timing.tiles.rows))
    return float(max(busy))


def _masked_cycles(timing: Timing) -> float:
    nests = Nests(timing.placement, timing.tiles, timing.depths, Projections(timing.tiles, timing.depths))
    counted = count(nests, PHYSICAL)
    return _least_cycles(timing, counted, traffic(counted, timing.spec.word_bytes))


def _artifact(operation: Operation, spec: FuseMaxSpec, placement: Placement) -> Plan:
    depths, shape = depths_of(operation), shape_of(operation)
    _check_published(operation, shape, spec)
    capacity = spec.published.resident_capacity_bytes
    words = resident_words(placement, depths, spec.pe_array.rows)
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
