"""Neighborhoods in cascades: evaluated against the brute-force mask, counted against attended pairs."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascadesim.einsum_cascades.analysis.counts import bound_operations
from cascadesim.einsum_cascades.analysis.evaluate import evaluate
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.notation.notation import cascade
from cascadesim.einsum_cascades.sparsity.neighborhood import Axis, Neighborhood, neighborhood
from cascadesim.einsum_cascades.sparsity.neighborhood_cascade import neighborhood_cascade, neighborhood_operations
from cascadesim.einsum_cascades.texts.attention import (
    ATTENTION_1PASS,
    ATTENTION_2PASS,
    ATTENTION_3PASS,
    ATTENTION_3PASS_CAUSAL,
    ATTENTION_3PASS_DEFERRED,
)

Values = NDArray[np.float64]
ALL = (ATTENTION_3PASS, ATTENTION_3PASS_DEFERRED, ATTENTION_2PASS, ATTENTION_1PASS)
HEADS, DEPTH = 2, 3


@st.composite
def patterns(draw: st.DrawFn) -> Neighborhood:
    """One to three dimensions, some dilated, strided or causal; windows up to the whole layout."""
    axes = []
    for longest in draw(st.sampled_from([(18,), (6, 5), (3, 4, 3)])):
        length = draw(st.integers(1, longest))
        dilation = draw(st.integers(1, length))
        window = draw(st.integers(1, length // dilation))
        axes.append(Axis(length, window, draw(st.integers(1, window)), dilation, draw(st.booleans())))
    fields = zip(*((axis.length, axis.window, axis.stride, axis.dilation, axis.causal) for axis in axes), strict=True)
    layout, windows, stride, spacing, causal = map(tuple, fields)
    return Neighborhood(layout, windows, stride, spacing, causal)


def tensors(tokens: int) -> dict[str, Values]:
    random = np.random.default_rng(tokens)
    return {name: random.normal(size=(HEADS, tokens, DEPTH)) for name in ("Q", "K", "V")}


def brute_force(pattern: Neighborhood, given: dict[str, Values]) -> Values:
    scores = np.einsum("hpe,hme->hpm", given["Q"], given["K"])
    scores = np.where(pattern.attends(), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray((weights / weights.sum(axis=-1, keepdims=True)) @ given["V"])


def sizes(attention: Cascade, tokens: int) -> dict[str, int]:
    """Keys in tiles of M0, where the cascade has tiles; M0 divides the tokens."""
    if "m0" not in attention.ranks:
        return {}
    return {"M0": next(size for size in (4, 3, 2, 1) if tokens % size == 0)}


def test_a_line_of_tokens_in_its_own_notation() -> None:
    """Window 3 of 5: queries 0 and 1 see keys 0-2, query 2 keys 1-3, queries 3 and 4 keys 2-4."""
    found, held = neighborhood_cascade(neighborhood((5,), (3,)))
    assert found.einsum("GM").text == "GM[h,p] max= QK[h,m,p] if LO[p] <= m and m < HI[p] else -inf"
    assert (held["LO"].tolist(), held["HI"].tolist()) == ([0, 0, 1, 2, 2], [3, 3, 4, 5, 5])
    assert found.inputs == ("Q", "K", "LO", "HI", "V")


def test_dimensions_and_dilation_groups_have_conditions_of_their_own() -> None:
    found, held = neighborhood_cascade(neighborhood((2, 6), (2, 3), dilation=(1, 2)), ATTENTION_1PASS)
    assert "GROUP2[m1*M0+m0] == OWN2[p]" in found.einsum("QK").text
    assert set(held) == {"LO1", "HI1", "PLACE1", "LO2", "HI2", "PLACE2", "GROUP2", "OWN2"}
    assert found.passes("m") == ATTENTION_1PASS.passes("m") == 1


@settings(max_examples=40, deadline=None)
@given(pattern=patterns(), attention=st.sampled_from(ALL))
def test_every_cascade_computes_attention_under_the_mask(pattern: Neighborhood, attention: Cascade) -> None:
    masked, held = neighborhood_cascade(pattern, attention)
    given_tensors = tensors(pattern.tokens)
    found = evaluate(masked, {**given_tensors, **held}, sizes(attention, pattern.tokens))["AV"]
    assert np.allclose(found, brute_force(pattern, given_tensors), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(pattern=patterns(), attention=st.sampled_from(ALL))
def test_operations_counted_one_by_one_are_those_of_the_closed_form(pattern: Neighborhood, attention: Cascade) -> None:
    masked, held = neighborhood_cascade(pattern, attention)
    tokens = pattern.tokens
    extents = {"H": HEADS, "M": tokens, "P": tokens, "E": DEPTH, "F": DEPTH, **sizes(attention, tokens)}
    extents["M1"] = tokens // extents.get("M0", 1)
    one_by_one: dict[str, dict[str, int]] = {}
    for einsum in masked.einsums:
        total = one_by_one.setdefault(einsum.name, {})
        for name, count in bound_operations(einsum, extents, held).items():
            total[name] = total.get(name, 0) + count
    closed = neighborhood_operations(pattern, masked, extents)
    assert closed == one_by_one
    assert closed["QK"] == {"mac": HEADS * DEPTH * int(pattern.attends().sum())}


def test_a_large_layout_is_counted_in_closed_form() -> None:
    """HunyuanVideo: 115,200 queries see 18 x 24 x 24 keys each; 24 heads of 128."""
    pattern = neighborhood((30, 48, 80), (18, 24, 24), (16, 8, 8))
    masked, _ = neighborhood_cascade(pattern)
    extents = {"H": 24, "M": 115200, "P": 115200, "E": 128, "F": 128}
    found = neighborhood_operations(pattern, masked, extents)
    pairs = 115200 * 18 * 24 * 24
    assert found["QK"] == found["AV"] == {"mac": 24 * 128 * pairs}
    assert found["SN"] == {"exp": 24 * pairs, "add": 24 * pairs}
    assert prod(pattern.layout) == 115200


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (ATTENTION_3PASS_CAUSAL, "QK: has a condition already"),
        (cascade("sum", "Y[p] = X[p,m]"), "reads Q.h,p,e. and K.h,m,e."),
    ],
)
def test_a_cascade_that_takes_no_neighborhood_is_refused(attention: Cascade, message: str) -> None:
    with pytest.raises(CascadeSimError, match=message):
        neighborhood_cascade(neighborhood((4,), (2,)), attention)


def test_counting_needs_the_coordinates_that_conditions_read() -> None:
    masked, _ = neighborhood_cascade(neighborhood((4,), (2,)))
    with pytest.raises(CascadeSimError, match="LO holds: its array is needed"):
        bound_operations(masked.einsum("QK"), {"H": 1, "M": 4, "P": 4, "E": 1})
