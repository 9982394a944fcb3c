"""How the buffer is split between query tiles and key tiles, and how soon a slot is used again."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.spatial.attention_tiles import AttentionShape, AttentionTiles, query_tiles
from cascadesim.accelerators.spatial.tile_order import (
    TILES_AHEAD,
    Flow,
    Kind,
    Slots,
    TileStream,
    flow_of,
    key_slack,
    query_slack,
    split_buffer,
    used,
)
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, Mask


def stream(keys: int, queries: int, P1: int, group: int = 1, mask: Mask = FULL, instances: int = 1) -> TileStream:
    shape = AttentionShape(instances, queries, keys, 8, 8, group, mask)
    P1 = min(P1, query_tiles(queries, group, 4))
    return TileStream(AttentionTiles(shape, 4, 4, buffer_tiles=P1, P1=P1, kv_slots=2))


def kinds(tiles: TileStream) -> Iterator[Kind]:
    """Of every tile of an instance, in order."""
    for group in tiles.groups:
        for _ in range(group.times):
            for row in group.rows:
                for _ in range(row.times):
                    yield from (run.kind for run in row.runs for _ in range(run.tiles))


def split(capacity_bytes: int, query_bytes: int, key_bytes: int, flow: Flow) -> Slots:
    """As much of the buffer as static orders use."""
    return used(split_buffer(capacity_bytes, query_bytes, key_bytes, flow, TILES_AHEAD), flow, TILES_AHEAD)


def test_long_rows_need_two_key_slots_and_a_few_query_slots_ahead() -> None:
    """64 resident query tiles: the key tile that passes by and the next one; 16 tiles may be under way."""
    assert split(10_000, 10, 20, flow_of(stream(80, 256, P1=64))) == Slots(queries=64 + 16, keys=2)


def test_a_single_query_tile_leaves_the_buffer_to_its_keys() -> None:
    """20 key tiles for each query tile: one query tile ahead is enough, every tile under way needs its own keys."""
    assert split(10_000, 10, 20, flow_of(stream(80, 4, P1=1))) == Slots(queries=2, keys=17)


def test_a_tight_buffer_keeps_two_key_slots() -> None:
    assert split(70, 10, 20, flow_of(stream(80, 4, P1=1))) == Slots(queries=2, keys=2)
    assert split(30, 10, 20, flow_of(stream(80, 4, P1=1))) == Slots(queries=1, keys=1)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 60), st.integers(1, 4), st.sampled_from([1, 2]), st.sampled_from([FULL, CAUSAL]),
    st.integers(0, 9), st.integers(1, 4),
)  # fmt: skip
def test_no_slot_is_used_again_sooner_than_its_slack(
    keys: int, queries: int, P1: int, group: int, mask: Mask, more: int, key_slots: int
) -> None:
    """Against a walk over three instances: when each column and each key row starts and ends."""
    tiles = stream(keys, min(keys, queries), P1, group, mask, instances=3)
    slots, flow = Slots(tiles.tiles.P1 + more, key_slots), flow_of(tiles)
    walked = list(enumerate(list(kinds(tiles)) * 3))
    loads = [position for position, kind in walked if kind.fetched_queries]
    stores = [position for position, kind in walked if kind.finished_queries]
    fetches = [position for position, kind in walked if kind.fetched_keys]
    releases = [position for position, kind in walked if kind.releases_keys]
    queries_again = [load - store for load, store in zip(loads[slots.queries :], stores, strict=False)]
    keys_again = [fetch - release for fetch, release in zip(fetches[slots.keys :], releases, strict=False)]
    assert min(queries_again, default=query_slack(flow, slots)) >= query_slack(flow, slots)
    assert min(keys_again, default=key_slack(flow, slots)) >= key_slack(flow, slots)
