"""Rows on lanes: which way round is shorter, what fits, and steps that add up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.accelerators.program import BufferedStep, merged
from cascadesim.accelerators.spatial.elementwise import (
    RowWork,
    VectorLayout,
    choose_layout,
    layout_steps,
    layout_total,
    row_work,
)
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.models.lowering import elementwise
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.texts import transformer


def work_of(text: Cascade, rows: int, width: int, spec: SpatialArray) -> RowWork:
    return row_work(elementwise("work", text, rows, width), spec)


def test_as_many_rows_as_lanes_take_one_lane_each(fusemax: SpatialArray) -> None:
    work = work_of(transformer.RESIDUAL_ADD, 512, 40, fusemax)
    assert choose_layout(work, fusemax) == VectorLayout(rows_over_lanes=True, lanes=256, chunk=40, reads=1)


def test_work_knows_its_tensors_by_their_ranks(fusemax: SpatialArray) -> None:
    """A layer norm: X in, Y out, C and N between; G and B are the same for all rows; it walks a row three times."""
    work = work_of(transformer.LAYER_NORM, 10, 20, fusemax)
    assert (work.row_inputs, work.row_outputs, work.shared_inputs, work.scalar_inputs) == (1, 1, 2, 0)
    assert work.row_tensors == 4
    assert work.passes == 3
    total = layout_total(work, VectorLayout(True, 10, 20, 1), fusemax)
    assert (total.load_bytes, total.store_bytes) == (2 * (10 * 20 + 2 * 20), 2 * 10 * 20)


def test_a_weight_per_row_is_one_word_of_it(fusemax: SpatialArray) -> None:
    """ACC and X whole, W[r] once per row."""
    work = work_of(transformer.SCALED_ADD, 10, 20, fusemax)
    assert layout_total(work, VectorLayout(True, 10, 20, 1), fusemax).load_bytes == 2 * (2 * 10 * 20 + 10)


def test_rows_over_lanes_by_hand(array: Callable[..., SpatialArray]) -> None:
    """Y = X + A, 4 lanes, 6 rows of 3: a group of 4 rows, a group of 2, each 3 cycles."""
    spec = array(4)
    work = work_of(transformer.RESIDUAL_ADD, 6, 3, spec)
    words = {4: 3 * 4 * 3 + 2 * 12 + 12, 2: 3 * 2 * 3 + 2 * 6 + 6}  # operands, loaded and stored words
    assert layout_steps(work, VectorLayout(True, 4, 3, 1), spec) == (
        BufferedStep(2 * 2 * 12, (3,), 2 * 12, words[4] * 2, arrives=True),
        BufferedStep(2 * 2 * 6, (3,), 2 * 6, words[2] * 2, arrives=True),
    )


def test_a_buffer_that_holds_nothing_is_refused(array: Callable[..., SpatialArray]) -> None:
    spec = array(2, capacity_bytes=8)
    with pytest.raises(CascadeSimError, match=r"8 bytes hold no element-wise work; 4 tensors need 24"):
        choose_layout(work_of(transformer.LAYER_NORM, 10, 20, spec), spec)


@given(
    st.sampled_from((transformer.LAYER_NORM, transformer.SCALED_ADD, transformer.GATED_RESIDUAL)),
    st.integers(1, 100),
    st.integers(1, 100),
    st.booleans(),
    st.integers(1, 100),
    st.integers(1, 3),
)
def test_steps_move_what_the_work_asks_for(
    array: Callable[..., SpatialArray],
    text: Cascade,
    rows: int,
    width: int,
    rows_over_lanes: bool,
    chunk: int,
    reads: int,
) -> None:
    spec = array(16)
    work = work_of(text, rows, width, spec)
    layout = VectorLayout(rows_over_lanes, min(16, rows if rows_over_lanes else width), min(chunk, width), reads)
    total = merged(layout_steps(work, layout, spec))
    loaded = rows * (work.row_inputs * width + work.scalar_inputs)
    assert total.load_bytes == 2 * (reads * loaded + work.shared_inputs * width)
    assert total.store_bytes == 2 * (rows * (work.row_outputs * width + work.scalar_outputs))
    assert work.shared_outputs == 0
    assert replace(layout_total(work, layout, spec), arrives=total.arrives) == total


def test_lanes_stay_idle_where_rows_then_stay_in_the_buffer(array: Callable[..., SpatialArray]) -> None:
    """5 rows of 3, walked three times, 128 words: 3 groups of 3 rows of 4 tensors have 108, groups of 4 have 144."""
    spec = array(4, capacity_bytes=256, bandwidth_bytes_per_s=1e13)
    layout = choose_layout(work_of(transformer.LAYER_NORM, 5, 3, spec), spec)
    assert layout == VectorLayout(rows_over_lanes=True, lanes=3, chunk=3, reads=1)
