"""`cascadesim validate` at the shell: exit codes, JSON, other files, errors of one line."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from cascadesim.simulator.cli.commands import exit_code
from cascadesim.validation.claim import Suite
from cascadesim.validation.cli import suite_names, validate
from cascadesim.validation.suites import own_data, suites, verdicts_of
from cascadesim.validation.table import read_table

BINDING = (
    "# Units: traffic B, latency s, energy pJ\n"
    "model,seq_len,traffic_B,latency_s,energy_pJ,util_2d,util_1d,QK,LM,SLN,SLD,SLNV\n"
    "T5,1K,268435456,0.0013420936170212766,1300430099903.5107,0.8896103896103896,1.0,"
    "0.4155844155844156,0.006493506493506494,0.045454545454545456,0.006493506493506494,0.4155844155844156\n"
)  # half of the published TrXL row: T5 has half of its heads, of the same size


def run(*arguments: str) -> int:
    return exit_code(validate, "validate", arguments)


@pytest.fixture
def binding(tmp_path: Path) -> Path:
    file = tmp_path / "attn-binding.csv"
    file.write_text(BINDING, encoding="utf-8")
    return file


def test_a_suite_is_printed_claim_by_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fusemax-pareto") == 0
    printed = capsys.readouterr().out
    assert "4 of 4 claims hold" in printed
    assert "Worst row of each claim" in printed
    assert all(len(line) <= 80 for line in printed.splitlines())


def test_json_follows_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fusemax-pareto", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "cascadesim.validation/1"
    claim = document["claims"][0]
    assert set(claim) >= {
        "suite", "claim", "source", "rows", "metric", "mean_abs_relative_error", "median_abs_relative_error",
        "max_abs_relative_error", "tolerance", "holds", "strata",
    }  # fmt: skip
    assert (claim["suite"], claim["rows"], claim["holds"]) == ("fusemax-pareto", 14, True)
    assert claim["source"].startswith("fusemax-pareto.csv: FuseMax (MICRO 2024)")
    assert {stratum["column"] for stratum in claim["strata"]} == {"workload", "pe_array_dim"}


def test_rows_in_the_published_layout_are_compared(binding: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fusemax-attention", "--data", str(binding), "--format", "json") == 0
    claims = json.loads(capsys.readouterr().out)["claims"]
    assert {claim["rows"] for claim in claims} == {1}
    assert all(claim["holds"] for claim in claims)
    assert claims[0]["source"] == "attn-binding.csv"


def test_columns_that_nothing_reads_are_named(binding: Path, capsys: pytest.CaptureFixture[str]) -> None:
    binding.write_text(BINDING.replace("SLNV", "SLVN"), encoding="utf-8")
    assert run("fusemax-attention", "--data", str(binding)) == 0
    assert capsys.readouterr().err == "validate: attn-binding.csv: no suite reads the columns SLVN\n"


def test_a_wrong_figure_exits_with_1(binding: Path, capsys: pytest.CaptureFixture[str]) -> None:
    binding.write_text(BINDING.replace("0.00134", "0.00135"), encoding="utf-8")
    assert run("fusemax-attention", "--data", str(binding)) == 1
    assert "4 of 5 claims hold" in capsys.readouterr().out


def test_a_file_serves_several_suites_of_its_columns(binding: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fusemax-attention", "fusemax-cycle", "--data", str(binding)) == 0
    printed = capsys.readouterr().out
    assert "fusemax-cycle" in printed


CLOSED_FORMS = [suite for suite in suites() if suite.name != "fusemax-cycle" and not suite.more]  # one file each


# these take seconds or minutes
SLOW = ("spatten-", "claims", "mapping-texts", "models", "flat-search", "fusemax-energy-physical")


@pytest.mark.parametrize("suite", [
    pytest.param(suite, id=suite.name, marks=[pytest.mark.slow] if suite.name.startswith(SLOW) else [])
    for suite in CLOSED_FORMS
])  # fmt: skip
def test_a_suites_own_table_is_a_valid_file_for_it(suite: Suite, tmp_path: Path) -> None:
    """In any file name: a column or a comment says what the name does not."""
    copy = tmp_path / "x.csv"
    copy.write_bytes((resources.files("cascadesim.validation") / "published" / suite.data).read_bytes())
    own, other = own_data(suite), read_table(copy, suite.layout, suite.parse)
    assert [row.cells for row in other.rows] == [row.cells for row in own.rows]
    assert (other.comments, other.left_out) == (own.comments, own.left_out)
    if not suite.name.startswith(SLOW):
        assert [each.errors for each in verdicts_of((suite.name,))] == [
            each.errors for each in verdicts_of((suite.name,), copy)]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("fusemax-atention",), "no suite 'fusemax-atention'; did you mean 'fusemax-attention'?"),
        (("fusemax-attention", "--data", "absent.csv"), "absent.csv: cannot be read: No such file or directory"),
        (("--data", "absent.csv"), "--data needs a suite"),
        (("--format", "yaml"), "'yaml'"),
    ],
)
def test_bad_input_is_one_line_and_exits_with_2(
    arguments: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert complaint in printed.err
    assert len(printed.err.splitlines()) == 1


def test_all_problems_of_a_file_are_located(binding: Path, capsys: pytest.CaptureFixture[str]) -> None:
    binding.write_text(BINDING.replace("T5,1K", "T9,1Q"), encoding="utf-8")
    assert run("fusemax-attention", "--data", str(binding)) == 2
    first, second = capsys.readouterr().err.splitlines()
    place = "validate: attn-binding.csv, line 3"
    assert first == f"{place}, column 'workload': no workload 'T9'; known: bert, t5, trxl, xlm"
    assert second.startswith(f"{place}, column 'sequence_length': expected a length")


def test_the_names_of_the_suites_are_cheap_to_ask_for() -> None:
    assert "flat-dataflow" in suite_names()


def test_a_picture_says_what_was_written_and_appears_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "errors.svg"
    assert run("fusemax-pareto", "--plot", str(target)) == 0
    assert capsys.readouterr().err == f"wrote {target} (1 panel)\n"
    assert target.read_text(encoding="utf-8").startswith("<?xml")
    assert list(tmp_path.iterdir()) == [target]
    assert run("fusemax-pareto", "--plot", str(tmp_path / "errors.pdf")) == 2
    assert run("fusemax-pareto", "--plot", str(tmp_path / "nowhere" / "errors.png")) == 2
    assert "no folder" in capsys.readouterr().err.splitlines()[-1]
