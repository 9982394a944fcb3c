"""Row work and its mapping: one row on each lane of the 1D array, or one row over all lanes; what the buffer holds.

Ranks: r rows of d elements. Knows what each Einsum asks per point and what the whole moves, sizes of the array and
cycles per point; knows no operator and no energy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil, log2

from cascadesim.accelerators.spatial.blocking import tile_sizes
from cascadesim.accelerators.spatial.double_buffering import (
    BufferedStep,
    Rounds,
    Steps,
    grouped,
    merged,
    steps_per_group,
)
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.analysis.passes import passes
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade

PIECES = 3  # in the buffer at once: one arrives, one is worked on, one leaves
STEPS_AT_ONCE = 2  # of them, those that are not yet done


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
