"""What `list` says of machines: figures of their files, by hand, and whether suites hold the model against them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascadesim.accelerators.catalogue import presets
from cascadesim.simulator.uncertainty import validated_rows

if TYPE_CHECKING:
    from conftest import Run


def listed(run: Run, section: str) -> dict[str, str]:
    code, out, _ = run.cascadesim("list", section)
    assert code == 0
    return {name: rest for name, _, rest in (line.strip().partition("  ") for line in out.splitlines())}


def test_devices_have_rate_memory_bandwidth_and_multiprocessors(run: Run) -> None:
    found = {name: rest.strip() for name, rest in listed(run, "devices").items()}
    rows = validated_rows("h100-sxm")
    assert rows > 100
    assert found["h100-sxm"] == f"989 TFLOPS bf16, 80 GB, 3.35 TB/s, 132 SMs, validated on {rows:,} published rows"
    assert found["h100-pcie"].endswith("114 SMs, not validated")
    assert found["t4"].startswith("65 TFLOPS fp16, 16 GB, 320 GB/s")  # no bf16 there
    assert found["p4"].startswith("5.5 TFLOPS fp32")  # no tensor cores
    assert all(("TFLOPS" in rest and "GB/s" in rest) or "TB/s" in rest for rest in found.values())


def test_arrays_have_peak_buffer_bandwidth_and_clock(run: Run) -> None:
    """256 x 256 elements, two operations a cycle at 940 MHz: 123.2 TFLOPS; 400 GiB/s is 429 GB/s."""
    found = listed(run, "architectures")
    assert len(found) == len(presets())
    expected = f"123 TFLOPS, 16 MiB buffer, 429 GB/s, 940 MHz, validated on {validated_rows('fusemax')} published rows"
    assert found["fusemax"].strip().startswith(f"{expected}; FuseMax (+Binding)")
    assert found["edge-array"].strip().startswith("0.512 TFLOPS, 256 KiB buffer, 16 GB/s, 1 GHz, not validated")
    assert found["spatten"].strip().startswith("2.05 TFLOPS, 384 KiB buffers, 16 HBM channels, 1 GHz, validated on")


def test_cascades_say_their_passes_and_workloads_their_size(run: Run) -> None:
    assert listed(run, "cascades")["attention-1pass"].strip().startswith("1-pass")
    assert listed(run, "workloads")["llama-3.1-8b"].strip().startswith("decoder, 8.030 G parameters")
