"""Inside the 2D array, cycle by cycle: which PE computes which point, and when a column sum leaves.

Operands are latched at the inputs of a PE and move one PE to the right (BK, BV) or down (Q, partial sums) per cycle,
so PE (m0, p0) does what the top-left PE did m0 + p0 cycles ago. Knows one tile; the tile-level programs use only
what follows from it, `column_delay_cycles`. FuseMax (MICRO'24), figure 5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
FIGURE_5_ROWS, FIGURE_5_COLUMNS, FIGURE_5_CYCLES = 2, 2, 5  # FuseMax, figure 5: t = 0..4


@dataclass(frozen=True, slots=True)
class Slot:
    """What enters the top-left PE in one cycle: element `element` (of e for BQK, of f for SLNV) of an Einsum."""

    einsum: str
    element: int


@dataclass(frozen=True, slots=True)
class Point:
    """What one PE computes in one cycle."""

    cycle: int
    row: int  # m0
    column: int  # p0
    slot: Slot


def interleave(elements: Mapping[str, int]) -> tuple[Slot, ...]:
    """Einsums take turns, cycle by cycle, until each has had all of its elements: `SLNV | BQK`."""
    rounds = range(max(elements.values(), default=0))
    return tuple(Slot(name, turn) for turn in rounds for name, count in elements.items() if turn < count)


def points(slots: Sequence[Slot], rows: int, columns: int) -> Iterator[Point]:
    """Every point of the tile, in order of time."""
    for cycle in range(len(slots) + fill_cycles(rows, columns)):
        for row in range(rows):
            for column in range(columns):
                if 0 <= cycle - row - column < len(slots):
                    yield Point(cycle, row, column, slots[cycle - row - column])


def fill_cycles(rows: int, columns: int) -> int:
    """Cycles before the last PE has something to do: from then on all of them work."""
    return rows - 1 + columns - 1


def column_delay_cycles(rows: int) -> int:
    """From the cycle in which a column's top PE takes a point until its sum over m0 can be used below the array.

    The 1D PE of a column lags by as much as the column itself (one cycle per column), so seen from there all columns
    are alike: this is the lag of every 1D task behind the 2D array. Exact where elements stream; a task that waits
    for the finish of another (LM before RM) counts from the end of its cycle, so it waits one cycle more than it must.
    """
    return rows


@dataclass(frozen=True)
class TileResult:
    """What the latches held: `scores` stay in the PEs; row f of `sums` leaves column p0 in cycle `leaves`[f, p0]."""

    scores: Matrix  # [m0, p0]: BQK, summed over e
    sums: Matrix  # [f, p0]: SLNV, summed over m0
    leaves: NDArray[np.int64]


def run_tile(keys: Matrix, queries: Matrix, numerators: Matrix, values: Matrix) -> TileResult:
    """Step every latch of the array: BQK of one tile beside SLNV of another.

    `keys` [e, m0] and `values` [f, m0] enter at the left, `queries` [e, p0] at the top; `numerators` [m0, p0] (SLN)
    lie in the PEs.
    """
    rows, columns = numerators.shape
    slots = interleave({"SLNV": len(values), "BQK": len(keys)})
    right = np.zeros((rows, columns + 1))  # [., p0]: the latch at the left of column p0; the last falls off
    down = np.zeros((rows + 1, columns))  # the last is below the array
    scores, sums = np.zeros((rows, columns)), np.zeros((len(values), columns))
    leaves = np.zeros(sums.shape, dtype=np.int64)
    for cycle in range(len(slots) + fill_cycles(rows, columns)):
        now = _slots_now(slots, cycle, rows, columns)
        next_right, next_down = np.zeros_like(right), np.zeros_like(down)
        for (row, column), slot in now.items():
            first_column, first_row = column == 0, row == 0
            if slot.einsum == "BQK":
                key = keys[slot.element, row] if first_column else right[row, column]
                query = queries[slot.element, column] if first_row else down[row, column]
                scores[row, column] += key * query
                next_right[row, column + 1], next_down[row + 1, column] = key, query
            else:
                value = values[slot.element, row] if first_column else right[row, column]
                partial = 0.0 if first_row else down[row, column]
                next_right[row, column + 1] = value
                next_down[row + 1, column] = partial + numerators[row, column] * value
                if row == rows - 1:
                    sums[slot.element, column] = next_down[rows, column]
                    leaves[slot.element, column] = cycle + 1
        right, down = next_right, next_down
    return TileResult(scores, sums, leaves)


def _slots_now(slots: Sequence[Slot], cycle: int, rows: int, columns: int) -> dict[tuple[int, int], Slot]:
    return {
        (row, column): slots[cycle - row - column]
        for row in range(rows)
        for column in range(columns)
        if 0 <= cycle - row - column < len(slots)
    }


def figure_5_trace() -> str:
    """The 2 x 2 toy as a Chrome trace (ui.perfetto.dev): a track per PE and per 1D PE, one microsecond a cycle."""
    rows, columns = FIGURE_5_ROWS, FIGURE_5_COLUMNS
    slots = interleave({"SLNV": 3, "BQK": 3})
    places = [f"PE m0={row} p0={column}" for row in range(rows) for column in range(columns)]
    events = [_track(number, place) for number, place in enumerate(places)]
    events += [_track(rows * columns + column, f"1D PE p0={column}") for column in range(columns)]
    for point in points(slots, rows, columns):
        letter = "f" if point.slot.einsum == "SLNV" else "e"
        name = f"{point.slot.einsum} {letter}={point.slot.element}"
        events.append(_piece(point.row * columns + point.column, name, point.cycle))
        if point.slot.einsum == "SLNV" and point.row == rows - 1:
            events.append(_piece(rows * columns + point.column, f"RNV f={point.slot.element}", point.cycle + 1))
    return json.dumps({"displayTimeUnit": "ms", "traceEvents": events}, indent=1) + "\n"


def _track(number: int, name: str) -> dict[str, object]:
    return {"ph": "M", "name": "thread_name", "pid": 0, "tid": number, "args": {"name": name}}


def _piece(track: int, name: str, cycle: int) -> dict[str, object]:
    return {"ph": "X", "name": name, "pid": 0, "tid": track, "ts": cycle, "dur": 1}
