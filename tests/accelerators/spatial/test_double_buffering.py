"""Load, compute, store: overlapped by hand-counted cycles, and never faster than the busiest of the three."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.program import (
    BufferedStep,
    BufferedStream,
    Rounds,
    grouped,
    merged,
    rounding,
    steps_per_group,
    stream_program,
)
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.simulator.engine.engine import record, run


@pytest.fixture(scope="module")
def ten(array: Callable[..., SpatialArray]) -> SpatialArray:
    """10 bytes of DRAM per cycle, 4 rows of the buffer per cycle."""
    return array(16, bandwidth_bytes_per_s=9.4e9)


def stream(*steps: BufferedStep | Rounds, slots: int = 2, **options: int) -> BufferedStream:
    return BufferedStream("array_2d", ("Z",), steps, slots, **options)


def test_one_step_is_loaded_computed_and_stored(ten: SpatialArray) -> None:
    """100 bytes in, 7 cycles, 40 bytes out: 10 + 7 + 4."""
    assert run(stream_program(stream(BufferedStep(100, (7,), 40, 4)), ten)).cycles == 21


def test_operands_that_stream_are_computed_as_they_arrive(ten: SpatialArray) -> None:
    """The 7 cycles end with the load (10) or, drained for 5, leave 4 cycles of store after 15."""
    step = BufferedStep(100, (7,), 40, 4, arrives=True)
    assert run(stream_program(stream(step), ten)).cycles == 14
    assert run(stream_program(stream(step, drain_cycles=5), ten)).cycles == 19


def test_two_steps_overlap(ten: SpatialArray) -> None:
    """Loads end at 10 and 20, the array works 10..30 and 30..50 and stores 4 cycles at the end."""
    assert run(stream_program(stream(Rounds((BufferedStep(100, (20,), 40, 4),), 2)), ten)).cycles == 54


def test_a_third_load_waits_for_room(ten: SpatialArray) -> None:
    """Loads of 10 with room for two steps of 100 cycles: the third starts when the first is done, at 110."""
    program = stream_program(stream(Rounds((BufferedStep(100, (100,), 0, 4),), 3)), ten)
    loads = [part.start for part in record(program, 3) if part.task == "load"]
    assert loads == [0, 10, 110]


def test_ports_that_feed_too_slowly_hold_the_array_back(ten: SpatialArray) -> None:
    """80 rows of 32 bytes at 4 per cycle take 20 cycles for 7 of compute: 10 + 20 + 4."""
    assert run(stream_program(stream(BufferedStep(100, (7,), 40, 80 * 32)), ten)).cycles == 34


def test_groups_keep_what_they_move() -> None:
    step = BufferedStep(10, (3,), 5, 2)
    steps = grouped(step, 7, 3)
    assert steps == (Rounds((BufferedStep(30, (9,), 15, 6),), 2), step)
    assert merged(steps) == BufferedStep(70, (21,), 35, 14)


def test_few_steps_are_moved_as_one_only_where_rounding_shows(ten: SpatialArray) -> None:
    """1001 bytes take 101 cycles for 100.1, 0.9 % too many; five of them 501 for 500.5, 0.0999 %."""
    assert steps_per_group(BufferedStep(1000, (1,), 0, 1), ten, most=100) == 1
    assert steps_per_group(BufferedStep(1001, (1,), 0, 1), ten, most=100) == 5
    assert steps_per_group(BufferedStep(1001, (1,), 0, 1), ten, most=4) == 4


steps = st.builds(
    BufferedStep,
    load_bytes=st.integers(1, 5000),
    compute_cycles=st.tuples(st.integers(1, 300)),
    store_bytes=st.integers(0, 3000),
    buffer_bytes=st.integers(1, 16_000),
    arrives=st.booleans(),
)
bodies = st.lists(steps, min_size=1, max_size=3).map(tuple)
streams = st.lists(st.builds(Rounds, body=bodies, times=st.integers(1, 30)), min_size=1, max_size=3)


@settings(deadline=None)
@given(streams, st.integers(1, 3), st.sampled_from((0, 40)), st.booleans())
def test_no_schedule_is_shorter_than_the_bound(
    ten: SpatialArray, rounds: list[Rounds], slots: int, drain_cycles: int, leaves: bool
) -> None:
    whole = BufferedStream("array_2d", ("Z",), tuple(rounds), slots, drain_cycles, leaves)
    program = stream_program(whole, ten)
    assert run(program).cycles >= whole.total.bound_cycles(ten)
    assert program.busy_cycles()["Z"] == whole.total.compute_cycles[0]


@given(steps, st.integers(1, 50))
def test_grouping_rounds_no_worse(array: Callable[..., SpatialArray], step: BufferedStep, count: int) -> None:
    spec = array(16)
    group = steps_per_group(step, spec, count)
    assert rounding((step.plus(step, group - 1),), spec) <= rounding((step,), spec) + 1e-12
