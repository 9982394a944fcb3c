"""Operations made of others: what they cost, and that the recipe is as accurate as the words are wide."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cascadesim.accelerators.spatial.emulated_operations import MADE_OF, in_classes_of
from cascadesim.accelerators.spec import Operations
from cascadesim.einsum_cascades.notation.errors import CascadeSimError


def test_what_has_no_unit_is_made_of_what_has() -> None:
    """A tangent is an exponential, an addition, a division and two products; an array that has one uses it."""
    array = Operations(mac=1, add=1, max=1, exp=6, exp_by="mac", divide=1)
    assert in_classes_of(array, {"tanh": 2, "mac": 1}, "here") == {"exp": 2, "add": 2, "mac": 5, "divide": 2}
    assert set(array.cycles) >= set(in_classes_of(array, dict.fromkeys(MADE_OF, 1), "here"))


HALF = 2.0**-11  # relative rounding of the 16-bit words


def test_two_newton_steps_make_a_square_root() -> None:
    """Seed: the line through sqrt at 1 and 4, raised halfway to the curve; then (y + x/y) / 2, twice."""
    x = np.linspace(1.0, 4.0, 10_001)
    line = (x + 2) / 3
    y = line * 1.03
    assert np.max(np.abs(y / np.sqrt(x) - 1)) < 0.04
    for _ in range(2):
        y = 0.5 * (y + x / y)
    assert np.max(np.abs(y / np.sqrt(x) - 1)) < HALF


def test_the_error_function_of_abramowitz_and_stegun_is_good_enough() -> None:
    x = np.linspace(0.0, 6.0, 10_001)
    t = 1 / (1 + 0.47047 * x)
    made = 1 - (0.3480242 * t - 0.0958798 * t**2 + 0.7478556 * t**3) * np.exp(-x * x)
    assert max(abs(value - math.erf(at)) for value, at in zip(made, x, strict=True)) < HALF


def test_a_tangent_is_exactly_an_exponential() -> None:
    x = np.linspace(-5.0, 5.0, 1001)
    assert np.allclose(1 - 2 / (np.exp(2 * x) + 1), np.tanh(x), rtol=1e-12)


def test_polynomials_of_five_and_six_make_sine_and_cosine() -> None:
    """After reduction to a quarter of a turn around 0."""
    x = np.linspace(-math.pi / 4, math.pi / 4, 10_001)
    square = x * x
    assert np.max(np.abs(x * (1 - square / 6 * (1 - square / 20)) - np.sin(x))) < HALF
    assert np.max(np.abs(1 - square / 2 * (1 - square / 12 * (1 - square / 30)) - np.cos(x))) < HALF


def test_a_logarithm_is_a_polynomial_of_the_mantissa() -> None:
    """Degree 5 fitted at Chebyshev points of [1, 2]; the exponent adds a whole number of ln 2."""
    points = 1.5 + 0.5 * np.cos(np.pi * (np.arange(6) + 0.5) / 6)
    coefficients = np.polyfit(points, np.log(points), 5)
    x = np.linspace(1.0, 2.0, 10_001)
    assert np.max(np.abs(np.polyval(coefficients, x) - np.log(x))) < HALF


def test_what_nothing_makes_is_refused() -> None:
    with pytest.raises(CascadeSimError, match="here: no unit does 'gamma'; it does mac, add"):
        in_classes_of(Operations(mac=1, add=1), {"gamma": 1}, "here")
