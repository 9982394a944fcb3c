"""Closed forms that are all there is, or calibrated; memory that can be too small: on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.cli.commands import simulate


def run(*arguments: str) -> Result:
    return CliRunner().invoke(simulate, ["--arch", "h100-sxm", "--workload", "llama", *arguments])


def report(*arguments: str) -> dict[str, Any]:
    result = run("--scope", "attention", "--format", "json", *arguments)
    found: dict[str, Any] = json.loads(result.output)["reports"][0]
    return found


def test_a_calibrated_device_is_simulated_in_closed_form() -> None:
    found = report()
    assert found["fidelity"] == "analytical"
    assert found["energy_j"] is None
    assert found["area_um2"] is None
    assert found["clock_hz"] == 1.83e9
    assert found["uncertainty"]["latency"] > 0


def test_its_cycles_are_counted_where_asked_for_and_have_errors_of_their_own() -> None:
    """Of prompts with a causal mask none was compared; the nearest are full attention and decoding."""
    found = report("--fidelity", "cycle")
    assert found["fidelity"] == "cycle"
    assert found["uncertainty"]["covers"] is False
    assert found["uncertainty"]["basis"].endswith("(validation suite gpu-cycle)")
    assert found["cycles"] == pytest.approx(found["analytical_cycles"], rel=0.1)  # each is calibrated alone
    assert any(note.startswith("cycle level: units overlap as far as dependences allow") for note in found["notes"])
    table = run("--scope", "attention", "--fidelity", "cycle").output
    assert " a closed form of " in table


def test_its_schedule_and_trace_are_shown_without_asking_for_cycles(tmp_path: Path) -> None:
    assert "tensor is busiest" in run("--scope", "attention", "--show", "schedule").output
    target = tmp_path / "trace.json"
    assert run("--scope", "attention", "--trace", str(target)).exit_code == 0
    tasks = {event["name"] for event in json.loads(target.read_text())["traceEvents"] if event["ph"] == "X"}
    assert {"launch", "load", "QK", "LM", "SLN", "SLD", "SPNV", "SLNV"} < tasks


def test_asking_a_published_model_for_cycles_is_refused() -> None:
    arguments = ["--arch", "spatten-behavioural", "--workload", "gpt-2-small", "--fidelity", "cycle"]
    result = CliRunner().invoke(simulate, arguments)
    assert isinstance(result.exception, CascadeSimError)
    assert "has no cycle-level form; use --fidelity analytical" in str(result.exception)


@pytest.mark.parametrize("architecture", ["h100-sxm", "fusemax"])
def test_show_bound_says_what_each_unit_needs_alone(architecture: str) -> None:
    result = CliRunner().invoke(
        simulate, ["--arch", architecture, "--workload", "bert", "--scope", "attention", "--show", "bound"]
    )
    lines = result.output.splitlines()
    assert lines[2].startswith("attention: ")
    assert lines[2].endswith("100.0% of the whole")
    assert "%" in lines[3]
