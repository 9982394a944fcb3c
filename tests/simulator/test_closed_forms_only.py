"""Accelerators that have closed forms only, and memory that can be too small: what the command line makes of them."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.simulator.cli_simulate import simulate


def run(*arguments: str) -> Result:
    return CliRunner().invoke(simulate, ["--arch", "h100-sxm", "--workload", "llama", *arguments])


def test_a_device_without_a_cycle_level_is_simulated_in_closed_form() -> None:
    result = run("--scope", "attention", "--format", "json")
    report = json.loads(result.output)["reports"][0]
    assert report["fidelity"] == "analytical"
    assert report["energy_j"] is None
    assert report["area_um2"] is None
    assert report["clock_hz"] == 1.83e9


def test_asking_for_its_cycles_is_refused() -> None:
    result = run("--fidelity", "cycle")
    assert isinstance(result.exception, CascadeSimError)
    assert "has no cycle-level form; use --fidelity analytical" in str(result.exception)


def test_a_cache_beyond_the_memory_is_refused_in_one_line() -> None:
    """64 x 131,072 tokens x 131,072 bytes = 1.1 TB."""
    result = run("--phase", "decode", "--batch", "64", "--seq-len", "128K")
    assert isinstance(result.exception, CascadeSimError)
    assert str(result.exception) == (
        "llama-3.1-8b: a KV cache of 1,099.5 GB exceeds the 80 GB of h100-sxm; give a smaller batch or length"
    )


def test_parameters_and_cache_together_beyond_the_memory_are_said() -> None:
    """2 x 8.03e9 parameters and 64 x 8192 x 131,072 bytes: 16.1 and 68.7 GB."""
    result = run("--phase", "decode", "--batch", "64", "--seq-len", "8K")
    assert "parameters and KV cache take 84.8 GB of 80 GB of memory" in result.output


@pytest.mark.parametrize("architecture", ["h100-sxm", "fusemax"])
def test_show_bound_says_what_each_unit_needs_alone(architecture: str) -> None:
    result = CliRunner().invoke(
        simulate, ["--arch", architecture, "--workload", "bert", "--scope", "attention", "--show", "bound"]
    )
    lines = result.output.splitlines()
    assert lines[2].startswith("attention: ")
    assert lines[2].endswith("100.0% of the whole")
    assert "%" in lines[3]
