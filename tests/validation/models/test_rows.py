"""Published runs of whole models: read from the collected columns, named in ours, one value for each key."""

from __future__ import annotations

from io import StringIO

import pytest

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.models import kernel_sums, predictions, rows, stated
from cascadesim.validation.table import Row, Table, published

HEADER = ("suite,kind,device,count,model,dtype,kv_dtype,framework,tp,pp,batch_or_concurrency,batch_meaning,isl,osl,"
          "length_note,metric,value,unit,source,certainty")  # fmt: skip
FIRST = ("docs,ttft,H100,1,LLaMA 7B,FP8,fp8,TensorRT-LLM v0.9.0,1,1,1,static batch,128,1,,first_token_latency,6.3,ms,"
         "doc,exact")  # fmt: skip


def read(*lines: str) -> Table:
    return rows.parse_models("\n".join((HEADER, *lines)), rows.TIDY, "some.csv")


def one(**cells: str) -> dict[str, object]:
    names = HEADER.split(",")
    line = {**dict(zip(names, FIRST.split(","), strict=True)), **cells}
    (row,) = read(",".join(line[name] for name in names)).rows
    return dict(row.cells)


def left_out(**cells: str) -> str:
    names = HEADER.split(",")
    line = {**dict(zip(names, FIRST.split(","), strict=True)), **cells}
    other = FIRST.replace("128,1,,", "256,1,,")
    ((why, count),) = read(other, ",".join(line[name] for name in names)).left_out
    assert count == 1
    return why


def test_a_row_is_named_by_preset_and_in_seconds() -> None:
    found = one()
    assert (found["device"], found["workload"], found["engine"]) == ("h100-sxm", "llama-2-7b", "tensorrt-llm-0.9")
    assert (found["metric"], found["value"], found["split"]) == ("ttft_s", pytest.approx(6.3e-3), "scored")
    assert found["types"] == "dtype=fp16 types.weights=fp8 types.activations=fp8 types.head=fp16 types.kv=fp8"


@pytest.mark.parametrize(("name", "preset"), [("GB200", "gb200"), ("MI325X", "mi325x"), ("MI355X", "mi355x")])
def test_a_device_without_rows_of_kernels_runs_a_whole_model(name: str, preset: str) -> None:
    found = one(device=name, framework="vllm", dtype="BF16", kv_dtype="")
    assert (found["device"], found["engine"], found["split"]) == (preset, "vllm", "scored")


def test_requests_that_come_and_go_are_run_as_such() -> None:
    """Engines of which no host time is known are scored; on AMD runs are reported."""
    found = one(batch_meaning="concurrent requests; closed loop", metric="itl", osl="500")
    assert (found["split"], found["batching"], found["metric"], found["reason"]) == (
        "scored", "continuous", "tpot_s", None)  # fmt: skip
    there = one(batch_meaning="concurrent requests; closed loop", metric="itl", osl="500", device="MI300X",
                framework="vllm", dtype="bf16", model="Llama-3.1-8B")  # fmt: skip
    assert (there["split"], there["reason"]) == ("reported", "its libraries' kernels are calibrated on no row")


def test_vllm_on_hopper_runs_graphs_in_pieces_and_on_blackwell_whole_ones() -> None:
    """As InferenceMAX v1 ran it; what others ran on Hopper nothing is known of."""
    found = [one(batch_meaning="concurrent requests; closed loop", metric="itl", osl="500", suite=suite,
                 framework="vllm", dtype="bf16", model="Llama-3.1-8B", device=device)["engine"]
             for suite in ("InferenceMAX v1 (Oct 2025)", "docs") for device in ("H100", "B200")]  # fmt: skip
    assert found == ["vllm-0.10", "vllm", "vllm", "vllm"]


def test_a_quarter_of_the_runs_that_tell_of_steps_calibrates_all_figures_of_a_run_alike() -> None:
    kinds: dict[str, list[str]] = {}
    for concurrency in range(1, 81):
        splits = {str(one(batch_meaning="concurrent requests; closed loop", metric=metric, osl="500", framework="vllm",
                          batch_or_concurrency=str(concurrency), dtype="bf16", model="Llama-3.1-8B")["split"])
                  for metric in ("itl", "output_tokens_per_s_total")}  # fmt: skip
        (split,) = splits
        kinds.setdefault(split, []).append(split)
    assert set(kinds) == {"scored", "calibration"}
    assert 10 <= len(kinds["calibration"]) <= 30


def test_drawn_lengths_are_their_mean() -> None:
    found = one(isl="1000", osl="1000", length_note="random lengths 0.8-1.0 of nominal")
    assert (found["input_tokens"], found["output_tokens"]) == (900, 900)
    assert found["spread"] == pytest.approx(100 / 900, abs=1e-6)


def test_several_submitters_of_one_key_are_their_median() -> None:
    names = [FIRST.replace(",6.3,", f",{value},").replace(",doc,", f",{source},")
             for value, source in (("6.0", "a"), ("9.0", "b"), ("7.0", "c"))]
    (row,) = read(*names).rows
    assert row.number("value") == pytest.approx(7e-3)


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ({"device": "TPU v5e"}, "no device TPU v5e"), ({"model": "Llama 9"}, "no workload Llama 9"),
        ({"framework": "unknown"}, "no engine unknown"), ({"pp": "2"}, "pipelines or experts over devices"),
        ({"batch_or_concurrency": "max load"}, "the batch that ran, or the lengths, are not published"),
        ({"metric": "latency_total"}, "no metric of generated tokens: latency_total"),
        ({"dtype": "INT8-v1"}, "no types int8-v1 of LLaMA 7B"),
        ({"batch_or_concurrency": "4000"}, "the batch exceeds the memory: requests queue"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_counted_with_its_reason(cells: dict[str, str], why: str) -> None:
    assert left_out(**cells) == why


def test_a_wrong_cell_is_an_error_with_its_place() -> None:
    with pytest.raises(SpecError, match=r"some\.csv, line 2, column 'value'"):
        read(FIRST.replace(",6.3,", ",fast,"))


def test_our_copy_is_what_the_script_writes_and_reads_as_it_was() -> None:
    """165 tokens/s and 82 first tokens were collected; 4 + 5 of them exceed the memory as one batch, 15 calibrate."""
    own = published(rows.FILE, rows.TIDY, rows.parse_models)
    scored = [row for row in own.rows if row.get("split") == "scored"]
    static = [row for row in scored if row.get("batching") == "static"]
    assert len([row for row in static if row.get("metric") == "ttft_s"]) == 63
    assert len(static) == 160 + 63
    assert len(scored) - len(static) == 216
    assert len([row for row in own.rows if row.get("split") == "calibration"]) == 76 + 15
    stream = StringIO()
    rows.write_copy(own, stream)
    again = rows.parse_models(stream.getvalue(), rows.TIDY, "again")
    assert [row.cells for row in again.rows] == [row.cells for row in own.rows]
    assert again.left_out == own.left_out
    assert dict(own.left_out)["the batch exceeds the memory: requests queue"] == 9


def test_a_figure_is_what_generate_says() -> None:
    """TensorRT-LLM counts per device and with the first token; gpt-fast its steps alone."""
    cells = one(metric="output_tokens_per_s_per_gpu", osl="64", unit="tok/s", batch_or_concurrency="4", count="2")
    row = Row(tuple(cells.items()), "", 1)  # type: ignore[arg-type]
    per_device = predictions.figures(row)["value"]
    steps = predictions.figures(Row(tuple({**cells, "metric": "tokens_per_s_of_steps"}.items()), "", 1))["value"]  # type: ignore[arg-type]
    first = predictions.figures(Row(tuple({**cells, "metric": "ttft_s"}.items()), "", 1))["value"]  # type: ignore[arg-type]
    assert per_device is not None
    assert steps is not None
    assert first is not None
    assert 4 * 64 / per_device / 2 == pytest.approx(first + 63 * 4 / steps)


def test_a_sum_of_kernels_is_one_report() -> None:
    row = next(row for row in published(kernel_sums.FILE, kernel_sums.LAYOUT).rows if row.get("device") == "B200")
    found = kernel_sums.milliseconds(row)
    assert set(found) == set(kernel_sums.COLUMNS)
    half = kernel_sums.milliseconds(row, ("datasheet.dram_bytes_per_s=4TB/s",))
    assert half["vllm_decode_ms"] != found["vllm_decode_ms"]


def test_strata_that_generate_quotes_are_those_of_the_suite() -> None:
    found = {(one.device, one.engine, one.batching): one for one in stated.generate._measured()}
    assert found["h100-sxm", "tensorrt-llm-0.9", "static"].rows == 20
    assert found["h100-sxm", "vllm-0.10", "continuous"].latency < 0.1
    assert sum(one.rows for one in found.values() if one.batching == "static") == 160
    assert sum(one.rows for one in found.values()) == 160 + 104
    assert all(0 < one.latency <= one.p90 for one in found.values())
