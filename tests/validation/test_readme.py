"""The README's tables: the errors that the suites find today, the speed of the run that is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation.readme import (
    ERRORS,
    SPEED,
    main,
    markdown,
    marks,
    speed_table,
    speeds_of,
    stored_speeds,
    with_table,
)
from cascadesim.validation.suites import verdicts_of

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = marks(ERRORS)


def test_the_table_replaces_what_is_between_the_marks() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_table(text, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert with_table(with_table(text, "new"), "new") == with_table(text, "new")


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_file_without_exactly_one_pair_of_marks_is_refused(text: str) -> None:
    with pytest.raises(CascadeSimError, match="expected one line"):
        with_table(text, "new")


def test_each_table_has_marks_of_its_own() -> None:
    first, last = marks(SPEED)
    text = f"{BEGIN}\nerrors\n{END}\n{first}\nold\n{last}\n"
    assert with_table(text, "new", SPEED) == f"{BEGIN}\nerrors\n{END}\n{first}\nnew\n{last}\n"


def test_the_readme_has_the_stored_speeds() -> None:
    """If not: python -m cascadesim.validation.readme README.md"""
    text = README.read_text(encoding="utf-8")
    assert with_table(text, speed_table(stored_speeds()), SPEED) == text


@pytest.mark.slow
def test_the_readme_is_up_to_date() -> None:
    """If not: python -m cascadesim.validation.readme README.md"""
    text = README.read_text(encoding="utf-8")
    assert with_table(text, markdown(verdicts_of(()))) == text


def test_a_file_that_cannot_be_rewritten_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["absent.md"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


RUN: dict[str, Any] = {
    "datetime": "2026-01-02T03:04:05.678+00:00",
    "machine_info": {"node": "a-host", "python_version": "3.12.1", "cpu": {"count": 2, "brand_raw": "a CPU"}},
    "benchmarks": [
        {"fullname": "a/path", "extra_info": {}},
        {"fullname": "a/path", "extra_info": {"tool": "slow", "version": "", "designs_per_s": 0.456,
                                              "one_design": "one"}},
        {"fullname": "a/path", "extra_info": {"tool": "fast", "version": "1.2", "designs_per_s": 1234567.0,
                                              "one_design": "many", "cores": 2}},
    ],
}  # fmt: skip


def test_what_is_kept_of_a_run() -> None:
    assert speeds_of(RUN) == {
        "date": "2026-01-02", "python": "3.12.1", "cores": 2,
        "tools": [
            {"tool": "fast", "version": "1.2", "designs_per_s": 1234567.0, "one_design": "many"},
            {"tool": "slow", "version": "", "designs_per_s": 0.456, "one_design": "one"},
        ],
    }  # fmt: skip


def test_the_table_of_a_run() -> None:
    lines = speed_table(speeds_of(RUN)).splitlines()
    assert "2 cores, Python 3.12.1, 2026-01-02" in lines[0]
    assert lines[-2:] == ["| fast 1.2 | 1,200,000 | many |", "| slow | 0.46 | one |"]


def test_the_stored_run_has_no_host_and_no_path() -> None:
    stored = stored_speeds()
    assert set(stored) == {"date", "python", "cores", "tools"}
    assert {"cascadesim", "plain Python loop"} <= {tool["tool"] for tool in stored["tools"]}
    assert "/" not in json.dumps(stored)


@pytest.mark.parametrize(("run", "said"), [
    ({}, "it lacks 'benchmarks'"), ({**RUN, "benchmarks": []}, "names a tool"), ([], "expected what pytest"),
])  # fmt: skip
def test_other_files_are_refused(run: Any, said: str) -> None:
    with pytest.raises(CascadeSimError, match=said):
        speeds_of(run)


def test_errors_are_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    assert main(["--speed", str(tmp_path / "run.json")]) == 2
    assert main(["--speed", str(tmp_path / "absent.json")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
