"""Data-dependent patterns: expectations by hand, against drawn selections, and exact counts of block masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.block_selection import BlockMask, Selected, read_block_mask
from cascadesim.einsum_cascades.sparsity.choice_passes import FLOPS_OF, size_of
from cascadesim.einsum_cascades.sparsity.pattern_names import named
from cascadesim.einsum_cascades.sparsity.selection_methods import SELECTED, selected


def test_a_head_that_keeps_a_quarter_visits_a_quarter() -> None:
    """One choice per head: 16 of 64 blocks of 64 for every query tile, none of them masked."""
    found = Selected("half", 4096, 64, 16, 0, False, 128).tiles(128, 64)
    assert found.visited.tolist() == [16.0] * 32
    assert found.partial.tolist() == [0.0] * 32


def test_queries_that_choose_by_themselves_fill_the_tile() -> None:
    """2 of 8 blocks, 16 independent queries: a block is missed by all with (3/4)^16 = 1.0 %, so 7.92 are visited."""
    found = Selected("each", 512, 64, 2, 1, False, 128).tiles(16, 64)
    assert found.visited[0] == pytest.approx(8 * (1 - 0.75**16))
    alike = Selected("each", 512, 64, 2, 1, False, 128, alike=1.0).tiles(16, 64)
    assert alike.visited[0] == pytest.approx(2.0)


def test_the_expected_union_is_that_of_drawn_choices() -> None:
    """200 draws of 3 of 32 blocks by 8 queries: the mean union within four standard errors."""
    draw = np.random.default_rng(7)
    unions = [len({block for _ in range(8) for block in draw.choice(32, 3, replace=False)}) for _ in range(200)]
    expected = Selected("drawn", 32 * 64, 64, 3, 1, False, 128).tiles(8, 64).visited[0]
    assert abs(np.mean(unions) - expected) < 4 * np.std(unions) / np.sqrt(200)


def test_causal_queries_choose_among_the_past() -> None:
    """Own block always: the first query tile sees one tile, the last at most own + kept."""
    found = Selected("causal", 4096, 128, 2, 0, True, 128, always=1).tiles(128, 128)
    assert found.visited[0] == 1.0
    assert found.visited[-1] == pytest.approx(3.0)
    assert (found.partial >= 1.0 - 1e-12).all()  # the diagonal


@pytest.mark.parametrize(("thousands", "share", "published"), [
    (8, 0.579, 1205), (16, 0.485, 4005), (32, 0.405, 13_337), (64, 0.287, 37_632), (128, 0.219, 114_931),
])  # fmt: skip
def test_a_share_is_of_the_blocks_that_a_causal_query_may_see(thousands: int, share: float, published: int) -> None:
    """PBS-Attn, table 5: densities of causal blocks of 128, in percent with one decimal, so within 0.05 / 20 of it.

    n blocks a side are n (n + 1) / 2 causal ones: 2,080, 8,256, 32,896, 131,328 and 524,800.
    """
    found = selected("pbs", thousands * 1024, share=share).tiles(128, 128)
    blocks = thousands * 8
    assert found.total == pytest.approx(share * blocks * (blocks + 1) / 2, rel=1e-3)  # the first rows see their own
    assert found.total == pytest.approx(published, rel=0.0025)


def test_a_share_counts_the_own_block_and_never_less() -> None:
    """Half of 1, 2, ... 8 blocks: 1 (the own one), 1, 1.5, 2, ... 4."""
    found = selected("pbs", 1024, share=0.5).tiles(128, 128)
    assert found.visited.tolist() == pytest.approx([1, 1, 1.5, 2, 2.5, 3, 3.5, 4])


def test_tiles_of_the_own_block_after_the_query_are_not_visited() -> None:
    """Own block of 4 tiles only: 1, 2, 3, 4 of them, again in every block, one on the diagonal each time."""
    found = Selected("own", 1024, 256, 0, 0, True, 128, always=1).tiles(64, 64)
    assert found.visited.tolist() == [1, 2, 3, 4] * 4
    assert found.partial.tolist() == [1.0] * 16


def test_all_of_the_causal_blocks_are_causal_attention() -> None:
    found = selected("pbs", 1024, share=1.0)
    assert found.attended_pairs == 1024 * 1025 / 2
    assert found.tiles(128, 128).total == 8 * 9 / 2


@pytest.mark.parametrize(("rows", "causal"), [
    ([[1, 0, 0], [1, 1, 0], [0, 1, 1]], True), ([[1, 0, 0], [1, 1, 1], [0, 1, 1]], False),
    ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], False), ([[0, 0, 0], [0, 0, 0], [1, 0, 0]], True),
])  # fmt: skip
def test_a_block_mask_is_causal_where_it_chooses_among_earlier_blocks(rows: list[list[int]], causal: bool) -> None:
    assert BlockMask(np.array(rows, dtype=bool), 64, 64).causal == causal


@pytest.mark.parametrize(("settings", "message"), [
    ({"block": 0}, "block must be a whole number from 1 to 1073741824, got 0"),
    ({"block": 2.5}, "block must be a whole number"),
    ({"head_dim": 0}, "head_dim must be a whole number"),
])  # fmt: skip
def test_settings_have_ranges(settings: dict[str, float], message: str) -> None:
    for name in SELECTED:
        if name != "vertical-slash" or "head_dim" in settings:
            with pytest.raises(CascadeSimError, match=f"pattern {name}: {message}"):
                selected(name, 4096, **settings)


def test_key_tiles_of_several_blocks_are_visited_for_one_of_them() -> None:
    """4 blocks in a tile, each seen with chance 1/4: the tile with 1 - (3/4)^4."""
    found = Selected("small", 4096, 16, 64, 0, False, 128).tiles(64, 64)
    assert found.visited[0] == pytest.approx(64 * (1 - 0.75**4))


@pytest.mark.parametrize("name", SELECTED)
def test_published_patterns_skip_work_and_cost_a_choice(name: str) -> None:
    pattern = selected(name, 32768)
    found = pattern.tiles(128, 64)
    assert 0 < found.total < (32768 / 128) * (32768 / 64)
    assert (found.partial <= found.visited + 1e-9).all()
    assert 0 < pattern.attended_pairs < 32768**2
    assert (pattern.choice_flops > 0) == any(each.kind in FLOPS_OF for each in pattern.passes)
    assert pattern.choice_flops < 4 * 128 * 32768**2


def test_moba_attends_its_three_blocks() -> None:
    """Queries beyond the third block: 2 chosen blocks of 512 and the own one up to the query: 1024 + place + 1."""
    tokens = 4096
    late = sum(2 * 512 + place + 1 for place in range(512)) * 6
    second = sum(512 + place + 1 for place in range(512))
    first = sum(place + 1 for place in range(512))
    assert selected("moba", tokens).attended_pairs == late + second + first


def test_a_block_mask_is_counted_exactly() -> None:
    """Blocks of 64 on query tiles of 128 and key tiles of 64: a tile is masked where only one of its blocks is seen."""
    blocks = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=bool)
    found = BlockMask(blocks, 64, 64).tiles(128, 64)
    assert found.visited.tolist() == [2.0, 1.0]
    assert found.partial.tolist() == [1.0, 0.0]


def test_a_block_mask_is_read_from_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.eye(4))
    assert read_block_mask(tmp_path / "mask.npy", 64, 64).blocks.mean() == 0.25
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "line.npy", np.ones(4))
    for name in ("text.npy", "line.npy", "missing.npy"):
        with pytest.raises(CascadeSimError, match=name):
            read_block_mask(tmp_path / name, 64, 64)


def test_unknown_patterns_and_settings_are_refused() -> None:
    with pytest.raises(CascadeSimError, match="did you mean 'moba'"):
        selected("mobba", 1024)
    with pytest.raises(CascadeSimError, match="no setting 'blok'; known: head_dim, block, kept"):
        selected("moba", 1024, blok=3)
    with pytest.raises(CascadeSimError, match="kept must be 0 to the 2 blocks, got 3"):
        selected("moba", 1024, kept=3)


def test_a_block_that_is_cut_on_its_diagonal_is_whole_for_single_keys() -> None:
    """Four queries of one block, a key at a time: 1, 2, 3, 4 keys, none of them in part; by two: one of two is."""
    found = BlockMask(np.ones((1, 1), dtype=bool), 4, 4, diagonal=True)
    assert found.attended_pairs == 10
    assert (found.tiles(1, 1).visited.tolist(), found.tiles(1, 1).partial.tolist()) == ([1, 2, 3, 4], [0, 0, 0, 0])
    assert (found.tiles(2, 2).visited.tolist(), found.tiles(2, 2).partial.tolist()) == ([1, 2], [1, 1])
    assert found.causal


def test_sizes_of_passes_are_rounded_up() -> None:
    """1,000 tokens are four segments of 256; a number stands for itself."""
    sizes = {"tokens": 1000}
    assert [size_of(text, sizes) for text in ("tokens", "tokens/256", "tokens/8/2", "64")] == [1000, 4, 63, 64]


@given(chosen=st.lists(st.booleans(), min_size=36, max_size=36), diagonal=st.booleans(),
       query_tile=st.sampled_from((1, 2, 4, 8, 12, 16)), key_tile=st.sampled_from((1, 3, 4, 8, 16)))  # fmt: skip
def test_tiles_of_a_block_mask_are_those_of_its_pairs(
    chosen: list[bool], diagonal: bool, query_tile: int, key_tile: int
) -> None:
    """6 x 6 blocks of 8, drawn; against the mask of 48 x 48 pairs, tile by tile."""
    blocks = np.array(chosen).reshape(6, 6)
    pairs = np.kron(blocks, np.ones((8, 8), dtype=bool))
    blocks, pairs = (np.tril(each) if diagonal else each for each in (blocks, pairs))
    found = BlockMask(blocks, 8, 8, diagonal).tiles(query_tile, key_tile)
    tiles = [[pairs[row:row + query_tile, column:column + key_tile] for column in range(0, 48, key_tile)]
             for row in range(0, 48, query_tile)]  # fmt: skip
    assert found.visited.tolist() == [sum(tile.any() for tile in row) for row in tiles]
    assert found.partial.tolist() == [sum(tile.any() and not tile.all() for tile in row) for row in tiles]
    assert BlockMask(blocks, 8, 8, diagonal).attended_pairs == pairs.sum()


@pytest.mark.parametrize("field", ["name", "tokens", "causal"])
def test_a_setting_called_as_what_else_a_pattern_is_made_of_is_refused_as_any_other(field: str) -> None:
    with pytest.raises(CascadeSimError, match=f"pattern moba: no setting '{field}'; known: head_dim, block, kept"):
        named(f"moba:{field}=1", (1024,))
