"""Visited tiles and bounds: by hand, against the paper, and against tile-by-tile enumeration of the mask.

The time model: its constants re-derived from the published times they came from, its parts by hand.
"""

from __future__ import annotations

import itertools
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import Axis, Neighborhood, neighborhood
from cascadesim.simulator.gna import visits as flattened
from cascadesim.simulator.gna.neighborhood import (
    MODES,
    Question,
    question,
)

Grid = NDArray[np.int64]


@st.composite
def questions(draw: st.DrawFn, whole: bool = False) -> Question:
    """`whole`: windows as long as their dilation groups allow, most often the layout."""
    dimensions = draw(st.integers(1, 3))
    longest = {1: 60, 2: 12, 3: 6}[dimensions]
    axes = []
    for _ in range(dimensions):
        length = draw(st.integers(1, longest))
        dilation = draw(st.integers(1, length if draw(st.booleans()) else 1))
        longest_window = length // dilation
        window = longest_window if whole else draw(st.integers(1, longest_window))
        axes.append((length, window, draw(st.integers(1, window)), dilation, draw(st.booleans())))
    sizes = st.lists(st.integers(1, 5), min_size=dimensions, max_size=dimensions)
    return question(neighborhood(*zip(*axes, strict=True)), draw(sizes), draw(sizes))


def group_and_place(pattern: Neighborhood) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Dilation group and place in it of every token, in row-by-row order."""
    coordinates = itertools.product(*(range(length) for length in pattern.layout))
    return [
        (
            tuple(x % d for x, d in zip(each, pattern.dilation, strict=True)),
            tuple(x // d for x, d in zip(each, pattern.dilation, strict=True)),
        )
        for each in coordinates
    ]


def visited_by_enumeration(asked: Question) -> list[int]:
    """Static multi-dimensional tiling: distinct (group, key tile) of the attended keys of each query tile."""
    pattern = asked.pattern
    where, mask = group_and_place(pattern), asked.pattern.attends()
    seen: dict[tuple[tuple[int, ...], ...], set[tuple[int, ...]]] = {}
    for query, (group, place) in enumerate(where):
        tile = tuple(x // t for x, t in zip(place, asked.tiles.query, strict=True))
        keys = {
            tuple(x // u for x, u in zip(where[key][1], asked.tiles.key, strict=True))
            for key in np.flatnonzero(mask[query])
        }
        seen.setdefault((group, tile), set()).update(keys)
    return sorted(len(keys) for keys in seen.values())


def test_three_query_tiles_by_hand() -> None:
    """8 tokens, window 3, tiles of 4: queries 0-3 see keys 0..4 (two tiles), queries 4-7 see 3..7 (two tiles).

    Dense: 2 key tiles for each. So nothing is gained, although only 24 of 64 pairs are attended.
    """
    asked = question(neighborhood((8,), (3,)), (4,), (4,))
    assert asked.per_query_tile("multidim_static").tolist() == [2, 2]
    assert asked.attended_pairs == 24
    assert asked.flop_bound == 64 / 24
    assert asked.bound("multidim_static").worst == asked.bound("multidim_static").mean == 1.0
    assert asked.bound("multidim_static").efficiency == 24 / 64


def test_the_worked_example_of_flux() -> None:
    """256x256, window 80x80, 128x128 tiles: 6.65x static, 7.76x dynamic, 3.2x flattened; 10.24x at stride 16x16."""
    finest = question(neighborhood((256, 256), (80, 80)), (16, 8), (16, 8))
    worst = {mode: round(finest.bound(mode).worst, 2) for mode in MODES}
    assert worst["multidim_static"] == 6.65
    assert worst["multidim_dynamic"] == 7.76
    assert worst["flat_union"] == 3.2
    coarse = question(neighborhood((256, 256), (80, 80), (16, 16)), (16, 8), (16, 8))
    assert coarse.block_sparse
    assert coarse.bound("multidim_static").worst == coarse.flop_bound == 10.24
    assert coarse.bound("multidim_static").efficiency == 1.0
    assert coarse.bound("flat_union").worst == 3.2


@pytest.mark.parametrize(
    ("window", "stride", "dilation", "gain"),
    [
        ((32, 4, 16), (1, 1, 1), (1, 11, 5), 55.0),
        ((32, 12, 16), (1, 4, 1), (1, 1, 5), 18.3),
        ((32, 12, 24), (1, 4, 8), (1, 1, 1), 12.2),
        ((32, 20, 40), (1, 4, 8), (1, 1, 1), 4.4),
        ((32, 28, 56), (1, 4, 8), (1, 1, 1), 2.24),
    ],
)
@pytest.mark.parametrize("query_tile", [(4, 4, 8), (8, 4, 8)])
def test_the_layers_of_cosmos_predict2_are_block_sparse(
    window: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    gain: float,
    query_tile: tuple[int, ...],
) -> None:
    """NATTEN's parameter file of Cosmos-Predict2, T x 44 x 80: found with the authors' own simulator."""
    asked = question(neighborhood((32, 44, 80), window, stride, dilation), query_tile, (4, 4, 8))
    assert asked.block_sparse
    assert asked.bound("multidim_static").worst == pytest.approx(gain, rel=0.005)


def test_full_causal_attention_gains_two_on_average_and_nothing_at_worst() -> None:
    asked = question(neighborhood((32768,), (32768,), causal=(True,)), (128,), (128,))
    bound = asked.bound("multidim_static")
    assert bound.worst == 1.0
    assert round(bound.mean, 2) == 1.99
    assert not asked.block_sparse


def places_by_tile(asked: Question) -> dict[tuple[tuple[int, ...], ...], set[tuple[int, ...]]]:
    """Places, in their dilation group, of the keys that each query tile attends."""
    where, mask = group_and_place(asked.pattern), asked.pattern.attends()
    seen: dict[tuple[tuple[int, ...], ...], set[tuple[int, ...]]] = {}
    for query, (group, place) in enumerate(where):
        tile = tuple(x // t for x, t in zip(place, asked.tiles.query, strict=True))
        seen.setdefault((group, tile), set()).update(where[key][1] for key in np.flatnonzero(mask[query]))
    return seen


def tiles_from_the_first_key(places: set[tuple[int, ...]], key_tile: tuple[int, ...]) -> int:
    """Distinct key tiles on a grid that begins at the first key in each dimension."""
    first = [min(along) for along in zip(*places, strict=True)]
    return len({tuple((x - f) // u for x, f, u in zip(place, first, key_tile, strict=True)) for place in places})


@settings(max_examples=150, deadline=None)
@given(questions() | questions(whole=True))
def test_counts_are_those_of_the_enumerated_mask(asked: Question) -> None:
    by_tile = asked.per_query_tile("multidim_static")
    enumerated = visited_by_enumeration(asked)
    assert sorted(by_tile[by_tile > 0].tolist()) == enumerated
    visits = asked.visits("multidim_static")
    assert (visits.total, visits.largest) == (sum(enumerated), max(enumerated))
    assert visits.query_tiles == len(by_tile)


@settings(max_examples=100, deadline=None)
@given(questions() | questions(whole=True))
def test_dynamic_counts_are_those_of_tiles_laid_from_the_first_key(asked: Question) -> None:
    enumerated = sorted(tiles_from_the_first_key(keys, asked.tiles.key) for keys in places_by_tile(asked).values())
    by_tile = asked.per_query_tile("multidim_dynamic")
    assert sorted(by_tile[by_tile > 0].tolist()) == enumerated
    visits = asked.visits("multidim_dynamic")
    assert (visits.total, visits.largest) == (sum(enumerated), enumerated[-1])


@settings(max_examples=100, deadline=None)
@given(questions() | questions(whole=True))
def test_the_backward_pass_is_the_enumeration_by_key_tile(asked: Question) -> None:
    """Query tiles with a query that attends a key of the key tile, within one dilation group."""
    where, mask = group_and_place(asked.pattern), asked.pattern.attends()
    seen: dict[tuple[tuple[int, ...], ...], set[tuple[int, ...]]] = {}
    for key, (group, place) in enumerate(where):
        tile = tuple(x // u for x, u in zip(place, asked.tiles.key, strict=True))
        queries = (where[query][1] for query in np.flatnonzero(mask[:, key]))
        seen.setdefault((group, tile), set()).update(
            tuple(x // t for x, t in zip(query, asked.tiles.query, strict=True)) for query in queries
        )
    counts = [len(queries) for queries in seen.values()]
    backward = asked.backward()
    assert (backward.total, backward.largest) == (sum(counts), max(counts))


@settings(max_examples=100, deadline=None)
@given(questions() | questions(whole=True), st.integers(0, 40))
def test_extra_keys_are_columns_of_the_mask_that_everyone_attends(asked: Question, extra: int) -> None:
    """Further keys lie in tiles of their own; dense attention has tokens and extra keys in one line."""
    more = question(asked.pattern, asked.tiles.query, asked.tiles.key, extra_keys=extra)
    mask = np.hstack([asked.pattern.attends(), np.ones((asked.pattern.tokens, extra), dtype=bool)])
    assert more.flop_bound == pytest.approx(mask.size / mask.sum())
    assert more.sparsity == pytest.approx(1 - mask.mean())
    dense = -(-mask.shape[1] // asked.tiles.keys)
    further = -(-extra // asked.tiles.keys)
    visited = visited_by_enumeration(asked)
    bound = more.bound("multidim_static")
    assert more.attended_pairs == mask.sum()
    assert (bound.total, bound.largest) == (sum(visited) + bound.visits.query_tiles * further, max(visited) + further)
    assert bound.efficiency == mask.sum() / (bound.total * asked.tiles.queries * asked.tiles.keys)
    assert bound.worst == dense / (max(visited) + further)
    launched = bound.visits.query_tiles
    dense_query_tiles = -(-asked.pattern.tokens // asked.tiles.queries)
    assert bound.mean == dense_query_tiles * dense / (sum(visited) + launched * further)


@settings(max_examples=150, deadline=None)
@given(questions() | questions(whole=True))
def test_flattened_counts_are_those_of_the_enumerated_mask(asked: Question) -> None:
    mask = asked.pattern.attends()
    union, span = asked.per_query_tile("flat_union"), asked.per_query_tile("flat_span")
    for tile in range(-(-asked.pattern.tokens // asked.tiles.queries)):
        rows = mask[tile * asked.tiles.queries : (tile + 1) * asked.tiles.queries]
        keys = np.unique(np.flatnonzero(rows.any(axis=0)) // asked.tiles.keys)
        assert union[tile] == len(keys)
        assert span[tile] == keys[-1] - keys[0] + 1


@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)])
def test_flattened_counts_do_not_depend_on_how_they_are_cut(
    dilation: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = neighborhood((9, 14), (4, 4), (2, 1), dilation)
    whole = question(pattern, (2, 2), (1, 3))
    expected = [whole.per_query_tile(mode).tolist() for mode in ("flat_union", "flat_span")]
    monkeypatch.setattr(flattened, "LARGEST_BATCH", 1)  # query tile by query tile
    cut = question(pattern, (2, 2), (1, 3))
    assert [cut.per_query_tile(mode).tolist() for mode in ("flat_union", "flat_span")] == expected


@pytest.mark.parametrize("rows", [5, 8, 13])
@pytest.mark.parametrize("window", [1, 3, 5])
def test_windows_as_wide_as_a_row_are_a_line_to_flattened_tiles(rows: int, window: int) -> None:
    """Whole rows of 6: rows x 6 tokens with a window of so many rows, whose queries share it row by row.

    Odd windows and even rows, so that both halves are whole rows.
    """
    plane = question(neighborhood((rows, 6), (window, 6)), (1, 8), (1, 4))
    line = question(neighborhood((rows * 6,), (window * 6,), (6,)), (8,), (4,))
    for mode in ("flat_union", "flat_span"):
        assert plane.per_query_tile(mode).tolist() == line.per_query_tile(mode).tolist()


@settings(max_examples=60, deadline=None)
@given(questions() | questions(whole=True))
def test_block_sparse_means_that_no_visited_tile_is_partial(asked: Question) -> None:
    """Every visited (query tile, key tile) attends all pairs of its existing queries and keys."""
    where, mask = group_and_place(asked.pattern), asked.pattern.attends()
    queries = [(g, tuple(x // t for x, t in zip(p, asked.tiles.query, strict=True))) for g, p in where]
    keys = [(g, tuple(x // u for x, u in zip(p, asked.tiles.key, strict=True))) for g, p in where]
    full = partial = 0
    for query_tile, key_tile in itertools.product(set(queries), set(keys)):
        rows = [index for index, tile in enumerate(queries) if tile == query_tile]
        columns = [index for index, tile in enumerate(keys) if tile == key_tile]
        part = mask[np.ix_(rows, columns)]
        full += bool(part.all())
        partial += bool(part.any() and not part.all())
    assert asked.block_sparse == (partial == 0)
    assert (asked.visits("multidim_static").full, asked.visits("multidim_static").partial) == (full, partial)


@given(questions())
def test_bounds_are_ordered(asked: Question) -> None:
    static, dynamic = asked.bound("multidim_static"), asked.bound("multidim_dynamic")
    assert dynamic.total <= static.total
    assert asked.bound("flat_union").total <= asked.bound("flat_span").total
    for mode in MODES:
        bound = asked.bound(mode)
        assert 0 < bound.efficiency <= 1 or mode == "multidim_dynamic"
        assert bound.largest <= bound.total


@given(questions())
def test_the_backward_pass_visits_the_same_tile_pairs(asked: Question) -> None:
    """Forward by query tile or backward by key tile: the pairs of tiles are the same set."""
    assert asked.backward().total == asked.bound("multidim_static").total


def test_backward_by_hand() -> None:
    """12 tokens, window 5, tiles of 4: queries 0-3 see keys 0..5, 4-7 see 2..9, 8-11 see 6..11.

    Key tile 0 (0-3) is visited by query tiles 0 and 1, key tile 1 by all three, key tile 2 by 1 and 2.
    """
    backward = question(neighborhood((12,), (5,)), (4,), (4,)).backward()
    assert (backward.total, backward.largest) == (7, 3)
    assert backward.worst == 1.0


def test_seven_by_eleven_tokens_and_five_further_keys() -> None:
    """77 windows of 3 x 5 keys, and 77 x 5 pairs more; each of 24 query tiles visits ceil(5 / 4) further tiles."""
    asked = question(neighborhood((7, 11), (3, 5)), (2, 2), (2, 2))
    more = question(neighborhood((7, 11), (3, 5)), (2, 2), (2, 2), extra_keys=5)
    assert (asked.attended_pairs, more.attended_pairs) == (77 * 15, 77 * 15 + 77 * 5)
    for mode in MODES:
        query_tiles = 20 if mode.startswith("flat") else 24  # 77 tokens in fours; 4 x 6 tiles
        assert more.bound(mode).total == asked.bound(mode).total + 2 * query_tiles
        assert more.bound(mode).largest == asked.bound(mode).largest + 2
    assert more.backward().total == asked.backward().total + 2 * 24
    assert more.backward().largest == 24  # an extra key tile is visited by every query tile


def test_extra_keys_count_for_dense_and_sparse_alike() -> None:
    """FLUX: 512 text tokens are 4 more tiles for everyone: (512 + 4) / (50 + 4) instead of 512 / 50."""
    asked = question(neighborhood((256, 256), (80, 80), (16, 16)), (16, 16), (16, 8), extra_keys=512)
    assert asked.bound("multidim_static").worst == 516 / 54
    tokens = 256 * 256
    assert asked.flop_bound == tokens * (tokens + 512) / (tokens * (80 * 80 + 512))


def test_dead_tiles_are_skipped_or_walk_a_full_window() -> None:
    """5 tokens, dilation 2, tiles of 1 query: groups of 3 and 2 are both padded to 3 tiles, so one tile is dead."""
    pattern = neighborhood((5,), (2,), dilation=(2,))
    assert question(pattern, (1,), (1,)).per_query_tile("multidim_static").tolist() == [2, 2, 2, 2, 2, 0]
    assert question(pattern, (1,), (1,)).bound("multidim_static").total == 10
    assert question(pattern, (1,), (1,), dead_tiles="walk").bound("multidim_static").total == 12


def test_padding_of_queries_costs_the_mean_bound() -> None:
    """30 frames in query tiles of 4 are 8 tiles instead of 7.5: 11.11 x 7.5 / 8 = 10.42 on average."""
    asked = question(neighborhood((30, 48, 80), (18, 24, 24), (16, 8, 8)), (4, 8, 8), (2, 8, 8))
    bound = asked.bound("multidim_static")
    assert (round(bound.worst, 2), round(bound.mean, 2)) == (11.11, 10.42)


def test_a_million_tokens_are_counted_without_enumerating_them() -> None:
    asked = question(neighborhood((100, 100, 100), (30, 30, 30)), (4, 8, 8), (2, 8, 8))
    by_axis = [Axis(100, 30).spans(100)] * 3
    assert asked.attended_pairs == prod(int((end - start).sum()) for start, end in by_axis)
    assert asked.bound("multidim_static").total == int(asked.per_query_tile("multidim_static").sum())


@pytest.mark.parametrize(
    ("query_tile", "key_tile", "message"),
    [
        ((4,), (2, 8), "the layout has 2 dimensions, but query tile has 1"),
        ((4, 10**19), (2, 8), "query tile, dimension 2: must be 1 to 16,777,216, got 10000000000000000000"),
        ((4, 0), (2, 8), "query tile, dimension 2: must be 1 to 16,777,216, got 0"),
        ((4, 4), (2, -8), "key/value tile, dimension 2: must be 1 to 16,777,216, got -8"),
    ],
)
def test_impossible_tiles_name_dimension_value_and_limit(
    query_tile: tuple[int, ...], key_tile: tuple[int, ...], message: str
) -> None:
    with pytest.raises(CascadeSimError, match=message):
        question(neighborhood((16, 16), (4, 4)), query_tile, key_tile)
