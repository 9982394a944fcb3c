"""Every preset runs every phase and scope of a small model at any length, and its report adds up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.protocol import Accelerator
from cascadesim.einsum_cascades.models.workload import Workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.report import Report
from cascadesim.simulator.simulate import simulate

if TYPE_CHECKING:
    from cascadesim.einsum_cascades.models.layers import Phase
    from cascadesim.einsum_cascades.models.workload import Scope

PRESETS = [pytest.param(name, id=name) for name in catalogue.preset_names()]


@contextmanager
def only_where_there_is_a_cycle_level() -> Iterator[None]:
    """Some accelerators are known by closed forms alone, and say so."""
    try:
        yield
    except CascadeSimError as error:
        if "no cycle-level form" not in str(error):
            raise


def check(cycle: Report, closed: Report, accelerator: Accelerator) -> None:
    """What holds of any report; that busy, stalled and idle add up is checked when it is built."""
    assert cycle.analytical_cycles == closed.cycles
    if accelerator.capabilities.calibrated:  # an estimate: only the busiest unit bounds
        assert cycle.cycles >= max(unit.busy_cycles for unit in closed.units)
    else:
        assert cycle.cycles >= cycle.analytical_cycles
        for known, run in zip(closed.units, cycle.units, strict=True):  # transfers round up to whole cycles
            assert known.busy_cycles <= run.busy_cycles, known.name
    assert cycle.cycles >= max(unit.busy_cycles for unit in cycle.units)
    assert cycle.traffic == closed.traffic
    assert cycle.energy_j == closed.energy_j
    assert cycle.latency_s == cycle.cycles / cycle.clock_hz
    for report in (cycle, closed):
        assert sum(operation.cycles for operation in report.operations) == report.cycles
        assert sum(operation.dram_bytes for operation in report.operations) == pytest.approx(report.traffic.total_bytes)
        assert all(0 <= (unit.utilization or 0) <= 1 + 1e-9 for unit in report.units)
        assert all(einsum.cycles <= report.cycles for einsum in report.einsums)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("scope", ["attention", "linear", "model"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_the_cycle_level_is_above_the_closed_form_and_both_add_up(
    preset: str, scope: Scope, phase: Phase, two_kinds: Workload
) -> None:
    accelerator = catalogue.load(preset)
    closed = simulate(two_kinds, accelerator, sequence_length=300, scope=scope, phase=phase, fidelity="analytical")
    with only_where_there_is_a_cycle_level():
        cycle = simulate(two_kinds, accelerator, sequence_length=300, scope=scope, phase=phase)
        for pair in zip(cycle, closed, strict=True):
            check(*pair, accelerator)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
@given(length=st.integers(min_value=1, max_value=1000), batch=st.integers(min_value=1, max_value=5))
@settings(max_examples=2, deadline=None)
def test_any_length_and_batch_runs(preset: str, length: int, batch: int) -> None:
    from cascadesim.einsum_cascades.models.workload import load_workload

    accelerator = catalogue.load(preset)
    model = load_workload("llama-3.2-1b")  # grouped queries, causal
    (closed,) = simulate(model, accelerator, sequence_length=length, batch=batch, scope="attention",
                         fidelity="analytical")  # fmt: skip
    with only_where_there_is_a_cycle_level():
        (cycle,) = simulate(model, accelerator, sequence_length=length, batch=batch, scope="attention")
        check(cycle, closed, accelerator)
