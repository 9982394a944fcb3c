"""Stands where torch does on a machine with a GPU: a device whose time passes only by what is launched on it.

Its order of work is the real one: what is queued runs in order, a graph holds what was launched while it was captured,
and after an illegal access every call fails until the process ends. STAND_IN, JSON, says which card it is and what goes
wrong; see `sitecustomize`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

SETTINGS: dict[str, Any] = json.loads(os.environ.get("STAND_IN", "{}"))
__version__ = SETTINGS.get("torch", "2.11.0")
version = SimpleNamespace(cuda="13.0")
float32, float16, int64, int32 = "float32", "float16", "int64", "int32"
FLUSH_US = 35.0  # of one pass over the buffer
L2_BYTES = 1 << 20


class Device:
    """What was launched, in order, and when it ends."""

    def __init__(self) -> None:
        self.time_us = 0.0
        self.launched: list[tuple[str, float]] = []
        self.capturing: list[tuple[str, float]] | None = None
        self.lost = False

    def launch(self, name: str, takes_us: float) -> None:
        if self.lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if self.capturing is not None:
            self.capturing.append((name, takes_us))
            return
        self.launched.append((name, takes_us))
        self.time_us += takes_us


DEVICE = Device()


class Tensor:
    def zero_(self) -> None:
        DEVICE.launch("write", FLUSH_US)

    def item(self) -> int:
        return 1

    def tolist(self) -> list[int]:
        return [1_980_000, 1_000_000]  # cycles in a millisecond


def empty(*shape: Any, **options: Any) -> Tensor:
    DEVICE.launch("allocate", 0.0)
    return Tensor()


zeros = ones = full = empty


def sum(tensor: Tensor, dim: int, out: Tensor) -> None:
    DEVICE.launch("read", FLUSH_US)


class Event:
    def __init__(self, enable_timing: bool) -> None:
        self.at_us = 0.0

    def record(self) -> None:
        DEVICE.launch("event", 0.0)
        self.at_us = DEVICE.time_us

    def synchronize(self) -> None:
        cuda.synchronize()

    def elapsed_time(self, end: Event) -> float:
        return (end.at_us - self.at_us) / 1e3


class CUDAGraph:
    def __init__(self) -> None:
        self.held: list[tuple[str, float]] = []

    def replay(self) -> None:
        for name, takes_us in self.held:
            DEVICE.launch(name, takes_us)


@contextmanager
def _graph(graph: CUDAGraph) -> Iterator[None]:
    DEVICE.capturing = graph.held
    try:
        yield
    finally:
        DEVICE.capturing = None


def _synchronize() -> None:
    if DEVICE.capturing is not None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
    DEVICE.launch("synchronize", 0.0)


PROPERTIES = SimpleNamespace(
    name=SETTINGS.get("device", "NVIDIA H100 80GB HBM3"), major=9, minor=0, multi_processor_count=132,
    L2_cache_size=L2_BYTES, total_memory=80_000_000_000,
)  # fmt: skip
cuda = SimpleNamespace(
    is_available=lambda: SETTINGS.get("available", True),
    get_device_properties=lambda device: PROPERTIES,
    get_device_capability=lambda device=0: (9, 0),
    synchronize=_synchronize,
    empty_cache=lambda: None,
    Event=Event,
    CUDAGraph=CUDAGraph,
    graph=_graph,
)
