"""What a step takes besides its kernels: found from synthetic runs, and from those that are set aside."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.gpu.calibration import STEP_OVERHEADS_FILE, step_overhead_s, step_overheads
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
    found = parse_yaml(text({"pieces": runs, "whole": runs[:1]}), "test")
    assert 0 <= found["pieces"]["low"] <= found["pieces"]["value"] <= found["pieces"]["high"]
    assert found["pieces"]["high"] - found["pieces"]["low"] > 0
    assert (found["pieces"]["rows"], found["whole"]["rows"]) == (9, 1)
    assert found["whole"]["low"] == found["whole"]["value"]


def test_engines_name_kinds_of_steps_that_are_known() -> None:
    kinds = {name: engine.steps for name, engine in engines().items()}
    assert {kind for kind in kinds.values() if kind} == set(step_overheads())
    assert step_overhead_s(kinds["vllm-0.10"]) > step_overhead_s(kinds["vllm"]) > step_overhead_s(kinds["pytorch"]) == 0
    assert sum(one.rows for one in step_overheads().values()) == 76 / 2  # of each run two figures


@pytest.mark.slow
def test_the_file_is_what_calibration_finds_today() -> None:
    assert text(tokens()) == STEP_OVERHEADS_FILE.read_text(encoding="utf-8")
