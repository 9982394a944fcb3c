"""Operations under the roofline of their machine, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cascadesim.accelerators.catalogue import load
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.simulator.report_page.document import page
from cascadesim.simulator.report_page.roofline import RooflinePoint, operations_per_s, points
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import parts, reports


def test_attention_on_fusemax_is_at_four_fifths_of_its_array() -> None:
    """64 x 12 heads of 1,024 x 1,024 scores, 64 deep, twice; 1,892,352 cycles at 940 MHz (spec, 5.2).

    2 x 2 x 64 x 768 x 2^20 = 206,158,430,208 operations over 402,653,184 bytes (Q, K, V, AV once in 16 bits): 512 a
    byte. 256 x 256 elements make 2 x 65,536 x 0.94e9 operations/s, which is reached to 128/154 at most.
    """
    request = Request(load_workload("bert"), load("fusemax"), 1024, 64, scope="attention", fidelity="analytical")
    ((run,),), (report,) = parts(request), reports(request)
    (point,) = points((run,), request.accelerator)
    assert point.operations == 206_158_430_208
    assert point.dram_bytes == 4 * 64 * 12 * 1024 * 64 * 2
    assert point.units == ("array_2d",)
    assert point.peak == 2 * 65_536 * 940e6
    assert point.operations / point.seconds / point.peak == pytest.approx(128 / 154)
    assert point.roof(429_496_729_600) == point.peak  # 512 x 429.5e9 is above
    assert point.roof(1e9) == 512e9
    assert operations_per_s((run,), report.latency_s) == pytest.approx(point.operations / point.seconds)


@pytest.mark.slow
@pytest.mark.parametrize(("machine", "workload"), [
    ("fusemax", "bert"), ("flat", "bert"), ("spatten", "gpt-2-small"), ("h100-sxm", "llama-3.1-8b"),
    ("l40s", "llama-3.1-8b"), ("edge-array", "gpt-2-small"),
])  # fmt: skip
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_no_operation_is_above_its_roof(machine: str, workload: str, phase: str) -> None:
    if (workload, phase) == ("bert", "decode"):
        workload = "gpt-2-small"
    request = Request(load_workload(workload), load(machine), 512, 1, phase=phase, fidelity="analytical")  # type: ignore[arg-type]
    (runs,) = parts(request)
    found = list(points(runs, request.accelerator))
    delivered = request.accelerator.capabilities.dram_bytes_per_s
    assert delivered is not None
    assert {point.name for point in found} == {run.operation.name for run in runs}
    for point in found:
        assert 0 < point.operations / point.seconds <= (point.roof(delivered) or 0) * 1.001, point


def test_what_nothing_limits_has_no_roof() -> None:
    """In the behavioural simulator of SpAtten some units take no time; what moves nothing has its units' peak."""
    point = RooflinePoint("QK", "", ("array",), 100.0, 0.0, 1.0, None)
    assert point.roof(1e9) is None
    assert replace(point, peak=7.0).roof(1e9) == 7.0
    assert replace(point, dram_bytes=50.0).roof(1e9) == 2e9
    request = Request(load_workload("gpt-2-small"), load("spatten-behavioural"), 64, 1, fidelity="analytical")
    assert any(each.peak is None for runs in parts(request) for each in points(runs, request.accelerator))
    page([request], reports(request))  # JSON has no infinity
