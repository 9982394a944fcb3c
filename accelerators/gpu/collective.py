"""An all-reduce over a ring of devices: each sends a part to its neighbour, 2 (n - 1) times over.

The parts are added on their way round, then passed round once more; each is an n-th of the sum, so that a device sends
2 (n - 1) / n of its bytes. Trees and sums in the switch, which libraries may choose, are not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from cascadesim.accelerators.gpu.elementwise import small_kernel_s
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, Device, Link
from cascadesim.accelerators.program import After, Program, Task, TileRun
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

# assumed: from the last byte sent to the neighbour's first: NCCL's tuning model (graph/tuning.cc, hwLat of a ring with
# low-latency lines), as recalled
STEP_LATENCY_S = {"nvlink": 0.6e-6, "infinity-fabric": 0.6e-6, "pcie": 1.0e-6}


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
    """Of the sum of so many elements over all devices. Raises CascadeSimError for a device without a link."""
    count, link = device.parallel.tensor, link_of(device)
    part_bytes = ceil(elements / count) * DTYPE_BYTES[device.type_of("activations")]
    steps = 2 * (count - 1)
    return RingTiming(steps, small_kernel_s(device), part_bytes / link.bytes_per_s, STEP_LATENCY_S[link.kind])


def ring_program(device: Device, timing: RingTiming) -> Program:
    """What arrives in one step is sent on in the next."""
    lag = ceil(timing.step_latency_s * device.clock_hz)
    tasks = (
        Task("launch", "launch"),
        Task("send", "link", after=(After("launch", latest=True), After("send", tiles_back=1, lag_cycles=lag))),
    )
    classes = ((ceil(timing.launch_s * device.clock_hz), 0), (0, max(ceil(timing.step_link_s * device.clock_hz), 1)))
    return Program(tasks, classes, (TileRun(0, 1), TileRun(1, timing.steps)), drain_cycles=lag)


def ring_lines(device: Device, timing: RingTiming, elements: int) -> tuple[str, ...]:
    link, count = link_of(device), device.parallel.tensor
    part_bytes = elements * DTYPE_BYTES[device.type_of("activations")] / count
    return (
        f"ring of {count} devices: {timing.steps} steps of {part_bytes:,.0f} bytes, each "
        f"{timing.step_latency_s * 1e6:.1f} us after the last (assumed); "
        f"{link.kind}, {link.bytes_per_s / 1e9:,.0f} GB/s one way (datasheet)",
        f"alone: link {timing.link_s * 1e6:,.1f} us, launch {timing.launch_s * 1e6:,.1f} us; "
        f"together {timing.total_s * 1e6:,.1f} us",
    )
