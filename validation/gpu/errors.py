"""Figures of merit of predicted against measured times: of one stratum, and pooled with equal weight per stratum.

Pure arithmetic on arrays. Kendall's tau is tau-b; a pooled median gives every row the weight 1 / rows of its stratum,
or 1 / 10 in smaller ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cascadesim.validation.gpu.work import Floats

FEW_ROWS = 30  # issue: rank correlation is judged in strata of 30 rows and more
FEWEST_ROWS = 10  # a stratum of fewer weighs less than one: a single row is no stratum
SHARES = (0.10, 0.20, 0.50)
Figures = Mapping[str, float | None]


def weighted_median(values: Floats, weights: Floats) -> float:
    return weighted_quantile(values, weights, 0.5)


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
    ups, downs = _signs(first), _signs(second)
    norm = float(np.sqrt(np.sum(ups * ups) * np.sum(downs * downs)))
    return float(np.sum(ups * downs)) / norm if norm > 0 else None


def _signs(values: Floats) -> NDArray[np.float32]:
    return np.sign(values[:, None] - values[None, :]).astype(np.float32)


def relative(predicted: Floats, measured: Floats) -> Floats:
    return predicted / measured - 1


def merit(predicted: Floats, measured: Floats, baselines: Mapping[str, Floats]) -> Figures:
    """Of one stratum: bias (median of the signed error), rank correlation, shares within 10, 20, 50 %, baselines."""
    error = relative(predicted, measured)
    shares = {f"within_{share:.0%}".rstrip("%"): float(np.mean(np.abs(error) <= share)) for share in SHARES}
    others = {f"{name}_median_abs_relative_error": median_error(times, measured) for name, times in baselines.items()}
    return {"bias": float(np.median(error)), "kendall_tau": kendall_tau(predicted, measured), **shares, **others}


def median_error(predicted: Floats, measured: Floats, weights: Floats | None = None) -> float | None:
    """Of the rows that are predicted; None if none is."""
    known = np.isfinite(predicted)
    if not known.any():
        return None
    error = np.abs(relative(predicted[known], measured[known]))
    return weighted_median(error, np.ones(len(error)) if weights is None else weights[known])
