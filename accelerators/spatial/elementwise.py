"""Element-wise work (norms, activations, residuals, rotation, routers) on the 1D array, counted from its cascade.

Operations that the array has no unit for are made of those that it has (`binding.MADE_OF`); the exponential itself is
the accelerator's business.
assumed: not fused with its neighbours, so inputs and outputs pass by DRAM; every Einsum takes its operands from the
buffer and puts its result there; rows that a cascade walks several times stay in the buffer if they fit. No
publication times this work on these arrays: there is no artifact accounting of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, log2

from cascadesim.accelerators.energy import Actions, sourced_energy_j
from cascadesim.accelerators.program import (
    BufferedStep,
    BufferedStream,
    Rounds,
    Steps,
    grouped,
    merged,
    steps_per_group,
    stream_program,
)
from cascadesim.accelerators.protocol import Accounting, EinsumActivity, Phase, Plan, Traffic
from cascadesim.accelerators.spatial.blocking import tile_sizes
from cascadesim.accelerators.spec import Operations, SpatialArray, in_classes_of, point_operations
from cascadesim.einsum_cascades.analysis.passes import passes
from cascadesim.einsum_cascades.models.operation import Operation, work_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Apply, Cascade, Einsum, Expression, Select

NOT_PUBLISHED = "not part of the published accounting"
PIECES = 3  # in the buffer at once: one arrives, one is worked on, one leaves
STEPS_AT_ONCE = 2  # of them, those that are not yet done
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


@dataclass(frozen=True, slots=True)
class RowEinsum:
    """One Einsum: at every element of a row, or once per row."""

    name: str
    spans_row: bool
    reduces_row: bool
    operations: Mapping[str, int]  # per point
    cycles_per_point: int
    row_operands: int  # tensors along d that it reads and writes
    row_reads: int  # of them, those that it reads


@dataclass(frozen=True, slots=True)
class RowWork:
    """All Einsums on `rows` rows of `width` elements. Tensors are counted by the ranks they have."""

    einsums: tuple[RowEinsum, ...]
    rows: int
    width: int
    passes: int  # over a row
    row_tensors: int  # with both ranks, inputs and results, that the buffer may hold at once
    row_inputs: int
    row_outputs: int
    scalar_inputs: int  # one word per row
    scalar_outputs: int
    shared_inputs: int  # the same for every row: scales and offsets
    shared_outputs: int = 0

    @classmethod
    def of(cls, cascade: Cascade, einsums: tuple[RowEinsum, ...], rows: int, width: int) -> RowWork:
        ranks = {
            access.tensor: set(access.ranks)
            for einsum in cascade.einsums
            for access in (einsum.output, *einsum.inputs)
        }  # fmt: skip

        def count(tensors: Iterable[str], wanted: str) -> int:
            return sum(ranks[tensor] == set(wanted) for tensor in tensors)

        inputs, outputs = cascade.inputs, cascade.outputs
        return cls(
            einsums, rows, width, passes=passes(cascade, "d") if "d" in cascade.ranks else 1,
            row_tensors=count((*inputs, *cascade.produced), "rd"),
            row_inputs=count(inputs, "rd"), row_outputs=count(outputs, "rd"),
            scalar_inputs=count(inputs, "r"), scalar_outputs=count(outputs, "r"),
            shared_inputs=count(inputs, "d"), shared_outputs=count(outputs, "d"),
        )  # fmt: skip

    def points(self, einsum: RowEinsum) -> int:
        return self.rows * (self.width if einsum.spans_row else 1)


@dataclass(frozen=True, slots=True)
class VectorLayout:
    """A row lies on each of `lanes` lanes, or one row over all of them, `chunk` elements of each row at a time; the
    other lanes are idle. `reads`: how often inputs pass by DRAM."""

    rows_over_lanes: bool
    lanes: int
    chunk: int
    reads: int

    @property
    def group(self) -> int:
        """Rows at a time."""
        return self.lanes if self.rows_over_lanes else 1


def choose_layout(work: RowWork, spec: SpatialArray) -> VectorLayout:
    """Choose what is done first; among equal ones what reads least, then what has the most lanes at work.

    Raises CascadeSimError where the buffer does not even hold an element of each tensor.
    """
    ways = [list(_layouts(work, spec, rows_over_lanes)) for rows_over_lanes in (True, False)]
    if not any(ways):
        raise CascadeSimError(
            f"global_buffer.capacity_bytes: {spec.global_buffer.capacity_bytes} bytes hold no element-wise work; "
            f"{work.row_tensors} tensors need {PIECES * work.row_tensors * spec.word_bytes}"
        )

    def bound(layout: VectorLayout) -> tuple[float, int, int]:
        total = layout_total(work, layout, spec)
        return total.bound_cycles(spec), layout.reads, sum(total.compute_cycles)

    found = min((way[0] for way in ways if way), key=bound)
    read_once = layout_total(work, replace(found, reads=1), spec)
    if bound(found)[0] <= replace(read_once, compute_cycles=()).bound_cycles(spec):
        return found
    return min((layout for way in ways for layout in way), key=bound)


def _layouts(work: RowWork, spec: SpatialArray, rows_over_lanes: bool) -> Iterator[VectorLayout]:
    """Rows walked once may pass in chunks; rows walked again stay whole if `PIECES` groups of them fit.

    Chunks of a row over the lanes fill them all.
    """
    for lanes in tile_sizes(spec.vector_array.lanes, work.rows if rows_over_lanes else work.width):
        fits = spec.buffer_words // (PIECES * (lanes if rows_over_lanes else 1) * max(1, work.row_tensors))
        if fits >= work.width:
            yield VectorLayout(rows_over_lanes, lanes, work.width, 1)
        elif chunk := fits if rows_over_lanes else fits // lanes * lanes:
            yield VectorLayout(rows_over_lanes, lanes, chunk, work.passes)


def _chunk_cycles(work: RowWork, layout: VectorLayout, elements: int) -> tuple[int, ...]:
    """Count the cycles of each Einsum on `elements` elements of a group of rows.

    assumed: across lanes a reduction ends in a tree of log2(lanes) steps; what is once per row takes one lane.
    """
    found = []
    for einsum in work.einsums:
        points = elements if layout.rows_over_lanes else ceil(elements / layout.lanes)
        across = einsum.reduces_row and not layout.rows_over_lanes
        tree = ceil(log2(min(layout.lanes, elements))) if across else 0
        found.append((points if einsum.spans_row else 1) * einsum.cycles_per_point + tree)
    return tuple(found)


def layout_total(work: RowWork, layout: VectorLayout, spec: SpatialArray) -> BufferedStep:
    """Merge all steps of the layout into one."""
    groups, last_rows = divmod(work.rows, layout.group)
    total = _shared_step(work, spec)
    for rows, times in ((layout.group, groups), (last_rows, min(1, last_rows))):
        if times:
            first, others = _group_steps(work, layout, rows, spec)
            total = total.plus(merged((first, *others)), times)
    return total


def layout_steps(work: RowWork, layout: VectorLayout, spec: SpatialArray) -> Steps:
    """List the steps group after group; what all rows share comes with the first."""
    groups, last_rows = divmod(work.rows, layout.group)
    first, others = _group_steps(work, layout, layout.group if groups else last_rows, spec)
    steps: Steps = (first.plus(_shared_step(work, spec)), *others)
    if groups > 1 and others:
        steps += (Rounds((first, *others), groups - 1),)
    elif groups > 1:
        fitting = spec.buffer_words * spec.word_bytes // PIECES // max(1, first.load_bytes + first.store_bytes)
        steps += grouped(first, groups - 1, steps_per_group(first, spec, max(1, fitting)))
    if last_rows and groups:
        first, others = _group_steps(work, layout, last_rows, spec)
        steps += (first, *others)
    return steps


def _shared_step(work: RowWork, spec: SpatialArray) -> BufferedStep:
    width_bytes, nothing = work.width * spec.word_bytes, (0,) * len(work.einsums)
    return BufferedStep(work.shared_inputs * width_bytes, nothing, work.shared_outputs * width_bytes, 0, arrives=True)


def _group_steps(work: RowWork, layout: VectorLayout, rows: int, spec: SpatialArray) -> tuple[BufferedStep, Steps]:
    """List the chunks of a group of rows: the first one, with what is once per row, and the others."""
    whole, last = divmod(work.width, layout.chunk)
    between: Steps = ()
    if whole > 1:
        between = (Rounds((_chunk_step(work, layout, rows, layout.chunk, False, spec),), whole - 1),)
    closing: Steps = (_chunk_step(work, layout, rows, last, False, spec),) if last else ()
    return _chunk_step(work, layout, rows, layout.chunk, True, spec), (*between, *closing)


def _chunk_step(
    work: RowWork, layout: VectorLayout, rows: int, elements: int, first: bool, spec: SpatialArray
) -> BufferedStep:
    """Rows that are walked once are used as they arrive; otherwise a row must be there whole."""
    word = spec.word_bytes
    loaded = layout.reads * rows * (work.row_inputs * elements + work.scalar_inputs * first)
    stored = rows * (work.row_outputs * elements + work.scalar_outputs * first)
    moved = sum(einsum.row_operands * rows * elements for einsum in work.einsums) + loaded + stored
    cycles = _chunk_cycles(work, layout, elements)
    return BufferedStep(loaded * word, cycles, stored * word, moved * word, arrives=work.passes == 1)
