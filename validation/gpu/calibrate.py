"""`python -m cascadesim.validation.gpu.calibrate`: fits the constants of the GPU model, writes their file.

Reads calibration rows only (`layouts.split_of`), of all architectures at once: constants that every device shares, and
those of each architecture, each inside its physical range. Bounded least squares in which large residuals count with
their size instead of its square. Architectures count equally, and so do the strata of each; intervals are by a
jackknife over ten groups of shapes. A constant that no row speaks of stays where it starts. Deterministic: the same
rows and model give the same file.

Then, with those kept, the two constants of an architecture that only the cycle level reads, from its own predictions of
calls of full attention.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from hashlib import blake2b
from itertools import product
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import expit, logit

from cascadesim.accelerators.gpu.calibration import FILE, SHARED, Constants, CycleConstants, constants, estimates
from cascadesim.accelerators.gpu.spec import Generation
from cascadesim.validation.gpu.layouts import CALIBRATION, Floats, Shapes
from cascadesim.validation.gpu.model import LEFT_OUT, LEFT_OUT_FILE, predicted_cycle_level_s, predicted_s
from cascadesim.validation.gpu.rows import SHORT_S
from cascadesim.validation.gpu.selections import DECODE, ENCODER, GEMM, MLA, PREFILL, own_shapes
from cascadesim.validation.gpu.verdict import equal_weights

SELECTIONS = (PREFILL, DECODE, ENCODER, MLA, GEMM)
ARCHITECTURES: tuple[Generation, ...] = ("ampere", "ada", "hopper", "blackwell")
# (highest, start): a physical range from 0, and what is known in general; the start decides only where rows say nothing
RANGES: Mapping[str, tuple[float, float]] = {
    "tensor_fraction": (1, 0.85), "special_fraction": (1, 0.85), "overlap_specialised": (1, 0.6),
    "instructions_specialised": (20, 5), "instructions_plain": (20, 8), "element_instructions": (30, 6),
    "conversion_instructions": (30, 10), "spilled_rate": (1, 0.25),
    "persistent_share": (1, 0.5), "gemm_fraction": (1, 0.75),
    "dram_fraction": (1, 0.95), "dram_ramp_s": (1e-5, 3e-6), "l2_fraction": (1, 0.65),
    "copied_bytes_per_clock": (64, 16), "block_latency_s": (1e-5, 2e-6), "kernel_latency_s": (2e-5, 2e-6),
    "narrow_share": (1, 0.8), "tensor_energy_pj": (5, 0.65), "memory_overlap": (1, 0.8),
    "cycle_tensor_fraction": (1, 0.75), "cycle_exponential_share": (1, 0.7),
}  # fmt: skip
MOST_CYCLE_ROWS = 150  # of an architecture, evenly over its calibration rows: each is run by the engine in every step
WEIGHT_OF_SHORT = 0.2
GROUPS = 10
STEPS = 100  # evaluations of a fit, derivatives not counted
REFIT_STEPS = 6  # likewise, from the best constants, so that few are needed
SOFT = 0.10  # residuals (of logarithms) beyond it count linearly: runs of one kernel scatter by about as much
PULL = 3e-4  # towards the start, in shares of the weight of all rows; it decides only what rows leave open
EDGE = 9.0  # the free variable at a bound: within 0.02 % of the range
WHOLE_CYCLES = 0.05  # step of derivatives of the cycle level, whose tasks take whole cycles
BEGINNINGS = (0.02, 0.3, 0.5, 0.6, 0.7, 0.85, 0.98)  # shares of its ranges: whole cycles make hollows that hold a fit
HOPELESS = 3.0  # logarithms of ratios are cut at it: a row that far off teaches nothing
HEADER = """\
# Written by `python -m cascadesim.validation.gpu.calibrate` from calibration rows alone (a fifth of all shapes, by a
# hash); do not edit. low and high: 95 % interval, jackknife over ten groups of shapes. Seconds; fractions below 1.
"""

LEFT_OUT_HEADER = """\
# Written by `python -m cascadesim.validation.gpu.calibrate`; do not edit. Constants of each device from the calibration
# rows of all others, those of its architecture or of the nearest one (gpu/model.py). Seconds; fractions below 1.
"""
Residuals: TypeAlias = Callable[[Floats], Floats]  # constants -> one residual a row


@dataclass(frozen=True)
class Range:
    """The physical range of a constant, from 0, both ends excluded, and where the search starts.

    `section`: the architecture that reads it, or `shared`.
    """

    name: str
    high: float
    start: float
    section: str = "shared"


@dataclass(frozen=True)
class FittedConstants:
    """Constants of a section with half the width of their intervals, and the rows they rest on."""

    values: Mapping[str, float]
    halves: Mapping[str, float]
    rows: Mapping[str, int]


def sections() -> Mapping[str, tuple[str, ...]]:
    """`shared` or architecture -> its constants."""
    own = tuple(name for name in Constants.model_fields if name not in SHARED)
    return {"shared": SHARED, **dict.fromkeys(ARCHITECTURES, own)}


def ranges() -> tuple[Range, ...]:
    """The range of every constant."""
    return tuple(Range(name, *RANGES[name], section) for section, names in sections().items() for name in names)


def calibration_rows(without: str | None = None) -> Shapes:
    """The calibration rows of every device of the four architectures but `without`.

    Calls of attention of any length, since short ones tell latencies apart; products of 20 us and more.
    """
    parts = []
    for selection in SELECTIONS:
        part = own_shapes(selection)
        kept = (part.split == CALIBRATION) & ((part.latency_s >= SHORT_S) | (part.operation != "gemm"))
        kept &= np.isin(part.architecture, ARCHITECTURES) & (part.device != (without or ""))
        parts.append(part.at(kept))
    return Shapes.joined(parts)


def calibrate(
    rows: Shapes, intervals: bool = True, start: Mapping[str, Mapping[str, float]] | None = None
) -> Mapping[str, FittedConstants]:
    """`shared` or architecture -> the constants that fit `rows` best; sought from `start`, or where ranges begin."""
    bounds = ranges()
    first = None if start is None else np.array([start[one.section][one.name] for one in bounds])
    # each stratum counts as much as any other, those of short calls less: they are there for the latencies
    weights = equal_weights(rows.stratum.tolist()) * np.where(rows.latency_s < SHORT_S, WEIGHT_OF_SHORT, 1.0)
    for architecture in ARCHITECTURES:
        own = rows.architecture == architecture
        weights[own] /= max(weights[own].sum(), 1e-12)
    read = readers(rows, bounds)
    best, half = fit(residuals_of(rows, bounds), bounds, weights, first, read=read), np.zeros(len(bounds))
    if intervals:
        half = jackknife(lambda kept: fit(residuals_of(rows.at(kept), bounds), bounds, weights[kept], best,
                                          REFIT_STEPS, read[kept]), _groups(rows), best)  # fmt: skip
    values = _named(bounds, best.tolist())
    halves, counts = _named(bounds, half.tolist()), _named(bounds, read.sum(axis=0).tolist())
    return {section: FittedConstants({name: values[section, name] for name in names},
                                     {name: halves[section, name] for name in names},
                                     {name: int(counts[section, name]) for name in names})
            for section, names in sections().items()}  # fmt: skip


def cycle_rows(architecture: str) -> Shapes:
    """Calls of attention of many queries of one architecture, 20 us and more, among the calibration rows."""
    rows = Shapes.joined([own_shapes(selection) for selection in (PREFILL, ENCODER)])
    kept = (rows.split == CALIBRATION) & (rows.latency_s >= SHORT_S) & (rows.architecture == architecture)
    places = np.flatnonzero(kept & np.isfinite(predicted_s(rows)))
    return rows.at(places[:: -(-len(places) // MOST_CYCLE_ROWS)])


def calibrate_cycle_level(
    intervals: bool = True, architectures: Sequence[Generation] = ARCHITECTURES,
    start: Mapping[str, Mapping[str, float]] | None = None,
) -> Mapping[str, FittedConstants]:  # fmt: skip
    """Architecture -> the constants of the cycle level, whose predictions are residuals as those of the closed form;
    sought from `start`, or from the best of a grid."""
    found: dict[str, FittedConstants] = {}
    for architecture in architectures:
        rows = cycle_rows(architecture)
        bounds = tuple(Range(name, *RANGES[name], architecture) for name in CycleConstants.model_fields)
        weights, half = equal_weights(rows.stratum.tolist()), np.zeros(len(bounds))
        residuals = cycle_residuals(rows, bounds)
        first = (beginning(residuals, bounds, weights) if start is None
                 else np.array([start[architecture][one.name] for one in bounds]))  # fmt: skip
        best = fit(residuals, bounds, weights, first, difference=WHOLE_CYCLES)
        if intervals:
            half = jackknife(partial(_without_group, rows, bounds, weights, best), _groups(rows), best)
        found[architecture] = FittedConstants(
            dict(zip(CycleConstants.model_fields, best.tolist(), strict=True)),
            dict(zip(CycleConstants.model_fields, half.tolist(), strict=True)),
            dict.fromkeys(CycleConstants.model_fields, len(rows)))  # fmt: skip
    return found


def beginning(residuals: Residuals, ranges: Sequence[Range], weights: Floats) -> Floats:
    """Of a grid over all ranges the constants with the least weighted sum of softened residuals."""

    def lost(values: Floats) -> float:
        return float(weights @ np.sqrt(1 + (residuals(values) / SOFT) ** 2))

    grid = (np.array([one.high * share for one, share in zip(ranges, shares, strict=True)])
            for shares in product(BEGINNINGS, repeat=len(ranges)))  # fmt: skip
    return min(grid, key=lost)


def _without_group(
    rows: Shapes, bounds: Sequence[Range], weights: Floats, best: Floats, kept: NDArray[np.bool_]
) -> Floats:
    return fit(cycle_residuals(rows.at(kept), bounds), bounds, weights[kept], best, REFIT_STEPS,
               difference=WHOLE_CYCLES)


def cycle_residuals(rows: Shapes, bounds: Sequence[Range]) -> Residuals:
    """Constants of the cycle level -> ln(predicted / measured) of every row of one architecture."""

    def residuals(values: Floats) -> Floats:
        names = (one.name for one in bounds)
        tried = CycleConstants.model_construct(None, **dict(zip(names, values.tolist(), strict=True)))
        ratio = predicted_cycle_level_s(rows, {bounds[0].section: tried}) / rows.latency_s
        return np.asarray(np.clip(np.log(ratio), -HOPELESS, HOPELESS), dtype=np.float64)

    return residuals


def _named(bounds: Sequence[Range], values: Sequence[float]) -> dict[tuple[str, str], float]:
    """(section, constant) -> its value."""
    return {(one.section, one.name): value for one, value in zip(bounds, values, strict=True)}


def residuals_of(rows: Shapes, bounds: Sequence[Range]) -> Residuals:
    """Constants, in the order of `bounds` -> ln(predicted / measured) of every row."""

    def residuals(values: Floats) -> Floats:
        found = _named(bounds, values.tolist())
        tried = {each: Constants.model_construct(None, **{name: value for (section, name), value in found.items()
                                                          if section in ("shared", each)})
                 for each in ARCHITECTURES}  # fmt: skip
        ratio = predicted_s(rows, of=cast("Mapping[str, Constants]", tried)) / rows.latency_s
        return np.asarray(np.clip(np.log(ratio), -HOPELESS, HOPELESS), dtype=np.float64)

    return residuals


def readers(rows: Shapes, bounds: Sequence[Range]) -> NDArray[np.bool_]:
    """(rows, constants): whether the prediction of a row changes with a constant."""
    start, residuals = np.array([one.start for one in bounds]), residuals_of(rows, bounds)
    base, found = residuals(start), np.zeros((len(rows), len(bounds)), dtype=np.bool_)
    for name in RANGES:  # of all architectures at once: a row reads those of its own
        alike = np.array([one.name == name for one in bounds])
        changed = residuals(np.where(alike, 0.99 * start, start)) != base
        for place in np.flatnonzero(alike).tolist():
            section = bounds[place].section
            found[:, place] = changed & ((section == "shared") | (rows.architecture == section))
    return found


def fit(
    residuals: Residuals, ranges: Sequence[Range], weights: Floats, start: Floats | None = None, steps: int = STEPS,
    read: NDArray[np.bool_] | None = None, difference: float = 1e-4,
) -> Floats:  # fmt: skip
    """(constants,) float64, in the order of `ranges`: the least weighted sum of softened residuals, inside the ranges.

    Every constant is the logistic image of a free variable, so that it stays strictly inside its range. Residuals
    count by soft_l1 (a square near 0, the size beyond SOFT), each with its weight; a weak pull of the free variables
    towards where each range starts decides what no row speaks of. `read`, (rows, constants): which row changes with
    which constant, all where left out. `difference`: of the free variables, relative, for derivatives.
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
    sparsity = None if read is None else np.vstack([read, np.eye(len(home), dtype=np.bool_)])
    found = least_squares(pulled, free_of(home if start is None else start), bounds=(-EDGE, EDGE), loss=loss,
                          f_scale=SOFT, diff_step=difference, ftol=1e-4, max_nfev=steps,
                          jac_sparsity=sparsity)  # fmt: skip
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


def _groups(rows: Shapes) -> NDArray[np.int64]:
    """(rows,) of which group each is: one shape on two devices is in one."""
    columns = (rows.seqlen_q, rows.kv_len, rows.batch, rows.heads_q, rows.m, rows.n, rows.k)
    keys = (" ".join(map(str, extents)) for extents in zip(*columns, strict=True))
    return np.array([blake2b(key.encode(), digest_size=4).digest()[0] % GROUPS for key in keys], dtype=np.int64)


def text(found: Mapping[str, FittedConstants]) -> str:
    """The file: section -> constant -> value, interval, rows; digits that YAML reads as a float."""

    def number(value: float) -> str:
        return f"{value:.3e}" if value < 1e-3 else f"{value:.4f}"

    lines = [HEADER.rstrip("\n")]
    for section, one in found.items():
        lines.append(f"{section}:")
        for name, value in one.values.items():
            low, high = max(value - one.halves[name], 0.0), min(value + one.halves[name], RANGES[name][0])
            lines.append(f"  {name}: {{value: {number(value)}, low: {number(low)}, high: {number(high)}, "
                         f"rows: {one.rows[name]}}}")
    return "\n".join(lines) + "\n"


def joined(
    found: Mapping[str, FittedConstants], cycle_level: Mapping[str, FittedConstants]
) -> Mapping[str, FittedConstants]:
    """Those of the closed form, and after them those of the cycle level."""
    return {section: FittedConstants(*({**getattr(one, field.name), **getattr(cycle_level[section], field.name)}
                                       for field in fields(one))) if section in cycle_level else one
            for section, one in found.items()}  # fmt: skip


def without(device: str) -> Mapping[str, float]:
    """Constants that have not seen `device`: of its architecture, and of the nearest where no other row reads them."""
    found, (own, nearest) = calibrate(calibration_rows(device), False), LEFT_OUT[device]
    seen = {name: value for name, value in found[own].values.items() if found[own].rows[name]}
    return {**found["shared"].values, **found[nearest].values, **seen}


def known_cycle_level() -> Mapping[str, FittedConstants]:
    """Constants of the cycle level as the file has them."""
    found: dict[str, FittedConstants] = {}
    for architecture in ARCHITECTURES:
        known = {name: one for name, one in estimates()[architecture].items() if name in CycleConstants.model_fields}
        found[architecture] = FittedConstants({name: one.value for name, one in known.items()},
                                              {name: (one.high - one.low) / 2 for name, one in known.items()},
                                              {name: one.rows for name, one in known.items()})  # fmt: skip
    return found


def main() -> int:
    found = calibrate(calibration_rows())
    FILE.write_text(text(joined(found, known_cycle_level())), encoding="utf-8")  # which the cycle level reads
    constants.cache_clear()
    estimates.cache_clear()
    FILE.write_text(text(joined(found, calibrate_cycle_level())), encoding="utf-8")
    lines = [line for device in LEFT_OUT
             for line in (f"{device}:", *(f"  {name}: {value:.4e}" for name, value in without(device).items()))]
    LEFT_OUT_FILE.write_text(LEFT_OUT_HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
