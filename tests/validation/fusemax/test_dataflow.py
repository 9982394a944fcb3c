"""FLAT's choices become pins of the architecture; rows without one take the published choice."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.columns import length
from cascadesim.validation.fusemax.dataflow import choice, chosen, dataflow_of
from cascadesim.validation.fusemax.layouts import DATAFLOW, DATAFLOW_CHOICES
from cascadesim.validation.table import Row, parse_table, published

RESULTS = "platform,models,seq_len,mem_traffic_B,ideal_latency_s,actual_latency_s,energy_pJ\n"


def row(platform: str, model: str, size: str) -> Row:
    (only,) = parse_table(f"{RESULTS}{platform},{model},{size},1,1,1,1\n", DATAFLOW, "x.csv").rows
    return only


def test_a_row_of_results_takes_the_published_choice() -> None:
    """BERT of 8K on the cloud array: 1024 query rows at a time, scores on chip."""
    found = dataflow_of(choice(row("cloud", "BERT", "8K")))
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
        chosen(half)


def test_choices_are_published_for_every_platform_model_and_length() -> None:
    """2 platforms x 4 models x 12 lengths from 512 to 1M."""
    found = {tuple(line.get(name) for name in DATAFLOW.key) for line in
             published("flat-dataflow-choices.csv", DATAFLOW_CHOICES).rows}  # fmt: skip
    lengths = [2**power for power in range(9, 21)]
    models = ("bert", "trxl", "t5", "xlm")
    assert found == {(place, model, size) for place in ("cloud", "edge") for model in models for size in lengths}


def test_a_row_with_neither_is_refused() -> None:
    with pytest.raises(SpecError, match="none published for cloud bert 3072"):
        choice(row("cloud", "BERT", "3K"))


def test_ideal_latency_is_the_useful_work_of_the_2d_array() -> None:
    """T5 of 64K tokens: 64 x 8 heads x 64K x 64K x (64 + 64) products on 256 x 256 PEs at 940 MHz; no published row."""
    expected = 512 * length("64K") ** 2 * 128 / 256**2 / 940e6
    assert chosen(row("cloud", "T5", "64K"))["ideal_latency_s"] == pytest.approx(expected, rel=1e-12)


def test_traffic_off_chip_counts_each_pass_of_a_tensor() -> None:
    """BERT of 1K on the cloud array: 4 x 4 tiles of scores a head, everything but the scores off chip.

    Output-stationary QK fetches Q for each of 4 key tiles and K for each of 4 query tiles; AV fetches V for each of 4
    query tiles and leaves once: 13 times 768 heads x 1024 x 64 words of 2 bytes. FLAT's simulator reports 163,840
    bytes more.
    """
    assert chosen(row("cloud", "BERT", "1K"))["traffic_bytes"] == (4 + 4 + 4 + 1) * 768 * 1024 * 64 * 2
