"""Judges claims about measured GPU times: pooled with equal weight per stratum, and against two baselines.

Three gates beyond those of `compare`: the pooled median error, the worst rank correlation of a stratum of 30 rows and
more (as 1 - tau), and the pooled error as a share of the plain roofline's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cascadesim.validation.claim import Claim, Suite
from cascadesim.validation.compare import Cell, Errors, Stratum, Verdict, errors
from cascadesim.validation.gpu.errors import (
    FEW_ROWS,
    Figures,
    equal_weights,
    kendall_tau,
    median_error,
    merit,
    relative,
    weighted_median,
    weighted_quantile,
)
from cascadesim.validation.gpu.layouts import BASELINES, OF_ROOFLINE, POOLED, RANKING
from cascadesim.validation.gpu.scatter import scatter, tau_ceiling, twin_key
from cascadesim.validation.gpu.work import Floats

STRATUM = "stratum"


def judge(suite: Suite, claim: Claim, source: str, cells: Sequence[Cell]) -> Verdict:
    """The verdict of `claim` on its cells, with the figures of every stratum."""
    times = _times(cells)
    names = [str(cell.row.get(STRATUM)) for cell in cells]
    strata = tuple(stratum for column in suite.strata for stratum in _strata(column, cells, times))
    pooled = _pooled(times, equal_weights(names), names)
    weighted = _errors(cells, times, equal_weights(names))
    worst = max(cells, key=lambda cell: cell.error(claim.measure))
    return Verdict(suite.name, claim, source, weighted, worst, strata, tuple(cells), figures=pooled)


def _times(cells: Sequence[Cell]) -> Mapping[str, Floats]:
    """Predicted, measured and baselines; NaN where nothing is predicted."""
    columns = {name.removesuffix("_s"): [cell.row.number(name) for cell in cells] for name in BASELINES}
    columns |= {"predicted": [cell.predicted for cell in cells], "measured": [cell.measured for cell in cells]}
    return {name: np.array([math.nan if one is None else one for one in column], dtype=np.float64)
            for name, column in columns.items()}


def _baselines(times: Mapping[str, Floats]) -> dict[str, Floats]:
    return {name: times[name] for name in times if name not in ("predicted", "measured")}


def _errors(cells: Sequence[Cell], times: Mapping[str, Floats], weights: Floats) -> Errors:
    """Mean, median and 90th percentile with equal weight per stratum."""
    found = np.abs(relative(times["predicted"], times["measured"]))
    found = np.where(np.isfinite(found), found, math.inf)
    rows = len({id(cell.row) for cell in cells})
    return Errors(rows, len(cells), float(np.average(found, weights=weights)), weighted_median(found, weights),
                  weighted_quantile(found, weights, 0.9), float(found.max()))  # fmt: skip


def _strata(column: str, cells: Sequence[Cell], times: Mapping[str, Floats]) -> list[Stratum]:
    values = [cell.row.get(column) for cell in cells]
    found = []
    for value in sorted(set(values), key=str):
        which = np.array([index for index, one in enumerate(values) if one == value])
        part = {name: column_[which] for name, column_ in times.items()}
        own = [cells[index] for index in which]
        ranked = merit(part["predicted"], part["measured"], _baselines(part))
        figures = {**ranked, "tau_ceiling": _ceiling(own, part) if column == STRATUM else None}
        found.append(Stratum(column, value, errors(own, "deviation"), figures))
    return found


def _ceiling(cells: Sequence[Cell], times: Mapping[str, Floats]) -> float | None:
    """Of the rank correlation, in strata where it is judged."""
    if len(cells) < FEW_ROWS:
        return None
    deviation = scatter([twin_key(cell.row) for cell in cells], times["measured"])
    return None if deviation is None else tau_ceiling(times["measured"], deviation)


def _pooled(times: Mapping[str, Floats], weights: Floats, names: Sequence[str]) -> Figures:
    predicted, measured = times["predicted"], times["measured"]
    medians = {name: median_error(column, measured, weights) for name, column in _baselines(times).items()}
    model, roofline = median_error(predicted, measured, weights), medians["roofline"]
    share = model / roofline if model is not None and roofline else None
    error = relative(predicted, measured)
    within = {f"within_{limit}": float(np.average(np.abs(error) <= limit / 100, weights=weights))
              for limit in (10, 20, 50)}
    return {
        POOLED: model,
        "pooled_small_strata_in_full": median_error(predicted, measured, equal_weights(names, 1)),
        RANKING: _worst_ranking(predicted, measured, np.array(names)),
        OF_ROOFLINE: share,
        "bias": weighted_median(error, weights) if np.isfinite(error).all() else None, **within,
        **{f"{name}_median_abs_relative_error": value for name, value in medians.items()},
    }  # fmt: skip


def _worst_ranking(predicted: Floats, measured: Floats, names: np.ndarray[tuple[int], np.dtype[np.str_]]) -> float:
    """1 - tau of the worst stratum with enough rows; 0 where none has."""
    parts = [names == name for name in set(names) if np.count_nonzero(names == name) >= FEW_ROWS]
    return max((1 - (kendall_tau(predicted[part], measured[part]) or 0.0) for part in parts), default=0.0)
