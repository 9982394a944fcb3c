"""Robust bounded least squares finds known constants, ignores outliers, and stays in the physical range."""

from __future__ import annotations

import numpy as np
import pytest

from cascadesim.validation.gpu.fit import Fit, Floats, Range, fit, jackknife

WORK = np.linspace(1.0, 50.0, 40)
RANGES = (Range("fraction", 0.0, 1.0, 0.5), Range("latency", 0.0, 10.0, 1.0))


def seconds(constants: Floats) -> Floats:
    """Work at a fraction of a rate of 1, after a latency."""
    fraction, latency = constants
    return np.asarray(latency + WORK / fraction)


def found(measured: Floats, weights: Floats | None = None) -> Fit:
    return fit(lambda constants: np.log(seconds(constants) / measured), RANGES,
               np.ones(len(WORK)) if weights is None else weights)  # fmt: skip


def test_known_constants_are_found() -> None:
    assert found(seconds(np.array([0.8, 3.0]))).values == pytest.approx([0.8, 3.0], rel=0.02)


def test_three_rows_ten_times_too_slow_hardly_matter() -> None:
    measured = seconds(np.array([0.8, 3.0]))
    measured[[5, 20, 30]] *= 10
    assert found(measured).values == pytest.approx([0.8, 3.0], rel=0.05)


def test_a_row_without_weight_does_not_count() -> None:
    measured, weights = seconds(np.array([0.8, 3.0])), np.ones(len(WORK))
    measured[:10] *= 2
    weights[:10] = 0
    assert found(measured, weights).values == pytest.approx([0.8, 3.0], rel=0.03)


def test_a_device_faster_than_its_peak_stays_below_1() -> None:
    """Measured at 1.5 times the rate: the fraction goes to its end and not beyond."""
    fraction, latency = found(WORK / 1.5).values
    assert 0.99 < fraction < 1
    assert 0 < latency < 0.1


def test_the_interval_is_the_scatter_of_fits_without_a_group() -> None:
    """Means of 1, 2, 3 without one: 2.5, 2, 1.5; variance 2/3 x (0.25 + 0 + 0.25) = 1/3; 1.96 / sqrt(3)."""
    rows = np.array([1.0, 2.0, 3.0])
    half = jackknife(lambda kept: np.array([rows[kept].mean()]), np.array([0, 1, 2]), np.array([2.0]))
    assert half == pytest.approx([1.96 / 3**0.5])


def test_a_constant_that_no_row_speaks_of_stays_where_it_starts() -> None:
    measured = WORK / 0.8
    ranges = (*RANGES, Range("unused", 0.0, 1.0, 0.3))
    one = fit(lambda constants: np.log(seconds(constants[:2]) / measured), ranges, np.ones(len(WORK)))
    assert one.values[2] == pytest.approx(0.3)
