"""What `measure` times beside our kernels: single rates, and the library's kernels, as the GPU model has them.

Rates are the model's own (fractions of peaks that public rows of other kernels gave it), so a microbenchmark checks the
constants; a rate that no model of ours has is not predicted, and the reason is stated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias, cast

from cascadesim.validation.kernels.measured_calls import HALF_BYTES, UNPREDICTED, Call, Streamed, calls_of
from cascadesim.validation.measure.cases import DENSE_LIBRARY, FLEX, FLEX_TILES, Case

SETTLED = "read"  # of a buffer that stays in the L2 cache
OTHERS = "no rate of it in the model"
MIXED = "how far these instructions hide each other on one SM is what it measures"
COMPILES = "torch compiles a kernel of its own, which is not described"
LIBRARY = {"FLASH_ATTENTION": "flash-attention-2", "CUDNN_ATTENTION": "cudnn", "MATH": "unfused-pytorch"}
LIBRARY_DECODE = {**LIBRARY, "FLASH_ATTENTION": "flash-attention-2-decode"}
Unit: TypeAlias = Literal["launches", "products", "exponentials", "fp32", "l2", "shared", "dram latency"]


@dataclass(frozen=True)
class Rated:
    """So many operations (FLOP, bytes, loads, launches) of one unit; `per_sm`: of each multiprocessor's."""

    unit: Unit
    operations: float
    dtype: str = "fp16"
    per_sm: bool = False
    legacy: bool = False  # products by the instruction of an earlier generation


@dataclass(frozen=True)
class Library:
    """A kernel of accelerators/gpu/kernels."""

    kernel: str
    batch: int
    heads: int
    heads_kv: int
    queries: int
    keys: int
    head_dim: int
    causal: bool = False


Predicted: TypeAlias = Sequence[Call] | Rated | Library


def predicted_of(case: Case) -> Mapping[str, Predicted | str]:
    """Each variant of the case -> what the model times, or why it predicts nothing."""
    if case.suite == "microbenchmarks":
        known = _rates(case)
        return {name: known.get(name, OTHERS) for name in case.variants}
    calls = calls_of(case.suite, case.shape, case.work)
    beside = _library(case)
    return {name: calls.get(name) or beside.get(name) or UNPREDICTED.get(name, OTHERS) for name in case.variants}


def _library(case: Case) -> Mapping[str, Predicted | str]:
    shape = case.shape
    if case.suite == "neighborhood":
        tokens = prod(shape["layout"])
        dense = Library(LIBRARY["FLASH_ATTENTION"], 1, shape["H"], shape["H"], tokens, tokens, shape["D"])
        return {DENSE_LIBRARY: dense, FLEX_TILES: COMPILES}
    if case.suite == "attention":
        B, H, L, D = (shape[name] for name in "BHLD")
        return {FLEX: COMPILES,
                **{f"sdpa {backend}": Library(kernel, B, H, H, L, L, D, shape["causal"])
                   for backend, kernel in LIBRARY.items()}}  # fmt: skip
    if case.suite == "decode":
        B, H, G, M, D = (shape[name] for name in "BHGMD")
        moved = HALF_BYTES * B * G * M * D
        return {"copy of the keys": (Streamed(moved, moved),),
                **{f"sdpa {backend}": Library(kernel, B, H, G, 1, M, D)
                   for backend, kernel in LIBRARY_DECODE.items() if backend != "CUDNN_ATTENTION"},
                "sdpa CUDNN_ATTENTION": "cuDNN's kernel for one query is not described"}  # fmt: skip
    return {}


def _rates(case: Case) -> Mapping[str, Predicted | str]:
    """Of one microbenchmark."""
    work, shape = case.work, case.shape
    if case.name == "launch":
        each = Rated("launches", 1)
        many = work["launches"]
        return {"empty": each, "empty, CUDA C++": each, f"{many} empty": Rated("launches", many)}
    if case.name.startswith("matrix peak"):
        flop = work["flop_per_block"] * work["blocks_per_multiprocessor"]
        return {"products": Rated("products", flop, shape["kind"], per_sm=True)}
    if case.name == "exponentials":
        each_sm = work["per_block"] * work["blocks_per_multiprocessor"]
        return {"exponentials": Rated("exponentials", each_sm, per_sm=True)}
    if "read_bytes" in work:
        return _memory(work, shape["rereads"] > 1)
    if case.name == "issue mix":
        return {"fma_rate": Rated("fp32", 2 * work["fma_rate"]),
                "exponential_rate": Rated("exponentials", work["exponential_rate"]),
                "fma_and_exponential_rate": MIXED}  # fmt: skip
    if case.name == "mma.sync peak":
        kinds = {"product_rate_fp16": "fp16", "product_rate_bf16": "bf16"}
        return {**{name: Rated("products", work["flop"], kind, legacy=True) for name, kind in kinds.items()},
                "product_and_exponential_rate": MIXED}  # fmt: skip
    if case.name == "shared memory":
        return _shared(case.variants, work)
    if case.name == "latency DRAM":
        return {"global": Rated("dram latency", work["loads"])}
    return {}


def _memory(work: Mapping[str, int], cached: bool) -> Mapping[str, Predicted | str]:
    """One pass over the buffer; from the L2 cache only what is read again."""
    size = work["bytes"]
    read: Predicted = Rated("l2", work["read_bytes"]) if cached else (Streamed(size, 0),)
    copied = (Streamed(size, size),)
    return {"copy": copied, "write": (Streamed(0, size),), SETTLED: read, "torch copy": copied}


def _shared(variants: Sequence[str], work: Mapping[str, int]) -> Mapping[str, Predicted | str]:
    """Lanes that meet in a bank come one after another."""
    from cascadesim.validation.measure.cuda import STRIDES

    wide, *conflicts = variants
    narrow = work["bytes, 4 a lane"]
    ways = dict(zip(conflicts, STRIDES, strict=True))
    return {wide: Rated("shared", work["bytes, 16 a lane"]),
            **{name: Rated("shared", narrow * each) for name, each in ways.items()}}  # fmt: skip


def seconds(found: Rated | Library, preset: str, settings: tuple[str, ...] = ()) -> float | None:
    """On a device; None where its kernels have no such one."""
    from cascadesim.validation.gpu.model import device

    on = device(preset, settings)
    return _rated_s(found, on) if isinstance(found, Rated) else _library_s(found, on)


def _rated_s(rated: Rated, on: Any) -> float:
    from cascadesim.accelerators.gpu.calibration import constants
    from cascadesim.accelerators.gpu.timing import DRAM_LATENCY_S, LEGACY_RATE

    known = constants(on.generation)
    sms_per_s = on.sms * on.clock_hz
    if rated.unit == "products":
        share = LEGACY_RATE.get(("mma_sync", on.generation), 1.0) if rated.legacy else 1.0
        fraction = known.tensor_fraction if rated.dtype != "fp32" else 1.0
        rate = sms_per_s * on.flop_per_clock_sm(cast(Any, rated.dtype)) * fraction * share
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


def _library_s(library: Library, on: Any) -> float | None:
    import numpy as np

    from cascadesim.accelerators.gpu.batch import attention_seconds
    from cascadesim.accelerators.gpu.kernel import load_kernel

    kernel = load_kernel(library.kernel)
    if on.generation not in kernel.generations:
        return None
    found = float(attention_seconds(
        on, kernel, batch=library.batch, heads=library.heads, heads_kv=library.heads_kv, queries=library.queries,
        keys=library.keys, head_dim=library.head_dim, causal=library.causal, dtype="fp16", cold=True,
    )[0])  # fmt: skip
    return found if np.isfinite(found) else None
