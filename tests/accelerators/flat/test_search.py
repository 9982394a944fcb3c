"""The choice of a dataflow: never worse than any other, obedient to pins, no worse with more buffer."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.binding import bind_attention
from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.flat.accelerator import Flat
from cascadesim.accelerators.flat.fused import Choices
from cascadesim.accelerators.flat.geometry import FlatCase
from cascadesim.accelerators.flat.search import (
    Chosen,
    TileRange,
    best_on,
    evaluate,
    fewest_cycles,
    published_dataflow,
    published_dataflows,
    search,
)
from cascadesim.accelerators.flat.spec import STATIONARITIES, TENSORS, Dataflow, FlatArray, Pins
from cascadesim.accelerators.spatial.attention_tiles import AttentionShape
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, KeyInterval
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_3PASS

BINDING = bind_attention(ATTENTION_3PASS)


def spec(name: str = "flat", *changes: str) -> FlatArray:
    return cast(Flat, load(name, changes)).spec


def cost(chosen: Chosen) -> tuple[float, float]:
    return float(chosen.costs.bound_cycles(chosen.case.spec)[0]), float(chosen.costs.dram_words[0])


def everything_on_chip(rows: int, granularity: str = "head") -> Dataflow:
    return Dataflow(frozenset(TENSORS), "output", "output", granularity, rows)  # type: ignore[arg-type]


def test_a_head_that_fits_is_moved_once() -> None:
    # 512 x 512 scores of 64-wide heads: Q, K, V, AV once is the least there is, and QK + softmax + AV fit 32 MiB
    found = search(FlatCase(AttentionShape(1, 512, 512, 64, 64), spec()), BINDING, Pins())
    assert cost(found)[1] == 4 * 512 * 64
    assert found.costs.spilled[0] == 0


def test_a_row_of_scores_between_the_passes_spills_as_far_as_it_does_not_fit() -> None:
    """Nothing on chip: beside the footprint there is room for half of a row of 4096 scores, then for a whole one."""
    passing, shape = Dataflow(frozenset(), "output", "output", "row", 256), AttentionShape(1, 512, 4096, 64, 64)
    footprint = int(evaluate(FlatCase(shape, spec()), BINDING, passing).costs.footprint_words[0])
    bytes_given = [f"global_buffer.capacity_bytes={2 * (footprint + room)}" for room in (2048, 4096)]
    half, whole = (evaluate(FlatCase(shape, spec("flat", given)), BINDING, passing) for given in bytes_given)
    assert half.costs.spilled[0] == whole.costs.spilled[0] == 0
    assert float(half.costs.softmax.dram[0]) > float(whole.costs.softmax.dram[0])


@pytest.mark.slow
@pytest.mark.parametrize(("length", "causal"), [(300, False), (700, True)])
def test_the_search_finds_the_best_of_all_dataflows(length: int, causal: bool) -> None:
    small = spec("flat-edge", "global_buffer.capacity_bytes=32768")
    case = FlatCase(AttentionShape(2, length, length, 48, 40, mask=CAUSAL if causal else FULL), small)
    best = cost(search(case, BINDING, Pins()))
    for bits in product((False, True), repeat=5):  # scores and weights together, as in every published row
        kept = frozenset(name for names, bit in zip(("Q", "K", "QK A", "V", "AV"), bits, strict=True) if bit
                         for name in names.split())  # fmt: skip
        for qk, av in product(STATIONARITIES, repeat=2):
            found = evaluate(case, BINDING, Dataflow(kept, qk, av, "row", 64))
            if found.blocks.least_words(Choices.of(found.dataflow))[0] <= small.buffer_words:
                assert best <= tuple(value * (1 + 1e-9) for value in cost(found))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flat", "flat-edge"])
def test_the_search_is_never_worse_than_what_flat_published(name: str) -> None:
    array = spec(name)
    own = (array.pe_array.rows, array.global_buffer.capacity_bytes)
    rows = {sizes: found[0] for sizes, found in published_dataflows().items() if sizes[:2] == own}
    assert len(rows) == 24
    chosen = {}
    for (*_, head_size, length), dataflow in rows.items():
        case = FlatCase(AttentionShape(1, length, length, head_size, head_size), array)
        theirs, ours = cost(evaluate(case, BINDING, dataflow)), cost(search(case, BINDING, Pins()))
        assert ours[0] <= theirs[0] * (1 + 1e-12)
        assert ours[1] <= theirs[1] or ours[0] < theirs[0] * (1 - 1e-12)
        chosen[head_size, length] = search(case, BINDING, Pins()).dataflow.rows, dataflow.rows
    # it need not be the same dataflow: with 1M tokens FLAT fetches K and V once per 1024 rows, 8192 rows fit as well
    ours_longest, theirs_longest = chosen[min(chosen)[0], 2**20]
    assert ours_longest > theirs_longest


@pytest.mark.parametrize("key", list(published_dataflows()))
def test_the_capacity_rule_gives_the_published_share_that_spills(key: tuple[int, int, int, int]) -> None:
    side, _, head_size, length = key
    array = spec("flat" if side == 256 else "flat-edge")
    case = FlatCase(AttentionShape(1, length, length, head_size, head_size), array, exact=True)
    dataflow, spilled_share = published_dataflows()[key]
    assert published_dataflow(case) == dataflow
    assert evaluate(case, BINDING, dataflow).costs.spilled[0] == pytest.approx(spilled_share, abs=1e-12)


def test_pins_are_respected() -> None:
    pinned = spec(
        "flat", "dataflow.location.K=off_chip", "dataflow.qk_stationarity=output", "dataflow.granularity=row",
        "dataflow.rows=512",
    )  # fmt: skip
    found = search(FlatCase(AttentionShape(1, 2048, 2048, 64, 64), pinned), BINDING, pinned.dataflow).dataflow
    assert "K" not in found.on_chip
    assert (found.qk_stationarity, found.granularity, found.rows) == ("output", "row", 512)


@settings(max_examples=25, deadline=None)
@given(tensor=st.sampled_from(TENSORS), place=st.sampled_from(["on_chip", "off_chip"]), length=st.integers(1, 900))
def test_a_pin_can_only_cost(tensor: str, place: str, length: int) -> None:
    pinned = spec("flat-edge", f"dataflow.location.{tensor}={place}")
    case = FlatCase(AttentionShape(1, length, length, 32, 32), pinned)
    bound = search(case, BINDING, pinned.dataflow)
    assert (tensor in bound.dataflow.on_chip) == (place == "on_chip")
    assert cost(search(case, BINDING, Pins())) <= cost(bound)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 3000), depth=st.integers(1, 130), kib=st.integers(32, 600))
def test_more_buffer_never_costs_cycles(length: int, depth: int, kib: int) -> None:
    shape = AttentionShape(1, length, length, depth, depth)
    arrays = [spec("flat-edge", f"global_buffer.capacity_bytes={size * 1024}") for size in (kib, 2 * kib)]
    small, large = (search(FlatCase(shape, array), BINDING, Pins()) for array in arrays)
    assert cost(large)[0] <= cost(small)[0] * (1 + 1e-9)


def test_rows_stay_idle_where_that_is_faster() -> None:
    """64 KiB, 1024 queries and keys of 64: 32 rows at a time ask for more than there is, 24 do not."""
    shape, small = AttentionShape(1, 1024, 1024, 64, 64), "global_buffer.capacity_bytes=65536"
    whole, fewer = (search(FlatCase(shape, spec("flat-edge", small, f"pe_array.rows={rows}")), BINDING, Pins())
                    for rows in (32, 24))  # fmt: skip
    assert whole.case.rows_used == 24
    assert cost(whole) == cost(fewer)


MASKS = (FULL, CAUSAL, KeyInterval(True, window=7), KeyInterval(True, window=60))


@st.composite
def small_buffers(draw: st.DrawFn) -> FlatCase:
    """Up to 40 rows and columns that compete for a small buffer, often behind a slow channel."""
    settings = [
        f"pe_array.rows={draw(st.integers(1, 40))}", f"pe_array.columns={draw(st.integers(1, 40))}",
        f"global_buffer.capacity_bytes={draw(st.integers(6000, 60000))}",
        f"dram.bandwidth_bytes_per_s={draw(st.sampled_from([1e9, 1e10, 1e12]))}",
    ]  # fmt: skip
    mask, queries = draw(st.sampled_from(MASKS)), draw(st.integers(1, 300))
    keys = queries if mask != FULL else draw(st.integers(1, 300))
    depths, group = draw(st.tuples(st.integers(1, 40), st.integers(1, 40))), draw(st.integers(1, 3))
    return FlatCase(AttentionShape(2, queries, keys, *depths, group, mask), spec("flat-edge", *settings))


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(case=small_buffers(), data=st.data())
def test_a_part_of_the_array_is_never_faster_than_the_whole_of_it(case: FlatCase, data: st.DataObject) -> None:
    array = case.spec.pe_array
    rows, columns = data.draw(st.integers(1, array.rows)), data.draw(st.integers(1, array.columns))
    part = case.spec.model_copy(update={"pe_array": array.model_copy(update={"rows": rows, "columns": columns})})
    assert whole_cycles(case) <= whole_cycles(replace(case, spec=part)) * (1 + 1e-9)


def whole_cycles(case: FlatCase) -> float:
    try:
        return cost(search(case, BINDING, Pins()))[0]
    except CascadeSimError:  # not even one tile of each fits
        return float("inf")


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(case=small_buffers(), data=st.data())
def test_no_tile_between_two_sizes_is_faster_than_their_bound(case: FlatCase, data: st.DataObject) -> None:
    """Masks cut tiles anywhere, so a bound of many is not that of the largest."""
    rows, columns = (tuple(sorted(data.draw(st.sets(st.integers(1, 40), min_size=2, max_size=5)))) for _ in "rc")
    together = TileRange(rows, columns, 0, len(rows) - 1, 0, len(columns) - 1)
    found = [best_on(replace(case, tile=tile, columns=used), BINDING, Pins()) for tile, used in product(rows, columns)]
    bound = fewest_cycles(together, case, BINDING, Pins())
    assert bound <= min((each.cycles for each in found if each is not None), default=float("inf")) * (1 + 1e-9)
    assert together.using(0.0) == together


def test_tiles_that_use_too_few_elements_are_left_out() -> None:
    tiles = TileRange((1, 2, 4, 8), (1, 3, 9), 0, 3, 0, 2)
    assert tiles.using(12) == replace(tiles, top=1, left=1)  # 1 x 9 and 8 x 1 have fewer, 2 x 9 and 8 x 3 do not
    assert tiles.using(73) is None
    assert tiles.halves() == (replace(tiles, left=2), replace(tiles, right=1))  # 9 columns to 1, 8 rows to 1
    assert replace(tiles, left=1).halves()[0] == replace(tiles, left=1, top=2)


@pytest.mark.slow
def test_a_larger_array_has_tiles_that_a_smaller_one_is_full_with() -> None:
    """18 kB under a causal window hold 23 rows at a time, which no array of 26 rows or of 41 is built for."""
    settings = ["pe_array.columns=143", "vector_array.lanes=432", "global_buffer.capacity_bytes=18235",
                "dram.bandwidth_bytes_per_s=1213259849.6", "clock_hz=4346294396.2"]  # fmt: skip
    shape = AttentionShape(8, 744, 744, 64, 96, mask=KeyInterval(True, window=300))
    small, large = (search(FlatCase(shape, spec("flat", f"pe_array.rows={rows}", *settings)), BINDING, Pins())
                    for rows in (26, 41))  # fmt: skip
    assert cost(large) == cost(small)
    assert large.case.rows_used == 23
