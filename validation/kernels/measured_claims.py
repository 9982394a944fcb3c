"""`kernels-measured`: the GPU model's times of our kernels, from their static counts, against our records.

The model's constants are those of public rows; none was fitted to a record. Beside the times stand what the kernels
must reach in the same run: torch's FlashAttention-2, the best published plain Triton, the copy bandwidth.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cascadesim.validation.claim import Claim, Prediction, Settings, Suite
from cascadesim.validation.columns import Column, Layout, positive
from cascadesim.validation.kernels.measured_calls import Attended, Call, Streamed, calls_of
from cascadesim.validation.kernels.record_lines import Record
from cascadesim.validation.table import Row

PRESETS = {
    "NVIDIA H100 80GB HBM3": "h100-sxm", "NVIDIA H100 PCIe": "h100-pcie", "NVIDIA H200": "h200-sxm",
    "NVIDIA B200": "b200", "NVIDIA A100-SXM4-80GB": "a100-sxm", "NVIDIA A100-SXM4-40GB": "a100-sxm-40gb",
    "NVIDIA A100 80GB PCIe": "a100-sxm", "NVIDIA A40": "a40", "NVIDIA L40S": "l40s", "NVIDIA L4": "l4",
    "NVIDIA GeForce RTX 4090": "rtx4090",
}  # fmt: skip # names as the driver reports them -> presets; a PCIe part without its own is taken as the SXM one
FLASH, COPY = "sdpa FLASH_ATTENTION", "copy of the keys"
LONG = {"L": 16384, "D": 128, "causal": False}  # the shape that is held against published figures
BEST_TRITON_FLOPS = 395e12  # FlashAttention-3 paper, figure of H100, head dimension 128, 16K, full: Triton
NEAR = 0.9  # of that figure: another version of Triton, another clock
WRONG = 1e-2  # an error of a result from which its time is no evidence: twice what bf16 may have
COPY_SHARE, LARGE_BYTES = 0.8, 100_000_000  # decoding streams keys and values once; smaller caches are all launch
LAYOUT = Layout(
    (
        Column("gpu", str), Column("suite", str), Column("case", str), Column("kernel", str), Column("shape", str),
        Column("work", str), Column("latency_s", positive, required=False),
        *(Column(name, positive, required=False) for name in ("against_flash", "triton_flops", "copy_share")),
    ),
    key=("gpu", "suite", "case", "kernel"),
)  # fmt: skip


def predicted(row: Row, settings: Settings = ()) -> Prediction:
    """`settings`: changes of the device, as of every GPU suite."""
    calls = calls_of(row.text("suite"), json.loads(row.text("shape")), json.loads(row.text("work")))
    return {
        "latency_s": seconds_of(calls[row.text("kernel")], PRESETS[row.text("gpu")], settings),
        "against_flash": 1.0, "triton_flops": NEAR * BEST_TRITON_FLOPS, "copy_share": COPY_SHARE,
    }  # fmt: skip


def seconds_of(calls: Sequence[Call], preset: str, settings: Settings = ()) -> float | None:
    """One kernel after the other; None where one has no counts for the device."""
    each = [_seconds(call, preset, tuple(settings)) for call in calls]
    return None if None in each else sum(found for found in each if found is not None)


def _seconds(call: Call, preset: str, settings: tuple[str, ...]) -> float | None:
    from cascadesim.accelerators.gpu.calibration import constants
    from cascadesim.accelerators.gpu.streaming import stream_seconds
    from cascadesim.validation.gpu.model import device

    on = device(preset, settings)
    if isinstance(call, Streamed):
        known = constants(on.generation)
        return float(stream_seconds(on, known, call.read_bytes, call.write_bytes, warm=False)[0])
    return _attended_seconds(call, on)


def _attended_seconds(call: Attended, on: Any) -> float | None:
    from cascadesim.accelerators.gpu.grid import shape
    from cascadesim.validation.kernels.model import call_timing, counted, target_of

    counts = counted().get((call.counts, target_of(on) or 0))
    if counts is None:
        return None
    asked = shape(call.batch, call.heads, call.heads_kv, call.queries, call.keys, call.head_dim, call.value_dim,
                  call.causal, visited_keys=call.visited_keys)  # fmt: skip
    return float(call_timing(counts, on, asked, masked=call.masked, **call.traits).total_s[0])


KERNELS_MEASURED = Suite(
    "kernels-measured",
    "the GPU model's times of our kernels, from their static counts, against our records",
    "measurements",
    LAYOUT,
    predicted,
    (
        Claim("times of our kernels, reported only", "latency_s", None,
              "constants come from other kernels; the error says what they miss of ours"),
        Claim("1-pass, 16K tokens, head dimension 128, against torch's FlashAttention-2", "against_flash", 0.0,
              "the same cascade, in the same run", measure="excess"),
        Claim("the same on H100, against plain Triton as published", "triton_flops", 0.0,
              "nine tenths of the FlashAttention-3 paper's figure", measure="excess"),
        Claim("decoding of 100 MB of cache and more, against a copy in the same run", "copy_share", 0.0,
              "keys and values once: eight tenths of the copy's bandwidth", measure="excess"),
    ),
    ("gpu", "kernel"),
)  # fmt: skip


def rows_of_times(records: Iterable[Record]) -> Iterator[dict[str, str | int | float]]:
    """One for each variant that is predicted and right; devices without a preset are left out."""
    for record in records:
        if record["device"]["name"] not in PRESETS:
            continue
        calls = calls_of(record["suite"], record["shape"], record["work"])
        for name in record["timing"]:
            if name in calls and is_right(record, name):
                yield _cells(record, name)


def is_right(record: Record, name: str) -> bool:
    """Timed, and checked with an error that leaves its time as evidence."""
    error = record.get("check", {}).get(name)
    return bool(record["timing"].get(name, {}).get("cold")) and error is not None and 0 <= error < WRONG


def _cells(record: Record, name: str) -> dict[str, str | int | float]:
    shape, timing = record["shape"], record["timing"]
    seconds = median_us(timing[name]) * 1e-6
    cells: dict[str, str | int | float] = {
        "gpu": record["device"]["name"], "suite": record["suite"], "case": record["case"], "kernel": name,
        "shape": json.dumps(shape), "work": json.dumps(record["work"]), "latency_s": seconds,
    }  # fmt: skip
    if name == "attention-1pass" and LONG.items() <= shape.items():
        cells |= _against_others(record, seconds)
    copied = timing.get(COPY, {}).get("cold")
    if name.startswith("split keys") and copied and record["work"]["bytes"] >= LARGE_BYTES:
        cells["copy_share"] = median_us(timing[COPY]) * 1e-6 / seconds  # it moves as many bytes
    return cells


def _against_others(record: Record, seconds: float) -> dict[str, float]:
    found = {}
    if record["timing"].get(FLASH, {}).get("cold"):
        found["against_flash"] = median_us(record["timing"][FLASH]) * 1e-6 / seconds
    if PRESETS[record["device"]["name"]] == "h100-sxm":
        found["triton_flops"] = record["work"]["flop"] / seconds
    return found


def median_us(samples: Mapping[str, Sequence[float]]) -> float:
    """With cold caches, or with hot ones where only they were measured."""
    return statistics.median(samples.get("cold") or samples["hot"])
