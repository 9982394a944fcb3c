"""What stays in the buffer while a matrix product passes: the published rule, and what else fits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.spatial.array import linear_actions
from cascadesim.accelerators.spatial.blocking import (
    BlockedProduct,
    Blocking,
    coarse_sizes,
    even_blocks,
    published_blocking,
    published_way,
    tile_sizes,
)
from cascadesim.accelerators.spatial.blocking_search import fastest_blocking
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.texts.transformer import LINEAR


def resident_words(blocking: Blocking) -> int:
    """What the buffer holds at once: the resident part and two streamed tiles or slices."""
    product = blocking.product
    row_tile, column_tile = min(blocking.tile_rows, product.rows), min(blocking.tile_columns, product.columns)
    if blocking.resident == "weights":
        return product.depth * (product.columns + 2 * row_tile)
    height = min(blocking.rows_per_block * blocking.tile_rows, product.rows)
    if blocking.resident == "rows":
        return product.depth * (height + 2 * column_tile)
    width = min(blocking.columns_per_block * blocking.tile_columns, product.columns)
    return height * width + 2 * blocking.depth_per_block * (height + width)


def test_weights_that_fit_stay_and_everything_passes_once(fusemax: SpatialArray) -> None:
    """BERT, up: 768 x 3072 weights in 2^23 words; 65536 rows are 256 tiles, 3072 columns are 12."""
    blocking = fastest_blocking(BlockedProduct(65536, 768, 3072), fusemax)
    assert blocking.resident == "weights"
    assert (blocking.row_tiles, blocking.column_tiles) == (256, 12)
    assert blocking.steps == 256 * 12 * 768
    assert blocking.dram_words == 65536 * 768 + 768 * 3072 + 65536 * 3072


def test_refetches_follow_from_the_buffer(fusemax: SpatialArray, flat: SpatialArray) -> None:
    """XLM, down: rows of 8192 words. 2^23 words hold 1024 of them, less 256 columns of weights: 768.

    65536 rows in a power of two of blocks of at most 768: R = 128 blocks of 512. In 2^24 words (1792): R = 64.
    """
    down = BlockedProduct(rows=65536, depth=8192, columns=2048)
    assert published_blocking(down, fusemax).reads_of_weights == 128
    assert published_blocking(down, flat).reads_of_weights == 64
    assert published_blocking(BlockedProduct(65536, 768, 3072), fusemax).reads_of_weights == 1


def test_a_few_rows_stay_and_weights_pass_once(fusemax: SpatialArray) -> None:
    """Decode: 8 rows of 14336, however large the weights."""
    blocking = fastest_blocking(BlockedProduct(8, 14336, 4096), fusemax)
    assert blocking.resident == "rows"
    assert blocking.dram_words == blocking.product.least_words


def test_a_long_product_lies_along_the_long_side(array: Callable[..., SpatialArray]) -> None:
    """32 x 256 outputs on 256 rows x 32 columns: turned they are one tile, upright they would be eight."""
    blocking = fastest_blocking(BlockedProduct(32, 100, 256), array(256, 32))
    assert (blocking.tile_rows, blocking.tile_columns, blocking.steps) == (32, 256, 100)


def test_outputs_stay_where_rows_of_full_depth_do_not_fit(array: Callable[..., SpatialArray]) -> None:
    """32 x 32 array, 2^18 words: three tiles of depth 14336 have 1.4 million."""
    edge = array(32, capacity_bytes=2**19)
    assert published_way(BlockedProduct(4096, 14336, 4096), edge) is None
    blocking = fastest_blocking(BlockedProduct(4096, 14336, 4096), edge)
    assert blocking.resident == "outputs"
    assert blocking.depth_per_block == 64  # twice a row of the buffer
    assert resident_words(blocking) <= 2**18
    assert blocking.reads_of_rows == ceil(4096 / (32 * blocking.columns_per_block))
    assert blocking.reads_of_weights == ceil(4096 / (32 * blocking.rows_per_block))


products = st.builds(
    BlockedProduct, rows=st.integers(1, 700), depth=st.integers(1, 900),
    columns=st.integers(1, 700), copies=st.integers(1, 5),
)  # fmt: skip


@settings(deadline=None)
@given(products, st.sampled_from((2**13, 2**15, 2**17, 2**21)))
def test_a_blocking_fits_and_moves_what_the_counting_engine_says(
    array: Callable[..., SpatialArray], product: BlockedProduct, capacity_bytes: int
) -> None:
    spec = array(32, 16, capacity_bytes=capacity_bytes)
    found = [published_way(product, spec)]
    with suppress(CascadeSimError):
        found.append(fastest_blocking(product, spec))
    for blocking in filter(None, found):
        assert resident_words(blocking) <= spec.buffer_words
        assert blocking.dram_words >= product.least_words
        actions = linear_actions(LINEAR.einsums[0], blocking, "physical")
        assert actions.dram_words == blocking.dram_words
        assert actions.register_reads_2d >= 2 * product.macs  # both operands, and most sums
        assert actions.global_buffer_read_words >= product.copies * product.depth * (product.rows + product.columns)


@given(st.integers(1, 10_000), st.integers(1, 300))
def test_blocks_are_equal_or_as_few_as_fit(tiles: int, fits: int) -> None:
    blocks = even_blocks(tiles, fits)
    assert ceil(tiles / blocks) <= fits
    assert tiles % blocks == 0 or blocks == ceil(tiles / fits)
    assert blocks < 2 * ceil(tiles / fits)


def test_blocks_of_powers_of_two_are_powers_of_two() -> None:
    """XLM, up, 256 row tiles of which 14 fit: 19 blocks at least, 32 equal ones."""
    assert even_blocks(256, 14) == 32


def test_a_buffer_too_small_for_any_tile_is_refused(array: Callable[..., SpatialArray]) -> None:
    """Slices of 256 of a row and of a column, twice, beside one output: 1025 words."""
    spec = array(256, capacity_bytes=2048)
    refused = r"capacity_bytes: 2048 bytes hold no tile of a linear layer; .* need 2050"
    with pytest.raises(CascadeSimError, match=refused):
        fastest_blocking(BlockedProduct(512, 512, 512), spec)
    assert fastest_blocking(BlockedProduct(512, 512, 512), array(256, capacity_bytes=2050)).tile_rows == 1


def test_the_published_rule_is_for_whole_tiles(fusemax: SpatialArray) -> None:
    with pytest.raises(CascadeSimError, match=r"r of a linear layer must be a multiple .* got r=100, n=256; use --acc"):
        published_blocking(BlockedProduct(100, 512, 256), fusemax)


def test_the_published_rule_needs_a_row_tile_to_fit(array: Callable[..., SpatialArray]) -> None:
    with pytest.raises(CascadeSimError, match="no block of rows of depth k=14336 fits the buffer"):
        published_blocking(BlockedProduct(64, 14336, 4096), array(32, capacity_bytes=2**19))


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
