"""What `repair` promises about Triton's interpreter: a Triton release that breaks it fails here, loudly."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")
triton = pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

import triton.language as tl  # noqa: E402

from cascadesim.kernels.interpreter import repair  # noqa: E402


@triton.jit
def product(A, B, OUT, N: tl.constexpr):
    row, column = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
    tl.store(OUT + row * N + column, tl.dot(tl.load(A + row * N + column), tl.load(B + row * N + column)))


@triton.jit
def rounding(X, OUT, N: tl.constexpr):
    place = tl.arange(0, N)
    tl.store(OUT + place, tl.load(X + place).to(tl.bfloat16))


@triton.jit
def turns(COUNT, OUT):
    total = 0
    for turn in range(0, tl.load(COUNT)):
        total += turn
    tl.store(OUT, total)


@pytest.fixture(autouse=True)
def _interpreter() -> None:
    repair()


def test_products_of_bf16_are_those_of_its_values() -> None:
    a, b = torch.randn(2, 32, 32).bfloat16()
    out = torch.empty(32, 32)
    product[(1,)](a, b, out, N=32)
    assert torch.allclose(out, a.float() @ b.float(), rtol=1e-5, atol=1e-5)


def test_bf16_is_rounded_to_nearest_even() -> None:
    x = torch.cat([torch.randn(4094), torch.tensor([1 + 2**-8, 1 + 3 * 2**-8])])  # the last two lie half-way
    out = torch.empty(4096, dtype=torch.bfloat16)
    rounding[(1,)](x, out, N=4096)
    assert (out == x.bfloat16()).all()


def test_a_loop_may_end_at_a_loaded_bound() -> None:
    out = torch.zeros(1, dtype=torch.int32)
    turns[(1,)](torch.tensor([5], dtype=torch.int32), out)
    assert out.item() == 0 + 1 + 2 + 3 + 4
