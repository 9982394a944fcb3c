"""Programs on the engine: the published schedules from their mechanisms, the stalls of a short pipeline, any shape."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.protocol import Phase
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval, Mask
from cascadesim.simulator.engine.engine import Schedule, run

Make = Callable[..., Operation]
Design = Callable[..., FuseMax]

BYTES_PER_CYCLE = 400 * 2**30 / 940e6
LOAD_QUERIES = ceil(256 * 64 * 2 / BYTES_PER_CYCLE)  # one query tile of BERT, also one tile of results
LOAD_KEYS = ceil(256 * (64 + 64) * 2 / BYTES_PER_CYCLE)


def simulate(accelerator: FuseMax, operation: Operation) -> tuple[Phase, Schedule]:
    phase = accelerator.plan(operation, "physical").phases[0]
    assert phase.program is not None
    return phase, run(phase.program())


def test_one_tile_takes_its_longest_path(attention: Make, design: Design) -> None:
    """256 keys, 256 queries: QK, LM, a drain, RM, SLN and SLD; the first results of SLNV drain into RNV, which takes
    turns with SPNV; RD, AV. Loads before, the store after."""
    _, schedule = simulate(design(), attention(256))
    arrays = 64 + 1 + 256 + 1 + 8 + 256 + 2 * 64 + 1 + 64
    assert schedule.cycles == LOAD_QUERIES + LOAD_KEYS + arrays + LOAD_QUERIES


def test_epochs_keep_the_1d_array_busy_all_the_time(model: Make, design: Design) -> None:
    """BERT 1K: 1,892,352 cycles as published, and the pipeline filled and drained once for 12,288 tiles."""
    phase, schedule = simulate(design(), model("BERT", 1024))
    once = LOAD_QUERIES + LOAD_KEYS + 5 * 138 + LOAD_QUERIES  # loads, the epochs of the first tile, the last store
    assert phase.analytical_cycles == 1_892_352
    assert 0 <= schedule.cycles - 1_892_352 <= once
    assert schedule.cycles / 1_892_352 - 1 < 0.01
    assert schedule.bound_by == "array_1d"


def test_filling_costs_the_same_however_long_the_sequence(model: Make, design: Design) -> None:
    extra = set()
    for length in (1024, 4096, 65_536):
        phase, schedule = simulate(design(), model("BERT", length))
        extra.add(schedule.cycles - phase.analytical_cycles)
    assert len(extra) == 1


def test_one_tile_at_a_time_exposes_one_drain_for_each(model: Make, design: Design) -> None:
    """+Architecture: 65 for QK and LM, 256 of drain, RM, 8 for the exponentials, 128 for SPNV and RNV; loads at first,
    RD, AV and the store of the last tile at the end."""
    phase, schedule = simulate(design("fusemax-architecture"), model("BERT", 1024))
    published = 12_288 * (65 + 256 + 1 + 8 + 128)
    assert phase.analytical_cycles == published
    assert schedule.cycles == LOAD_QUERIES + LOAD_KEYS + published + (1 + 64) + LOAD_QUERIES


@pytest.mark.parametrize("name", ["BERT", "XLM"])
def test_epochs_are_never_slower_than_one_tile_at_a_time(name: str, model: Make, design: Design) -> None:
    epochs, serial = (
        simulate(design(preset), model(name, 1024))[1].cycles for preset in ("fusemax", "fusemax-architecture")
    )
    assert epochs < serial


def test_a_wider_window_is_never_slower_and_ends_at_the_busier_array(attention: Make, small: Design) -> None:
    operation = attention(64, e=16, f=16, b=4)
    found = [
        simulate(small(8, 2**16, "binding.policy=interleave", f"binding.in_flight={k}"), operation)[1].cycles
        for k in (1, 2, 4, 8)
    ]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


def test_fewer_resident_query_tiles_than_the_pipeline_is_deep_make_the_arrays_wait(
    attention: Make, design: Design
) -> None:
    """One query tile: RM of a key tile shares its turn with RNV of the key tile before, whose SLNV starts after RM,
    SLN and SLD and drains for 256 cycles. Two query tiles take turns, and nothing waits."""
    key_tiles, instances = 64, 16
    per_tile = []
    for residents in (1, 2, 4):
        operation = attention(key_tiles * 256, residents * 256, b=instances)
        _, schedule = simulate(design(), operation)
        per_tile.append(schedule.cycles / (instances * key_tiles * residents))
        stalled = schedule.unit("array_1d").stalled_cycles / schedule.cycles
        assert stalled > 0.4 if residents == 1 else stalled < 0.01
    assert per_tile[0] > 1 + 8 + 256
    assert per_tile[1] == pytest.approx(138 + 64 / key_tiles, rel=0.01)
    assert per_tile[2] == pytest.approx(per_tile[1], rel=0.01)


def test_distances_that_are_too_short_wait_for_the_drain(model: Make, design: Design) -> None:
    """With c one epoch behind d, SLN of a tile starts a drain and RM after its LM, and two epochs later LM follows it
    by SLN, SLD, QK | SLNV and LM: two epochs take 256 + 1 + 8 + 129 cycles, instead of twice 138."""
    hidden, exposed = (
        simulate(design("fusemax", *given), model("BERT", 1024))[1].cycles
        for given in ((), ("binding.distances={a: 3, b: 2, c: 1}",))
    )
    assert exposed > 12_288 * (256 + 1 + 8 + 129) // 2 > hidden


def test_longer_distances_change_the_fill_only(model: Make, design: Design) -> None:
    smallest, longer = (
        simulate(design("fusemax", *given), model("BERT", 4096))[1].cycles
        for given in ((), ("binding.distances={a: 8, b: 6, c: 4}",))
    )
    assert 0 <= longer - smallest <= 4 * 138 + 138


def test_a_slow_channel_bounds_the_run(model: Make, design: Design) -> None:
    phase, schedule = simulate(design("fusemax", "dram.bandwidth_bytes_per_s=20_000_000_000.0"), model("BERT", 1024))
    assert schedule.bound_by == "dram"
    assert phase.analytical_cycles <= schedule.cycles < 1.01 * phase.analytical_cycles


def test_a_single_port_bounds_the_run(model: Make, design: Design) -> None:
    """258 rows read and 66 written for each tile of BERT, more than its 154 cycles."""
    phase, schedule = simulate(design("fusemax", "global_buffer.ports=1"), model("BERT", 1024))
    assert schedule.bound_by == "global_buffer"
    assert phase.analytical_cycles >= 12_288 * (258 + 66)
    assert phase.analytical_cycles <= schedule.cycles < 1.01 * phase.analytical_cycles


def test_a_million_tokens_are_a_short_program(model: Make, design: Design) -> None:
    """13 thousand million tiles; the stream has one entry for each kind of row, not for each tile."""
    phase = design().plan(model("BERT", 1_048_576), "physical").phases[0]
    assert phase.program is not None
    program = phase.program()
    assert program.tiles == 768 * 4096 * 4096
    assert len(str(program.stream)) < 20_000


MASKS = st.one_of(
    st.just(FULL), st.just(CAUSAL), st.builds(KeyInterval, st.just(True), st.integers(1, 100)),
    st.builds(KeyInterval, st.just(True), st.none(), st.integers(1, 100)),
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    preset=st.sampled_from(["fusemax", "fusemax-architecture", "fusemax-cascade"]),
    capacity=st.sampled_from([2**12, 2**13, 2**14, 2**16]), keys=st.integers(1, 200), queries=st.integers(1, 200),
    heads=st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 4])), depths=st.sampled_from([(4, 4), (16, 8), (8, 16)]),
    mask=MASKS,
)  # fmt: skip
def test_no_schedule_beats_the_closed_form_and_arrays_work_as_long_as_their_einsums(
    preset: str, capacity: int, keys: int, queries: int, heads: tuple[int, int], depths: tuple[int, int], mask: Mask,
    attention: Make, small: Design,
) -> None:  # fmt: skip
    """Partial tiles, masks, groups, few and many residents: down to buffers that hold one query tile."""
    accelerator = small(8, capacity, name=preset)
    operation = attention(keys, min(keys, queries), *depths, h=heads[0] * heads[1], g=heads[1], mask=mask)
    phase, schedule = simulate(accelerator, operation)
    assert schedule.cycles >= phase.analytical_cycles * (1 - 1e-12)
    for unit in ("array_2d", "array_1d"):
        assert schedule.unit(unit).busy_cycles == sum(a.cycles for a in phase.activities if a.unit == unit)
    moved = phase.traffic.total_bytes / accelerator.spec.dram_bytes_per_cycle
    assert schedule.unit("dram").busy_cycles >= moved - 1e-6
