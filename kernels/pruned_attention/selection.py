"""The tokens with the largest importance, exactly: a radix search for the k-th value, then compaction in order.

Importance is not negative, so its bits order like itself and 31 counting passes find the k-th largest. Survivors keep
their order; of equal ones the first stay (SpAtten, section IV-B). One program per batch entry.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK, WARPS = 1024, 8


@triton.jit
def count_at_least(BITS, tokens, bound, BLOCK: tl.constexpr):
    count = tl.zeros([BLOCK], tl.int32)
    for block in tl.range(0, tl.cdiv(tokens, BLOCK)):
        place = block * BLOCK + tl.arange(0, BLOCK)
        count += (tl.load(BITS + place, mask=place < tokens, other=-1) >= bound).to(tl.int32)
    return tl.sum(count, 0)


@triton.jit
def top_tokens_kernel(BITS, KEPT, tokens, kept, BLOCK: tl.constexpr):
    BITS += tl.program_id(0).to(tl.int64) * tokens
    KEPT += tl.program_id(0).to(tl.int64) * kept
    kth = 0
    for bit in tl.range(0, 31):
        bound = kth | (1 << (30 - bit))
        kth = tl.where(count_at_least(BITS, tokens, bound, BLOCK) >= kept, bound, kth)
    ties = kept - count_at_least(BITS, tokens, kth + 1, BLOCK)  # how many equal to the k-th stay
    written = 0
    equal = 0
    for block in tl.range(0, tl.cdiv(tokens, BLOCK)):
        place = block * BLOCK + tl.arange(0, BLOCK)
        bits = tl.load(BITS + place, mask=place < tokens, other=-1)
        same = (bits == kth).to(tl.int32)
        stays = (bits > kth) | ((same != 0) & (equal + tl.cumsum(same, 0) <= ties))
        slot = written + tl.cumsum(stays.to(tl.int32), 0) - 1
        tl.store(KEPT + slot, place, mask=stays)
        written += tl.sum(stays.to(tl.int32), 0)
        equal += tl.sum(same, 0)


def top_tokens(importance: torch.Tensor, kept: int) -> torch.Tensor:
    """Indices int32 [B, kept] in ascending order of importance float32 [B, M], which must not be negative."""
    B, tokens = importance.shape
    if not 0 <= kept <= tokens:
        raise ValueError(f"top tokens: keeps 0 to {tokens}, got {kept}")
    out = torch.empty(B, kept, dtype=torch.int32, device=importance.device)
    if out.numel():
        bits = importance.contiguous().view(torch.int32)
        top_tokens_kernel[(B,)](bits, out, tokens, kept, BLOCK=BLOCK, num_warps=WARPS)
    return out
