"""Longest walks through dependences of a few tasks, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cascadesim.accelerators.fusemax.walks import Graph, Place, walks
from cascadesim.accelerators.program import After, Task

A, B = Task("A", "x"), Task("B", "y", (After("A", lag_cycles=2),))
CYCLES = {"A": 3, "B": 5}


def graph(*tasks: Task, counted: dict[str, int] | None = None, **capacities: int) -> Graph:
    return Graph(tasks, CYCLES, capacities, counted or {}, ("A",), dict.fromkeys(capacities, 0))


def lengths(made: Graph, tiles: int, to: int, most: tuple[int, ...] = (0,), **place: bool) -> list[object]:
    """From A of the first tile to A of a later one; every tile is of one column."""
    found, _ = walks(made, [Place(0, **place) for _ in range(tiles)], [("A", 0)], most)
    result: list[object] = found["A", to][0].tolist()
    return result


def test_a_unit_does_one_task_after_another() -> None:
    """Nothing else ties the tiles together: two A of 3 cycles lie before the third."""
    assert lengths(graph(A, B), 3, to=2) == [6]


def test_the_end_is_behind_the_last_unit() -> None:
    """A of 3, a lag of 2, and B of both tiles."""
    _, end = walks(graph(A, B), [Place(0), Place(0)], [("A", 0)], (0,))
    assert end.tolist() == [[3 + 2 + 5 + 5]]


def test_a_running_value_closes_a_circuit() -> None:
    """A waits for B of the tile before in its column: 3 and 2 and 5 for each tile; not where the column is fresh."""
    again = replace(A, after=(After("B", same_column=True),))
    assert lengths(graph(again, B), 3, to=2) == [2 * (3 + 2 + 5)]
    assert lengths(graph(again, B), 3, to=2, fresh=True) == [6]


def test_empty_epochs_take_no_time_and_stages_are_epochs_later() -> None:
    """B of a tile comes after A of the next one on the same unit: 3, 3, then 5; an empty epoch changes nothing."""
    late = Task("B", "x", (After("A"),), stage=1)
    for epochs in ([Place(0), Place(1), Place(2)], [Place(0), None, Place(1), None, Place(2)]):
        found, _ = walks(graph(late, A), epochs, [("A", 0)], (0,))
        assert found["A", len(epochs) - 1].tolist() == [[3 + 5 + 3 + 5]]


def test_a_single_slot_makes_loads_part_of_the_circuit() -> None:
    """The next load waits until B gives the slot back: one load and 10 cycles; without a load only A."""
    load = Task("load", "z", takes=("slots",))
    after_load, gives = replace(A, after=(After("load"),)), replace(B, gives_back=("slots",))
    one = graph(load, after_load, gives, counted={"load": 0}, slots=1)
    assert lengths(one, 2, to=1, most=(2,)) == [3, 3 + 2 + 5, -np.inf]
    two = replace(one, capacities={"slots": 2})
    assert lengths(two, 3, to=2, most=(2,)) == [6, 10, -np.inf]


def test_members_of_a_group_start_together() -> None:
    """B waits for A and takes turns with C: C starts no sooner than B may, after 3 + 2; all of both takes 6 more."""
    shared = (replace(B, group="turns"), Task("C", "y", group="turns"))
    made = replace(graph(A, *shared), cycles={**CYCLES, "C": 1}, entrances=("A", "C"))
    found, end = walks(made, [Place(0)], [("A", 0)], (0,))
    assert found["C", 0].tolist() == [[5]]
    assert end.tolist() == [[3 + 2 + 5 + 1]]


def test_a_task_that_waits_for_a_later_one_is_refused() -> None:
    with pytest.raises(ValueError, match="comes later"):
        walks(graph(replace(A, after=(After("B"),)), B), [Place(0)], [("A", 0)], (0,))
