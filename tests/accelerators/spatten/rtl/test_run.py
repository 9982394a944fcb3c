"""Streams of heads: phases by hand, heads and streams of the public RTL, conservation and monotonicity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascadesim.accelerators.dram.commands import BANKS, RINGS, ROW
from cascadesim.accelerators.spatten.harness import gathered_keys
from cascadesim.accelerators.spatten.rtl.run import HeadSchedule, encoded, gathered, run_heads
from cascadesim.accelerators.spatten.rtl.snapshot import snapshot
from cascadesim.accelerators.spatten.rtl.state import (
    ACCEPT,
    BITS,
    CHOSEN_LANE,
    DONE,
    DONE_HEADS,
    LOADED,
    NEVER,
    READ_LINE,
    SLOTS,
    HeadPipeline,
    Ring,
    pipeline,
)
from cascadesim.accelerators.spatten.rtl.steady_state import run as loop
from cascadesim.accelerators.spatten.spec import GatherDesign, HeadRow, HeadStream
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

SMALL = GatherDesign(64, 2048, 2, 4, 1)  # the RTL's run script: an eighth of the memory channels
LARGE = GatherDesign(512, 256, 16, 32, 8, count_multiple=32)  # full size


def run(design: GatherDesign, *rows: HeadRow, rows_open: bool = False) -> HeadSchedule:
    stream = HeadStream(design, rows, rows_open=rows_open)
    keys = gathered_keys(stream.longest, design.fetch_channels, design.largest_keys)
    return run_heads(replace(stream, gathered=keys))


def head(number: int, keys: int, values: int, bits: int = 8, selection: int = 0, low: bool = False) -> HeadRow:
    return HeadRow(number, keys, values, bits, bits, low, selection)


def test_one_head_by_hand() -> None:
    """8 keys of 8 bits: 8 lines of one vector, 2 transactions each, for keys and values alike.

    First request 10 cycles after the accept, first answer 20 later (closed bank). The report comes 10 cycles after the
    last of 8 dot products; 32 reads in all.
    """
    found = run(SMALL, head(0, 8, 8))
    assert found.dram_reads.tolist() == [32]
    assert found.dot_product_lines.tolist() == [8]
    first_answer = 10 + 20
    assert found.report[0] > first_answer + 8 + 10
    assert found.done[0] > found.report[0] + 58  # report to first value response of the RTL, rows in conflict
    assert found.second_report[0] == -1


def test_a_line_of_values_waits_for_the_probabilities_of_all_its_vectors() -> None:
    """256 values on 8 softmax lanes are 32 beats, one a line; on one lane they are 256, one a cycle."""
    eight, one = (run(replace(LARGE, softmax_lanes=lanes), *(head(number, 256, 256) for number in range(4)))
                  for lanes in (8, 1))  # fmt: skip
    assert (one.done - one.report > 256).all()
    assert (eight.done - eight.report < 256).all()
    assert np.diff(one.done).min() >= 256  # a head after the other


@pytest.mark.parametrize(("multipliers", "lanes", "fetch"), [(512, 1, 8), (512, 4, 8), (512, 2, 2), (2048, 1, 2)])
def test_streams_end_whatever_the_lanes(multipliers: int, lanes: int, fetch: int) -> None:
    """Two lines of 32 vectors need 64 probabilities, of one each: more than 16 lines of two indexes."""
    narrow = GatherDesign(multipliers, 256, 16, fetch, lanes, count_multiple=64)
    assert (np.diff(run(narrow, *(head(number, 320, 320) for number in range(6))).done) > 0).all()


# RTL of mit-han-lab/spatten (a0f1388) under Verilator with ramulator2; one head at a time, behind others that left rows
# open: keys, values, bits, selection cycles, low bits, then report, second report and latency.
HEADS = [
    (SMALL, 1000, 1000, 8, 135, False, 2136, -1, 4274),
    (SMALL, 128, 32, 8, 58, False, 354, -1, 559),
    (SMALL, 1000, 250, 8, 225, False, 2136, -1, 2977),
    (SMALL, 512, 128, 8, 146, True, 1133, 1825, 2327),
    (SMALL, 512, 512, 4, 86, False, 693, -1, 1458),
    (LARGE, 256, 64, 8, 112, False, 161, -1, 394),
    (LARGE, 256, 256, 4, 39, False, 156, -1, 309),
]


@pytest.mark.parametrize(
    ("design", "keys", "values", "bits", "selection", "low", "report", "second", "latency"), HEADS
)
def test_heads_take_the_cycles_of_the_rtl(
    design: GatherDesign, keys: int, values: int, bits: int, selection: int, low: bool, report: int, second: int,
    latency: int,
) -> None:  # fmt: skip
    found = run(design, head(0, keys, values, bits, selection, low), rows_open=True)
    assert (found.report[0], found.second_report[0], found.latency[0]) == (report, second, latency)


# The same RTL, heads of equal keys and values back to back: when each has its result. The last ones of some streams
# are 5 to 10 cycles off; `cascadesim validate spatten-rtl-streams` has all of them.
STREAMS = [
    (SMALL, 128, [985, 1533, 2081, 2629, 3177, 3725, 4253]),
    (SMALL, 512, [3353, 5495, 7637, 9779, 11891, 13008]),
    (SMALL, 1000, [6359, 10514, 14644, 16759]),
    (LARGE, 128, [357, 533, 709, 890, 1071, 1252, 1433, 1554]),
    (LARGE, 512, [713, 1057, 1401, 1750, 2034]),
]


@pytest.mark.parametrize(("design", "keys", "done"), STREAMS)
def test_streams_take_the_cycles_of_the_rtl(design: GatherDesign, keys: int, done: list[int]) -> None:
    heads = max(len(done), {128: 8, 512: 6, 1000: 4}[keys])  # those left out still compete for DRAM
    found = run(design, *(head(number, keys, keys) for number in range(heads)), rows_open=True)
    assert found.done[: len(done)].tolist() == done


def test_rows_left_open_cost_a_precharge() -> None:
    """The first answer comes 27 cycles after its request where another row is open, 20 where none is (RTL)."""
    closed, opened = (run(SMALL, head(0, 8, 8), rows_open=rows_open) for rows_open in (False, True))
    assert opened.report[0] - closed.report[0] in (5, 10)  # 7, seen by reads that try again every 5 cycles


MIDDLE = GatherDesign(128, 1024, 2, 4, 2)
FOUR = GatherDesign(64, 2048, 4, 8, 1)  # beats wider than any group of the realigner
# The same RTL: pairs of 6-bit heads, each pair alone behind a head of 8 bits, whose two ports wrote to a bank each.
# Keys, values, selection cycles of the first; reports and latencies of both. The last one's second result is 7 off.
PAIRS = [
    (MIDDLE, 64, 32, 30, [299, 339], [536, 551]),
    (MIDDLE, 128, 128, 22, [541, 613], [1069, 1132]),
    (MIDDLE, 256, 128, 79, [980, 1116], [1589, 1652]),
    (LARGE, 256, 128, 79, [216, 256], [439, 454]),
    (FOUR, 512, 256, 143, [1013, 1533], [1717]),
]


@pytest.mark.parametrize(("design", "keys", "values", "selection", "reports", "latencies"), PAIRS)
def test_pairs_take_the_cycles_of_the_rtl(
    design: GatherDesign, keys: int, values: int, selection: int, reports: list[int], latencies: list[int]
) -> None:
    """Which port writes first where both want one bank, and when a beat may enter the realigner, show here."""
    rows = (head(0, 64, 64), head(1, keys, values, 6, selection), head(2, keys, values, 6))
    stream = HeadStream(design, rows, gap_cycles=200, rows_open=True)
    found = run_heads(replace(stream, gathered=gathered_keys(keys, design.fetch_channels, design.largest_keys)))
    assert (found.report - found.accept)[1:].tolist() == reports
    assert found.latency[1 : 1 + len(latencies)].tolist() == latencies


def test_a_pair_shares_its_fetch() -> None:
    """Two heads of 6 bits: 3 transactions for each pair of vectors; the second head's dot products come after."""
    found = run(SMALL, head(0, 64, 64, 6), head(1, 64, 64, 6))
    assert found.dram_reads[-1] == 2 * 3 * 64
    assert found.dot_product_lines.tolist() == [64, 128]
    assert found.report[1] >= found.report[0] + 64


def test_low_bits_cost_one_more_pass_over_the_keys() -> None:
    once, twice = run(SMALL, head(0, 256, 64)), run(SMALL, head(0, 256, 64, low=True))
    assert twice.dram_reads[0] - once.dram_reads[0] == 256  # one transaction of 4 bits x 64 a key
    assert twice.dot_product_lines[0] == 2 * once.dot_product_lines[0]
    assert twice.second_report[0] > twice.report[0] == once.report[0]


def test_a_softmax_pipeline_delays_the_decision_and_what_follows() -> None:
    """87 cycles of the published pipeline: the largest probability, the low bits it asks for, and the values wait."""
    through, pipeline = (
        run(replace(SMALL, softmax_cycles=cycles), head(0, 256, 256, low=True), rows_open=True) for cycles in (0, 87)
    )
    assert pipeline.report[0] == through.report[0] + 87
    assert pipeline.second_report[0] - through.second_report[0] == pytest.approx(2 * 87, abs=5)
    assert pipeline.done[0] - through.done[0] == pytest.approx(2 * 87, abs=10)


def test_key_phases_do_not_overlap_and_value_phases_do() -> None:
    """The next head reports after its own whole key phase, long before it could if it waited for the result."""
    found = run(SMALL, head(0, 512, 512), head(1, 512, 512))
    alone = run(SMALL, head(0, 512, 512))
    assert found.report[1] > found.report[0] + 512
    assert found.done[1] < 2 * alone.done[0]


def test_a_buffer_for_one_head_serialises_allocation() -> None:
    """1000 keys in a buffer of 1024 lines: the second head waits for the report of the first."""
    wide = run(SMALL, head(0, 1000, 1000), head(1, 1000, 1000))
    tight = run(replace(SMALL, buffer_lines=1024), head(0, 1000, 1000), head(1, 1000, 1000))
    assert wide.accept[1] == 1
    assert tight.accept[1] > tight.report[0]


def stepped(stream: HeadStream) -> list[list[int]]:
    """The same stream, every head of it simulated."""
    state = pipeline(stream, encoded(stream), gathered(stream))
    assert loop(state, 1 << 40, len(stream.rows))
    times = state.times.copy()
    times[:, : DONE + 1][times[:, : DONE + 1] >= 0] -= times[0, ACCEPT]
    return times.T.tolist()  # type: ignore[no-any-return]


def columns(found: HeadSchedule) -> list[list[int]]:
    every = (found.accept, found.report, found.second_report, found.done, found.dram_reads, found.dot_product_lines)
    return [column.tolist() for column in every]


@pytest.mark.parametrize("design", [SMALL, LARGE])
def test_equal_heads_are_repeated_exactly(design: GatherDesign) -> None:
    """A few of 200 heads are simulated; more at full size, where only every fourth head begins in the same bank."""
    found = run(design, *(head(number, 256, 64, selection=40, low=True) for number in range(200)))
    assert found.simulated_heads < 100
    assert columns(found) == stepped(found.stream)


def test_unequal_heads_are_all_simulated() -> None:
    found = run(SMALL, *(head(number, 64 + 8 * number, 64) for number in range(20)))
    assert found.simulated_heads == 20


layers = st.tuples(
    st.integers(1, 200), st.sampled_from([1, 4]), st.sampled_from([4, 6, 8]), st.booleans(), st.integers(0, 400),
    st.integers(2, 30),
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.lists(layers, min_size=1, max_size=3), st.sampled_from([SMALL, LARGE]), st.booleans())
def test_layers_of_equal_heads_take_the_cycles_of_every_head(
    drawn: list[tuple[int, int, int, bool, int, int]], design: GatherDesign, rows_open: bool
) -> None:
    rows: list[HeadRow] = []
    for keys, share, bits, low, selection, pairs in drawn:
        values = max(keys // share, 1)
        rows += [head(len(rows) + place, keys, values, bits, selection, low) for place in range(2 * pairs)]
    found = run(design, *rows, rows_open=rows_open)
    assert columns(found) == stepped(found.stream)


@st.composite
def streams(draw: st.DrawFn) -> tuple[HeadRow, ...]:
    bits = draw(st.sampled_from([4, 8]))
    counts = draw(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 200)), min_size=1, max_size=5))
    return tuple(
        HeadRow(number, keys, min(values, keys), bits, bits, draw(st.booleans()), draw(st.integers(0, 100)))
        for number, (keys, values) in enumerate(counts)
    )


@settings(max_examples=40, deadline=None)
@given(streams())
def test_nothing_is_fetched_twice_and_results_keep_their_order(rows: tuple[HeadRow, ...]) -> None:
    found = run(SMALL, *rows)
    padded = [(-(-row.keys // 8) * 8, -(-row.values // 8) * 8) for row in rows]
    per_vector = rows[0].key_bits // 4
    heads = zip(rows, padded, strict=True)
    reads = sum(per_vector * (keys + values) + row.low_bits * keys for row, (keys, values) in heads)
    assert found.dram_reads[-1] == reads
    assert (np.diff(found.done) > 0).all()
    assert (found.report > found.accept).all()
    assert found.cycles >= reads / 2 / 0.5  # two channels, at most half a request a cycle each


@settings(max_examples=25, deadline=None)
@given(streams(), st.integers(0, 4))
def test_more_keys_never_make_a_stream_much_shorter(rows: tuple[HeadRow, ...], which: int) -> None:
    """Keys that move later fetches may save a row cycle (HBM2: 19) of each: keys, low bits and values of every head.

    Of 3,000 random streams ten save more than 20 cycles, and one 91 of 1,234.
    """
    place = which % len(rows)
    more = [replace(row, keys=row.keys + 64) if index == place else row for index, row in enumerate(rows)]
    fetches = sum(2 + row.low_bits for row in rows)
    assert run(SMALL, *more).cycles >= run(SMALL, *rows).cycles - 19 * fetches


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "at least one head"),
        ((head(0, 8, 9),), "head 1: values must be 1 to the 8 keys, got 9"),
        ((head(0, 8, 8), head(1, 8, 8, 5)), "head 2: keys of 5 bits; the format has 4, 6 and 8"),
        ((head(0, 8, 8, 6),), "heads with 6-bit keys come in pairs, got 1"),
        ((head(0, 8, 8, 6), head(1, 16, 8, 6)), "heads 0 and 1 form a pair"),
        ((head(0, 3000, 8),), "3000 keys exceed the buffer of 2048"),
    ],
)
def test_bad_rows_are_located(rows: tuple[HeadRow, ...], message: str) -> None:
    with pytest.raises(CascadeSimError, match=message):
        run_heads(HeadStream(SMALL, rows))


def test_any_number_of_heads_may_wait_for_a_slow_selection() -> None:
    """Keys of 64 take some 200 cycles a head, selection 2,000: most of 300 heads wait, none is lost."""
    found = run(SMALL, *(head(number, 64, 8, selection=2000) for number in range(300)))
    assert found.dram_reads[-1] == 300 * 2 * (64 + 8)
    assert (np.diff(found.done) > 1900).all()  # the rest of a head, after its selection, varies with open rows


# of a pipeline under way, what decides what happens next
DECIDES: dict[str, Callable[[HeadPipeline], NDArray[np.int64]]] = {
    "lines in the buffers": lambda p: p.written[:, :, p.now[DONE_HEADS] % SLOTS],
    "write ports": lambda p: p.ports,
    "banks of the buffers": lambda p: p.banks,
    "choices of the crossbar": lambda p: p.fetch.crossbar[:, CHOSEN_LANE],
    "rows of the banks": lambda p: p.dram[:, BANKS + ROW : RINGS : 8],
    "bits in the realigner": lambda p: p.now[BITS : BITS + 1],
    "the next read of keys": lambda p: p.now[READ_LINE : READ_LINE + 1],
    "lanes of the fetcher": lambda p: p.fetch.lanes[:, LOADED],
}


@pytest.mark.parametrize("what", DECIDES)
def test_a_snapshot_differs_where_the_future_may(what: str) -> None:
    """A part that it left out could let a stream be shortened although it does not repeat."""
    stream = HeadStream(SMALL, tuple(head(number, 128, 128) for number in range(6)))
    state = pipeline(stream, encoded(stream), gathered(stream))
    assert loop(state, 1 << 20, 2)
    out = np.empty(1 << 16, dtype=np.int64)
    before = out[: 1 + snapshot(state, out, 0)].copy()
    part = DECIDES[what](state)
    part += np.where(part == NEVER, -NEVER, 1)  # what was to come has been long since, all else a little later
    after = out[: 1 + snapshot(state, out, 0)]
    assert not np.array_equal(before, after)


@pytest.mark.parametrize("name", [name for name, kind in get_type_hints(HeadPipeline).items() if kind is Ring])
def test_a_snapshot_notes_every_field_of_a_ring(name: str) -> None:
    stream = HeadStream(SMALL, tuple(head(number, 128, 128) for number in range(6)))
    state, out = pipeline(stream, encoded(stream), gathered(stream)), np.empty(1 << 16, dtype=np.int64)
    ring: Ring = getattr(state, name)
    state.jobs[2], ring.entries[0], ring.ends[1] = 1, 1, 1  # jobs 1 and 2 differ

    def noted() -> list[int]:
        return [int(word) for word in out[: 1 + snapshot(state, out, 0)]]

    before = noted()
    for field in range(ring.entries.shape[1]):
        ring.entries[0, field] += 1
        assert noted() != before
        ring.entries[0, field] -= 1
    assert noted() == before
    ring.ends[1] = 0
    assert noted() != before
