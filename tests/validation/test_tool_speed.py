"""From a benchmark's file to the figures that are kept: no host, no path, the fastest first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation import tool_speed

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
    assert tool_speed.summary(RUN) == {
        "date": "2026-01-02", "python": "3.12.1", "cores": 2,
        "tools": [
            {"tool": "fast", "version": "1.2", "designs_per_s": 1234567.0, "one_design": "many"},
            {"tool": "slow", "version": "", "designs_per_s": 0.456, "one_design": "one"},
        ],
    }  # fmt: skip


def test_the_table_of_a_run() -> None:
    lines = tool_speed.markdown(tool_speed.summary(RUN)).splitlines()
    assert "2 cores, Python 3.12.1, 2026-01-02" in lines[0]
    assert lines[-2:] == ["| fast 1.2 | 1,200,000 | many |", "| slow | 0.46 | one |"]


def test_the_stored_run_has_no_host_and_no_path() -> None:
    stored = tool_speed.stored()
    assert set(stored) == {"date", "python", "cores", "tools"}
    assert {"cascadesim", "plain Python loop"} <= {tool["tool"] for tool in stored["tools"]}
    assert "/" not in json.dumps(stored)


@pytest.mark.parametrize(("run", "said"), [
    ({}, "it lacks 'benchmarks'"), ({**RUN, "benchmarks": []}, "names a tool"), ([], "expected what pytest"),
])  # fmt: skip
def test_other_files_are_refused(run: Any, said: str) -> None:
    with pytest.raises(CascadeSimError, match=said):
        tool_speed.summary(run)


def test_errors_are_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").write_text("{}", encoding="utf-8")
    assert tool_speed.main([str(tmp_path / "run.json")]) == 2
    assert tool_speed.main([str(tmp_path / "absent.json")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
