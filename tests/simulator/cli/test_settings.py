"""`--set`: names that fields go by, units, and settings that change nothing."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.simulator.cli.settings import load_architecture, values_of

if TYPE_CHECKING:
    from conftest import Run

DECODE = ("--arch", "h100-sxm", "--workload", "llama", "--phase", "decode", "--batch", "16", "--seq-len", "8K")
BERT = ("--arch", "fusemax", "--workload", "bert", "--seq-len", "1K", "--fidelity", "analytical", "--format", "json")


def reports(out: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(out)["reports"]
    return found


def test_twice_the_bandwidth_by_its_last_name_and_with_its_unit(run: Run) -> None:
    _, named, error = run.simulate(*DECODE, "--set", "dram_bytes_per_s=6.7TB/s", "--format", "json")
    _, full, _ = run.simulate(*DECODE, "--set", "datasheet.dram_bytes_per_s=6.7TB/s", "--format", "json")
    _, plain, _ = run.simulate(*DECODE, "--format", "json")
    assert (named, error) == (full, "")
    assert "set datasheet.dram_bytes_per_s=6.7TB/s" in reports(named)[0]["notes"]  # type: ignore[operator]
    assert reports(named)[0]["latency_s"] < 0.6 * reports(plain)[0]["latency_s"]  # type: ignore[operator]


def test_a_last_name_is_that_of_a_field_which_the_model_reads() -> None:
    _, made = load_architecture("h100-sxm", ("l2_bytes_per_s=9TB/s", "clock_hz=1GHz"))
    assert made == {"l2_bytes_per_s=9TB/s": "measured.l2_bytes_per_s=9TB/s"}
    with pytest.raises(SpecError, match=r"did you mean 'datasheet\.power_w'"):
        load_architecture("h100-sxm", ("power_w=700W",))


@pytest.mark.parametrize("field", ["policy=serial", "rows=64"])
def test_what_has_no_unit_goes_by_its_whole_name(run: Run, field: str) -> None:
    code, _, error = run.simulate(*BERT, "--set", field)
    assert code == 2
    assert "no such field; did you mean" in error


@pytest.mark.parametrize(("setting", "scope"), [
    ("ffn.width=1", "attention"), ("batch=64", "attention"), ("vocabulary=7", "linear"), ("clock_hz=940MHz", "model"),
])  # fmt: skip
def test_a_setting_that_changes_no_figure_is_reported(run: Run, setting: str, scope: str) -> None:
    code, out, error = run.simulate(*BERT, "--scope", scope, "--set", setting)
    assert code == 0
    assert error == f"simulate: --set {setting}: set but not used: all figures are the same without it\n"
    assert len(reports(out)) == 1


@pytest.mark.parametrize(("setting", "scope"), [
    ("attention.heads=6", "attention"), ("ffn.width=1024", "linear"), ("clock_hz=1GHz", "model"), ("batch=2", "model"),
    ("leakage_w_per_um2=1.0e-9", "attention"), ("word_bytes=4", "attention"),
])  # fmt: skip
def test_a_setting_that_changes_a_figure_is_not(run: Run, setting: str, scope: str) -> None:
    code, _, error = run.simulate(*BERT, "--scope", scope, "--set", setting)
    assert (code, error) == (0, "")


@pytest.mark.parametrize(("fidelity", "used"), [("analytical", False), ("cycle", True)])
def test_what_only_the_cycle_level_reads_is_used_there(run: Run, fidelity: str, used: bool) -> None:
    """How many tiles are open at once: the closed form takes enough of them."""
    short = ("--arch", "fusemax-cascade", "--workload", "bert", "--scope", "attention", "--seq-len", "512")
    _, _, error = run.simulate(*short, "--batch", "1", "--fidelity", fidelity, "--set", "binding.in_flight=1")
    assert ("set but not used" in error) != used


def test_in_a_sweep_a_setting_is_used_where_one_run_uses_it(run: Run) -> None:
    sweep = ("--arch", "fusemax", "--workload", "bert,t5", "--fidelity", "analytical", "--scope", "attention")
    _, _, error = run.simulate(*sweep, "--set", "batch=64")
    assert "--set batch=64: set but not used" in error  # both have 64 sequences
    _, _, error = run.simulate(*sweep, "--seq-len", "1K", "--set", "sequence_length=2048")
    assert "--set sequence_length=2048: set but not used" in error  # --seq-len is nearer
    _, _, error = run.simulate(*sweep, "--set", "sequence_length=2048")
    assert error == ""


def test_what_can_be_read_only_once_is_not_read_again(run: Run, tmp_path: Path) -> None:
    pipe = tmp_path / "mine.yaml"
    os.mkfifo(pipe)
    text = catalogue.presets()["fusemax/fusemax"].read_text()
    threading.Thread(target=pipe.write_text, args=(text,), daemon=True).start()
    code, _, error = run.simulate("--arch", str(pipe), *BERT[2:], "--set", "clock_hz=940MHz")
    assert (code, error) == (0, "")


def test_fields_that_a_file_does_not_give_are_known() -> None:
    fields = {field: (value, words) for field, value, words in values_of(catalogue.load("h100-sxm").spec)}  # type: ignore[attr-defined]
    assert fields["types.kv"][0] == "none"
    assert "fp8" in fields["types.kv"][1]
    assert fields["parallel.tensor"] == ("1", ())
