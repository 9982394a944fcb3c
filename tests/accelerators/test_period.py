"""How far apart equal rows of tiles follow each other: circuits counted by hand, then the engine's own pace."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.period import Rows, Tile
from cascadesim.accelerators.program import After, Program, Queue, Repeat, Task, TileRun
from cascadesim.simulator.engine import run

LOAD_AND_WORK = (Task("load", "dram", takes=("slots",)), Task("work", "array", (After("load"),), gives_back=("slots",)))


def period(tasks: tuple[Task, ...], *tiles: dict[str, int] | None, columns: int | None = None, **slots: int) -> int:
    return Rows(tasks, tuple(tile and Tile(tile, columns) for tile in tiles), slots).period_cycles


def test_with_room_enough_the_busiest_unit_sets_the_pace() -> None:
    assert period(LOAD_AND_WORK, {"load": 3, "work": 5}) == 5
    assert period(LOAD_AND_WORK, {"load": 3, "work": 5}, {"load": 9, "work": 1}) == 12  # a row of two: loads of 3 and 9


def test_a_slot_is_free_again_after_load_and_work() -> None:
    """8 cycles from its load to the end of its work, once for each slot."""
    tile = {"load": 3, "work": 5}
    assert [period(LOAD_AND_WORK, tile, slots=slots) for slots in (1, 2)] == [8, 5]


def test_two_tasks_of_one_unit_and_one_between_them_go_round() -> None:
    """In one epoch: first, lag, between, last, and the next first. With `last` an epoch later, in two epochs."""
    cycles = {"first": 2, "between": 3, "last": 4}

    def tasks(stage: int) -> tuple[Task, ...]:
        return (Task("first", "array"), Task("between", "vector", (After("first", 10),), stage),
                Task("last", "array", (After("between"),), stage))  # fmt: skip

    assert period(tasks(0), cycles) == 2 + 10 + 3 + 4
    assert period(tasks(1), cycles) == ceil((2 + 10 + 3 + 4) / 2)


def test_a_running_value_comes_back_once_in_a_row() -> None:
    """5 cycles and a lag of 20, in rows of four tiles: 25 for four; in longer rows, 5 for each."""
    tasks = (Task("sum", "array", (After("sum", 20, same_column=True),)),)
    assert period(tasks, {"sum": 5}) == 5
    assert [period(tasks, {"sum": 5}, columns=columns) for columns in (4, 5, 6)] == [7, 5, 5]
    assert period(tasks, *[{"sum": 5}] * 4, columns=4) == 25  # not 4 x 7: times are whole cycles once in a row
    assert period(tasks, *[{"sum": 5}] * 3, None, None, columns=5) == 25


def test_tasks_that_take_turns_share_their_unit_and_overlap_what_streams() -> None:
    """Turns of 4 and 2: A ends after 6, B after 4. Element by element, `after` may end 3 cycles after A."""
    tasks = (Task("A", "array", group="stream"), Task("B", "array", group="stream"),
             Task("after", "vector", (After("A", 3, streaming=True),)),
             Task("back", "array", (After("after"),)))  # fmt: skip
    assert period(tasks, {"A": 4, "B": 2, "after": 1, "back": 1}) == 6 + 3 + 1


def test_what_streams_may_start_one_turn_after_its_source() -> None:
    """B has the second turn: `after` starts 1 + 3 cycles after the item, works 10, and `back` 1."""
    tasks = (Task("A", "array", group="stream"), Task("B", "array", group="stream"),
             Task("after", "vector", (After("B", 3, streaming=True),)),
             Task("back", "array", (After("after"),)))  # fmt: skip
    assert period(tasks, {"A": 1, "B": 4, "after": 10, "back": 1}) == 1 + 3 + 10 + 1


def test_an_epoch_with_something_occasional_lasts_longer() -> None:
    """3 beside 5 cycles: no longer than 5 where the epoch itself may last 3 longer. What comes in between counts."""
    tasks = (Task("always", "array"), Task("sometimes", "array"))
    tile, sometimes = {"always": 5, "sometimes": 3}, frozenset({"sometimes"})
    assert Rows(tasks, (Tile(tile),), {}, occasional=sometimes).period_cycles == 8
    assert Rows(tasks, (Tile(tile),), {}, occasional=sometimes, longer=3).period_cycles == 5
    between = (Task("always", "array"), Task("between", "vector", (After("always", 20),)),
               Task("sometimes", "array", (After("between"),)))  # fmt: skip
    tile = {**tile, "between": 1}
    assert Rows(between, (Tile(tile),), {}, occasional=sometimes, longer=3).period_cycles == 5 + 20 + 1 + 3 - 3


def test_what_is_rare_waits_its_turn_but_keeps_nothing_from_its_unit() -> None:
    """A store of 2, two epochs late, and a load of 7 share the channel: 9. Rare, the load still waits for the store."""
    tasks = (Task("store", "dram", (After("work"),), stage=2), *LOAD_AND_WORK)
    tile, rare = {"store": 2, "load": 7, "work": 5}, frozenset({"load"})
    assert Rows(tasks, (Tile(tile),), {}).period_cycles == 9
    assert Rows(tasks, (Tile(tile),), {}, rare).period_cycles == (7 + 5 + 2) / 2
    assert Rows(tasks, (Tile(tile),), {"slots": 1}, rare).period_cycles == 7 + 5
    first = (*LOAD_AND_WORK, Task("store", "dram", (After("work"),), stage=1))  # the next load follows the store
    assert Rows(first, (Tile(tile),), {}, rare).period_cycles == (7 + 5 + 2) / 2


def test_a_task_that_waits_for_a_later_one_never_repeats() -> None:
    tasks = (Task("A", "array", (After("B"),)), Task("B", "array"))
    with pytest.raises(ValueError, match="waits for one that comes later"):
        period(tasks, {"A": 1, "B": 1})


@settings(max_examples=150, deadline=None)
@given(
    cycles=st.lists(st.integers(0, 12), min_size=5, max_size=5),
    lags=st.lists(st.integers(0, 30), min_size=4, max_size=4),
    stages=st.tuples(st.integers(0, 2), st.integers(0, 2)), row=st.tuples(st.integers(1, 5), st.integers(0, 3)),
    slots=st.integers(1, 4), streaming=st.booleans(),
)  # fmt: skip
def test_the_engine_keeps_this_pace(
    cycles: list[int], lags: list[int], stages: tuple[int, int], row: tuple[int, int], slots: int, streaming: bool
) -> None:
    """A thousand rows more take a thousand periods more, to the cycle that a whole period rounds up."""
    early, late = stages[0], sum(stages)
    tasks = (
        Task("load", "dram", takes=("slots",)),
        Task("scores", "array", (After("load", lags[0]),), early, "stream"),
        Task("maximum", "vector", (After("scores", lags[1], streaming=streaming),
                                   After("maximum", lags[2], same_column=True)), early),
        Task("values", "array", (After("maximum", lags[3]),), late, gives_back=("slots",)),
        Task("sums", "array", (), late, "stream"),
    )  # fmt: skip
    tile = {task.name: max(own, int(task.name in ("load", "values"))) for task, own in zip(tasks, cycles, strict=True)}
    tiles, empty = row[0], late + 1 + row[1]
    table = ((0,) * len(tasks), tuple(tile.values()))
    body = (TileRun(1, tiles), TileRun(0, empty))
    pace = Rows(tasks, (*[Tile(tile, tiles + empty)] * tiles, *[None] * empty), {"slots": slots * tiles})

    def engine(times: int) -> int:
        return run(Program(tasks, table, (Repeat(times, body),), (Queue("slots", slots * tiles),))).cycles

    exact = (engine(1500) - engine(500)) / 1000
    assert exact <= pace.period_cycles < exact + 1
    assert engine(3) <= pace.most_cycles(3)
