"""Bytes that attention moves through L2 and DRAM, and what L2 keeps between thread blocks.

Blocks of one head share its keys and values: they come from DRAM once if the heads that run at the same time fit L2.
Warm caches (a call repeated) keep what fits. Knows sizes and the order of blocks; knows no time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cascadesim.accelerators.gpu.kernel import Kernel
from cascadesim.accelerators.gpu.shape import Reals, Shape
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Dtype
from cascadesim.accelerators.gpu.work import Tiles, Work

FLOAT_BYTES = 4  # scores, partial outputs and statistics


@dataclass(frozen=True)
class Movement:
    """Bytes of one call."""

    l2_bytes: Reals
    dram_read_bytes: Reals
    dram_write_bytes: Reals

    @property
    def dram_bytes(self) -> Reals:
        return self.dram_read_bytes + self.dram_write_bytes


def movement(
    device: Device, kernel: Kernel, shape: Shape, tiles: Tiles, work: Work, dtype: Dtype, kv_dtype: Dtype, cold: bool
) -> Movement:
    """`cold`: keys and values come from DRAM, whatever else fits L2 (other layers ran since they were used)."""
    queries, outputs = _query_bytes(shape, dtype)
    one_head = np.asarray(shape.keys_in_reach * shape.key_elements * DTYPE_BYTES[kv_dtype], dtype=np.float64)
    cache = shape.batch * shape.heads_kv * one_head
    walked = work.visited * tiles.keys * shape.key_elements * DTYPE_BYTES[kv_dtype]
    parts = np.where((work.splits > 1) | kernel.always_combines, work.splits, 0)
    partial = parts * shape.batch * shape.heads * shape.queries
    partial_bytes = partial * (shape.value_dim + 1) * FLOAT_BYTES
    scores = _stored_scores_bytes(kernel, shape, dtype)
    missed = _missed(device, kernel, shape, work, tiles, one_head)
    again = np.maximum(walked - cache, 0) * missed
    warm = _kept(device, queries + cache + outputs)
    reads = queries * (1 - warm) + cache * (1 - (0.0 if cold else warm)) + again + scores
    writes = outputs * (1 - warm) + scores
    return Movement(walked + queries + outputs + 2 * partial_bytes + 2 * scores, reads, writes)


def _query_bytes(shape: Shape, dtype: Dtype) -> tuple[Reals, Reals]:
    rows = (shape.batch * shape.heads * shape.queries).astype(np.float64)
    width = DTYPE_BYTES[dtype]
    return rows * shape.head_dim * width, rows * shape.value_dim * max(width, 2)  # outputs of 8-bit attention: 16 bits


def _stored_scores_bytes(kernel: Kernel, shape: Shape, dtype: Dtype) -> Reals:
    """Scores written and read, weights written and read: each way twice."""
    pairs = (shape.batch * shape.heads * shape.queries * shape.keys).astype(np.float64)
    return np.asarray(pairs * 2 * DTYPE_BYTES[dtype] * kernel.stores_scores, dtype=np.float64)


def _missed(device: Device, kernel: Kernel, shape: Shape, work: Work, tiles: Tiles, one_head: Reals) -> Reals:
    """Share of repeated reads of keys and values that find them gone: the heads in flight exceed L2."""
    running = device.sms * tiles.blocks_per_sm
    together = work.instances // shape.batch if kernel.sequence_last else work.instances
    in_flight = np.where(kernel.heads_first, together, np.ceil(running / (work.row_tiles * work.splits)))
    heads = np.minimum(in_flight, work.instances) * shape.batch * shape.heads_kv / work.instances
    return np.asarray(np.clip(1 - device.l2_kept_bytes / (heads * one_head), 0, 1), dtype=np.float64)


def _kept(device: Device, touched: Reals) -> Reals:
    """Share of the operands that a repeated call finds in L2.

    assumed: all where they take half of it, none from a quarter more than it on; last in, first out is not exact.
    """
    return np.asarray(np.clip((1.25 - touched / device.l2_kept_bytes) / 0.75, 0, 1), dtype=np.float64)
