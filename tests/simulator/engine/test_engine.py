"""The engine: hand-derived schedules, then equality with the plain interpreter of the same rules."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

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


# against the plain interpreter ---------------------------------------------------------------------------


def _reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_engine", Path(__file__).with_name("reference_engine.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


Reference = _reference().Reference
NAMES = "ABCDE"


@st.composite
def edges(draw: st.DrawFn, task: int, tasks: int) -> After:
    """Mostly of earlier tasks, so that most programs end; `back` and `column` of any."""
    kind = draw(st.sampled_from(["plain", "plain", "latest", "back", "column"] if task else ["back", "column"]))
    source = draw(st.integers(0, task - 1 if kind in ("plain", "latest") else tasks - 1))
    return After(
        NAMES[source],
        draw(st.sampled_from([0, 0, 1, 3, 20])),
        tiles_back=draw(st.integers(1, 4)) if kind == "back" else 0,
        same_column=kind == "column",
        latest=kind == "latest",
        streaming=draw(st.sampled_from([False, False, False, True])),
    )


@st.composite
def streams(draw: st.DrawFn, classes: int, depth: int = 0) -> tuple[TileRun | Repeat, ...]:
    items: list[TileRun | Repeat] = []
    for _ in range(draw(st.integers(1, 2))):
        if depth < 3 and draw(st.booleans()):
            times = st.sampled_from([1, 3, 8, 30] if depth == 0 else [0, 1, 2, 5, 9])
            items.append(Repeat(draw(times), draw(streams(classes, depth + 1))))
        else:
            tiles, column = draw(st.sampled_from([0, 1, 1, 2, 4, 9])), draw(st.integers(0, 2))
            items.append(TileRun(draw(st.integers(0, classes - 1)), tiles, column, draw(st.integers(0, 4)) == 0))
    return tuple(items)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    count, classes = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    taker, queued = draw(st.integers(0, count - 1)), draw(st.booleans())
    giver = draw(st.integers(taker, count - 1))
    tasks = tuple(
        Task(
            NAMES[index],
            draw(st.sampled_from(["u", "v", "w"])),
            tuple(draw(st.lists(edges(index, count), max_size=3))),
            stage=draw(st.integers(0, 3)),
            group=draw(st.sampled_from([None, "g", "h"])),
            takes=("q",) if queued and index == taker else (),
            gives_back=("q",) if queued and index == giver else (),
        )
        for index in range(count)
    )
    lengths = st.tuples(*[st.sampled_from([1, 2, 5, 13, 0])] * count)
    keeps = draw(st.sampled_from([(), tuple(("q",) if index == 1 else () for index in range(classes))]))
    return Program(
        tasks,
        tuple(draw(lengths) for _ in range(classes)),
        draw(streams(classes)),
        (Queue("q", draw(st.integers(1, 4))),) if queued else (),
        in_flight=draw(st.sampled_from([None, None, 1, 3])),
        drain_cycles=draw(st.sampled_from([0, 7])),
        keeps=keeps if queued else (),
    )


def outcome(program: Program) -> Schedule | None:
    """None where the units wait for each other; programs whose queue gets back what nobody took do not count."""
    try:
        return run(program)
    except CascadeSimError as error:
        assume("gets back more" not in str(error))
        return None


slow_draws = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
many = settings(max_examples=150, deadline=None, suppress_health_check=slow_draws)


@many
@given(programs().filter(lambda program: program.tiles < 800))
def test_skipped_periods_and_the_full_run_agree(program: Program) -> None:
    """Cycles, and first start and last finish of every unit, tile by tile in the reference."""
    reference, schedule = Reference(program).run(), outcome(program)
    if schedule is None:
        assert reference.deadlock
        return
    assert not reference.deadlock
    assert schedule.cycles == reference.cycles
    for unit in schedule.units:
        moments = [op for op in reference.finish if program.tasks[op[0]].unit == unit.name]
        assert unit.first_start == min((reference.start[op] for op in moments), default=None)
        assert unit.last_finish == max((reference.finish[op] for op in moments), default=None)


@pytest.mark.slow
@many
@given(programs().filter(lambda program: program.tiles < 800))
def test_a_run_is_no_shorter_than_its_busiest_unit_and_no_longer_than_all_in_turn(program: Program) -> None:
    schedule, busy = outcome(program), program.busy_cycles()
    units = {task.unit: sum(busy[own.name] for own in program.tasks if own.unit == task.unit) for task in program.tasks}
    lags = program.tiles * sum(edge.lag_cycles for task in program.tasks for edge in task.after)
    if schedule is not None:
        in_turn = sum(units.values()) + lags + program.drain_cycles
        assert max(units.values(), default=0) <= schedule.cycles <= in_turn


@pytest.mark.slow
@many
@given(programs().filter(lambda program: program.tiles < 200), st.integers(1, 40))
def test_the_recorded_tiles_are_those_of_the_reference(program: Program, tiles: int) -> None:
    if outcome(program) is None:
        return
    found = {(piece.task, piece.tile): (piece.start, piece.finish) for piece in record(program, tiles)}
    reference = Reference(program).run()
    wanted = {
        (program.tasks[task].name, tile): (reference.start[task, tile], reference.finish[task, tile])
        for task, tile in reference.finish
        if tile < tiles
    }
    assert found == wanted


@pytest.mark.slow
@many
@given(programs())
def test_every_cycle_of_every_unit_is_attributed(program: Program) -> None:
    schedule = outcome(program)
    if schedule is None:
        return
    for unit in schedule.units:
        assert unit.busy_cycles + unit.stalled_cycles + unit.idle_cycles == schedule.cycles
        assert min(unit.stalled_cycles, unit.idle_cycles) >= 0
    busy = program.busy_cycles()
    assert {task.name: task.busy_cycles for task in schedule.tasks} == busy
    assert sum(unit.busy_cycles for unit in schedule.units) == sum(busy.values())


@pytest.mark.slow
@many
@given(programs().filter(lambda program: program.in_flight is None), st.integers(0, 4), st.integers(1, 30))
def test_more_lag_never_shortens_a_static_schedule(program: Program, chosen: int, more: int) -> None:
    """Greedy order may change with a lag (Graham's anomaly); the static order is monotonic."""
    task = program.tasks[chosen % len(program.tasks)]
    longer = replace(task, after=tuple(replace(edge, lag_cycles=edge.lag_cycles + more) for edge in task.after))
    changed = replace(program, tasks=tuple(longer if entry is task else entry for entry in program.tasks))
    before, after = outcome(program), outcome(changed)
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert after.cycles >= before.cycles
