"""The RTL's harness: gathered keys, rows of a trace as heads and on the machine, what the design lacks is located."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.protocol import Plan
from cascadesim.accelerators.spatten.accelerator import Heads, Spatten
from cascadesim.accelerators.spatten.harness import buffer_lines, gathered_keys, head_rows
from cascadesim.accelerators.spatten.rtl.run import run_heads
from cascadesim.accelerators.spatten.spec import GatherDesign, HeadRow
from cascadesim.accelerators.spatten.topk import JavaRandom, drawn_cycles
from cascadesim.einsum_cascades.models.traced import TracedWorkload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.einsum_cascades.sparsity.pruning_schedules import published_schedule
from cascadesim.einsum_cascades.sparsity.pruning_trace import PruningTrace, TracedHead, encoder_rows, token_rows

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


def test_six_bit_heads_come_in_pairs() -> None:
    alone = "rows.csv: line 2: a head with 6-bit keys or values is alone; they are fetched in pairs"
    other = "rows.csv: line 3: the second of two 6-bit heads must have the keys, values and bits of the first"
    six, six_values = replace(ROW, key_bits=6), replace(ROW, value_bits=6)
    assert problem(six, six, six) == problem(six, ROW) == problem(six_values) == [alone]
    assert problem(six, replace(six, values=23, line=3)) == problem(six, replace(six_values, line=3)) == [other]
    assert len(head_rows([six, six, six_values, six_values], EIGHTH)) == 4


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


def test_the_first_lines_of_two_fetch_channels() -> None:
    """Initial content of the public RTL's score buffer (scala.util.Random, seed 1)."""
    assert gathered_keys(12, 2, 2048) == (0, 3, 2, 5, 4, 6, 6, 9, 9, 10, 10, 11)


@given(st.sampled_from([1, 2, 4, 8, 32]), st.integers(1, 40), st.integers(0, 31))
def test_a_line_is_half_of_its_window_in_order(channels: int, lines: int, short: int) -> None:
    """A last line that is begun is gathered whole."""
    found = gathered_keys(lines * channels - short % channels, channels, 1 << 20)
    assert len(found) == lines * channels
    for first in range(0, len(found), channels):
        line = found[first : first + channels]
        assert list(line) == sorted(set(line))
        assert first <= line[0]
        assert line[-1] < first + 2 * channels


@pytest.mark.parametrize("channels", [4, 32])
def test_keys_wrap_at_the_largest(channels: int) -> None:
    assert set(gathered_keys(40 * channels, channels, 64)) <= set(range(64))


def planned(*rows: TracedHead, settings: tuple[str, ...] = ()) -> Plan:
    machine = load("spatten-1-8", settings)
    assert isinstance(machine, Spatten)
    operations = TracedWorkload("gpt-2-small", PruningTrace("rows.csv", rows)).operations()
    own, work = machine.prepared(operations, "gpt-2-small")
    assert work == operations  # whatever the schedule of a model: the rows stay
    return own.plan(work[0], "physical")


def test_single_queries_run_as_the_rows_say() -> None:
    """64 transactions of 8 bits: 2 reads a key and value, in multiples of 8."""
    (phase,) = planned(ROW, replace(ROW, low_bits=True)).phases
    assert phase.model is not None
    model = phase.model()
    assert isinstance(model, Heads)
    (stream,) = model.streams()
    assert [(row.keys, row.values, row.key_bits, row.low_bits) for row in stream.rows] == [
        (80, 24, 8, False), (80, 24, 8, True)]
    assert phase.traffic.read_bytes == 32 * (2 * (2 * 80 + 2 * 24) + 80)
    assert phase.analytical_cycles <= run_heads(stream).cycles


def test_a_published_iteration_is_planned_whole() -> None:
    rows = token_rows(published_schedule("gpt-2-small"), 994)
    plan = planned(*rows)
    assert plan.phases[0].model is not None
    model = plan.phases[0].model()
    assert isinstance(model, Heads)
    (stream,) = model.streams()  # none is cut
    assert len(stream.rows) == 144
    assert plan.mapping[0] == "pruned as the trace says"


def test_several_queries_run_over_each_load() -> None:
    (phase,) = planned(*encoder_rows(published_schedule("bert-base"), 64)).phases
    assert phase.program is not None
    assert phase.program().busy_cycles()["QK"] > 0


def test_low_bits_cost_the_queries_that_use_them() -> None:
    """One load of 64 keys of 8 bits: a line each, of 16 queries of which 4 score twice."""
    row = TracedHead(0, 0, 0, 64, 64, 64, 8, 8, low_bits=True, queries=16, low_bit_queries=4)
    (phase,) = planned(row).phases
    assert phase.program is not None
    assert phase.program().busy_cycles()["QK"] == 64 * (16 + 4)


def test_what_the_machine_cannot_take_is_located() -> None:
    with pytest.raises(SpecError, match=r"rows\.csv: line 2: quant_key_bit 5"):
        planned(replace(ROW, key_bits=5))
    with pytest.raises(SpecError) as caught:
        planned(replace(ROW, queries=2), replace(ROW, key_bits=4, line=3), replace(ROW, length=9999, keys=2049, line=4))
    assert str(caught.value).splitlines() == [
        "rows.csv: line 3: rows with several queries run in one format, got 4/8 bits after 8/8",
        "rows.csv: line 4: key_fetch_num 2049 exceeds the buffer of 2048 keys",
    ]


def test_what_a_trace_decides_is_not_set_again() -> None:
    with pytest.raises(CascadeSimError, match=r"rows\.csv: a trace says itself what is kept; leave pruning\."):
        planned(ROW, settings=("pruning.token_keep=0.5",))
