"""`python -m cascadesim.validation.gpu.calibrate`: fits the constants of each architecture, writes their file.

Reads calibration rows only (`split`). In two steps: what dense products show of the device
(tensor fractions, DRAM, L2), then, with those kept, what attention adds. At most 12 constants an architecture are
fitted here, each inside its physical range. Strata count equally; intervals are by a jackknife over ten groups of
shapes. Deterministic: the same rows and model give the same file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.gpu.calibration import FILE, Constants
from cascadesim.validation.claims.gpu import DECODE, ENCODER, GEMM, MLA, PREFILL
from cascadesim.validation.gpu import left_out as gpu_left_out
from cascadesim.validation.gpu.errors import equal_weights
from cascadesim.validation.gpu.fit import Fit, Floats, Range, fit, jackknife
from cascadesim.validation.gpu.model import predicted_s
from cascadesim.validation.gpu.rows import SHORT_S
from cascadesim.validation.gpu.split import CALIBRATION
from cascadesim.validation.gpu.suites import Scope, own_shapes
from cascadesim.validation.gpu.work import Shapes

OF_PRODUCTS = ("gemm_fraction", "gemm_fp8_fraction", "gemm_dram_fraction", "l2_fraction")
STATED: Mapping[str, Mapping[str, float]] = {  # of kernels that an architecture has no rows of, or very few
    "ampere": {"overlap_specialised": 0.7, "gemm_fp8_fraction": 0.7}, "ada": {"overlap_specialised": 0.7},
    "hopper": {"overlap_plain": 0.1}, "blackwell": {"overlap_plain": 0.1},
}  # fmt: skip
SCOPES = (PREFILL, DECODE, ENCODER, MLA, GEMM)
ARCHITECTURES = ("ampere", "ada", "hopper", "blackwell")
LONGEST_LATENCY_S = 1e-5  # a kernel's latency is some microseconds; beyond that it is work
START = {  # what is known of kernels in general; decides only where rows say nothing
    "tensor_fraction": 0.85, "special_fraction": 0.85, "overlap_specialised": 0.7,
    "overlap_plain": 0.3, "gemm_fraction": 0.75, "gemm_fp8_fraction": 0.65, "gemm_dram_fraction": 0.85,
    "dram_fraction": 0.95, "l2_fraction": 0.65, "block_latency_s": 2e-6, "kernel_latency_s": 2e-6,
    "memory_overlap": 0.8,
}  # fmt: skip
WEIGHT_OF_SHORT = 0.2
GROUPS = 10
REFIT_STEPS = 6  # from the best constants, so that few are needed
HOPELESS = 3.0  # logarithms of ratios are cut at it: a row that far off teaches nothing
HEADER = """\
# Written by `python -m cascadesim.validation.gpu.calibrate` from calibration rows alone (a fifth of all shapes, by a
# hash); do not edit. low and high: 95 % interval, jackknife over ten groups of shapes. Fractions below 1; seconds.
"""

LEFT_OUT_HEADER = """\
# Written by `python -m cascadesim.validation.gpu.calibrate`; do not edit. Constants of each device from the calibration
# rows of all others of its architecture, or of the nearest one (gpu_left_out.py). Fractions below 1; seconds.
"""


@dataclass(frozen=True)
class Calibrated:
    """Constants of one architecture with half the width of their intervals, and the rows they rest on."""

    values: Mapping[str, float]
    halves: Mapping[str, float]
    rows: Mapping[str, int]

    @property
    def constants(self) -> Constants:
        return Constants.model_validate(dict(self.values))


def ranges() -> tuple[Range, ...]:
    """The physical range of each constant of the model: a latency, or a fraction."""
    return tuple(
        Range(name, 0.0, LONGEST_LATENCY_S if name.endswith("_s") else 1.0, START.get(name, 0.7))
        for name in Constants.model_fields
    )


def calibration_rows(architecture: str, without: str | None = None, scopes: Sequence[Scope] = SCOPES) -> Shapes:
    """Of all suites that calibrate; of every device of the architecture but `without`."""
    parts = [own_shapes(scope) for scope in scopes]
    return Shapes.joined([part.at(_usable(part, architecture, without)) for part in parts])


def _usable(part: Shapes, architecture: str, without: str | None) -> NDArray[np.bool_]:
    """Calls of attention of any length, since short ones tell latencies apart; products of 20 us and more."""
    kept = (part.split == CALIBRATION) & ((part.latency_s >= SHORT_S) | (part.operation != "gemm"))
    return np.asarray(kept & (part.architecture == architecture) & (part.device != (without or "")), dtype=np.bool_)


def calibrate(rows: Shapes, intervals: bool = True) -> Calibrated:
    """The constants that fit `rows` of one architecture best."""
    stated = STATED[str(rows.architecture[0])]
    values = {one.name: stated.get(one.name, one.start) for one in ranges()}
    halves, counts = dict.fromkeys(values, 0.0), dict.fromkeys(values, 0)
    products = rows.operation == "gemm"
    for part, of_products in ((products, True), (~products, False)):
        if part.any():
            bounds = [one for one in ranges() if (one.name in OF_PRODUCTS) == of_products and one.name not in stated]
            step = _step(rows.at(part), bounds, values, intervals)
            values, halves = {**values, **step.values}, {**halves, **step.halves}
            counts |= dict.fromkeys(step.values, int(part.sum()))
    return Calibrated(values, halves, counts)


def _step(rows: Shapes, bounds: Sequence[Range], known: Mapping[str, float], intervals: bool) -> Calibrated:
    """Some constants, the others as they are known."""
    weights, names = weights_of(rows), [one.name for one in bounds]
    best = _fit(rows, weights, bounds, known)

    def without(kept: NDArray[np.bool_]) -> Floats:
        return _fit(rows.at(kept), weights[kept], bounds, known, best.values, REFIT_STEPS).values

    half = jackknife(without, _groups(rows), best.values) if intervals else np.zeros_like(best.values)
    return Calibrated(dict(zip(names, best.values.tolist(), strict=True)), dict(zip(names, half.tolist(), strict=True)),
                      {})  # fmt: skip


def weights_of(rows: Shapes) -> Floats:
    """Each stratum counts as much as any other, those of short calls less: they are there for the latencies."""
    return equal_weights(rows.stratum.tolist()) * np.where(rows.latency_s < SHORT_S, WEIGHT_OF_SHORT, 1.0)


def _fit(rows: Shapes, weights: Floats, bounds: Sequence[Range], known: Mapping[str, float],
         start: Floats | None = None, steps: int = 40) -> Fit:
    architecture = str(rows.architecture[0])
    names = [one.name for one in bounds]

    def residuals(values: Floats) -> Floats:
        tried = Constants.model_construct(**{**known, **dict(zip(names, values.tolist(), strict=True))})
        ratio = predicted_s(rows, of={architecture: tried}) / rows.latency_s
        return np.asarray(np.clip(np.log(ratio), -HOPELESS, HOPELESS), dtype=np.float64)

    return fit(residuals, bounds, weights, start, steps)


def _groups(rows: Shapes) -> NDArray[np.int64]:
    """Ten groups by a hash of the shape, so that one shape on two devices is left out together."""
    keys = [f"{q} {k} {b} {h} {m} {n} {d}" for q, k, b, h, m, n, d in zip(
        rows.seqlen_q, rows.kv_len, rows.batch, rows.heads_q, rows.m, rows.n, rows.k, strict=True)]  # fmt: skip
    return np.array([blake2b(key.encode(), digest_size=4).digest()[0] % GROUPS for key in keys], dtype=np.int64)


def text(found: Mapping[str, Calibrated]) -> str:
    """The file: architecture -> constant -> value, interval, rows."""
    lines = [HEADER.rstrip("\n")]
    for architecture, one in found.items():
        lines.append(f"{architecture}:")
        lines += [f"  {name}: {_entry(name, value, one)}" for name, value in one.values.items()]
    return "\n".join(lines) + "\n"


def _entry(name: str, value: float, one: Calibrated) -> str:
    highest = LONGEST_LATENCY_S if name.endswith("_s") else 1.0
    low, high = max(value - one.halves[name], 0.0), min(value + one.halves[name], highest)
    numbers = ", ".join(f"{label}: {_number(number)}" for label, number in zip(
        ("value", "low", "high"), (value, low, high), strict=True))  # fmt: skip
    return f"{{{numbers}, rows: {one.rows[name]}}}"


def _number(value: float) -> str:
    """Digits that YAML reads as a float."""
    return f"{value:.3e}" if value < 1e-3 else f"{value:.4f}"


def without(device: str) -> Mapping[str, float]:
    """Constants that have not seen `device`: of its architecture, and of the nearest where that leaves no rows."""
    own, nearest = gpu_left_out.DEVICES[device]
    parts = [calibrate(calibration_rows(own, device), False) if len(calibration_rows(own, device)) else None,
             calibrate(calibration_rows(nearest), False)]  # fmt: skip
    found, other = parts
    if found is None or other is None:
        return other.values if other else {}
    return {name: value if found.rows[name] else other.values[name] for name, value in found.values.items()}


def main(path: Path = FILE, left_out: Path = gpu_left_out.FILE) -> int:
    found = {}
    for architecture in ARCHITECTURES:
        found[architecture] = calibrate(calibration_rows(architecture))
        print(f"{architecture}: {sum(set(found[architecture].rows.values()))} rows", file=sys.stderr)
    path.write_text(text(found), encoding="utf-8")
    unseen = {device: without(device) for device in gpu_left_out.DEVICES}
    left_out.write_text(gpu_left_out.text(unseen, LEFT_OUT_HEADER), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
