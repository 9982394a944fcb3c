"""Kernels that a call of attention launches besides, above all those that combine the parts of split keys.

Knows parts, rows and trips to L2; knows no tile and nothing of what blocks compute.
"""

from __future__ import annotations

import numpy as np

from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.accelerators.gpu.gemm import L2_PORT_BYTES_PER_CLOCK
from cascadesim.accelerators.gpu.grid import Reals, Shape, ThreadBlocks
from cascadesim.accelerators.gpu.kernel import Kernel
from cascadesim.accelerators.gpu.memory import FLOAT_BYTES, L2_LATENCY_S, small_kernel_s, threads_of_sm
from cascadesim.accelerators.gpu.spec import Device


def extra_kernels_s(
    device: Device, kernel: Kernel, constants: Constants, shape: Shape, work: ThreadBlocks, value_dim: Reals
) -> Reals:
    """Seconds of all of them; the one that combines parts runs only where there are any, unless it always does."""
    each = small_kernel_s(device)
    if not kernel.splits_keys:
        return np.full(len(work.splits), each * kernel.extra_kernels)
    split = work.splits > (0 if kernel.always_combines else 1)
    combined = np.where(split, max(kernel.extra_kernels, 1), 0)
    if kernel.combines_afterwards:
        each += constants.kernel_latency_s
    parts_bytes = np.where(split, work.splits, 0) * value_dim * FLOAT_BYTES  # of one row, by one block
    one_row_s = parts_bytes / L2_PORT_BYTES_PER_CLOCK / device.clock_hz
    if kernel.always_combines:
        return np.asarray(device.launch_s + one_row_s + _row_by_row_s(device, kernel, shape, work), dtype=np.float64)
    return np.asarray(each * combined + one_row_s, dtype=np.float64)


def _row_by_row_s(device: Device, kernel: Kernel, shape: Shape, work: ThreadBlocks) -> Reals:
    """Of kernels that launch in every call as many parts as they have at most, and combine them.

    Blocks without a part look up how many there are and end. SGLang, decode_attention.py, _fwd_kernel_stage2: a block
    has one row, looks up how many parts that has, and loads one part after the other; all of it was written just
    before, and is in L2.
    """
    resident = device.sms * (threads_of_sm(device) // kernel.threads)
    empty = work.blocks / work.splits * (kernel.most_splits - work.splits)
    rows = shape.batch * shape.heads * shape.queries
    in_turn = np.maximum(rows / resident, 1) * (1 + work.splits)
    return np.asarray((empty / resident + in_turn) * L2_LATENCY_S, dtype=np.float64)
