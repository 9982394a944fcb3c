"""Cycles of DRAM channel and buffer ports: what the program of the same operation adds up to, but for its rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.fusemax.attention import chosen_tiles, depths_of, shape_of, single_form
from cascadesim.accelerators.fusemax.placement import place
from cascadesim.accelerators.fusemax.streams import Streams
from cascadesim.accelerators.program import Program
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

Make = Callable[..., Operation]
Design = Callable[..., FuseMax]


def streams(accelerator: FuseMax, operation: Operation) -> Streams:
    """On the tiles that the plan has chosen."""
    spec, placement, shape = accelerator.spec, place(operation.cascade, accelerator.spec), shape_of(operation)
    tiles = chosen_tiles(shape, spec, placement, depths_of(operation))
    sizes = (np.array([float(size)]) for size in (tiles.rows, tiles.columns, tiles.P1))
    return single_form(shape, spec, placement).on(*sizes).streams


def program(accelerator: FuseMax, operation: Operation) -> Program:
    made = accelerator.plan(operation, "physical").phases[0].program
    assert made is not None
    return made()


def test_a_row_of_the_buffer_is_a_row_however_few_of_its_queries_are_real(attention: Make, design: Design) -> None:
    """200 and 256 queries of one tile of 256 columns: as many rows."""
    accelerator = design()
    few, many = attention(4096, 200), attention(4096, 256)
    assert streams(accelerator, few).port_cycles() == streams(accelerator, many).port_cycles()


def test_bytes_take_their_share_of_the_channel(attention: Make, design: Design) -> None:
    """65,536 bytes of keys and values for each of 4 key tiles, half as many of queries and of results."""
    per_cycle = 400 * 2**30 / 940e6
    assert streams(design(), attention(1024, 256)).dram_cycles()[0] == pytest.approx((4 + 1) * 65_536 / per_cycle)


def test_a_single_slot_for_keys_makes_loads_and_work_take_turns(attention: Make, design: Design) -> None:
    """Room for one query tile (256 x 130 words) beside one key tile: each of 16 tiles is loaded, then passes through.

    QK, LM, the drain of 256 rows, RM, SLN, SLNV.
    """
    accelerator = design("fusemax", f"global_buffer.capacity_bytes={2 * 256 * (130 + 128)}")
    found = single_form(shape_of(operation := attention(4096, 256)), accelerator.spec,
                        place(operation.cascade, accelerator.spec)).streams  # fmt: skip
    load = 65_536 / (400 * 2**30 / 940e6)
    assert found.is_tight.all()
    assert found.turn_cycles(np.array([16.0 * 137])) == pytest.approx(16 * (load + 64 + 1 + 256 + 1 + 7 + 64))
    assert not streams(design(), attention(4096, 256)).is_tight.any()


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    preset=st.sampled_from(["fusemax", "fusemax-architecture", "fusemax-cascade"]),
    sides=st.tuples(*[st.sampled_from([4, 8, 16])] * 3),
    capacity=st.sampled_from([2**11, 2**12, 2**13, 2**14, 2**18]), bandwidth=st.sampled_from([1e9, 1e10, 1e12]),
    extents=st.tuples(st.integers(1, 200), st.integers(1, 200), st.integers(2, 40), st.integers(2, 40)),
    heads=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)),
)  # fmt: skip
def test_the_program_is_as_busy_and_has_as_many_slots(
    preset: str, sides: tuple[int, int, int], capacity: int, bandwidth: float, extents: tuple[int, int, int, int],
    heads: tuple[int, int, int], attention: Make, design: Design,
) -> None:  # fmt: skip
    rows, columns, lanes = sides
    accelerator = design(
        preset, f"pe_array.rows={rows}", f"pe_array.columns={columns}", f"vector_array.lanes={lanes}",
        f"global_buffer.capacity_bytes={capacity}", "global_buffer.row_bytes=16",
        f"dram.bandwidth_bytes_per_s={bandwidth:.1f}",
    )  # fmt: skip
    queries, keys, e, f = extents
    batch, key_heads, group = heads
    operation = attention(keys, queries, e, f, b=batch, h=key_heads * group, g=group)
    try:
        own = streams(accelerator, operation)
    except CascadeSimError as error:
        assert "hold no query tile" in str(error)  # noqa: PT017 (what is raised depends on the example)
        return
    made = program(accelerator, operation)
    if accelerator.spec.binding.in_flight is None:
        assert [int(slots[0]) for slots in own.slots] == [queue.capacity for queue in made.queues]
    busy = made.busy_cycles()
    by_unit = {unit: sum(busy[task.name] for task in made.tasks if task.unit == unit) for unit in made.units}
    classes = made.tiles  # each tile has at most three transfers, and one stretch of the ports
    assert 0 <= by_unit["dram"] - own.dram_cycles()[0] <= 3 * classes
    assert 0 <= by_unit["global_buffer"] - own.port_cycles()[0] <= classes
