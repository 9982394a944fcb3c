"""Suites of measurements: without a record they say so and have not passed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cascadesim.validation import records
from cascadesim.validation.cli import suite_names, validate
from cascadesim.validation.records import RECORD_SUITES, divided, not_judged


@pytest.fixture
def _no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "record_files", tuple)


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


def test_records_that_nothing_compares_are_no_pass_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "record_files", lambda: (Path("h100.jsonl"),))
    assert "not passed" in not_judged("kernels-measured")


def test_all_are_listed() -> None:
    assert set(RECORD_SUITES) <= set(suite_names())
    assert divided(()) == ((), tuple(RECORD_SUITES))
    assert divided(("fusemax-linear", "gna-kernels")) == (("fusemax-linear",), ("gna-kernels",))
