"""Thread blocks and the key tiles they walk over, against a count block by block and row by row."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from preset_devices import device

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.gpu.accelerator import Gpu
from cascadesim.accelerators.gpu.attention.tile import case_of
from cascadesim.accelerators.gpu.attention.walk import Walk, floor_sum
from cascadesim.accelerators.gpu.calibration import constants
from cascadesim.accelerators.gpu.grid import ThreadBlocks, shape, shrunk, tiles_of, work_of
from cascadesim.accelerators.gpu.kernel import Kernel, load_kernel
from cascadesim.einsum_cascades.sparsity.masks import KeyInterval

SIZES = ("batch", "heads", "heads_kv", "queries", "keys", "head_dim", "value_dim", "causal", "window")


def work(kernel: Kernel, name: str, sizes: dict[str, int]) -> ThreadBlocks:
    found = load(name)
    assert isinstance(found, Gpu)
    asked = shape(*(sizes[name] for name in SIZES))
    return work_of(kernel, found.spec, asked, tiles_of(kernel, found.spec, asked, 2))


def sizes(queries: int, keys: int, causal: int = 0, window: int = 0, heads_kv: int = 1) -> dict[str, int]:
    return {"batch": 1, "heads": 1, "heads_kv": heads_kv, "queries": queries, "keys": keys, "head_dim": 128,
            "value_dim": 128, "causal": causal, "window": window}  # fmt: skip


def test_unmasked_blocks_walk_over_all_keys() -> None:
    """FlashAttention-2 on A100, head dimension 128: 4 blocks of 128 queries, each over 8 tiles of 64 keys."""
    found = work(load_kernel("flash-attention-2"), "a100-sxm", sizes(512, 512))
    assert (found.blocks[0], found.visited[0], found.longest[0]) == (4, 32, 8)


def test_causal_blocks_walk_to_their_last_query() -> None:
    """Blocks of 128 queries over tiles of 64 keys: 2 + 4 + 6 + 8 tiles; the last two of each are cut by the mask."""
    found = work(load_kernel("flash-attention-2"), "a100-sxm", sizes(512, 512, causal=1))
    assert (found.visited[0], found.longest[0], found.masked[0]) == (20, 8, 8)


def test_every_block_appends_the_new_keys_that_it_walks_over() -> None:
    """256 queries after 320 keys, tiles of 64 queries and 128 keys, of which the first two hold no new key.

    Blocks reach keys 383, 447, 511 and 575: 3, 4, 4 and 5 tiles, so 1 + 2 + 2 + 3 with new keys.
    """
    kernel = load_kernel("flash-attention-2-chunked").model_copy(update={"splits_keys": False})
    found = work(kernel, "a100-sxm", sizes(256, 576, causal=1))
    assert (found.visited[0], found.appended[0], found.most_appended[0]) == (16, 8, 3)


def test_the_last_part_of_split_keys_appends_no_more_than_it_has() -> None:
    """One block of 64 queries over 8 tiles, the last with new keys, in 8 parts of one tile."""
    found = work(load_kernel("flash-attention-2-chunked"), "a100-sxm", sizes(64, 1024, causal=1))
    assert (found.splits[0], found.appended[0], found.most_appended[0]) == (8, 1, 1)


def test_flash_attention_2_splits_keys_as_far_as_rounds_of_blocks_fill() -> None:
    """24 key tiles on 108 SMs, and 0.85 of the best filling is enough.

    40 blocks: 2 parts fill 80 of 108 places (0.74), 8 fill 320 of 324, 5 fill 200 of 216 (0.93). 88 blocks are more
    than 0.8 of a round, and not split. Where two blocks count for an SM: 2 parts fill 176 of 216 (0.81), 12 of two
    tiles each 1,056 of 1,080 (0.98), and no number of parts between them 0.83.
    """
    once, twice = (load_kernel(f"flash-attention-2-{name}") for name in ("chunked-decode", "decode"))
    for kernel, batch, splits in ((once, 10, 5), (once, 22, 1), (twice, 22, 12)):
        found = work(kernel, "a100-sxm", {**sizes(1, 24 * 128, heads_kv=4), "heads": 32, "batch": batch})
        assert found.splits[0] == splits


def test_numbers_of_parts_that_save_no_tile_are_left_out() -> None:
    """4 blocks over 9 tiles on 108 SMs: 6, 7 and 8 parts have two tiles each, as 5 do; 9 have one."""
    kernel = load_kernel("flash-attention-2-chunked-decode")
    found = work(kernel, "a100-sxm", {**sizes(1, 9 * 128, heads_kv=4), "heads": 32})
    assert found.splits[0] == 9  # 36 of 108 places; 5 parts fill 20


def test_grouped_heads_share_a_tile_in_decode() -> None:
    """8 query heads of one key head are 8 rows of one block, split over as many SMs as the kernel uses."""
    grouped = work(load_kernel("flash-attention-3-decode"), "h100-sxm", {**sizes(1, 65536), "heads": 8})
    assert grouped.row_tiles[0] == 1
    assert grouped.splits[0] == 128  # the most FlashAttention splits into


def test_enough_sequences_are_not_split() -> None:
    found = work(load_kernel("flash-attention-3-decode"), "h100-sxm", {**sizes(1, 4096), "batch": 256})
    assert found.splits[0] == 1


def test_xqa_splits_keys_into_eight_waves_of_at_least_128_keys() -> None:
    """One key head of 32 K keys: 8 x 132 blocks would be 31 keys each, so 128, as 128 tiles of 256 keys there are.

    Of the eight blocks that are launched for 1,024 keys, four have a tile.
    """
    kernel = load_kernel("trtllm-xqa")
    assert work(kernel, "h100-sxm", {**sizes(1, 32768), "heads": 8}).splits[0] == kernel.most_splits == 128
    assert work(kernel, "h100-sxm", {**sizes(1, 1024), "heads": 8}).splits[0] == 1024 // 256
    many = work(kernel, "h100-sxm", {**sizes(1, 8192), "heads": 8, "batch": 64})
    assert many.splits[0] == 8 * 132 // 64


def test_sglang_splits_keys_by_their_doublings_of_64() -> None:
    """4096 keys are 6 doublings: 6 x 132 blocks for 128 sequences, 7 each; of 64 keys one, and 32 keys at least."""
    kernel = load_kernel("triton-decode")
    assert work(kernel, "h100-sxm", {**sizes(1, 4096), "batch": 128}).splits[0] == 7
    assert work(kernel, "h100-sxm", {**sizes(1, 65536), "batch": 4}).splits[0] == kernel.most_splits == 8
    assert work(kernel, "h100-sxm", {**sizes(1, 32), "batch": 4}).splits[0] == 1


def test_flashinfer_splits_keys_for_two_blocks_an_sm() -> None:
    """142 SMs, 16 sequences: 284 // 16 parts, whatever the tile; of 128 keys at least."""
    kernel = load_kernel("flashinfer-decode")
    for head_dim in (128, 256):
        wide = {"head_dim": head_dim, "value_dim": head_dim, "batch": 16}
        assert work(kernel, "l40s", {**sizes(1, 8192), **wide}).splits[0] == 17
        assert work(kernel, "l40s", {**sizes(1, 1024), **wide}).splits[0] == 8


def test_a_tile_holds_the_rows_of_a_group_and_its_keys_go_by_them() -> None:
    """FlashInfer: 16 rows for up to 16 query heads, 64 beyond, 128 beyond 64 (64 at a head dimension of 256).

    Half of 100 KB on L40S, less 64 rows of 256 elements, holds 16 keys and values; of 16 rows, four warps have 16 each.
    """
    kernel = load_kernel("flashinfer-decode")
    found = load("l40s")
    assert isinstance(found, Gpu)
    heads = np.array([1, 16, 17, 64, 65, 128])
    for head_dim, rows, keys in ((128, 128, [64, 64, 64, 64, 32, 32]), (256, 64, [64, 64, 16, 16, 16, 16])):
        asked = shape(1, heads, 1, 1, 1024, head_dim)
        tiles = shrunk(kernel, asked, tiles_of(kernel, found.spec, asked, 2))
        assert tiles.queries.tolist() == [16, 16, 64, 64, rows, rows]
        assert tiles.keys.tolist() == keys


def test_flash_attention_4_has_all_parts_whether_or_not_there_are_keys_for_them() -> None:
    """vLLM: 32 parts of up to 512 sequences, each a tile of 64 keys at least; beyond, as many as SMs have room for."""
    kernel = load_kernel("flash-attention-4-decode")
    for batch, keys, parts, tiles in ((64, 64, 32, 64 * 32), (4, 8192, 32, 4 * 128), (513, 64, 1, 513)):
        found = work(kernel, "h100-sxm", {**sizes(1, keys), "head_dim": 512, "value_dim": 512, "batch": batch})
        assert (found.splits[0], found.visited[0]) == (parts, tiles)


def test_a_counted_loop_goes_by_the_type_of_the_cache_and_the_rows() -> None:
    """Triton on H100: a head alone has a kernel of one row and 64 keys; 8-bit keys take more instructions."""
    kernel, on = load_kernel("triton-decode"), device("h100-sxm")
    asked = shape(1, np.array([1, 8]), 1, 1, 1024, 256)
    narrow, wide = (case_of(on, kernel, constants("hopper"), asked, "bf16", kind).tiles for kind in ("fp8", "bf16"))
    assert (narrow.queries.tolist(), narrow.keys.tolist()) == ([1, 16], [64, 32])
    assert narrow.loop.attended.instructions[1] > wide.loop.attended.instructions[1] > 0
    assert narrow.loop.trips.tolist() == [2, 2]


@settings(max_examples=60, deadline=None)
@given(
    queries=st.integers(1, 40), earlier=st.integers(0, 30), window=st.sampled_from([0, 0, 128, 1000])
)
def test_causal_counts_are_those_of_the_mask(queries: int, earlier: int, window: int) -> None:
    positions, keys = 64 * queries, 64 * (queries + earlier)
    window = 0 if window >= keys else window
    found = work(load_kernel("flash-attention-2-paged"), "a100-sxm", sizes(positions, keys, 1, window))
    first, last = KeyInterval(True, window or None).key_tiles(positions, keys, 64, 128)
    assert found.visited[0] == (last - first + 1).sum()


def test_a_group_shares_tiles_where_that_fills_them() -> None:
    """FlashAttention-3, tiles of 128 rows: 16 queries of 8 heads fill one; 128 queries fill one a head, the same.

    112 queries fill 7/8 of one a head, less than 0.9 of the 7 that they fill together; 120 fill more than that.
    """
    kernel = load_kernel("flash-attention-3")
    for queries, row_tiles in ((16, 1), (112, 7), (120, 8), (128, 8), (144, 9)):
        found = work(kernel, "h100-sxm", {**sizes(queries, queries, 1), "heads": 8})
        assert found.instances[0] * found.row_tiles[0] == row_tiles
    alone = work(load_kernel("flash-attention-2"), "h100-sxm", {**sizes(16, 16, 1), "heads": 8})
    assert alone.instances[0] * alone.row_tiles[0] == 8


def test_a_window_that_excludes_the_query_reaches_one_key_further() -> None:
    """The last of 512 keys, window 128: keys 384 to 511 are one tile of 128; with key 383, two."""
    found = work(load_kernel("flash-attention-3-decode"), "h100-sxm", sizes(1, 512, window=128))
    assert (found.visited[0], found.longest[0]) == (2, 1)  # and each of two splits has one
    assert work(load_kernel("flash-attention-2-decode"), "h100-sxm", sizes(1, 512, window=128)).visited[0] == 1


def test_many_shapes_are_counted_as_one_by_one() -> None:
    kernel = load_kernel("flash-attention-3")
    many = np.array([128, 1000, 4096])
    device = load("h100-sxm")
    assert isinstance(device, Gpu)
    asked = shape(2, 8, 2, many, many, 64, causal=True)
    together = work_of(kernel, device.spec, asked, tiles_of(kernel, device.spec, asked, 2))
    alone = [work(kernel, "h100-sxm", {**sizes(n, n, 1, 0, 2), "batch": 2, "heads": 8, "head_dim": 64})
             for n in many.tolist()]  # fmt: skip
    assert [float(one.visited[0]) for one in alone] == together.visited.tolist()


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


def test_a_row_tile_that_begins_inside_a_query_reaches_one_more() -> None:
    """192 rows of a group of 7 cover 28 queries, or 29 where they begin late in a query."""
    sizes = (138, 145, 6, 7, 192, 16)
    assert walk(*sizes).longest[0] == max(tiles for tiles, _ in row_by_row(*sizes)) == 4


@given(count=st.integers(0, 200), step=st.integers(0, 500), offset=st.integers(-500, 500), divisor=st.integers(1, 300))
def test_sums_of_floors(count: int, step: int, offset: int, divisor: int) -> None:
    sizes = (np.array([size]) for size in (count, step, offset, divisor))
    assert floor_sum(*sizes)[0] == sum((offset + place * step) // divisor for place in range(count))
