"""GNA kernels in the interpreter: against masked attention in float64, and tile counts against the GNA simulator."""

from __future__ import annotations

import random as chance

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")
pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from cascadesim.einsum_cascades.sparsity.masks import neighborhood  # noqa: E402
from cascadesim.kernels.neighborhood_attention import reference  # noqa: E402
from cascadesim.kernels.neighborhood_attention.pattern import boxes, pattern, tile_order  # noqa: E402
from cascadesim.kernels.neighborhood_attention.triton import configuration, neighborhood_attention, plan  # noqa: E402
from cascadesim.simulator.gna.neighborhood import question  # noqa: E402

TOLERANCE = {torch.float32: 5e-7, torch.float16: 1e-3, torch.bfloat16: 5e-3}
CASES = {  # layout, window, stride, dilation, causal, query tile, key tile
    "1-D sliding window": ((70,), (17,), (1,), (1,), (False,), (32,), (16,)),
    "1-D causal with stride": ((96,), (24,), (8,), (1,), (True,), (16,), (16,)),
    "1-D unequal dilation groups": ((77,), (12,), (5,), (3,), (False,), (16,), (16,)),
    "2-D blocked, no partial tile": ((16, 16), (8, 8), (8, 8), (1, 1), (False, False), (8, 8), (4, 8)),
    "2-D corners": ((13, 11), (7, 5), (1, 1), (1, 1), (False, False), (4, 8), (4, 4)),
    "2-D causal in one dimension": ((12, 16), (6, 9), (2, 3), (1, 1), (True, False), (4, 4), (4, 8)),
    "2-D dilated": ((15, 18), (4, 5), (2, 1), (3, 2), (False, True), (4, 4), (2, 8)),
    "3-D": ((6, 8, 10), (3, 4, 5), (1, 2, 1), (1, 1, 1), (False, False, False), (2, 4, 4), (2, 4, 4)),
    "3-D causal, dilated, unequal groups": ((7, 6, 9), (3, 3, 4), (1, 1, 4), (2, 1, 2), (True, False, False), (2, 4, 4),
                                             (2, 4, 2)),
}  # fmt: skip


def error(got, expected) -> float:
    assert not torch.isnan(got).any()
    return float((got.double() - expected).norm() / expected.norm())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_kernel_is_masked_attention_and_runs_the_tiles_that_the_simulator_counts(case) -> None:
    *sizes, query_tile, key_tile = case
    tiles = plan(pattern(*sizes), query_tile, key_tile)
    q, k, v = (torch.randn(1, 1, tiles.pattern.tokens, 32) for _ in range(3))
    executed = torch.full((tiles.query_tiles, 2), -1, dtype=torch.int32)
    got = neighborhood_attention(q, k, v, tiles, executed=executed)
    assert error(got, reference.neighborhood_attention(q, k, v, tiles.pattern)) < TOLERANCE[torch.float32]
    counted = question(neighborhood(*sizes), query_tile, key_tile)
    assert executed.sum(1).tolist() == counted.per_query_tile("multidim_static").tolist()
    if counted.block_sparse and all(n % (d * u) == 0 for n, d, u in zip(sizes[0], sizes[3], key_tile, strict=True)):
        assert executed[:, 1].sum() == 0  # masks only in partial tiles, and there is none


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("case", "tile"), [
    ("2-D corners", (8, 8)), ("1-D unequal dilation groups", (32,)), ("3-D causal, dilated, unequal groups", (4, 8, 4)),
])  # fmt: skip # few large tiles: the interpreter takes as long for a small one
def test_every_type_and_grouped_heads(case: str, tile: tuple, dtype) -> None:
    tiles = plan(pattern(*CASES[case][:5]), tile, tile)
    q, k, v = (torch.randn(1, heads, tiles.pattern.tokens, 64).to(dtype) for heads in (2, 1, 1))
    expected = reference.neighborhood_attention(q, k, v, tiles.pattern)
    assert error(neighborhood_attention(q, k, v, tiles), expected) < TOLERANCE[dtype]


def test_a_corner_sees_a_whole_window_and_an_early_causal_query_less() -> None:
    """13 x 11 tokens, window 7 x 5: the corner sees the first 7 rows and 5 columns. Causal: only itself."""
    corner = pattern((13, 11), (7, 5)).mask_of(np.array([0]))[0].reshape(13, 11)
    assert corner[:7, :5].all()
    assert corner.sum() == 35
    assert pattern((13, 11), (7, 5), causal=(True, True)).mask_of(np.array([0])).sum() == 1


def test_masks_in_every_tile_change_nothing_but_the_work() -> None:
    shape = pattern((16, 16), (8, 8), (8, 8)), (8, 8), (4, 8)
    q, k, v = (torch.randn(1, 1, 256, 32) for _ in range(3))
    executed = torch.zeros(2, 4, 2, dtype=torch.int32)
    few, all_masked = (
        neighborhood_attention(q, k, v, plan(*shape, mask_all=mask_all), executed=executed[int(mask_all)])
        for mask_all in (False, True)
    )
    assert torch.allclose(few, all_masked, atol=1e-6)
    assert executed.sum(1).tolist() == [[8, 0], [0, 8]]  # four windows of 8 x 8, two key tiles of 4 x 8 each


def drawn() -> tuple:
    """A random pattern of one to three dimensions with random tiles."""
    axes = []
    for _ in range(chance.randint(1, 3)):
        window = chance.randint(1, 12)
        dilation = chance.randint(1, 3)
        length = window * dilation + chance.randint(0, 15)
        axes.append((length, window, chance.randint(1, window), dilation, chance.random() < 0.3,
                     chance.choice([1, 2, 4, 8]), chance.choice([1, 2, 4, 8])))  # fmt: skip
    return tuple(zip(*axes, strict=True))


@pytest.mark.parametrize("_", range(80))
def test_boxes_hold_exactly_the_tiles_of_the_simulator(_: int) -> None:
    *sizes, query_tile, key_tile = drawn()
    found = boxes(pattern(*sizes), query_tile, key_tile)
    counted = question(neighborhood(*sizes), query_tile, key_tile)
    assert found.visited.tolist() == counted.per_query_tile("multidim_static").tolist(), (sizes, query_tile, key_tile)
    whole = counted.visits("multidim_static").full
    padded = any(-(-n // d) % u or n % d for n, d, u in zip(sizes[0], sizes[3], key_tile, strict=True))
    assert found.whole.sum() <= whole if padded else found.whole.sum() == whole  # padded keys must be masked


@pytest.mark.parametrize("_", range(30))
def test_masks_follow_the_definition_of_the_cascade_layer(_: int) -> None:
    *sizes, _, _ = drawn()
    if np.prod(sizes[0]) <= 1500:
        assert (pattern(*sizes).mask() == neighborhood(*sizes).attends()).all()


def test_tile_order_is_a_permutation() -> None:
    order = tile_order(pattern((7, 10), (3, 3), dilation=(2, 3)), (2, 2))
    assert sorted(order[order >= 0]) == list(range(70))
    # group (0, 0) holds rows 0 2 4 6 and columns 0 3 6 9; its first 2x2 tile is rows 0 2, columns 0 3
    assert order[:4].tolist() == [0, 3, 20, 23]


def test_patterns_that_cannot_be_are_refused() -> None:
    for wrong in (((8,), (9,)), ((8,), (4,), (5,)), ((8,), (4,), (1,), (3,))):
        with pytest.raises(ValueError, match="needs 1 <= stride <= window"):
            pattern(*wrong)


@pytest.mark.parametrize(("D", "element_bytes", "message"), [
    (256, 2, "up to 128, got 256"),
    (128, 4, "up to 32 queries and 32 keys, got 128 and 64"),
])  # fmt: skip
def test_tiles_for_which_a_device_has_too_few_registers_are_refused(D: int, element_bytes: int, message: str) -> None:
    tiles = plan(pattern((32, 16), (8, 8)), (16, 8), (8, 8))
    with pytest.raises(ValueError, match=message):
        configuration(9, D, element_bytes, tiles)
    assert configuration(None, D, element_bytes, tiles).P0 == 128  # the interpreter has no registers
