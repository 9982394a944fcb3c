"""The collected file as rows of ours: cells as above, figures under two ids, the file that is written."""

from __future__ import annotations

from io import StringIO

import pytest
from collected_file import NAMES, one, read, written
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.systems.clean import clean, main, write_clean
from cascadesim.validation.systems.rows import parse_ledger

# ---- several rows ---------------------------------------------------------------------------------------------------


def test_as_above_is_what_the_last_row_of_the_device_says() -> None:
    first, _, third = read(
        {"model": "a model", "dtype": "fp16"}, {"device": "iPhone 12", "dtype": "fp32", "value": "1.0"},
        {"model": "as above", "dtype": "as above", "source": "same, table 2", "value": "2.0"},
    ).rows  # fmt: skip
    assert (third.model, third.dtype, third.source) == (first.model, "fp16", "a paper, table 2")
    assert one(mechanism="dense, same as above").mechanism == "dense, same as above"


def test_as_above_with_nothing_above_is_empty() -> None:
    assert one(model="as above").model == ""


def test_a_row_without_a_figure_is_left_out_with_its_reason_and_the_others_stay() -> None:
    found = read({"value": "O(n^1.5 d)"}, {"value": "3.0"})
    assert found.dropped == (("some-01", "no number: O(n^1.5 d)"),)
    assert [row.id for row in found.rows] == ["some-02"]


def test_rows_of_a_system_stand_together_in_the_order_of_the_file() -> None:
    found = read({"value": "1"}, {"system": "Other", "value": "2"}, {"value": "3"})
    assert [row.id for row in found.rows] == ["some-01", "some-03", "some-02"]


FULL = {"model": "Llama-2-7B shape", "heads": "32", "seq_len": "8192", "value": "0.586"}
AGAIN = {"model": "Llama-2-7B", "value": "0.5859", "source": "another", "certainty": "partial: device", "device": ""}


def test_one_figure_under_two_ids_is_one_row_the_fuller_one_which_names_the_other() -> None:
    (row,) = read(AGAIN, FULL).rows
    assert (row.id, row.value, row.note) == ("some-02", 0.586e-3, "also some-01")


def test_one_figure_under_three_ids_names_both_others() -> None:
    third = {**AGAIN, "source": "a third"}
    for place, rows in ((2, (AGAIN, FULL, third)), (3, (AGAIN, third, FULL))):
        (row,) = read(*rows).rows
        assert row.id == f"some-{place:02}"
        assert sorted(row.note.split("; ")) == [f"also some-{other:02}" for other in (1, 2, 3) if other != place]


@pytest.mark.parametrize(
    "other",
    [
        {"source": "a paper"},  # a source prints each figure once
        {"value": "0.5852"},  # further off than the print
        {"seq_len": "4096"}, {"heads": "16"}, {"model": "Llama-3-8B"}, {"device": "A100", "certainty": "partial"},
        {"mechanism": "dense"}, {"phase": "bwd"}, {"system": "Other"},
        {"quantity": "speedup", "unit": "x"},
    ],
)  # fmt: skip
def test_rows_that_differ_in_anything_both_state_are_two_figures(other: dict[str, str]) -> None:
    assert len(read(FULL, {**AGAIN, **other}).rows) == 2


def test_budgets_in_tokens_are_part_of_the_configuration() -> None:
    budgets = [{**FULL, "mechanism": "top-k 512 tokens"}, {**AGAIN, "mechanism": "budget 512 tokens: 2 dense layers"}]
    assert len(read(*budgets).rows) == 1
    assert len(read(budgets[0], {**budgets[1], "mechanism": "budget 1024 tokens"}).rows) == 2


def test_a_size_that_a_row_is_not_sure_of_contradicts_nothing() -> None:
    assert len(read(FULL, {**AGAIN, "heads": "16", "certainty": "partial: heads and device"}).rows) == 1


def test_an_abstract_names_the_model_loosely_and_never_replaces_a_row() -> None:
    headline = {"value": "14.7", "quantity": "speedup", "unit": "x", "model": "our model", "certainty": "abstract only"}
    table = {**headline, "model": "Vicuna-7B", "source": "table 1", "certainty": "partial: batch"}
    (row,) = read(headline, table).rows
    assert (row.id, row.role) == ("some-02", "mechanism")


def test_wide_ranges_that_overlap_are_two_figures() -> None:
    first = {"quantity": "speedup", "unit": "x", "value": "1.10-1.35", "certainty": "partial"}
    assert len(read(first, {**first, "value": "1.35", "source": "another"}).rows) == 2


# ---- the whole file -------------------------------------------------------------------------------------------------


def test_every_problem_of_a_file_is_told_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        read({"value": ""}, {"system": ""}, {})
    assert len(caught.value.problems) == 2
    assert "line 2, column 'value': empty" in str(caught.value)


def test_a_file_without_the_columns_is_refused() -> None:
    with pytest.raises(SpecError, match="no column 'value'"):
        clean("system,claim_id,quantity\nSome,some-01,speedup\n", "some.csv")


def test_the_script_writes_a_file_that_reads_as_the_same_rows(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("claims")
    (folder / "raw.csv").write_text(written(FULL, AGAIN, {"value": "O(n)"}, {"seq_len": "224x224"}), encoding="utf-8")
    main([str(folder / "raw.csv"), str(folder / "clean.csv")])
    text = (folder / "clean.csv").read_text(encoding="utf-8")
    assert text.startswith("# Source: raw.csv")
    assert parse_ledger(text, "clean.csv") == clean((folder / "raw.csv").read_text(encoding="utf-8"), "raw.csv")


_WORDS = st.text("abxK0159 .,;:%()/-+>~\"'", max_size=12)
_CELLS = st.fixed_dictionaries(
    {name: _WORDS for name in NAMES if name not in ("system", "claim_id", "quantity", "value")}
    | {"value": st.sampled_from(["1", "2.5", "1-3", "4 / 5", "~7", "O(n)", "up to 3", "9e-3", "-1"]),
       "unit": st.sampled_from(["ms", "x", "% faster", "x attention / e2e", "sparsity", "GB", "so many"]),
       "certainty": st.sampled_from(["exact", "partial: heads", "abstract only", "", "exact (read from chart, +-0.1)"]),
       "system": st.sampled_from(["Some", "SQA", "PBS-Attn"]), "quantity": st.sampled_from(["speedup", "latency_ms"])}
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(_CELLS, min_size=1, max_size=6))
def test_cleaning_a_clean_file_changes_nothing_and_no_row_is_lost(rows: list[dict[str, str]]) -> None:
    found = read(*rows)
    stream = StringIO()
    write_clean(found, "some.csv", stream)
    if found.rows:
        assert parse_ledger(stream.getvalue(), "again.csv") == found
    told = [row.id for row in found.rows] + [row.note for row in found.rows] + [name for name, _ in found.dropped]
    assert all(any(f"some-{place:02}" in text for text in told) for place in range(1, len(rows) + 1))
