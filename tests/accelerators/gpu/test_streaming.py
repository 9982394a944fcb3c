"""All-reduces over a ring, by hand: steps, bytes of each, and a program that takes as long."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load, presets
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.programs import ring_program
from cascadesim.accelerators.gpu.spec import Device
from cascadesim.accelerators.gpu.streaming import ring_timing
from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.simulator.engine.engine import run


def device(name: str, count: int) -> Device:
    found = load(name, [f"parallel.tensor={count}"])
    assert isinstance(found, Gpu)
    return found.spec


def test_a_sum_over_eight_h100() -> None:
    """8192 x 4096 numbers of 2 bytes: 14 steps of 8.39 MB at 450 GB/s, each 0.6 us later; launch 1.3 + 1 us."""
    found = ring_timing(device("h100-sxm", 8), 8192 * 4096)
    assert found.steps == 14
    assert found.step_link_s == 8192 * 4096 * 2 / 8 / 450e9
    assert found.total_s == pytest.approx(2.3e-6 + 14 * (8192 * 4096 / 4 / 450e9 + 0.6e-6))


def test_the_bytes_of_a_device_are_twice_all_parts_but_its_own() -> None:
    """2 (n - 1) / n of the whole."""
    for count in (2, 4, 8):
        found = ring_timing(device("a100-sxm", count), 2**20)
        assert found.link_s * 300e9 == pytest.approx(2 * (count - 1) / count * 2**21)


def test_devices_without_nvlink_send_over_pcie() -> None:
    """L40S: 32 GB/s one way, 1 us a step."""
    found = ring_timing(device("l40s", 4), 2**20)
    assert found.step_link_s == 2**21 / 4 / 32e9
    assert found.step_latency_s == 1e-6


@settings(max_examples=30, deadline=None)
@given(count=st.integers(2, 16), elements=st.integers(1, 10**8), name=st.sampled_from(["h100-sxm", "l40s", "mi300x"]))
def test_the_program_takes_as_long_as_the_closed_form(count: int, elements: int, name: str) -> None:
    """Each step and each lag in whole cycles; seconds are rounded to 2^-53 of themselves."""
    on = device(name, count)
    timing = ring_timing(on, elements)
    closed = timing.total_s * on.clock_hz
    assert closed * (1 - 1e-12) <= run(ring_program(on, timing)).cycles <= closed + 2 * timing.steps + 1


def test_every_device_but_one_states_its_link() -> None:
    without = []
    for name in presets():
        if name.startswith("gpu/"):
            found = load(name)
            assert isinstance(found, Gpu)
            without += [name] if found.spec.link is None else []
    assert without == ["gpu/jetson-nano"]
    with pytest.raises(SpecError, match="no link between two Jetson-Nano is known"):
        load("jetson-nano", ["parallel.tensor=2"])


def test_a_link_is_a_unit_where_there_are_peers() -> None:
    assert "link" not in [unit.name for unit in load("h100-sxm").units]
    assert "link" in [unit.name for unit in load("h100-sxm", ["parallel.tensor=2"]).units]
