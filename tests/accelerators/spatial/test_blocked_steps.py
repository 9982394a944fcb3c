"""The steps of a product by hand: what each loads, computes and stores, and that nothing is lost between them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.accelerators.program import BufferedStep, BufferedStream, Rounds, Steps
from cascadesim.accelerators.spatial.blocking import BlockedProduct, Blocking, product_steps, published_way
from cascadesim.accelerators.spatial.blocking_search import bound_cycles, fastest_blocking
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.errors import CascadeSimError


def in_order(steps: Steps) -> list[tuple[int, int, int]]:
    """Words loaded, cycles, words stored of every step, one after another."""
    found = []
    for item in steps:
        if isinstance(item, BufferedStep):
            found.append((item.load_bytes // 2, item.compute_cycles[0], item.store_bytes // 2))
        else:
            found.extend(item.times * in_order(item.body))
    return found


def test_weights_arrive_with_the_first_rows(array: Callable[..., SpatialArray]) -> None:
    """10 x 6 outputs of depth 3 on 4 x 4: columns 4 + 2 stay, rows 4 + 4 + 2 pass. Slow DRAM: nothing is grouped."""
    blocking = Blocking(BlockedProduct(10, 3, 6), 4, 4, "weights", 1, 2, 3, slots=2)
    assert in_order(product_steps(blocking, array(4))[0]) == [
        (3 * (4 + 4), 3, 4 * 4),  # first rows, first columns
        (3 * 2, 3, 4 * 2),  # the other columns
        (3 * 4, 2 * 3, 4 * 6),  # second rows against all columns
        (3 * 2, 2 * 3, 2 * 6),  # last rows
    ]


def test_blocks_of_rows_meet_all_weights(array: Callable[..., SpatialArray]) -> None:
    """The same product, 2 row tiles at a time: weights pass twice."""
    blocking = Blocking(BlockedProduct(10, 3, 6), 4, 4, "rows", 2, 1, 3, slots=2)
    assert in_order(product_steps(blocking, array(4))[0]) == [
        (3 * (4 + 4), 3, 4 * 4),  # block 1: first rows, first columns
        (3 * 4, 3, 4 * 4),  # its other rows
        (3 * 2, 2 * 3, 8 * 2),  # the other columns against all its rows
        (3 * (2 + 4), 3, 2 * 4),  # block 2: the last rows, first columns
        (3 * 2, 3, 2 * 2),  # the other columns
    ]


def test_slices_add_up_before_outputs_leave(array: Callable[..., SpatialArray]) -> None:
    """8 x 4 outputs stay, k = 5 in slices of 2: partial sums are in the buffer until the last slice."""
    blocking = Blocking(BlockedProduct(8, 5, 4), 4, 4, "outputs", 2, 1, 2, slots=2)
    assert in_order(product_steps(blocking, array(4))[0]) == [
        (2 * (8 + 4), 2 * 2, 0),
        (2 * (8 + 4), 2 * 2, 0),
        (1 * (8 + 4), 2 * 1, 8 * 4),
    ]


def test_each_copy_has_operands_of_its_own(array: Callable[..., SpatialArray]) -> None:
    """Large enough not to be merged: one round per copy."""
    blocking = Blocking(BlockedProduct(256, 4096, 256, copies=5), 256, 256, "weights", 1, 1, 4096, slots=2)
    (rounds,), _ = product_steps(blocking, array(256))
    assert isinstance(rounds, Rounds)
    assert rounds.times == 5


def ways_of(product: BlockedProduct, spec: SpatialArray) -> list[Blocking]:
    """As published, and the fastest: nothing where nothing fits."""
    found = [published_way(product, spec)]
    with suppress(CascadeSimError):
        found.append(fastest_blocking(product, spec))
    return [blocking for blocking in found if blocking is not None]


products = st.builds(
    BlockedProduct, rows=st.integers(1, 200), depth=st.integers(1, 300),
    columns=st.integers(1, 200), copies=st.integers(1, 9),
)  # fmt: skip


@settings(deadline=None)
@given(products, st.sampled_from((2**12, 2**14, 2**20)), st.sampled_from((1.0, 400.0)))
def test_steps_move_and_compute_what_the_blocking_says(
    array: Callable[..., SpatialArray], product: BlockedProduct, capacity_bytes: int, gib_per_s: float
) -> None:
    spec = array(16, 8, capacity_bytes=capacity_bytes, bandwidth_bytes_per_s=gib_per_s * 2**30)
    for blocking in ways_of(product, spec):
        body, slots = product_steps(blocking, spec)
        steps = in_order(body)
        outputs = product.copies * product.rows * product.columns
        assert sum(stored for _, _, stored in steps) == outputs
        assert sum(loaded for loaded, _, _ in steps) == blocking.dram_words - outputs
        assert sum(cycles for _, cycles, _ in steps) == blocking.steps
        assert all(loaded >= 1 and cycles >= 1 for loaded, cycles, _ in steps)
        assert slots >= 2
        stream = BufferedStream("array_2d", ("Z",), body, slots)
        assert stream.total.bound_cycles(spec) == pytest.approx(bound_cycles(blocking, spec), rel=1e-12)
