"""Row copies: memory-bound, one read and one write of each row; the index list is shared by all heads.

GNA's token permutation (gather Q, K, V into tile order, scatter the output back) and SpAtten's compaction of kept
tokens.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl

ROWS, WARPS, STAGES = 64, 4, 1  # rows of one program


@triton.jit
def gather_rows_kernel(SOURCE, INDEX, OUT, source_rows, out_rows, D: tl.constexpr, DP: tl.constexpr, R: tl.constexpr):
    i = tl.program_id(0) * R + tl.arange(0, R)
    head = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, DP)
    row = tl.load(INDEX + i, mask=i < out_rows, other=-1)
    inside = column < D
    pointer = SOURCE + head * source_rows * D + row[:, None].to(tl.int64) * D + column[None, :]
    tile = tl.load(pointer, mask=(row >= 0)[:, None] & inside[None, :], other=0.0)
    out = OUT + head * out_rows * D + i[:, None].to(tl.int64) * D + column[None, :]
    tl.store(out, tile, mask=(i < out_rows)[:, None] & inside[None, :])


@triton.jit
def scatter_rows_kernel(SOURCE, INDEX, OUT, source_rows, out_rows, D: tl.constexpr, DP: tl.constexpr, R: tl.constexpr):
    i = tl.program_id(0) * R + tl.arange(0, R)
    head = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, DP)
    row = tl.load(INDEX + i, mask=i < source_rows, other=-1)
    inside = (row >= 0)[:, None] & (column < D)[None, :]
    tile = tl.load(SOURCE + head * source_rows * D + i[:, None].to(tl.int64) * D + column[None, :], mask=inside)
    tl.store(OUT + head * out_rows * D + row[:, None].to(tl.int64) * D + column[None, :], tile, mask=inside)


def gather_rows(source: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """out[..., i, :] = source[..., index[i], :]; zeros where index[i] < 0. `index` int32 [rows]."""
    out = torch.empty(*source.shape[:-2], len(index), source.shape[-1], dtype=source.dtype, device=source.device)
    _launch(gather_rows_kernel, source, index, out, len(index))
    return out


def scatter_rows(source: torch.Tensor, index: torch.Tensor, rows: int) -> torch.Tensor:
    """out[..., index[i], :] = source[..., i, :], for index[i] >= 0; every row is written at most once, others are 0."""
    out = torch.zeros(*source.shape[:-2], rows, source.shape[-1], dtype=source.dtype, device=source.device)
    _launch(scatter_rows_kernel, source, index, out, len(index))
    return out


def _launch(kernel, source: torch.Tensor, index: torch.Tensor, out: torch.Tensor, rows: int) -> None:
    D = source.shape[-1]
    heads = source.shape[:-2].numel()
    if rows and heads:
        kernel[triton.cdiv(rows, ROWS), heads](
            source.contiguous(), index.to(torch.int32), out, source.shape[-2], out.shape[-2], D=D,
            DP=triton.next_power_of_2(D), R=ROWS, num_warps=WARPS, num_stages=STAGES,
        )  # fmt: skip
