"""Published runs of whole models as rows of one kind: device, engine, workload, types, lengths, what they count for.

Reads the columns of the collected file (`--data`) and of our own copy, which `python -m
cascadesim.validation.models.rows FILE` writes from it: names by preset, types in lower case, one value for each key
(the median of several submitters). `split` says what a row counts for: scored; calibration, by a hash a quarter of the
runs in which requests come and go, and of the first tokens of batches that a session sets up, from which it is found
what a step and a start take besides kernels (`cascadesim.validation.models.calibrate`); reported, for which `reason`
says what is missing.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import TextIO

from cascadesim.accelerators.gpu.engines.engine import find_engine
from cascadesim.validation.models.predictions import CONTINUOUS, problem
from cascadesim.validation.table import (
    CannotJudge,
    Column,
    Layout,
    Row,
    Table,
    Value,
    columns_of,
    count,
    judgeable,
    parse_table,
    positive,
    whole,
)

FILE = "models.csv"
SCORED, CALIBRATION, REPORTED = "scored", "calibration", "reported"
FIRST_TOKEN, LATER_TOKEN = "ttft_s", "tpot_s"
_RAW_COLUMNS = (
    *columns_of(str, "suite kind device model metric"), Column("value", positive),
    *columns_of(str, "dtype batch_or_concurrency params_note kv_dtype framework batch_meaning length_note unit extra "
                     "source certainty", required=False),
    *columns_of(count, "count tp pp isl ep", required=False), Column("osl", whole, required=False),
)  # fmt: skip
RAW = Layout(_RAW_COLUMNS, key=tuple(column.name for column in _RAW_COLUMNS))
TIDY = Layout(
    (
        *columns_of(str, "source device workload types engine metric split batching"),
        *columns_of(str, "reason", required=False), Column("spread", positive, required=False),
        *columns_of(count, "devices batch input_tokens output_tokens"), Column("value", positive),
        *columns_of(str, "citation", required=False),
    ),
    key=("source", "device", "devices", "workload", "types", "engine", "batch", "input_tokens", "output_tokens",
         "metric"),
)  # fmt: skip
DEVICES = {
    "H200": "h200-sxm", "H100": "h100-sxm", "H100-80GB": "h100-sxm", "A100": "a100-sxm", "A100-80GB": "a100-sxm",
    "A100-80GB SXM (330 W cap)": "a100-sxm", "L40S": "l40s", "B200": "b200", "GB200": "gb200",
    "MI300X": "mi300x", "MI325X": "mi325x", "MI355X": "mi355x",
}  # fmt: skip
WORKLOADS = {  # same shapes where the name differs
    "GPT-J 6B": "gpt-j-6b", "LLaMA 7B": "llama-2-7b", "LLaMA 70B": "llama-2-70b", "Llama-2-7B": "llama-2-7b",
    "Llama-2-70B": "llama-2-70b", "llama2-7b": "llama-2-7b", "Falcon 180B": "falcon-180b",
    "Mistral 7B": "mistral-7b-v0.1", "Mixtral 8x7B": "mixtral-8x7b-v0.1", "Llama-3.1-8B": "llama-3.1-8b",
    "Llama-3.1-70B": "llama-3.1-70b", "Llama-3.1-405B": "llama-3.1-405b", "Llama-3.3-70B": "llama-3.1-70b",
    "openai/gpt-oss-120b": "gpt-oss-120b", "deepseek-ai/DeepSeek-R1-0528": "deepseek-v3",
    "nvidia/DeepSeek-R1-0528-FP4-V2": "deepseek-v3", "deepseek-ai/DeepSeek-R1": "deepseek-v3",
}  # fmt: skip
ENGINES = (  # how `framework` begins -> the engine that it is, or that it serves with
    ("TensorRT-LLM v0.9", "tensorrt-llm-0.9"), ("TensorRT-LLM v0.6", "tensorrt-llm-0.6"),
    ("TensorRT-LLM", "tensorrt-llm"), ("NIM", "tensorrt-llm-0.17"), ("trt", "tensorrt-llm"), ("gpt-fast", "gpt-fast"),
    ("TurboMind", "turbomind"), ("vllm", "vllm"), ("sglang", "sglang"),
)  # fmt: skip
TYPES: Mapping[str, str] = {  # of a checkpoint -> settings. Products of 8-bit checkpoints are 8-bit, attention is not
    "fp8": "dtype=fp16 types.weights=fp8 types.activations=fp8 types.head=fp16", "fp16": "dtype=fp16",
    "bf16": "dtype=bf16", "int8 weights": "types.weights=int8", "int4 g32 weights": "types.weights=int4",
    "fp4 openai": "types.experts=mxfp4", "fp4 nvidia": "types.weights=nvfp4 types.head=bf16",
}  # fmt: skip
CACHES = {"fp8": " types.kv=fp8"}  # as the row says; otherwise in the type of attention
METRICS = {
    "output_tokens_per_s_per_gpu": "tokens_per_s_per_device", "output_tokens_per_s_total": "tokens_per_s",
    "first_token_latency": FIRST_TOKEN, "first_token_latency_mean": FIRST_TOKEN, "ttft": FIRST_TOKEN,
    "itl": LATER_TOKEN, "median_tpot": LATER_TOKEN,
}  # fmt: skip
LEFT_OUT = "left out: "  # how a comment of our copy begins that counts rows of the collected file
_COUNTED = re.compile(rf"{LEFT_OUT}([0-9]{{1,9}}) rows: (.+)")
# InferenceMAX v1 gives vLLM cudagraph_mode PIECEWISE on H100, FULL_AND_PIECEWISE on B200, and none on H200 (its scripts
# benchmarks/gptoss_fp4_*.sh; all with asynchronous scheduling). assumed: there it is PIECEWISE, too, the default until
# the release notes of v0.11.0; which version ran is not in the scripts
GRAPHS_IN_PIECES = ("InferenceMAX v1", ("h100-sxm", "h200-sxm"))
STEPS = "gpt-fast"  # output tokens over the time of the steps
TOGETHER = ("static batch", "concurrency = max batch; requests arrive together")
SHARE_OF_NOMINAL, SPREAD = 0.9, 0.1 / 0.9  # lengths are drawn evenly from 0.8 to 1.0 of the nominal ones
CALIBRATION_SHARE = 4  # one in so many runs


def parse_models(text: str, layout: Layout, source: str) -> Table:
    """Rows of the collected file or of our copy of it. Raises SpecError with every problem."""
    header = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    if "isl" not in header.split(","):
        own = parse_table(text, layout, source)
        noted = (_COUNTED.fullmatch(comment) for comment in own.comments)
        return replace(own, left_out=tuple((each.group(2), int(each.group(1))) for each in noted if each))
    raw = parse_table(text, RAW, source)
    rows, left_out = judgeable(raw.rows, _tidy, ", ")
    return Table(tuple(_one_for_each_key(rows)), raw.comments, raw.unread_columns, tuple(left_out.items()))


def _tidy(row: Row) -> Row:
    """One row in our terms. Raises CannotJudge where a mechanism or a workload is missing."""
    metric, batch = METRICS.get(row.text("metric")), str(row.get("batch_or_concurrency") or "")
    if metric is None:
        raise CannotJudge(f"no metric of generated tokens: {row.text('metric')}")
    if not batch.isdigit() or row.get("isl") is None or not row.get("osl"):
        raise CannotJudge("the batch that ran, or the lengths, are not published")
    meaning, given = str(row.get("batch_meaning") or ""), _model(row)
    uneven = "0.8-1.0" in str(row.get("length_note") or "")
    share_of = SHARE_OF_NOMINAL if uneven else 1.0
    batching = "static" if meaning in TOGETHER else CONTINUOUS
    unknown = batching == CONTINUOUS and str(given["device"]).startswith("mi")
    reason = "its libraries' kernels are calibrated on no row" if unknown else ""
    scale = 1e-3 if row.get("unit") == "ms" else 1.0
    framework = str(row.get("framework") or "")
    decode_only = framework.startswith(STEPS) and metric == "tokens_per_s"
    cells: dict[str, Value] = {
        "source": row.text("suite"), **given, "engine": _engine(framework, row.text("suite"), str(given["device"])),
        "metric": "tokens_per_s_of_steps" if decode_only else metric, "batching": batching, "reason": reason or None,
        "spread": round(SPREAD, 6) if uneven else None, "batch": int(batch),
        "input_tokens": round(share_of * row.count("isl")), "output_tokens": round(share_of * row.count("osl")),
        "value": scale * float(row.number("value") or 0), "citation": row.get("source"),
    }  # fmt: skip
    found = Row((*cells.items(), ("split", _split_of(cells))), row.source, row.line)
    if why := problem(found):
        raise CannotJudge(why)
    return found


def _split_of(cells: Mapping[str, Value]) -> str:
    """What a row counts for: figures of one run alike."""
    if cells["reason"]:
        return REPORTED
    engine, goes = find_engine(str(cells["engine"])), cells["batching"] == CONTINUOUS
    tells = engine.steps if goes else engine.starts if cells["metric"] == FIRST_TOKEN else None
    if tells is None:
        return SCORED
    run = " ".join(str(cells[name]) for name in ("device", "devices", "workload", "engine", "batch", "input_tokens",
                                                 "output_tokens"))  # fmt: skip
    return CALIBRATION if blake2b(run.encode(), digest_size=1).digest()[0] % CALIBRATION_SHARE == 0 else SCORED


def _model(row: Row) -> dict[str, Value]:
    """Device, workload and types. Raises CannotJudge for what is none of ours."""
    device, name = DEVICES.get(row.text("device")), row.text("model")
    if device is None:
        raise CannotJudge(f"no device {row.text('device')}")
    if name not in WORKLOADS:
        raise CannotJudge(f"no workload {name}")
    given = str(row.get("dtype") or "").lower()
    types = TYPES.get(f"{given} {name.partition('/')[0]}" if given == "fp4" else given)
    if types is None:
        raise CannotJudge(f"no types {given or 'stated'} of {name}")
    if (row.get("pp") or 1) != 1 or (row.get("ep") or 1) != 1:
        raise CannotJudge("pipelines or experts over devices")
    if "disaggregated" in str(row.get("certainty") or ""):
        raise CannotJudge("prompts and steps on devices of their own")
    types += CACHES.get(str(row.get("kv_dtype") or "").lower(), "")
    return {"device": device, "devices": row.count("count"), "workload": WORKLOADS[name], "types": types}


def _engine(framework: str, suite: str, device: str) -> str:
    found = next((engine for begin, engine in ENGINES if framework.startswith(begin)), None)
    if found is None:
        raise CannotJudge(f"no engine {framework or 'stated'}")
    begin, devices = GRAPHS_IN_PIECES
    return f"{found}-0.10" if found == "vllm" and suite.startswith(begin) and device in devices else found


def _one_for_each_key(rows: Sequence[Row]) -> Iterator[Row]:
    """The median of rows that share a key."""
    def key(row: Row) -> tuple[str, ...]:
        return tuple(str(row.get(name)) for name in TIDY.key)

    for _, same in groupby(sorted(rows, key=key), key):
        first, *others = same
        values = [float(row.number("value") or 0) for row in (first, *others)]
        yield Row(tuple({**dict(first.cells), "value": median(values)}.items()), first.source, first.line)


def write_copy(table: Table, stream: TextIO) -> None:
    """Write the rows as our own file has them."""
    stream.write("# Source: published runs of whole models; each row cites its own. Written by `python -m "
                 "cascadesim.validation.models.rows`.\n# Names by preset, types as settings, seconds; split: what a "
                 "row counts for, and why.\n")
    names = [column.name for column in TIDY.columns]
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([row.get(name) if row.get(name) is not None else "" for name in names] for row in table.rows)
    for why, rows in table.left_out:
        stream.write(f"# {LEFT_OUT}{rows} rows: {why}\n")


def main(arguments: Iterable[str]) -> None:
    """Write our copy of a collected file to standard output."""
    (path,) = map(Path, arguments)
    write_copy(parse_models(path.read_text(encoding="utf-8"), TIDY, path.name), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
