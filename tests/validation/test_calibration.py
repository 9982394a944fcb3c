"""What a constant was fitted to may not score the model."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.calibration import declared, refuse_overlap
from cascadesim.validation.claims.fusemax import FUSEMAX_ATTENTION
from cascadesim.validation.columns import Column, Layout, length, positive
from cascadesim.validation.suites import calibrations, own_data
from cascadesim.validation.table import Table, parse_table

LAYOUT = Layout((Column("model", str), Column("n", length), Column("latency_s", positive)), ("model", "n"))


def table(comment: str) -> Table:
    return parse_table(f"# {comment}\nmodel,n,latency_s\na,1K,1.0\na,2K,2.0\nb,2K,4.0\n", LAYOUT, "toy.csv")


def test_a_claim_that_scores_a_fitted_cell_is_refused() -> None:
    fitted = table("calibration: latency_s where model=a n=2K")
    marks = declared(fitted, LAYOUT, "toy.csv")
    refuse_overlap("latency of a, short", False, [(fitted.rows[0], "latency_s")], marks)
    refuse_overlap("latency of b", False, [(fitted.rows[2], "latency_s")], marks)
    with pytest.raises(SpecError, match=r"toy\.csv, line 4, column 'latency_s': declared as calibration"):
        refuse_overlap("latency", False, [(row, "latency_s") for row in fitted.rows], marks)


def test_a_check_of_the_fit_may_not_hide_evidence() -> None:
    fitted = table("calibration: latency_s where model=a n=2K")
    with pytest.raises(SpecError, match="not declared as calibration"):
        refuse_overlap("fit", True, [(fitted.rows[0], "latency_s")], declared(fitted, LAYOUT, "toy.csv"))


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
        declared(table(comment), LAYOUT, "toy.csv")


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
