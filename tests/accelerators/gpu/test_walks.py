"""Key tiles under causal masks and windows, against a count row by row."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.gpu.walks import Walk, floor_sum


def walk(queries: int, keys: int, window: int = 0, group: int = 1, row_tile: int = 128, key_tile: int = 128) -> Walk:
    return Walk(*(np.array([size]) for size in (queries, keys, window, group, row_tile, key_tile)))


def row_by_row(queries: int, keys: int, window: int, group: int, row_tile: int, key_tile: int) -> list[tuple[int, int]]:
    """Of each row tile: key tiles from the first key of its first query to the key of its last, and those cut."""
    earlier, found = keys - queries, []
    for row in range(0, queries * group, row_tile):
        first, last = row // group, min(row + row_tile, queries * group) - 1
        last //= group
        begin = max(0, earlier + first - window + 1) // key_tile if window else 0
        tiles = range(begin, (earlier + last) // key_tile + 1)
        late = [tile for tile in tiles if (tile + 1) * key_tile - 1 > earlier + first]
        early = [tile for tile in tiles if window and tile * key_tile < earlier + last - window + 1]
        found.append((len(tiles), len({*late, *early})))
    return found


@settings(max_examples=200, deadline=None)
@given(
    queries=st.integers(1, 300), earlier=st.integers(0, 300), group=st.integers(1, 9),
    row_tile=st.sampled_from([16, 48, 64, 128, 192]), key_tile=st.sampled_from([16, 64, 80, 128, 256]), data=st.data(),
)
def test_walks_are_those_of_rows_one_by_one(
    queries: int, earlier: int, group: int, row_tile: int, key_tile: int, data: st.DataObject
) -> None:
    """Visited tiles exactly; the longest at most one above where no row tile meets the worst place of a window; tiles
    that both ends of a window cut are counted for each, up to all."""
    keys = queries + earlier
    window = data.draw(st.one_of(st.just(0), st.integers(1, keys)))
    found = walk(queries, keys, window, group, row_tile, key_tile)
    rows = row_by_row(queries, keys, window, group, row_tile, key_tile)
    visited, cut = (sum(column) for column in zip(*rows, strict=True))
    assert (found.visited[0], found.row_tiles[0]) == (visited, len(rows))
    assert max(tiles for tiles, _ in rows) <= found.longest[0] <= visited
    assert cut <= found.cut[0] <= min(2 * cut, visited)
    if not window:
        assert (found.longest[0], found.cut[0]) == (max(tiles for tiles, _ in rows), cut)


def test_a_window_of_a_tile_meets_two() -> None:
    """Row tile i: keys 128 i - 127 to 128 i + 127; the first has one tile, and all are cut."""
    found = walk(4096, 4096, window=128)
    assert (found.visited[0], found.longest[0], found.cut[0]) == (1 + 31 * 2, 2, 63)


@given(count=st.integers(0, 200), step=st.integers(0, 500), offset=st.integers(-500, 500), divisor=st.integers(1, 300))
def test_sums_of_floors(count: int, step: int, offset: int, divisor: int) -> None:
    sizes = (np.array([size]) for size in (count, step, offset, divisor))
    assert floor_sum(*sizes)[0] == sum((offset + place * step) // divisor for place in range(count))
