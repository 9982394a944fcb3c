"""`cascadesim explore`: what it prints, what it writes, how it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from cascadesim.simulator.cli.commands import cascadesim, exit_code
from cascadesim.simulator.explore.results import write

SPACE = """
question: Which rows?
architecture: fusemax
vary: {pe_array.rows: [128, 256]}
workloads: [{workload: bert, scope: attention, sequence_length: 1K}]
objectives: [latency_s]
"""


def run(*arguments: str) -> int:
    return exit_code(cascadesim, "cascadesim", arguments)


@pytest.fixture
def space(tmp_path: Path) -> str:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE, encoding="utf-8")
    return str(path)


def test_the_best_design_is_printed(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    """256 x 256: 12288 tiles of 154 cycles at 940 MHz are 2.01314 ms; half the rows are twice the tiles."""
    assert run("explore", space) == 0
    out, err = capsys.readouterr()
    assert "space.yaml: 2 designs; 2 hold the conditions" in out
    assert "256  0.00201314" in out.replace("           ", " ").replace("     ", " ")
    assert "cycle level against closed form: at most" in out
    assert err == ""


@pytest.mark.slow
def test_every_output_at_once(space: str, tmp_path: Path) -> None:
    outputs = {option: tmp_path / name for option, name in
               (("--output", "a.csv"), ("--plot", "a.svg"), ("--report", "a.html"))}
    assert run("explore", space, *(str(part) for pair in outputs.items() for part in pair)) == 0
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "a.html", "a.svg", "space.yaml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "explore: no space (give a .yaml file, or one that comes along) 'none'"),
        (["{}", "--workers", "0"], "give 1 to 1024 processes"),
        (["{}", "--engine", "rey"], "did you mean 'ray'"),
        (["{}", "--output", "a.txt"], "ends in .parquet or .csv"),
        (["{}", "--plot", "a.pdf"], "ends in .png or .svg"),
        (["{}", "--report", "no/folder.html"], "no folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, space: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("explore", *(argument.format(space) for argument in arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_front_that_cannot_be_written_is_printed_all_the_same(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And kept in pieces beside its file, so that the next run only has to write it."""
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cascadesim.simulator.explore.explore.write", full)
    assert run("explore", space, "--output", str(tmp_path / "front.csv")) == 2
    out, err = capsys.readouterr()
    assert "on the front of latency_s" in out
    assert "0.00201314" in out
    assert err == f"explore: {tmp_path}/front.csv: cannot be written: No space left on device\n"
    assert sorted(os.listdir(tmp_path)) == [".front.csv.partial", "space.yaml"]


def test_a_picture_that_cannot_be_written_does_not_cost_the_front(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cascadesim.simulator.explore.plot.draw", full)
    assert run("explore", space, "--plot", str(tmp_path / "front.svg")) == 2
    out, err = capsys.readouterr()
    assert "0.00201314" in out
    assert "front.svg: cannot be written: No space left on device" in err


def test_a_space_through_a_pipe_is_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "space.yaml"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=(SPACE,), daemon=True).start()
    assert run("explore", str(pipe)) == 0
    assert "2 designs" in capsys.readouterr().out


def test_fields_of_text_are_quoted_in_csv_and_numbers_are_not(tmp_path: Path) -> None:
    from cascadesim.simulator.explore.explore import explore

    frame = explore(yaml.safe_load(SPACE), cycle_level=False)
    text = replace(frame, columns={"=name": np.array(["=1+1", "-x\x1b"]), "worse": np.array([-1.5, 2.0])})
    write(text, tmp_path / "front.csv", ".csv")
    rows = [line for line in (tmp_path / "front.csv").read_text().splitlines() if not line.startswith("#")]
    assert rows == ["'=name,worse", "'=1+1,-1.5", "'-x\\x1b,2.0"]


def test_a_wrong_expression_is_shown_with_a_caret(space: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(space).write_text(SPACE + "conditions: [pe_array.rows > pe_array.colums]\n", encoding="utf-8")
    assert run("explore", space) == 2
    assert capsys.readouterr().err.splitlines() == [
        "explore: space.yaml: conditions.0: no field or name 'pe_array.colums'; did you mean 'pe_array.columns'?",
        "    pe_array.rows > pe_array.colums",
        "                    ^",
    ]


def test_a_failing_picture_leaves_no_file(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cascadesim.simulator.explore import plot as explore_plot

    def interrupt(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(explore_plot, "draw", interrupt)
    assert run("explore", space, "--plot", str(tmp_path / "a.png"), "--report", str(tmp_path / "a.html")) == 130
    assert os.listdir(tmp_path) == ["space.yaml"]


def test_help_imports_nothing_heavy() -> None:
    program = ("import sys; from cascadesim.simulator.cli.commands import exit_code; "
               "from cascadesim.simulator.cli.commands import cascadesim; "
               "exit_code(cascadesim, 'cascadesim', ['explore', '--help']); "
               "print([name for name in ('numpy', 'pydantic', 'yaml', 'pymoo', 'ray') if name in sys.modules])")
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_spaces_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "spaces") == 0
    assert "fusemax-front-256k  " in capsys.readouterr().out
