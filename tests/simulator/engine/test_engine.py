"""The engine: hand-derived schedules, then equality with the plain interpreter of the same rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from cascadesim.accelerators.program import After, Program, Queue, Repeat, Task, TileRun
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.engine.engine import Schedule, Slice, record, run


@dataclass(frozen=True)
class Timeline:
    """Start and finish of every task of every tile, to be asserted by name."""

    slices: Mapping[tuple[str, int], Slice]
    schedule: Schedule

    def assert_runs(self, task: str, *, tile: int, at: int, until: int) -> None:
        found = self.slices[task, tile]
        assert (found.start, found.finish) == (at, until)

    def assert_starts(self, task: str, *, tile: int, at: int) -> None:
        assert self.slices[task, tile].start == at

    def assert_absent(self, task: str, *, tile: int) -> None:
        assert (task, tile) not in self.slices


def timeline(program: Program) -> Timeline:
    slices = record(program, program.tiles)
    return Timeline({(piece.task, piece.tile): piece for piece in slices}, run(program))


def program(*tasks: Task, cycles: tuple[int, ...], tiles: int = 1, **rest: object) -> Program:
    """One class of tiles, `tiles` of them in a row."""
    return Program(tasks, (cycles,), (TileRun(0, tiles),), **rest)  # type: ignore[arg-type]


def test_one_task_runs_once() -> None:
    schedule = run(program(Task("QK", "array"), cycles=(64,)))
    assert schedule.cycles == 64
    assert schedule.unit("array").busy_cycles == 64


def test_a_task_starts_a_lag_after_what_it_waits_for() -> None:
    time = timeline(program(Task("LM", "2d"), Task("RM", "1d", (After("LM", 256),)), cycles=(1, 1)))
    time.assert_runs("LM", tile=0, at=0, until=1)
    time.assert_runs("RM", tile=0, at=257, until=258)
    assert time.schedule.unit("1d").idle_cycles == 257
    assert time.schedule.cycles == 258


def test_a_unit_runs_its_tasks_in_the_order_of_the_list() -> None:
    """The second task of tile 0 waits for the other unit, and the first of tile 1 waits behind it."""
    tasks = (Task("a", "u"), Task("slow", "v", (After("a"),)), Task("b", "u", (After("slow"),)))
    time = timeline(program(*tasks, cycles=(1, 10, 1), tiles=2))
    time.assert_starts("b", tile=0, at=11)
    time.assert_starts("a", tile=1, at=12)
    assert time.schedule.unit("u").stalled_cycles == 20  # twice ten cycles between a and b


def test_a_later_stage_lets_tiles_overlap() -> None:
    """As above, but b of a tile runs one epoch later: a of the next tile fills the wait."""
    tasks = (Task("a", "u"), Task("slow", "v", (After("a"),)), Task("b", "u", (After("slow"),), stage=1))
    time = timeline(program(*tasks, cycles=(1, 10, 1), tiles=2))
    time.assert_starts("a", tile=1, at=1)
    time.assert_starts("b", tile=0, at=11)


def test_a_group_shares_the_slots_of_its_unit_cycle_by_cycle() -> None:
    """x y x y y: three of y and two of x; x has its last slot third."""
    tasks = (Task("x", "u", group="g"), Task("y", "u", group="g"))
    time = timeline(program(*tasks, cycles=(2, 3)))
    time.assert_runs("x", tile=0, at=0, until=3)
    time.assert_runs("y", tile=0, at=1, until=5)
    assert time.schedule.unit("u").busy_cycles == 5


def test_a_group_starts_when_every_member_may() -> None:
    tasks = (Task("late", "v"), Task("x", "u", group="g"), Task("y", "u", (After("late"),), group="g"))
    timeline(program(*tasks, cycles=(7, 1, 1))).assert_starts("x", tile=0, at=7)


def test_a_running_value_comes_from_the_same_column() -> None:
    """Two columns, twice: RM of the second visit waits for RD of the first, five cycles long."""
    tasks = (Task("RM", "u", (After("RD", same_column=True),)), Task("RD", "v", (After("RM"),)))
    columns = Repeat(2, (TileRun(0, 2),))
    time = timeline(Program(tasks, ((1, 5),), (columns,)))
    time.assert_runs("RD", tile=0, at=1, until=6)
    time.assert_starts("RM", tile=1, at=1)
    time.assert_starts("RM", tile=2, at=6)
    time.assert_starts("RM", tile=3, at=11)  # RD of tile 1 ran from 6 to 11


def test_fresh_tiles_wait_for_no_running_value() -> None:
    tasks = (Task("RM", "u", (After("RD", same_column=True),)), Task("RD", "v", (After("RM"),)))
    time = timeline(Program(tasks, ((1, 5),), (Repeat(2, (TileRun(0, 2, fresh=True),)),)))
    time.assert_starts("RM", tile=2, at=2)


def test_a_shared_value_is_that_of_the_latest_tile_that_had_it() -> None:
    """The key tile is loaded for the first of three tiles only."""
    tasks = (Task("load", "dram"), Task("QK", "array", (After("load", latest=True),)))
    stream = (Repeat(2, (TileRun(0, 1), TileRun(1, 2))),)
    time = timeline(Program(tasks, ((10, 1), (0, 1)), stream))
    time.assert_absent("load", tile=1)
    time.assert_starts("QK", tile=1, at=11)
    time.assert_starts("QK", tile=3, at=20)
    time.assert_starts("QK", tile=4, at=21)


def test_streamed_elements_overlap() -> None:
    """RNV takes SLNV as it comes: one lag behind at both ends, though it could be done sooner."""
    tasks = (Task("SLNV", "2d"), Task("RNV", "1d", (After("SLNV", 3, streaming=True),)))
    timeline(program(*tasks, cycles=(10, 4))).assert_runs("RNV", tile=0, at=3, until=13)


def test_a_full_queue_holds_back_the_loads() -> None:
    """Two slots: the third load waits for the first tile to be done."""
    tasks = (Task("load", "dram", takes=("kv",)), Task("QK", "array", (After("load"),), gives_back=("kv",)))
    time = timeline(program(*tasks, cycles=(1, 10), tiles=4, queues=(Queue("kv", 2),)))
    time.assert_starts("load", tile=1, at=1)
    time.assert_starts("load", tile=2, at=11)
    time.assert_starts("load", tile=3, at=21)


def test_a_window_of_tiles_is_filled_greedily() -> None:
    """With two tiles in flight, the unit runs a of tile 1 while tile 0 waits; tile 2 comes when tile 0 is done."""
    tasks = (Task("a", "u"), Task("slow", "v", (After("a"),)), Task("b", "u", (After("slow"),)))
    one = timeline(program(*tasks, cycles=(1, 10, 1), tiles=3, in_flight=1))
    assert one.schedule.cycles == 3 * 12
    two = timeline(program(*tasks, cycles=(1, 10, 1), tiles=3, in_flight=2))
    two.assert_starts("a", tile=1, at=1)
    two.assert_starts("a", tile=2, at=12)


def test_loads_run_ahead_of_the_window_as_far_as_there_is_room() -> None:
    """A load of 25 cycles for each three tiles of 10, one of which is open. The second one comes while the first tiles
    run if it may do so two tiles early, the third one when the first place is free; else each is waited for."""
    tasks = (Task("load", "dram", takes=("kv",), early=True),
             Task("QK", "array", (After("load", latest=True),), gives_back=("kv",)))  # fmt: skip
    row = (TileRun(0, 1), TileRun(1, 1), TileRun(2, 1))
    rows = Program(tasks, ((25, 10), (0, 10), (0, 10)), (Repeat(3, row),), (Queue("kv", 2),), in_flight=1,
                   keeps=(("kv",), ("kv",), ()))  # fmt: skip
    assert run(rows).cycles == 3 * (25 + 3 * 10)
    time = timeline(replace(rows, ahead=2))
    time.assert_starts("load", tile=3, at=35)  # tile 1 is open
    time.assert_starts("QK", tile=3, at=60)
    time.assert_starts("load", tile=6, at=70)  # tile 4 is open, and the place of the first load is free since 55
    assert time.schedule.cycles == 3 * (25 + 10) + 2 * 10
    assert run(replace(rows, ahead=8)).cycles == 25 + 9 * 10


def test_units_that_wait_for_each_other_are_named() -> None:
    tasks = (Task("x", "u", (After("y"),)), Task("y", "v", (After("x"),)))
    with pytest.raises(CascadeSimError, match=r"deadlock .*'x' on u waits for 'y'.*'y' on v waits for 'x'"):
        run(program(*tasks, cycles=(1, 1), tiles=10**9))


def test_a_queue_that_nobody_empties_is_named() -> None:
    tasks = (Task("load", "dram", takes=("kv",)), Task("QK", "array", (After("load"),)))
    with pytest.raises(CascadeSimError, match=r"'load' on dram waits for a slot of queue 'kv' \(capacity 2\)"):
        run(program(*tasks, cycles=(1, 1), tiles=3, queues=(Queue("kv", 2),)))


def test_a_queue_cannot_get_back_more_than_was_taken_from_it() -> None:
    tasks = (Task("load", "dram", takes=("kv",)), Task("QK", "array", gives_back=("kv",)))
    classes = ((1, 1), (0, 1))
    with pytest.raises(CascadeSimError, match="gets back more slots than are taken from it: 'kv'"):
        run(Program(tasks, classes, (Repeat(10**6, (TileRun(0, 1), TileRun(1, 1))),), (Queue("kv", 2),)))


def test_everything_wrong_with_a_program_is_said_at_once() -> None:
    bad = Program((Task("x", "u", (After("z"),)),), ((1, 2),), (TileRun(5, 1),))
    with pytest.raises(CascadeSimError, match=r"'z', which is no task.*2 lengths for 1 tasks.*tile class 5 of 1"):
        run(bad)


def test_a_schedule_that_does_not_fit_the_counter_is_refused() -> None:
    with pytest.raises(CascadeSimError, match="may last more than"):
        run(program(Task("x", "u"), cycles=(2**40,), tiles=2**40))


def test_nothing_takes_no_time() -> None:
    assert run(Program((Task("x", "u"),), ((1,),), (), drain_cycles=9)).cycles == 0


def test_a_steady_pipeline_takes_as_long_as_its_slower_unit() -> None:
    """Fill of 3, then 5 cycles for each of 10^12 tiles, then the drain."""
    tasks = (Task("load", "dram", takes=("kv",)), Task("QK", "array", (After("load"),), gives_back=("kv",)))
    schedule = run(program(*tasks, cycles=(3, 5), tiles=10**12, queues=(Queue("kv", 2),), drain_cycles=2))
    assert schedule.cycles == 3 + 5 * 10**12 + 2
    assert (schedule.fill_cycles, schedule.drain_cycles, schedule.bound_by) == (3, 2, "array")
    assert schedule.steady is not None
    assert schedule.steady.cycles_per_tile == 5
    assert schedule.simulated_tiles < 100


def test_a_row_of_columns_repeats_once_what_they_hold_is_over() -> None:
    """Rows of 1000, 990, ... columns: QK 2 cycles each, RM 1 after it, for which the same column of the next row waits.

    QK never waits, since a row lasts longer than RM.
    """
    tasks = (Task("QK", "u", (After("RM", same_column=True),)), Task("RM", "v", (After("QK"),)))
    rows = tuple(TileRun(0, tiles, 1000 - tiles, fresh=tiles == 1000) for tiles in range(1000, 0, -10))
    schedule = run(Program(tasks, ((2, 1),), rows, in_flight=3))
    assert schedule.cycles == 2 * sum(range(1000, 0, -10)) + 1
    assert schedule.simulated_tiles < 100 * 32


def test_rows_repeat_though_nothing_of_the_newest_tile_has_begun() -> None:
    """Rows of 100 tiles, of 2 cycles each, whose loads may come three tiles early: 1,000 times the same."""
    tasks = (Task("load", "dram", takes=("k",), early=True),
             Task("QK", "u", (After("load"), After("RM", same_column=True)), gives_back=("k",)),
             Task("RM", "v", (After("QK"),)))  # fmt: skip
    row = (TileRun(0, 100, 0),)
    schedule = run(Program(tasks, ((1, 2, 1),), (Repeat(1000, row),), (Queue("k", 2),), in_flight=2, ahead=3))
    assert schedule.cycles == 1 + 2 * 100_000 + 1
    assert schedule.simulated_tiles < 1000


def test_columns_hold_what_the_tiles_brought_that_were_skipped() -> None:
    """RM of column 500 ends at 2 x 500 + 3, long before the row does; QK of its next tile waits for 1500 cycles more.

    So do those of the 9 after it, each 2 cycles later.
    """
    tasks = (Task("QK", "u", (After("RM", 1500, same_column=True),)), Task("RM", "v", (After("QK"),)))
    schedule = run(Program(tasks, ((2, 1),), (TileRun(0, 1000, 0, fresh=True), TileRun(0, 10, 500)), in_flight=3))
    assert schedule.cycles == 1003 + 1500 + 10 * 2 + 1
    assert schedule.simulated_tiles < 100


def test_a_row_is_not_taken_to_repeat_while_values_of_later_columns_are_to_be_waited_for() -> None:
    """A row whose second half takes 4 cycles a tile, from 200 on; RM of its column 100 + k ends at 205 + 4 k.

    The next row takes 2 cycles a tile from 600 on, and waits for RM and 500 cycles more from k = 48 on: QK of the last
    one begins at 705 + 4 x 99.
    """
    tasks = (Task("QK", "u", (After("RM", 500, same_column=True),)), Task("RM", "v", (After("QK"),)))
    order = (TileRun(0, 100, 0, fresh=True), TileRun(1, 100, 100, fresh=True), TileRun(0, 200, 0))
    assert run(Program(tasks, ((2, 1), (4, 1)), order, in_flight=3)).cycles == 705 + 4 * 99 + 2 + 1


def test_what_delays_the_last_tiles_of_a_row_delays_those_that_wait_for_them() -> None:
    """W of another row takes the unit of RM before the last two of the row are there, for 100 cycles.

    A tile lasts 2 + 50 + 1 cycles, three at once, so the k-th three begin at 53 k: QK of the last three, columns 30 to
    32, at 530, 532, 534, their RM due at 582, 584, 586. When RM of column 30 has ended, at 583, the tile with W opens:
    W runs until 683, RM of columns 31 and 32 end at 684 and 685; QK of column 32 comes 50 cycles later, for 2, and RM.
    """
    tasks = (Task("QK", "u", (After("RM", 50, same_column=True),)), Task("W", "v"), Task("RM", "v", (After("QK", 50),)))
    order = (TileRun(0, 33, 0, fresh=True), TileRun(1, 1, 99, fresh=True), TileRun(0, 1, 32))
    found = run(Program(tasks, ((2, 0, 1), (0, 100, 0)), order, in_flight=3))
    assert found.cycles == 685 + 50 + 2 + 50 + 1
    assert found.simulated_tiles < 33


def test_tiles_that_are_stepped_through_are_counted_without_the_epochs_after_the_last() -> None:
    tasks = (Task("load", "dram"), Task("QK", "array", (After("load"),), stage=2))
    assert run(program(*tasks, cycles=(3, 5), tiles=3)).simulated_tiles == 3


def test_unthrottled_loads_may_run_ahead_for_ever() -> None:
    """Without a queue the loads take 3 cycles per tile, the array 5: both steady, each at its own pace."""
    tasks = (Task("load", "dram"), Task("QK", "array", (After("load"),)))
    schedule = run(program(*tasks, cycles=(3, 5), tiles=10**12))
    assert schedule.cycles == 3 + 5 * 10**12
    assert schedule.unit("dram").last_finish == 3 * 10**12
    assert schedule.simulated_tiles < 100


def test_a_unit_that_will_have_to_wait_is_not_taken_to_be_free() -> None:
    """C starts every 20 cycles; B waits for C of three tiles ago, but not in its first three tiles.

    There B does one tile per cycle, and the state of the pipeline looks the same from tile to tile. C of tile k
    ends at 20 k + 1, so B of tile 29 runs from 20 * 26 + 1 on.
    """
    tasks = (
        Task("C", "v", (After("C", 20, same_column=True, streaming=True),), stage=2),
        Task("B", "u", (After("C", tiles_back=3),), stage=3),
    )
    schedule = run(Program(tasks, ((1, 1),), (Repeat(30, (TileRun(0, 1),)),)))
    assert schedule.cycles == 20 * 29 + 1
    assert schedule.unit("u").last_finish == 20 * 26 + 2
