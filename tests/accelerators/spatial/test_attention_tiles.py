"""Sizes of tiles worth trying on a side of an array."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cascadesim.accelerators.spatial.attention_tiles import coarse_sizes, tile_sizes

sides, extents = st.integers(1, 3000), st.integers(1, 100_000)


def test_every_size_up_to_64_and_then_32_to_the_octave() -> None:
    assert tile_sizes(70, 10**6)[:4] == (70, 68, 66, 64)
    assert tile_sizes(256, 10**6)[:3] == (256, 252, 248)
    assert tile_sizes(257, 10**6)[0] == 256
    assert coarse_sizes(20, 10**6) == (16, 12, 8, 6, 4, 3, 2, 1)


def test_no_tile_is_longer_than_the_extent() -> None:
    """300 on 512: as one tile, two of 150, three of 100, four of 75."""
    assert tile_sizes(512, 300)[0] == 300
    assert {150, 100, 75} <= set(coarse_sizes(512, 300))


@given(sides, sides, extents)
def test_a_larger_side_has_every_size_of_a_smaller_one(one: int, other: int, extent: int) -> None:
    small, large = sorted((one, other))
    for sizes in (tile_sizes, coarse_sizes):
        assert set(sizes(small, extent)) <= set(sizes(large, extent))
        assert sizes(small, extent)[-1] == 1
        assert sizes(small, extent)[0] <= small


@given(sides, extents)
def test_up_to_64_tiles_none_cuts_the_extent_into_fewer(side: int, extent: int) -> None:
    fewest = -(-extent // side)
    found = -(-extent // tile_sizes(side, extent)[0])
    assert found == fewest if fewest <= 64 else found <= fewest * 33 / 32 + 1
