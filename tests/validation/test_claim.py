"""The table of claims: each line becomes a claim over its suite's table, and a line that names nothing is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation import claim
from cascadesim.validation.kernels.record_claims import JUDGED
from cascadesim.validation.suites import suite_names
from cascadesim.validation.table import Column, Layout, Row, members, parse_table, positive

HEADER = "suite,claim,tolerance,because,metric,columns,where,unless,measure,gate,kind\n"
TOY = Layout((Column("model", str), Column("n", int), Column("latency_s", positive)), ("model", "n"))


def stated(monkeypatch: pytest.MonkeyPatch, line: str) -> tuple[claim.Claim, ...]:
    rows = parse_table(HEADER + line, claim._CLAIMS, "claims.csv").rows
    monkeypatch.setattr(claim, "_stated", lambda: rows)
    return claim.claims_of("toy", TOY)


def test_a_line_is_a_claim_and_what_it_leaves_out_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = stated(monkeypatch, "toy,it is fast,0.1,a toy,latency_s,,,,,,\n")
    assert found == claim.Claim("it is fast", "latency_s", 0.1, "a toy")
    assert found.scored_columns == ("latency_s",)


def test_rows_are_chosen_by_values_as_the_table_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = stated(monkeypatch, "toy,some,,a toy,time,latency_s n,model=a|b; n=4,model=c,excess,median,listed\n")
    assert found.where == {"model": ("a", "b"), "n": (4,)}
    assert found.selects(Row((("model", "b"), ("n", 4)), "toy.csv", 1))
    assert not found.selects(Row((("model", "b"), ("n", 5)), "toy.csv", 1))
    assert (found.tolerance, found.columns, found.unless) == (None, ("latency_s", "n"), {"model": ("c",)})
    assert (found.measure, found.gate, found.fitted, found.listed) == ("excess", "median", False, True)


def test_claims_of_other_suites_are_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stated(monkeypatch, "other,it is fast,0.1,a toy,latency_s,,,,,,\n") == ()


@pytest.mark.parametrize(("line", "wrong"), [
    ("toy,some,0.1,a toy,latency_s,,colour=red,,,,\n", "'colour=red' is no COLUMN=VALUE"),
    ("toy,some,0.1,a toy,latency_s,,n=many,,,,\n", "invalid literal"),
    ("toy,some,0.1,a toy,latency_s,,,,surplus,,\n", "column 'measure': expected deviation, shortfall, excess"),
    ("toy,some,0.1,a toy,latency_s,,,,,widest,\n", "column 'gate': expected maximum"),
    ("toy,some,-1,a toy,latency_s,,,,,,\n", "column 'tolerance'"),
    ("toy,some,0.1,,latency_s,,,,,,\n", "column 'because': empty"),
    ("toy,some,0.1,a toy,x,,,,,,\ntoy,some,0.2,a toy,x,,,,,,\n", "was given in line 2 already"),
])  # fmt: skip
def test_a_line_that_names_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, line: str, wrong: str) -> None:
    with pytest.raises((ValueError, SpecError), match=wrong):
        stated(monkeypatch, line)


def test_every_line_of_the_table_that_ships_is_of_a_suite() -> None:
    assert {row.text("suite") for row in claim._stated()} == {*suite_names(), *JUDGED}


def test_rows_of_a_group_are_predicted_at_once_and_each_finds_its_own() -> None:
    asked = []

    def figures_of(rows: Sequence[Row], settings: claim.Settings) -> list[claim.PredictedFigures]:
        asked.append((len(rows), settings))
        return [{"line": row.line} for row in rows]

    predict = claim.together(figures_of)
    first, second, third = members([Row((), "toy.csv", line) for line in (7, 8, 9)])
    assert [predict(row, ["a=1"]) for row in (third, first, second)] == [{"line": 9}, {"line": 7}, {"line": 8}]
    assert predict(first, ()) == {"line": 7}
    assert asked == [(3, ("a=1",)), (3, ())]
    with pytest.raises(TypeError, match="stands alone"):
        predict(Row((), "toy.csv", 1), ())
