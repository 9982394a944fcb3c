"""CUDA C++ kernels on the CPU, through the host shim: the same text that GPUs run, against float64."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
from itertools import product

import pytest

torch = pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")
pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from cascadesim.kernels.attention import mma  # noqa: E402
from cascadesim.kernels.attention import reference as attention_reference  # noqa: E402
from cascadesim.kernels.cuda import host  # noqa: E402
from cascadesim.kernels.cuda.launch import launch  # noqa: E402
from cascadesim.kernels.cuda.source import CudaFunction, Source  # noqa: E402
from cascadesim.kernels.inputs import InputError  # noqa: E402
from cascadesim.kernels.pruned_attention import reference, selection  # noqa: E402

pytestmark = pytest.mark.skipif(
    host.compiler() is None, reason="CUDA C++ runs on a CPU through a C++ compiler: install g++ or clang++"
)
TOLERANCE = {torch.float16: 1e-3, torch.bfloat16: 5e-3}  # relative L2 error: the rounding of the type


def error(got, expected) -> float:
    assert not torch.isnan(got).any()
    return float((got.double() - expected).norm() / expected.norm())


def inputs(dtype, heads: int, key_heads: int, P: int, M: int, D: int, B: int = 1):
    return (torch.randn(B, h, n, D).to(dtype) for h, n in ((heads, P), (key_heads, M), (key_heads, M)))


@pytest.mark.slow
def test_the_mma_kernel_is_attention() -> None:
    q, k, v = inputs(torch.float16, 1, 1, 128, 128, 64)
    assert error(mma.attention(q, k, v), attention_reference.attention(q, k, v)) < TOLERANCE[torch.float16]


@pytest.mark.slow
@pytest.mark.parametrize("D", mma.TILES)
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_ragged_tails_and_grouped_heads(dtype, causal: bool, D: int) -> None:
    """150 queries end inside the second block, 167 keys inside the a tile."""
    q, k, v = inputs(dtype, 2, 1, 150, 167, D)
    expected = attention_reference.attention(q, k, v, causal=causal)
    assert error(mma.attention(q, k, v, causal=causal), expected) < TOLERANCE[dtype]
    assert host.library(mma.SOURCE).host_bank_conflicts() == 0


@pytest.mark.slow
@pytest.mark.parametrize("D", mma.TILES)
def test_queries_without_a_key_get_zeros(D: int) -> None:
    """70 queries, 40 keys, causal: the first 30 see none; the second batch entry has no keys at all."""
    q, k, v = inputs(torch.float16, 1, 1, 70, 40, D, B=3)
    lengths = torch.tensor([40, 0, 33])
    got = mma.attention(q, k, v, causal=True, key_lengths=lengths)
    assert (got[0, :, :30] == 0).all()
    assert (got[1] == 0).all()
    expected = attention_reference.attention(q, k, v, causal=True, key_lengths=lengths)
    assert error(got, expected) < TOLERANCE[torch.float16]


def test_large_scores_do_not_overflow() -> None:
    """Scores reach 4e3, far beyond the exponent of float32: exp(88) is its largest."""
    q, k, v = inputs(torch.float16, 1, 1, 64, 96, 64)
    got = mma.attention(30 * q, 30 * k, v)
    assert error(got, attention_reference.attention(30 * q, 30 * k, v)) < TOLERANCE[torch.float16]


def test_what_the_mma_kernel_is_not_made_for_is_said() -> None:
    for dtype, heads, D, message in (
        (torch.float32, 1, 64, "float16, bfloat16; got q float32"),
        (torch.float16, 1, 32, "64 or 128; got 32 and 32"),
        (torch.float16, 3, 64, "3 query heads are no multiple of 2"),
    ):
        q, k, v = inputs(dtype, heads, 2 if heads == 3 else 1, 16, 16, D)
        with pytest.raises(InputError, match=message):
            mma.attention(q, k, v)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 1, 511, 512, 1499, 1500])
def test_the_most_important_tokens_in_order(kept: int) -> None:
    importance = torch.randn(2, 1500)
    assert (selection.top_tokens_in_cuda(importance, kept) == reference.top_tokens(importance, kept)).all()


def test_of_equally_important_tokens_the_first_stay() -> None:
    importance = torch.tensor([[2.0, 1.0, 3.0, 1.0, 1.0, 0.0]])
    assert selection.top_tokens_in_cuda(importance, 4).tolist() == [[0, 1, 2, 3]]
    zeros = torch.tensor([[0.0, -0.0, -1.0, 0.0]])  # both zeros are equal
    assert selection.top_tokens_in_cuda(zeros, 2).tolist() == [[0, 1]]
    many = torch.randint(-1, 2, (3, 1100)).float()
    for kept in (1, 400, 1100):
        assert (selection.top_tokens_in_cuda(many, kept) == reference.top_tokens(many, kept)).all()


def test_values_that_differ_in_their_last_bit_are_told_apart() -> None:
    close = torch.ones(600).view(torch.int32) + torch.randperm(600).int()
    importance = close.view(torch.float32)[None]
    assert (selection.top_tokens_in_cuda(importance, 77) == reference.top_tokens(importance, 77)).all()


def test_more_tokens_than_there_are_cannot_be_kept() -> None:
    with pytest.raises(ValueError, match="from 0 to 5, got 6"):
        selection.top_tokens_in_cuda(torch.rand(1, 5), 6)


def microbenchmark(source: str, name: str) -> CudaFunction:
    return CudaFunction(Source("microbenchmarks", source), name)


def test_arithmetic_chains_compute_what_they_issue() -> None:
    """x -> a x + b, and x -> 2^x, twice; 8 chains are summed. Lane 0 starts from all 8 inputs."""
    x = torch.rand(8)
    for name, expected in (
        ("fma_rate", (x * 0.5 + 1) * 0.5 + 1),
        ("exponential_rate", x.exp2().exp2()),
        ("fma_and_exponential_rate", x.exp2().exp2() + x / 2**8 + 2 * (1 - 2**-8)),  # 8 multiply-adds
    ):
        out = torch.zeros(32)
        launch(microbenchmark("issue_mix", name), (1,), 32, x, out, 2, 0.5, 1.0)
        assert torch.allclose(out, expected.sum().expand(32), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_products_add_up(name: str) -> None:
    """All operands 1: 3 turns of 16 products, in 8 chains of 4 accumulators in each lane."""
    ones = torch.ones(32 * 6 * 2).to({"fp16": torch.float16, "bf16": torch.bfloat16}[name])
    out = torch.zeros(64)
    launch(microbenchmark("product_rate", f"product_rate_{name}"), (1,), 64, ones, out, 3)
    assert (out == 3 * 16 * 8 * 4).all()


def test_products_and_exponentials_side_by_side() -> None:
    """As above, and in 8 chains 0 -> 2^-0 = 1 -> 2^-1 = 0.5 -> 2^-0.5."""
    out = torch.zeros(64)
    ones = torch.ones(32 * 6 * 2).half()
    launch(microbenchmark("product_rate", "product_and_exponential_rate"), (1,), 64, ones, out, 3)
    assert torch.allclose(out, torch.tensor(3 * 16 * 8 * 4 + 8 * 2**-0.5).expand(64))


def guarded(tensor):
    """A copy that ends where a page begins that nobody may touch."""
    size = tensor.numel() * tensor.element_size()
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    area = mmap.mmap(-1, pages + mmap.PAGESIZE)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(area))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(begin + pages), mmap.PAGESIZE, 0) == 0
    copy = torch.frombuffer(area, dtype=tensor.dtype, count=tensor.numel(), offset=pages - size).view(tensor.shape)
    return copy.copy_(tensor)


def run_guarded() -> None:
    """In a process of its own, whose tensors all end at such a page."""
    torch.empty_like = lambda like: guarded(torch.zeros(like.shape, dtype=like.dtype))
    torch.empty = lambda *shape, dtype, device: guarded(torch.zeros(shape, dtype=dtype))
    for D, causal in product(mma.TILES, (False, True)):
        q, k, v = (guarded(each) for each in inputs(torch.float16, 1, 1, 77, 83, D))
        mma.attention(q, k, v, causal=causal, key_lengths=guarded(torch.tensor([83], dtype=torch.int32)))
    selection.top_tokens_in_cuda(guarded(torch.rand(1, 700)), 123)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs a process that can fork")
def test_nothing_beyond_the_tensors_is_touched() -> None:
    """On a GPU that would be an illegal memory access; here it ends the process by a signal."""
    process = multiprocessing.get_context("fork").Process(target=run_guarded)
    process.start()
    process.join()
    assert process.exitcode == 0


def test_chases_follow_the_chain() -> None:
    follow = torch.randperm(2048).int()
    expected = torch.arange(32)
    for _ in range(7):
        expected = follow[expected.long()]
    for name in ("pointer_chase", "shared_chase"):
        out = torch.zeros(32, dtype=torch.int32)
        launch(microbenchmark("memory_latency", name), (1,), 32, follow, out, 7)
        assert (out == expected).all()


def test_every_addition_arrives() -> None:
    sums = torch.zeros(5)
    launch(microbenchmark("atomics", "atomic_add_rate"), (2,), 64, sums, 3, 5)
    assert sums.sum() == 2 * 64 * 3
