"""The least cycles of a tile: resources and circuits counted by hand, never above the cycle level."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import ceil

import numba
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.fusemax.accelerator import FuseMax, depths_of, shape_of, simulation, timing_of
from cascadesim.accelerators.fusemax.bound import DesignPoint as TileDesign
from cascadesim.accelerators.fusemax.bound import TileCycles, TileWork, cycles_on, tile_work
from cascadesim.accelerators.fusemax.spec import place
from cascadesim.accelerators.protocol import Phase
from cascadesim.accelerators.spatial.attention_tiles import tiles_of
from cascadesim.accelerators.spatial.tile_order import Slots
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.notation import parse, to_text
from cascadesim.einsum_cascades.texts.pruned_attention import PRUNED_1PASS
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS
from cascadesim.simulator.engine.engine import run

Make = Callable[..., Operation]
Design = Callable[..., FuseMax]

OTHER_NAMES = parse("other-names", re.sub(r"\b(QK|LM|RM|SLN|SLD|SLNV)\b", r"X\1", to_text(ATTENTION_1PASS)))
KEY_BYTES, QUERY_BYTES = 2 * 256 * 128, 2 * 256 * 130  # a key tile and its values; Q, RM, RD and RNV of a query tile
BYTES_PER_CYCLE = 400 * 2**30 / 940e6


def phase_of(accelerator: FuseMax, operation: Operation) -> Phase:
    return accelerator.plan(operation, "physical").phases[0]


def cycles(phase: Phase) -> int:
    assert phase.program is not None
    return run(phase.program()).cycles


def with_buffer(design: Design, query_tiles: int, key_tiles: int) -> FuseMax:
    return design("fusemax", f"global_buffer.capacity_bytes={query_tiles * QUERY_BYTES + key_tiles * KEY_BYTES}")


@numba.njit
def _cycles_on(
    w: TileWork, d: TileDesign, rows: float, columns: float, residents: float, queries: float, keys: float, age: float
) -> TileCycles:  # fmt: skip
    return cycles_on(w, d, rows, columns, residents, queries, keys, age)  # compiled: for compiled callers only


def bound(accelerator: FuseMax, operation: Operation, residents: int, query_slots: int, key_slots: int) -> TileCycles:
    """What each resource needs on the whole array, every drain of LM hidden where slots allow it."""
    spec, shape = accelerator.spec, shape_of(operation)
    work = tile_work(place(operation.cascade, spec), spec, shape.query_depth, shape.value_depth)
    rows, columns = spec.pe_array.rows, spec.pe_array.columns
    design = TileDesign(
        rows, columns, spec.vector_array.lanes, spec.global_buffer.capacity_bytes,
        spec.global_buffer.row_bytes * spec.global_buffer.ports, spec.dram_bytes_per_cycle,
        shape.instances, shape.queries, shape.keys, shape.group,
    )  # fmt: skip
    found: TileCycles = TileCycles(*_cycles_on(work, design, rows, columns, residents, query_slots, key_slots, 3))
    return found


def on_the_whole_array(accelerator: FuseMax, operation: Operation, key_slots: int) -> tuple[float, int]:
    """Bound and cycle level of one resident query tile on the published tile, which the plan may leave for another."""
    spec, placement, shape = accelerator.spec, place(operation.cascade, accelerator.spec), shape_of(operation)
    tile_bytes, kv_bytes = spec.pe_array.columns * 130 * 2, spec.pe_array.rows * 128 * 2
    sizes = (spec.pe_array.rows, spec.pe_array.columns, 1)
    tiles = tiles_of(shape, spec.global_buffer.capacity_bytes, tile_bytes, kv_bytes, sizes)
    timing = timing_of(spec, placement, tiles, depths_of(operation))
    closed = max(bound(accelerator, operation, 1, 1, key_slots))
    return closed, run(simulation(timing, Slots(1, key_slots)).program()).cycles


@pytest.mark.slow
def test_bytes_take_their_share_of_the_channel(attention: Make, design: Design) -> None:
    """65,536 bytes of keys and values for each of 4 key tiles, half as many of queries and of results."""
    found = bound(design(), attention(1024, 256), 1, 17, 17)
    assert found.dram == pytest.approx((4 + 1) * KEY_BYTES / BYTES_PER_CYCLE)


@pytest.mark.slow
def test_a_row_of_the_buffer_is_a_row_however_few_of_its_queries_are_real(attention: Make, design: Design) -> None:
    """200 and 256 queries of one tile of 256 columns: as many rows."""
    few, many = (bound(design(), attention(4096, queries), 1, 17, 17) for queries in (200, 256))
    assert few.ports == many.ports


@pytest.mark.slow
def test_a_single_key_slot_makes_loads_and_work_take_turns(attention: Make, design: Design) -> None:
    """Each of 16 key tiles is loaded, then passes through: QK, LM, the drain of 256 rows, RM, SLN, SLD, SLNV."""
    through = 64 + 1 + 256 + 1 + 7 + 1 + 64
    one, two = (bound(design(), attention(4096, 256), 1, 1, slots).key_waits for slots in (1, 2))
    assert one == 2 * two == pytest.approx(16 * (KEY_BYTES / BYTES_PER_CYCLE + through))


@pytest.mark.slow
def test_two_resident_tiles_share_the_wait_for_a_key_tile(attention: Make, design: Design) -> None:
    """Beside one slot: QK and LM of the first, then all of the second."""
    through, load = 64 + 1 + 256 + 1 + 7 + 1 + 64, KEY_BYTES / BYTES_PER_CYCLE
    found = bound(design(), attention(4096, 512), 2, 2, 1)
    assert found.key_waits == pytest.approx(16 * (load + 65 + through))


@pytest.mark.slow
def test_a_maximum_waits_for_the_products_of_the_row_before(attention: Make, design: Design) -> None:
    """RM, SLN, SLD and the drain of SLNV: 265 cycles a row of one tile, that of 2 tiles takes 2 x 138."""
    rows = 1024 - 3 - 3  # but for those that fill the pipeline: 394 cycles from QK to QK, 3 epochs of 138
    one = bound(design(), attention(256 * 1024, 256), 1, 17, 17).recurrence
    two = bound(design(), attention(256 * 1024, 512), 2, 17, 17).recurrence
    assert one / two == pytest.approx(265 / 276)
    assert one == pytest.approx(265 * rows)


@pytest.mark.slow
def test_a_slot_ahead_of_the_residents_is_a_tile_less_that_a_column_holds_its_slot_for(
    attention: Make, design: Design
) -> None:
    """2 resident query tiles in 3 slots, 16 key tiles: 15 x 2 + 1 tiles from the first of a column to its last, less 1.

    138 cycles of the 1D array each, after QK, LM and a drain of 256 rows; a division of 64 words, fetch and store.
    """
    found = bound(design(), attention(4096, 512), 2, 3, 17)
    assert found.query_waits == pytest.approx(30 * 138 + 65 + 256 + 64 + KEY_BYTES / BYTES_PER_CYCLE)


def test_one_query_tile_and_one_key_tile_wait_for_each_other(attention: Make, design: Design) -> None:
    """A key tile is loaded; QK, LM, a drain, RM, SLN, SLD and SLNV follow each other; then its slot is free.

    The closed form leaves out that a load takes whole cycles.
    """
    accelerator = with_buffer(design, 1, 1)
    shorter, longer = (on_the_whole_array(accelerator, attention(256 * tiles, 256), 1) for tiles in (40, 41))
    row = 64 + 1 + 256 + 1 + 7 + 1 + 64
    assert longer[0] - shorter[0] == pytest.approx(row + KEY_BYTES / BYTES_PER_CYCLE)
    assert longer[1] - shorter[1] == row + ceil(KEY_BYTES / BYTES_PER_CYCLE)


def test_where_tiles_hide_each_other_nothing_waits(model: Make, design: Design) -> None:
    """BERT 1K as published."""
    assert phase_of(design(), model("BERT", 1024)).analytical_cycles == 1_892_352


def test_more_buffer_never_takes_longer(attention: Make, design: Design) -> None:
    """16 query tiles; from one resident with one key slot to all of them."""
    operation = attention(256 * 16, b=2)
    found = [phase_of(with_buffer(design, *tiles), operation).analytical_cycles
             for tiles in ((1, 1), (2, 1), (2, 2), (4, 2), (8, 2), (16, 2))]  # fmt: skip
    assert found == sorted(found, reverse=True)
    assert found[0] > 2 * found[-1]


SIDES = st.sampled_from([16, 32, 64, 128])


def design_of(design: Design, sides: tuple[int, int], depth: int, buffer: tuple[int, int], bandwidth: float) -> FuseMax:
    rows, columns = sides
    query_tiles, key_tiles = buffer
    capacity = 2 * (query_tiles * columns * (2 * depth + 2) + key_tiles * rows * 2 * depth)
    return design(
        "fusemax", f"pe_array.rows={rows}", f"pe_array.columns={columns}", f"vector_array.lanes={columns}",
        f"global_buffer.capacity_bytes={capacity}", f"global_buffer.row_bytes={2 * columns}", "global_buffer.ports=64",
        f"dram.bandwidth_bytes_per_s={bandwidth:.1f}",
    )  # fmt: skip


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(
    sides=st.tuples(SIDES, SIDES), depth=st.sampled_from([2, 16, 64]),
    buffer=st.tuples(st.integers(1, 9), st.integers(1, 4)), bandwidth=st.sampled_from([1e10, 5e10, 2e11, 1e12]),
    extents=st.tuples(st.integers(1, 1500), st.integers(1, 1500)),
    heads=st.tuples(st.integers(1, 5), st.integers(1, 3)),
)  # fmt: skip
def test_no_schedule_is_shorter(
    sides: tuple[int, int], depth: int, buffer: tuple[int, int], bandwidth: float, extents: tuple[int, int],
    heads: tuple[int, int], attention: Make, design: Design,
) -> None:  # fmt: skip
    accelerator = design_of(design, sides, depth, buffer, bandwidth)
    (keys, queries), (batch, group) = extents, heads
    try:
        phase = phase_of(accelerator, attention(keys, queries, depth, depth, b=batch, h=group, g=group))
    except CascadeSimError as error:
        assert "hold no query tile" in str(error)  # noqa: PT017 (what is raised depends on the example)
        return
    assert phase.analytical_cycles <= cycles(phase)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    sides=st.tuples(SIDES, SIDES), depth=st.sampled_from([4, 16]), tiles=st.floats(1.05, 4),
    bandwidth=st.sampled_from([1e9, 1e10, 1e12]), tokens=st.integers(2, 500), heads=st.integers(1, 4),
    renamed=st.booleans(), in_flight=st.integers(1, 8),
)  # fmt: skip
def test_no_schedule_of_another_text_is_shorter(
    sides: tuple[int, int], depth: int, tiles: float, bandwidth: float, tokens: int, heads: int, renamed: bool,
    in_flight: int, attention: Make, design: Design,
) -> None:  # fmt: skip
    """Two passes of a pruned text, whose second one frees its keys early; the published text under other names."""
    rows, columns = sides
    accelerator = design(
        "fusemax", f"pe_array.rows={rows}", f"pe_array.columns={columns}", f"vector_array.lanes={columns}",
        f"global_buffer.capacity_bytes={int(tiles * 2 * (columns * (2 * depth + 2) + rows * 2 * depth))}",
        f"global_buffer.row_bytes={2 * columns}", f"dram.bandwidth_bytes_per_s={bandwidth:.1f}",
        "binding.policy=interleave", f"binding.in_flight={in_flight}",
    )  # fmt: skip
    text = OTHER_NAMES if renamed else PRUNED_1PASS
    operation = attention(tokens, tokens, depth, depth, b=heads, h=2, cascade=text)
    for phase in accelerator.plan(operation, "physical").phases:
        assert phase.analytical_cycles <= cycles(phase)


def test_circuits_are_known_of_the_published_chain_only(design: Design) -> None:
    """The same text under other names is another text."""
    spec = design("fusemax", "binding.policy=interleave", "binding.in_flight=2").spec
    placements = (place(ATTENTION_1PASS, spec), place(OTHER_NAMES, spec))
    assert [tile_work(each, spec, 64, 64).circuits for each in placements] == [True, False]


@pytest.mark.slow
def test_keys_that_are_read_once_are_free_before_the_tile_is_done(attention: Make, design: Design) -> None:
    """A tight buffer, one tile in flight, the pruned text: the second pass is not above its cycles, either."""
    accelerator = design(
        "fusemax", "pe_array.rows=8", "pe_array.columns=8", "vector_array.lanes=4", "global_buffer.row_bytes=16",
        "global_buffer.capacity_bytes=1077", "dram.bandwidth_bytes_per_s=10_000_000_000.0",
        "binding.policy=interleave", "binding.in_flight=1",
    )  # fmt: skip
    operation = attention(602, 602, 16, 16, b=4, h=2, cascade=PRUNED_1PASS)
    second = accelerator.plan(operation, "physical").phases[1]
    assert second.name == "importance: QK, SLN, CM, LS"
    assert second.analytical_cycles <= cycles(second)
