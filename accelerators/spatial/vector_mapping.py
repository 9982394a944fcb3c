"""Rows on the lanes of the 1D array: one row per lane, or one row over all lanes; what fits the buffer meanwhile.

Knows sizes and cycles per point; knows no cascade.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log2

from cascadesim.accelerators.spatial.blocking import tile_sizes
from cascadesim.accelerators.spatial.double_buffering import Rounds, Step, Steps, grouped, steps_per_group
from cascadesim.accelerators.spatial.row_work import RowEinsum, RowWork
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

PIECES = 3  # in the buffer at once: one arrives, one is worked on, one leaves
STEPS_AT_ONCE = 2  # of them, those that are not yet done


@dataclass(frozen=True, slots=True)
class Layout:
    """A row on each of `lanes` lanes, or one row over all of them, `chunk` elements of each row at a time; the other
    lanes are idle. `reads`: how often inputs pass by DRAM."""

    rows_over_lanes: bool
    lanes: int
    chunk: int
    reads: int

    @property
    def group(self) -> int:
        """Rows at a time."""
        return self.lanes if self.rows_over_lanes else 1


def choose_layout(work: RowWork, spec: SpatialArray) -> Layout:
    """The one that is done first; of equal ones that which reads least, then the one with the most lanes at work.

    Raises CascadeSimError where the buffer does not even hold an element of each tensor.
    """
    ways = [list(_layouts(work, spec, rows_over_lanes)) for rows_over_lanes in (True, False)]
    if not any(ways):
        raise CascadeSimError(
            f"global_buffer.capacity_bytes: {spec.global_buffer.capacity_bytes} bytes hold no element-wise work; "
            f"{work.row_tensors} tensors need {PIECES * work.row_tensors * spec.word_bytes}"
        )
    least_cycles = _moving_cycles(work, 1, spec)
    found = min((way[0] for way in ways if way), key=lambda layout: _bound(work, layout, spec))
    if _bound(work, found, spec)[0] <= least_cycles:
        return found
    return min((layout for way in ways for layout in way), key=lambda layout: _bound(work, layout, spec))


def _layouts(work: RowWork, spec: SpatialArray, rows_over_lanes: bool) -> Iterator[Layout]:
    """Rows walked once may pass in chunks; rows walked again stay whole if `PIECES` groups of them fit.

    Chunks of a row over the lanes fill them all.
    """
    for lanes in tile_sizes(spec.vector_array.lanes, work.rows if rows_over_lanes else work.width):
        fits = spec.buffer_words // (PIECES * (lanes if rows_over_lanes else 1) * max(1, work.row_tensors))
        if fits >= work.width:
            yield Layout(rows_over_lanes, lanes, work.width, 1)
        elif chunk := fits if rows_over_lanes else fits // lanes * lanes:
            yield Layout(rows_over_lanes, lanes, chunk, work.passes)


def _bound(work: RowWork, layout: Layout, spec: SpatialArray) -> tuple[float, int, int]:
    """Cycles of the busiest of lanes, DRAM channel and ports; then what decides between equal ones."""
    cycles = _cycles(work, layout)
    return max(cycles, _moving_cycles(work, layout.reads, spec)), layout.reads, cycles


def _moving_cycles(work: RowWork, reads: int, spec: SpatialArray) -> float:
    shared = work.width * (work.shared_inputs + work.shared_outputs)
    moved = reads * (work.loaded_words - work.width * work.shared_inputs) + work.stored_words
    moved -= work.width * work.shared_outputs
    buffered = moved + sum(einsum.row_operands * work.points(einsum) for einsum in work.einsums)
    return max(
        (moved + shared) * spec.word_bytes / spec.dram_bytes_per_cycle,
        buffered * spec.word_bytes / spec.global_buffer.bytes_per_cycle,
    )


def _cycles(work: RowWork, layout: Layout) -> int:
    """Of the lanes, all rows."""
    chunks, last = divmod(work.width, layout.chunk)
    per_group = chunks * sum(_chunk_cycles(work, layout, layout.chunk))
    per_group += sum(_chunk_cycles(work, layout, last)) if last else 0
    return ceil(work.rows / layout.group) * per_group


def _chunk_cycles(work: RowWork, layout: Layout, elements: int) -> tuple[int, ...]:
    return tuple(_einsum_cycles(einsum, layout, elements) for einsum in work.einsums)


def _einsum_cycles(einsum: RowEinsum, layout: Layout, elements: int) -> int:
    """assumed: across lanes a reduction ends in a tree of log2(lanes) steps; what is once per row takes one lane."""
    if not einsum.spans_row:
        return einsum.cycles_per_point
    if layout.rows_over_lanes:
        return elements * einsum.cycles_per_point
    tree = ceil(log2(min(layout.lanes, elements))) if einsum.reduces_row else 0
    return ceil(elements / layout.lanes) * einsum.cycles_per_point + tree


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
    word = spec.word_bytes
    loaded = layout.reads * rows * (work.row_inputs * elements + work.scalar_inputs * first)
    stored = rows * (work.row_outputs * elements + work.scalar_outputs * first)
    moved = sum(einsum.row_operands * rows * elements for einsum in work.einsums) + loaded + stored
    cycles = _chunk_cycles(work, layout, elements)
    arrives = work.passes == 1  # element by element; otherwise a row must be there whole
    return Step(loaded * word, cycles, stored * word, moved * word, arrives)
