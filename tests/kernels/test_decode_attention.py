"""Split-key decoding in the interpreter against float64."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")
pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from cascadesim.kernels.decode_attention import reference  # noqa: E402
from cascadesim.kernels.decode_attention.triton import decode_attention  # noqa: E402

TOLERANCE = {torch.float32: 5e-7, torch.float16: 1e-3, torch.bfloat16: 5e-3}


def error(got, expected) -> float:
    assert not torch.isnan(got).any()
    return float((got.double() - expected).norm() / expected.norm())


def test_one_token_of_eight_heads_over_two_key_heads() -> None:
    q, k, v = torch.randn(1, 8, 64), torch.randn(1, 2, 300, 64), torch.randn(1, 2, 300, 64)
    lengths = torch.tensor([300])
    assert error(decode_attention(q, k, v, lengths), reference.decode_attention(q, k, v, lengths)) < 5e-7


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("splits", [1, 3, 8])
def test_the_number_of_splits_changes_nothing(splits: int, dtype) -> None:
    q, k, v = (torch.randn(*shape).to(dtype) for shape in ((2, 6, 40), (2, 2, 333, 40), (2, 2, 333, 40)))
    lengths = torch.tensor([333, 65])
    got = decode_attention(q, k, v, lengths, splits=splits)
    assert error(got, reference.decode_attention(q, k, v, lengths)) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_pages_in_any_order(dtype) -> None:
    """Three entries of 5, 0 and 40 keys in pages of 16; a page belongs to one entry; -1 where there is none."""
    cache = torch.randn(2, 7, 16, 2, 32).to(dtype)
    pages = torch.tensor([[6, -1, -1], [-1, -1, -1], [2, 0, 5]])
    q, lengths = torch.randn(3, 4, 32).to(dtype), torch.tensor([5, 0, 40])
    got = decode_attention(q, cache[0], cache[1], lengths, pages=pages, splits=2)
    assert error(got, reference.decode_attention(q, cache[0], cache[1], lengths, pages=pages)) < TOLERANCE[dtype]
    assert (got[1] == 0).all()
