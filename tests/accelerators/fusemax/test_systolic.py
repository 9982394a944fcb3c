"""Figure 5 of FuseMax, cycle by cycle, and what the tile-level programs take from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.accelerators.fusemax.systolic import (
    FIGURE_5_CYCLES,
    Slot,
    column_delay_cycles,
    figure_5_trace,
    fill_cycles,
    interleave,
    points,
    run_tile,
)
from cascadesim.accelerators.program import After, Program, Task, TileRun
from cascadesim.simulator.engine import record

EXAMPLE = Path(__file__).parents[3] / "examples" / "figure-5-toy.trace.json"


def at(cycle: int) -> dict[tuple[int, int], str]:
    """(m0, p0) -> what that PE of the 2 x 2 toy computes: V of SLNV with its f, Q of BQK with its e."""
    letter = {"SLNV": "V", "BQK": "Q"}
    found = points(interleave({"SLNV": 3, "BQK": 3}), 2, 2)
    return {(p.row, p.column): f"{letter[p.slot.einsum]}{p.slot.element}" for p in found if p.cycle == cycle}


def test_the_toy_of_figure_5_cycle_by_cycle() -> None:
    """Operands reach the right and the lower neighbour one cycle later, the opposite corner two cycles later."""
    assert [at(cycle) for cycle in range(FIGURE_5_CYCLES)] == [
        {(0, 0): "V0"},
        {(0, 0): "Q0", (0, 1): "V0", (1, 0): "V0"},
        {(0, 0): "V1", (0, 1): "Q0", (1, 0): "Q0", (1, 1): "V0"},
        {(0, 0): "Q1", (0, 1): "V1", (1, 0): "V1", (1, 1): "Q0"},
        {(0, 0): "V2", (0, 1): "Q1", (1, 0): "Q1", (1, 1): "V1"},
    ]


def test_the_toy_is_in_steady_state_after_three_cycles() -> None:
    """Cycles 0, 1, 2: in the third all four PEs work, and they go on until the top-left one runs dry."""
    assert [len(at(cycle)) for cycle in range(8)] == [1, 3, 4, 4, 4, 4, 3, 1]
    assert fill_cycles(2, 2) == 2


def test_einsums_take_turns_until_the_longer_one_is_alone() -> None:
    names = [f"{slot.einsum} {slot.element}" for slot in interleave({"SLNV": 1, "BQK": 3})]
    assert names == ["SLNV 0", "BQK 0", "BQK 1", "BQK 2"]


sizes = st.integers(1, 5)


@given(sizes, sizes, sizes, sizes, st.integers(0, 2**32 - 1))
def test_the_latches_compute_the_products(rows: int, columns: int, e: int, f: int, seed: int) -> None:
    """BQK = sum over e of K Q, SLNV = sum over m0 of SLN V, whatever the size of the array."""
    random = np.random.default_rng(seed)
    shapes = [(e, rows), (e, columns), (rows, columns), (f, rows)]
    keys, queries, numerators, values = (random.integers(-8, 8, shape).astype(float) for shape in shapes)
    result = run_tile(keys, queries, numerators, values)
    np.testing.assert_array_equal(result.scores, keys.T @ queries)
    np.testing.assert_array_equal(result.sums, values @ numerators)


@given(sizes, sizes, sizes, sizes)
def test_sums_leave_the_bottom_one_column_later_per_column(rows: int, columns: int, e: int, f: int) -> None:
    """Element f enters in slot s; column p0 starts it in cycle s + p0 and lets it go `rows` cycles later."""
    result = run_tile(np.ones((e, rows)), np.ones((e, columns)), np.ones((rows, columns)), np.ones((f, rows)))
    slots = interleave({"SLNV": f, "BQK": e})
    for element in range(f):
        entered = slots.index(Slot("SLNV", element))
        expected = [entered + column + column_delay_cycles(rows) for column in range(columns)]
        assert result.leaves[element].tolist() == expected


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (4, 3), (7, 9)])
def test_the_lag_of_the_tile_level_is_the_delay_of_a_column(rows: int, columns: int) -> None:
    """A streamed lag of `rows` in the engine gives each 1D PE its sums when they leave, in the time of its column.

    The engine's clock of the 1D array is that of its first PE; PE p0 does the same p0 cycles later.
    """
    f = 6
    result = run_tile(np.ones((f, rows)), np.ones((f, columns)), np.ones((rows, columns)), np.ones((f, rows)))
    tasks = (
        Task("SLNV", "array_2d", group="stream"),
        Task("BQK", "array_2d", group="stream"),
        Task("RNV", "array_1d", (After("SLNV", rows, streaming=True),)),
    )
    slices = {piece.task: piece for piece in record(Program(tasks, ((f, f, f),), (TileRun(0, 1),)), 1)}
    assert slices["RNV"].start == result.leaves[0, 0]
    last_use = slices["RNV"].finish - 1  # the cycle in which the last element is used
    assert [last_use + column for column in range(columns)] == result.leaves[-1].tolist()


def test_the_example_trace_is_what_the_code_generates() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert text == figure_5_trace()
    pieces = [event for event in json.loads(text)["traceEvents"] if event["ph"] == "X"]
    assert len(pieces) == 4 * 6 + 2 * 3  # four PEs do six slots each, two 1D PEs take three sums each
