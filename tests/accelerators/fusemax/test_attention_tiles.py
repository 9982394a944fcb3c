"""Tiles, residents and the stream of an operation, against a walk over every query tile and key tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.spatial.attention_tiles import (
    AttentionShape,
    AttentionTiles,
    largest_divisor,
    map_tiles,
    query_tiles,
    resident_tiles,
)
from cascadesim.accelerators.spatial.tile_order import Kind, TileStream
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval, Mask, neighborhood

Make = Callable[..., Operation]
Design = Callable[..., FuseMax]

MASKS = st.one_of(
    st.just(FULL), st.just(CAUSAL), st.builds(KeyInterval, st.just(True), st.integers(1, 60)),
    st.builds(KeyInterval, st.just(True), st.none(), st.integers(1, 60)),
)  # fmt: skip


def tiled(keys: int, queries: int, P1: int, group: int = 1, mask: Mask = FULL, side: int = 4) -> AttentionTiles:
    shape = AttentionShape(1, queries, keys, 8, 8, group, mask)
    P1 = min(P1, query_tiles(queries, group, side))
    return AttentionTiles(shape, side, side, buffer_tiles=P1, P1=P1, kv_slots=2)


@pytest.mark.parametrize(
    ("tiles", "fits", "residents"),
    [
        (1024, 251, 128),  # BERT 256K in 16 MiB: the largest divisor, as published
        (64, 251, 64),  # everything fits
        (12, 7, 6),
        (13, 7, 7),  # a prime has no divisor: 7 and 6
        (14, 3, 2),  # a divisor above half of what fits is kept
        (22, 10, 8),  # its divisors are 2 and 11: three groups of 8, 8, 6
    ],
)
def test_residents_divide_the_query_tiles_or_split_them_evenly(tiles: int, fits: int, residents: int) -> None:
    assert resident_tiles(tiles, fits) == residents


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_residents_fit_and_no_group_more_is_needed_than_for_half_the_buffer(tiles: int, fits: int) -> None:
    residents = resident_tiles(tiles, fits)
    assert 1 <= residents <= min(tiles, fits)
    assert 2 * residents >= min(tiles, fits) - 1
    assert tiles % largest_divisor(tiles, fits) == 0


def test_few_queries_of_several_heads_lie_side_by_side() -> None:
    assert query_tiles(queries=1, group=4, columns=256) == 1
    assert query_tiles(queries=100, group=4, columns=256) == 2
    assert query_tiles(queries=256, group=4, columns=256) == 4
    assert query_tiles(queries=257, group=4, columns=256) == 8


def test_a_buffer_too_small_for_one_query_tile_says_what_is_needed(attention: Make, design: Design) -> None:
    """A key and a value of 128 words beside a query of 130 words, 2 bytes each: the smallest tile there is."""
    needed = 2 * (128 + 130)
    with pytest.raises(CascadeSimError, match=f"hold no query tile: .* needs {needed}"):
        design("fusemax", f"global_buffer.capacity_bytes={needed - 1}").plan(attention(1024), "physical")
    assert design("fusemax", f"global_buffer.capacity_bytes={needed}").plan(attention(1024), "physical").phases


def test_what_is_left_of_the_buffer_holds_keys(design: Design) -> None:
    tiles = map_tiles(AttentionShape(1, 1024, 1024, 64, 64), design().spec, resident_words_per_query=130)
    query_bytes, key_bytes = 2 * 256 * 130, 2 * 256 * 128
    assert (tiles.P1, tiles.buffer_tiles) == (4, (2**24 - key_bytes) // query_bytes)
    assert tiles.kv_slots == (2**24 - 4 * query_bytes) // key_bytes


def stream_tiles(stream: TileStream) -> Iterator[tuple[int, Kind]]:
    """(column, kind) of every tile of an instance, in order."""
    for group in stream.groups:
        for _ in range(group.times):
            for row in group.rows:
                for _ in range(row.times):
                    for run in row.runs:
                        yield from ((run.first_column + step, run.kind) for step in range(run.tiles))


def test_a_stream_of_four_tiles() -> None:
    """8 keys, 8 queries, 4 x 4: first key tile fetches the queries, last one finishes them."""
    first, last = (Kind(fetched_queries=4), Kind(finished_queries=4))
    assert list(stream_tiles(TileStream(tiled(8, 8, P1=2)))) == [
        (0, Kind(fetched_queries=4, fetched_keys=4)),
        (1, Kind(fetched_queries=first.fetched_queries, releases_keys=True)),
        (0, Kind(fetched_keys=4, finished_queries=4)),
        (1, Kind(finished_queries=last.finished_queries, releases_keys=True)),
    ]


def test_a_single_key_tile_stays_for_every_group() -> None:
    kinds = [kind for _, kind in stream_tiles(TileStream(tiled(3, 12, P1=1)))]
    assert [kind.fetched_keys for kind in kinds] == [3, 0, 0]
    assert [kind.releases_keys for kind in kinds] == [False, False, True]


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 6), st.sampled_from([1, 2, 3]), MASKS)
def test_the_stream_visits_every_tile_and_moves_every_query_and_key_once_a_group(
    keys: int, queries: int, P1: int, group: int, mask: Mask
) -> None:
    tiles = tiled(keys, min(keys, queries), P1, group, mask)
    found = list(stream_tiles(TileStream(tiles)))
    assert len(found) == int(tiles.visits.sum()) == sum(each.times * each.tiles for each in tiles.groups)
    visited = int(tiles.tile_queries[tiles.visits > 0].sum())
    assert sum(kind.fetched_queries for _, kind in found) == visited
    assert sum(kind.finished_queries for _, kind in found) == visited
    fetched = sum(kind.fetched_keys > 0 for _, kind in found)
    assert fetched == sum(kind.releases_keys for _, kind in found)
    expected = sum(each.times * each.key_tiles for each in tiles.groups)
    assert fetched == (expected if tiles.key_tiles > 1 else 1)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 9), st.integers(1, 9), st.integers(1, 4))
def test_tiles_of_a_neighborhood_cover_its_pairs(side: int, window: int, P1: int) -> None:
    mask = neighborhood((side, side), (min(window, side),) * 2)
    tiles = tiled(side * side, side * side, P1, mask=mask)
    first, last = mask.key_tiles(side * side, side * side, 4, 4)
    found_first, found_last = tiles.key_range
    assert (found_first <= first).all()
    assert (found_last >= last).all()
    assert len(list(stream_tiles(TileStream(tiles)))) == int(tiles.visits.sum())
