"""Pruning traces on the command line: where they run, what is said of bad ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cascadesim.accelerators.catalogue import load as accelerator
from cascadesim.einsum_cascades.models.workload import Workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.sparsity.pruning_trace import TracedHead, write_rows
from cascadesim.simulator.cli.commands import exit_code
from cascadesim.simulator.cli.simulate import simulate as command
from cascadesim.simulator.request import load_any_workload
from cascadesim.simulator.simulate import simulate

ROWS = tuple(TracedHead(0, 0, head, 300, 200, 60, 8, 8) for head in range(4))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    write_rows(ROWS, tmp_path / "rows.csv")
    return tmp_path / "rows.csv"


def test_a_trace_is_simulated_as_its_rows_say(trace: Path) -> None:
    (report,) = simulate(load_any_workload(str(trace)), accelerator("spatten-1-8"), scope="attention", phase="decode")
    assert (report.workload, report.scope, report.phase) == ("rows.csv", "attention", "decode")
    assert report.sequence_length == 300
    assert report.parameters is None
    assert report.traffic.read_bytes == 4 * 32 * 2 * (200 + 64)  # values are fetched in multiples of 8
    assert report.analytical_cycles <= report.cycles


def test_the_command_line_needs_no_phase_and_no_scope(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(command, "simulate", ("--arch", "spatten", "--workload", str(trace), "--format", "json")) == 0
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    assert (report["scope"], report["phase"], report["parameters"]) == ("attention", "decode", None)
    assert "rows.csv: the attention of 4 traced heads over 1 iterations; nothing else of the model" in report["notes"]


@pytest.mark.parametrize("format_", ["table", "csv"])
def test_it_is_printed_in_every_form(trace: Path, format_: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(command, "simulate", ("--arch", "spatten", "--workload", str(trace), "--format", format_)) == 0
    said = {"table": "rows.csv on spatten: the heads of its rows, up to 300 tokens\n", "csv": "spatten,rows.csv,"}
    assert said[format_] in capsys.readouterr().out


def test_a_bad_row_gets_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    write_rows([ROWS[0], TracedHead(0, 0, 1, 5000, 3000, 60, 8, 8)], path)
    assert exit_code(command, "simulate", ("--arch", "spatten", "--workload", str(path))) == 2
    error = capsys.readouterr().err
    assert error == "simulate: rows.csv: line 3: key_fetch_num 3000 needs 376 buffer lines, the buffer has 256\n"
    path.write_text(path.read_text().replace(",60,", ",300,"))
    with pytest.raises(SpecError, match=r"rows\.csv: line 2: value_fetch_num 300 is above key_fetch_num 200"):
        load_any_workload(str(path))


@pytest.mark.parametrize("name", ["fusemax", "flat", "unfused"])
def test_other_machines_refuse_a_trace(trace: Path, name: str) -> None:
    with pytest.raises(CascadeSimError, match=rf"rows\.csv: {name} runs models; pruning traces are for accelerators"):
        simulate(load_any_workload(str(trace)), accelerator(name), scope="attention")


def test_a_trace_has_no_fields_to_set(trace: Path) -> None:
    with pytest.raises(SpecError, match="--set hidden=4: a pruning trace has no such field"):
        load_any_workload(str(trace), ("hidden=4",))


def test_models_are_loaded_as_ever() -> None:
    assert isinstance(load_any_workload("bert"), Workload)
