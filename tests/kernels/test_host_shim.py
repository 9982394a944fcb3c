"""The shim that runs CUDA C++ on a CPU: barriers, exchanges within a warp, matrix fragments, 16-bit types."""

from __future__ import annotations

from ctypes import c_int, c_void_p

import numpy as np
import pytest

from cascadesim.kernels.cuda import host

pytestmark = pytest.mark.skipif(
    host.compiler() is None, reason="CUDA C++ runs on a CPU through a C++ compiler: install g++ or clang++"
)
SOURCE = """
#include "instructions.cuh"
extern "C" __global__ void from_next(const int* in, int* out, int wait) {
    __shared__ int slots[64];
    slots[threadIdx.x] = in[blockIdx.x * blockDim.x + threadIdx.x];
    if (wait) __syncthreads();
    out[blockIdx.x * blockDim.x + threadIdx.x] = slots[(threadIdx.x + 1) % blockDim.x];
    __syncthreads();
}
extern "C" __global__ void early_exit(int* out) {
    if (threadIdx.x >= 40) return;
    __syncthreads();
    out[threadIdx.x] = threadIdx.x;
}
extern "C" __global__ void stuck(int* out) {
    if (threadIdx.x < 16) __syncthreads();
    out[threadIdx.x] = __shfl_xor_sync(0xffffffff, threadIdx.x, 1);
}
extern "C" __global__ void exchanges(const int* in, int* out) {
    int lane = threadIdx.x, value = in[lane];
    out[lane] = __shfl_xor_sync(0xffffffff, value, 5);
    out[32 + lane] = __shfl_up_sync(0xffffffff, value, 3);
    out[64 + lane] = __ballot_sync(0xffffffff, value % 2);
    out[96 + lane] = __match_any_sync(0xffffffff, value);
    out[128 + lane] = __popc(value);
    out[160 + lane] = __ffs(value);
}
template <class Type>
DEVICE void multiply(const unsigned* a, const unsigned* b, float* c) {
    unsigned mine[4];
    float sum[4];
    for (int i = 0; i < 4; ++i) mine[i] = a[4 * threadIdx.x + i], sum[i] = c[4 * threadIdx.x + i];
    Type::product(sum, mine, b[2 * threadIdx.x], b[2 * threadIdx.x + 1]);
    for (int i = 0; i < 4; ++i) c[4 * threadIdx.x + i] = sum[i];
}
extern "C" __global__ void product_fp16(const unsigned* a, const unsigned* b, float* c) { multiply<Fp16>(a, b, c); }
extern "C" __global__ void product_bf16(const unsigned* a, const unsigned* b, float* c) { multiply<Bf16>(a, b, c); }
extern "C" __global__ void matrices(const unsigned short* in, unsigned* out, int transposed) {
    unsigned to[4];
    if (transposed) load_matrices_transposed(to, in + 8 * threadIdx.x);
    else load_matrices(to, in + 8 * threadIdx.x);
    for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = to[i];
}
extern "C" __global__ void strided(const unsigned short* in, unsigned* out, int stride) {
    unsigned to[4];
    load_matrices(to, in + stride * threadIdx.x);
    for (int i = 0; i < 4; ++i) out[4 * threadIdx.x + i] = to[i];
}
extern "C" __global__ void copies(const int* in, int* out, int bytes) {
    __shared__ int slots[4];
    for (int i = 0; i < 4; ++i) slots[i] = -1;
    copy_async(slots, in, bytes);
    for (int i = 0; i < 4; ++i) out[i] = slots[i];
    copies_done();
    for (int i = 0; i < 4; ++i) out[4 + i] = slots[i];
}
extern "C" __global__ void pairs(const float* in, unsigned* out, int half) {
    int first = 2 * (blockIdx.x * blockDim.x + threadIdx.x);
    out[first / 2] = half ? Fp16::pair(in[first], in[first + 1]) : Bf16::pair(in[first], in[first + 1]);
}
extern "C" __global__ void values(float* out, int half) {
    unsigned bits = blockIdx.x * blockDim.x + threadIdx.x;
    out[bits] = half ? shim::fp16_value(bits) : shim::bf16_value(bits);
}
"""
FUNCTIONS = ("from_next", "early_exit", "stuck", "exchanges", "product_fp16", "product_bf16", "matrices", "strided",
             "copies", "pairs", "values")  # fmt: skip
GENERATOR = np.random.default_rng()


@pytest.fixture(scope="module")
def library():
    return host.compiled(SOURCE, FUNCTIONS)


@pytest.fixture(scope="module")
def run(library):
    def call(name: str, blocks: int, threads: int, *arguments) -> None:
        as_c = [c_int(each) if isinstance(each, int) else c_void_p(each.ctypes.data) for each in arguments]
        host.run(library, name, (blocks,), threads, as_c)

    return call


def integers(*shape: int) -> np.ndarray:
    return GENERATOR.integers(-100, 100, shape, dtype=np.int32)


@pytest.mark.slow
def test_a_barrier_makes_what_others_wrote_visible(run) -> None:
    given, got = integers(3, 64), np.zeros((3, 64), np.int32)
    run("from_next", 3, 64, given, got, 1)
    assert (got == np.roll(given, -1, axis=1)).all()


def test_without_its_barrier_the_same_kernel_fails(run) -> None:
    """Blocks run their threads forwards and backwards in turn: one of the two reads what is not there yet."""
    given, got = np.arange(128, dtype=np.int32).reshape(2, 64), np.zeros((2, 64), np.int32)
    run("from_next", 2, 64, given, got, 0)
    assert (got != np.roll(given, -1, axis=1)).any()


def test_threads_that_returned_are_not_waited_for(run) -> None:
    got = np.full(64, -1, np.int32)
    run("early_exit", 1, 64, got)
    assert (got[:40] == np.arange(40)).all()
    assert (got[40:] == -1).all()


def test_threads_that_wait_in_vain_are_an_error(run) -> None:
    with pytest.raises(RuntimeError, match="never arrive"):
        run("stuck", 1, 32, np.zeros(32, np.int32))


def test_exchanges_within_a_warp(run) -> None:
    given, got = integers(32) % 7, np.zeros((6, 32), np.int32)
    run("exchanges", 1, 32, given, got)
    lane = np.arange(32)
    weights = np.left_shift(np.uint32(1), lane.astype(np.uint32))
    assert (got[0] == given[lane ^ 5]).all()
    assert (got[1] == given[np.where(lane < 3, lane, lane - 3)]).all()
    assert (got[2].view(np.uint32) == weights[given % 2 == 1].sum(dtype=np.uint32)).all()
    same = given[:, None] == given[None, :]
    assert (got[3].view(np.uint32) == (same * weights).sum(1, dtype=np.uint32)).all()
    assert got[4].tolist() == [int(value).bit_count() for value in given]
    assert got[5].tolist() == [(int(value) & -int(value)).bit_length() for value in given]


def fragments(matrix: np.ndarray, rows, columns) -> np.ndarray:
    """Bits of a lane's elements, two in a register, lower one first."""
    lane = np.arange(32)[:, None]
    taken = matrix[rows(lane), columns(lane)].astype(np.uint32)
    return np.ascontiguousarray(taken[:, ::2] | taken[:, 1::2] << 16)


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_products_have_the_documented_fragments(run, kind: str) -> None:
    """PTX ISA, fragments of mma.m16n8k16 for 16-bit types: group = lane / 4, thread = lane % 4; small integers, so
    every sum is exact."""
    a, b, c = (GENERATOR.integers(-8, 9, shape) for shape in ((16, 16), (16, 8), (16, 8)))
    bits = (lambda x: x.astype(np.float16).view(np.uint16)) if kind == "fp16" else (
        lambda x: (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16))  # fmt: skip
    i, j = np.arange(8), np.arange(4)
    left = fragments(bits(a), lambda n: n // 4 + i // 2 % 2 * 8, lambda n: n % 4 * 2 + i % 2 + i // 4 * 8)
    right = fragments(bits(b), lambda n: n % 4 * 2 + j % 2 + j // 2 * 8, lambda n: n // 4 + 0 * j)
    lane = np.arange(32)[:, None]
    rows, columns = lane // 4 + j // 2 * 8, lane % 4 * 2 + j % 2
    total = np.ascontiguousarray(c[rows, columns].astype(np.float32))
    run(f"product_{kind}", 1, 32, left, right, total)
    assert (total == (a @ b + c)[rows, columns]).all()


@pytest.mark.parametrize("transposed", [False, True])
def test_matrices_are_loaded_as_documented(run, transposed: bool) -> None:
    """PTX ISA, ldmatrix: lane i gets elements 2 (i % 4) and the next of row i / 4, of each of the four matrices."""
    given = GENERATOR.integers(0, 2**16, (4, 8, 8), dtype=np.uint16)
    got = np.zeros((32, 4), np.uint32)
    run("matrices", 1, 32, given, got, int(transposed))
    each = given.transpose(0, 2, 1) if transposed else given
    pairs = each.astype(np.uint32)[:, :, ::2] | each.astype(np.uint32)[:, :, 1::2] << 16
    assert (got == pairs.reshape(4, 32).T).all()


def test_rows_in_the_same_banks_are_counted(library) -> None:
    """Rows 128 bytes apart: all 8 of each of the 4 matrices in the same banks, so 7 of them come late. Rows 16 bytes
    apart: none."""
    for stride, expected in ((64, 4 * 7), (8, 0)):
        given, got = np.zeros(32 * stride, np.uint16), np.zeros(128, np.uint32)
        host.run(library, "strided", (1,), 32, [c_void_p(given.ctypes.data), c_void_p(got.ctypes.data), c_int(stride)])
        assert library.host_bank_conflicts() == expected


def test_copies_arrive_when_they_are_waited_for(run) -> None:
    given, got = integers(4), np.zeros((2, 4), np.int32)
    run("copies", 1, 1, given, got, 8)
    assert got.tolist() == [[-1] * 4, [given[0], given[1], 0, 0]]


def test_16_bit_types_have_their_values(run) -> None:
    got = np.zeros((2, 2**16), np.float32)
    run("values", 256, 256, got[0], 1)
    run("values", 256, 256, got[1], 0)
    bits = np.arange(2**16, dtype=np.uint32)
    assert np.array_equal(got[0], bits.astype(np.uint16).view(np.float16).astype(np.float32), equal_nan=True)
    assert np.array_equal(got[1], (bits << 16).view(np.float32), equal_nan=True)


def test_16_bit_types_are_rounded_to_nearest_even(run) -> None:
    """Against NumPy, with values half-way between two numbers, subnormal ones and overflow; bf16 against torch's."""
    torch = pytest.importorskip("torch", reason="bf16 is compared with torch: pip install 'cascadesim[kernels]'")
    chosen = [1 + 2.0**-11, 1 + 3 * 2.0**-11, 65504, 65519, 65520, 1e9, 2.0**-24, 2.0**-25, 3 * 2.0**-26, 0, -0.0,
              np.inf, -np.inf, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 2.0**-14 * (1 - 2.0**-12)]  # fmt: skip
    scales = np.exp2(GENERATOR.integers(-30, 20, 2048 - len(chosen)))
    given = np.concatenate([chosen, GENERATOR.standard_normal(len(scales)) * scales]).astype(np.float32)
    got = np.zeros((2, 2048), np.uint16)
    run("pairs", 8, 128, given, got[0], 1)
    run("pairs", 8, 128, given, got[1], 0)
    with np.errstate(over="ignore"):
        assert (got[0] == given.astype(np.float16).view(np.uint16)).all()
    assert (got[1] == torch.from_numpy(given).bfloat16().view(torch.int16).numpy().view(np.uint16)).all()
