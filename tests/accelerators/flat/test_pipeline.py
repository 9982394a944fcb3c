"""Programs of flat and unfused on the engine: bounded from below, all work done, close to the bound."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.protocol import Phase, Plan
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, Mask
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_3PASS, ATTENTION_3PASS_DEFERRED
from cascadesim.simulator.engine.engine import Schedule, run


def plan(name: str, length: int, *, batch: int = 1, heads: int = 1, group: int = 1, queries: int | None = None,
         depth: int = 64, mask: Mask = FULL, changes: tuple[str, ...] = (),
         cascade: Cascade = ATTENTION_3PASS) -> Plan:  # fmt: skip
    extents = {"b": batch, "h": heads, "g": group, "m": length, "p": queries or length, "e": depth, "f": depth}
    operation = Operation("attention", "attention", cascade, tuple(extents.items()), mask=mask)
    return load(name, changes).plan(operation, "physical")


def schedule(phase: Phase) -> Schedule:
    assert phase.program is not None
    return run(phase.program())


def ratio(plan: Plan) -> float:
    return sum(schedule(phase).cycles for phase in plan.phases) / sum(phase.analytical_cycles for phase in plan.phases)


def test_fused_work_overlaps_until_only_the_softmax_counts() -> None:
    (phase,) = plan("flat", 1024, batch=64, heads=12).phases
    found = schedule(phase)
    # 768 heads of 1024 rows of 4 vectors, 4 softmax Einsums: the 1D array is busy all the time but for one fill
    assert found.bound_by == "array_1d"
    assert found.unit("array_1d").busy_cycles == 768 * 1024 * 4 * 4
    assert found.cycles < 1.001 * phase.analytical_cycles


def test_unfused_phases_run_one_after_another() -> None:
    found = plan("unfused", 1024, batch=64, heads=12)
    assert [phase.name for phase in found.phases] == ["QK", "softmax", "AV"]
    assert ratio(found) < 1.001


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flat", "unfused"])
@pytest.mark.parametrize("length", [1024, 4096, 16384, 65536, 262144, 1048576])
def test_the_cycle_level_stays_within_one_percent_of_the_bound(name: str, length: int) -> None:
    # fill and drain are one granule of at least 768 heads; loads and results round up to whole cycles
    assert 1 <= ratio(plan(name, length, batch=64, heads=12)) < 1.01


@pytest.mark.parametrize("name", ["flat", "unfused", "flat-edge", "unfused-edge"])
def test_decode_is_cut_into_parts_so_that_fill_stays_small(name: str) -> None:
    # 8 key heads only: a pipeline of whole heads would spend more than a tenth on its first and last one
    assert 1 <= ratio(plan(name, 4096, heads=32, group=4, queries=1, depth=128)) < 1.06


@pytest.mark.slow
def test_a_long_causal_sequence_takes_few_tiles() -> None:
    (phase,) = plan("flat", 2**20, mask=CAUSAL).phases
    assert phase.program is not None
    assert phase.program().tiles <= 2048


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(["flat", "unfused", "flat-edge", "unfused-edge"]), length=st.integers(1, 700),
    queries=st.integers(1, 300), group=st.integers(1, 4), causal=st.booleans(), depth=st.integers(1, 80),
    kib=st.integers(24, 512), deferred=st.booleans(),
)  # fmt: skip
def test_the_bound_is_never_above_the_cycle_level(
    name: str, length: int, queries: int, group: int, causal: bool, depth: int, kib: int, deferred: bool
) -> None:
    changes = (f"global_buffer.capacity_bytes={1024 * kib * (1 if 'edge' in name else 64)}",)
    found = plan(
        name, length, queries=min(queries, length), heads=2 * group, group=group, depth=depth,
        mask=CAUSAL if causal else FULL, changes=changes,
        cascade=ATTENTION_3PASS_DEFERRED if deferred else ATTENTION_3PASS,
    )  # fmt: skip
    for phase in found.phases:
        done = schedule(phase)
        assert done.cycles >= phase.analytical_cycles * (1 - 1e-12)
        for unit in ("array_2d", "array_1d"):
            wanted = sum(activity.cycles for activity in phase.activities if activity.unit == unit)
            busy = next((use.busy_cycles for use in done.units if use.name == unit), 0)
            assert busy >= wanted


def test_short_heads_follow_each_other_while_results_leave_the_array() -> None:
    # 2048 heads of 4 queries and 4 keys: each works for 16 cycles on the 1D array, and takes 510 to leave the 2D array
    (phase,) = plan("flat", 4, batch=64, heads=32).phases
    assert schedule(phase).cycles < 1.5 * phase.analytical_cycles
