"""Attention cascades in Triton's interpreter against their definition in float64."""

from __future__ import annotations

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")
pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from cascadesim.kernels.attention import CASCADES, reference  # noqa: E402
from cascadesim.kernels.attention.configurations import TileShape  # noqa: E402
from cascadesim.kernels.attention.triton import attention  # noqa: E402

TOLERANCE = {torch.float32: 5e-7, torch.float16: 1e-3, torch.bfloat16: 5e-3}  # relative L2 error; the type's rounding
TILES = TileShape(64, 32, 4, 2)


def random(*shape: int, dtype=torch.float32):
    return torch.randn(*shape).to(dtype)


def error(got, expected) -> float:
    assert not torch.isnan(got).any()
    return float((got.double() - expected).norm() / expected.norm())


@pytest.mark.slow
def test_one_pass_attention_is_attention() -> None:
    q, k, v = (random(1, 2, 128, 64) for _ in range(3))
    assert error(attention(q, k, v), reference.attention(q, k, v)) < TOLERANCE[torch.float32]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("cascade", CASCADES)
def test_every_cascade_in_every_type(cascade: str, causal: bool, dtype) -> None:
    q, k, v = (random(1, 1, 160, 64, dtype=dtype) for _ in range(3))
    got = attention(q, k, v, causal=causal, cascade=cascade, tiles=TILES)
    assert got.dtype == dtype
    assert error(got, reference.attention(q, k, v, causal=causal)) < TOLERANCE[dtype]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("cascade", CASCADES)
def test_ragged_tails_grouped_heads_and_odd_head_dimensions(cascade: str, dtype) -> None:
    q, k, v = (random(*shape, dtype=dtype) for shape in ((1, 4, 77, 40), (1, 2, 83, 40), (1, 2, 83, 24)))
    for causal in (False, True):
        got = attention(q, k, v, causal=causal, cascade=cascade, tiles=TILES)
        assert error(got, reference.attention(q, k, v, causal=causal)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("cascade", CASCADES)
def test_queries_without_a_key_get_zeros(cascade: str, dtype) -> None:
    """70 queries, 40 keys, causal: the first 30 see none; the second batch entry has no keys at all."""
    q, k, v = (random(2, 2, rows, 32, dtype=dtype) for rows in (70, 40, 40))
    lengths = torch.tensor([40, 0])
    got = attention(q, k, v, causal=True, key_lengths=lengths, cascade=cascade, tiles=TILES)
    assert (got[0, :, :30] == 0).all()
    assert (got[1] == 0).all()
    expected = reference.attention(q, k, v, causal=True, key_lengths=lengths)
    assert error(got, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("cascade", CASCADES[1:])
def test_dividing_before_the_product_with_values_changes_nothing_else(cascade: str, dtype) -> None:
    q, k, v = (random(1, 1, 96, 32, dtype=dtype) for _ in range(3))
    got = attention(q, k, v, causal=True, cascade=cascade, divide_first=True, tiles=TILES)
    assert error(got, reference.attention(q, k, v, causal=True)) < TOLERANCE[dtype]


def test_lengths_of_a_batch_end_anywhere_in_a_tile() -> None:
    q, k, v = (random(4, 1, 64, 32) for _ in range(3))
    lengths = torch.tensor([1, 31, 32, 63])
    got = attention(q, k, v, key_lengths=lengths, tiles=TILES)
    assert error(got, reference.attention(q, k, v, key_lengths=lengths)) < TOLERANCE[torch.float32]


def test_large_scores_do_not_overflow() -> None:
    """Scores reach 4e4, and float32 knows them to 2^-24 of that: where two of a row are close, probabilities are known
    to 4e-3."""
    q, k, v = 100 * random(1, 1, 64, 32), 100 * random(1, 1, 64, 32), random(1, 1, 64, 32)
    assert error(attention(q, k, v, tiles=TILES), reference.attention(q, k, v)) < 4e-3


def test_denominators_are_kept_in_log2() -> None:
    q, k, v = (random(1, 2, 64, 32) for _ in range(3))
    lse = torch.empty(1, 2, 64)
    attention(q, k, v, tiles=TILES, lse=lse)
    scores = q.double() @ k.double().transpose(-1, -2) / 32**0.5
    assert torch.allclose(lse.double() * torch.log(torch.tensor(2.0)).double(), torch.logsumexp(scores, -1), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"cascade": "attention-4pass"}, "no cascade"), ({"scale": float("nan")}, "scale must be a number from")],
)
def test_what_does_not_fit_is_said(change: dict, message: str) -> None:
    q = random(1, 1, 16, 16)
    with pytest.raises(ValueError, match=message):
        attention(q, q, q, **change)


@pytest.mark.slow
def test_a_call_on_the_cpu_repairs_the_interpreter_by_itself() -> None:
    """Unrepaired, Triton's interpreter multiplies the bit patterns of bf16: an error of 10^9."""
    code = """
import torch
from cascadesim.kernels.attention import reference, triton
q, k, v = torch.randn(3, 1, 1, 64, 32).bfloat16()
expected = reference.attention(q, k, v)
print(float((triton.attention(q, k, v).double() - expected).norm() / expected.norm()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 5e-3
