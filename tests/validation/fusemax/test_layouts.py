"""The files of the FuseMax artifact read as ours do: other names of columns, models, configurations."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.fusemax.layouts import ATTENTION, DATAFLOW, LINEAR, PARETO, file_of
from cascadesim.validation.table import parse_table

PUBLISHED_HEADER = "model,seq_len,traffic_B,latency_s,energy_pJ,util_2d,util_1d,QK,LM,SLN,SLD,SLNV"
PUBLISHED_ROW = "T5,64K,10,20,30,0.9,1.0000000000000002,0.4,0.1,0.1,0.1,0.2"


def test_a_published_attention_file_says_its_configuration_in_its_name() -> None:
    (row,) = parse_table(f"{PUBLISHED_HEADER}\n{PUBLISHED_ROW}\n", ATTENTION, "attn-binding.csv").rows
    assert row.text("architecture") == "fusemax"
    assert (row.text("workload"), row.count("sequence_length")) == ("t5", 65536)
    assert (row.number("traffic_bytes"), row.number("latency_s"), row.number("energy_pj")) == (10, 20, 30)
    assert (row.number("utilization_array_2d"), row.number("activity_SLNV")) == (0.9, 0.2)


def test_a_renamed_file_says_it_in_the_source_that_it_cites() -> None:
    text = f"# Source: results/attn-arch.csv\n{PUBLISHED_HEADER}\n{PUBLISHED_ROW}\n"
    (row,) = parse_table(text, ATTENTION, "x.csv").rows
    assert row.text("architecture") == "fusemax-architecture"


@pytest.mark.parametrize("column", ["config", "configuration", "architecture", "arch"])
@pytest.mark.parametrize(
    ("spelling", "ours"), [("cascade", "fusemax-cascade"), ("+Binding", "fusemax"), ("FLAT", "flat")]
)
def test_a_column_says_it_row_by_row(column: str, spelling: str, ours: str) -> None:
    text = f"{column},{PUBLISHED_HEADER}\n{spelling},{PUBLISHED_ROW}\n"
    (row,) = parse_table(text, ATTENTION, "x.csv").rows
    assert row.text("architecture") == ours


def test_a_file_that_does_not_say_it_is_refused() -> None:
    with pytest.raises(SpecError, match=r"x\.csv, line 1: no column 'architecture', and neither the file's name"):
        parse_table(f"{PUBLISHED_HEADER}\n{PUBLISHED_ROW}\n", ATTENTION, "x.csv")


def test_a_trailing_comma_in_the_header_is_no_column() -> None:
    text = "model,seq_len,traffic_B,latency_s,energy_pJ,util_2d,util_1d,\nXLM,4K,1,2,3,0.1,0.6\n"
    table = parse_table(text, ATTENTION, "attn-unfused.csv")
    assert table.rows[0].text("architecture") == "unfused"
    assert table.unread_columns == ()


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("end2end-flat.csv", "flat"),
        ("end2end-proposal.csv", "fusemax"),
        ("/a/b/heldout_end2end-flat-2.csv", "flat"),
        ("end2end-flat.csv and end2end-proposal.csv", None),
        ("attn-flat.csv", None),
        ("flat.csv", None),
    ],
)
def test_the_linear_layers_have_two_configurations(name: str, ours: str | None) -> None:
    assert file_of("end2end", "linear")(name) == ours
    if ours and "/" not in name:
        (row,) = parse_table("model,seq_len,traffic_B,latency_s,energy_pJ\nT5,2K,1,2,3\n", LINEAR, name).rows
        assert row.text("architecture") == ours


def test_results_of_flat_alone_have_no_dataflow() -> None:
    text = "platform,models,seq_len,mem_traffic_B,ideal_latency_s,actual_latency_s,energy_pJ\nedge,T5,512,1,2,3,4\n"
    (row,) = parse_table(text, DATAFLOW, "x.csv").rows
    assert (row.text("platform"), row.number("ideal_latency_s"), row.number("latency_s")) == ("edge", 2, 3)
    assert row.get("qk_location") is None


def test_results_joined_with_their_inputs_bring_one() -> None:
    text = (
        "platform,models,seq_len,B,D,Q_loc,QK_loc,QK_stationarity,fusion_granularity,P1,proportion_spilled,"
        "mem_traffic,ideal_latency,actual_latency\ncloud,XLM,64K,64,2048,offchip,onchip,weight,row,1024,0.25,1,2,3\n"
    )
    (row,) = parse_table(text, DATAFLOW, "x.csv").rows
    assert (row.text("qk_location"), row.text("qk_stationarity"), row.count("query_rows")) == ("onchip", "weight", 1024)
    assert (row.number("spilled_fraction"), row.number("traffic_bytes")) == (0.25, 1)


def test_pareto_rows_are_told_apart_by_model_and_array() -> None:
    header = "accel,model,PE_dim,traffic_B,mem_lat_s,comp_2d_lat_s,comp_1d_lat_s,latency_s,array_2d_area_um2,area_um2"
    (row,) = parse_table(f"{header}\nproposal,T5,128,1,2,3,4,5,6,7\n", PARETO, "x.csv").rows
    assert tuple(row.get(name) for name in PARETO.key) == ("t5", 128)


def test_an_unknown_model_or_configuration_is_named() -> None:
    with pytest.raises(SpecError) as caught:
        parse_table(f"config,{PUBLISHED_HEADER}\nbindign,{PUBLISHED_ROW.replace('T5', 'T6')}\n", ATTENTION, "x.csv")
    assert str(caught.value).splitlines() == [
        "x.csv, line 2, column 'architecture': no architecture 'bindign'; did you mean 'binding'?",
        "x.csv, line 2, column 'workload': no workload 'T6'; known: bert, t5, trxl, xlm",
    ]
