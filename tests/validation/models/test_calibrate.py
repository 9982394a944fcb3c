"""What steps and starts take besides their kernels: found from synthetic runs, and from those that are set aside."""

from __future__ import annotations

import pytest

from cascadesim.accelerators.gpu.calibration import STEP_OVERHEADS_FILE, overhead_s, step_overheads
from cascadesim.accelerators.gpu.engines.engine import engines
from cascadesim.einsum_cascades.notation.schema import parse_yaml
from cascadesim.validation.models.calibrate import fitted, text, tokens
from cascadesim.validation.models.rows import CALIBRATION, FIRST_TOKEN, SCORED
from cascadesim.validation.suites import find_suites, own_data


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


def test_engines_name_kinds_of_steps_and_starts_that_are_known() -> None:
    kinds = {name: engine.steps for name, engine in engines().items()}
    begun = {name for name, engine in engines().items() if engine.starts == "session"}
    assert {kind for kind in kinds.values() if kind} | {"session"} == set(step_overheads())
    assert begun == {"tensorrt-llm-0.6", "tensorrt-llm-0.9"}
    assert overhead_s(kinds["vllm-0.10"]) > overhead_s(kinds["vllm"]) > overhead_s(kinds["pytorch"]) == 0
    runs = {name: one.rows for name, one in step_overheads().items()}
    assert runs["pieces"] + runs["whole"] == 76 / 2  # of each run two figures
    assert runs["session"] == 15  # of 62 first tokens


def test_a_start_is_found_from_first_tokens_that_no_claim_reads() -> None:
    """Those of sessions, of one batch each; TurboMind's and NIM's are all scored."""
    (suite,) = find_suites(["models"])
    kept = [row for row in own_data(suite).rows
            if (row.text("metric"), row.text("split")) == (FIRST_TOKEN, CALIBRATION)]
    assert {row.text("engine") for row in kept} == {"tensorrt-llm-0.6", "tensorrt-llm-0.9"}
    assert {row.text("batching") for row in kept} == {"static"}
    (claim,) = (one for one in suite.claims if one.name.startswith("time to the first token of one batch"))
    assert claim.where["split"] == (SCORED,)


@pytest.mark.slow
def test_the_file_is_what_calibration_finds_today() -> None:
    assert text(tokens()) == STEP_OVERHEADS_FILE.read_text(encoding="utf-8")
