"""The counting engine on the nests of attention gives the closed forms that follow from them by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.access_counts import Accesses
from cascadesim.accelerators.fusemax.accelerator import FuseMax, depths_of, shape_of
from cascadesim.accelerators.fusemax.actions import PHYSICAL, CountedAccesses, Nests, Projections, Rules, count
from cascadesim.accelerators.fusemax.spec import place
from cascadesim.accelerators.spatial.attention_tiles import AttentionTiles, map_tiles
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval, Mask

Make = Callable[..., Operation]
Design = Callable[..., FuseMax]


def nests(accelerator: FuseMax, operation: Operation, exact: bool) -> Nests:
    placement, depths = place(operation.cascade, accelerator.spec), depths_of(operation)
    words = placement.resident_words(depths, accelerator.spec.pe_array.rows)
    tiles = map_tiles(shape_of(operation), accelerator.spec, words)
    return Nests(placement, tiles, depths, Projections(tiles, depths) if exact else None)


def level(counted: tuple[CountedAccesses, ...], name: str) -> Accesses:
    return sum((einsum.level(name) for einsum in counted), Accesses())


def test_the_buffer_moves_each_tile_once_for_each_use(model: Make, design: Design) -> None:
    """BERT at 1M, so that P2 > 1. For each tile: queries and keys for E steps, values and the state for F steps.

    Reads in words: T D (2E + 2F + 2) of the tiles and B H S (F + 1) of the results; writes: queries once, keys and
    values P2 times, the state of each tile.
    """
    operation = model("BERT", 1_048_576)
    found = nests(design(), operation, exact=False)
    buffer = level(count(found, PHYSICAL), "global_buffer")
    bh, s, d, e, f, p2 = 768, 1_048_576, 256, 64, 64, found.tiles.P2
    tiles = bh * (s // d) ** 2
    assert p2 == 32
    assert buffer.reads == tiles * d * (2 * e + 2 * f + 2) + bh * s * (f + 1)
    assert buffer.writes == bh * s * (e + (e + f) * p2) + tiles * d * (f + 2)


def test_the_rows_that_timeloop_reports_for_queries_and_keys(attention: Make, design: Design) -> None:
    """micro24-fusemax-artifact, pregenerated-check, timeloop-model.stats.txt: B = 64, H = 16, E = 256, 4096 x 4096."""
    operation = attention(4096, e=256, f=256, b=64, h=16)
    found = nests(design(), operation, exact=False)
    assert (found.tiles.P1, found.tiles.key_tiles) == (16, 16)
    qk, one_element = (count(found, rules)[0] for rules in (PHYSICAL, Rules(registers="one")))
    for operand in ("Q", "BK"):
        assert qk.accesses["global_buffer", operand] == Accesses(reads=17_179_869_184, fills=1_073_741_824)
    assert one_element.accesses["registers", "QK"].reads == 66_846_720
    assert one_element.accesses["registers", "QK"].updates == 67_108_864  # cycles: one MAC in each


@settings(max_examples=60, deadline=None)
@given(
    tiles=st.tuples(st.integers(1, 5), st.integers(1, 5)), depths=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    instances=st.integers(1, 3), capacity=st.sampled_from([2**11, 2**12, 2**16]),
    name=st.sampled_from(["fusemax", "fusemax-cascade"]),
)  # fmt: skip
def test_exact_projections_are_products_where_every_tile_is_whole(
    tiles: tuple[int, int], depths: tuple[int, int], instances: int, capacity: int, name: str,
    attention: Make, small: Design,
) -> None:  # fmt: skip
    """P1 divides the query tiles only where it can, so only then do the rectangular nest and the exact one agree."""
    operation = attention(8 * tiles[0], 8 * tiles[1], *depths, b=instances)
    accelerator = small(8, capacity, name=name)
    if (8 * 2 * sum(depths) + 8 * 2 * (sum(depths) + 2 + 16)) > capacity:
        return
    exact, product = (nests(accelerator, operation, how) for how in (True, False))
    if exact.tiles.query_tiles == exact.tiles.P1 * exact.tiles.P2:
        assert [einsum.accesses for einsum in count(exact, PHYSICAL)] == [
            einsum.accesses for einsum in count(product, PHYSICAL)
        ]


MASKS = st.one_of(
    st.just(FULL), st.just(CAUSAL), st.builds(KeyInterval, st.just(True), st.integers(1, 60)),
    st.builds(KeyInterval, st.just(True), st.none(), st.integers(1, 60)),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(keys=st.integers(1, 90), queries=st.integers(1, 90), group=st.sampled_from([1, 2, 3]), mask=MASKS,
       capacity=st.sampled_from([2**11, 2**12, 2**16]))  # fmt: skip
def test_projections_count_the_tiles_that_the_mask_leaves(
    keys: int, queries: int, group: int, mask: Mask, capacity: int, attention: Make, small: Design
) -> None:
    """Against a walk over every tile: sizes of the sets of its coordinates."""
    operation = attention(keys, min(queries, keys), 4, 4, h=group, g=group, mask=mask)
    found = nests(small(8, capacity), operation, exact=True)
    size, walked = Projections(found.tiles, found.depths), list(walk(found.tiles))
    whole = frozenset({"p2", "m1", "p1", "p0", "m0"})
    assert size(whole) == sum(columns * rows for *_, columns, rows in walked)
    assert size(whole - {"m0"}) == sum(columns for *_, columns, _ in walked)
    assert size(whole - {"p0", "m0"}) == len(walked)
    assert size(frozenset({"p2", "p1", "p0"})) == sum(
        columns for _, columns in {(tile, columns) for _, tile, _, columns, _ in walked}
    )
    fetched = {(group_index, key_tile, rows) for group_index, _, key_tile, _, rows in walked}
    assert size(frozenset({"p2", "m1", "m0"})) == sum(rows for *_, rows in fetched)
    assert size(frozenset({"p2", "m1"})) == len(fetched)


def walk(tiles: AttentionTiles) -> list[tuple[int, int, int, int, int]]:
    """(group of residents, query tile, key tile, columns in use, keys in it) of each score tile of an instance."""
    first, last = tiles.key_range
    return [
        (tile // tiles.P1, tile, key_tile, int(tiles.tile_queries[tile]),
         min(tiles.rows, tiles.shape.keys - key_tile * tiles.rows))
        for tile in range(tiles.query_tiles)
        for key_tile in range(int(first[tile]), int(last[tile]) + 1)
    ]  # fmt: skip


def test_register_files_are_counted_for_every_element(attention: Make, small: Design) -> None:
    """QK on 2 x 2 elements, one tile: every element reads and writes its own score E times, less the first read."""
    operation = attention(2, 2, 5, 5)
    qk = count(nests(small(2, 4096), operation, exact=True), PHYSICAL)[0]
    elements, depth = 4, 5
    assert qk.accesses["registers", "QK"] == Accesses(reads=elements * (depth - 1), updates=elements * depth)
    assert qk.accesses["registers", "Q"].reads == elements * depth


def test_operations_are_points_times_cost(model: Make, design: Design) -> None:
    """FuseMax artifact: points of each Einsum."""
    activities = design().plan(model("BERT", 1024), "physical").phases[0].activities
    bh, s, m1, f = 768, 1024, 4, 64
    points = {
        **dict.fromkeys(["QK", "SLNV"], bh * s * s * f), **dict.fromkeys(["LM", "SLN", "SLD"], bh * s * s),
        **dict.fromkeys(["RM", "PRM", "SPD", "RD"], bh * m1 * s), **dict.fromkeys(["SPNV", "RNV"], bh * m1 * s * f),
        "AV": bh * s * f,
    }  # fmt: skip
    assert {a.name: set(a.operations.values()) for a in activities} == {name: {n} for name, n in points.items()}


def test_more_residents_move_fewer_words(attention: Make, small: Design) -> None:
    little, much = (small(8, capacity).plan(attention(128, e=8, f=8), "physical") for capacity in (2**11, 2**16))
    assert much.traffic.read_bytes < little.traffic.read_bytes
    assert much.traffic.write_bytes == little.traffic.write_bytes == pytest.approx(2 * 128 * 8)
