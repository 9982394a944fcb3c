"""`python -m cascadesim.validation.gpu.calibrate`: fits the constants of each architecture, writes their file.

Reads calibration rows only (`layouts.split_of`). In two steps: what dense products show of the device (tensor
fractions, DRAM, L2), then, with those kept, what attention adds. At most 12 constants an architecture are fitted here,
each inside its physical range: bounded least squares in which large residuals count with their size instead of its
square. Strata count equally; intervals are by a jackknife over ten groups of shapes. A constant that no row speaks of
stays where it starts. Deterministic: the same rows and model give the same file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import expit, logit

from cascadesim.accelerators.gpu.calibration import FILE, Constants
from cascadesim.validation.gpu.layouts import CALIBRATION, Floats, Shapes
from cascadesim.validation.gpu.model import LEFT_OUT, LEFT_OUT_FILE, predicted_s
from cascadesim.validation.gpu.rows import SHORT_S
from cascadesim.validation.gpu.selections import DECODE, ENCODER, GEMM, MLA, PREFILL, own_shapes
from cascadesim.validation.gpu.verdict import equal_weights

OF_PRODUCTS = ("gemm_fraction", "gemm_fp8_fraction", "gemm_dram_fraction", "l2_fraction")
STATED: Mapping[str, Mapping[str, float]] = {  # of kernels that an architecture has no rows of, or very few
    "ampere": {"overlap_specialised": 0.7, "gemm_fp8_fraction": 0.7}, "ada": {"overlap_specialised": 0.7},
    "hopper": {"overlap_plain": 0.1}, "blackwell": {"overlap_plain": 0.1},
}  # fmt: skip
SELECTIONS = (PREFILL, DECODE, ENCODER, MLA, GEMM)
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
STEPS = 100  # evaluations of a fit, derivatives not counted
REFIT_STEPS = 6  # likewise, from the best constants, so that few are needed
SOFT = 0.10  # residuals (of logarithms) beyond it count linearly: runs of one kernel scatter by about as much
PULL = 3e-4  # towards the start, in shares of the weight of all rows; it decides only what rows leave open
EDGE = 9.0  # the free variable at a bound: within 0.02 % of the range
HOPELESS = 3.0  # logarithms of ratios are cut at it: a row that far off teaches nothing
HEADER = """\
# Written by `python -m cascadesim.validation.gpu.calibrate` from calibration rows alone (a fifth of all shapes, by a
# hash); do not edit. low and high: 95 % interval, jackknife over ten groups of shapes. Fractions below 1; seconds.
"""

LEFT_OUT_HEADER = """\
# Written by `python -m cascadesim.validation.gpu.calibrate`; do not edit. Constants of each device from the calibration
# rows of all others of its architecture, or of the nearest one (gpu/model.py). Fractions below 1; seconds.
"""
Residuals: TypeAlias = Callable[[Floats], Floats]  # constants -> one residual a row


@dataclass(frozen=True)
class Range:
    """The physical range of a constant, from 0, both ends excluded, and where the search starts."""

    name: str
    high: float
    start: float


@dataclass(frozen=True)
class FittedConstants:
    """Constants of one architecture with half the width of their intervals, and the rows they rest on."""

    values: Mapping[str, float]
    halves: Mapping[str, float]
    rows: Mapping[str, int]


def ranges() -> tuple[Range, ...]:
    """The physical range of each constant of the model: a latency, or a fraction."""
    return tuple(Range(name, LONGEST_LATENCY_S if name.endswith("_s") else 1.0, START.get(name, 0.7))
                 for name in Constants.model_fields)  # fmt: skip


def calibration_rows(architecture: str, without: str | None = None) -> Shapes:
    """The calibration rows of every device of the architecture but `without`.

    Calls of attention of any length, since short ones tell latencies apart; products of 20 us and more.
    """
    parts = []
    for selection in SELECTIONS:
        part = own_shapes(selection)
        kept = (part.split == CALIBRATION) & ((part.latency_s >= SHORT_S) | (part.operation != "gemm"))
        parts.append(part.at(kept & (part.architecture == architecture) & (part.device != (without or ""))))
    return Shapes.joined(parts)


def calibrate(rows: Shapes, intervals: bool = True) -> FittedConstants:
    """The constants that fit `rows` of one architecture best."""
    stated = STATED[str(rows.architecture[0])]
    values = {one.name: stated.get(one.name, one.start) for one in ranges()}
    halves, counts = dict.fromkeys(values, 0.0), dict.fromkeys(values, 0)
    products = rows.operation == "gemm"
    for part, of_products in ((products, True), (~products, False)):
        if part.any():
            bounds = [one for one in ranges() if (one.name in OF_PRODUCTS) == of_products and one.name not in stated]
            best, half = _step(rows.at(part), bounds, values, intervals)
            for place, one in enumerate(bounds):
                values[one.name], halves[one.name] = float(best[place]), float(half[place])
                counts[one.name] = int(part.sum())
    return FittedConstants(values, halves, counts)


def _step(rows: Shapes, bounds: Sequence[Range], known: Mapping[str, float], intervals: bool) -> tuple[Floats, Floats]:
    """Some constants and half of their intervals, the others as they are known."""
    # each stratum counts as much as any other, those of short calls less: they are there for the latencies
    weights = equal_weights(rows.stratum.tolist()) * np.where(rows.latency_s < SHORT_S, WEIGHT_OF_SHORT, 1.0)

    def residuals_of(part: Shapes) -> Residuals:
        def residuals(values: Floats) -> Floats:
            fitted = {one.name: value for one, value in zip(bounds, values.tolist(), strict=True)}
            tried = Constants.model_construct(**{**known, **fitted})
            ratio = predicted_s(part, of={str(part.architecture[0]): tried}) / part.latency_s
            return np.asarray(np.clip(np.log(ratio), -HOPELESS, HOPELESS), dtype=np.float64)

        return residuals

    best = fit(residuals_of(rows), bounds, weights)
    if not intervals:
        return best, np.zeros_like(best)

    def refit(kept: NDArray[np.bool_]) -> Floats:
        return fit(residuals_of(rows.at(kept)), bounds, weights[kept], best, REFIT_STEPS)

    columns = (rows.seqlen_q, rows.kv_len, rows.batch, rows.heads_q, rows.m, rows.n, rows.k)
    keys = (" ".join(map(str, extents)) for extents in zip(*columns, strict=True))  # one shape on two devices: one key
    groups = np.array([blake2b(key.encode(), digest_size=4).digest()[0] % GROUPS for key in keys], dtype=np.int64)
    return best, jackknife(refit, groups, best)


def fit(residuals: Residuals, ranges: Sequence[Range], weights: Floats, start: Floats | None = None,
        steps: int = STEPS) -> Floats:
    """(constants,) float64, in the order of `ranges`: the least weighted sum of softened residuals, inside the ranges.

    Every constant is the logistic image of a free variable, so that it stays strictly inside its range. Residuals
    count by soft_l1 (a square near 0, the size beyond SOFT), each with its weight; a weak pull of the free variables
    towards where each range starts decides what no row speaks of.
    """
    high, home = (np.array([getattr(one, name) for one in ranges]) for name in ("high", "start"))

    def free_of(values: Floats) -> Floats:
        return np.asarray(logit(np.clip(values / high, 1e-3, 1 - 1e-3)), dtype=np.float64)

    def constants_of(free: Floats) -> Floats:
        return np.asarray(high * expit(free), dtype=np.float64)

    def pulled(free: Floats) -> Floats:
        """Residuals of the rows, then the pulls, all in the unit of SOFT."""
        return np.concatenate([residuals(constants_of(free)), SOFT * (free - free_of(home))])

    def loss(squared: Floats) -> Floats:
        """Value and two derivatives: soft_l1 of the rows, the square itself of the pulls."""
        root = np.sqrt(1 + squared)
        soft = np.stack([2 * (root - 1), 1 / root, -0.5 / root**3])
        plain = np.stack([squared, np.ones_like(squared), np.zeros_like(squared)])
        return np.asarray(weight * np.where(pulls, plain, soft), dtype=np.float64)

    weight = np.concatenate([weights / np.sum(weights), np.full(len(home), PULL)])
    pulls = np.arange(len(weight)) >= len(weights)
    found = least_squares(pulled, free_of(home if start is None else start), bounds=(-EDGE, EDGE), loss=loss,
                          f_scale=SOFT, diff_step=1e-4, ftol=1e-4, max_nfev=steps)  # fmt: skip
    return constants_of(found.x)


def jackknife(refit: Callable[[NDArray[np.bool_]], Floats], groups: NDArray[np.int64], best: Floats) -> Floats:
    """Half of the 95 % interval of each constant: the scatter of fits that each leave one group of rows out."""
    names = sorted(set(groups.tolist()))
    if len(names) < 2:
        return np.zeros_like(best)
    values = np.stack([refit(groups != name) for name in names])
    count = len(names)
    variance = (count - 1) / count * np.sum((values - values.mean(axis=0)) ** 2, axis=0)
    return np.asarray(1.96 * np.sqrt(variance), dtype=np.float64)


def text(found: Mapping[str, FittedConstants]) -> str:
    """The file: architecture -> constant -> value, interval, rows; digits that YAML reads as a float."""

    def number(value: float) -> str:
        return f"{value:.3e}" if value < 1e-3 else f"{value:.4f}"

    lines = [HEADER.rstrip("\n")]
    for architecture, one in found.items():
        lines.append(f"{architecture}:")
        for name, value in one.values.items():
            highest = LONGEST_LATENCY_S if name.endswith("_s") else 1.0
            low, high = max(value - one.halves[name], 0.0), min(value + one.halves[name], highest)
            lines.append(f"  {name}: {{value: {number(value)}, low: {number(low)}, high: {number(high)}, "
                         f"rows: {one.rows[name]}}}")
    return "\n".join(lines) + "\n"


def without(device: str) -> Mapping[str, float]:
    """Constants that have not seen `device`: of its architecture, and of the nearest where that leaves no rows."""
    own, nearest = LEFT_OUT[device]
    other, rows = calibrate(calibration_rows(nearest), False), calibration_rows(own, device)
    if not len(rows):
        return other.values
    found = calibrate(rows, False)
    return {name: value if found.rows[name] else other.values[name] for name, value in found.values.items()}


def main() -> int:
    found = {}
    for architecture in ARCHITECTURES:
        found[architecture] = calibrate(calibration_rows(architecture))
        print(f"{architecture}: {sum(set(found[architecture].rows.values()))} rows", file=sys.stderr)
    FILE.write_text(text(found), encoding="utf-8")
    lines = [line for device in LEFT_OUT
             for line in (f"{device}:", *(f"  {name}: {value:.4e}" for name, value in without(device).items()))]
    LEFT_OUT_FILE.write_text(LEFT_OUT_HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
