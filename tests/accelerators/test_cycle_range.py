"""Where the cycle level of a program lies: by hand, then against the engine for whole models."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.cycle_range import CycleRange, in_turn, passage_cycles, queueing, streaming
from cascadesim.accelerators.program import After, Program, Repeat, Task, TileRun
from cascadesim.einsum_cascades.projections import Phase
from cascadesim.einsum_cascades.zoo import load_workload
from cascadesim.simulator.engine import run
from cascadesim.simulator.simulate import Request, parts

LOAD_AND_WORK = (Task("load", "dram"), Task("work", "array", (After("load"),)))


def test_a_stream_takes_the_pace_of_its_busiest_unit_and_one_passage() -> None:
    """Loads of 3 and work of 5, four tiles: work ends at 3 + 4 x 5; stated are 20 and 8 more."""
    program = Program(LOAD_AND_WORK, ((3, 5),), (TileRun(0, 4),), in_flight=2)
    assert passage_cycles(program) == 8
    assert streaming(program, 20) == CycleRange(20, 28)
    assert run(program).cycles == 23


def test_a_stream_from_task_to_task_ends_with_the_longer_one() -> None:
    """Work of 5 follows loads of 20, element by element, 3 later: it ends at 23; a drain of 4 comes after."""
    tasks = (Task("load", "dram"), Task("work", "array", (After("load", 3, streaming=True),)))
    program = Program(tasks, ((20, 5),), (TileRun(0, 1),), in_flight=2, drain_cycles=4)
    assert passage_cycles(program) == 27 == run(program).cycles


def test_stretches_of_different_tiles_have_paces_of_their_own() -> None:
    """Three times three tiles bound by loads of 9 and two by work of 7: 3 x (27 + 14), and 9 + 7 on the way."""
    program = Program(LOAD_AND_WORK, ((9, 1), (2, 7)), (Repeat(3, (TileRun(0, 3), TileRun(1, 2))),), in_flight=2)
    assert streaming(program, 93) == CycleRange(93, 123 + 16)
    assert 93 <= run(program).cycles <= 139


def test_no_range_is_wider_than_all_units_in_turn() -> None:
    program = Program(LOAD_AND_WORK, ((9, 1),), (TileRun(0, 1),), in_flight=2)
    assert streaming(program, 9) == CycleRange(9, 10)


@pytest.mark.parametrize("tiles", [1, 7, 128])
def test_a_short_program_in_static_order_is_followed_tile_by_tile(tiles: int) -> None:
    """Loads of 3 and work of 5: the last work ends 3 after all work."""
    program = Program(LOAD_AND_WORK, ((3, 5),), (TileRun(0, tiles),), drain_cycles=2)
    assert streaming(program, 5 * tiles).most_cycles == 3 + 5 * tiles + 2 == run(program).cycles


def test_what_leaves_late_in_a_short_program_is_behind_its_last_tile() -> None:
    """Three tiles: loads of 3, work of 5; stores of 2 an epoch later, after the load of the next tile.

    The third load follows the first store, which ends at 3 + 5 + 2; its work and its store end at 10 + 3 + 5 + 2.
    """
    tasks = (*LOAD_AND_WORK, Task("store", "dram", (After("work"),), stage=1))
    program = Program(tasks, ((3, 5, 2),), (TileRun(0, 3),))
    assert streaming(program, 15).most_cycles == run(program).cycles == 20


def test_a_stretch_shares_what_its_first_tile_loads() -> None:
    """Two stretches of a load of 9 and, in tiles of their own, three works of 2 after it."""
    tasks = (Task("load", "dram"), Task("work", "array", (After("load", latest=True),)))
    program = Program(tasks, ((9, 0), (0, 2)), (Repeat(2, (TileRun(0, 1), TileRun(1, 3))),))
    assert streaming(program, 18).most_cycles == run(program).cycles == 9 + 9 + 6


def test_a_long_program_that_repeats_a_short_stretch_takes_its_period() -> None:
    """Loads of 9 and 2 for work of 1 and 7: 11 for each pair, and the work of the last tile."""
    program = Program(LOAD_AND_WORK, ((9, 1), (2, 7)), (Repeat(500, (TileRun(0, 1), TileRun(1, 1))),))
    assert streaming(program, 5500) == CycleRange(5500, 5507)
    assert run(program).cycles == 5507


def test_a_long_program_that_repeats_nothing_short_fills_once_and_drains_once() -> None:
    program = Program(LOAD_AND_WORK, ((9, 1), (2, 7)), (TileRun(0, 100), TileRun(1, 100)))
    assert streaming(program, 1100).most_cycles == 900 + 700 + 2 * 16


def test_units_in_turn_wait_for_lags_too() -> None:
    """Four tiles of 3 and 5 cycles, each with a lag of 10 between."""
    tasks = (Task("load", "dram"), Task("work", "array", (After("load", 10),)))
    program = Program(tasks, ((3, 5),), (TileRun(0, 4),), in_flight=1)
    assert in_turn(program) == CycleRange(20, 4 * (3 + 10 + 5))
    assert run(program).cycles == 4 * (3 + 10 + 5)


def greedy(tasks: tuple[Task, ...], cycles: tuple[int, ...], in_flight: int, columns: int = 100) -> Program:
    """A hundred tiles in rows of so many columns."""
    return Program(tasks, (cycles,), (Repeat(100 // columns, (TileRun(0, columns),)),), in_flight=in_flight)


@pytest.mark.parametrize(("in_flight", "a_tile"), [(1, 8.0), (2, 6.5), (4, 5.75)])
def test_tiles_under_way_at_once_queue_behind_each_other(in_flight: int, a_tile: float) -> None:
    """Loads of 3 and work of 5: k tiles take a passage of 8 and k - 1 times 5 at worst; no more than one by one."""
    program = greedy(LOAD_AND_WORK, (3, 5), in_flight)
    assert queueing(program) == CycleRange(500, min(800, 100 * a_tile + 8))
    assert run(program).cycles <= queueing(program).most_cycles


def test_tiles_that_a_running_value_ties_are_under_way_one_a_column() -> None:
    tasks = (Task("load", "dram"), Task("work", "array", (After("load"), After("work", same_column=True))))
    assert queueing(greedy(tasks, (3, 5), 4, columns=2)) == CycleRange(500, 100 * 6.5 + 8)


def test_what_waits_for_another_unit_in_the_tile_before_does_so_alone() -> None:
    """Work of 5 waits for the store of 1 of the tile before: 100 more."""
    tasks = (*LOAD_AND_WORK[:1], Task("work", "array", (After("load"), After("store", tiles_back=1))),
             Task("store", "issue", (After("work"),)))  # fmt: skip
    assert queueing(greedy(tasks, (3, 5, 1), 4)) == CycleRange(500, 100 * (9 + 3 * 5) / 4 + 100 + 9)


def test_a_range_never_ends_before_it_begins() -> None:
    program = Program(LOAD_AND_WORK, ((3, 5),), (TileRun(0, 1),))
    assert streaming(program, 100) == CycleRange(100, 100)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["fusemax", "fusemax-architecture", "fusemax-cascade", "flat", "unfused", "h100-sxm",
                                    "a100-sxm", "spatten"])  # fmt: skip
@given(length=st.integers(1, 3000), batch=st.integers(1, 3), phase=st.sampled_from(["prefill", "decode"]))
@settings(max_examples=10, deadline=None)
def test_every_operation_of_a_model_lies_where_it_says(preset: str, length: int, batch: int, phase: Phase) -> None:
    request = Request(load_workload("llama-3.2-1b"), catalogue.load(preset), length, batch, phase, "model")
    for part in parts(request):
        for work in part:
            stated = work.execution.stated_cycles
            assert stated is not None
            assert stated.least_cycles <= work.execution.cycles <= stated.most_cycles + 1, work.operation.name
