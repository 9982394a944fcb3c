"""Polynomials in extents are exact and read like formulas."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.polynomial import Polynomial, polynomial, product, symbol

M, P, TILE = symbol("M"), symbol("P"), symbol("M0")


def test_a_triangle_reads_like_a_formula() -> None:
    triangle = M * P - P * (P - 1) * Fraction(1, 2)
    assert str(triangle) == "M*P - P^2/2 + P/2"
    assert triangle.bound({"M": 10, "P": 4}) == 34


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Polynomial(), "0"),
        (polynomial(7), "7"),
        (polynomial(-7), "-7"),
        (M, "M"),
        (2 * M + 1, "2*M + 1"),
        (M * M * TILE, "M^2*M0"),
        (polynomial(1) - M, "-M + 1"),
        (M - M, "0"),
        (M * Fraction(3, 2), "3*M/2"),
        (product([]), "1"),
        (product([2, M, TILE]), "2*M*M0"),
    ],
)
def test_how_polynomials_are_written(value: Polynomial, text: str) -> None:
    assert str(value) == text


def test_zero_is_false_and_equal_forms_are_equal() -> None:
    assert not Polynomial()
    assert M * (P + 1) == M * P + M
    assert hash(M * P) == hash(P * M)
    assert polynomial(3) == 3
    assert (M * P + M).degree == 2
    assert (M * P + M).names == ("M", "P")


def test_an_unbound_name_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="M"):
        M.bound({})


POLYNOMIALS = st.recursive(
    st.sampled_from([M, P, TILE]) | st.integers(-5, 5).map(polynomial),
    lambda inner: st.tuples(inner, inner, st.sampled_from("+-*")).map(
        lambda parts: {"+": parts[0] + parts[1], "-": parts[0] - parts[1], "*": parts[0] * parts[1]}[parts[2]]),
    max_leaves=6,
)


@given(POLYNOMIALS, POLYNOMIALS, st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_arithmetic_is_that_of_numbers(one: Polynomial, other: Polynomial, m: int, p: int, tile: int) -> None:
    sizes = {"M": m, "P": p, "M0": tile}
    assert (one + other).bound(sizes) == one.bound(sizes) + other.bound(sizes)
    assert (one * other).bound(sizes) == one.bound(sizes) * other.bound(sizes)
    assert (one - other).bound(sizes) == one.bound(sizes) - other.bound(sizes)
