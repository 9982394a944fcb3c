"""Polynomials in extents are exact and read like formulas."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.algebra import (
    Polynomial,
    as_index,
    extent_names,
    factor_polynomial,
    index_sum,
    index_text,
    polynomial,
    product,
    substitute,
    symbol,
)
from cascadesim.einsum_cascades.notation.ir import Access, Factor, Index

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


M1, M0 = symbol("m1"), symbol("m0")
TILED = as_index(M1 * TILE + M0)


def test_a_tile_and_its_element() -> None:
    assert Index((("m1", "M0"), ("m0", 1))) == TILED
    assert index_text(TILED) == "m1*M0+m0"


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (Index(), "0"),
        (as_index(symbol("i") - 1), "i-1"),
        (as_index(3 * symbol("i")), "3*i"),
        (as_index(-symbol("i") + symbol("I")), "-i+I"),
        (as_index(symbol("h"), "G"), "h//G"),
        (as_index(symbol("h") + 1, "G"), "(h+1)//G"),
        (as_index(symbol("h"), (2, "G")), "h//(2*G)"),
        (Index(gather=Access("I", (TILED, Index()))), "I[m1*M0+m0,0]"),
    ],
)
def test_how_indices_are_written(index: Index, text: str) -> None:
    assert index_text(index) == text


def test_equal_parts_add_up_and_vanish() -> None:
    i = symbol("i")
    assert as_index(i + i) == as_index(2 * i)
    assert as_index(i - i) == Index()


def test_an_index_is_its_sum() -> None:
    total = 2 * M1 * TILE + M0 - symbol("P") * 3 + 1
    assert index_sum(as_index(total)) == total


def test_a_rank_can_stand_for_a_sum() -> None:
    m = as_index(symbol("m") + 1)
    assert index_text(substitute(m, {"m": M1 * TILE + M0})) == "m1*M0+m0+1"


def test_an_extent_can_stand_for_a_product_also_in_a_divisor_and_in_a_gather() -> None:
    last = as_index(M - 1, "M")
    tiled = {"M": symbol("M1") * TILE}
    assert index_text(substitute(last, tiled)) == "(M0*M1-1)//(M0*M1)"
    assert index_text(substitute(Index(gather=Access("I", (last,))), tiled)) == "I[(M0*M1-1)//(M0*M1)]"


@pytest.mark.parametrize(("factor", "value"), [(4, 4), ("M0", 8), ((3, "M0"), 24), (("M0", "M1"), 40)])
def test_factors_have_values(factor: Factor, value: int) -> None:
    assert factor_polynomial(factor).bound({"M0": 8, "M1": 5}) == value


def test_the_extents_of_an_index() -> None:
    assert extent_names(as_index(M1 * TILE + symbol("P"), "G")) == ("M0", "P", "G")


def test_values_over_arrays_are_those_of_the_single_numbers() -> None:
    """A count of a design space: arrays of extents broadcast against each other."""
    count = M * P - P * (P - 1) * Fraction(1, 2) + 3
    m, p = np.array([[10], [20]]), np.array([1, 4, 5])
    expected = [[count.bound({"M": int(each), "P": int(other)}) for other in p] for each in m[:, 0]]
    assert count.over({"M": m, "P": p}).tolist() == expected
    assert polynomial(7).over({}) == 7
