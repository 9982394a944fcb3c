"""Published figures of neighborhood attention: how a row is read, what is left out and why, what fails a claim."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.simulator.gna.neighborhood import dense_s
from cascadesim.validation.claim import Verdict
from cascadesim.validation.gna.paper import COLUMNS
from cascadesim.validation.suites import calibrations, compare, declared, find_suites, own_data
from cascadesim.validation.table import Table

GNA_MEASURED, GNA_PAPER = find_suites(["gna-measured", "gna-paper"])

FLUX = {
    "source": "by hand", "use_case": "FLUX.1-dev 4K; dense-attention steps 9/28", "gpu": "B200", "dtype": "fp16",
    "token_layout": "256x256", "window": "80x80", "stride": "16x16", "dilation": "1x1", "causal": "none",
    "q_tile": "16x16", "kv_tile": "16x8", "metric": "end-to-end speedup, simulator bound", "value": "1.46",
    "unit": "x", "certainty": "certain",
}  # fmt: skip
HUNYUAN = {
    **FLUX, "use_case": "HunyuanVideo; b=1 h=24 d=128; blackwell-fna", "token_layout": "30x48x80",
    "window": "18x24x24", "stride": "16x8x8", "dilation": "1x1x1", "q_tile": "4x8x8", "kv_tile": "2x8x8",
    "metric": "attention kernel runtime", "value": "13.01", "unit": "ms",
}  # fmt: skip
DENSE = {**HUNYUAN, "window": "30x48x80", "stride": "1x1x1", "use_case": "HunyuanVideo; b=1 h=24 d=128; cuDNN dense"}


def file_of(*rows: dict[str, str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, (*COLUMNS, "value"))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def paper(*rows: dict[str, str]) -> Table:
    return GNA_PAPER.parse(file_of(*rows), GNA_PAPER.layout, "rows.csv")


def measured(*rows: dict[str, str]) -> Table:
    return GNA_MEASURED.parse(file_of(*rows), GNA_MEASURED.layout, "rows.csv")


def judged(table: Table) -> list[Verdict]:
    suite = GNA_MEASURED if any(row.get("device") for row in table.rows) else GNA_PAPER
    return list(compare(suite, table, "rows.csv", calibrations(suite, table)))


def test_a_bound_printed_without_decimals_keeps_one() -> None:
    """65536 of 6400 tokens: 65536 x 65536 pairs over 65536 x 6400 is 10.24, and 10.2 is what a paper rounds further."""
    row = {**FLUX, "metric": "attention speedup, FLOP-wise bound", "value": "10"}
    (verdict,) = judged(paper(row))
    assert verdict.worst.predicted == 10.2


def test_flux_end_to_end_by_hand() -> None:
    """Bound 32768/... = 10.24 -> 10.2; 0.518 x 19/28 of the run: 1 / (1 - 0.3515 + 0.3515 / 10.2) = 1.464."""
    (verdict,) = judged(paper(FLUX))
    assert verdict.holds
    assert verdict.worst.predicted == pytest.approx(1 / (1 - 0.3515 + 0.3515 / 10.2), abs=1e-3)


def test_a_hundredth_more_than_printed_fails() -> None:
    (verdict,) = judged(paper({**FLUX, "value": "1.48"}))
    assert not verdict.holds


@pytest.mark.parametrize("certainty", ["config-unclear", "uncertain-definition", "lower-bound (paper says > 99%)"])
def test_uncertain_rows_are_counted_and_never_judged(certainty: str) -> None:
    table = paper(FLUX, {**FLUX, "certainty": certainty, "value": "9"})
    assert len(table.rows) == 1
    assert table.left_out == ((certainty.split(" ")[0], 1),)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"metric": "VBench total"}, "not analytical"),
        ({"q_tile": ""}, "no tile shape"),
        ({"use_case": "Wan; dense-attention steps 1/2"}, "no share"),
        ({"use_case": "HunyuanVideo"}, "how many steps"),
    ],
)
def test_what_cannot_be_judged_says_why(change: dict[str, str], reason: str) -> None:
    ((why, count),) = paper(FLUX, {**FLUX, **change}).left_out
    assert reason in why
    assert count == 1


def test_a_file_without_a_row_to_judge_is_refused_with_the_reasons() -> None:
    with pytest.raises(SpecError, match="no row that can be judged: 1 because its metric is not analytical"):
        paper({**FLUX, "metric": "VBench total"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": "fast"}, "'value': expected a number, got 'fast'"),
        ({"window": "80xx80"}, "'window': expected sizes"),
        ({"causal": "sometimes"}, "'causal': expected none"),
        ({"window": "80x300"}, "window 300 is larger than the layout 256"),
    ],
)
def test_a_wrong_cell_names_line_and_column(change: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=f"rows.csv, line 3: .*{message}"):
        paper(FLUX, {**FLUX, **change})


def test_the_known_exceptions_are_reported_and_not_judged() -> None:
    verdicts = judged(paper({**HUNYUAN, "use_case": "HunyuanVideo; dense-attention steps 0/50", "unit": "x",
                             "metric": FLUX["metric"], "stride": "18x24x24", "value": "2.06"}))  # fmt: skip
    assert [verdict.judged for verdict in verdicts] == [False]


def test_the_dense_time_comes_from_the_file_before_ours_and_from_the_model_last() -> None:
    def dense_time(*rows: dict[str, str]) -> tuple[object, object]:
        (row,) = measured(*rows).rows
        return row.get("dense_time"), row.get("baseline_s")

    assert dense_time(HUNYUAN, {**DENSE, "value": "100"}) == ("same file", 0.1)
    assert dense_time(HUNYUAN) == ("packaged data", 0.135265)
    other = {**HUNYUAN, "use_case": "HunyuanVideo; b=1 h=12 d=128; blackwell-fna"}
    assert dense_time(other) == ("dense model", dense_s("b200", 115200, 115200, 12, 128, 1))


def test_a_kernel_on_another_device_or_backend_is_left_out() -> None:
    table = measured(HUNYUAN, {**HUNYUAN, "gpu": "A100"}, {**HUNYUAN, "use_case": "x; b=1 h=24 d=128; flex-fna"})
    reasons = {why.removeprefix("no time constants for ") for why, _ in table.left_out}
    assert reasons == {"A100", "flex-fna on B200"}


def test_open_tiles_are_the_fastest_legal_ones() -> None:
    """Of NATTEN's two H100 shapes only 2x8x8 makes this pattern block-sparse."""
    (row,) = measured({**HUNYUAN, "gpu": "H100", "use_case": "x; b=1 h=24 d=128", "q_tile": "", "kv_tile": ""}).rows
    assert (row.get("q_tile"), row.get("tiles"), row.get("kernel")) == ("2x8x8", "chosen", "block-sparse")
    (row,) = measured({**HUNYUAN, "gpu": "H100", "use_case": "x; b=1 h=24 d=128", "q_tile": "4x4x8 or 2x8x8",
                       "kv_tile": "4x4x8 or 2x8x8"}).rows  # fmt: skip
    assert row.get("q_tile") == "2x8x8"


def test_a_kernel_that_gave_a_constant_scores_nothing_in_a_users_file_either() -> None:
    flux = {**FLUX, "use_case": "FLUX.1-dev 4K; b=1 h=24 d=128; blackwell-fna", "metric": "attention kernel runtime",
            "value": "4.114", "unit": "ms"}  # fmt: skip
    verdicts = judged(measured(HUNYUAN, flux))
    scored = {verdict.claim.fitted: verdict.errors.rows for verdict in verdicts if verdict.judged}
    assert scored == {False: 1, True: 1}


def test_a_claim_that_would_score_calibration_is_refused() -> None:
    careless = replace(GNA_MEASURED.claims[0], unless={})
    table = own_data(GNA_MEASURED)
    with pytest.raises(SpecError, match="declared as calibration, so 'kernel speedup over measured dense attention'"):
        compare(replace(GNA_MEASURED, claims=(careless,)), table, "own", calibrations(GNA_MEASURED, table))


def test_three_kernels_a_device_are_calibration_and_the_others_are_not() -> None:
    table = own_data(GNA_MEASURED)
    assert len(declared(table, GNA_MEASURED.layout, "own")) == 3
    kernels = [row for row in table.rows if row.get("kind") == "kernel"]
    assert sum(row.get("calibration") == "yes" for row in kernels) == 6
    assert sum(row.get("calibration") == "no" for row in kernels) == 7


def test_a_device_with_other_constants_fails() -> None:
    slow = {**HUNYUAN, "value": "25"}
    assert not all(verdict.holds for verdict in judged(measured(slow)))
