"""SpAtten through the whole pipeline: reports of models with and without a schedule, at both fidelities."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from click.testing import CliRunner

from cascadesim.simulator.cli.commands import cascadesim, exit_code


def reports(*arguments: str) -> list[Mapping[str, Any]]:
    found = CliRunner().invoke(cascadesim, ["simulate", "--arch", "spatten", "--format", "json", *arguments])
    assert found.exit_code == 0, found.output
    return list(json.loads(found.stdout)["reports"])


@pytest.mark.slow
def test_one_report_for_each_kind_of_layer_of_gpt_2() -> None:
    """Layers 0-1, 2, 3-4, 5-10, 11-15, 16-21, 22-23 of the public workload file: 24 in all."""
    found = reports("--workload", "gpt2-medium", "--phase", "decode", "--scope", "attention")
    assert [report["layers"] for report in found] == [2, 1, 2, 6, 5, 6, 2]
    assert all(report["cycles"] >= report["analytical_cycles"] > 0 for report in found)
    assert [report["cycles"] for report in found] == sorted((report["cycles"] for report in found), reverse=True)


def test_a_model_adds_up_its_layers_and_its_linear_work() -> None:
    layers = reports("--workload", "gpt2-small", "--phase", "decode", "--scope", "attention")
    (whole,) = reports("--workload", "gpt2-small", "--phase", "decode")
    attention = sum(part["cycles"] for part in whole["operations"] if part["kind"] == "attention")
    assert attention == sum(report["layers"] * report["cycles"] for report in layers)
    assert {part["kind"] for part in whole["operations"]} == {"attention", "linear", "elementwise"}
    assert any("gpt-2-small" in note for note in whole["notes"])


def test_grouped_heads_of_128_elements_at_8k() -> None:
    """8 key heads x 2 lanes x 8192 keys of 8 + 4 bits and values of 8: 160 bytes each."""
    (found,) = reports("--workload", "llama", "--phase", "decode", "--seq-len", "8K", "--scope", "attention")
    assert found["dram_bytes"]["total"] == 8 * 2 * 8192 * 160
    assert any("2 lanes of 64" in line for line in found["mapping"])
    assert any("DRAM mode rtl: at most 256 GB/s" in note for note in found["notes"])


def test_a_share_of_tokens_given_by_the_user() -> None:
    few, all_ = (
        reports("--workload", "llama", "--phase", "decode", "--seq-len", "4K", "--scope", "attention",
                "--set", f"pruning.token_keep={share}")[0]
        for share in (0.25, 1.0)
    )  # fmt: skip
    assert 4 * few["dram_bytes"]["total"] == all_["dram_bytes"]["total"]
    assert few["cycles"] < all_["cycles"]


@pytest.mark.parametrize(("arguments", "message"), [
    (("--workload", "llama", "--attention", "attention-2pass"), "walks keys in tiles"),
    (("--workload", "gpt2", "--phase", "decode", "--scope", "attention", "--show", "schedule"), "no schedule of tasks"),
    (("--workload", "gpt2", "--accounting", "artifact"), "no artifact accounting"),
    (("--workload", "gpt2", "--set", "pruning.schedule=gpt2"), "did you mean 'gpt-2-small'|known: "),
    (("--workload", "gpt2", "--set", "dram.channels=3"), "must be a power of two"),
])  # fmt: skip
def test_what_cannot_be_is_one_line(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = exit_code(cascadesim, "cascadesim", ["simulate", "--arch", "spatten", *arguments])
    text = capsys.readouterr().err
    assert code == 2
    assert len(text.strip().splitlines()) == 1
    assert any(part in text for part in message.split("|")), text
