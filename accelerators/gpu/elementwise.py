"""Work that only streams: norms, activations, residuals, copies into a cache. Bound by DRAM or L2, after a launch."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.accelerators.gpu.shape import Reals
from cascadesim.accelerators.gpu.spec import Device


def stream_seconds(device: Device, constants: Constants, read_bytes: ArrayLike, write_bytes: ArrayLike) -> Reals:
    """One kernel that reads and writes so many bytes, its operands in L2 as far as they fit."""
    total = np.atleast_1d(np.asarray(read_bytes, dtype=np.float64) + np.asarray(write_bytes, dtype=np.float64))
    kept = np.clip(2 * device.l2_bytes / np.maximum(total, 1.0) - 1, 0, 1)
    dram_s = total * (1 - kept) / (constants.dram_fraction * device.dram_ceiling_bytes_per_s)
    l2_s = total / (constants.l2_fraction * device.l2_ceiling_bytes_per_s)
    return np.asarray(device.launch_s + constants.kernel_latency_s + np.maximum(dram_s, l2_s), dtype=np.float64)
