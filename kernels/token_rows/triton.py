"""Row copies: memory-bound, one read and one write of each row; the index list is shared by all heads.

GNA's token permutation (gather Q, K, V into tile order, scatter the output back) and SpAtten's compaction of kept
tokens.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl

from cascadesim.kernels import inputs
from cascadesim.kernels.attention.tile import tile_and_head
from cascadesim.kernels.inputs import InputError

NAME = "token rows"
ROWS, WARPS, STAGES = 64, 4, 1  # rows of one program, at most
PROGRAM_BYTES = 16384  # rows of one program, which registers hold: 64 of 256 bytes
TYPES = (*inputs.FLOATS, torch.float64, *inputs.INTEGERS)


@triton.jit
def gather_rows_kernel(SOURCE, INDEX, OUT, source_rows, out_rows, D: tl.constexpr, DP: tl.constexpr, R: tl.constexpr):
    block, head = tile_and_head(tl.cdiv(out_rows, R))
    i = block * R + tl.arange(0, R)
    column = tl.arange(0, DP)
    row = tl.load(INDEX + i, mask=i < out_rows, other=-1)
    inside = column < D
    pointer = SOURCE + head * source_rows * D + row[:, None].to(tl.int64) * D + column[None, :]
    tile = tl.load(pointer, mask=((row >= 0) & (row < source_rows))[:, None] & inside[None, :], other=0.0)
    out = OUT + head * out_rows * D + i[:, None].to(tl.int64) * D + column[None, :]
    tl.store(out, tile, mask=(i < out_rows)[:, None] & inside[None, :])


@triton.jit
def scatter_rows_kernel(SOURCE, INDEX, OUT, source_rows, out_rows, D: tl.constexpr, DP: tl.constexpr, R: tl.constexpr):
    block, head = tile_and_head(tl.cdiv(source_rows, R))
    i = block * R + tl.arange(0, R)
    column = tl.arange(0, DP)
    row = tl.load(INDEX + i, mask=i < source_rows, other=-1)
    inside = ((row >= 0) & (row < out_rows))[:, None] & (column < D)[None, :]
    tile = tl.load(SOURCE + head * source_rows * D + i[:, None].to(tl.int64) * D + column[None, :], mask=inside)
    tl.store(OUT + head * out_rows * D + row[:, None].to(tl.int64) * D + column[None, :], tile, mask=inside)


def gather_rows(source: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """out[..., i, :] = source[..., index[i], :]; zeros where index[i] < 0. `index` integers [n]. Raises InputError."""
    index = _checked(source, index, source.shape[-2] if isinstance(source, torch.Tensor) and source.dim() > 1 else 0)
    out = torch.empty(*source.shape[:-2], len(index), source.shape[-1], dtype=source.dtype, device=source.device)
    _launch(gather_rows_kernel, source, index, out)
    return out


def scatter_rows(source: torch.Tensor, index: torch.Tensor, rows: int) -> torch.Tensor:
    """out[..., index[i], :] = source[..., i, :], for index[i] >= 0; every row is written at most once, others are 0.

    `index` integers [rows of the source]. Raises InputError.
    """
    inputs.number(NAME, "rows", rows, 0, inputs.MOST_ELEMENTS - ROWS)
    index = _checked(source, index, rows)
    inputs.shaped(NAME, "index", index, (source.shape[-2],))
    kept = [] if index.is_cuda else index[index >= 0].tolist()
    if len(set(kept)) < len(kept):
        raise InputError(f"{NAME}: a row is written at most once, but an index occurs twice")
    out = torch.zeros(*source.shape[:-2], rows, source.shape[-1], dtype=source.dtype, device=source.device)
    _launch(scatter_rows_kernel, source, index, out)
    return out


def _checked(source: torch.Tensor, index: torch.Tensor, rows: int) -> torch.Tensor:
    """int32; on a GPU, where it is not looked at, an index beyond the last row counts as none."""
    inputs.together(NAME, source=source, index=index)
    inputs.one_type(NAME, TYPES, source=source)
    if source.dim() < 2 or index.dim() != 1:
        raise InputError(f"{NAME}: source [..., rows, D] and index [rows]; got {[*source.shape]} and {[*index.shape]}")
    row_bytes = triton.next_power_of_2(source.shape[-1]) * source.element_size()
    inputs.number(NAME, "bytes of a row", row_bytes, 0, PROGRAM_BYTES)
    inputs.number(NAME, "rows", max(source.shape[-2], len(index)), 0, inputs.MOST_ELEMENTS - ROWS)
    return inputs.indices(NAME, "index", index, index.shape, -(2**31), rows - 1)


def _launch(kernel, source: torch.Tensor, index: torch.Tensor, out: torch.Tensor) -> None:
    """As many rows in a program as PROGRAM_BYTES hold."""
    D = source.shape[-1]
    DP = triton.next_power_of_2(D)
    if out.numel() and source.numel():
        R = min(ROWS, PROGRAM_BYTES // (DP * source.element_size()))
        programs = source.shape[:-2].numel() * triton.cdiv(len(index), R)
        inputs.launch(NAME, kernel, programs, inputs.plain(source), index, out, source.shape[-2], out.shape[-2], D=D,
                      DP=DP, R=R, num_warps=WARPS, num_stages=STAGES)  # fmt: skip
    else:
        out.zero_()
