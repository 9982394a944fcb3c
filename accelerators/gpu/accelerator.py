"""A GPU as the simulator sees it: presets in, plans out. Attention runs the text that its kernel computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cascadesim.accelerators.catalogue import presets
from cascadesim.accelerators.gpu.kernel import load_kernel, text_on
from cascadesim.accelerators.gpu.spec import Device
from cascadesim.accelerators.gpu.texts import KERNELS
from cascadesim.accelerators.protocol import Accounting, Capabilities, Plan, Unit
from cascadesim.einsum_cascades.operation import Operation
from cascadesim.einsum_cascades.schema import validate

PER_SM = ("tensor", "special", "issue", "shared_memory")
SHARED = ("l2", "dram", "launch")
BETWEEN = ("link",)  # where there are several devices


@dataclass(frozen=True)
class Gpu:
    """A configured device. It has neither an energy nor an area model; its closed form is calibrated."""

    name: str
    spec: Device

    @property
    def clock_hz(self) -> float:
        return self.spec.clock_hz

    @property
    def units(self) -> tuple[Unit, ...]:
        """An SM is a lane: its tensor cores, its special-function units, its FP32 lanes taken together."""
        between = BETWEEN if self.spec.parallel.tensor > 1 else ()
        peaks = self.spec.peaks(self.spec.dtype)
        per_sm = (Unit(name, self.spec.sms, peaks.get(name, 0.0) / self.spec.sms) for name in PER_SM)
        return (*per_sm, *map(Unit, (*SHARED, *between)))

    @property
    def attention(self) -> str:
        """What a kernel computes there: scores are stored where no fused kernel is known, or is asked for."""
        return KERNELS[text_on(self.spec)].name

    @property
    def leakage_w(self) -> float:
        return 0.0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(calibrated=True, memory_bytes=self.spec.dram_bytes, devices=self.spec.parallel.tensor)

    def area_um2(self) -> Mapping[str, float] | None:
        return None

    def plan(self, operation: Operation, accounting: Accounting) -> Plan:
        from cascadesim.accelerators.gpu import plans

        if operation.kind == "attention":
            return plans.plan_attention(operation, self.spec, accounting)
        if operation.kind == "linear":
            return plans.plan_linear(operation, self.spec, accounting)
        if operation.kind == "collective":
            return plans.plan_collective(operation, self.spec, accounting)
        return plans.plan_elementwise(operation, self.spec, accounting)


def build(name: str, content: Mapping[str, object], source: str) -> Gpu:
    """Raises SpecError with every problem of `content`, UnknownNameError on a kernel that does not exist."""
    device = validate(Device, content, source)
    if device.kernel != "auto":
        load_kernel(device.kernel)
    return Gpu(name, device)


def device_names() -> tuple[str, ...]:
    """What `cascadesim list devices` prints."""
    folder = __name__.split(".")[-2]
    return tuple(name.split("/")[1] for name in presets() if name.split("/")[0] == folder)
