"""The RTL suites of SpAtten: how rows become simulations, what a pair counts, what the gates bound."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.claim import Verdict
from cascadesim.validation.spatten import rtl as spatten_rtl
from cascadesim.validation.suites import compare, find_suites
from cascadesim.validation.table import Table, member

SPATTEN_RTL_HEADS, SPATTEN_RTL_STREAMS = find_suites(["spatten-rtl-heads", "spatten-rtl-streams"])

HEADER = (
    "config,multipliers,buffer_lines,dram_channels,fetch_channels,softmax_lanes,topk_parallelism,pad,seed,workload,row,"
    "key_fetch_num,value_fetch_num,key_bit,value_bit,requantized,topk_latency"
)
DESIGN = "m64c2,64,2048,2,4,1,16,8,1"


def heads(*rows: str) -> Table:
    """Rows: number, keys, values, bits, bits, low bits, top-k latency, latency, reads, lines."""
    text = "\n".join([f"{HEADER},latency,dram_reads,dp_lines", *(f"{DESIGN},iso,{row}" for row in rows)])
    return spatten_rtl.parse_heads(text, SPATTEN_RTL_HEADS.layout, "given.csv")


def judged(table: Table) -> dict[str, Verdict]:
    return {verdict.claim.name: verdict for verdict in compare(SPATTEN_RTL_HEADS, table, "given.csv", ())}


# RTL of mit-han-lab/spatten (a0f1388), 64 multipliers, 2 channels
ALONE = ("0,8,8,8,8,0,12,175,32,8", "1,16,16,8,8,0,8,246,64,16", "2,24,24,8,8,0,17,252,96,24")
PAIR = ("70,64,32,6,6,0,30,537,288,128", "71,64,32,6,6,0,0,568,0,0")


def test_heads_of_the_rtl_agree() -> None:
    assert all(verdict.holds for verdict in judged(heads(*ALONE)).values())


def test_all_rows_run_in_order_and_say_whether_one_is_missing_before_them() -> None:
    table = heads(*ALONE[:2], *PAIR)
    assert [member(row).position for row in table.rows] == [0, 1, 2, 3]
    assert [row.get("history") for row in table.rows] == ["yes", "yes", "no", "no"]


@pytest.mark.parametrize(("low", "history"), [(0, "yes"), (1, "no")])
def test_a_row_that_another_configuration_lists_runs_between(low: int, history: str) -> None:
    """The driver ran the same rows on all of them; whether a head fetched low bits may differ."""
    four = DESIGN.replace("m64c2", "m64c4").replace(",2,4,1,16", ",4,8,1,16")
    other = ALONE[1].replace("8,8,0,8", f"8,8,{low},8")
    lines = [f"{DESIGN},iso,{row}" for row in (ALONE[0], other)] + [f"{four},iso,{row}" for row in (ALONE[0], ALONE[2])]
    text = "\n".join([f"{HEADER},latency,dram_reads,dp_lines", *lines])
    table = spatten_rtl.parse_heads(text, SPATTEN_RTL_HEADS.layout, "given.csv")
    assert [row.get("row") for row in table.rows] == [0, 1, 0, 2]
    assert [row.get("row") for row in member(table.rows[-1]).group.rows] == [0, 1, 2]
    assert table.rows[-1].get("history") == history
    assert member(table.rows[-1]).group.rows[1].get("dram_channels") == 4


def test_rows_of_any_number_are_read_as_fast() -> None:
    """Only rows that some configuration lists are looked for, not every number before the last."""
    far = ALONE[1].replace(ALONE[1].split(",")[0], "1000000000", 1)
    table = heads(ALONE[0], far)
    assert [row.get("history") for row in table.rows] == ["yes", "no"]


def test_both_heads_of_a_pair_count_on_the_first_row() -> None:
    """6 bits: 3 transactions for a vector of both, 64 keys and 32 values: 288; 64 lines each."""
    rows = heads(*PAIR).rows
    assert [(row.get("own_reads"), row.get("own_lines")) for row in rows] == [(288, 128), (0, 0)]
    found = [spatten_rtl.heads(row) for row in rows]
    assert [(one["own_reads"], one["own_lines"]) for one in found] == [(288, 128), (0, 0)]


def test_a_few_cycles_are_forgiven_and_more_are_not() -> None:
    few, more = (
        judged(heads(ALONE[0].replace("175", str(latency))))["latency of a head that misses by more than 6 cycles"]
        for latency in (181, 150)
    )
    assert few.gated == 0.0
    assert more.gated > 0.05
    assert not more.holds


def test_the_last_row_of_a_stream_carries_its_totals() -> None:
    rows = ("0,128,128,8,8,0,47,0,705,512,128", "1,128,128,8,8,0,47,1,1300,1024,256")
    text = "\n".join([f"{HEADER},t_accept,t_done,dram_reads,dp_lines", *(f"{DESIGN},st,{row}" for row in rows)])
    table = spatten_rtl.parse_streams(text, SPATTEN_RTL_STREAMS.layout, "given.csv")
    assert [(row.get("total"), row.get("total_reads"), row.get("total_lines")) for row in table.rows] == [
        (None, None, None), (1300, 1024, 256),
    ]  # fmt: skip
    assert spatten_rtl.streams(table.rows[-1])["total_reads"] == 2 * 2 * 256


def test_fewer_multipliers_than_a_key_has_elements_are_refused() -> None:
    text = "\n".join([f"{HEADER},t_accept,t_done,dram_reads,dp_lines",
                      f"{DESIGN.replace(',64,', ',24,', 1)},st,0,128,128,8,8,0,47,0,705,512,128"])  # fmt: skip
    with pytest.raises(SpecError, match=r"given\.csv, line 2: multipliers 24: fewer than the elements of one key"):
        spatten_rtl.parse_streams(text, SPATTEN_RTL_STREAMS.layout, "given.csv")


@pytest.mark.parametrize(("row", "problem"), [
    ("1,16,24,8,8,0,8,246,64,16", "value_fetch_num 24 is above key_fetch_num 16"),
    ("1,16,16,7,8,0,8,246,64,16", "key_bit 7: the RTL has 4, 6, 8 bits"),
    ("1,4096,16,8,8,0,8,246,64,16", "needs 4096 buffer lines, the buffer has 2048"),
    ("1,16,16,6,6,0,8,246,64,16", "a head of 6 bits is alone"),
])  # fmt: skip
def test_a_bad_row_gets_one_located_line(row: str, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        heads(ALONE[0], row, ALONE[2])
    assert str(caught.value).startswith("given.csv, line 3: ")
    assert problem in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_transactions_and_lines_are_exact_in_every_published_row() -> None:
    from cascadesim.validation.suites import own_data

    for suite in (SPATTEN_RTL_HEADS, SPATTEN_RTL_STREAMS):
        verdicts = compare(suite, own_data(suite), suite.data, ())
        exact = [verdict for verdict in verdicts if verdict.claim.tolerance == 0]
        assert len(exact) == 2
        assert all(verdict.holds for verdict in exact)
