"""Query tiles, the keys they meet, and blocks of them, counted by hand."""

from __future__ import annotations

from cascadesim.accelerators.flat.geometry import query_tiles, shape_of
from cascadesim.accelerators.spatial.attention_tiles import AttentionShape
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_3PASS


def test_causal_tiles_meet_the_keys_up_to_their_last_query() -> None:
    # 5 queries and keys, tiles of 2: rows 2, 2, 1; key tiles met 1, 2, 3; keys met 2, 4, 5
    tiles = query_tiles(AttentionShape(1, 5, 5, 8, 8, mask=CAUSAL), 2, 2)
    assert tiles.rows.tolist() == [2, 2, 1]
    assert tiles.visits.tolist() == [1, 2, 3]
    assert tiles.keys_met.tolist() == [2, 4, 5]


def test_a_block_meets_what_any_of_its_queries_meets() -> None:
    blocks = query_tiles(AttentionShape(1, 5, 5, 8, 8, mask=CAUSAL), 2, 2).blocks(2)
    # the first two tiles together, then the last: 2 blocks; key tiles 2 + 3; keys 4 + 5
    assert blocks.table[1] == (2, 5, 9, 2 + 2)  # and of a single key tile of each
    assert blocks.table[2] == (3, 6, 11, 3 * 2)  # tile by tile
    assert blocks.table[3] == (5, 2 * 1 + 2 * 2 + 1 * 3, 2 * 2 + 2 * 4 + 1 * 5, 5 * 2)  # query by query
    assert blocks.largest_points == 2 * 2 + 2 * 4  # scores of the first block


def test_heads_of_a_group_count_as_queries_of_their_key_head() -> None:
    extents = (("b", 3), ("h", 8), ("g", 4), ("m", 64), ("p", 1), ("e", 16), ("f", 16))
    shape = shape_of(Operation("attention", "attention", ATTENTION_3PASS, extents))
    assert (shape.instances, shape.group) == (3 * 2, 4)
    assert query_tiles(shape, 32, 32).rows.tolist() == [4]  # the four heads side by side in one tile
