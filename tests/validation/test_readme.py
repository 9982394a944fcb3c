"""The generated tables of the pages: the errors that the suites find today, the speed of the run that is stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation.claim import Cell, Claim, Suite, Verdict, default_verdict
from cascadesim.validation.gpu import ledger
from cascadesim.validation.gpu.verdict import judge
from cascadesim.validation.readme import (
    ERRORS,
    NUMBERS,
    PAGES,
    SPEED,
    SUMMARY,
    SUMMARY_ROWS,
    families_table,
    main,
    markdown,
    marks,
    rewrite,
    speed_table,
    speeds_of,
    stored_speeds,
    together,
    with_table,
)
from cascadesim.validation.suites import suites, verdicts_of
from cascadesim.validation.table import Layout, Row, Table

ROOT = Path(__file__).parents[2]
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


def page(name: str) -> str:
    return (ROOT / PAGES[name]).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_of_numbers_has_every_number_as_it_is() -> None:
    assert with_table(page(NUMBERS), ledger.page(), NUMBERS) == page(NUMBERS)


def test_the_page_has_the_stored_speeds() -> None:
    """If not: python -m cascadesim.validation.readme"""
    assert with_table(page(SPEED), speed_table(stored_speeds()), SPEED) == page(SPEED)


@pytest.mark.slow
def test_every_claim_of_every_suite_holds_and_the_pages_are_up_to_date() -> None:
    """If not: python -m cascadesim.validation.readme. One test, since judging all suites takes a minute."""
    verdicts = verdicts_of(())
    assert {verdict.suite for verdict in verdicts} == {suite.name for suite in suites()}
    assert {f"{verdict.suite}: {verdict.claim.name}": f"{verdict.errors.maximum:.2e} at {verdict.worst}"
            for verdict in verdicts if not verdict.holds} == {}  # fmt: skip
    assert with_table(page(ERRORS), markdown(verdicts), ERRORS) == page(ERRORS)
    assert with_table(page(SUMMARY), families_table(verdicts), SUMMARY) == page(SUMMARY)
    without = [verdict for verdict in verdicts if verdict.suite != "gpu-mla"]
    with pytest.raises(CascadeSimError, match="names a claim that gpu-mla does not have"):
        families_table(without)


def summary_rows() -> list[list[str]]:
    first, last = marks(SUMMARY)
    lines = page(SUMMARY).partition(first)[2].partition(last)[0].strip().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_summary_has_at_most_twelve_lines_and_the_readme_two_screens() -> None:
    assert len(summary_rows()) <= 12
    assert [row[0] for row in summary_rows()[2:]] == [family.name for family in SUMMARY_ROWS]
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def test_the_summary_names_claims_that_are_there_scores_no_fit_and_reports_what_is_not_judged() -> None:
    claims = {(suite.name, claim.name): claim for suite in suites() for claim in suite.claims}
    for family in SUMMARY_ROWS:
        assert not any(claims[pair].fitted for pair in family.claims)
        for _, suite, claim in family.reported:
            assert claims[suite, claim].tolerance is None
            assert not claims[suite, claim].fitted
        for pair in family.claims:  # a row that nothing judges says so
            assert claims[pair].tolerance is not None or any(pair == tuple(one[1:]) for one in family.reported)


def test_a_row_of_one_claim_says_what_the_long_table_says() -> None:
    long = [[cell.strip() for cell in line.strip("|").split("|")] for line in page(ERRORS).splitlines()]
    shown: dict[tuple[str, str], list[str]] = {}
    suite = ""
    for cells in long:
        if len(cells) == 9:
            suite = cells[0].strip("`") or suite
            shown[suite, cells[1]] = [cells[2], cells[4], cells[5]]
    single = [(family, row) for family, row in zip(SUMMARY_ROWS, summary_rows()[2:], strict=True)
              if len(family.claims) == 1]  # fmt: skip
    assert len(single) >= 3
    for family, row in single:
        assert row[1:4] == shown[family.claims[0]]


def verdict_of(errors: list[float], stratum: str | None = None, gpu: bool = False) -> Verdict:
    """A claim on rows of 1.0, predicted that much above."""
    cells = [Cell(Row((("stratum", stratum),), "a file", line), "x", 1.0, 1 + error)
             for line, error in enumerate(errors, start=1)]  # fmt: skip
    suite = Suite("suite", "a file", Layout((), ()), lambda row, settings: {}, (), (), lambda *_: Table((), ()))
    return (judge if gpu else default_verdict)(suite, Claim("claim", "x", 0.1, "so"), "a file", cells)


def test_claims_together_count_each_cell_alike() -> None:
    """Of 9 errors of 0.25 and one of 0.5 the median and the ninth tenth are 0.25, of 8 and two the latter is 0.5."""
    assert together([verdict_of([0.25] * 9), verdict_of([0.5])]) == (0.25, 0.25)
    assert together([verdict_of([0.25] * 8), verdict_of([0.5] * 2)]) == (0.25, 0.5)


def test_the_median_of_claims_together_is_the_smallest_error_that_half_are_within() -> None:
    assert together([verdict_of([0.125] * 5), verdict_of([0.25] * 5)]) == (0.125, 0.25)


def test_a_claim_by_itself_has_the_errors_that_it_states() -> None:
    """Of two errors the median is their mean."""
    assert together([verdict_of([0.25, 0.5])]) == (0.375, 0.5)


def test_claims_on_gpus_together_count_each_stratum_alike() -> None:
    """30 rows of one stratum weigh as much as the 10 of each of two others, whose errors are 0.5."""
    many, few, fewer = (verdict_of([error] * rows, name, gpu=True)
                        for error, rows, name in ((0.25, 30, "a"), (0.5, 10, "b"), (0.5, 10, "c")))  # fmt: skip
    assert together([many, few, fewer]) == (0.5, 0.5)
    assert together([many]) == (0.25, 0.25)


@pytest.mark.slow
def test_nothing_is_written_unless_every_page_has_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    for name, path in PAGES.items():
        (tmp_path / path).write_text("\n".join(marks(name)) if name != SPEED else "no marks", encoding="utf-8")
    monkeypatch.setattr("cascadesim.validation.readme.verdicts_of", lambda _: ())
    monkeypatch.setattr("cascadesim.validation.readme.families_table", lambda _: "new")
    with pytest.raises(CascadeSimError, match="expected one line"):
        rewrite(tmp_path)
    assert (tmp_path / PAGES[SUMMARY]).read_text(encoding="utf-8") == "\n".join(marks(SUMMARY))
    (tmp_path / PAGES[SPEED]).write_text("\n".join(marks(SPEED)), encoding="utf-8")
    rewrite(tmp_path)
    assert "new" in (tmp_path / PAGES[SUMMARY]).read_text(encoding="utf-8")


def test_a_file_that_cannot_be_rewritten_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["absent"]) == 2
    assert main(["one", "two"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


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
