"""The format of pruning traces: the published columns, one row a head, every problem located."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.einsum_cascades.sparsity.pruning_trace import (
    TracedHead,
    format_rows,
    parse_rows,
    read_rows,
    write_rows,
)

# Lines of mit-han-lab/spatten's workload files (MIT licence): GPT-2 small on WikiText-2, pruned, and a dense one.
PUBLISHED = """\
iteration_id,layer_id,head_id,embedding_length_D,sentence_length_L,key_fetch_num,quant_key_bit,quant_query_bit,\
auto_requant_thres,if_requant,auto_requant_incre,value_fetch_num,quant_value_bit,if_accumulate_importance,\
if_rescale_previous_importance,if_topk,topk
0,0,0,64.0,993,993,6,16,0.05,True,4,204,6,True,False,False,-1
25,11,11,64.0,1018,102,6,16,0.05,False,4,20,6,True,True,True,921
0,0,0,64.0,993,993,-1,-1,-1,False,-1,993,-1,False,False,False,-1
configs/gpt2/wikitext2/gpt2_pp11.yml,,,,,,,,,,,,,,,,
"""
HEADER = PUBLISHED.splitlines()[0]
SHORT = "iteration_id,layer_id,head_id,key_fetch_num,value_fetch_num,quant_key_bit,quant_value_bit,if_requant"


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_rows(text, "rows.csv")
    return list(caught.value.problems)


def test_a_published_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(PUBLISHED)
    first, last, dense = read_rows(path)
    assert first == TracedHead(0, 0, 0, 993, 993, 204, 6, 6, 16, 64, 0.05, True, 4)
    assert (last.kept, last.rescales, last.line) == (921, True, 3)
    assert (dense.key_bits, dense.value_bits, dense.threshold, dense.accumulates) == (None, None, None, False)


def test_what_is_written_is_the_published_text() -> None:
    assert format_rows(parse_rows(PUBLISHED, "rows.csv")).splitlines() == PUBLISHED.splitlines()[:-1]


def test_columns_that_no_model_needs_may_be_absent() -> None:
    (row,) = parse_rows(f"{SHORT},note\n0,1,2,30,10,8,8,False,mine\n", "rows.csv")
    assert row == TracedHead(0, 1, 2, length=30, keys=30, values=10, key_bits=8, value_bits=8)


def test_rows_of_one_token() -> None:
    assert [row.layer for row in parse_rows(PUBLISHED, "rows.csv") if row.iteration == 25] == [11]


def test_every_problem_of_a_file_has_its_line() -> None:
    assert problems(f"{SHORT}\n0,0,0,10,20,8,8,False\n0,0,x,10,5,0,8,maybe\n0,0,1,10,5,8\n0,0,1,10,-1,8,8,False") == [
        "rows.csv: line 2: value_fetch_num 20 is above key_fetch_num 10",
        "rows.csv: line 3: head_id: expected a whole number from 0, got 'x'",
        "rows.csv: line 3: quant_key_bit: expected a whole number from 1, or -1, got '0'",
        "rows.csv: line 3: if_requant: expected True or False, got 'maybe'",
        "rows.csv: line 4: 2 fewer cells than columns",
        "rows.csv: line 5: value_fetch_num: expected a whole number from 1, got '-1'",
    ]


def test_a_long_list_of_problems_is_cut_and_counted() -> None:
    with pytest.raises(SpecError) as caught:
        parse_rows(SHORT + "\n0,0,0,10,20,8,8,False" * 25, "rows.csv")
    shown = str(caught.value).splitlines()
    assert shown[0] == "rows.csv: line 2: value_fetch_num 20 is above key_fetch_num 10"
    assert shown[-1] == f"... and {25 - (len(shown) - 1)} more problems"


def test_a_misspelt_column_is_not_taken_for_absent() -> None:
    assert problems(HEADER.replace("sentence_length_L", "sentense_length_L") + "\n") == [
        "rows.csv: line 1: unknown column 'sentense_length_L'; did you mean 'sentence_length_L'?"]


def test_a_needed_column_is_asked_for() -> None:
    assert "rows.csv: line 1: no column 'value_fetch_num'" in problems(SHORT.replace("value_fetch_num", "v") + "\n")


def test_a_column_that_stands_twice_is_refused() -> None:
    assert problems(f"{SHORT},layer_id\n") == ["rows.csv: line 1: column 'layer_id' stands twice"]


@pytest.mark.parametrize("row", [
    "0,0,0,64.0,9,10,8,16,-1,False,-1,5,8,True,False,False,-1",  # more keys than tokens
    "0,0,0,64.0,90,10,8,16,-1,False,-1,5,8,True,False,True,-1",  # a choice of how many?
    "0,0,0,64.5,90,10,8,16,-1,False,-1,5,8,True,False,False,-1",  # half a dimension
    "0,0,0,64.0,90,10,8,16,1.5,False,-1,5,8,True,False,False,-1",  # no probability
    "0,0,0,64.0,90,10,8,16,nan,False,-1,5,8,True,False,False,-1",
    "0,0,0,64.0,90,1e400,8,16,-1,False,-1,5,8,True,False,False,-1",
    "configs/mine.yml,0,0,64.0,90,10,8,16,-1,False,-1,5,8,True,False,False,-1",  # no comment: the rest is filled
])  # fmt: skip
def test_a_row_that_means_nothing_is_refused(row: str) -> None:
    assert len(problems(f"{HEADER}\n{row}\n")) == 1


@pytest.mark.parametrize("text", ["", "\n", SHORT, f"{SHORT}\n,,,,,,,\n", "\x00", 'a,"b'])
def test_a_file_without_rows_is_refused(text: str) -> None:
    assert problems(text)


def test_a_file_that_cannot_be_read_gets_one_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        read_rows(tmp_path / "nowhere.csv")
    (tmp_path / "rows.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="not UTF-8 text"):
        read_rows(tmp_path / "rows.csv")


OPTIONAL_BITS = st.none() | st.integers(1, 16)
HEADS = st.integers(1, 1024).flatmap(lambda keys: st.builds(
    TracedHead,
    iteration=st.integers(0, 31), layer=st.integers(0, 23), head=st.integers(0, 15),
    length=st.integers(keys, 2048), keys=st.just(keys), values=st.integers(1, keys),
    key_bits=OPTIONAL_BITS, value_bits=OPTIONAL_BITS, query_bits=OPTIONAL_BITS, head_dim=st.integers(1, 256),
    threshold=st.none() | st.floats(0, 1), low_bits=st.booleans(), low_bit_width=OPTIONAL_BITS,
    accumulates=st.booleans(), rescales=st.booleans(), kept=st.none() | st.integers(1, 1024),
    queries=st.integers(4, 8), low_bit_queries=st.none()))  # fmt: skip


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(HEADS, min_size=1, max_size=4))
def test_what_is_written_is_read_back(rows: list[TracedHead]) -> None:
    assert parse_rows(format_rows(rows), "rows.csv") == tuple(rows)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200) | st.text("0123456789,.-\nTrue", max_size=200).map(lambda text: f"{SHORT}\n{text}"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_rows(text, "rows.csv")
    except SpecError as error:
        assert str(error).startswith("rows.csv: ")  # noqa: PT017


def test_queries_that_use_low_bits_are_some_of_them() -> None:
    header = f"{SHORT},queries,low_bit_queries"
    given = ("0,0,0,9,9,8,8,True,9,4", "0,0,1,9,9,8,8,True,9,-1", "0,0,2,9,9,8,8,False,9,0")
    rows = parse_rows("\n".join([header, *given]), "rows.csv")
    assert [row.repeated_queries for row in rows] == [4, 9, 0]
    assert parse_rows(format_rows(rows), "rows.csv") == rows
    assert problems(f"{header}\n0,0,0,9,9,8,8,True,9,10\n0,0,1,9,9,8,8,False,9,1\n") == [
        "rows.csv: line 2: low_bit_queries 10 is above the 9 queries",
        "rows.csv: line 3: low_bit_queries 1 is above 0, as if_requant is False"]


def test_rows_are_written_to_a_file(tmp_path: Path) -> None:
    rows = (TracedHead(0, 0, 0, 8, 8, 4, queries=8),)
    write_rows(rows, tmp_path / "rows.csv")
    assert read_rows(tmp_path / "rows.csv") == rows
