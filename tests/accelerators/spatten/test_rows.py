"""Rows of a trace become heads: the harness's bits, latencies drawn in row order, what the design lacks is located."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.spatten.head_stream import GatherDesign, HeadRow
from cascadesim.accelerators.spatten.randomness import JavaRandom
from cascadesim.accelerators.spatten.rows import buffer_lines, head_rows, head_stream
from cascadesim.accelerators.spatten.topk import drawn_cycles
from cascadesim.einsum_cascades.notation.errors import SpecError, UnknownNameError
from cascadesim.einsum_cascades.sparsity.pruning_trace import TracedHead

EIGHTH = GatherDesign(64, 2048, 2, 4, 1)
FULL = GatherDesign(512, 256, 16, 32, 8, count_multiple=32)
ROW = TracedHead(0, 0, 0, length=100, keys=80, values=24, key_bits=8, value_bits=8, line=2)


def problem(*rows: TracedHead, design: GatherDesign = EIGHTH) -> list[str]:
    with pytest.raises(SpecError) as caught:
        head_rows(rows, design, source="rows.csv")
    return str(caught.value).splitlines()


def test_a_row_becomes_a_head() -> None:
    latency = drawn_cycles(80, 24, 16, JavaRandom(1))
    assert head_rows([ROW], EIGHTH) == (HeadRow(0, 80, 24, 8, 8, False, latency),)


@pytest.mark.parametrize("bits", [None, 10, 12])
def test_wide_keys_run_as_eight_bits_and_always_fetch_the_low_bits(bits: int | None) -> None:
    (head,) = head_rows([replace(ROW, key_bits=bits, value_bits=bits)], EIGHTH)
    assert (head.key_bits, head.value_bits, head.low_bits) == (8, 8, True)


@pytest.mark.parametrize("low", [False, True])
def test_narrow_keys_fetch_the_low_bits_where_the_trace_says(low: bool) -> None:
    (head,) = head_rows([replace(ROW, key_bits=4, value_bits=4, low_bits=low)], EIGHTH)
    assert (head.key_bits, head.value_bits, head.low_bits) == (4, 4, low)


def test_latencies_share_one_generator_in_row_order() -> None:
    draw = JavaRandom(1)
    rows = [replace(ROW, values=values) for values in (10, 80, 40)]  # drawn also where all values are kept
    assert [head.selection_cycles for head in head_rows(rows, EIGHTH, topk_parallelism=4)] == [
        drawn_cycles(80, values, 4, draw) for values in (10, 80, 40)
    ]


def test_the_second_head_of_a_pair_draws_nothing() -> None:
    six, draw = replace(ROW, key_bits=6, value_bits=6), JavaRandom(1)
    assert [head.selection_cycles for head in head_rows([six, six, ROW], EIGHTH)] == [
        drawn_cycles(80, 24, 16, draw),
        0,
        drawn_cycles(80, 24, 16, draw),
    ]


def test_bits_that_the_format_lacks_are_refused() -> None:
    assert problem(replace(ROW, key_bits=5, value_bits=16)) == [
        "rows.csv: line 2: quant_key_bit 5: the design has 4, 6, 8 bits (10, 12 and -1 run as 8)",
        "rows.csv: line 2: quant_value_bit 16: the design has 4, 6, 8 bits (10, 12 and -1 run as 8)",
    ]


def test_as_traced_wide_bits_are_refused() -> None:
    with pytest.raises(SpecError, match="quant_key_bit 12"):
        head_rows([replace(ROW, key_bits=12)], EIGHTH, bits="traced")
    with pytest.raises(UnknownNameError, match="no bit policy 'harnes'; did you mean 'harness'"):
        head_rows([ROW], EIGHTH, bits="harnes")


def test_six_bit_heads_come_in_pairs() -> None:
    alone = "rows.csv: line 2: a head with 6-bit keys or values is alone; they are fetched in pairs"
    other = "rows.csv: line 3: the second of two 6-bit heads must have the keys, values and bits of the first"
    six, six_values = replace(ROW, key_bits=6), replace(ROW, value_bits=6)
    assert problem(six, six, six) == problem(six, ROW) == problem(six_values) == [alone]
    assert problem(six, replace(six, values=23, line=3)) == problem(six, replace(six_values, line=3)) == [other]
    assert len(head_rows([six, six, six_values, six_values], EIGHTH)) == 4


def test_a_stream_gathers_as_many_keys_as_its_longest_head_has() -> None:
    stream = head_stream([ROW, replace(ROW, keys=90)], EIGHTH)
    assert len(stream.rows) == 2
    assert len(stream.gathered) == 96  # 90 in multiples of 8, and of the 4 fetch channels


def test_a_head_larger_than_the_buffer_never_starts() -> None:
    """A line of 64 elements holds one vector, of 512 eight; a pair of 6-bit heads needs both heads' lines."""
    large = replace(ROW, length=3000, keys=2049)
    assert problem(large) == ["rows.csv: line 2: key_fetch_num 2049 needs 2056 buffer lines, the buffer has 2048"]
    six = replace(ROW, length=3000, keys=1025, key_bits=6, value_bits=6)
    assert problem(six, six)[0] == "rows.csv: line 2: key_fetch_num 1025 needs 2064 buffer lines, the buffer has 2048"
    assert problem(large, design=FULL)[0].endswith("2049 needs 260 buffer lines, the buffer has 256")
    assert head_rows([replace(large, keys=2048)], FULL)


def test_other_head_sizes_and_several_queries_are_refused() -> None:
    assert problem(replace(ROW, head_dim=32, queries=4)) == [
        "rows.csv: line 2: embedding_length_D 32: the design multiplies heads of 64",
        "rows.csv: line 2: queries 4: the design takes one query a row",
    ]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 2048), st.sampled_from((4, 6, 8)), st.sampled_from((EIGHTH, FULL)))
def test_buffer_lines_are_even_and_hold_the_vectors(vectors: int, bits: int, design: GatherDesign) -> None:
    lines = buffer_lines(vectors, bits, design)
    heads = 2 if bits == 6 else 1
    assert lines % (2 * heads) == 0
    assert (
        heads * vectors
        <= lines * design.vectors_per_line
        < heads * (vectors + design.count_multiple + 2 * design.vectors_per_line)
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 300))
def test_many_draws_at_once_are_the_same_draws(count: int) -> None:
    one, other = JavaRandom(9), JavaRandom(9)
    assert one.integers(count).tolist() == [other.integer() for _ in range(count)]
    assert one.below(7) == other.below(7)
