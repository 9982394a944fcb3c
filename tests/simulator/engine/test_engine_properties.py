"""The engine against a reference that steps tile by tile, and properties of every schedule, on random programs."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.program import After, Program, Queue, Repeat, Task, TileRun
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.engine.engine import Schedule, record, run


def program(*tasks: Task, cycles: tuple[int, ...], tiles: int = 1, **rest: object) -> Program:
    """One class of tiles, `tiles` of them in a row."""
    return Program(tasks, (cycles,), (TileRun(0, tiles),), **rest)  # type: ignore[arg-type]


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
            tiles, column = draw(st.sampled_from([0, 1, 1, 2, 4, 9, 40, 70])), draw(st.integers(0, 2))
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
            early=draw(st.booleans()),
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
        ahead=draw(st.sampled_from([0, 1, 4])),
        drain_cycles=draw(st.sampled_from([0, 7])),
        keeps=keeps if queued else (),
    )


@st.composite
def rows(draw: st.DrawFn) -> Program:
    """Long rows of tiles, taken as they come, whose running values go from row to row by column: what attention is."""
    whole = draw(programs())
    carried = After(NAMES[draw(st.integers(0, len(whole.tasks) - 1))], draw(st.sampled_from([0, 3, 20, 150])),
                    same_column=True)  # fmt: skip
    first = replace(whole.tasks[0], after=(*whole.tasks[0].after, carried))
    length, classes = st.sampled_from([33, 40, 70, 100]), st.integers(0, len(whole.tile_classes) - 1)
    order = [TileRun(draw(classes), draw(length), draw(st.sampled_from([0, 0, 3])), number == 0)
             for number in range(draw(st.integers(2, 5)))]  # fmt: skip
    stream: tuple[TileRun | Repeat, ...] = (Repeat(3, tuple(order[:2])),) if draw(st.booleans()) else tuple(order)
    return replace(whole, tasks=(first, *whole.tasks[1:]), stream=stream, in_flight=draw(st.integers(1, 8)))


def outcome(program: Program) -> Schedule | None:
    """None where the units wait for each other; programs whose queue gets back what nobody took do not count."""
    try:
        return run(program)
    except CascadeSimError as error:
        assume("gets back more" not in str(error))
        return None

slow_draws = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
many = settings(max_examples=150, deadline=None, suppress_health_check=slow_draws)


@pytest.mark.slow
@many
@given(programs().filter(lambda program: program.tiles < 800))
def test_skipped_periods_and_the_full_run_agree(program: Program) -> None:
    check_against_the_reference(program)


@pytest.mark.slow
@settings(many, max_examples=400)
@given(rows())
def test_skipped_tiles_of_a_row_and_the_full_run_agree(program: Program) -> None:
    check_against_the_reference(program)


def test_columns_that_start_anew_hold_nothing_where_their_tiles_are_skipped() -> None:
    """Rows of 33 tiles whose task is absent, which start their columns, then 33 in which it runs for a cycle."""
    task = Task("A", "u", (After("A", lag_cycles=150, same_column=True),))
    row = (TileRun(1, 33, 0, fresh=True), TileRun(0, 33, 0))
    check_against_the_reference(Program((task,), ((1,), (0,)), (Repeat(3, row),), in_flight=1))


def test_a_unit_that_waits_for_an_early_task_is_still_part_of_what_repeats() -> None:
    """Loads of the next two tiles come before their tile is open: no moment is over for them where it is for others."""
    load = Task("A", "u", takes=("q",), gives_back=("q",), early=True)
    tasks = (load, Task("B", "u", (After("A", 1),), early=True), Task("C", "v"), Task("D", "v"))
    queue, stream = (Queue("q", 1),), (TileRun(0, 9, 0, fresh=True),)
    check_against_the_reference(Program(tasks, ((1, 1, 1, 2),), stream, queue, in_flight=1, ahead=2))


def check_against_the_reference(program: Program) -> None:
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
    for unit in schedule.units:
        assert unit.busy_cycles == sum(busy[task.name] for task in program.tasks if task.unit == unit.name)


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
