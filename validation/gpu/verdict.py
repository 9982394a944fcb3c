"""Judges claims about measured GPU times: pooled with equal weight per stratum, and against two baselines.

Three gates beyond those of `compare`: the pooled median error, the worst rank correlation of a stratum of 30 rows and
more (as 1 - tau), and the pooled error as a share of the plain roofline's. A pooled median gives every row the weight
1 / rows of its stratum, or 1 / 10 in smaller ones. How well any model could rank the rows of a stratum follows from
its twins: rows that a kernel can hardly tell apart, so that how far their times lie apart is what a run, a clock, a
choice by batch or a version leaves open. Pure arithmetic on arrays.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import TypeAlias

import numpy as np

from cascadesim.validation.claim import Cell, Claim, Errors, StratumErrors, Suite, Verdict, errors
from cascadesim.validation.gpu.layouts import BASELINES, OF_ROOFLINE, POOLED, RANKING, Floats
from cascadesim.validation.table import Row, Value

FEW_ROWS = 30  # issue: rank correlation is judged in strata of 30 rows and more
FEWEST_ROWS = 10  # a stratum of fewer weighs less than one: a single row is no stratum
FEWEST_PAIRS = 10  # of twins, to say anything of a stratum
PERCENTS = (10, 20, 50)  # errors within which shares of the rows are reported
STRATUM = "stratum"
ALIKE = ("dtype", "kv_dtype", "head_dim", "causal", "seqlen_q", "m", "n", "k")  # of twins
SIZES = ("batch", "heads_q", "heads_kv", "kv_len", "window")
Figures: TypeAlias = Mapping[str, float | None]
_normal = np.vectorize(lambda deviations: (1 + math.erf(deviations / math.sqrt(2))) / 2, otypes=[np.float64])


def judge(suite: Suite, claim: Claim, source: str, cells: Sequence[Cell]) -> Verdict:
    """The verdict of `claim` on its cells, with the figures of every stratum."""
    columns = {name.removesuffix("_s"): [cell.row.number(name) for cell in cells] for name in BASELINES}
    columns |= {"predicted": [cell.predicted for cell in cells], "measured": [cell.measured for cell in cells]}
    times = {name: np.array([math.nan if one is None else one for one in column], dtype=np.float64)
             for name, column in columns.items()}  # fmt: skip
    names = [str(cell.row.get(STRATUM)) for cell in cells]
    strata = tuple(stratum for column in suite.strata for stratum in _strata(column, cells, times))
    worst = max(cells, key=lambda cell: cell.error(claim.measure))
    return Verdict(suite.name, claim, source, _errors(cells, times, equal_weights(names)), worst, strata, tuple(cells),
                   figures=_pooled(times, names))  # fmt: skip


def _errors(cells: Sequence[Cell], times: Mapping[str, Floats], weights: Floats) -> Errors:
    """Mean, median and 90th percentile with equal weight per stratum."""
    found = np.abs(times["predicted"] / times["measured"] - 1)
    found = np.where(np.isfinite(found), found, math.inf)
    rows = len({id(cell.row) for cell in cells})
    return Errors(rows, len(cells), float(np.average(found, weights=weights)), weighted_quantile(found, weights, 0.5),
                  weighted_quantile(found, weights, 0.9), float(found.max()))  # fmt: skip


def _strata(column: str, cells: Sequence[Cell], times: Mapping[str, Floats]) -> list[StratumErrors]:
    values = [cell.row.get(column) for cell in cells]
    found = []
    for value in sorted(set(values), key=str):
        which = np.array([index for index, one in enumerate(values) if one == value])
        part = {name: column_[which] for name, column_ in times.items()}
        own = [cells[index] for index in which]
        figures = {**merit(part), "tau_ceiling": _ceiling(own, part["measured"]) if column == STRATUM else None}
        found.append(StratumErrors(column, value, errors(own, "deviation"), figures))
    return found


def _ceiling(cells: Sequence[Cell], measured: Floats) -> float | None:
    """The largest rank correlation that scatter allows, in strata where it is judged."""
    if len(cells) < FEW_ROWS:
        return None
    deviation = scatter([twin_key(cell.row) for cell in cells], measured)
    return None if deviation is None else tau_ceiling(measured, deviation)


def _pooled(times: Mapping[str, Floats], strata: Sequence[str]) -> Figures:
    predicted, measured, weights = times["predicted"], times["measured"], equal_weights(strata)
    baselines = _baseline_errors(times, weights)
    model, roofline = median_error(predicted, measured, weights), baselines["roofline_median_abs_relative_error"]
    error = predicted / measured - 1
    names = np.array(strata)
    ranked = [names == name for name in set(strata) if np.count_nonzero(names == name) >= FEW_ROWS]
    return {
        POOLED: model,
        "pooled_small_strata_in_full": median_error(predicted, measured, equal_weights(strata, 1)),
        RANKING: max((1 - (kendall_tau(predicted[part], measured[part]) or 0.0) for part in ranked), default=0.0),
        OF_ROOFLINE: model / roofline if model is not None and roofline else None,
        "bias": weighted_quantile(error, weights, 0.5) if np.isfinite(error).all() else None,
        **_shares_within(error, weights), **baselines,
    }  # fmt: skip


def merit(times: Mapping[str, Floats]) -> Figures:
    """Bias (median of the signed error), rank correlation, shares within 10, 20, 50 %, and baselines, of one stratum.

    `times`: (rows,) float64, seconds: `predicted`, `measured` and each baseline.
    """
    error = times["predicted"] / times["measured"] - 1
    return {"bias": float(np.median(error)), "kendall_tau": kendall_tau(times["predicted"], times["measured"]),
            **_shares_within(error, None), **_baseline_errors(times, None)}  # fmt: skip


def _shares_within(error: Floats, weights: Floats | None) -> dict[str, float]:
    return {f"within_{limit}": float(np.average(np.abs(error) <= limit / 100, weights=weights)) for limit in PERCENTS}


def _baseline_errors(times: Mapping[str, Floats], weights: Floats | None) -> dict[str, float | None]:
    return {f"{name}_median_abs_relative_error": median_error(column, times["measured"], weights)
            for name, column in times.items() if name not in ("predicted", "measured")}  # fmt: skip


def median_error(predicted: Floats, measured: Floats, weights: Floats | None = None) -> float | None:
    """The median of |predicted / measured - 1| over the rows that are predicted; None if none is."""
    known = np.isfinite(predicted)
    if not known.any():
        return None
    error = np.abs(predicted[known] / measured[known] - 1)
    return weighted_quantile(error, np.ones(len(error)) if weights is None else weights[known], 0.5)


def weighted_quantile(values: Floats, weights: Floats, share: float) -> float:
    """The smallest value that at least such a share of the weight does not exceed."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] * share * (1 - 1e-12))])


def equal_weights(strata: Sequence[str], fewest: int = FEWEST_ROWS) -> Floats:
    """1 / rows of its stratum for each row; 1 / `fewest` in strata of fewer rows, which say little."""
    _, inverse, counts = np.unique(np.asarray(strata), return_inverse=True, return_counts=True)
    return np.asarray(1.0 / np.maximum(counts[inverse], fewest), dtype=np.float64)


def kendall_tau(first: Floats, second: Floats) -> float | None:
    """tau-b of two rankings; None where one of them ranks nothing."""
    ups, downs = (np.sign(values[:, None] - values[None, :]).astype(np.float32) for values in (first, second))
    norm = float(np.sqrt(np.sum(ups * ups) * np.sum(downs * downs)))
    return float(np.sum(ups * downs)) / norm if norm > 0 else None


def twin_key(row: Row) -> Hashable:
    """Equal for twins: as many key heads over the whole batch, each with the same queries, keys in reach, group, types
    and mask; or products of the same sizes."""
    batch, heads, key_heads, keys, window = (row.number(name) or 0 for name in SIZES)
    same: tuple[Value, ...] = tuple(row.get(name) for name in ALIKE)
    if not key_heads:
        return (batch, *same)
    return (batch * key_heads, heads / key_heads, min(keys, window or keys), bool(window), *same)


def scatter(keys: Sequence[Hashable], measured: Floats) -> float | None:
    """Standard deviation of the logarithm of one row, from the pairs of twins; None where there are too few."""
    groups: dict[Hashable, list[float]] = {}
    for key, time in zip(keys, np.log(measured).tolist(), strict=True):
        groups.setdefault(key, []).append(time)
    apart = [first - second for times in groups.values() for first, second in combinations(times, 2)]
    if len(apart) < FEWEST_PAIRS:
        return None
    return math.sqrt(float(np.mean(np.square(apart))) / 2)


def tau_ceiling(measured: Floats, deviation: float) -> float:
    """Kendall's tau that the true times would reach against measured ones that scatter by `deviation`, on average.

    Two rows whose logarithms differ by d stay in order with the probability that a normal error of sqrt(2) deviation
    is smaller than d; measured differences stand for the true ones.
    """
    first, second = np.triu_indices(len(measured), 1)
    apart = np.abs(np.log(measured[first] / measured[second]))
    if deviation <= 0:
        return 1.0
    return float(np.mean(2 * _normal(apart / (math.sqrt(2) * deviation)) - 1))
