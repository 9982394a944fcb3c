"""Index arithmetic is exact and is written as it is read."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.notation import affine
from cascadesim.einsum_cascades.notation.affine import extent_names, factor_value, index_text, substitute
from cascadesim.einsum_cascades.notation.ir import Factor, Index

M1, M0 = affine.rank("m1"), affine.rank("m0")
TILE = affine.extent("M0")
TILED = (M1 * TILE + M0).index()


def test_a_tile_and_its_element() -> None:
    assert Index((("m1", "M0"), ("m0", 1))) == TILED
    assert index_text(TILED) == "m1*M0+m0"


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (affine.number(0).index(), "0"),
        ((affine.rank("i") + affine.number(-1)).index(), "i-1"),
        ((affine.number(3) * affine.rank("i")).index(), "3*i"),
        ((affine.rank("i").negated() + affine.extent("I")).index(), "-i+I"),
        (affine.rank("h").index("G"), "h//G"),
        ((affine.rank("h") + affine.number(1)).index("G"), "(h+1)//G"),
        (affine.rank("h").index((2, "G")), "h//(2*G)"),
    ],
)
def test_how_indices_are_written(index: Index, text: str) -> None:
    assert index_text(index) == text


def test_equal_parts_add_up_and_vanish() -> None:
    i = affine.rank("i")
    assert (i + i).index() == (affine.number(2) * i).index()
    assert (i + i.negated()).index() == Index()


def test_two_ranks_cannot_be_multiplied() -> None:
    with pytest.raises(ValueError, match="multiplies two ranks"):
        M1 * M0


def test_a_rank_can_stand_for_a_sum() -> None:
    m = (affine.rank("m") + affine.number(1)).index()
    assert index_text(substitute(m, {"m": M1 * TILE + M0}, {})) == "m1*M0+m0+1"


def test_an_extent_can_stand_for_a_product() -> None:
    last = (affine.extent("M") + affine.number(-1)).index()
    assert index_text(substitute(last, {}, {"M": affine.extent("M1") * TILE})) == "M0*M1-1"


@pytest.mark.parametrize(("factor", "value"), [(4, 4), ("M0", 8), ((3, "M0"), 24), (("M0", "M1"), 40)])
def test_factors_have_values(factor: Factor, value: int) -> None:
    assert factor_value(factor, {"M0": 8, "M1": 5}) == value


def test_the_extents_of_an_index() -> None:
    assert extent_names((M1 * TILE + affine.extent("P")).index("G")) == ("M0", "P", "G")
