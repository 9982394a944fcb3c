"""Static patterns against their definitions, key by key."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity import sparse_patterns as patterns
from cascadesim.einsum_cascades.sparsity.masks import neighborhood
from cascadesim.einsum_cascades.sparsity.sparse_patterns import (
    SparsePattern,
    TilePairs,
    block_causal,
    documents,
    fixed,
    frame_decay,
    global_window,
    halo,
    sink_window,
    sliding_tile,
    strided,
    tile_rows,
)

# pattern of 24 tokens, and whether query i attends key k by the words of its paper
DEFINITIONS: list[tuple[SparsePattern, Callable[[int, int], bool]]] = [
    (sink_window(24, 2, 5), lambda i, k: k <= i and (k < 2 or i - k < 5)),
    (sink_window(24, 0, 24), lambda i, k: k <= i),
    (global_window(24, 5, 3), lambda i, k: i < 3 or k < 3 or abs(i - k) <= 2),
    (strided(24, 6), lambda i, k: k <= i and (i - k < 6 or (i - k) % 6 == 0)),
    (fixed(24, 6, 2), lambda i, k: k <= i and (i // 6 == k // 6 or k % 6 >= 4)),
    (halo(24, 6, 2), lambda i, k: i // 6 * 6 - 2 <= k < i // 6 * 6 + 8),
    (block_causal(24, 5), lambda i, k: k // 5 <= i // 5),
    (documents((5, 12, 7)), lambda i, k: k <= i and document(i) == document(k)),
    (documents((5, 12, 7), causal=False), lambda i, k: document(i) == document(k)),
]


def tile_pairs(pattern: SparsePattern, query_tile: int, key_tile: int) -> TilePairs:
    """All query tiles together."""
    parts = list(tile_rows(pattern, query_tile, key_tile))
    return TilePairs(np.concatenate([part.pairs for part in parts]), np.concatenate([part.possible for part in parts]))


def mask(pattern: SparsePattern) -> NDArray[np.bool_]:
    queries, keys = np.arange(pattern.tokens)[:, None], np.arange(pattern.tokens + 1)
    return np.diff(pattern.before(queries, keys), axis=1) > 0


PATTERNS = [*(pattern for pattern, _ in DEFINITIONS), frame_decay(4, 6)]


def document(token: int) -> int:
    return 0 if token < 5 else 1 if token < 17 else 2


@pytest.mark.parametrize(("pattern", "attends"), DEFINITIONS)
def test_a_pattern_is_its_definition(pattern: SparsePattern, attends: Callable[[int, int], bool]) -> None:
    expected = np.array([[attends(i, k) for k in range(24)] for i in range(24)])
    assert (mask(pattern) == expected).all()
    assert tile_pairs(pattern, 24, 24).pairs.sum() == expected.sum()


@settings(deadline=None)
@given(st.sampled_from(PATTERNS), st.integers(1, 9), st.integers(1, 9))
def test_tiles_are_those_of_the_mask(pattern: SparsePattern, query_tile: int, key_tile: int) -> None:
    found, whole = tile_pairs(pattern, query_tile, key_tile), mask(pattern)
    for row, start in enumerate(range(0, pattern.tokens, query_tile)):
        for column, first in enumerate(range(0, pattern.tokens, key_tile)):
            part = whole[start : start + query_tile, first : first + key_tile]
            assert found.pairs[row, column] == part.sum()
            assert found.possible[row, column] == part.size
    assert (found.full <= found.visited).all()


@settings(deadline=None)
@given(st.sampled_from(PATTERNS), st.integers(1, 30), st.integers(1, 30), st.integers(1, 200))
def test_batches_change_no_count(pattern: SparsePattern, query_tile: int, key_tile: int, batch: int) -> None:
    """A query tile that several batches cut is counted once, with all of its pairs."""
    whole = tile_pairs(pattern, query_tile, key_tile)
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(patterns, "LARGEST_BATCH", batch)
        cut = tile_pairs(pattern, query_tile, key_tile)
    assert np.array_equal(cut.pairs, whole.pairs)
    assert np.array_equal(cut.possible, whole.possible)


def test_what_would_take_an_hour_is_refused() -> None:
    with pytest.raises(CascadeSimError, match="give larger key tiles"):
        tile_pairs(sink_window(1 << 20, 4, 4096), 128, 1)


@pytest.mark.parametrize(("pattern", "attends"), [
    *DEFINITIONS, (block_causal(24, 1), lambda i, k: k <= i), (global_window(24, 3, 0), lambda i, k: abs(i - k) <= 1),
])  # fmt: skip
def test_causal_is_what_attends_nothing_later(pattern: SparsePattern, attends: Callable[[int, int], bool]) -> None:
    assert pattern.causal == (not any(attends(i, k) for i in range(24) for k in range(i + 1, 24)))


def test_frames_see_less_of_frames_further_away() -> None:
    """4 frames of 8: own frame and the next whole (distance 1: 8 / 1), the second and third half (8 / 2)."""
    counts = mask(frame_decay(4, 8))[3].reshape(4, 8).sum(axis=1)
    assert counts.tolist() == [8, 8, 4, 4]


def test_causal_windows_halve_the_tiles() -> None:
    """Causal over 8 tiles: 1 + 2 + ... + 8 = 36 of 64 tiles, 8 of them masked."""
    found = tile_pairs(sink_window(64, 0, 64), 8, 8)
    assert found.visited.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert int((found.visited - found.full).sum()) == 8


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: sink_window(24, 30, 5), "sinks must be 0 to the 24 of tokens, got 30"),
        (lambda: strided(24, 0), "length must be at least 1, got 0"),
        (lambda: fixed(24, 6, 7), "columns must be 0 to the 6 of length, got 7"),
        (lambda: documents(()), "documents need at least one token each"),
        (lambda: halo(24, 6, -1), "halo must be 0 to the 24 of tokens, got -1"),
    ],
)
def test_impossible_settings_are_refused(build: Callable[[], SparsePattern], message: str) -> None:
    with pytest.raises(CascadeSimError, match=message):
        build()


def test_three_of_five_tiles_slide_and_stop_at_the_ends() -> None:
    blocks = sliding_tile((10,), (2,), (3,)).blocks.astype(int)
    assert blocks.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]


def test_hunyuanvideo_as_published() -> None:
    """STA: 30x48x80 in tiles of 6x8x8 = 384 tokens, windows of 3x3x3 of 5x6x10 tiles: 27 of 300, 91% sparse."""
    mask = sliding_tile((30, 48, 80), (6, 8, 8), (3, 3, 3))
    assert mask.blocks.shape == (300, 300)
    assert mask.blocks.mean() == 27 / 300
    assert mask.query_block == 384


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.sampled_from([1, 3, 5])), min_size=1, max_size=2))
def test_odd_windows_are_strided_neighborhoods(sizes: list[tuple[int, int, int]]) -> None:
    """GNA(window = k T, stride = T): as many pairs, and the same pairs once tokens are in tile order."""
    tile = tuple(each[0] for each in sizes)
    window = tuple(each[2] for each in sizes)
    layout = tuple(t * max(n, k) for t, n, k in sizes)
    mask = sliding_tile(layout, tile, window)
    pattern = neighborhood(layout, [t * k for t, k in zip(tile, window, strict=True)], tile)
    number = np.zeros(layout, dtype=int)  # of each token's tile
    for along, size, side in zip(np.indices(layout), tile, layout, strict=True):
        number = number * (side // size) + along // size
    tokens = number.reshape(-1)
    assert (pattern.attends() == mask.blocks[np.ix_(tokens, tokens)]).all()
    assert pattern.pairs == mask.blocks.sum() * prod(tile) ** 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((30, 48), (7, 8), (3, 3)), "dimension 1: tile 7 does not divide the layout 30"),
        (((30, 48), (6, 8), (3, 7)), "dimension 2: window 7; give 1 to the 6 tiles"),
        (((30, 48), (6, 0), (3, 3)), "dimension 2: tile 0"),
        (((30, 48), (6,), (3, 3)), "differ in dimensions"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(CascadeSimError, match=message):
        sliding_tile(*arguments)
