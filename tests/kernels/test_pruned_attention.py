"""SpAtten's mechanisms in the interpreter against float64."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")
pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from cascadesim.kernels.attention.configurations import TileShape  # noqa: E402
from cascadesim.kernels.attention.triton import attention  # noqa: E402
from cascadesim.kernels.pruned_attention import reference, triton  # noqa: E402
from cascadesim.kernels.token_rows.triton import gather_rows  # noqa: E402

TOLERANCE = {torch.float32: 5e-7, torch.float16: 1e-3, torch.bfloat16: 5e-3}
TILES = TileShape(32, 16, 4, 2)


def error(got, expected) -> float:
    assert not torch.isnan(got.float()).any()
    return float((got.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_kept_tokens_and_heads_are_attention_over_what_is_kept(dtype) -> None:
    """Four query heads share two key heads; 37 queries and 13 kept keys end inside a tile."""
    q, k, v = (torch.randn(2, *shape, 40).to(dtype) for shape in ((4, 37), (2, 41), (2, 41)))
    tokens = torch.stack([torch.randperm(41)[:13].sort().values for _ in range(2)]).int()
    heads = torch.tensor([0, 3])
    got = triton.pruned_attention(q, k, v, tokens, heads, tiles=TILES)
    assert error(got, reference.pruned_attention(q, k, v, tokens, heads)) < TOLERANCE[dtype]
    assert (got[:, 1:3] == 0).all()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_importance_of_keys_sums_to_the_number_of_queries(dtype, causal: bool) -> None:
    q, k, v = (torch.randn(*shape).to(dtype) for shape in ((1, 4, 90, 40), (1, 2, 131, 40), (1, 2, 131, 40)))
    lse = torch.empty(1, 4, 90)
    attention(q, k, v, causal=causal, lse=lse)
    got = triton.column_sums(q, k, lse, causal=causal)
    assert error(got, reference.column_sums(q, k, causal=causal)) < 5e-7
    assert torch.allclose(got.double().sum(-1), torch.tensor(90.0).double(), rtol=1e-6)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_importance_of_heads(dtype) -> None:
    out = torch.randn(2, 3, 37, 20).to(dtype)
    assert error(triton.head_importance(out), reference.head_importance(out)) < 5e-7


@pytest.mark.parametrize("kept", [0, 1, 700, 1499, 1500])
def test_the_most_important_tokens_in_order(kept: int) -> None:
    importance = torch.rand(2, 1500)
    assert (triton.top_tokens(importance, kept) == reference.top_tokens(importance, kept)).all()


@pytest.mark.slow
def test_of_equally_important_tokens_the_first_stay() -> None:
    importance = torch.tensor([[2.0, 1.0, 3.0, 1.0, 1.0, 0.0]])
    assert triton.top_tokens(importance, 4).tolist() == [[0, 1, 2, 3]]
    many = torch.randint(0, 3, (3, 1100)).float()
    assert (triton.top_tokens(many, 600) == reference.top_tokens(many, 600)).all()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_an_empty_keep_set_gives_zeros(dtype) -> None:
    q, k, v = (torch.randn(1, 2, 20, 16).to(dtype) for _ in range(3))
    none = torch.empty(1, 0, dtype=torch.int32)
    assert (triton.pruned_attention(q, k, v, none, torch.tensor([0, 1]), tiles=TILES) == 0).all()
    assert (triton.pruned_attention(q, k, v, torch.zeros(1, 1).int(), torch.empty(0).int(), tiles=TILES) == 0).all()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("by_tile", [True, False])
def test_values_of_small_probability_are_not_fetched(by_tile: bool, dtype) -> None:
    """Two tiles of keys far from the queries: no probability of theirs reaches 1e-3, so two of four tiles are
    fetched."""
    q, k, v = (
        torch.ones(1, 1, 32, 32).to(dtype),
        torch.randn(1, 1, 64, 32).to(dtype),
        torch.randn(1, 1, 64, 32).to(dtype),
    )
    k[:, :, 16:48] -= 4
    everything = torch.arange(64)[None].int()
    fetched = torch.zeros(1, 1, 1, dtype=torch.int32)
    got = triton.pruned_attention(q, k, v, everything, torch.tensor([0]), value_threshold=1e-3, by_tile=by_tile,
                                  tiles=TILES, fetched=fetched)  # fmt: skip
    tile = (TILES.P0, TILES.M0) if by_tile else (1, 1)
    assert error(got, reference.pruned_attention(q, k, v, everything, torch.tensor([0]), value_threshold=1e-3,
                                                 tile=tile)) < TOLERANCE[dtype]  # fmt: skip
    assert fetched.item() == (2 if by_tile else 4)


def test_compaction_then_dense_attention_is_pruned_attention() -> None:
    q, k, v = (torch.randn(1, 2, 50, 32) for _ in range(3))
    tokens = reference.top_tokens(torch.rand(1, 50), 20)
    compact = attention(q, gather_rows(k, tokens[0]), gather_rows(v, tokens[0]), tiles=TILES)
    assert error(triton.pruned_attention(q, k, v, tokens, torch.tensor([0, 1]), tiles=TILES), compact.double()) < 5e-7


def test_planes_hold_every_code_once() -> None:
    codes = torch.arange(-128, 128, dtype=torch.int8).reshape(4, 64)
    upper, lower = triton.planes(codes)
    assert upper.shape == (4, 32)  # two codes per byte
    low, high = (upper & 15).int(), (upper >> 4).int()
    signed = torch.cat([low, high], -1) ^ 8
    rebuilt = (signed - 8) * 16 + torch.cat([(lower & 15).int(), (lower >> 4).int()], -1)
    assert (rebuilt == codes.int()).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("sharpness", [0.05, 1.0, 8.0])
def test_lower_bits_are_used_exactly_where_no_probability_stands_out(sharpness: float, dtype) -> None:
    """float32 knows a score, and so its exponential, to 2^-23 of the score: 20 of them at sharpness 8."""
    q, k, v = sharpness * torch.randn(2, 4, 64), torch.randn(2, 2, 150, 64), torch.randn(2, 2, 150, 64)
    q, v = q.to(dtype), v.to(dtype)
    codes, key_scale = reference.quantized(k)
    got, need = triton.progressive_decode(q, codes, key_scale, v, 0.1)
    expected, expected_need = reference.progressive_decode(q, codes, key_scale, v, 0.1)
    assert (need.bool() == expected_need).all()
    assert error(got, expected) < max(TOLERANCE[dtype], 20 * 2**-23 * (sharpness == 8.0))
    assert need.all() or sharpness > 0.05
