"""FLAT and its unfused baseline as the simulator sees them: presets in, plans out.

Attention runs the 3-pass cascade, fused and unfused; linear and element-wise work is that of any spatial array.
Physical accounting searches the dataflow; artifact accounting takes the published one and the published quirks.
Nothing here decides when a task runs (`pipeline` says what waits for what). FLAT (ASPLOS'23); FuseMax (MICRO'24).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from cascadesim.accelerators.binding import AttentionBinding, OtherFormError, bind_attention
from cascadesim.accelerators.energy import Actions, dynamic_energy_j
from cascadesim.accelerators.flat.geometry import FlatCase, shape_of
from cascadesim.accelerators.flat.pipeline import fused_program, phase_program
from cascadesim.accelerators.flat.search import Chosen, evaluate, published_dataflow, search
from cascadesim.accelerators.flat.spec import FlatArray
from cascadesim.accelerators.flat.traffic import vector_cycles
from cascadesim.accelerators.flat.unfused import Stretch, refetches, stretches
from cascadesim.accelerators.protocol import Accounting, EinsumActivity, Phase, Plan, Traffic
from cascadesim.accelerators.spatial.array import SpatialMachine
from cascadesim.einsum_cascades.models.operation import Operation, work_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Einsum
from cascadesim.einsum_cascades.notation.schema import validate


@dataclass(frozen=True)
class Flat(SpatialMachine[FlatArray]):
    """A configured machine."""

    @property
    def attention(self) -> str:
        return "attention-3pass"

    @property
    def fuses(self) -> bool:
        return self.spec.fusion != "none"

    def plan_attention(self, operation: Operation, accounting: Accounting) -> Plan:
        """Plan attention, fused or not.

        Raises CascadeSimError on a cascade of another form, a buffer too small, pins that contradict each other.
        """
        return self._plan(operation, accounting, as_published=accounting == "artifact")

    def published_plan(self, operation: Operation) -> Plan | None:
        """Plan by the dataflow that FLAT's own search published for these very sizes, else by the one found here."""
        if operation.kind != "attention":
            return None
        try:
            return self._plan(operation, "physical", as_published=True)
        except OtherFormError:
            return None

    def _plan(self, operation: Operation, accounting: Accounting, as_published: bool) -> Plan:
        binding, spec = bind_attention(operation.cascade), self.spec
        case = FlatCase(shape_of(operation), spec, exact=accounting == "artifact")
        if case.exact:
            _check_artifact(case, binding)
        positions = case.vectors(min(spec.vector_array.lanes, case.shape.keys))
        idle = case.queries - case.shape.group * positions.combinations[1][0]
        if idle:
            raise CascadeSimError(
                f"{operation.name}: the first {idle} of {case.queries} queries attend no key under the mask "
                f"{case.shape.mask}; give as many keys as queries, or leave them out"
            )
        if spec.fusion == "none":
            return _unfused(operation, case, binding, accounting)
        return _fused(operation, case, binding, accounting, as_published and spec.dataflow.empty)


def build(name: str, content: Mapping[str, object], source: str) -> Flat:
    """Build the machine. Raises SpecError with every problem of `content`."""
    return Flat(name, validate(FlatArray, content, source))


def _check_artifact(case: FlatCase, binding: AttentionBinding) -> None:
    """The published rules divide lengths by the array without a remainder, and know no masks and no shared keys."""
    array, shape = case.spec.pe_array, case.shape
    if binding.epilogue:
        raise CascadeSimError("artifact accounting covers attention-3pass only; use physical accounting")
    ragged = [size for size in (shape.queries, shape.keys) if size % array.rows or size % array.columns]
    if not case.full or shape.group > 1 or ragged or shape.keys % case.spec.vector_array.lanes:
        raise CascadeSimError(
            f"artifact accounting covers full attention of heads of their own on multiples of {array.rows} queries and "
            f"keys; got mask {shape.mask}, {shape.group} query heads per key head, {shape.queries} queries, "
            f"{shape.keys} keys; use physical accounting"
        )


def _fused(
    operation: Operation, case: FlatCase, binding: AttentionBinding, accounting: Accounting, as_published: bool
) -> Plan:
    pins = case.spec.dataflow
    published = published_dataflow(case) if as_published and not binding.epilogue else None
    if published is not None:
        chosen, origin = evaluate(case, binding, published), "as FLAT's own search published it"
    else:
        chosen, origin = search(case, binding, pins), "searched" if pins.empty else "searched, some of it pinned"
    case, spec, costs = chosen.case, chosen.case.spec, chosen.costs
    cycles = {einsum.name: vector_cycles(case, einsum) for einsum in binding.on_1d}
    cycles |= {binding.scores.name: int(costs.qk_cycles[0]), binding.output.name: int(costs.av_cycles[0])}
    on_1d, useful = {einsum.name for einsum in binding.on_1d}, work_of(operation)
    activities = tuple(
        _activity(case, einsum, "array_1d" if einsum.name in on_1d else "array_2d", cycles[einsum.name], useful)
        for einsum in operation.cascade.einsums
    )
    bound = costs.unported_cycles(spec) if case.exact else costs.bound_cycles(spec)  # the publication knows no ports
    parts = (costs.qk, costs.softmax, costs.av)
    words = (sum(float(part.dram_read[0]) for part in parts), sum(float(part.dram_write[0]) for part in parts))
    traffic = Traffic(words[0] * spec.word_bytes, words[1] * spec.word_bytes)
    program = None if case.exact else partial(fused_program, chosen, binding)
    name = f"{binding.scores.name}, softmax, {operation.cascade.einsums[-1].name}"
    phase = Phase(name, activities, traffic, float(bound[0]), program)
    energy = dynamic_energy_j(_fused_actions(chosen, binding), spec)
    return Plan(
        operation, accounting, _fused_lines(chosen, origin), (phase,), energy, element_bytes=_words(operation, spec)
    )


def _words(operation: Operation, spec: FlatArray) -> dict[str, float]:
    """Each element of an input or output that passes by DRAM takes a word."""
    return dict.fromkeys((*operation.cascade.inputs, *operation.cascade.outputs), float(spec.word_bytes))


def _activity(
    case: FlatCase, einsum: Einsum, unit: str, cycles: int, useful: Mapping[str, Mapping[str, int]]
) -> EinsumActivity:
    """Useful work is what the mask lets through; what else the array computes is lost occupancy."""
    shape = case.shape
    depth = {"e": shape.query_depth, "f": shape.value_depth}
    rows = shape.pairs if "m" in einsum.ranks else case.queries
    points = shape.instances * rows * next((depth[rank] for rank in einsum.ranks if rank in depth), 1)
    lanes, op_cycles = case.spec.pe_array.elements, 1
    if unit == "array_1d":
        lanes, op_cycles = case.spec.vector_array.lanes, case.point_cycles(einsum)
    occupancy = points * op_cycles / (cycles * lanes) if cycles else 1.0
    return EinsumActivity(einsum.name, unit, cycles, useful[einsum.name], occupancy)


def _fused_actions(chosen: Chosen, binding: AttentionBinding) -> Actions:
    case, costs = chosen.case, chosen.costs
    qk, softmax, av = words = costs.qk, costs.softmax, costs.av
    of_1d: Counter[str] = Counter()
    for einsum in binding.on_1d:
        of_1d.update(case.vector_operations(einsum))
    return Actions(
        dram_words=sum(float(part.dram[0]) for part in words),
        global_buffer_read_words=sum(float(part.buffer_read[0]) for part in words),
        global_buffer_write_words=sum(float(part.buffer_write[0]) for part in words),
        register_reads_2d=float(qk.register_read[0] + av.register_read[0]),
        register_writes_2d=float(qk.register_write[0] + av.register_write[0]),
        register_reads_1d=float(softmax.register_read[0]),
        register_writes_1d=float(softmax.register_write[0]),
        operations_2d={"mac": case.computed_scores * (case.shape.query_depth + case.shape.value_depth)},
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


def _instance_line(case: FlatCase) -> str:
    shape = case.shape
    return (
        f"{shape.instances:,} key/value heads, each {case.queries:,} query rows by {shape.keys:,} keys, "
        f"mask {shape.mask}; softmax rows over {case.spec.vector_array.lanes} lanes"
    )


def _unfused(operation: Operation, case: FlatCase, binding: AttentionBinding, accounting: Accounting) -> Plan:
    found, useful = stretches(case, binding), work_of(operation)
    phases = tuple(_phase(stretch, useful) for stretch in found)
    energy = dynamic_energy_j(sum((stretch.actions for stretch in found), Actions()), case.spec)
    lines = [_instance_line(case), "one phase after another, scores and weights through DRAM"]
    for part in (stretch for stretch in found if stretch.unit == "array_2d"):
        used, einsum = part.case, part.cycles[0][0]
        depth, streamed = ("e", "keys") if "e" in einsum.ranks else ("f", "values")
        lines.append(
            f"{einsum.name}: {used.query_tiles:,} query tiles of {used.rows_used} rows; key tiles of "
            f"{used.columns_used}; {streamed} fetched {refetches(used, used.extent(depth))} times"
        )
    return Plan(operation, accounting, tuple(lines), phases, energy, element_bytes=_words(operation, case.spec))


def _phase(stretch: Stretch, useful: Mapping[str, Mapping[str, int]]) -> Phase:
    case, spec = stretch.case, stretch.case.spec
    activities = tuple(_activity(case, einsum, stretch.unit, cycles, useful) for einsum, cycles in stretch.cycles)
    traffic = Traffic(stretch.dram_read_words * spec.word_bytes, stretch.dram_write_words * spec.word_bytes)
    bound = max(float(stretch.busy_cycles), traffic.total_bytes / spec.dram_bytes_per_cycle)
    if not case.exact:
        bound = max(bound, stretch.port_cycles(spec))
    program = None if case.exact else partial(phase_program, case, stretch)
    return Phase(stretch.name, activities, traffic, bound, program)
