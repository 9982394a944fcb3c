"""Inputs and launches of neighborhood attention, step by step, beside lists of tiles and dense attention.

Results are checked on some of the queries, against masked attention of the library in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from math import prod
from typing import Any

import numpy as np
import torch

from cascadesim.kernels.attention.configurations import TileShape
from cascadesim.kernels.attention.triton import attention as dense
from cascadesim.kernels.neighborhood_attention.block_sparse import block_sparse_attention
from cascadesim.kernels.neighborhood_attention.block_sparse import tile_list as list_of_tiles
from cascadesim.kernels.neighborhood_attention.pattern import pattern
from cascadesim.kernels.neighborhood_attention.triton import attention_in_tile_order, configuration, plan
from cascadesim.kernels.token_rows.triton import gather_rows, scatter_rows
from cascadesim.validation.measure.cases import DENSE_LIBRARY, FLEX_TILES, Prepared
from cascadesim.validation.measure.prepare import (
    differing,
    error,
    error_of,
    flex_compiled,
    lazily,
    library,
    random_tensor,
)

CHECKED_QUERIES = 256


def neighborhood(device: str, shape: Mapping[str, Any], listed: bool) -> Prepared:
    """`listed`: with the kernels that walk a list of tiles, ours and the library's, which need the whole mask once."""
    sizes = shape["query_tile"], shape["key_tile"]
    tiles = plan(pattern(shape["layout"], shape["window"], shape["stride"]), *sizes, device)
    masked = plan(tiles.pattern, *sizes, device, mask_all=True)
    tokens = tiles.pattern.tokens
    q, k, v = (random_tensor(device, 1, shape["H"], tokens, shape["D"]) for _ in range(3))

    def permuted() -> tuple[Any, Any, Any]:
        return gather_rows(q, tiles.query_order), gather_rows(k, tiles.key_order), gather_rows(v, tiles.key_order)

    moved = cache(permuted)
    ours: dict[str, Callable[[], Any]] = {
        "attention in tile order": lambda: attention_in_tile_order(*moved(), tiles),
        "masks in every tile": lambda: attention_in_tile_order(*moved(), masked),
    }
    if listed:
        tile_list = cache(lambda: _tile_list(tiles, shape["D"], device))
        ours["list of tiles"] = lazily(lambda: partial(block_sparse_attention, *moved(), tile_list()))
        ours[FLEX_TILES] = lazily(lambda: partial(  # over the same tiles, whose mask is computed from the windows
            flex_compiled(device), *moved(), block_mask=block_mask(tile_list(), tiles),
            kernel_options=None if device == "cpu" else {"BLOCK_N": tile_list().tiles.M0},
        ))  # fmt: skip
    out = random_tensor(device, 1, shape["H"], len(tiles.query_order), shape["D"])

    def inverse() -> Any:
        return scatter_rows(out, tiles.query_order, tokens)

    check = _check(tiles, q, k, v)
    return Prepared(
        {
            "permutation": permuted,
            **ours,
            "inverse permutation": inverse,
            "dense, ours": lambda: dense(q, k, v),
            DENSE_LIBRARY: library(q, k, v, False, "FLASH_ATTENTION"),
        },
        {
            "permutation": lambda: differing(lambda: permuted()[0], lambda: _moved(q, tiles.query_order)),
            **{name: partial(check, run) for name, run in ours.items()},
            "inverse permutation": lambda: differing(lambda: _moved(inverse(), tiles.query_order),
                                                     lambda: out * (tiles.query_order >= 0)[:, None]),
            "dense, ours": lambda: error_of(lambda: dense(q, k, v), library(q, k, v, False, None)),
        },
    )  # fmt: skip


def _moved(rows: Any, order: Any) -> Any:
    """Gathers rows by torch, to check ours: zeros where there is no token."""
    return rows[:, :, order.clamp(min=0).long()] * (order >= 0)[:, None]


def _tile_list(plan: Any, head_dim: int, device: str) -> Any:
    """The tiles that `plan` visits, from the mask in tile order."""
    boxes = configuration(9, head_dim, 2, plan)
    mask = mask_in_tile_order(plan.pattern, plan.query_order.cpu().numpy(), plan.key_order.cpu().numpy())
    return list_of_tiles(mask, TileShape(prod(plan.query_tile), prod(plan.key_tile), boxes.warps, boxes.stages), device)


def block_mask(tile_list: Any, plan: Any) -> Any:
    """The mask of flex_attention in tile order: tiles without a mask, and with one, as `tile_list` has them."""
    from torch.nn.attention.flex_attention import BlockMask

    starts, ends = plan.windows[:, :3], plan.windows[:, 3:]
    places = _places(plan)

    def is_visible(_batch: Any, _head: Any, query: Any, key: Any) -> Any:
        inside = [(starts[query, axis] <= places[key, axis]) & (places[key, axis] < ends[query, axis])
                  for axis in range(3)]  # fmt: skip
        return inside[0] & inside[1] & inside[2]

    rows, columns = tile_list.rows.cpu(), tile_list.columns.cpu()
    width = -(-tile_list.keys // tile_list.tiles.M0)
    counts, indices = torch.zeros(2, len(rows), dtype=torch.int32), torch.zeros(2, len(rows), width, dtype=torch.int32)
    for row, (first, masked, last) in enumerate(rows.tolist()):
        for kind, (begin, end) in enumerate(((masked, last), (first, masked))):
            counts[kind, row] = end - begin
            indices[kind, row, : end - begin] = columns[begin:end]
    counts, indices = counts.to(plan.windows.device), indices.to(plan.windows.device)
    size = (tile_list.tiles.P0, tile_list.tiles.M0)
    return BlockMask.from_kv_blocks(counts[None, None, 0], indices[None, None, 0], counts[None, None, 1],
                                    indices[None, None, 1], BLOCK_SIZE=size, mask_mod=is_visible)  # fmt: skip


def _places(plan: Any) -> Any:
    """[slots, 3]: coordinates of the token of each key slot; -1, which is in no window, for padding."""
    layout = plan.pattern.layout
    order = plan.key_order.cpu().numpy()
    found = np.zeros((len(order), 3), dtype=np.int32)
    for axis, coordinate in enumerate(np.unravel_index(order.clip(min=0), layout), start=3 - len(layout)):
        found[:, axis] = np.where(order < 0, -1, coordinate // plan.pattern.dilation[axis - 3 + len(layout)])
    return torch.from_numpy(found).to(plan.windows.device)


def mask_in_tile_order(pattern: Any, query_order: Any, key_order: Any) -> Any:
    """Slots x slots; padding attends nothing, and nothing attends it."""
    mask = pattern.mask_of(query_order.clip(min=0))[:, key_order.clip(min=0)]
    return mask & (query_order >= 0)[:, None] & (key_order >= 0)[None, :]


def _check(plan: Any, q: Any, k: Any, v: Any) -> Callable[[Callable[[], Any]], float]:
    """Error of a result in tile order on queries spread over the layout, corners among them."""
    tokens = plan.pattern.tokens
    chosen = np.unique(np.linspace(0, tokens - 1, min(CHECKED_QUERIES, tokens)).astype(np.int64))
    mask = torch.from_numpy(plan.pattern.mask_of(chosen)).to(q.device)
    queries = torch.from_numpy(chosen).to(q.device)
    slots = torch.argsort(plan.query_order.long())[-tokens:][queries]  # padding, -1, comes first

    def check(run: Callable[[], Any]) -> float:
        expected = torch.nn.functional.scaled_dot_product_attention(
            q[:, :, queries].float(), k.float(), v.float(), attn_mask=mask
        )
        return error(run()[:, :, slots], expected)

    return check
