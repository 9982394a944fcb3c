"""Devices: presets against the vendors' datasheets, ceilings below peaks."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.catalogue import load, presets
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.spec import Device
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError

NAMES = tuple(name for name in presets() if name.startswith("gpu/"))
every_device = pytest.mark.parametrize("name", NAMES)


def device(name: str) -> Device:
    found = load(name)
    assert isinstance(found, Gpu)
    return found.spec


def test_an_h100_multiplies_989_tflops() -> None:
    """132 SMs x 1.83 GHz x 4096 FLOP = 989.5e12 (datasheet: 989.4)."""
    assert device("gpu/h100-sxm").tensor_flops("bf16") == 132 * 1.83e9 * 4096
    assert device("gpu/h100-sxm").tensor_flops("fp8") == 2 * 132 * 1.83e9 * 4096


def test_every_public_device_has_a_preset() -> None:
    assert {"gpu/h100-sxm", "gpu/a100-sxm", "gpu/h200-sxm", "gpu/b200", "gpu/rtx4090", "gpu/l40s"} < set(NAMES)
    assert len(NAMES) == 19


@every_device
def test_tensor_rates_times_sms_times_clock_are_the_datasheet(name: str) -> None:
    """Within 2%: the tolerance of the public table, whose clocks are rounded."""
    found = device(name)
    rates = found.sm.tensor_flop_per_clock.known
    for dtype, tflops in found.datasheet.tensor_tflops.known.items():
        assert found.sms * found.clock_hz * rates[dtype] == pytest.approx(tflops * 1e12, rel=0.02), dtype


@every_device
def test_fp32_lanes_times_the_highest_clock_are_the_datasheet(name: str) -> None:
    """Within 3%, as the public table states."""
    found = device(name)
    flops = 2 * found.sm.fp32_fma_per_clock * found.sms * found.max_clock_hz
    assert flops == pytest.approx(found.datasheet.fp32_tflops * 1e12, rel=0.03)


@every_device
def test_measured_ceilings_are_below_what_the_vendor_states(name: str) -> None:
    found = device(name)
    assert found.dram_ceiling_bytes_per_s < found.datasheet.dram_bytes_per_s
    assert found.l2_ceiling_bytes_per_s > found.dram_ceiling_bytes_per_s


def test_an_exponential_takes_a_sixteenth_of_a_clock_on_hopper_and_blackwell() -> None:
    """FA3 paper: 3.9 T special functions a second on H100; FA4 paper: unchanged on B200."""
    hopper = device("gpu/h100-sxm")
    assert hopper.sms * hopper.clock_hz * hopper.sm.special_per_clock == pytest.approx(3.9e12, rel=0.01)
    assert device("gpu/b200").sm.special_per_clock == hopper.sm.special_per_clock


def test_a_device_says_what_it_does_not_multiply() -> None:
    with pytest.raises(CascadeSimError, match="multiplies no fp8; it multiplies"):
        device("gpu/a100-sxm").flop_per_clock_sm("fp8")


def test_a_clock_beyond_the_highest_is_refused() -> None:
    with pytest.raises(SpecError, match="exceeds max_clock_hz"):
        load("h100-sxm", ["clock_hz=3_000_000_000.0"])
