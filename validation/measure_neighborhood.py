"""Inputs and launches of neighborhood attention, step by step, beside the list of tiles and dense attention.

Results are checked on some of the queries, against masked attention of the library in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from typing import Any

from cascadesim.validation.measure_cases import Prepared
from cascadesim.validation.measure_prepare import error, library, random_tensor

CHECKED_QUERIES = 256


def neighborhood(device: str, shape: Mapping[str, Any], listed: bool) -> Prepared:
    """`listed`: with the kernel that walks a list of tiles, which needs the whole mask once."""
    from cascadesim.kernels.attention.triton import attention as dense
    from cascadesim.kernels.neighborhood_attention.pattern import pattern
    from cascadesim.kernels.neighborhood_attention.triton import attention_in_tile_order, plan
    from cascadesim.kernels.token_rows.triton import gather_rows, scatter_rows

    tiles = plan(
        pattern(shape["layout"], shape["window"], shape["stride"]), shape["query_tile"], shape["key_tile"], device
    )
    masked = plan(tiles.pattern, shape["query_tile"], shape["key_tile"], device, mask_all=True)
    tokens = tiles.pattern.tokens
    q, k, v = (random_tensor(device, 1, shape["H"], tokens, shape["D"]) for _ in range(3))

    def permuted() -> tuple[Any, Any, Any]:
        return gather_rows(q, tiles.query_order), gather_rows(k, tiles.key_order), gather_rows(v, tiles.key_order)

    moved = permuted()
    ours: dict[str, Callable[[], Any]] = {
        "attention in tile order": lambda: attention_in_tile_order(*moved, tiles),
        "masks in every tile": lambda: attention_in_tile_order(*moved, masked),
        **({"list of tiles": _listed(tiles, moved, device)} if listed else {}),
    }
    out = attention_in_tile_order(*moved, tiles)
    check = _check(tiles, q, k, v)
    return Prepared(
        {
            "permutation": permuted,
            **ours,
            "inverse permutation": lambda: scatter_rows(out, tiles.query_order, tokens),
            "dense, ours": lambda: dense(q, k, v),
            "dense, sdpa": library(q, k, v, False, None),
        },
        {name: partial(check, run) for name, run in ours.items()},
    )


def _listed(plan: Any, moved: tuple[Any, Any, Any], device: str) -> Callable[[], Any]:
    """The same tiles, from the mask in tile order."""
    from cascadesim.kernels.attention.configurations import Tiles
    from cascadesim.kernels.neighborhood_attention.block_sparse import block_sparse_attention, tile_list
    from cascadesim.kernels.neighborhood_attention.triton import configuration

    boxes = configuration(9, moved[0].shape[-1], 2, plan)
    mask = mask_in_tile_order(plan.pattern, plan.query_order.cpu().numpy(), plan.key_order.cpu().numpy())
    listed = tile_list(mask, Tiles(prod(plan.query_tile), prod(plan.key_tile), boxes.warps, boxes.stages), device)
    return partial(block_sparse_attention, *moved, listed)


def mask_in_tile_order(pattern: Any, query_order: Any, key_order: Any) -> Any:
    """Slots x slots; padding attends nothing, and nothing attends it."""
    mask = pattern.mask_of(query_order.clip(min=0))[:, key_order.clip(min=0)]
    return mask & (query_order >= 0)[:, None] & (key_order >= 0)[None, :]


def _check(plan: Any, q: Any, k: Any, v: Any) -> Callable[[Callable[[], Any]], float]:
    """Error of a result in tile order on queries spread over the layout, corners among them."""
    import numpy as np
    import torch

    tokens = plan.pattern.tokens
    chosen = np.unique(np.linspace(0, tokens - 1, min(CHECKED_QUERIES, tokens)).astype(np.int64))
    mask = torch.from_numpy(plan.pattern.mask_of(chosen)).to(q.device)
    queries = torch.from_numpy(chosen).to(q.device)

    def check(run: Callable[[], Any]) -> float:
        from cascadesim.kernels.token_rows.triton import scatter_rows

        expected = torch.nn.functional.scaled_dot_product_attention(
            q[:, :, queries].float(), k.float(), v.float(), attn_mask=mask
        )
        return error(scatter_rows(run(), plan.query_order, tokens)[:, :, queries], expected)

    return check
