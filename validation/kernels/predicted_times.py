"""What the models say of every case that `measure` runs, written down before there is any record of it.

`python -m cascadesim.validation.kernels.predicted_times` writes measurements/predictions.csv anew: one row for each
GPU, case and variant, with the commit whose models made it, and a reason in place of a number where they predict none.
Our kernels are timed by `model`; here are single rates and the library's kernels, as the GPU model has them. Rates are
the model's own (fractions of peaks that public rows of other kernels gave it), so a microbenchmark checks the
constants; a rate that no model of ours has is not predicted, and the reason is stated.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Literal, TypeAlias

from cascadesim.accelerators.gpu.attention.tile import legacy_rate
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.memory import DRAM_LATENCY_S
from cascadesim.accelerators.gpu.spec import Device, Dtype
from cascadesim.validation.gpu.model import device
from cascadesim.validation.kernels.model import (
    HALF_BYTES,
    UNPREDICTED,
    Attended,
    KernelCall,
    Streamed,
    calls_of,
    seconds_of,
)
from cascadesim.validation.kernels.records import MEASUREMENTS, PREDICTIONS, PredictedTime
from cascadesim.validation.measure.cases import DENSE_LIBRARY, FLEX, FLEX_TILES, STRIDES, BenchmarkCase, cases

GPUS: Mapping[str, str] = {"NVIDIA H100 80GB HBM3": "h100-sxm", "NVIDIA H200": "h200-sxm"}  # as the driver names them
COLUMNS = ("gpu", "suite", "case", "variant", "seconds", "why", "commit")
SOURCES = ("accelerators", "einsum_cascades", "kernels", "validation/*.py")  # what a prediction comes from
DIGITS = 6
HEAD = (
    "# Times of every case and variant of `cascadesim measure`, with cold caches, as the models predict them.\n"
    "# Written before the first record existed; `why` stands where nothing is predicted.\n"
)
OTHERS = "no rate of it in the model"
MIXED = "how far these instructions hide each other on one SM is what it measures"
COMPILES = "torch compiles a kernel of its own, which is not described"
NO_KERNEL = "no counts of it, or no kernel, for this device"
LIBRARY = {"FLASH_ATTENTION": "flash-attention-2", "CUDNN_ATTENTION": "cudnn", "MATH": "unfused-pytorch"}
LIBRARY_DECODE = {"FLASH_ATTENTION": "flash-attention-2-decode", "MATH": LIBRARY["MATH"]}
RatedUnit: TypeAlias = Literal["launches", "products", "exponentials", "fp32", "l2", "shared", "dram latency"]


@dataclass(frozen=True)
class Rated:
    """So many operations (FLOP, bytes, loads, launches) of one unit; `per_sm`: of each multiprocessor's."""

    unit: RatedUnit
    operations: float
    dtype: Dtype = "fp16"
    per_sm: bool = False
    legacy: bool = False  # products by the instruction of an earlier generation


Predictable: TypeAlias = Sequence[KernelCall] | Rated
of_library = partial(Attended, library=True)
# variant -> what the model times, or why it predicts nothing
PredictableOrWhyNot: TypeAlias = Mapping[str, Predictable | str]


def predicted_of(case: BenchmarkCase) -> PredictableOrWhyNot:
    """Each variant of the case -> what the model times, or why it predicts nothing."""
    if case.suite == "microbenchmarks":
        known = _rates(case)
        return {name: known.get(name, OTHERS) for name in case.variants}
    calls = calls_of(case.suite, case.shape, case.work)
    beside = _library(case)
    return {name: calls.get(name) or beside.get(name) or UNPREDICTED.get(name, OTHERS) for name in case.variants}


def _library(case: BenchmarkCase) -> PredictableOrWhyNot:
    shape = case.shape
    if case.suite == "neighborhood":
        tokens = prod(shape["layout"])
        dense = of_library(LIBRARY["FLASH_ATTENTION"], 1, shape["H"], shape["H"], tokens, tokens, shape["D"])
        return {DENSE_LIBRARY: (dense,), FLEX_TILES: COMPILES}
    if case.suite == "attention":
        B, H, L, D = (shape[name] for name in "BHLD")
        return {FLEX: COMPILES,
                **{f"sdpa {backend}": (of_library(kernel, B, H, H, L, L, D, causal=shape["causal"]),)
                   for backend, kernel in LIBRARY.items()}}  # fmt: skip
    if case.suite == "decode":
        B, H, G, M, D = (shape[name] for name in "BHGMD")
        moved = HALF_BYTES * B * G * M * D
        return {"copy of the keys": (Streamed(moved, moved),),
                **{f"sdpa {backend}": (of_library(kernel, B, H, G, 1, M, D),)
                   for backend, kernel in LIBRARY_DECODE.items()},
                "sdpa CUDNN_ATTENTION": "cuDNN's kernel for one query is not described"}  # fmt: skip
    return {}


def _rates(case: BenchmarkCase) -> PredictableOrWhyNot:
    """What the model has of one microbenchmark."""
    work, shape = case.work, case.shape
    if case.name == "launch":
        each, many = Rated("launches", 1), work["launches"]
        return {"empty": each, "empty, CUDA C++": each, f"{many} empty": Rated("launches", many)}
    if case.name.startswith("matrix peak"):
        flop = work["flop_per_block"] * work["blocks_per_multiprocessor"]
        return {"products": Rated("products", flop, shape["kind"], per_sm=True)}
    if case.name == "exponentials":
        each_sm = work["per_block"] * work["blocks_per_multiprocessor"]
        return {"exponentials": Rated("exponentials", each_sm, per_sm=True)}
    if "read_bytes" in work:  # one pass over the buffer; from the L2 cache only what is read again
        size = work["bytes"]
        read: Predictable = Rated("l2", work["read_bytes"]) if shape["rereads"] > 1 else (Streamed(size, 0),)
        copied = (Streamed(size, size),)
        return {"copy": copied, "write": (Streamed(0, size),), "read": read, "torch copy": copied}
    if case.name == "issue mix":
        return {"fma_rate": Rated("fp32", 2 * work["fma_rate"]),
                "exponential_rate": Rated("exponentials", work["exponential_rate"]),
                "fma_and_exponential_rate": MIXED}  # fmt: skip
    if case.name == "mma.sync peak":
        kinds: Mapping[str, Dtype] = {"product_rate_fp16": "fp16", "product_rate_bf16": "bf16"}
        return {**{name: Rated("products", work["flop"], kind, legacy=True) for name, kind in kinds.items()},
                "product_and_exponential_rate": MIXED}  # fmt: skip
    if case.name == "shared memory":  # lanes that meet in a bank come one after another
        wide, *conflicts = case.variants
        narrow = work["bytes, 4 a lane"]
        return {wide: Rated("shared", work["bytes, 16 a lane"]),
                **{name: Rated("shared", narrow * ways)
                   for name, ways in zip(conflicts, STRIDES, strict=True)}}  # fmt: skip
    return {"global": Rated("dram latency", work["loads"])} if case.name == "latency DRAM" else {}


def seconds(found: Predictable, preset: str, settings: tuple[str, ...] = ()) -> float | None:
    """The time on a device; None where there are no counts, or no kernel, for it."""
    if isinstance(found, Rated):
        return _rated_s(found, device(preset, settings))
    return seconds_of(found, preset, settings)


def _rated_s(rated: Rated, on: Device) -> float:
    known = constants(on.generation)
    sms_per_s = on.sms * on.clock_hz
    rate: Any
    if rated.unit == "products":
        share = legacy_rate("mma_sync", on.generation) if rated.legacy else 1.0
        fraction = known.tensor_fraction if rated.dtype != "fp32" else 1.0
        rate = sms_per_s * on.flop_per_clock_sm(rated.dtype) * fraction * share
    else:
        rate = {
            "launches": 1 / on.launch_s,
            "exponentials": sms_per_s * on.sm.special_per_clock * known.special_fraction,
            "fp32": sms_per_s * 2 * on.sm.fp32_fma_per_clock,
            "l2": known.l2_fraction * on.l2_ceiling_bytes_per_s,
            "shared": sms_per_s * on.sm.shared_memory_bytes_per_clock,
            "dram latency": 1 / DRAM_LATENCY_S,
        }[rated.unit]
    operations = rated.operations * (on.sms if rated.per_sm else 1)
    return float(operations / rate + (on.launch_s if rated.unit != "launches" else 0.0))


def made(commit: str) -> Iterator[PredictedTime]:
    """Every case, by the models as they are."""
    for gpu, preset in GPUS.items():
        for case in cases():
            for variant, found in predicted_of(case).items():
                time_s = None if isinstance(found, str) else seconds(found, preset)
                why = found if isinstance(found, str) else NO_KERNEL if time_s is None else ""
                yield PredictedTime(gpu, case.suite, case.name, variant, time_s, why, commit)


def as_text(rows: Iterable[PredictedTime]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        time_s = "" if row.seconds is None else f"{row.seconds:.{DIGITS}g}"
        writer.writerow((row.gpu, row.suite, row.case, row.variant, time_s, row.why, row.commit))
    return HEAD + out.getvalue()


def _commit() -> str:
    """The one whose models predict. Exits with one line where the files are not those of a commit."""

    def git(*arguments: str) -> str:
        checkout = MEASUREMENTS.resolve().parents[1]
        done = subprocess.run(["git", *arguments], cwd=checkout, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", *SOURCES)
        if changed:
            sys.exit(f"predicted_times: predictions name a commit, so commit first: {' '.join(changed.split())[:200]}")
        return git("rev-parse", "--short=12", "HEAD")
    except (OSError, subprocess.SubprocessError):
        sys.exit("predicted_times: needs git and a checkout, because predictions name a commit")


def main() -> None:
    path = MEASUREMENTS / PREDICTIONS
    if any(MEASUREMENTS.rglob("*.jsonl")) and path.exists():
        sys.exit("predicted_times: there are records; what was predicted before them stays as it is")
    text = as_text(made(_commit()))
    MEASUREMENTS.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
