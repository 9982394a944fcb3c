"""Plans of attention, fused and unfused: activities, traffic, latency and energy in either accounting.

Physical accounting searches the dataflow; artifact accounting takes the published one and the published quirks.
Nothing here decides when a task runs (`pipeline` says what waits for what). FLAT (ASPLOS'23); FuseMax (MICRO'24).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial

from cascadesim.accelerators.energy import Actions, dynamic_energy_j
from cascadesim.accelerators.flat.fused import Words
from cascadesim.accelerators.flat.geometry import shape_of
from cascadesim.accelerators.flat.nests import Case
from cascadesim.accelerators.flat.pipeline import fused_program, phase_program
from cascadesim.accelerators.flat.published import published_dataflow
from cascadesim.accelerators.flat.roles import Roles, roles
from cascadesim.accelerators.flat.search import Chosen, evaluate, search
from cascadesim.accelerators.flat.spec import FlatArray
from cascadesim.accelerators.flat.unfused import (
    Stretch,
    computed_rows,
    computed_scores,
    refetches,
    stretches,
    vector_operations,
)
from cascadesim.accelerators.flat.words import einsum_cycles
from cascadesim.accelerators.protocol import Accounting, EinsumActivity, Phase, Plan, Traffic
from cascadesim.einsum_cascades.models.operation import Operation, work_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Einsum


def plan_attention(operation: Operation, spec: FlatArray, accounting: Accounting) -> Plan:
    """Raises CascadeSimError on a cascade of another form, a buffer too small, pins that contradict each other."""
    parts = roles(operation.cascade)
    case = Case(shape_of(operation), spec, exact=accounting == "artifact")
    _check_artifact(case, parts)
    positions = case.vectors(min(spec.vector_array.lanes, case.shape.keys))
    idle = case.queries - case.shape.group * int((positions.keys_met > 0).sum())
    if idle:
        raise CascadeSimError(
            f"{operation.name}: the first {idle} of {case.queries} queries attend no key under the mask "
            f"{case.shape.mask}; give as many keys as queries, or leave them out"
        )
    if spec.fusion == "none":
        return _unfused(operation, case, parts, accounting)
    return _fused(operation, case, parts, accounting)


def _check_artifact(case: Case, parts: Roles) -> None:
    """The published rules divide lengths by the array without a rest, and know no masks and no shared keys."""
    array, shape = case.spec.pe_array, case.shape
    if not case.exact:
        return
    if parts.epilogue:
        raise CascadeSimError("artifact accounting covers attention-3pass only; use physical accounting")
    ragged = [size for size in (shape.queries, shape.keys) if size % array.rows or size % array.columns]
    if not case.full or shape.group > 1 or ragged or shape.keys % case.spec.vector_array.lanes:
        raise CascadeSimError(
            f"artifact accounting covers full attention of heads of their own on multiples of {array.rows} queries and "
            f"keys; got mask {shape.mask}, {shape.group} query heads per key head, {shape.queries} queries, "
            f"{shape.keys} keys; use physical accounting"
        )


def choose(case: Case, parts: Roles) -> tuple[Chosen, str]:
    """The dataflow, and where it comes from."""
    pins = case.spec.dataflow
    published = published_dataflow(case) if case.exact and pins.empty else None
    if published is not None:
        return evaluate(case, parts, published), "as FLAT's own search published it"
    return search(case, parts, pins), "searched" if pins.empty else "searched, some of it pinned"


def _fused(operation: Operation, case: Case, parts: Roles, accounting: Accounting) -> Plan:
    chosen, origin = choose(case, parts)
    case, spec, costs = chosen.case, case.spec, chosen.costs
    words = (costs.qk, costs.softmax, costs.av)
    on_1d = [(einsum, "array_1d", einsum_cycles(case, einsum)) for einsum in parts.on_1d]
    placed = [
        (parts.scores, "array_2d", int(costs.qk_cycles[0])),
        *on_1d[: len(parts.softmax)],
        (parts.output, "array_2d", int(costs.av_cycles[0])),
        *on_1d[len(parts.softmax) :],
    ]
    useful = work_of(operation)
    activities = tuple(_activity(case, einsum, unit, cycles, useful[einsum.name]) for einsum, unit, cycles in placed)
    bound = costs.unported_cycles(spec) if case.exact else costs.bound_cycles(spec)  # the publication knows no ports
    traffic = _traffic(
        spec, (float(part.dram_read[0]) for part in words), (float(part.dram_write[0]) for part in words)
    )
    program = None if case.exact else partial(fused_program, chosen, parts)
    name = f"{parts.scores.name}, softmax, {operation.cascade.einsums[-1].name}"
    phase = Phase(name, activities, traffic, float(bound[0]), program)
    actions = _fused_actions(case, parts, words)
    energy = dynamic_energy_j(actions, spec)
    return Plan(
        operation, accounting, _fused_lines(chosen, origin), (phase,), energy, element_bytes=_words(operation, spec)
    )


def _words(operation: Operation, spec: FlatArray) -> dict[str, float]:
    """Bytes of each element that passes by DRAM: inputs and outputs, a word each."""
    return dict.fromkeys((*operation.cascade.inputs, *operation.cascade.outputs), float(spec.word_bytes))


def _activity(case: Case, einsum: Einsum, unit: str, cycles: int, useful: Mapping[str, int]) -> EinsumActivity:
    """Useful work is what the mask lets through; what else the array computes is lost occupancy."""
    shape = case.shape
    array_2d = unit == "array_2d"
    depth = {"e": shape.query_depth, "f": shape.value_depth}
    rows = shape.pairs if "m" in einsum.ranks else computed_rows(case)
    points = shape.instances * rows * next((depth[rank] for rank in einsum.ranks if rank in depth), 1)
    lanes = case.spec.pe_array.elements if array_2d else case.spec.vector_array.lanes
    op_cycles = 1 if array_2d else case.point_cycles(einsum)
    occupancy = points * op_cycles / (cycles * lanes) if cycles else 1.0
    return EinsumActivity(einsum.name, unit, cycles, useful, occupancy)


def _traffic(spec: FlatArray, reads: Iterable[float], writes: Iterable[float]) -> Traffic:
    return Traffic(sum(reads) * spec.word_bytes, sum(writes) * spec.word_bytes)


def _fused_actions(case: Case, parts: Roles, words: tuple[Words, Words, Words]) -> Actions:
    qk, softmax, av = words
    scores = computed_scores(case)
    of_2d = {"mac": scores * (case.shape.query_depth + case.shape.value_depth)}
    of_1d: Counter[str] = Counter()
    for einsum in parts.on_1d:
        of_1d.update(vector_operations(case, einsum))
    return Actions(
        dram_words=sum(float(part.dram[0]) for part in words),
        global_buffer_read_words=sum(float(part.buffer_read[0]) for part in words),
        global_buffer_write_words=sum(float(part.buffer_write[0]) for part in words),
        register_reads_2d=float(qk.register_read[0] + av.register_read[0]),
        register_writes_2d=float(qk.register_write[0] + av.register_write[0]),
        register_reads_1d=float(softmax.register_read[0]),
        register_writes_1d=float(softmax.register_write[0]),
        operations_2d=of_2d,
        operations_1d=of_1d,
    )


def _fused_lines(chosen: Chosen, origin: str) -> tuple[str, ...]:
    case, costs = chosen.case, chosen.costs
    footprint, capacity = float(costs.footprint_words[0]), case.spec.buffer_words
    return (
        _instance_line(case),
        f"{case.query_tiles:,} query tiles of {case.rows_used} rows; key tiles of {case.columns_used}",
        f"dataflow, {origin}: {chosen.dataflow}",
        f"buffer: {footprint / capacity:.1%} of {case.spec.global_buffer.capacity_bytes:,} bytes asked for, "
        f"{float(costs.spilled[0]):.2%} of what is kept spills to DRAM",
    )


def _instance_line(case: Case) -> str:
    shape = case.shape
    return (
        f"{shape.instances:,} key/value heads, each {case.queries:,} query rows by {shape.keys:,} keys, "
        f"mask {shape.mask}; softmax rows over {case.spec.vector_array.lanes} lanes"
    )


def _unfused(operation: Operation, case: Case, parts: Roles, accounting: Accounting) -> Plan:
    found = stretches(case, parts)
    useful = work_of(operation)
    phases = tuple(_phase(stretch, useful) for stretch in found)
    energy = dynamic_energy_j(sum((stretch.actions for stretch in found), Actions()), case.spec)
    lines = (
        _instance_line(case),
        "one phase after another, scores and weights through DRAM",
        *(_tile_line(stretch) for stretch in found if stretch.unit == "array_2d"),
    )
    return Plan(operation, accounting, lines, phases, energy, element_bytes=_words(operation, case.spec))


def _tile_line(stretch: Stretch) -> str:
    case, einsum = stretch.case, stretch.cycles[0][0]
    depth, streamed = ("e", "keys") if "e" in einsum.ranks else ("f", "values")
    return (
        f"{einsum.name}: {case.query_tiles:,} query tiles of {case.rows_used} rows; key tiles of {case.columns_used}; "
        f"{streamed} fetched {refetches(case, case.extent(depth))} times"
    )


def _phase(stretch: Stretch, useful: Mapping[str, Mapping[str, int]]) -> Phase:
    case, spec = stretch.case, stretch.case.spec
    activities = tuple(
        _activity(case, einsum, stretch.unit, cycles, useful[einsum.name]) for einsum, cycles in stretch.cycles
    )
    traffic = _traffic(spec, [stretch.dram_read_words], [stretch.dram_write_words])
    bound = max(float(stretch.busy_cycles), traffic.total_bytes / spec.dram_bytes_per_cycle)
    if not case.exact:
        bound = max(bound, stretch.port_cycles(spec))
    program = None if case.exact else partial(phase_program, case, stretch)
    return Phase(stretch.name, activities, traffic, bound, program)
