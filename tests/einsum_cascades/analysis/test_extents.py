"""Extents from shapes: what each index tells, and what is left to say."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.analysis.extents import bind_extents, names
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.texts.attention import ATTENTION_1PASS


def bound(text: str, given: dict[str, int] | None = None, **shapes: tuple[int, ...]) -> dict[str, int]:
    return bind_extents(cascade("example", text), shapes, given or {})


def test_plain_ranks_are_as_long_as_their_dimension() -> None:
    assert bound("Z[m,n] = A[m,k] * B[k,n]", A=(2, 3), B=(3, 4)) == {"M": 2, "K": 3, "N": 4}


@pytest.mark.parametrize(
    ("text", "given", "shape", "name", "value"),
    [
        ("Y = X[m1*M0+m0]", {"M0": 4}, 12, "M1", 3),
        ("Y = X[m1*M0+m0]", {"m1": 4}, 12, "M0", 3),  # extents go by their rank's letter too
        ("Y = X[i+k]", {"K": 3}, 10, "I", 8),
        ("Y = X[2*d] + X[2*d+1]", {}, 10, "D", 5),
        ("Y = X[2*d]", {}, 9, "D", 5),
        ("Y = X[i+1] - X[i]", {}, 10, "I", 9),
        ("Y = X[h//G]", {"G": 4}, 2, "H", 8),
        ("Y = X[h//G]", {"H": 8}, 2, "G", 4),
        ("I[j] = top(X[m], KEEP)", {"KEEP": 2}, 5, "J", 2),
        ("I[j] = top(X[m], 3)", {}, 5, "J", 3),
    ],
)
def test_what_one_dimension_tells(text: str, given: dict[str, int], shape: int, name: str, value: int) -> None:
    assert bound(text, given, X=(shape,))[name] == value


def test_a_rank_that_only_results_have_is_told_by_them() -> None:
    assert bound("B[i] = X[i]\nY[j] = B[j]", X=(5,))["J"] == 5


def test_every_extent_has_a_name() -> None:
    assert set(names(ATTENTION_1PASS)) == {"H", "M1", "M0", "P", "E", "F"}


@pytest.mark.parametrize(
    ("text", "given", "shapes", "message"),
    [
        ("Y = X[i] * W[i]", {}, {"X": (3,), "W": (4,)}, "W has 4 elements along 'i', expected 3 (I=3)"),
        ("Y = X[i,j]", {}, {"X": (3,)}, "X must have 2 dimensions, X[i,j], got shape (3,)"),
        ("Y = X[i]", {"I": 2}, {"X": (3,)}, "X has 3 elements along 'i', expected 2 (I=2)"),
        ("C[i] = 1 if j <= i else 0", {"I": 2}, {}, "no array says how large J is: give it as an extent"),
        ("Y = X[i]", {"N": 2}, {"X": (3,)}, "no extent 'N'; known: I"),
        ("Y = X[i]", {"I": -2}, {"X": (3,)}, "I: must be a whole number from 1, got -2"),
        ("Y = X[i]", {"I": True}, {"X": (1,)}, "I: must be a whole number from 1, got True"),
        ("I[j] = top(X[m], 3)", {"J": 2}, {"X": (5,)}, "J is 2, but 3 are kept"),
    ],
)
def test_what_does_not_fit_is_named(
    text: str, given: dict[str, int], shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(CascadeSimError) as caught:
        bound(text, given, **shapes)
    assert str(caught.value) == f"example: {message}"
