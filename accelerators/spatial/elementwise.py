"""Element-wise work (norms, activations, residuals, rotation, routers) on the 1D array, counted from its cascade.

Operations that the array has no unit for are made of those that it has (`binding.MADE_OF`); the exponential itself is
the accelerator's business.
assumed: not fused with its neighbours, so inputs and outputs pass by DRAM; every Einsum takes its operands from the
buffer and puts its result there; rows that a cascade walks several times stay in the buffer if they fit. No
publication times this work on these arrays: there is no artifact accounting of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial

from cascadesim.accelerators.binding import in_classes_of, point_operations
from cascadesim.accelerators.energy import Actions, sourced_energy_j
from cascadesim.accelerators.protocol import Accounting, EinsumActivity, Phase, Plan, Traffic
from cascadesim.accelerators.spatial.double_buffering import BufferedStream, stream_program
from cascadesim.accelerators.spatial.vector_mapping import (
    STEPS_AT_ONCE,
    RowEinsum,
    RowWork,
    VectorLayout,
    choose_layout,
    layout_steps,
)
from cascadesim.accelerators.spec import Operations, SpatialArray
from cascadesim.einsum_cascades.models.operation import Operation, work_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Apply, Einsum, Expression, Select

NOT_PUBLISHED = "not part of the published accounting"
# assumed: registers that one operation reads; each writes one
_REGISTERS_READ: Mapping[str, int] = {"mac": 3, "add": 2, "max": 2, "exp": 1, "divide": 2}


def plan_elementwise(operation: Operation, spec: SpatialArray, accounting: Accounting) -> Plan:
    """Plan the work; in artifact accounting the plan is empty and says so.

    Raises CascadeSimError on work that the 1D array cannot do.
    """
    if accounting == "artifact":
        return Plan(operation, accounting, (NOT_PUBLISHED,), (), {})
    work = row_work(operation, spec)
    layout = choose_layout(work, spec)
    steps, names = layout_steps(work, layout, spec), tuple(einsum.name for einsum in work.einsums)
    stream = BufferedStream("array_1d", names, steps, STEPS_AT_ONCE, leaves=work.passes == 1)
    energy = sourced_energy_j(_actions(work, stream, spec), spec)
    phase = _phase(operation, work, stream, spec)
    words = dict.fromkeys((*operation.cascade.inputs, *operation.cascade.outputs), spec.word_bytes)
    return Plan(operation, accounting, _mapping_lines(work, layout), (phase,), energy, element_bytes=words)


def row_work(operation: Operation, spec: SpatialArray) -> RowWork:
    """Read the cascade of an element-wise operation row by row. Raises CascadeSimError where it has other ranks."""
    cascade, array = operation.cascade, spec.vector_array.operations
    foreign = sorted(set(cascade.ranks) - {"r", "d"})
    if foreign:
        raise CascadeSimError(f"{operation.name}: element-wise work has ranks r and d only, got {', '.join(foreign)}")
    einsums = tuple(_row_einsum(einsum, array, operation.name) for einsum in cascade.einsums)
    return RowWork.of(cascade, einsums, operation.extent("r"), operation.extent("d"))


def _row_einsum(einsum: Einsum, array: Operations, where: str) -> RowEinsum:
    operations = in_classes_of(array, point_operations(einsum), f"{where}, {einsum.name}: vector_array.operations")
    cycles = sum(count * array.cycles[name] for name, count in operations.items())
    if array.exp_subtracts and array.add is not None:
        cycles -= _fused_subtractions(einsum.expression) * array.add
    return RowEinsum(
        name=einsum.name,
        spans_row="d" in einsum.ranks,
        reduces_row="d" in einsum.reduced_ranks,
        operations=operations,
        cycles_per_point=max(1, cycles),  # assumed: a copy takes its lane a cycle, too
        row_operands=sum("d" in access.ranks for access in (*einsum.inputs, einsum.output)),
        row_reads=sum("d" in access.ranks for access in einsum.inputs),
    )


def _fused_subtractions(expression: Expression) -> int:
    """Count the differences that go straight into an exponential."""
    match expression:
        case Apply(operator=name, operands=operands):
            own = name == "exp" and isinstance(operands[0], Apply) and operands[0].operator == "subtract"
            return own + sum(map(_fused_subtractions, operands))
        case Select(value=value, otherwise=otherwise):
            return _fused_subtractions(value) + _fused_subtractions(otherwise)
    return 0


def _phase(operation: Operation, work: RowWork, stream: BufferedStream, spec: SpatialArray) -> Phase:
    name, useful, total = operation.name, work_of(operation), stream.total
    traffic = Traffic(total.load_bytes, total.store_bytes)
    activities = [
        EinsumActivity(
            einsum.name, "array_1d", cycles, useful[einsum.name],
            work.points(einsum) * einsum.cycles_per_point / (cycles * spec.vector_array.lanes),
        )
        for einsum, cycles in zip(work.einsums, total.compute_cycles, strict=True)
    ]  # fmt: skip
    activities += [
        EinsumActivity(name, "global_buffer", total.buffer_bytes // spec.global_buffer.bytes_per_cycle),
        EinsumActivity(name, "dram", int(traffic.total_bytes / spec.dram_bytes_per_cycle)),
    ]
    program = partial(stream_program, stream, spec)
    return Phase(name, tuple(activities), traffic, stream.total.bound_cycles(spec), program)


def _actions(work: RowWork, stream: BufferedStream, spec: SpatialArray) -> Actions:
    array = spec.vector_array.operations
    operations: Counter[str] = Counter()
    for einsum in work.einsums:
        operations.update({name: count * work.points(einsum) for name, count in einsum.operations.items()})
    sequential = {"exp": array.exp or 1} if array.exp_by == "mac" else {}  # each multiply-accumulate of an exponential
    reads = {**dict.fromkeys(operations, 1), **_REGISTERS_READ}
    reads |= {"exp": _REGISTERS_READ["mac"]} if sequential else {}
    row_reads = sum(einsum.row_reads * work.points(einsum) for einsum in work.einsums)
    row_writes = sum((einsum.row_operands - einsum.row_reads) * work.points(einsum) for einsum in work.einsums)
    loaded, stored = stream.total.load_bytes / spec.word_bytes, stream.total.store_bytes / spec.word_bytes
    return Actions(
        dram_words=loaded + stored,
        global_buffer_read_words=row_reads + stored,
        global_buffer_write_words=row_writes + loaded,
        register_reads_1d=sum(count * reads[name] * sequential.get(name, 1) for name, count in operations.items()),
        register_writes_1d=sum(count * sequential.get(name, 1) for name, count in operations.items()),
        operations_1d=operations,
    )


def _mapping_lines(work: RowWork, layout: VectorLayout) -> tuple[str, ...]:
    ranks = ("r", "d") if layout.rows_over_lanes else ("d", "r")
    again = f", read {layout.reads}x because no row fits global_buffer" if layout.reads > 1 else ""
    return (
        f"array_1d: {ranks[0]} over {layout.lanes:,} lanes, {ranks[1]} in time; {work.rows:,} rows of {work.width:,}",
        f"dram: inputs and outputs of each row{again}",
    )
