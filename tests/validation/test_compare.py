"""Comparing rows with a model: errors, what holds, and what must never pass."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.validation.claim import Claim, Prediction, Settings, Suite
from cascadesim.validation.columns import Column, Layout, length, positive
from cascadesim.validation.compare import Cell, compare, errors
from cascadesim.validation.table import Row, Table, parse_table

LAYOUT = Layout(
    (Column("model", str), Column("n", length), Column("latency_s", positive, required=False)), ("model", "n")
)
TEXT = "model,n,latency_s\na,1K,1.0\na,2K,2.0\nb,1K,4.0\n"


def linear_model(row: Row, settings: Settings) -> Prediction:
    """1 s for each 1K of model a (exact), 4.4 s for b (10 % above the table)."""
    return {"latency_s": row.count("n") / 1024 if row.get("model") == "a" else 4.4}


def suite(*claims: Claim) -> Suite:
    return Suite("toy", "", "", LAYOUT, linear_model, claims, ("model",))


def table(text: str = TEXT) -> Table:
    return parse_table(text, LAYOUT, "toy.csv")


LATENCY = Claim("latency", "latency_s", 0.2, "toy")


def test_a_claim_is_judged_by_its_largest_error() -> None:
    (verdict,) = compare(suite(LATENCY), table(), "toy.csv", ())
    assert verdict.holds
    assert verdict.errors.rows == 3
    assert verdict.errors.maximum == pytest.approx(0.1)
    assert verdict.errors.mean == pytest.approx(0.1 / 3)  # two exact rows and one of 10 %
    assert verdict.errors.median == 0
    assert verdict.worst.row.get("model") == "b"
    assert verdict.worst.ratio == pytest.approx(1.1)


def test_a_smaller_tolerance_refuses_it() -> None:
    (verdict,) = compare(suite(replace(LATENCY, tolerance=0.05)), table(), "toy.csv", ())
    assert not verdict.holds


def test_strata_split_the_errors_by_the_values_of_a_column() -> None:
    (verdict,) = compare(suite(LATENCY), table(), "toy.csv", ())
    assert [(part.column, part.value) for part in verdict.strata] == [("model", "a"), ("model", "b")]
    assert [part.errors.rows for part in verdict.strata] == [2, 1]
    assert [part.errors.maximum for part in verdict.strata] == [0, pytest.approx(0.1)]


def test_a_claim_speaks_of_the_rows_it_selects() -> None:
    only_a = replace(LATENCY, where={"model": ("a",)})
    without_a = replace(LATENCY, unless={"model": ("a",)})
    first, second = compare(suite(only_a, without_a), table(), "toy.csv", ())
    assert (first.errors.rows, second.errors.rows) == (2, 1)


def test_what_is_excepted_must_agree_in_every_column() -> None:
    one_row = replace(LATENCY, unless={"model": ("a",), "n": (1024,)})
    (verdict,) = compare(suite(one_row), table(), "toy.csv", ())
    assert verdict.errors.rows == 2


def test_a_claim_without_a_tolerance_is_reported_and_not_judged() -> None:
    (verdict,) = compare(suite(replace(LATENCY, tolerance=None)), table(), "toy.csv", ())
    assert verdict.holds
    assert not verdict.judged


def test_one_sided_claims_count_their_side_only() -> None:
    below, above = (replace(LATENCY, measure=measure, tolerance=0.0) for measure in ("shortfall", "excess"))
    first, second = compare(suite(below, above), table(), "toy.csv", ())
    assert first.holds  # b is predicted above, never below
    assert second.errors.maximum == pytest.approx(0.1)


def test_a_figure_that_the_model_lacks_fails_the_claim() -> None:
    silent = replace(suite(LATENCY), predict=lambda row, settings: {})
    (verdict,) = compare(silent, table(), "toy.csv", ())
    assert verdict.errors.maximum == math.inf
    assert not verdict.holds


def test_empty_cells_are_not_compared() -> None:
    (verdict,) = compare(suite(LATENCY), table("model,n,latency_s\na,1K,\na,2K,2.0\n"), "toy.csv", ())
    assert verdict.errors.rows == 1


def test_rows_of_which_no_claim_speaks_are_refused() -> None:
    with pytest.raises(SpecError, match=r"x\.csv: no claim of toy speaks of any row"):
        compare(suite(replace(LATENCY, where={"model": ("c",)})), table(), "x.csv", ())


def test_every_row_that_cannot_be_predicted_is_named() -> None:
    def refuses(row: Row, settings: Settings) -> Prediction:
        raise CascadeSimError(f"no model {row.get('model')}")

    with pytest.raises(SpecError) as caught:
        compare(replace(suite(LATENCY), predict=refuses), table(), "toy.csv", ())
    assert str(caught.value).splitlines() == [
        "toy.csv, line 2: no model a", "toy.csv, line 3: no model a", "toy.csv, line 4: no model b",
    ]  # fmt: skip


def cell(measured: float, predicted: float | None) -> Cell:
    return Cell(Row((), "toy.csv", 1), "x", measured, predicted)


def test_zero_against_zero_is_exact_and_something_against_zero_is_not() -> None:
    assert cell(0, 0).error("deviation") == 0
    assert cell(0, 1).error("deviation") == math.inf


@given(st.floats(1e-12, 1e12), st.floats(1e-12, 1e12))
def test_a_deviation_is_the_shortfall_plus_the_excess(measured: float, predicted: float) -> None:
    subject = cell(measured, predicted)
    assert subject.error("deviation") == subject.error("shortfall") + subject.error("excess")


@given(st.lists(st.floats(0.5, 2.0), min_size=1, max_size=20))
def test_mean_and_median_never_exceed_the_largest_error(ratios: list[float]) -> None:
    found = errors([cell(1.0, ratio) for ratio in ratios], "deviation")
    assert found.median <= found.maximum
    assert found.mean <= found.maximum * (1 + 1e-12)
