"""Neighborhoods against their definition, written out query by query."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import Axis, ExtraKeys, Neighborhood, neighborhood


def keys_of(axis: Axis, query: int) -> set[int]:
    """The definition (GNA, section 3; NATTEN), one query at a time: group, leader, window."""
    group, place = query % axis.dilation, query // axis.dilation
    members = -(-(axis.length - group) // axis.dilation)
    first_of_stride = place // axis.stride * axis.stride
    if axis.causal:
        leader = min(first_of_stride + axis.stride - 1, members - 1)
        start, end = max(leader - axis.window + 1, 0), place + 1
    else:
        leader = min(first_of_stride + axis.stride // 2, members - 1)
        start = min(max(leader - axis.window // 2, 0), members - axis.window)
        end = start + axis.window
    return {group + key * axis.dilation for key in range(start, end)}


@st.composite
def axes(draw: st.DrawFn, longest: int = 24) -> Axis:
    length = draw(st.integers(1, longest))
    window = draw(st.integers(1, length))
    return Axis(
        length, window, draw(st.integers(1, window)), draw(st.integers(1, length // window)), draw(st.booleans())
    )


def pattern_of(axes: list[Axis]) -> Neighborhood:
    sizes = zip(*((axis.length, axis.window, axis.stride, axis.dilation, axis.causal) for axis in axes), strict=True)
    return neighborhood(*sizes)


def test_a_window_of_three_slides_inwards_at_the_borders() -> None:
    """5 queries, window 3: the first two and the last two share a window, so everyone sees exactly 3 keys."""
    assert neighborhood((5,), (3,)).attends().astype(int).tolist() == [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 1, 1, 1],
        [0, 0, 1, 1, 1],
    ]


def test_an_even_window_has_its_odd_key_on_the_left() -> None:
    """Window 4 around query 4 of 9: w/2 = 2 keys to the left, one to the right."""
    assert np.flatnonzero(neighborhood((9,), (4,)).attends()[4]).tolist() == [2, 3, 4, 5]


def test_an_even_stride_is_led_by_the_right_one_of_its_central_queries() -> None:
    """Stride 2: queries 4 and 5 share the window of query 5 (GNA pitfall: a left-biased leader breaks sparsity)."""
    mask = neighborhood((10,), (4,), (2,)).attends()
    assert np.flatnonzero(mask[4]).tolist() == np.flatnonzero(mask[5]).tolist() == [3, 4, 5, 6]


def test_stride_equal_to_window_is_blocked_attention() -> None:
    blocks = np.kron(np.eye(3, dtype=bool), np.ones((4, 4), dtype=bool))
    assert (neighborhood((12,), (4,), (4,)).attends() == blocks).all()


def test_a_last_block_that_does_not_fit_is_shifted_not_cut() -> None:
    """10 = 4 + 4 + 2: the last two queries see keys 6..9."""
    assert np.flatnonzero(neighborhood((10,), (4,), (4,)).attends()[9]).tolist() == [6, 7, 8, 9]


def test_causal_with_a_full_window_is_the_triangle() -> None:
    assert (neighborhood((6,), (6,), causal=(True,)).attends() == np.tri(6, dtype=bool)).all()


def test_dilation_splits_into_groups_of_unequal_length() -> None:
    """7 coordinates, dilation 3: groups 0,3,6 and 1,4 and 2,5; a window of 2 in each."""
    assert Axis(7, 2, dilation=3).groups == ((3, 1), (2, 2))
    mask = neighborhood((7,), (2,), dilation=(3,)).attends()
    assert np.flatnonzero(mask[6]).tolist() == [3, 6]
    assert np.flatnonzero(mask[4]).tolist() == [1, 4]


@given(axes())
def test_the_mask_along_one_dimension_is_the_definition(axis: Axis) -> None:
    mask = pattern_of([axis]).attends()
    for query in range(axis.length):
        assert set(np.flatnonzero(mask[query])) == keys_of(axis, query)


@given(axes())
def test_windows_never_move_backwards_and_neighbours_touch(axis: Axis) -> None:
    """What makes every count in the simulator an interval."""
    for members, _ in axis.groups:
        start, end = axis.spans(members)
        assert (np.diff(start) >= 0).all()
        assert (np.diff(end) >= 0).all()
        assert (start[1:] <= end[:-1]).all()
        assert (end - start <= axis.window).all()
        assert (end > start).all()


@given(st.lists(axes(longest=8), min_size=1, max_size=3))
def test_pairs_are_those_of_the_mask(dimensions: list[Axis]) -> None:
    pattern = pattern_of(dimensions)
    assert pattern.pairs == int(pattern.attends().sum())
    assert pattern.attended_pairs(pattern.tokens, pattern.tokens) == pattern.pairs


@given(st.lists(axes(longest=8), min_size=1, max_size=3))
def test_the_interval_spans_exactly_the_attended_keys(dimensions: list[Axis]) -> None:
    pattern = pattern_of(dimensions)
    mask, tokens = pattern.attends(), pattern.tokens
    first, last = pattern.interval(np.arange(tokens), tokens, tokens)
    assert (first == mask.argmax(axis=1)).all()
    assert (last == tokens - 1 - mask[:, ::-1].argmax(axis=1)).all()


def test_without_a_dilation_every_query_of_a_plain_window_sees_equally_many_keys() -> None:
    pattern = neighborhood((30, 48, 80), (18, 24, 24))
    assert pattern.pairs == 30 * 48 * 80 * 18 * 24 * 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2**24 + 1,), (31,)), "dimension 1: layout must be at most 16,777,216, got 16777217"),
        (((30,), (31,)), "dimension 1: window 31 is larger than the layout 30"),
        (((30, 8), (4, 4), (1, 5)), "dimension 2: stride 5 is larger than the window 4"),
        (((30,), (10,), (1,), (4,)), "window 10 x dilation 4 = 40 is larger than the layout 30; .* can be at most 3"),
        (((30, 8), (4,)), "the layout has 2 dimensions, but window has 1"),
        (((0,), (1,)), "dimension 1: layout must be at least 1, got 0"),
        (((), ()), "the layout has no dimension"),
    ],
)
def test_impossible_sizes_name_dimension_value_and_limit(
    arguments: tuple[tuple[int, ...], ...], message: str
) -> None:
    with pytest.raises(CascadeSimError, match=message.replace("(", r"\(")):
        neighborhood(*arguments)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(CascadeSimError) as caught:
        neighborhood((4, 4), (5, 4), (1, 9))
    assert len(str(caught.value).splitlines()) == 2


@given(st.lists(axes(longest=6), min_size=1, max_size=2), st.integers(1, 9), st.integers(1, 7), st.integers(1, 7))
def test_extra_keys_are_attended_by_all_and_visited_besides_the_span(
    dimensions: list[Axis], extra: int, query_tile: int, key_tile: int
) -> None:
    """Per query tile: tiles from the first to the last key of its windows, and those that hold extra keys."""
    pattern = pattern_of(dimensions)
    mask, tokens = pattern.attends(), pattern.tokens
    keys = tokens + extra
    joined = ExtraKeys(pattern, extra)
    assert joined.attended_pairs(tokens, keys) == mask.sum() + tokens * extra
    first, last = joined.key_tiles(tokens, keys, query_tile, key_tile)
    for tile in range(-(-tokens // query_tile)):
        attended = np.flatnonzero(mask[tile * query_tile : (tile + 1) * query_tile].any(axis=0))
        spanned = set(range(attended[0] // key_tile, attended[-1] // key_tile + 1))
        spanned |= {key // key_tile for key in range(tokens, keys)}
        assert (first[tile], last[tile] - first[tile] + 1) == (attended[0] // key_tile, len(spanned))


def test_extra_keys_refuse_other_lengths() -> None:
    joined = ExtraKeys(neighborhood((4,), (2,)), 3)
    assert str(joined) == "neighborhood, layout 4, window 2, 3 extra keys"
    with pytest.raises(CascadeSimError, match="has 4 queries and 7 keys, got 7 queries and 7 keys"):
        joined.attended_pairs(7, 7)
    with pytest.raises(CascadeSimError, match="extra keys must be at least 1, got 0"):
        ExtraKeys(neighborhood((4,), (2,)), 0)
