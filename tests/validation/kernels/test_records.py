"""Suites of measurements: without a record they say so and have not passed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation.cli import suite_names, validate
from cascadesim.validation.kernels import records
from cascadesim.validation.kernels.records import RECORD_SUITES, Records, divided


@pytest.fixture
def _no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "own_records", lambda: Records(()))


@pytest.mark.usefixtures("_no_records")
@pytest.mark.parametrize("name", RECORD_SUITES)
def test_a_suite_without_records_has_not_passed(name: str) -> None:
    result = CliRunner().invoke(validate, [name])
    assert result.exit_code == 1
    assert f"{name}: no records, so not passed" in result.output
    assert ("measure --counters" in result.output) == (name in ("spatten-kernels", "cascade-passes"))


@pytest.mark.usefixtures("_no_records")
def test_beside_other_suites_it_is_named_and_not_counted() -> None:
    result = CliRunner().invoke(validate, ["kernels-static", "gna-kernels", "--format", "json"])
    assert result.exit_code == 0
    assert "gna-kernels: no records" in result.output
    assert '"suite": "gna-kernels"' not in result.output


def test_records_that_nothing_compares_are_no_pass_either() -> None:
    assert "not passed" in Records((Path("h100.jsonl"),), ({"schema": ""},)).not_judged("kernels-measured")


def test_the_predictions_of_before_are_judged_first() -> None:
    assert next(iter(RECORD_SUITES)) == "kernels-predicted"


def test_a_folder_or_a_file_can_be_judged_in_place_of_what_ships(tmp_path: Path) -> None:
    record = {"schema": "cascadesim.measurement/2", "suite": "decode", "case": "c", "device": {"name": "none"},
              "shape": {"B": 1, "H": 1, "G": 1, "M": 1, "D": 1}, "work": {"bytes": 1}, "timing": {}}  # fmt: skip
    (tmp_path / "h100").mkdir()
    (tmp_path / "h100" / "a.jsonl").write_text(json.dumps(record) + "\n{\n")
    for place in (tmp_path, tmp_path / "h100" / "a.jsonl"):
        result = CliRunner().invoke(validate, ["kernels-measured", "--data", str(place)])
        assert result.exit_code == 1
        assert result.output.splitlines() == [
            "validate: a.jsonl: line 2 left out: no JSON object",
            "validate: kernels-measured: 1 files of records, but nothing to hold against them, so not passed",
        ]


@pytest.mark.parametrize(("suites", "line"), [
    (["kernels-measured"], "no file of records (.jsonl) there"),
    (["kernels-measured", "fusemax-linear"], "fusemax-linear compares a table and kernels-measured records"),
])  # fmt: skip
def test_data_that_cannot_be_judged_is_one_line(tmp_path: Path, suites: list[str], line: str) -> None:
    result = CliRunner().invoke(validate, [*suites, "--data", str(tmp_path / "none.jsonl")])
    assert isinstance(result.exception, CascadeSimError)
    assert line in str(result.exception)


def test_all_are_listed() -> None:
    assert set(RECORD_SUITES) <= set(suite_names())
    assert divided(()) == ((), tuple(RECORD_SUITES))
    assert divided(("fusemax-linear", "gna-kernels")) == (("fusemax-linear",), ("gna-kernels",))
