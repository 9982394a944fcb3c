"""Inputs and launches of SpAtten's mechanisms, each by itself: importance, top-k, kept tokens and heads, values by
tile, progressive quantization.

Checks are errors against the library, or how many entries differ where a result is exact.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch

from cascadesim.kernels.attention.triton import attention as dense
from cascadesim.kernels.decode_attention.triton import decode_attention
from cascadesim.kernels.pruned_attention import reference, selection, triton
from cascadesim.kernels.token_rows.triton import gather_rows
from cascadesim.validation.measure.cases import THRESHOLD, Prepared
from cascadesim.validation.measure.prepare import checked, error, exact, library, random_tensor


def pruned(device: str, H: int, tokens: int, kept: int, D: int) -> Prepared:
    """Selecting tokens, and attention over the kept ones, beside dense attention over all."""
    q, k, v = (random_tensor(device, 1, H, tokens, D) for _ in range(3))
    importance = torch.rand(1, tokens, device=device)
    keep, heads = torch.topk(importance, kept).indices.sort().values.int(), torch.arange(H, device=device)
    compact = k[:, :, keep[0].long()], v[:, :, keep[0].long()]
    unpruned, of_kept = library(q, k, v, False, None), library(q, *compact, False, None)
    return Prepared({
        "dense": checked(lambda: dense(q, k, v), unpruned),
        "top-k": exact(lambda: triton.top_tokens(importance, kept), lambda: keep),
        "top-k, radix select": exact(lambda: selection.top_tokens_in_cuda(importance, kept), lambda: keep),
        "torch top-k": lambda: torch.topk(importance, kept),
        "compaction": exact(lambda: gather_rows(k, keep[0]), lambda: compact[0]),
        "dense after compaction": checked(lambda: dense(q, *compact), of_kept),
        "gathered": checked(lambda: triton.pruned_attention(q, k, v, keep, heads), of_kept),
    })  # fmt: skip


def importance(device: str, H: int, tokens: int, D: int) -> Prepared:
    """What importance costs beside the forward pass that leaves its denominators."""
    q, k, v, out = (random_tensor(device, 1, H, tokens, D) for _ in range(4))
    lse = torch.empty(1, H, tokens, device=device)

    @cache
    def denominators() -> Any:
        """log2 of the sums, from the kernel that leaves them: once, before what reads them is timed."""
        dense(q, k, v, lse=lse)
        return lse

    def sums() -> Any:
        return triton.column_sums(q, k, denominators())

    def of_first_head() -> Any:
        return torch.softmax(q[0, 0].float() @ k[0, 0].float().T * D**-0.5, -1).sum(0)

    expected = library(q, k, v, False, None)
    return Prepared({
        "forward": checked(lambda: dense(q, k, v), expected),
        "forward, denominators kept": checked(lambda: dense(q, k, v, lse=lse), expected),
        "column sums": (sums, lambda: error(sums()[0, 0], of_first_head())),
        "importance of heads": checked(lambda: triton.head_importance(out), lambda: out.float().abs().sum((2, 3))),
    })  # fmt: skip


def heads(device: str, H: int, kept: int, tokens: int, D: int) -> Prepared:
    """Every second head and more left out: the kernel starts programs of kept heads only."""
    q, k, v = (random_tensor(device, 1, H, tokens, D) for _ in range(3))
    everything = torch.arange(tokens, device=device, dtype=torch.int32)[None]
    chosen = torch.arange(H, device=device)[:: H // kept][:kept]
    some = partial(triton.pruned_attention, q, k, v, everything, chosen)
    unpruned = library(q, k, v, False, None)

    def expected() -> Any:
        mask = torch.zeros(H, 1, 1, device=device)
        mask[chosen] = 1
        return unpruned() * mask

    every = partial(triton.pruned_attention, q, k, v, everything, torch.arange(H, device=device))
    return Prepared({"all heads": checked(every, unpruned), f"{kept} heads": checked(some, expected)})


def values_by_tile(device: str, H: int, tokens: int, D: int) -> Prepared:
    """Keys of the second half are far from every query, so values of half of the tiles are not fetched."""
    q, k, v = 1 + 0.1 * random_tensor(device, 1, H, tokens, D), *(random_tensor(device, 1, H, tokens, D) for _ in "kv")
    k[:, :, tokens // 2 :] -= 2  # scores are lower by 2 sqrt(D): exp(-16) of the others at D = 64
    everything = torch.arange(tokens, device=device, dtype=torch.int32)[None]
    run = partial(triton.pruned_attention, q, k, v, everything, torch.arange(H, device=device))
    expected = library(q, k[:, :, : tokens // 2], v[:, :, : tokens // 2], False, None)
    return Prepared({
        "all values": checked(run, expected),
        "values by tile": checked(partial(run, value_threshold=THRESHOLD / tokens), expected),
        "values masked": checked(partial(run, value_threshold=THRESHOLD / tokens, by_tile=False), expected),
    })  # fmt: skip


def progressive(device: str, B: int, H: int, M: int, D: int) -> Prepared:
    """Upper 4 bits only, all 8, and 16-bit keys in full width, of one cache."""
    q, k, v = random_tensor(device, B, H, D), random_tensor(device, B, H, M, D), random_tensor(device, B, H, M, D)
    codes, key_scale = reference.quantized(k)
    upper, lower = triton.planes(codes)
    lengths = torch.full((B,), M, device=device, dtype=torch.int32)

    def decoded(threshold: float) -> Any:
        return triton.progressive_decode_of_planes(q, upper, lower, key_scale, v, threshold)[0]

    def exact_of(codes: Any) -> Any:
        keys = (codes.float() * key_scale[..., None, None]).to(torch.float32)
        return library(q[:, :, None].float(), keys, v.float(), False, None)()[:, :, 0]

    full_width = library(q[:, :, None], k, v, False, None)
    return Prepared({
        "upper 4 bits": checked(lambda: decoded(0.0), lambda: exact_of((codes >> 4) * 16)),
        "all 8 bits": checked(lambda: decoded(2.0), lambda: exact_of(codes)),
        "16 bits, full width": checked(lambda: decode_attention(q, k, v, lengths), lambda: full_width()[:, :, 0]),
    })  # fmt: skip
