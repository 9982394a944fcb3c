"""Inputs and launches of dense attention, decoding and neighborhood attention, and what the other families share.

Needs torch and triton; the device is a name of torch's. Nothing of ours runs while a case is prepared, so that a kernel
that fails costs its own variant only. Inputs are random, never zeros: power, and so the clock, depends on the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from cascadesim.kernels.attention import mma
from cascadesim.kernels.attention.configurations import TileShape
from cascadesim.kernels.attention.triton import attention as dense_attention
from cascadesim.kernels.decode_attention.triton import decode_attention
from cascadesim.kernels.neighborhood_attention.block_sparse import block_sparse_attention
from cascadesim.kernels.neighborhood_attention.block_sparse import tile_list as list_of_tiles
from cascadesim.kernels.neighborhood_attention.pattern import pattern
from cascadesim.kernels.neighborhood_attention.triton import attention_in_tile_order, configuration, plan
from cascadesim.kernels.token_rows.triton import gather_rows, scatter_rows
from cascadesim.validation.measure import cases
from cascadesim.validation.measure.cases import BACKENDS, CASCADES, DENSE_LIBRARY, FLEX, MMA, Checked, Prepared, sdpa

PAGE = 16  # keys of a page, as vLLM has them
CHECKED_QUERIES = 256  # of a neighborhood, spread over the layout


def random_tensor(device: str, *shape: int, dtype: str = "float16") -> Any:
    kind = getattr(torch, dtype)
    made = torch.float32 if kind.itemsize == 1 else kind
    return torch.randn(*shape, device=device, dtype=made).to(kind)


def error(got: Any, expected: Any) -> float:
    """Relative L2 distance; NaN where there is one."""
    return float((got.float() - expected.float()).norm() / expected.float().norm())


def checked(run: Callable[[], Any], expected: Callable[[], Any]) -> Checked:
    """A variant, with the distance of its result from what is expected."""
    return run, lambda: error(run(), expected())


def exact(run: Callable[[], Any], expected: Callable[[], Any]) -> Checked:
    """A variant, with the number of its entries that are not equal."""
    return run, partial(differing, run, expected)


def differing(run: Callable[[], Any], expected: Callable[[], Any]) -> float:
    return float((run() != expected()).sum())


def attention(device: str, B: int, H: int, L: int, D: int, causal: bool, names: Sequence[str]) -> Prepared:
    """The variants of these names: cascades, the library's backends, and what it compiles itself."""
    q, k, v = (random_tensor(device, B, H, L, D) for _ in range(3))
    launches: dict[str, Callable[[], Any]] = {
        **{name: partial(dense_attention, q, k, v, causal=causal, cascade=name) for name in CASCADES},
        MMA: partial(mma.attention, q, k, v, causal=causal),
        **{sdpa(backend): library(q, k, v, causal, backend) for backend in BACKENDS},
        FLEX: lazily(partial(flex, q, k, v, causal)),
    }
    expected = library(q, k, v, causal, None)
    return Prepared({name: checked(launches[name], expected) if name in (*CASCADES, MMA, FLEX) else launches[name]
                     for name in names})  # fmt: skip


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

    function: Callable[..., Any] = flex_attention
    if device != "cpu":
        torch.compiler.reset()
        function = torch.compile(flex_attention, dynamic=False)
    return function


def decode(device: str, B: int, H: int, G: int, M: int, D: int) -> Prepared:
    """Keys in one piece and in pages; the copy moves as many bytes as decoding reads."""
    q, k, v = random_tensor(device, B, H, D), random_tensor(device, B, G, M, D), random_tensor(device, B, G, M, D)
    lengths = torch.full((B,), M, device=device, dtype=torch.int32)
    table = torch.randperm(B * -(-M // PAGE), device=device).int().reshape(B, -1)
    key_pages, value_pages = paged(k, table), paged(v, table)
    one = q[:, :, None]
    dense = library(one, k, v, False, None)
    out = torch.empty_like(k)

    def ours(k: Any, v: Any, pages: Any) -> Checked:
        return checked(partial(decode_attention, q, k, v, lengths, pages=pages), lambda: dense()[:, :, 0])

    return Prepared({
        "split keys": ours(k, v, None),
        "split keys, paged": ours(key_pages, value_pages, table),
        **{sdpa(backend): library(one, k, v, False, backend) for backend in BACKENDS},
        "copy of the keys": lambda: out.copy_(k),
    })  # fmt: skip


def paged(cache: Any, table: Any) -> Any:
    """[B, G, M, D] -> [pages, PAGE, G, D], page j of entry b at table[b, j]; zeros after the last key."""
    G, M, D = cache.shape[1:]
    filled = torch.nn.functional.pad(cache, (0, 0, 0, -M % PAGE)).transpose(1, 2).reshape(-1, PAGE, G, D)
    pages = torch.empty_like(filled)
    pages[table.reshape(-1).long()] = filled
    return pages


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
        ours[cases.FLEX_TILES] = lazily(lambda: partial(  # over the same tiles, whose mask is computed from the windows
            flex_compiled(device), *moved(), block_mask=block_mask(tile_list(), tiles),
            kernel_options=None if device == "cpu" else {"BLOCK_N": tile_list().tiles.M0},
        ))  # fmt: skip
    out = random_tensor(device, 1, shape["H"], len(tiles.query_order), shape["D"])

    def inverse() -> Any:
        return scatter_rows(out, tiles.query_order, tokens)

    check = _check_of_some_queries(tiles, q, k, v)
    return Prepared({
        "permutation": (permuted, lambda: differing(lambda: permuted()[0], lambda: _moved(q, tiles.query_order))),
        **{name: (run, partial(check, run)) for name, run in ours.items()},
        "inverse permutation": (inverse, lambda: differing(lambda: _moved(inverse(), tiles.query_order),
                                                           lambda: out * (tiles.query_order >= 0)[:, None])),
        "dense, ours": checked(lambda: dense_attention(q, k, v), library(q, k, v, False, None)),
        DENSE_LIBRARY: library(q, k, v, False, "FLASH_ATTENTION"),
    })  # fmt: skip


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


def _check_of_some_queries(plan: Any, q: Any, k: Any, v: Any) -> Callable[[Callable[[], Any]], float]:
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
