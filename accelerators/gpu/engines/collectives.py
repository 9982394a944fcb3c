"""The sum over devices: a ring, NCCL's in three protocols, one or two shots over peers, or in the switch.

Ring: each device sends a part to its neighbour, 2 (n - 1) times over: the parts are added on their way round, then
passed round once more; each is an n-th of the sum. It is what runs without an engine, with the least latency.

nccl: NCCL's own tuning model of a ring (graph/tuning.cc, topo.h, 2.19): a base latency, a latency of each step, and a
bandwidth of each protocol: flags beside every 4 bytes (LL), in every 128 (LL128), or between buffers (Simple). One
shot: every device reads what all others have; two: a part of it, then the sums of the others. In the switch (NVLink
SHARP): a device reads its part summed, and sends the sum to all at once. The fastest of what an engine has is taken.
All send 16 bits a number at least: products give no narrower results.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from cascadesim.accelerators.gpu.engines.engine import Algorithm, find_engine
from cascadesim.accelerators.gpu.gemm import output_bytes
from cascadesim.accelerators.gpu.memory import small_kernel_s
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Link
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

# NCCL topo.h: 20.0, 20.6 and 40.1 GB/s a link of 25, 25 and 50 stated; 12 of 15.75 of PCIe. assumed of others: as PCIe
LINK_SHARE = {"nvlink": 0.81, "infinity-fabric": 0.76, "pcie": 0.76}
# NCCL topo.h, AMD_BW: what passes between two sockets; assumed: a ring over PCIe crosses them somewhere, and they are
# AMD's, as scored runs over PCIe say (docs/generate.md)
BETWEEN_SOCKETS_BYTES_PER_S = 16e9
BASE_S = {"LL": 6.6e-6, "LL128": 14.0e-6, "Simple": 8.4e-6}  # NCCL tuning.cc, baseLat of rings
# the same, hwLat: from the last byte sent to the neighbour's first; assumed: other links of devices are like NVLink
STEP_S: Mapping[str, Mapping[str, float]] = {
    "nvlink": {"LL": 0.6e-6, "LL128": 1.9e-6, "Simple": 3.4e-6},
    "infinity-fabric": {"LL": 0.6e-6, "LL128": 1.9e-6, "Simple": 3.4e-6},
    "pcie": {"LL": 1.0e-6, "LL128": 2.5e-6, "Simple": 5.7e-6},
}
SHARE_OF_PROTOCOL = {"LL": 0.25, "LL128": 0.92, "Simple": 1.0}  # the same, of an all-reduce within a node
MOST_LL_BYTES_PER_S = 87.7e9  # the same, llMaxBws of one node of Ampere or Hopper
BARRIER_S = 1.5e-6  # assumed: flags to all peers and theirs seen, two trips of NVLink of about 0.7 us
IN_SWITCH = ("hopper", "blackwell")  # NVLink SHARP: third generation of NVSwitch and later


@dataclass(frozen=True)
class RingTiming:
    """Seconds of one all-reduce: the launch, and each of `steps` on the link and after it."""

    steps: int
    launch_s: float
    step_link_s: float
    step_latency_s: float
    algorithm: str = "ring"

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
    return RingTiming(steps, small_kernel_s(device), part_bytes / link.bytes_per_s, STEP_S[link.kind]["LL"])


def fastest_sum(device: Device, elements: int) -> RingTiming:
    """The fastest of the engine's algorithms. Raises CascadeSimError for a device without a link."""
    found = [timing for algorithm in find_engine(device.engine).all_reduce
             for timing in _timings(device, algorithm, elements)]  # fmt: skip
    return min(found, key=lambda timing: timing.total_s)


def _timings(device: Device, algorithm: Algorithm, elements: int) -> Iterator[RingTiming]:
    """Nothing where the device has no such algorithm."""
    link, count = link_of(device), device.parallel.tensor
    size = elements * output_bytes(DTYPE_BYTES[device.type_of("activations")])
    rate = LINK_SHARE[link.kind] * link.bytes_per_s
    if algorithm == "ring":
        yield ring_timing(device, elements)
    elif algorithm == "nccl":
        yield from _rings(link.kind, count, size, rate)
    elif link.kind != "pcie" and (algorithm != "in-switch" or device.generation in IN_SWITCH):
        steps, sent = {"one-shot": (1, count - 1), "two-shot": (2, 2 * (count - 1) / count),
                       "in-switch": (2, 1 + 1 / count)}[algorithm]  # fmt: skip
        yield RingTiming(steps, small_kernel_s(device), sent * size / steps / rate, BARRIER_S, algorithm)


def _rings(kind: str, count: int, size: float, rate: float) -> Iterator[RingTiming]:
    steps, slowest = 2 * (count - 1), BETWEEN_SOCKETS_BYTES_PER_S if kind == "pcie" and count > 2 else rate
    for protocol, share in SHARE_OF_PROTOCOL.items():
        reached = min(share * min(rate, slowest), MOST_LL_BYTES_PER_S if protocol == "LL" else rate)
        yield RingTiming(steps, BASE_S[protocol], size / count / reached, STEP_S[kind][protocol], f"ring, {protocol}")
