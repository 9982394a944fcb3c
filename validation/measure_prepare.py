"""Inputs and launches of the cases that `measure` runs. Needs torch and triton; the device is a name of torch's.

Inputs are random, never zeros: power, and so the clock, depends on the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from cascadesim.validation.measure_cases import Prepared

BLOCKS_PER_SM = 2


def _random(device: str, *shape: int, dtype: str = "float16") -> Any:
    import torch

    return torch.randn(*shape, device=device, dtype=getattr(torch, dtype))


def _blocks(device: str) -> int:
    import torch

    return BLOCKS_PER_SM * torch.cuda.get_device_properties(device).multi_processor_count if device != "cpu" else 1


def _error(got: Any, expected: Any) -> float:
    """Relative L2 distance; NaN where there is one."""
    return float((got.float() - expected.float()).norm() / expected.float().norm())


def _error_of(run: Callable[[], Any], expected: Callable[[], Any]) -> float:
    return _error(run(), expected())


def _tokens_that_differ(run: Callable[[], Any], expected: Any) -> float:
    return float((run() != expected).sum())


def launch(device: str) -> Prepared:
    from cascadesim.kernels.microbenchmarks import triton

    x = _random(device, 16)
    return Prepared({"empty": lambda: triton.empty[(1,)](x)})


def matrix_flop(dtype: str, turns: int) -> int:
    """Of one block; the tile is the kernel's."""
    tiles = {"fp16": (128, 256, 64), "bf16": (128, 256, 64)}
    return 2 * turns * math.prod(tiles[dtype])


def matrix_peak(device: str, dtype: str, turns: int) -> Prepared:
    from cascadesim.kernels.microbenchmarks import triton

    M, N, K = triton.MATRIX[dtype]
    name = {"fp16": "float16", "bf16": "bfloat16"}[dtype]
    a, b = _random(device, M, K, dtype=name), _random(device, K, N, dtype=name)
    blocks = _blocks(device)
    out = _random(device, blocks, M, N, dtype="float32")
    return Prepared(
        {
            f"{blocks} blocks": lambda: triton.matrix_peak[(blocks,)](
                a, b, out, turns, M=M, N=N, K=K, num_warps=triton.WARPS, num_stages=triton.STAGES
            )
        }
    )


def exponentials(turns: int) -> int:
    return turns * 16 * 1024  # turns x CHAINS x BLOCK of the kernel


def exponential_rate(device: str, turns: int) -> Prepared:
    from cascadesim.kernels.microbenchmarks import triton

    blocks = 4 * _blocks(device)
    x, out = _random(device, 2, blocks * 1024, dtype="float32")
    return Prepared(
        {
            f"{blocks} blocks": lambda: triton.exponential_rate[(blocks,)](
                x, out, turns, BLOCK=1024, CHAINS=triton.CHAINS, num_warps=triton.WARPS
            )
        }
    )


def memory(device: str, elements: int) -> Prepared:
    """A copy moves twice the bytes of the others."""
    from cascadesim.kernels.microbenchmarks import triton

    x, out = _random(device, elements), _random(device, elements)
    grid, size = (elements // triton.BLOCK,), {"BLOCK": triton.BLOCK, "num_warps": triton.WARPS}
    readers = max(1, min(grid[0], 8 * _blocks(device)))
    sums = _random(device, readers, dtype="float32")
    return Prepared(
        {
            "copy": lambda: triton.copy[grid](x, out, elements, **size),
            "write": lambda: triton.write[grid](out, elements, **size),
            "read": lambda: triton.read[(readers,)](x, sums, elements, grid[0] // readers, **size),
            "torch copy": lambda: out.copy_(x),
        }
    )


def attention(device: str, B: int, H: int, L: int, D: int, causal: bool) -> Prepared:
    """Every cascade, and the library's backends; the cascade that stores its scores only where they fit in 8 GiB."""
    from cascadesim.kernels.attention import CASCADES, mma
    from cascadesim.kernels.attention.triton import attention as ours
    from cascadesim.kernels.cuda.launch import available

    q, k, v = (_random(device, B, H, L, D) for _ in range(3))
    fits = 4 * B * H * L * L <= 8 * 2**30
    names = [name for name in CASCADES if fits or name != "attention-3pass-stored"]
    variants: dict[str, Callable[[], Any]] = {
        name: partial(ours, q, k, v, causal=causal, cascade=name) for name in names
    }
    if available(device) and D in mma.TILES:
        variants["attention-1pass, mma.sync"] = partial(mma.attention, q, k, v, causal=causal)
    expected = _library(q, k, v, causal, None)
    checks = {name: partial(_error_of, run, expected) for name, run in variants.items()}
    baselines = {f"sdpa {name}": _library(q, k, v, causal, name) for name in _backends(q, k, v, causal)}
    return Prepared({**variants, **baselines}, checks)


def _library(q: Any, k: Any, v: Any, causal: bool, backend: str | None) -> Callable[[], Any]:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def call() -> Any:
        if backend is None:
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
        with sdpa_kernel([getattr(SDPBackend, backend)]):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    return call


def _backends(q: Any, k: Any, v: Any, causal: bool) -> list[str]:
    """Those that run this case here."""
    found = []
    for name in ("FLASH_ATTENTION", "CUDNN_ATTENTION"):
        try:
            _library(q, k, v, causal, name)()
        except (RuntimeError, AttributeError):
            continue
        found.append(name)
    return found


def decode(device: str, B: int, H: int, G: int, M: int, D: int) -> Prepared:
    import torch

    from cascadesim.kernels.decode_attention.triton import decode_attention

    q, k, v = _random(device, B, H, D), _random(device, B, G, M, D), _random(device, B, G, M, D)
    lengths = torch.full((B,), M, device=device)
    library = _library(q[:, :, None], k, v, False, None)
    out = torch.empty_like(k)
    return Prepared(
        {
            "split keys": lambda: decode_attention(q, k, v, lengths),
            "sdpa": library,
            "copy of the keys": lambda: out.copy_(k),
        },
        {"split keys": lambda: _error(decode_attention(q, k, v, lengths), library()[:, :, 0])},
    )


def neighborhood(device: str, shape: Mapping[str, Any]) -> Prepared:
    """The three steps apart, and dense attention on the same tokens with our kernel and with the library's."""
    from cascadesim.kernels.attention.triton import attention as dense
    from cascadesim.kernels.neighborhood_attention.pattern import pattern
    from cascadesim.kernels.neighborhood_attention.triton import attention_in_tile_order, plan
    from cascadesim.kernels.token_rows.triton import gather_rows, scatter_rows

    tiles = plan(
        pattern(shape["layout"], shape["window"], shape["stride"]), shape["query_tile"], shape["key_tile"], device
    )
    masked = plan(tiles.pattern, shape["query_tile"], shape["key_tile"], device, mask_all=True)
    tokens = tiles.pattern.tokens
    q, k, v = (_random(device, 1, shape["H"], tokens, shape["D"]) for _ in range(3))

    def permuted() -> tuple[Any, Any, Any]:
        return gather_rows(q, tiles.query_order), gather_rows(k, tiles.key_order), gather_rows(v, tiles.key_order)

    moved = permuted()
    out = attention_in_tile_order(*moved, tiles)
    return Prepared(
        {
            "permutation": permuted,
            "attention in tile order": lambda: attention_in_tile_order(*moved, tiles),
            "masks in every tile": lambda: attention_in_tile_order(*moved, masked),
            "inverse permutation": lambda: scatter_rows(out, tiles.query_order, tokens),
            "dense, ours": lambda: dense(q, k, v),
            "dense, sdpa": _library(q, k, v, False, None),
        }
    )


def pruned(device: str, tokens: int, kept: int) -> Prepared:
    """Each mechanism by itself, beside dense attention over all tokens."""
    import torch

    from cascadesim.kernels.attention.triton import attention as dense
    from cascadesim.kernels.cuda.launch import available
    from cascadesim.kernels.pruned_attention import radix, triton
    from cascadesim.kernels.token_rows.triton import gather_rows

    q, k, v = (_random(device, 1, 16, tokens, 128) for _ in range(3))
    lse = torch.empty(1, 16, tokens, device=device)
    dense(q, k, v, lse=lse)
    importance = triton.column_sums(q, k, lse).sum(1)
    keep, heads = triton.top_tokens(importance, kept), torch.arange(16, device=device)
    compact = gather_rows(k, keep[0]), gather_rows(v, keep[0])
    in_cuda: dict[str, Callable[[], Any]] = {}
    if available(device):
        in_cuda["top-k, radix select"] = lambda: radix.top_tokens(importance, kept)
    checks = {name: partial(_tokens_that_differ, run, keep) for name, run in in_cuda.items()}
    return Prepared(
        {
            "dense": lambda: dense(q, k, v),
            "importance of tokens": lambda: triton.column_sums(q, k, lse),
            "top-k": lambda: triton.top_tokens(importance, kept),
            **in_cuda,
            "torch top-k": lambda: torch.topk(importance, kept),
            "compaction": lambda: gather_rows(k, keep[0]),
            "dense after compaction": lambda: dense(q, *compact),
            "gathered": lambda: triton.pruned_attention(q, k, v, keep, heads),
            "gathered, values by tile": lambda: triton.pruned_attention(q, k, v, keep, heads, value_threshold=1e-3),
        },
        checks,
    )
