"""Work that streams: norms, activations, residuals, copies into a cache, and the sum over a ring of devices.

One kernel is bound by DRAM, L2 or its instructions. In an all-reduce each device sends a part to its neighbour,
2 (n - 1) times over: the parts are added on their way round, then passed round once more; each is an n-th of the sum,
so that a device sends 2 (n - 1) / n of its bytes. Trees and sums in the switch, which libraries may choose, are not
modelled. Knows bytes; knows no cascade.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import ArrayLike

from cascadesim.accelerators.gpu.calibration import Constants
from cascadesim.accelerators.gpu.grid import Reals
from cascadesim.accelerators.gpu.memory import share_in_l2
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Link
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

TURNAROUND = 0.3  # assumed: of the bandwidth, where reads and writes take turns; gpu-benches: triad 0.87 of read
# assumed: of one SM, read and written by a copy by index, a row of a head at a time; of 6, 8, 10 and 12 the one that
# suits calibration rows best
COPIED_BYTES_PER_CLOCK = 10.0
SMALL_KERNEL_S = 1e-6  # assumed: a load and a store, two trips to DRAM of about half a microsecond
# assumed: from the last byte sent to the neighbour's first: NCCL's tuning model (graph/tuning.cc, hwLat of a ring with
# low-latency lines), as recalled
STEP_LATENCY_S = {"nvlink": 0.6e-6, "infinity-fabric": 0.6e-6, "pcie": 1.0e-6}


@dataclass(frozen=True)
class StreamTiming:
    """Seconds of each unit alone, and of the whole."""

    l2_s: Reals
    dram_s: Reals
    launch_s: Reals
    total_s: Reals
    dram_read_bytes: Reals
    dram_write_bytes: Reals
    issue_s: Reals
    special_s: Reals


def small_kernel_s(device: Device) -> float:
    """A kernel that does next to nothing, in a CUDA graph."""
    return device.launch_s + SMALL_KERNEL_S


def stream_timing(
    device: Device, constants: Constants, read_bytes: ArrayLike, write_bytes: ArrayLike, warm: bool = True,
    instructions: tuple[float, float] = (0.0, 0.0),
) -> StreamTiming:  # fmt: skip
    """One kernel that reads and writes these bytes; `warm`: its operands are in L2 as far as they fit.

    DRAM gives what benchmarks reached, which were such kernels. `instructions`: of FP32 lanes, of special functions.
    """
    reads, writes = (np.atleast_1d(np.asarray(size, dtype=np.float64)) for size in (read_bytes, write_bytes))
    total = reads + writes
    missed = 1 - share_in_l2(device.l2_kept_bytes, total) * warm
    dram_s = total * missed / device.dram_ceiling_bytes_per_s
    l2_s = total / (constants.l2_fraction * device.l2_ceiling_bytes_per_s)
    launch_s = np.full_like(total, small_kernel_s(device))
    rates = device.sm.fp32_fma_per_clock, device.sm.special_per_clock
    issue_s, special_s = (np.full_like(total, count / (device.sms * rate * device.clock_hz))
                          for count, rate in zip(instructions, rates, strict=True))  # fmt: skip
    total_s = launch_s + np.max([dram_s, l2_s, issue_s, special_s], axis=0)
    return StreamTiming(l2_s, dram_s, launch_s, total_s, reads * missed, writes * missed, issue_s, special_s)


def copy_seconds(device: Device, constants: Constants, read_bytes: ArrayLike, write_bytes: ArrayLike) -> Reals:
    """One kernel that copies rows by index: reads and writes take turns, and an SM keeps little in flight."""
    timing = stream_timing(device, constants, read_bytes, write_bytes)
    moved = np.atleast_1d(np.asarray(read_bytes, dtype=np.float64) + np.asarray(write_bytes, dtype=np.float64))
    sms_s = moved / (device.sms * device.clock_hz * COPIED_BYTES_PER_CLOCK)
    dram_s = timing.dram_s / dram_share(timing.dram_read_bytes, timing.dram_write_bytes)
    return timing.launch_s + np.maximum(np.maximum(dram_s, timing.l2_s), sms_s)


def dram_share(read_bytes: Reals, write_bytes: Reals) -> Reals:
    """Share of the bandwidth of reads alone: turning round costs most where reads and writes balance."""
    mixed = 2 * np.minimum(read_bytes, write_bytes) / np.maximum(read_bytes + write_bytes, 1.0)
    return np.asarray(1 - TURNAROUND * mixed, dtype=np.float64)


def stream_seconds(
    device: Device, constants: Constants, read_bytes: ArrayLike, write_bytes: ArrayLike, warm: bool = True
) -> Reals:
    return stream_timing(device, constants, read_bytes, write_bytes, warm).total_s


@dataclass(frozen=True)
class RingTiming:
    """Seconds of one all-reduce: the launch, and each of `steps` on the link and after it."""

    steps: int
    launch_s: float
    step_link_s: float
    step_latency_s: float

    @property
    def link_s(self) -> float:
        return self.steps * self.step_link_s

    @property
    def total_s(self) -> float:
        return self.launch_s + self.link_s + self.steps * self.step_latency_s


def link_of(device: Device) -> Link:
    if device.link is None:
        raise CascadeSimError(f"no link between two {device.device} is known")
    return device.link


def ring_timing(device: Device, elements: int) -> RingTiming:
    """The sum of `elements` numbers over all devices. Raises CascadeSimError for a device without a link."""
    count, link = device.parallel.tensor, link_of(device)
    part_bytes = ceil(elements / count) * DTYPE_BYTES[device.type_of("activations")]
    steps = 2 * (count - 1)
    return RingTiming(steps, small_kernel_s(device), part_bytes / link.bytes_per_s, STEP_LATENCY_S[link.kind])
