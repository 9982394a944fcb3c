"""GNA by token permutation: gather Q, K, V into tile order, attention over boxes of tiles, scatter the output back.

Static tiling, multi-dimensional tiles; the three steps are functions of their own so that each can be timed. Dilation
groups are separate token grids in the order, so they cost nothing further. Extra (text) keys are not supported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cascadesim.kernels.attention.configurations import TileShape, padded, precision, tiles_of
from cascadesim.kernels.inputs import InputError, buffer, check_heads, launch, operands, together
from cascadesim.kernels.neighborhood_attention.pattern import SLABS, WindowPattern, boxes, tile_order
from cascadesim.kernels.neighborhood_attention.tiled import neighborhood_1pass
from cascadesim.kernels.token_rows.triton import gather_rows, scatter_rows

NAME = "neighborhood attention"
HOPPER = 9  # compute capability, major
MOST_HEAD_DIM = 128  # at 256 no tile of 64 queries or more is free of spills on A100 and B200
MOST_TILE = {(2, 64): (128, 64), (2, 128): (128, 64), (4, 64): (64, 32), (4, 128): (32, 32)}  # bytes of an element,
# head dimensions up to so many -> queries, keys: what is compiled, and larger ones spill


@dataclass(frozen=True)
class TilePlan:
    """A pattern on tiles: the tables, on the device of the tokens. Build once, use for every layer."""

    pattern: WindowPattern
    query_tile: tuple[int, int, int]
    key_tile: tuple[int, int, int]
    query_order: torch.Tensor
    key_order: torch.Tensor
    table: torch.Tensor
    windows: torch.Tensor
    grid: tuple[int, int, int]

    @property
    def query_tiles(self) -> int:
        return len(self.table)


def plan(
    pattern: WindowPattern, query_tile: Sequence[int], key_tile: Sequence[int], device: str = "cpu", *,
    mask_all: bool = False,
) -> TilePlan:  # fmt: skip
    """Tile volumes must be powers of two, at least 16. `mask_all`: masks in every tile, to measure what they cost."""
    for name, tile in (("query", query_tile), ("key", key_tile)):
        if len(tile) != len(pattern.layout) or math.prod(tile) != padded(math.prod(tile)):
            raise InputError(
                f"{name} tile {tuple(tile)}: needs {len(pattern.layout)} sizes whose product is a power of "
                f"two, at least 16"
            )
    found = boxes(pattern, query_tile, key_tile, mask_all=mask_all)
    windows = torch.cat([torch.from_numpy(found.starts), torch.from_numpy(found.ends)], 1)
    query_order, key_order = (torch.from_numpy(tile_order(pattern, tile)).to(device) for tile in (query_tile, key_tile))
    table = torch.from_numpy(found.table).to(device)
    return TilePlan(pattern, _three(query_tile), _three(key_tile), query_order, key_order, table, windows.to(device),
                found.grid)  # fmt: skip


def _three(tile: Sequence[int]) -> tuple[int, int, int]:
    a, b, c = (1,) * (3 - len(tile)) + tuple(tile)
    return a, b, c


def neighborhood_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, plan: TilePlan, *, scale: float | None = None,
    executed: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """AV [B, H, N, F] in the order of the layout, as are q, k, v. Raises InputError."""
    check_heads(NAME, q, k, v)
    _check_tokens(q, k, plan.pattern.tokens, plan.pattern.tokens, plan)
    permuted = (gather_rows(q, plan.query_order), gather_rows(k, plan.key_order), gather_rows(v, plan.key_order))
    out = attention_in_tile_order(*permuted, plan, scale=scale, executed=executed)
    return scatter_rows(out, plan.query_order, plan.pattern.tokens)


def attention_in_tile_order(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, plan: TilePlan, *, scale: float | None = None,
    executed: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """`executed` int32 [query tiles, 2] receives the key tiles run without and with a mask. Padding is finite."""
    given = operands(NAME, q, k, v, scale)
    slots, key_slots, E, F, programs = given.sizes
    _check_tokens(q, k, len(plan.query_order), len(plan.key_order), plan)
    capability = torch.cuda.get_device_capability(q.device)[0] if q.is_cuda else None
    tiles = configuration(capability, max(E, F), q.element_size(), plan)
    if executed is not None:
        together(NAME, q=q, executed=executed)
        buffer(NAME, "executed", executed, (plan.query_tiles, 2), torch.int32)
    out = given.output()
    if out.numel():
        launch(
            NAME, neighborhood_1pass, programs * plan.query_tiles, given.q, given.k, given.v, out, plan.table,
            plan.windows, plan.table if executed is None else executed, given.scale_log2, slots, key_slots,
            plan.grid[1], plan.grid[2], *given.heads, E=E, F=F, EP=padded(E), FP=padded(F), P0=tiles.P0,
            U0=plan.key_tile[0], U1=plan.key_tile[1], U2=plan.key_tile[2], SLABS=SLABS, UNROLLED=unrolled(capability),
            WIDTH=plan.table.shape[1],
            COUNT=executed is not None, PRECISION=precision(q.element_size()), num_warps=tiles.warps,
            num_stages=tiles.stages,
        )  # fmt: skip
    return out


def _check_tokens(q: torch.Tensor, k: torch.Tensor, queries: int, keys: int, plan: TilePlan) -> None:
    together(NAME, q=q, plan=plan.table)
    if (q.shape[2], k.shape[2]) != (queries, keys):
        raise InputError(f"{NAME}: the plan has {queries} queries and {keys} keys, got {q.shape[2]} and {k.shape[2]}")


def configuration(capability: int | None, head_dim: int, element_bytes: int, plan: TilePlan) -> TileShape:
    """Tile sizes are the plan's; warps as many as have 16 rows each, so that no work is done twice. Raises ValueError
    where a device (`capability`, None: the interpreter) has too few registers for them."""
    queries, keys = math.prod(plan.query_tile), math.prod(plan.key_tile)
    if capability is not None:
        _refuse_spills(head_dim, element_bytes, queries, keys)
    if element_bytes > 2:
        return TileShape(queries, keys, 8, 1)
    stages = tiles_of(capability or 9, head_dim, element_bytes).stages
    return TileShape(queries, keys, min(8, max(1, queries // 16)), stages)


def unrolled(capability: int | None) -> bool:
    """Whether the loops over slabs are: on Hopper, for its wgmma."""
    return capability == HOPPER


def _refuse_spills(head_dim: int, element_bytes: int, queries: int, keys: int) -> None:
    if head_dim > MOST_HEAD_DIM:
        raise InputError(f"neighborhood attention: head dimensions go up to {MOST_HEAD_DIM}, got {head_dim}")
    most = MOST_TILE[element_bytes, 64 if head_dim <= 64 else MOST_HEAD_DIM]
    if queries > most[0] or keys > most[1]:
        raise InputError(f"neighborhood attention: {8 * element_bytes} bits with head dimension {head_dim} take tiles "
                         f"of up to {most[0]} queries and {most[1]} keys, got {queries} and {keys}")  # fmt: skip
