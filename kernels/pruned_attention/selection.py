"""The tokens with the largest importance, exactly: a radix search for the k-th value, then compaction in order.

The bits of a float, those of negative values turned over, are integers in the order of the values: 32 or 64 counting
passes find the k-th largest. Survivors keep their order; of equal ones the first stay (SpAtten, section IV-B). One
program per batch entry. In CUDA C++ (cuda/top_k.cu), the search takes 8 bits at a time.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl

from cascadesim.kernels.cuda import launch as cuda
from cascadesim.kernels.cuda.source import CudaFunction, Source
from cascadesim.kernels.inputs import FLOATS, launch, rankable

NAME = "top tokens"
BLOCK, WARPS = 1024, 8
CUDA_FUNCTION = CudaFunction(Source("pruned_attention", "top_k"), "top_k")
CUDA_THREADS = 512  # as in the source


@triton.jit
def ordered(IMPORTANCE, place, tokens, BITS: tl.constexpr):
    """Signed integers in the order of the values; -0 is 0."""
    value = tl.load(IMPORTANCE + place, mask=place < tokens, other=0.0)
    if BITS == 64:
        bits = tl.where(value == 0.0, 0.0, value).to(tl.int64, bitcast=True)
        return tl.where(bits < 0, bits ^ 0x7FFFFFFFFFFFFFFF, bits)
    else:
        value = value.to(tl.float32)
        bits = tl.where(value == 0.0, 0.0, value).to(tl.int32, bitcast=True)
        return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


@triton.jit
def count_at_least(IMPORTANCE, tokens, bound, BLOCK: tl.constexpr, BITS: tl.constexpr):
    count = tl.zeros([BLOCK], tl.int32)
    for block in tl.range(0, tl.cdiv(tokens, BLOCK)):
        place = block * BLOCK + tl.arange(0, BLOCK)
        count += ((ordered(IMPORTANCE, place, tokens, BITS) >= bound) & (place < tokens)).to(tl.int32)
    return tl.sum(count, 0)


@triton.jit
def top_tokens_kernel(IMPORTANCE, KEPT, tokens, kept, BLOCK: tl.constexpr, BITS: tl.constexpr):
    IMPORTANCE += tl.program_id(0).to(tl.int64) * tokens
    KEPT += tl.program_id(0).to(tl.int64) * kept
    INTEGER: tl.constexpr = tl.int64 if BITS == 64 else tl.int32
    zero = tl.cast(0, INTEGER)
    enough = count_at_least(IMPORTANCE, tokens, zero, BLOCK, BITS) >= kept
    kth = tl.where(enough, zero, zero - (tl.cast(1, INTEGER) << (BITS - 1)))  # the sign first
    for bit in tl.range(0, BITS - 1):
        bound = kth | (tl.cast(1, INTEGER) << (BITS - 2 - bit))
        kth = tl.where(count_at_least(IMPORTANCE, tokens, bound, BLOCK, BITS) >= kept, bound, kth)
    ties = kept - count_at_least(IMPORTANCE, tokens, kth + 1, BLOCK, BITS)  # how many equal to the k-th stay
    written = 0
    equal = 0
    for block in tl.range(0, tl.cdiv(tokens, BLOCK)):
        place = block * BLOCK + tl.arange(0, BLOCK)
        key = ordered(IMPORTANCE, place, tokens, BITS)
        same = ((key == kth) & (place < tokens)).to(tl.int32)
        stays = ((key > kth) & (place < tokens)) | ((same != 0) & (equal + tl.cumsum(same, 0) <= ties))
        slot = written + tl.cumsum(stays.to(tl.int32), 0) - 1
        tl.store(KEPT + slot, place, mask=stays)
        written += tl.sum(stays.to(tl.int32), 0)
        equal += tl.sum(same, 0)


def top_tokens(importance: torch.Tensor, kept: int) -> torch.Tensor:
    """Indices int32 [B, kept], ascending, of the largest of importance [B, M]; of equal ones the first.

    Of any sign; NaN is refused on the host, and on a GPU, where it is not looked for, is above all. Raises InputError.
    """
    importance = rankable(NAME, importance, kept, (*FLOATS, torch.float64))
    B, tokens = importance.shape
    out = torch.empty(B, kept, dtype=torch.int32, device=importance.device)
    if out.numel():
        bits = 64 if importance.dtype == torch.float64 else 32
        launch(NAME, top_tokens_kernel, B, importance, out, tokens, kept, BLOCK=BLOCK, BITS=bits, num_warps=WARPS)
    return out


def top_tokens_in_cuda(importance: torch.Tensor, kept: int) -> torch.Tensor:
    """Indices int32 [B, kept] of the largest of importance [B, M] of at most 32 bits, otherwise as `top_tokens`."""
    importance = rankable("top-k", importance, kept, FLOATS)
    B, tokens = importance.shape
    out = torch.empty(B, kept, dtype=torch.int32, device=importance.device)
    if out.numel():
        cuda.launch(CUDA_FUNCTION, (B,), CUDA_THREADS, importance.float(), out, tokens, kept)
    return out
