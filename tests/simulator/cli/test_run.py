"""What `simulate` answers: formats, sweeps, settings, presets of the user's own, files, views."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Run

BERT = ("--arch", "fusemax", "--workload", "bert", "--seq-len", "1K", "--scope", "attention")
CLOSED = (*BERT, "--fidelity", "analytical")


def test_one_report_as_json(run: Run) -> None:
    code, out, error = run.simulate(*CLOSED, "--format", "json")
    assert (code, error) == (0, "")
    (report,) = json.loads(out)["reports"]
    assert report["cycles"] == 1_892_352  # 12288 tiles x 154 cycles: spec 5.2
    assert report["attention"] == "attention-1pass"


def test_the_cycle_level_is_within_a_percent_above_the_closed_form(run: Run) -> None:
    _, out, _ = run.simulate(*BERT, "--format", "json")
    (report,) = json.loads(out)["reports"]
    assert report["fidelity"] == "cycle"
    assert 1_892_352 <= report["cycles"] <= 1_892_352 * 1.01
    assert report["cycles"] >= max(unit["busy_cycles"] for unit in report["units"])
    explained = report["fill_cycles"] + report["drain_cycles"] + report["waiting_cycles"]
    assert report["cycles"] - report["analytical_cycles"] == explained  # the 1D array is busy all the rest of the time


def test_csv_has_a_row_for_each_report_and_units_in_its_header(run: Run) -> None:
    code, out, _ = run.simulate("--arch", "fusemax,fusemax-architecture", "--workload", "bert,t5", "--seq-len", "1K,4K",
                                "--scope", "attention", "--fidelity", "analytical", "--format", "csv")  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert len(rows) == 2 * 2 * 2
    assert int(rows[0]["cycles"]) == 1_892_352
    assert {"latency_s", "dram_read_bytes", "energy_total_j", "area_total_um2", "array_2d_busy_cycles"} <= set(rows[0])


def test_csv_says_what_a_device_holds(run: Run) -> None:
    """16-bit weights of 8.03 G parameters; 1 GiB of cache."""
    _, out, _ = run.simulate("--arch", "h100-sxm", "--workload", "llama", "--seq-len", "8K", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert int(row["memory_weights_bytes"]) == 2 * int(row["parameters"])
    assert (row["memory_kv_bytes"], row["memory_capacity_bytes"]) == (str(2**30), "80000000000")


def test_a_sweep_is_one_table_against_the_first_architecture(run: Run) -> None:
    _, out, _ = run.simulate("--arch", "fusemax-architecture,fusemax", "--workload", "bert", "--seq-len", "1K",
                             "--scope", "attention", "--fidelity", "analytical")  # fmt: skip
    assert "2.97x" in out  # (154 + 256 + ...) per tile against 154: the published rows, 5,627,904 / 1,892,352
    assert "against fusemax-architecture" in out


def test_an_option_of_lists_may_be_given_again_and_adds_up(run: Run) -> None:
    _, once, _ = run.simulate("--arch", "flat,fusemax", "--workload", "bert,t5", "--seq-len", "1K,4K",
                              "--scope", "attention", "--fidelity", "analytical", "--format", "csv")  # fmt: skip
    _, again, _ = run.simulate("--arch", "flat", "--arch", "fusemax", "--workload", "bert", "--workload", "t5",
                               "--seq-len", "1K", "--seq-len", "4K,1K",
                               "--scope", "attention", "--fidelity", "analytical", "--format", "csv")  # fmt: skip
    assert again == once
    assert len(once.splitlines()) == 1 + 2 * 2 * 2

# 64 sequences of 16K keys: 68.7 GB of keys and values, more than the 80 GB of an H100 less the 16 GB of weights
FULL = ("--workload", "llama", "--phase", "decode", "--batch", "128", "--seq-len", "8K", "--fidelity", "analytical")


@pytest.mark.slow
def test_a_sweep_goes_on_where_one_architecture_cannot(run: Run) -> None:
    code, out, error = run.simulate("--arch", "flat,h100-sxm,fusemax", *FULL, "--format", "json")
    assert code == 2
    assert [report["architecture"] for report in json.loads(out)["reports"]] == ["flat", "fusemax"]
    assert error.startswith("simulate: llama-3.1-8b, 8,192 tokens, on h100-sxm: ")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_views_beside_a_figure_say_once_what_cannot(run: Run, tmp_path: Path) -> None:
    asked = ("--arch", "flat,h100-sxm", *FULL, "--show", "bound", "--plot", str(tmp_path / "figure.svg"))
    code, out, error = run.simulate(*asked)
    assert (code, (tmp_path / "figure.svg").is_file()) == (2, True)
    assert "flat" in out
    assert error.count("on h100-sxm: ") == 1


def test_files_of_a_sweep_hold_what_could_be_answered(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "sweep.csv"
    code, out, _ = run.simulate("--arch", "h100-sxm,flat", *FULL, "--format", "csv", "--output", str(target))
    assert (code, out) == (2, "")
    assert [row["architecture"] for row in csv.DictReader(target.open())] == ["flat"]


def test_a_sweep_in_which_nothing_can_be_answered_writes_nothing(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "sweep.csv"
    code, out, error = run.simulate("--arch", "h100-sxm,a100-sxm", *FULL, "--output", str(target))
    assert (code, out) == (2, "")
    first, second = error.splitlines()
    assert first.startswith("simulate: llama-3.1-8b, 8,192 tokens, on h100-sxm: ")
    assert first.endswith("the largest batch that fits is 58")
    assert second.startswith("simulate: llama-3.1-8b, 8,192 tokens, on a100-sxm: ")
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_every_run_of_a_sweep_is_said_once(run: Run) -> None:
    assert "did you mean 'attention-1pass'" in run.refused("--arch", "flat,fusemax", "--workload", "bert",
                                                           "--attention", "attention-1pas")  # fmt: skip


def test_control_characters_of_the_users_reach_no_terminal(run: Run, tmp_path: Path) -> None:
    """In errors, tables, text, JSON and CSV; JSON and its readers get the very characters, as escapes."""
    name = "x\x1b]0;title\x07\x9b31m\u202ey"
    path = tmp_path / f"{name}.cascade"
    path.write_text(cascade_text("attention-1pass"))
    shown = [run.simulate(*CLOSED, "--set", f"note{name}=1"), run.simulate(*CLOSED, "--attention", str(path)),
             run.simulate(*CLOSED, "--attention", str(path), "--show", "cascade")]  # fmt: skip
    as_json = run.simulate(*CLOSED, "--attention", str(path), "--format", "json")
    as_csv = run.simulate(*CLOSED, "--attention", str(path), "--format", "csv")
    passes = [run.cascadesim("passes", str(path)), run.cascadesim("passes", str(path), "--format", "json")]
    for _, out, error in (*shown, as_json, as_csv, *passes):
        assert all(each.isprintable() or each == "\n" for each in out + error)
    assert json.loads(as_json[1])["reports"][0]["attention"] == str(path)


def test_text_that_a_spreadsheet_would_run_is_quoted_in_csv(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("@SUM(A1).cascade").write_text(cascade_text("attention-1pass"))
    _, out, _ = run.simulate(*CLOSED, "--attention", "@SUM(A1).cascade", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["attention"] == "'@SUM(A1).cascade"
    assert float(row["latency_s"]) > 0


def cascade_text(name: str) -> str:
    from cascadesim.einsum_cascades.texts import find

    return find(name).text


@pytest.mark.parametrize("columns", ["0", "1", "wide", "-5", ""])
def test_a_table_needs_no_sensible_width(run: Run, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    _, usual, _ = run.simulate("--arch", "flat,fusemax", *CLOSED[2:])
    monkeypatch.setenv("COLUMNS", columns)
    assert run.simulate("--arch", "flat,fusemax", *CLOSED[2:]) == (0, usual, "")
    assert "1,892,352 cycles" in run.simulate(*CLOSED)[1]


def test_both_programs_are_the_same_command(run: Run) -> None:
    assert run.cascadesim("simulate", *CLOSED) == run.simulate(*CLOSED)


def test_published_accounting_is_analytical_by_default(run: Run) -> None:
    _, out, _ = run.simulate(*BERT, "--accounting", "artifact", "--format", "json")
    assert json.loads(out)["reports"][0]["fidelity"] == "analytical"


def test_settings_reach_the_architecture_and_the_workload(run: Run) -> None:
    settings = ("--set", "clock_hz=470_000_000.0", "--set", "attention.heads=6")
    _, out, _ = run.simulate(*CLOSED, *settings, "--format", "json")
    (report,) = json.loads(out)["reports"]
    assert report["clock_hz"] == 470e6
    assert report["cycles"] == 1_892_352 // 2  # half of the heads
    assert report["notes"][:2] == ["set clock_hz=470_000_000.0", "set attention.heads=6"]


def test_a_preset_of_the_users_own_runs(run: Run, tmp_path: Path) -> None:
    from cascadesim.accelerators.catalogue import presets

    path = tmp_path / "mine.yaml"
    path.write_text(presets()["fusemax/fusemax"].read_text().replace("940_000_000.0", "470_000_000.0"))
    code, out, _ = run.simulate("--arch", str(path), *CLOSED[2:], "--format", "json")
    assert code == 0
    assert json.loads(out)["reports"][0]["architecture"] == "mine.yaml"


@pytest.mark.parametrize("settings", [(), ("--set", "clock_hz=470_000_000.0"), ("--set", "clock=1")])
def test_a_preset_through_a_pipe_is_read_once(run: Run, tmp_path: Path, settings: tuple[str, ...]) -> None:
    """Opened again, a pipe whose writer has gone would be waited for without end."""
    from cascadesim.accelerators.catalogue import presets

    pipe = tmp_path / "mine.yaml"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_text, args=(presets()["fusemax/fusemax"].read_text(),), daemon=True).start()
    code, _, error = run.simulate("--arch", str(pipe), *CLOSED[2:], *settings)
    assert code == (2 if "clock=1" in settings else 0), error


def test_output_goes_to_a_file_and_only_there(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    assert run.simulate(*CLOSED, "--format", "json", "--output", str(target)) == (0, "", "")
    assert json.loads(target.read_text())["reports"][0]["cycles"] == 1_892_352


def test_a_refused_run_leaves_earlier_output_alone(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("earlier")
    run.refused(*CLOSED, "--set", "global_buffer.capacity_bytes=256", "--output", str(target))
    assert target.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [target]


def test_show_prints_text_instead_of_results(run: Run) -> None:
    _, cascade, _ = run.simulate(*CLOSED, "--show", "cascade")
    assert "RM[h,m1+1,p]    = max(RM[h,m1,p], LM[h,m1,p])" in cascade
    assert "m=1024" in cascade
    _, schedule, _ = run.simulate(*BERT, "--show", "schedule")
    assert "12,288 tiles" in schedule
    assert "closed form: 1,892,352 cycles" in schedule
    code, mapping, _ = run.simulate(*CLOSED, "--show", "mapping")
    assert code == 0
    assert mapping.startswith("bert on fusemax")
