"""The published rule for products: which part stays in the buffer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cascadesim.accelerators.spatial.published_linear import BlockedProduct, published_blocking
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError


def test_weights_that_fit_stay_and_everything_passes_once(fusemax: SpatialArray) -> None:
    """BERT, up: 768 x 3072 weights in 2^23 words; 65536 rows are 256 tiles, 3072 columns are 12."""
    blocking = published_blocking(BlockedProduct(65536, 768, 3072), fusemax)
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


def test_the_published_rule_is_for_whole_tiles(fusemax: SpatialArray) -> None:
    with pytest.raises(CascadeSimError, match=r"r of a linear layer must be a multiple .* got r=100, n=256; use --acc"):
        published_blocking(BlockedProduct(100, 512, 256), fusemax)


def test_the_published_rule_needs_a_row_tile_to_fit(array: Callable[..., SpatialArray]) -> None:
    with pytest.raises(CascadeSimError, match="no block of rows of depth k=14336 fits the buffer"):
        published_blocking(BlockedProduct(64, 14336, 4096), array(32, capacity_bytes=2**19))
