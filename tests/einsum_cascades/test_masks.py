"""Masks in closed form against the predicates they stand for, pair by pair."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.einsum_cascades.masks import CAUSAL, FULL, KeyInterval, Mask, Neighborhood

Pairs = NDArray[np.bool_]

small = st.integers(1, 24)
windows = st.none() | st.integers(1, 30)


def attends(mask: KeyInterval, query: int, key: int, queries: int, keys: int) -> bool:
    """The definition: queries are the last positions of the sequence of keys."""
    position = query + keys - queries
    if not mask.causal:
        return True
    near = mask.window is None or position - key < mask.window
    same_chunk = mask.chunk is None or position // mask.chunk == key // mask.chunk
    return key <= position and near and same_chunk


def matrix(mask: KeyInterval, queries: int, keys: int) -> Pairs:
    pairs = [[attends(mask, query, key, queries, keys) for key in range(keys)] for query in range(queries)]
    return np.array(pairs, dtype=bool)


def neighbours(coordinate: int, side: int, window: int, dilation: int) -> set[int]:
    """NAT: the `window` nearest members of the coordinate's dilation group, shifted inwards at the borders."""
    members = [other for other in range(side) if other % dilation == coordinate % dilation]
    place = members.index(coordinate)
    start = min(max(place - window // 2, 0), max(len(members) - window, 0))
    return set(members[start : start + window])


def neighborhood_matrix(mask: Neighborhood) -> Pairs:
    tokens = list(product(*(range(side) for side in mask.layout)))
    near = [
        [neighbours(coordinate, side, window, dilation) for coordinate in range(side)]
        for side, window, dilation in zip(mask.layout, mask.window, mask.dilation, strict=True)
    ]
    return np.array(
        [[all(k in near[axis][q] for axis, (q, k) in enumerate(zip(query, key, strict=True))) for key in tokens]
         for query in tokens]
    )  # fmt: skip


@st.composite
def intervals(draw: st.DrawFn) -> KeyInterval:
    causal = draw(st.booleans())
    return KeyInterval(causal, draw(windows) if causal else None, draw(windows) if causal else None)


@st.composite
def neighborhoods(draw: st.DrawFn) -> Neighborhood:
    axes = draw(st.integers(1, 2))
    layout = tuple(draw(st.integers(1, 7)) for _ in range(axes))
    sizes = [tuple(draw(st.integers(1, 4)) for _ in range(axes)) for _ in range(2)]
    return Neighborhood(layout, sizes[0], sizes[1])


def assert_tiles(mask: Mask, attended: Pairs, query_tile: int, key_tile: int) -> None:
    queries, keys = attended.shape
    first, last = mask.key_tiles(queries, keys, query_tile, key_tile)
    assert len(first) == len(last) == -(-queries // query_tile)
    for tile in range(len(first)):
        rows = attended[tile * query_tile : (tile + 1) * query_tile]
        touched = {key // key_tile for key in np.flatnonzero(rows.any(axis=0))}
        if touched:
            assert (first[tile], last[tile]) == (min(touched), max(touched))
        else:
            assert last[tile] < first[tile]


def test_causal_attention_of_four_tokens_is_a_triangle() -> None:
    assert CAUSAL.attended_pairs(4, 4) == 4 + 3 + 2 + 1
    assert FULL.attended_pairs(4, 4) == 16


def test_queries_after_a_cache_see_everything_before_them() -> None:
    assert CAUSAL.attended_pairs(1, 4096) == 4096  # decode
    assert CAUSAL.attended_pairs(2, 4) == 3 + 4


def test_a_sliding_window_counts_the_query_itself() -> None:
    assert KeyInterval(causal=True, window=3).attended_pairs(5, 5) == 1 + 2 + 3 + 3 + 3


def test_a_chunk_starts_anew() -> None:
    assert KeyInterval(causal=True, chunk=3).attended_pairs(7, 7) == (1 + 2 + 3) + (1 + 2 + 3) + 1


def test_long_sequences_are_counted_without_a_loop() -> None:
    length = 2**30
    assert CAUSAL.attended_pairs(length, length) == length * (length + 1) // 2
    window = KeyInterval(causal=True, window=4096)
    assert window.attended_pairs(length, length) == 4096 * 4097 // 2 + (length - 4096) * 4096


@given(mask=intervals(), queries=small, keys=small)
def test_pairs_equal_the_predicate(mask: KeyInterval, queries: int, keys: int) -> None:
    assert mask.attended_pairs(queries, keys) == matrix(mask, queries, keys).sum()


@given(mask=intervals(), queries=small, keys=small)
def test_intervals_equal_the_predicate(mask: KeyInterval, queries: int, keys: int) -> None:
    first, last = mask.interval(np.arange(queries), queries, keys)
    for query, row in enumerate(matrix(mask, queries, keys)):
        expected = np.flatnonzero(row)
        found = np.arange(first[query], last[query] + 1)
        assert list(found) == list(expected)


@given(mask=intervals(), queries=small, keys=small, query_tile=st.integers(1, 9), key_tile=st.integers(1, 9))
def test_tiles_equal_the_predicate(mask: KeyInterval, queries: int, keys: int, query_tile: int, key_tile: int) -> None:
    assert_tiles(mask, matrix(mask, queries, keys), query_tile, key_tile)


@given(mask=intervals(), queries=small, keys=small)
def test_a_limit_that_is_never_reached_changes_nothing(mask: KeyInterval, queries: int, keys: int) -> None:
    short = mask.within(keys)
    assert (matrix(short, queries, keys) == matrix(mask, queries, keys)).all()
    assert max(short.window or 0, short.chunk or 0) < keys


def test_a_window_as_long_as_the_sequence_is_plain_causal() -> None:
    assert KeyInterval(True, 4096).within(4096) == CAUSAL
    assert KeyInterval(True, 4096).within(4097) == KeyInterval(True, 4096)


def test_a_neighborhood_shifts_inwards_at_the_border() -> None:
    mask = Neighborhood((5,), (3,), (1,))
    first, last = mask.interval(np.arange(5), 5, 5)
    assert list(zip(first.tolist(), last.tolist(), strict=True)) == [(0, 2), (0, 2), (1, 3), (2, 4), (2, 4)]
    assert mask.attended_pairs(5, 5) == 5 * 3


def test_a_dilated_neighborhood_stays_in_its_group() -> None:
    """Six tokens, dilation 2: even and odd ones, three each; a window of 2 in each."""
    assert Neighborhood((6,), (2,), (2,)).attended_pairs(6, 6) == 6 * 2


def test_a_window_larger_than_its_group_is_the_group() -> None:
    assert Neighborhood((5,), (9,), (2,)).attended_pairs(5, 5) == 3 * 3 + 2 * 2


@given(mask=neighborhoods())
def test_neighborhood_pairs_equal_the_definition(mask: Neighborhood) -> None:
    attended = neighborhood_matrix(mask)
    tokens = len(attended)
    assert mask.attended_pairs(tokens, tokens) == attended.sum()
    first, last = mask.interval(np.arange(tokens), tokens, tokens)
    assert list(first) == [np.flatnonzero(row)[0] for row in attended]
    assert list(last) == [np.flatnonzero(row)[-1] for row in attended]


@given(mask=neighborhoods(), query_tile=st.integers(1, 9), key_tile=st.integers(1, 9))
def test_neighborhood_tiles_equal_the_definition(mask: Neighborhood, query_tile: int, key_tile: int) -> None:
    assert_tiles(mask, neighborhood_matrix(mask), query_tile, key_tile)


@given(mask=intervals(), queries=small, keys=small)
def test_pairs_are_at_most_all(mask: KeyInterval, queries: int, keys: int) -> None:
    assert 0 <= mask.attended_pairs(queries, keys) <= queries * keys


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: KeyInterval(causal=True, window=0), "mask: window must be at least 1, got 0"),
        (lambda: KeyInterval(window=4), "mask: a window needs causal=True"),
        (lambda: KeyInterval(chunk=4), "mask: a chunk needs causal=True"),
        (lambda: Neighborhood((4, 4), (3,), (1, 1)), "differ in dimensions"),
        (lambda: Neighborhood((4,), (0,), (1,)), "every size must be at least 1"),
        (lambda: Neighborhood((4,), (3,), (1,)).attended_pairs(5, 5), "has 4 tokens, got 5 queries and 5 keys"),
    ],
)
def test_a_mask_that_cannot_be_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(CascadeSimError, match=message):
        build()


def test_masks_print_themselves() -> None:
    assert str(FULL) == "full"
    assert str(KeyInterval(True, 4096)) == "causal, window 4096"
    assert str(Neighborhood((56, 56), (7, 7), (8, 8))) == "neighborhood, layout 56x56, window 7x7, dilation 8x8"
