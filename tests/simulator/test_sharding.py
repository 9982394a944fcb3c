"""Several devices that divide a model, from the command line: time line, memory, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.cli.simulate import simulate


def run(*arguments: str) -> Result:
    return CliRunner().invoke(simulate, ["--arch", "h100-sxm", "--workload", "llama", "--seq-len", "8K", *arguments])


def report(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("--format", "json", *arguments).output)["reports"][0]
    return found


@pytest.mark.parametrize("fidelity", ["analytical", "cycle"])
def test_the_sums_are_operations_of_the_time_line(fidelity: str) -> None:
    """32 layers x 271.7 us: 14 steps of 8.39 MB at 450 GB/s and 0.6 us, and a launch of 2.3 us."""
    found = report("--set", "parallel.tensor=8", "--fidelity", fidelity)
    sums = [row for row in found["operations"] if row["kind"] == "collective"]
    assert [row["name"] for row in sums] == ["out_proj_all_reduce", "ffn_down_all_reduce"]
    for row in sums:
        assert row["cycles"] / found["clock_hz"] == pytest.approx(32 * 271.7e-6, rel=1e-3)
    assert found["uncertainty"]["covers"] is False
    assert found["parameters"] == report()["parameters"]  # of the whole model


def test_eight_devices_are_faster_than_one_but_not_eight_times() -> None:
    one, eight = report()["latency_s"], report("--set", "parallel.tensor=8")["latency_s"]
    assert one / 8 < eight < one / 3


def test_one_device_is_a_report_without_a_link() -> None:
    assert report("--set", "parallel.tensor=1")["operations"] == report()["operations"]
    assert "link" not in report()["utilization"]


def test_memory_is_that_of_each_device() -> None:
    """64 x 128K tokens: 1,099.5 GB of cache over 8 are 137.4 GB on each; over 16, where key heads repeat, as many."""
    for devices in (8, 16):
        result = run("--phase", "decode", "--batch", "64", "--seq-len", "128K", "--set", f"parallel.tensor={devices}")
        assert isinstance(result.exception, CascadeSimError)
        assert "KV cache 137.44 + " in str(result.exception)
        assert "the 80.00 GB of h100-sxm on each device; the largest batch that fits is 3" in str(result.exception)
    assert run("--phase", "decode", "--batch", "32", "--seq-len", "128K", "--set", "parallel.tensor=8").exit_code == 0


def test_the_note_says_what_each_device_holds() -> None:
    """(8.030e9 - 266,240) / 8 + 266,240 parameters; 1 GiB of cache over 8."""
    found = report("--set", "parallel.tensor=8")
    assert any("it has 1.00 G parameters" in note for note in found["notes"])
    assert found["memory_bytes"]["kv"] == 2**27
    assert found["memory_bytes"]["weights"] == pytest.approx(2.008e9, rel=1e-3)
    assert found["kv_cache_bytes"] == 2**30  # of the whole model


def test_heads_that_do_not_divide_are_refused_with_what_does() -> None:
    result = run("--set", "parallel.tensor=3")
    assert isinstance(result.exception, CascadeSimError)
    assert "32 heads divide over 2, 4, 8, 16, 32" in str(result.exception)


def test_attention_alone_has_no_sums() -> None:
    found = report("--set", "parallel.tensor=8", "--scope", "attention")
    assert [row["name"] for row in found["operations"]] == ["attention"]
