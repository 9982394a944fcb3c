"""Data-dependent patterns: expectations by hand, against drawn selections, and exact counts of block masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.einsum_cascades.selected import BlockMask, Selected, read_block_mask
from cascadesim.einsum_cascades.selected_catalogue import SELECTED, selected


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
    assert 0 < pattern.choice_flops < 4 * 128 * 32768**2


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
    assert read_block_mask(tmp_path / "mask.npy", 64, 64).density == 0.25
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
