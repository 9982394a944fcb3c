"""Tiles under a mask: larger designs are never slower, longer sequences never faster, whatever it leaves of a tile."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.fusemax.accelerator import FuseMax, chosen_tiles, depths_of, shape_of
from cascadesim.accelerators.fusemax.masked_tiles import MaskedTiles
from cascadesim.accelerators.fusemax.spec import place
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.sparsity.masks import KeyInterval
from cascadesim.einsum_cascades.texts import find

MASKED = st.sampled_from([KeyInterval(True), KeyInterval(True, window=40), KeyInterval(True, window=300),
                          KeyInterval(True, chunk=64)])  # fmt: skip


def masked_cycles(name: str, sizes: Mapping[str, int], queries: int, keys: int, mask: KeyInterval) -> float:
    machine = load(name, tuple(f"{field}={size}" for field, size in sizes.items()))
    extents = {"b": 1, "h": 2, "g": 2, "m": keys, "p": queries, "e": 64, "f": 64}
    operation = Operation("attention", "attention", find("attention-1pass"), tuple(extents.items()), mask=mask)
    return machine.plan(operation, "physical").phases[0].analytical_cycles


def check_masks(data: st.DataObject) -> None:
    """More of a resource is never slower, and more tokens are never faster, whatever a mask leaves of a tile."""
    name = data.draw(st.sampled_from(["fusemax", "fusemax-architecture", "fusemax-cascade"]))
    sizes = {field: data.draw(st.integers(8, 200)) for field in
             ("pe_array.rows", "pe_array.columns", "vector_array.lanes")}  # fmt: skip
    sizes |= {"global_buffer.capacity_bytes": data.draw(st.sampled_from([2**18, 2**20, 2**24])),
              "dram.bandwidth_bytes_per_s": data.draw(st.sampled_from([2 * 10**10, 4 * 10**11]))}  # fmt: skip
    queries, mask = data.draw(st.integers(1, 1200)), data.draw(MASKED)
    keys = queries + data.draw(st.integers(0, 300))
    before = masked_cycles(name, sizes, queries, keys, mask)
    field = data.draw(st.sampled_from([*sizes, "tokens"]))
    if field == "tokens":
        more = data.draw(st.sampled_from([1, 8, 33]))
        assert masked_cycles(name, sizes, queries + more, keys + more, mask) >= before - 1
    else:
        larger = sizes | {field: sizes[field] + max(1, sizes[field] * data.draw(st.integers(1, 100)) // 100)}
        assert masked_cycles(name, larger, queries, keys, mask) <= before + 1


@pytest.mark.slow
@given(st.data())
@settings(max_examples=25, deadline=None)
def test_larger_arrays_are_never_slower_under_a_mask(data: st.DataObject) -> None:
    check_masks(data)


@pytest.mark.nightly
@given(st.data())
@settings(max_examples=2_000, deadline=None)
def test_larger_arrays_are_never_slower_under_a_mask_in_many_more_cases(data: st.DataObject) -> None:
    check_masks(data)


def test_columns_that_a_causal_mask_makes_useless_are_left_idle() -> None:
    """512 queries: with 128 columns of 100 rows as with 127; eight tokens more take no less."""
    sizes = {"pe_array.rows": 100, "vector_array.lanes": 100}

    def cycles(columns: int, tokens: int) -> float:
        asked = sizes | {"pe_array.columns": columns}
        return masked_cycles("fusemax-architecture", asked, tokens, tokens, KeyInterval(True))

    assert cycles(128, 512) <= cycles(127, 512)
    assert cycles(128, 520) >= cycles(128, 512)


@pytest.mark.slow
@given(
    name=st.sampled_from(["fusemax", "fusemax-architecture"]), rows=st.integers(1, 9), columns=st.integers(1, 9),
    lanes=st.integers(1, 9), room=st.sampled_from([2_000, 5_000, 20_000]), bandwidth=st.sampled_from([10**9, 10**11]),
    queries=st.integers(1, 40), earlier=st.integers(0, 9), mask=MASKED, group=st.sampled_from([1, 2]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_bounds_leave_out_nothing_that_is_better(
    name: str, rows: int, columns: int, lanes: int, room: int, bandwidth: int, queries: int, earlier: int,
    mask: KeyInterval, group: int,
) -> None:  # fmt: skip
    """All rows and columns, and as many residents as fit or fewer, one by one."""
    machine = load(name, (f"pe_array.rows={rows}", f"pe_array.columns={columns}", f"vector_array.lanes={lanes}",
                          f"global_buffer.capacity_bytes={room}", f"dram.bandwidth_bytes_per_s={bandwidth}"))
    assert isinstance(machine, FuseMax)
    extents = {"b": 1, "h": group, "g": group, "m": queries + earlier, "p": queries, "e": 8, "f": 8}
    operation = Operation("attention", "attention", find("attention-1pass"), tuple(extents.items()), mask=mask)
    shape, depths, placement = shape_of(operation), depths_of(operation), place(operation.cascade, machine.spec)
    found = chosen_tiles(shape, machine.spec, placement, depths)
    every = MaskedTiles(shape, machine.spec, placement, depths)
    least = min(every.cycles(tiles) for row in range(1, min(rows, shape.keys) + 1)
                for column in range(1, min(columns, group * queries) + 1)
                for tiles in every.residents(row, column))  # fmt: skip
    assert found.least_cycles <= least * (1 + 1e-9)
