"""Work that only streams: norms, activations, residuals, copies into a cache. Bound by DRAM or L2, after a launch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.accelerators.gpu.shape import Reals
from cascadesim.accelerators.gpu.spec import Device

SMALL_KERNEL_S = 1e-6  # assumed: a load and a store, two trips to DRAM of about half a microsecond


@dataclass(frozen=True)
class StreamTiming:
    """Seconds of each unit alone, and of the whole."""

    l2_s: Reals
    dram_s: Reals
    launch_s: Reals
    total_s: Reals
    dram_read_bytes: Reals
    dram_write_bytes: Reals


def small_kernel_s(device: Device) -> float:
    """A kernel that does next to nothing, in a CUDA graph."""
    return device.launch_s + SMALL_KERNEL_S


def stream_timing(
    device: Device, constants: Constants, read_bytes: ArrayLike, write_bytes: ArrayLike, warm: bool = True
) -> StreamTiming:
    """One kernel that reads and writes so many bytes; `warm`: its operands are in L2 as far as they fit.

    DRAM gives what benchmarks reached, which were such kernels.
    """
    reads, writes = (np.atleast_1d(np.asarray(size, dtype=np.float64)) for size in (read_bytes, write_bytes))
    total = reads + writes
    missed = 1 - np.clip(2 * device.l2_kept_bytes / np.maximum(total, 1.0) - 1, 0, 1) * warm
    dram_s = total * missed / device.dram_ceiling_bytes_per_s
    l2_s = total / (constants.l2_fraction * device.l2_ceiling_bytes_per_s)
    launch_s = np.full_like(total, small_kernel_s(device))
    return StreamTiming(l2_s, dram_s, launch_s, launch_s + np.maximum(dram_s, l2_s), reads * missed, writes * missed)


def stream_seconds(
    device: Device, constants: Constants, read_bytes: ArrayLike, write_bytes: ArrayLike, warm: bool = True
) -> Reals:
    return stream_timing(device, constants, read_bytes, write_bytes, warm).total_s
