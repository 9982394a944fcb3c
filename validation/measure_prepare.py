"""Inputs and launches of dense attention and decoding, and what the other families share: inputs, errors, the library.

Needs torch and triton; the device is a name of torch's.

Inputs are random, never zeros: power, and so the clock, depends on the data.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from cascadesim.validation.measure_cases import Prepared

PAGE = 16  # keys of a page, as vLLM has them


def random_tensor(device: str, *shape: int, dtype: str = "float16") -> Any:
    import torch

    kind = getattr(torch, dtype)
    if kind.itemsize == 1:
        return torch.randn(*shape, device=device).to(kind)
    return torch.randn(*shape, device=device, dtype=kind)


def error(got: Any, expected: Any) -> float:
    """Relative L2 distance; NaN where there is one."""
    return float((got.float() - expected.float()).norm() / expected.float().norm())


def error_of(run: Callable[[], Any], expected: Callable[[], Any]) -> float:
    return error(run(), expected())


def attention(device: str, B: int, H: int, L: int, D: int, causal: bool) -> Prepared:
    """Every cascade, and the library's backends; the cascade that stores its scores only where they fit in 8 GiB."""
    from cascadesim.kernels.attention import CASCADES, mma
    from cascadesim.kernels.attention.triton import attention as ours
    from cascadesim.kernels.cuda.launch import available

    q, k, v = (random_tensor(device, B, H, L, D) for _ in range(3))
    fits = 4 * B * H * L * L <= 8 * 2**30
    names = [name for name in CASCADES if fits or name != "attention-3pass-stored"]
    variants: dict[str, Callable[[], Any]] = {
        name: partial(ours, q, k, v, causal=causal, cascade=name) for name in names
    }
    if available(device) and D in mma.TILES:
        variants["attention-1pass, mma.sync"] = partial(mma.attention, q, k, v, causal=causal)
    expected = library(q, k, v, causal, None)
    checks = {name: partial(error_of, run, expected) for name, run in variants.items()}
    baselines = {f"sdpa {name}": library(q, k, v, causal, name) for name in _backends(q, k, v, causal)}
    return Prepared({**variants, **baselines}, checks)


def library(q: Any, k: Any, v: Any, causal: bool, backend: str | None) -> Callable[[], Any]:
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
            library(q, k, v, causal, name)()
        except (RuntimeError, AttributeError):
            continue
        found.append(name)
    return found


def decode(device: str, B: int, H: int, G: int, M: int, D: int) -> Prepared:
    """Keys in one piece and in pages; the copy moves as many bytes as decoding reads."""
    import torch

    from cascadesim.kernels.decode_attention.triton import decode_attention

    q, k, v = random_tensor(device, B, H, D), random_tensor(device, B, G, M, D), random_tensor(device, B, G, M, D)
    lengths = torch.full((B,), M, device=device)
    table = torch.randperm(B * -(-M // PAGE), device=device).int().reshape(B, -1)
    key_pages, value_pages = paged(k, table), paged(v, table)
    ours = {
        "split keys": partial(decode_attention, q, k, v, lengths),
        "split keys, paged": partial(decode_attention, q, key_pages, value_pages, lengths, pages=table),
    }
    dense = library(q[:, :, None], k, v, False, None)
    out = torch.empty_like(k)
    return Prepared(
        {**ours, "sdpa": dense, "copy of the keys": lambda: out.copy_(k)},
        {name: partial(error_of, run, lambda: dense()[:, :, 0]) for name, run in ours.items()},
    )


def paged(cache: Any, table: Any) -> Any:
    """[B, G, M, D] -> [pages, PAGE, G, D], page j of entry b at table[b, j]; zeros after the last key."""
    import torch

    G, M, D = cache.shape[1:]
    filled = torch.nn.functional.pad(cache, (0, 0, 0, -M % PAGE)).transpose(1, 2).reshape(-1, PAGE, G, D)
    pages = torch.empty_like(filled)
    pages[table.reshape(-1).long()] = filled
    return pages
