"""Rows that are not among the published ones: other models and lengths, by hand from the closed forms of FuseMax."""

from __future__ import annotations

import statistics

import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.fusemax.layouts import DATAFLOW, DATAFLOW_CHOICES, length
from cascadesim.validation.fusemax.predictions import (
    LENGTHS,
    STATISTICS,
    attention,
    choice,
    dataflow_of,
    flat_chosen,
    headline,
)
from cascadesim.validation.suites import find_suites, own_data
from cascadesim.validation.table import Row, Value, parse_table, published

(FUSEMAX_ATTENTION,) = find_suites(["fusemax-attention"])


def row(**cells: Value) -> Row:
    return Row(tuple(cells.items()), "here", 1)


def test_bert_of_1k_tokens_takes_154_cycles_a_tile() -> None:
    """768 heads x 4 x 4 tiles; 1+64+64/4 (RD RNV AV) + 1 (RM) + 8 (PRM SPD) + 64 (SPNV) = 154 cycles at 940 MHz."""
    found = attention(row(architecture="fusemax", workload="bert", sequence_length=1024))
    assert found["latency_s"] == pytest.approx(12288 * 154 / 940e6, rel=1e-12)


def test_xlm_of_64k_tokens_is_no_published_row() -> None:
    """1024 heads x 256 x 256 tiles of 1+128+128/256 + 1 + 8 + 128 cycles.

    16 MiB less 2 x 256 x 256 words of 2 bytes hold 125 query tiles of 258 x 256 words: the largest divisor of 256
    is 64, so the keys and values stream by 4 times. Q and AV move once.
    """
    found = attention(row(architecture="fusemax", workload="xlm", sequence_length=65536))
    assert found["latency_s"] == pytest.approx(1024 * 256 * 256 * 266.5 / 940e6, rel=1e-12)
    assert found["traffic_bytes"] == 2 * 1024 * 65536 * 128 * (2 + 2 * 4)


TRXL = [row for row in own_data(FUSEMAX_ATTENTION).rows if row.get("workload") == "trxl"]
LONG = length("64K")  # beyond, the artifact's 64-bit counters wrap for some numbers of heads and not for others


@pytest.mark.parametrize("published", TRXL, ids=lambda row: f"line {row.line}")
def test_t5_is_half_of_trxl(published: Row) -> None:
    """8 heads in place of 16, of the same size."""
    found = attention(Row((*published.cells, ("workload", "t5")), "here", 1))
    columns = ["traffic_bytes", "latency_s"] + ["energy_pj"] * (published.count("sequence_length") < LONG)
    for column in columns:
        figure = published.number(column)
        assert figure is not None
        assert found[column] == pytest.approx(figure / 2, rel=1e-6)


def predicted(**cells: str) -> float:
    value = headline(Row(tuple(cells.items()), "here", 1))["value"]
    assert value is not None
    return value


def test_architecture_is_slower_than_binding_by_the_published_cycles_a_tile() -> None:
    """Cycles a tile, FuseMax's two schedules: E + F/M1 + 10 + E and max(E + 1, 1 + F/M1) + 256 + 9 + 2E.

    Both are compute bound in all 24 points, and M1 = length / 256; E = F = 64 in three models, 128 in one.
    """

    def ratio(depth: int, length: int) -> float:
        rest = depth * 256 / length
        serial = max(depth + 1, 1 + rest) + 256 + 9 + 2 * depth
        return (2 * depth + rest + 10) / serial

    expected = statistics.fmean(ratio(depth, length) for depth in (64, 64, 64, 128) for length in LENGTHS)
    found = predicted(quantity="attention_speedup", architecture="fusemax-architecture", baseline="fusemax",
                      statistic="arithmetic_mean")  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-9)


def test_an_architecture_against_itself_is_one_in_every_statistic() -> None:
    for statistic in STATISTICS:
        for quantity in ("attention_speedup", "end_to_end_energy_ratio"):
            assert predicted(quantity=quantity, architecture="fusemax", baseline="fusemax",
                             statistic=statistic) == pytest.approx(1, rel=1e-12)  # fmt: skip


def test_the_geometric_mean_is_that_of_the_logarithms() -> None:
    assert STATISTICS["geometric_mean"]([1.0, 4.0]) == pytest.approx(2.0)


RESULTS = "platform,models,seq_len,mem_traffic_B,ideal_latency_s,actual_latency_s,energy_pJ\n"


def flat_row(platform: str, model: str, size: str) -> Row:
    (only,) = parse_table(f"{RESULTS}{platform},{model},{size},1,1,1,1\n", DATAFLOW, "x.csv").rows
    return only


def test_a_row_of_results_takes_the_published_choice() -> None:
    """BERT of 8K on the cloud array: 1024 query rows at a time, scores on chip."""
    found = dataflow_of(choice(flat_row("cloud", "BERT", "8K")))
    assert found.on_chip == {"QK", "A"}
    assert (found.qk_stationarity, found.av_stationarity) == ("output", "output")
    assert (found.granularity, found.rows) == ("row", 1024)


def test_a_row_that_brings_a_dataflow_keeps_it() -> None:
    text = (
        "platform,models,seq_len,Q_loc,K_loc,QK_loc,A_loc,V_loc,AV_loc,QK_stationarity,AV_stationarity,"
        "fusion_granularity,P1,proportion_spilled,mem_traffic_B,ideal_latency_s,actual_latency_s\n"
        "cloud,BERT,8K,onchip,offchip,offchip,offchip,offchip,offchip,weight,input,row,256,0,1,1,1\n"
    )
    found = dataflow_of(choice(parse_table(text, DATAFLOW, "x.csv").rows[0]))
    assert found.on_chip == {"Q"}
    assert (found.qk_stationarity, found.av_stationarity) == ("weight", "input")


def test_half_a_dataflow_is_refused() -> None:
    half = Row((("platform", "cloud"), ("workload", "bert"), ("sequence_length", 8192), ("granularity", "row")), "x", 1)
    with pytest.raises(SpecError, match="column 'q_location': empty"):
        flat_chosen(half)


def test_choices_are_published_for_every_platform_model_and_length() -> None:
    """2 platforms x 4 models x 12 lengths from 512 to 1M."""
    found = {tuple(line.get(name) for name in DATAFLOW.key) for line in
             published("flat-dataflow-choices.csv", DATAFLOW_CHOICES).rows}  # fmt: skip
    lengths = [2**power for power in range(9, 21)]
    models = ("bert", "trxl", "t5", "xlm")
    assert found == {(place, model, size) for place in ("cloud", "edge") for model in models for size in lengths}


def test_a_row_with_neither_is_refused() -> None:
    with pytest.raises(SpecError, match="none published for cloud bert 3072"):
        choice(flat_row("cloud", "BERT", "3K"))


def test_ideal_latency_is_the_useful_work_of_the_2d_array() -> None:
    """T5 of 64K tokens: 64 x 8 heads x 64K x 64K x (64 + 64) products on 256 x 256 PEs at 940 MHz; no published row."""
    expected = 512 * length("64K") ** 2 * 128 / 256**2 / 940e6
    assert flat_chosen(flat_row("cloud", "T5", "64K"))["ideal_latency_s"] == pytest.approx(expected, rel=1e-12)


def test_traffic_off_chip_counts_each_pass_of_a_tensor() -> None:
    """BERT of 1K on the cloud array: 4 x 4 tiles of scores a head, everything but the scores off chip.

    Output-stationary QK fetches Q for each of 4 key tiles and K for each of 4 query tiles; AV fetches V for each of 4
    query tiles and leaves once: 13 times 768 heads x 1024 x 64 words of 2 bytes. FLAT's simulator reports 163,840
    bytes more.
    """
    assert flat_chosen(flat_row("cloud", "BERT", "1K"))["traffic_bytes"] == (4 + 4 + 4 + 1) * 768 * 1024 * 64 * 2
