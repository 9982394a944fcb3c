"""Attention under any mask from a list of key tiles per query tile (CSR), the ones that need no mask first.

Slower than boxes where a box would do: the tile number is loaded before the tile. Partial tiles carry a byte mask each;
equal masks are stored once. Ragged tails are masked tiles.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray

from cascadesim.kernels.attention.configurations import TileShape, padded, precision
from cascadesim.kernels.attention.tile import divided, key_head_of, load_rows, scores, seen, store_rows, tile_and_head
from cascadesim.kernels.inputs import InputError, launch, operands, together

NAME = "block-sparse attention"
MOST_HEAD_DIM = 128  # at 256 the masked loop spills on A100


@triton.jit
def walk_list(
    q, K, V, COLUMNS, MASK_OF, MASKS, RM, RD, RNV, scale_log2, M, first, last,
    E: tl.constexpr, F: tl.constexpr, EP: tl.constexpr, FP: tl.constexpr, P0: tl.constexpr, M0: tl.constexpr,
    MASKED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    for t in tl.range(first, last):
        m = tl.load(COLUMNS + t) * M0 + tl.arange(0, M0)
        QK = scores(q, load_rows(K, m, M, E, EP, MASKED), PRECISION)
        if MASKED:
            mask = MASKS + tl.load(MASK_OF + t).to(tl.int64) * P0 * M0
            visible = tl.load(mask + tl.arange(0, P0)[:, None] * M0 + tl.arange(0, M0)[None, :])
            QK = tl.where(visible != 0, QK, float("-inf"))
        RM, RD, RNV = seen(QK, V, m, M, RM, RD, RNV, scale_log2, F, FP, MASKED, PRECISION)
    return RM, RD, RNV


@triton.jit
def block_sparse_1pass(
    Q, K, V, AV, ROWS, COLUMNS, MASK_OF, MASKS, scale_log2, P, M, heads, group,
    E: tl.constexpr, F: tl.constexpr, EP: tl.constexpr, FP: tl.constexpr, P0: tl.constexpr, M0: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """ROWS[tile]: first entry, first entry with a mask, one past the last."""
    tile, bh = tile_and_head(tl.cdiv(P, P0))
    key_head = key_head_of(bh, heads, group)
    p = tile * P0 + tl.arange(0, P0)
    K += key_head * M * E
    V += key_head * M * F
    q = load_rows(Q + bh * P * E, p, P, E, EP, True)
    RM = tl.full([P0], float("-inf"), tl.float32)
    RD = tl.zeros([P0], tl.float32)
    RNV = tl.zeros([P0, FP], tl.float32)
    first, partial, last = tl.load(ROWS + 3 * tile), tl.load(ROWS + 3 * tile + 1), tl.load(ROWS + 3 * tile + 2)
    RM, RD, RNV = walk_list(q, K, V, COLUMNS, MASK_OF, MASKS, RM, RD, RNV, scale_log2, M, first, partial, E, F, EP, FP,
                            P0, M0, False, PRECISION)  # fmt: skip
    RM, RD, RNV = walk_list(q, K, V, COLUMNS, MASK_OF, MASKS, RM, RD, RNV, scale_log2, M, partial, last, E, F, EP, FP,
                            P0, M0, True, PRECISION)  # fmt: skip
    store_rows(AV + bh * P * F, p, P, divided(RNV, RD), F, FP)


@dataclass(frozen=True)
class TileList:
    """The tiles of a mask. `rows` [query tiles, 3]; `mask_of` is -1 for tiles without a mask."""

    tiles: TileShape
    queries: int
    keys: int
    rows: torch.Tensor
    columns: torch.Tensor
    mask_of: torch.Tensor
    masks: torch.Tensor

    @property
    def executed(self) -> NDArray[np.int64]:
        """Key tiles of each query tile."""
        rows: NDArray[np.int64] = self.rows.cpu().numpy().astype(np.int64)
        return rows[:, 2] - rows[:, 0]


def tile_list(mask: NDArray[np.bool_], tiles: TileShape, device: str = "cpu") -> TileList:
    """From a whole mask, queries x keys: a reference-sized way in."""
    queries, keys = mask.shape
    shape = (-(-queries // tiles.P0), -(-keys // tiles.M0))
    grid = np.zeros((shape[0] * tiles.P0, shape[1] * tiles.M0), dtype=bool)
    grid[:queries, :keys] = mask
    blocks = grid.reshape(shape[0], tiles.P0, shape[1], tiles.M0).transpose(0, 2, 1, 3)
    rows: list[tuple[int, int, int]] = []
    columns: list[int] = []
    mask_of: list[int] = []
    kept: dict[bytes, int] = {}
    for row in range(shape[0]):
        live = max(min(queries - row * tiles.P0, tiles.P0), 0)  # queries beyond the last one see what they like
        visited = [column for column in range(shape[1]) if blocks[row, column].any()]
        whole = [column for column in visited if blocks[row, column, :live].all()]
        partial = [column for column in visited if column not in set(whole)]
        rows.append((len(columns), len(columns) + len(whole), len(columns) + len(visited)))
        columns += whole + partial
        mask_of += [-1] * len(whole) + [kept.setdefault(blocks[row, each].tobytes(), len(kept)) for each in partial]
    masks = np.frombuffer(b"".join(kept) or bytes(1), dtype=np.uint8).copy()
    tables = [np.array(each, dtype=np.int32) for each in (rows, columns or [0], mask_of or [-1])]
    return TileList(tiles, queries, keys, *(torch.from_numpy(each).to(device) for each in (*tables, masks)))


def block_sparse_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tiles: TileList, *, scale: float | None = None
) -> torch.Tensor:
    """AV [B, H, P, F], zeros for queries that attend nothing. Raises InputError."""
    given = operands(NAME, q, k, v, scale, most_head_dim=MOST_HEAD_DIM)
    P, M, E, F, programs = given.sizes
    if (tiles.queries, tiles.keys) != (P, M):
        raise InputError(f"{NAME}: the list is for {tiles.queries} queries and {tiles.keys} keys, got {P} and {M}")
    together(NAME, q=q, tiles=tiles.rows)
    out = given.output()
    if out.numel():
        launch(
            NAME, block_sparse_1pass, programs * len(tiles.rows), given.q, given.k, given.v, out, tiles.rows,
            tiles.columns, tiles.mask_of, tiles.masks, given.scale_log2, P, M, *given.heads, E=E, F=F, EP=padded(E),
            FP=padded(F), P0=tiles.tiles.P0, M0=tiles.tiles.M0, PRECISION=precision(q.element_size()),
            num_warps=tiles.tiles.warps, num_stages=tiles.tiles.stages,
        )  # fmt: skip
    return out
