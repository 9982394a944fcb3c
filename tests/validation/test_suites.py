"""Comparing rows with a model: errors, what holds, and what must never pass."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError, UnknownNameError
from cascadesim.validation.claim import Cell, Claim, PredictedFigures, Settings, Suite, errors
from cascadesim.validation.claims.published import SUITES
from cascadesim.validation.fusemax.layouts import length
from cascadesim.validation.suites import (
    calibrations,
    cited_source,
    compare,
    declared,
    find_suites,
    own_data,
    refuse_overlap,
    suites,
)
from cascadesim.validation.table import Column, Layout, Row, Table, parse_table, positive

FUSEMAX_ATTENTION, FUSEMAX_LINEAR = find_suites(["fusemax-attention", "fusemax-linear"])

LAYOUT = Layout(
    (Column("model", str), Column("n", length), Column("latency_s", positive, required=False)), ("model", "n")
)
TEXT = "model,n,latency_s\na,1K,1.0\na,2K,2.0\nb,1K,4.0\n"


def linear_model(row: Row, settings: Settings) -> PredictedFigures:
    """1 s for each 1K of model a (exact), 4.4 s for b (10 % above the table)."""
    return {"latency_s": row.count("n") / 1024 if row.get("model") == "a" else 4.4}


def suite(*claims: Claim) -> Suite:
    return Suite("toy", "", LAYOUT, linear_model, claims, ("model",))


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
    def refuses(row: Row, settings: Settings) -> PredictedFigures:
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


FITTED_LAYOUT = Layout((Column("model", str), Column("n", length), Column("latency_s", positive)), ("model", "n"))


def calibrated(comment: str) -> Table:
    return parse_table(f"# {comment}\nmodel,n,latency_s\na,1K,1.0\na,2K,2.0\nb,2K,4.0\n", FITTED_LAYOUT, "toy.csv")


def test_a_claim_that_scores_a_fitted_cell_is_refused() -> None:
    fitted = calibrated("calibration: latency_s where model=a n=2K")
    marks = declared(fitted, FITTED_LAYOUT, "toy.csv")
    refuse_overlap("latency of a, short", False, [(fitted.rows[0], "latency_s")], marks)
    refuse_overlap("latency of b", False, [(fitted.rows[2], "latency_s")], marks)
    with pytest.raises(SpecError, match=r"toy\.csv, line 4, column 'latency_s': declared as calibration"):
        refuse_overlap("latency", False, [(row, "latency_s") for row in fitted.rows], marks)


def test_a_check_of_the_fit_may_not_hide_evidence() -> None:
    fitted = calibrated("calibration: latency_s where model=a n=2K")
    with pytest.raises(SpecError, match="not declared as calibration"):
        refuse_overlap("fit", True, [(fitted.rows[0], "latency_s")], declared(fitted, FITTED_LAYOUT, "toy.csv"))


@pytest.mark.parametrize(
    ("comment", "wrong"),
    [
        ("calibration: latency_s", "expected COLUMN"),
        ("calibration: speed where model=a", "no column 'speed'"),
        ("calibration: latency_s where length=2K", "'length=2K' is no COLUMN=VALUE"),
        ("calibration: latency_s where n=many", "expected a length"),
    ],
)
def test_a_declaration_that_names_nothing_is_refused(comment: str, wrong: str) -> None:
    with pytest.raises(SpecError, match=wrong):
        declared(calibrated(comment), FITTED_LAYOUT, "toy.csv")


def test_the_unfused_refetch_factor_is_calibrated_on_its_rows_of_256k_and_1m() -> None:
    """The factor was fitted to traffic; latency and utilization of those rows follow from it, their energy does not."""
    marks = calibrations(FUSEMAX_ATTENTION, own_data(FUSEMAX_ATTENTION))
    fitted = {(row.get("architecture"), row.get("sequence_length"))
              for row in own_data(FUSEMAX_ATTENTION).rows for mark in marks if mark.covers(row, "traffic_bytes")}
    assert fitted == {("unfused", 2**18), ("unfused", 2**20)}
    assert not any(mark.covers(row, "energy_pj") for row in own_data(FUSEMAX_ATTENTION).rows for mark in marks)


def test_the_suites_traffic_claim_leaves_the_fitted_rows_out() -> None:
    traffic = next(claim for claim in FUSEMAX_ATTENTION.claims if claim.metric == "traffic_bytes")
    check = next(claim for claim in FUSEMAX_ATTENTION.claims if claim.fitted)
    rows = own_data(FUSEMAX_ATTENTION).rows
    evidence, fitted = ({row.line for row in rows if claim.selects(row)} for claim in (traffic, check))
    assert not evidence & fitted
    assert evidence | fitted == {row.line for row in rows}


def test_the_marks_of_a_suite_bind_a_file_without_marks() -> None:
    text = "model,seq_len,traffic_B,latency_s,energy_pJ,util_2d,util_1d,\nT5,256K,1,1,1,0.5,0.5\n"
    other = parse_table(text, FUSEMAX_ATTENTION.layout, "attn-unfused.csv")
    (mark,) = calibrations(FUSEMAX_ATTENTION, other)
    assert mark.covers(other.rows[0], "traffic_bytes")


def test_a_suite_is_found_by_name() -> None:
    assert find_suites(["fusemax-linear"]) == (FUSEMAX_LINEAR,)


def test_no_name_means_all_and_the_tables_of_other_modules_follow() -> None:
    assert find_suites([]) == suites()
    assert suites()[: len(SUITES)] == SUITES


def test_an_unknown_name_is_refused_with_a_guess() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'flat-dataflow'"):
        find_suites(["flat-dataflows"])


def test_a_source_is_the_file_and_what_it_cites() -> None:
    cited = cited_source(FUSEMAX_LINEAR, own_data(FUSEMAX_LINEAR), None)
    assert cited.startswith("fusemax-linear.csv: FuseMax (MICRO 2024) artifact")


def test_the_linear_layers_have_no_calibration() -> None:
    assert calibrations(FUSEMAX_LINEAR, own_data(FUSEMAX_LINEAR)) == ()
