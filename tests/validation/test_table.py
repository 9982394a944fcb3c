"""Reading tables of figures: every problem named and located."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.validation.fusemax.layouts import ATTENTION, fraction, length
from cascadesim.validation.table import Column, Layout, count, parse_table, positive, read_table

LAYOUT = Layout(
    (
        Column("workload", str, ("model",)),
        Column("sequence_length", length, ("seq_len",)),
        Column("latency_s", positive),
        Column("share", fraction, required=False),
    ),
    ("workload", "sequence_length"),
)


def test_a_row_becomes_named_typed_values() -> None:
    (row,) = parse_table("# Source: me\nmodel,seq_len,latency_s,share\nbert,64K,0.5,\n", LAYOUT, "t.csv").rows
    assert (row.text("workload"), row.count("sequence_length")) == ("bert", 65536)
    assert (row.number("latency_s"), row.number("share")) == (0.5, None)
    assert row.place == "t.csv, line 3"


def test_comments_are_kept_and_unread_columns_named() -> None:
    table = parse_table("# Source: me\nmodel,seq_len,latency_s,colour\nbert,1K,1,red\n", LAYOUT, "t.csv")
    assert table.comments == ("Source: me",)
    assert table.unread_columns == ("colour",)


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_table(text, LAYOUT, "t.csv")
    return list(caught.value.problems)


def test_all_problems_of_a_file_come_at_once() -> None:
    assert problems("model,seq_len,latency_s\nbert,1Q,1\nbert,1K,fast\nbert,0,-1\nbert,2K,1,2\n") == [
        "t.csv, line 2, column 'sequence_length': expected a length such as 4096, 64K or 1M, got '1Q'",
        "t.csv, line 3, column 'latency_s': expected a number, got 'fast'",
        "t.csv, line 4, column 'sequence_length': expected a length such as 4096, 64K or 1M, got '0'",
        "t.csv, line 4, column 'latency_s': expected a finite number of at least 0, got '-1'",
        "t.csv, line 5: 1 cells more than the header has columns",
    ]


def test_a_missing_column_is_named_with_what_is_expected() -> None:
    first, *_, last = problems("model,seq_len,latency\nbert,1K,1\n")
    assert first == "t.csv, line 1: no column 'latency_s' (is it 'latency'?)"
    assert last == "t.csv, line 1: expected the columns workload, sequence_length, latency_s, [share]"


def test_a_row_given_twice_would_count_twice() -> None:
    assert problems("model,seq_len,latency_s\nbert,1K,1\nbert,1024,2\n") == [
        "t.csv, line 3: (bert, 1024) was given in line 2 already"
    ]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "holds no table"),
        ("# only a comment\n", "holds no table"),
        ("model,seq_len,latency_s\n", "holds a header and no rows"),
        ("model,seq_len,latency_s\nbert,,1\n", "column 'sequence_length': empty"),
        ("model,seq_len,latency_s,model\nbert,1K,1,bert\n", "two columns give 'workload'"),
        ("model,seq_len,latency_s\nbert,1K,0\n", "expected a number above 0"),
        ("model,seq_len,latency_s\nbert,1K,inf\n", "expected a finite number"),
        ("model,seq_len,latency_s,share\nbert,1K,1,1.5\n", "between 0 and 1"),
        ('model,seq_len,latency_s\n"bert"x,1K,1\n', "not CSV"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, wrong: str) -> None:
    assert any(wrong in problem for problem in problems(text))


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        read_table(tmp_path / "absent.csv", LAYOUT)
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        read_table(tmp_path, LAYOUT)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00model")
    with pytest.raises(SpecError, match="not UTF-8 text"):
        read_table(tmp_path / "binary.csv", LAYOUT)


@pytest.mark.parametrize(("text", "positions"), [("4096", 4096), ("64K", 65536), ("256k", 262144), ("1M", 1048576)])
def test_lengths_are_written_in_powers_of_1024(text: str, positions: int) -> None:
    assert length(text) == positions


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "K", "1G", "٣", "1" * 30, str(2**40 + 1)])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        count(text)


@given(st.text())
def test_no_text_gives_a_traceback(text: str) -> None:
    for source in (text, f"model,seq_len,traffic_B,latency_s,energy_pJ,util_2d,util_1d\n{text}"):
        with suppress(CascadeSimError):
            parse_table(source, ATTENTION, "attn-flat.csv")
