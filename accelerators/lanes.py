"""Rows on the lanes of the 1D array: one row per lane, or one row over all lanes; what fits the buffer meanwhile.

Knows sizes and cycles per point; knows no cascade.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

from cascadesim.accelerators.rows import RowEinsum, RowWork
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.accelerators.streaming import Rounds, Step, Steps, grouped, steps_per_group
from cascadesim.einsum_cascades.errors import CascadeSimError

PIECES = 3  # in the buffer at once: one arrives, one is worked on, one leaves
STEPS_AT_ONCE = 2  # of them, those that are not yet done


@dataclass(frozen=True, slots=True)
class Layout:
    """`group` rows at a time, `chunk` elements of each; `reads`: how often inputs pass by DRAM."""

    rows_over_lanes: bool
    group: int
    chunk: int
    reads: int


def choose_layout(work: RowWork, spec: SpatialArray) -> Layout:
    """The one that reads least from DRAM, then the one that keeps the lanes busy for the fewest cycles.

    Raises CascadeSimError where the buffer does not even hold an element of each tensor.
    """
    layouts = [_layout(work, spec, rows_over_lanes) for rows_over_lanes in (True, False)]
    fitting = [layout for layout in layouts if layout is not None]
    if not fitting:
        raise CascadeSimError(
            f"global_buffer.capacity_bytes: {spec.global_buffer.capacity_bytes} bytes hold no element-wise work; "
            f"{work.row_tensors} tensors need {PIECES * work.row_tensors * spec.word_bytes}"
        )
    return min(fitting, key=lambda layout: (layout.reads, _cycles(work, layout, spec)))


def _layout(work: RowWork, spec: SpatialArray, rows_over_lanes: bool) -> Layout | None:
    """Rows walked once may pass in chunks; rows walked again stay whole if `PIECES` groups of them fit."""
    group = min(spec.vector_array.lanes, work.rows) if rows_over_lanes else 1
    fits = spec.buffer_words // (PIECES * group * max(1, work.row_tensors))
    if fits >= work.width:
        return Layout(rows_over_lanes, group, work.width, 1)
    return Layout(rows_over_lanes, group, fits, work.passes) if fits else None


def _cycles(work: RowWork, layout: Layout, spec: SpatialArray) -> int:
    """Of the lanes, all rows."""
    chunks, last = divmod(work.width, layout.chunk)
    per_group = chunks * sum(_chunk_cycles(work, layout, layout.chunk, spec))
    per_group += sum(_chunk_cycles(work, layout, last, spec)) if last else 0
    return ceil(work.rows / layout.group) * per_group


def _chunk_cycles(work: RowWork, layout: Layout, elements: int, spec: SpatialArray) -> tuple[int, ...]:
    return tuple(_einsum_cycles(einsum, layout, elements, spec.vector_array.lanes) for einsum in work.einsums)


def _einsum_cycles(einsum: RowEinsum, layout: Layout, elements: int, lanes: int) -> int:
    """assumed: across lanes a reduction ends in a tree of log2(lanes) steps; what is once per row takes one lane."""
    if not einsum.spans_row:
        return einsum.cycles_per_point
    if layout.rows_over_lanes:
        return elements * einsum.cycles_per_point
    tree = ceil(log2(min(lanes, elements))) if einsum.reduces_row else 0
    return ceil(elements / lanes) * einsum.cycles_per_point + tree


def layout_steps(work: RowWork, layout: Layout, spec: SpatialArray) -> Steps:
    """Group after group; what all rows share comes with the first."""
    groups, last_rows = divmod(work.rows, layout.group)
    width_bytes, nothing = work.width * spec.word_bytes, (0,) * len(work.einsums)
    shared = Step(work.shared_inputs * width_bytes, nothing, work.shared_outputs * width_bytes, 0, arrives=True)
    sizes = [layout.group] * min(1, groups) + ([last_rows] if last_rows else [])
    first, others = _group_steps(work, layout, sizes[0], spec)
    steps: Steps = (first.plus(shared), *others)
    if groups > 1:
        steps += _repeated(*_group_steps(work, layout, layout.group, spec), groups - 1, spec)
    if last_rows and groups:
        first, others = _group_steps(work, layout, last_rows, spec)
        steps += (first, *others)
    return steps


def _repeated(first: Step, others: Steps, times: int, spec: SpatialArray) -> Steps:
    if others:
        return (Rounds((first, *others), times),)
    fitting = spec.buffer_words * spec.word_bytes // PIECES // max(1, first.load_bytes + first.store_bytes)
    return grouped(first, times, steps_per_group(first, spec, max(1, fitting)))


def _group_steps(work: RowWork, layout: Layout, rows: int, spec: SpatialArray) -> tuple[Step, Steps]:
    """The chunks of a group of rows: the first one, and the others."""
    whole, last = divmod(work.width, layout.chunk)
    chunk = _chunk_step(work, layout, rows, layout.chunk, False, spec)
    between: Steps = (Rounds((chunk,), whole - 1),) if whole > 1 else ()
    closing: Steps = (_chunk_step(work, layout, rows, last, False, spec),) if last else ()
    return _chunk_step(work, layout, rows, layout.chunk, True, spec), (*between, *closing)


def _chunk_step(work: RowWork, layout: Layout, rows: int, elements: int, first: bool, spec: SpatialArray) -> Step:
    word, row_bytes = spec.word_bytes, spec.global_buffer.row_bytes
    loaded = layout.reads * rows * (work.row_inputs * elements + work.scalar_inputs * first)
    stored = rows * (work.row_outputs * elements + work.scalar_outputs * first)
    moved = sum(einsum.row_operands * rows * elements for einsum in work.einsums) + loaded + stored
    cycles = _chunk_cycles(work, layout, elements, spec)
    arrives = work.passes == 1  # element by element; otherwise a row must be there whole
    return Step(loaded * word, cycles, stored * word, ceil(moved * word / row_bytes), arrives)
