"""Masks in closed form against the predicates they stand for, pair by pair."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval, Mask

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


@st.composite
def intervals(draw: st.DrawFn) -> KeyInterval:
    causal = draw(st.booleans())
    return KeyInterval(causal, draw(windows) if causal else None, draw(windows) if causal else None)


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


@given(mask=intervals(), queries=small, keys=small)
def test_pairs_are_at_most_all(mask: KeyInterval, queries: int, keys: int) -> None:
    assert 0 <= mask.attended_pairs(queries, keys) <= queries * keys


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: KeyInterval(causal=True, window=0), "mask: window must be at least 1, got 0"),
        (lambda: KeyInterval(window=4), "mask: a window needs causal=True"),
        (lambda: KeyInterval(chunk=4), "mask: a chunk needs causal=True"),
    ],
)
def test_a_mask_that_cannot_be_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(CascadeSimError, match=message):
        build()


def test_masks_print_themselves() -> None:
    assert str(FULL) == "full"
    assert str(KeyInterval(True, 4096)) == "causal, window 4096"
