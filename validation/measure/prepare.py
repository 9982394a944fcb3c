"""Inputs and launches of dense attention and decoding, and what the other families share: inputs, errors, the library.

Needs torch and triton; the device is a name of torch's. Nothing of ours runs while a case is prepared, so that a kernel
that fails costs its own variant only. Inputs are random, never zeros: power, and so the clock, depends on the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from cascadesim.kernels.attention import mma
from cascadesim.kernels.attention.triton import attention as ours
from cascadesim.kernels.decode_attention.triton import decode_attention
from cascadesim.validation.measure.cases import BACKENDS, CASCADES, FLEX, MMA, Prepared, sdpa

PAGE = 16  # keys of a page, as vLLM has them


def random_tensor(device: str, *shape: int, dtype: str = "float16") -> Any:
    kind = getattr(torch, dtype)
    made = torch.float32 if kind.itemsize == 1 else kind
    return torch.randn(*shape, device=device, dtype=made).to(kind)


def error(got: Any, expected: Any) -> float:
    """Relative L2 distance; NaN where there is one."""
    return float((got.float() - expected.float()).norm() / expected.float().norm())


def error_of(run: Callable[[], Any], expected: Callable[[], Any]) -> float:
    return error(run(), expected())


def differing(run: Callable[[], Any], expected: Callable[[], Any]) -> float:
    """Entries that are not equal."""
    return float((run() != expected()).sum())


def attention(device: str, B: int, H: int, L: int, D: int, causal: bool, names: Sequence[str]) -> Prepared:
    """The variants of these names: cascades, the library's backends, and what it compiles itself."""
    q, k, v = (random_tensor(device, B, H, L, D) for _ in range(3))
    launches: dict[str, Callable[[], Any]] = {
        **{name: partial(ours, q, k, v, causal=causal, cascade=name) for name in CASCADES},
        MMA: partial(mma.attention, q, k, v, causal=causal),
        **{sdpa(backend): library(q, k, v, causal, backend) for backend in BACKENDS},
        FLEX: lazily(partial(flex, q, k, v, causal)),
    }
    expected = library(q, k, v, causal, None)
    checked = [name for name in (*CASCADES, MMA, FLEX) if name in names]
    return Prepared({name: launches[name] for name in names},
                    {name: partial(error_of, launches[name], expected) for name in checked})  # fmt: skip


def lazily(make: Callable[[], Callable[[], Any]]) -> Callable[[], Any]:
    """A launch that is made when it first runs: what fails then is this variant's failure."""
    made = cache(make)
    return lambda: made()()


def library(q: Any, k: Any, v: Any, causal: bool, backend: str | None) -> Callable[[], Any]:
    grouped = q.shape[1] != k.shape[1]

    def call() -> Any:
        if backend is None:
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)
        with sdpa_kernel([getattr(SDPBackend, backend)]):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)

    return call


def flex(q: Any, k: Any, v: Any, causal: bool) -> Callable[[], Any]:
    """torch's own Triton kernel, compiled for this case."""
    from torch.nn.attention.flex_attention import create_block_mask

    def is_visible(_batch: Any, _head: Any, query: Any, key: Any) -> Any:
        return query >= key

    length, device = q.shape[2], str(q.device)
    blocks = create_block_mask(is_visible, None, None, length, length, device=device) if causal else None
    return partial(flex_compiled(device), q, k, v, block_mask=blocks)


def flex_compiled(device: str) -> Callable[..., Any]:
    """Compiled anew, so that no limit on recompilations is met; as it is on a CPU."""
    from torch.nn.attention.flex_attention import flex_attention

    if device == "cpu":
        return flex_attention
    torch.compiler.reset()
    return torch.compile(flex_attention, dynamic=False)


def decode(device: str, B: int, H: int, G: int, M: int, D: int) -> Prepared:
    """Keys in one piece and in pages; the copy moves as many bytes as decoding reads."""
    q, k, v = random_tensor(device, B, H, D), random_tensor(device, B, G, M, D), random_tensor(device, B, G, M, D)
    lengths = torch.full((B,), M, device=device, dtype=torch.int32)
    table = torch.randperm(B * -(-M // PAGE), device=device).int().reshape(B, -1)
    key_pages, value_pages = paged(k, table), paged(v, table)
    ours = {
        "split keys": partial(decode_attention, q, k, v, lengths),
        "split keys, paged": partial(decode_attention, q, key_pages, value_pages, lengths, pages=table),
    }
    one = q[:, :, None]
    dense = library(one, k, v, False, None)
    out = torch.empty_like(k)
    return Prepared(
        {
            **ours,
            **{sdpa(backend): library(one, k, v, False, backend) for backend in BACKENDS},
            "copy of the keys": lambda: out.copy_(k),
        },
        {name: partial(error_of, run, lambda: dense()[:, :, 0]) for name, run in ours.items()},
    )


def paged(cache: Any, table: Any) -> Any:
    """[B, G, M, D] -> [pages, PAGE, G, D], page j of entry b at table[b, j]; zeros after the last key."""
    G, M, D = cache.shape[1:]
    filled = torch.nn.functional.pad(cache, (0, 0, 0, -M % PAGE)).transpose(1, 2).reshape(-1, PAGE, G, D)
    pages = torch.empty_like(filled)
    pages[table.reshape(-1).long()] = filled
    return pages
