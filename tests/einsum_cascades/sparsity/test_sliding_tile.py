"""Sliding tiles against the neighborhood they are, and against the definition where they are none."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.neighborhood import neighborhood
from cascadesim.einsum_cascades.sparsity.sliding_tile import sliding_tile


def test_three_of_five_tiles_slide_and_stop_at_the_ends() -> None:
    blocks = sliding_tile((10,), (2,), (3,)).blocks.astype(int)
    assert blocks.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]


def test_hunyuanvideo_as_published() -> None:
    """STA: 30x48x80 in tiles of 6x8x8 = 384 tokens, windows of 3x3x3 of 5x6x10 tiles: 27 of 300, 91% sparse."""
    mask = sliding_tile((30, 48, 80), (6, 8, 8), (3, 3, 3))
    assert mask.blocks.shape == (300, 300)
    assert mask.density == 27 / 300
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
