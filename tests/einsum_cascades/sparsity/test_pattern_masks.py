"""Patterns as masks of operations: counted by hand, whole numbers, the same however finely they are asked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity import pattern_mask
from cascadesim.einsum_cascades.sparsity.pattern_masks import PatternMask

PATTERNS = ("pbs:share=0.3", "moba", "nsa", "xattention", "sink-window:sinks=64,window=512", "strided:length=64",
            "flash-moba")  # fmt: skip


def test_half_of_the_blocks_is_half_of_the_pairs_but_for_the_diagonal() -> None:
    """8 blocks of 128, half of 1 ... 8 seen, the own one among them: 22 blocks, less 127 / 2 of each query's own."""
    mask = PatternMask("pbs:share=0.5", (1024,), True)
    assert mask.visited(128, 128).total == 1 + 1 + 1.5 + 2 + 2.5 + 3 + 3.5 + 4
    assert mask.attended_pairs(1024, 1024) == 18.5 * 128 * 128 - 1024 * 127 / 2


def test_the_last_query_attends_what_a_new_token_reads() -> None:
    """64 sinks and 512 keys; two blocks of 256 and the own one, whole: as many keys in decoding."""
    assert PatternMask("sink-window:sinks=64,window=512", (4096,), True).last_keys == 64 + 512
    assert PatternMask("moba:block=256", (4096,), True).attended_pairs(1, 4096) == 3 * 256


def test_methods_of_prompts_leave_new_tokens_alone() -> None:
    assert not PatternMask("pbs", (4096,), True).runs_in("decode")
    assert PatternMask("moba", (4096,), True).runs_in("decode")
    assert PatternMask("strided:length=64", (4096,), True).runs_in("decode")


def test_tiles_lie_within_blocks() -> None:
    """Blocks of 128 cut a tile of 176 keys to 128; those of 64 to 64; without blocks a tile is as it is."""
    assert [PatternMask("pbs", (4096,), True).key_tile(tile) for tile in (32, 100, 128, 176)] == [32, 64, 128, 128]
    assert PatternMask("nsa", (4096,), True).key_tile(176) == 64
    assert PatternMask("strided:length=64", (4096,), True).key_tile(176) == 176


def test_ranges_count_visits_wherever_they_lie() -> None:
    """Half of 1 ... 8 blocks: sums 1, 2, 3.5, 5.5, 8, 11, 14.5, 18.5, rounded halves up, up to the diagonal."""
    first, last = PatternMask("pbs:share=0.5", (1024,), True).key_tiles(1024, 1024, 128, 128)
    assert (last - first + 1).tolist() == [1, 1, 2, 2, 2, 3, 4, 4]
    assert last.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_ranges_of_what_looks_ahead_cover_all_keys() -> None:
    """Blocks of 64 and half a block on either side: 3 of 16 tiles, 2 at the ends."""
    first, last = PatternMask("halo:block=64,halo=32", (1024,), False).key_tiles(1024, 1024, 64, 64)
    assert (last - first + 1).tolist() == [2, *[3] * 14, 2]
    assert (first[0], last[-1]) == (0, 15)
    assert (np.diff(first) >= 0).all()
    assert (np.diff(last) >= 0).all()


def test_ranges_never_step_back_after_a_query_tile_that_sees_everything() -> None:
    """The first tile holds global tokens: 16 visits; all others see it and their window, at the end of the keys."""
    mask = PatternMask("global-window:window=64,globals=8", (1024,), False)
    first, last = mask.key_tiles(1024, 1024, 64, 64)
    assert (last - first + 1).tolist() == mask.visited(64, 64).visited.tolist()
    assert last[0] == 15
    assert (np.diff(last) >= 0).all()


@given(pattern=st.sampled_from(PATTERNS), tokens=st.sampled_from((1024, 1536, 2048)),
       query_tile=st.sampled_from((1, 32, 64, 128, 256)), key_tile=st.sampled_from((32, 64, 128)))  # fmt: skip
def test_visited_tiles_hold_the_attended_pairs(pattern: str, tokens: int, query_tile: int, key_tile: int) -> None:
    """At least the pairs, at most all tiles, and the running sum of ranges, which move forwards, within half a tile."""
    mask = pattern_mask(pattern, (tokens,), True)
    first, last = mask.key_tiles(tokens, tokens, query_tile, key_tile)
    assert len(first) == -(-tokens // query_tile)
    found = mask.visited(query_tile, key_tile)
    assert first.min() >= 0
    assert last.max() == last[-1] == -(-tokens // key_tile) - 1
    assert (np.diff(last) >= 0).all()
    assert np.abs(np.cumsum(last - first + 1) - np.cumsum(found.visited)).max() <= 0.5 + 1e-9
    assert found.total * query_tile * key_tile >= mask.attended_pairs(tokens, tokens) * (1 - 1e-9)
    assert (found.partial <= found.visited + 1e-9).all()


def test_equal_patterns_are_one() -> None:
    one, other = (PatternMask("moba:kept=2", (4096,), True) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != PatternMask("moba:kept=2", (4096,), False)


@pytest.mark.parametrize(("text", "causal", "message"), [
    ("mobba", True, "did you mean 'moba'"),
    ("halo:block=128,halo=32", True, "attends later tokens, which a causal layer must not"),
    ("vmoba:share=0", False, "no query attends any key"),
])  # fmt: skip
def test_a_mask_that_cannot_be_is_refused(text: str, causal: bool, message: str) -> None:
    with pytest.raises(CascadeSimError, match=message):
        pattern_mask(text, (4096,), causal)


def test_other_sizes_than_its_own_are_refused() -> None:
    mask = PatternMask("pbs", (4096,), True)
    for queries, keys in ((4096, 4097), (128, 4096), (1, 1)):
        with pytest.raises(CascadeSimError, match="has 4096 tokens, got"):
            mask.attended_pairs(queries, keys)


def test_power_of_two_distances_are_4_28_percent_of_the_causal_half_at_128k() -> None:
    """512 blocks of 256. Row i sees its own and 4 before (5 in all), the first, and distances 8 ... 256 that exist.

    Own and earlier: 512 x 5 less 4 + 3 + 2 + 1; the first: 507 rows beyond those, less rows 8, 16 ... 256 that see it
    by distance; distance d: 512 - d rows. Sum 5,619 of 131,328: 10.97 a row, 4.28 %.
    """
    blocks = 512 * 5 - 10 + (507 - 6) + sum(512 - distance for distance in (8, 16, 32, 64, 128, 256))
    mask = PatternMask("power:block=256,window=4,sinks=1", (131072,), True)
    assert mask.visited(256, 256).total == blocks == 5619
    assert blocks / 512 == pytest.approx(10.97, abs=0.005)
    assert blocks / (512 * 513 / 2) == pytest.approx(0.0428, abs=5e-5)
    assert mask.attended_pairs(131072, 131072) == blocks * 256**2 - 512 * (256 * 255 // 2)
    assert mask.visited(256, 256).partial.tolist() == [1.0] * 512  # the diagonal alone
    assert mask.visited(128, 128).total == 2 * 2 * blocks - 512  # of the own block, the upper query tile sees one less


def test_clusters_are_as_many_dense_triangles() -> None:
    """The square root of 16,384 tokens: 128 clusters of 128, each a tile with its diagonal."""
    mask = PatternMask("clusters", (16384,), True)
    assert mask.visited(128, 128).visited.tolist() == [1.0] * 128
    assert mask.attended_pairs(16384, 16384) == 128 * 128 * 129 // 2
    assert PatternMask("clusters", (16384,), False).attended_pairs(16384, 16384) == 128 * 128 * 128


def test_a_halo_in_two_dimensions_is_a_larger_square() -> None:
    """Blocks of 8 x 8 with 3 more on each side see 14 x 14 = 196 keys; 64 blocks, of which two in a tile see more."""
    mask = PatternMask("halo:block=8x8,halo=3x3", (64, 64), False)
    assert mask.visited(64, 64).total == pytest.approx(64 * 196 / 64)
    assert mask.attended_pairs(4096, 4096) == 4096 * 196
    assert 64 * 196 / 64 < 2 * mask.visited(128, 64).total <= 2 * 64 * 196 / 64


def test_a_window_that_every_frame_repeats_sees_its_share_of_keys() -> None:
    """13 frames of 30 x 45 tokens, windows of 42: 42 / 1,350 = 3.1 % of the keys, whatever the query."""
    mask = PatternMask("repeated-window:window=42", (13, 30, 45), False)
    assert mask.attended_pairs(17550, 17550) == 17550 * 13 * 42
    assert mask.last_keys == 13 * 42


@pytest.mark.parametrize(("text", "layout", "message"), [
    ("power:block=256,window=4,sinks=600", (131072,), "sinks must be 0 to the 512 of blocks"),
    ("power:block=1,window=0,sinks=0", (131072,), "131,072 blocks of 1; at most 8,192"),
    ("halo:block=8x9,halo=3x3", (64, 64), "block 9 does not divide the layout 64"),
    ("halo:block=8x8,halo=3x3", (4096,), "give a block and a halo for each of the 1 dimensions"),
    ("repeated-window:window=9", (4, 8), "window must be 0 to the 8 of a frame"),
    ("clusters:kept=3", (4096,), "no setting 'kept'; known: head_dim, block"),
])  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(text: str, layout: tuple[int, ...], message: str) -> None:
    with pytest.raises(CascadeSimError, match=message):
        PatternMask(text, layout, False)
