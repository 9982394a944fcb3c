"""The list-of-tiles kernel in the interpreter: any mask, against masked attention in float64."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")
pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from cascadesim.einsum_cascades.sparsity.masks import neighborhood  # noqa: E402
from cascadesim.kernels.attention import reference  # noqa: E402
from cascadesim.kernels.attention.configurations import TileShape  # noqa: E402
from cascadesim.kernels.neighborhood_attention.block_sparse import block_sparse_attention, tile_list  # noqa: E402
from cascadesim.simulator.gna.neighborhood import question  # noqa: E402

TOLERANCE = {torch.float32: 5e-7, torch.float16: 1e-3, torch.bfloat16: 5e-3}
TILES = TileShape(32, 16, 4, 2)
GENERATOR = np.random.default_rng()


MASKS = {
    "full": lambda: np.ones((64, 48), dtype=bool),
    "causal, more keys than queries": lambda: np.tri(50, 83, 33, dtype=bool),
    "random": lambda: GENERATOR.random((70, 90)) < 0.5,
    "mostly empty": lambda: GENERATOR.random((70, 90)) < 0.01,
    "empty": lambda: np.zeros((33, 20), dtype=bool),
    "2-D neighborhood": lambda: neighborhood((8, 9), (3, 5), (1, 2), (2, 1)).attends(),
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", MASKS)
def test_any_mask(name: str, dtype) -> None:
    mask = MASKS[name]()
    q, k, v = torch.randn(1, 2, mask.shape[0], 32).to(dtype), *torch.randn(2, 1, 1, mask.shape[1], 32).to(dtype)
    got = block_sparse_attention(q, k, v, tile_list(mask, TILES))
    expected = reference.attention(q, k, v, mask=torch.from_numpy(mask))
    assert not torch.isnan(got).any()
    assert (got.double() - expected).norm() <= TOLERANCE[dtype] * expected.norm()
    assert (got[0, :, ~mask.any(1)] == 0).all()


def test_it_executes_the_flat_tiles_that_the_simulator_counts() -> None:
    pattern = neighborhood((9, 11), (4, 5), (2, 1))
    counted = question(pattern, (4, 8), (4, 4)).per_query_tile("flat_union")
    assert tile_list(pattern.attends(), TILES).executed.tolist() == counted.tolist()


def test_tiles_without_a_masked_pair_come_first_and_carry_no_mask() -> None:
    tiles = tile_list(np.tri(64, 64, dtype=bool), TILES)
    assert tiles.rows.tolist() == [[0, 0, 2], [2, 4, 6]]  # queries 32..63 see keys 0..31 whole, 32..63 in part
    assert tiles.columns.tolist() == [0, 1, 0, 1, 2, 3]


def test_what_the_kernel_is_not_made_for_is_said() -> None:
    q = torch.randn(1, 1, 32, 256)
    with pytest.raises(ValueError, match="from 1 to 128, got 256"):
        block_sparse_attention(q, q, q, tile_list(np.ones((32, 32), dtype=bool), TILES))
