"""What a device waits for its host between two steps: found from synthetic runs, and from those that are set aside."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.gpu.calibration import HOST_TIMES_FILE, host_step_s, host_times
from cascadesim.accelerators.gpu.engines.engine import engines
from cascadesim.einsum_cascades.notation.schema import parse_yaml
from cascadesim.validation.models.calibrate import fitted, text, tokens


def test_what_was_added_to_every_step_is_found() -> None:
    """Runs 1.5 ms slower than the device alone, one of ten much slower: it counts as one."""
    runs = [(step * 1e-3, step * 1e-3 + 1.5e-3) for step in range(2, 11)]
    assert fitted(runs) == pytest.approx(1.5e-3, rel=1e-3)
    assert fitted([*runs, (5e-3, 50e-3)]) == pytest.approx(1.5e-3, rel=0.02)
    assert fitted([(5e-3, 4e-3), (6e-3, 5e-3)]) == pytest.approx(0, abs=1e-5)


def test_the_file_has_value_interval_and_runs() -> None:
    runs = [(step * 1e-3, step * 1e-3 + 1e-3 + 1e-5 * step) for step in range(2, 11)]
    found = parse_yaml(text({"serial": runs, "overlapped": runs[:1]}), "test")
    assert 0 <= found["serial"]["low"] <= found["serial"]["value"] <= found["serial"]["high"]
    assert found["serial"]["high"] - found["serial"]["low"] > 0
    assert (found["serial"]["rows"], found["overlapped"]["rows"]) == (9, 1)
    assert found["overlapped"]["low"] == found["overlapped"]["value"]


def test_engines_name_hosts_that_are_known() -> None:
    kinds = {name: engine.host for name, engine in engines().items()}
    assert {kind for kind in kinds.values() if kind} == set(host_times())
    assert host_step_s(kinds["vllm"]) > host_step_s(kinds["tensorrt-llm"]) > host_step_s(kinds["pytorch"]) == 0
    assert sum(one.rows for one in host_times().values()) == 36  # half of 72 figures: runs have two each


@pytest.mark.slow
def test_the_file_is_what_calibration_finds_today() -> None:
    assert text(tokens()) == HOST_TIMES_FILE.read_text(encoding="utf-8")
