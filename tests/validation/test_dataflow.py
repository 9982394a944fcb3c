"""FLAT's choices become pins of the architecture; rows without one take the published choice."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.errors import SpecError
from cascadesim.validation.columns import length
from cascadesim.validation.dataflow import choice, chosen, pins
from cascadesim.validation.layouts import DATAFLOW, DATAFLOW_CHOICES
from cascadesim.validation.table import Row, parse_table, published

RESULTS = "platform,models,seq_len,mem_traffic_B,ideal_latency_s,actual_latency_s,energy_pJ\n"


def row(platform: str, model: str, size: str) -> Row:
    (only,) = parse_table(f"{RESULTS}{platform},{model},{size},1,1,1,1\n", DATAFLOW, "x.csv").rows
    return only


def test_a_row_of_results_takes_the_published_choice() -> None:
    """BERT of 8K on the cloud array: 1024 query rows at a time, scores on chip."""
    assert pins(choice(row("cloud", "BERT", "8K"))) == (
        "dataflow.location.Q=off_chip",
        "dataflow.location.K=off_chip",
        "dataflow.location.QK=on_chip",
        "dataflow.location.A=on_chip",
        "dataflow.location.V=off_chip",
        "dataflow.location.AV=off_chip",
        "dataflow.qk_stationarity=output",
        "dataflow.av_stationarity=output",
        "dataflow.granularity=row",
        "dataflow.rows=1024",
    )


def test_a_whole_head_fixes_no_rows() -> None:
    assert "dataflow.granularity=head" in pins(choice(row("cloud", "BERT", "1K")))
    assert not any(pin.startswith("dataflow.rows") for pin in pins(choice(row("cloud", "BERT", "1K"))))


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
