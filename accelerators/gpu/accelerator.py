"""A GPU as the simulator sees it: presets in, plans out. Texts of no library's kernel run as kernels of their own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from cascadesim.accelerators.catalogue import presets
from cascadesim.accelerators.gpu.attention.walk import IntegerArray
from cascadesim.accelerators.gpu.calibration import overhead_s
from cascadesim.accelerators.gpu.engines.engine import find_engine
from cascadesim.accelerators.gpu.engines.fusion import fused
from cascadesim.accelerators.gpu.gemm import POWER_LIMITED
from cascadesim.accelerators.gpu.generic.plans import plan_text
from cascadesim.accelerators.gpu.grid import Reals
from cascadesim.accelerators.gpu.kernel import KERNELS, kernel_text, load_kernel, text_on
from cascadesim.accelerators.gpu.plans import (
    cycles_by_keys,
    cycles_by_outputs,
    listed_seconds,
    plan_attention,
    plan_collective,
    plan_elementwise,
    plan_linear,
    rotated_inside,
)
from cascadesim.accelerators.gpu.spec import DTYPE_BYTES, ByDtype, Device, Dtype, OperandTypes, TensorKind
from cascadesim.accelerators.protocol import Accounting, Capabilities, ListedSeconds, Plan, Stored, Unit
from cascadesim.einsum_cascades.models.operation import PATTERN, Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.schema import validate

PER_SM = ("tensor", "special", "issue", "shared_memory")
SHARED = ("l2", "dram", "launch")
CODES: tuple[Dtype, ...] = ("int4",)  # multiplied by texts that ask for them, whatever a model's types are
DOCUMENTATION: Mapping[str, str] = {  # fields that say what a device is, and that no model reads
    "device": "a name", "compute_capability": "a name", "datasheet.process": "a name",
    "max_clock_hz": "cycles are counted at clock_hz",
    "sm.shared_memory_bytes": "kernels of libraries have their tiles whatever it is; those of a text fit the preset's",
    "sm.l1_bytes": "kernels go past it", "sm.register_file_bytes": "as sm.shared_memory_bytes",
    "sm.tensor_memory_bytes": "kernels have their tiles whatever it is",
    "datasheet.tensor_tflops": "peaks are sms x clock_hz x sm.tensor_flop_per_clock",
    "datasheet.fp32_tflops": "peaks are sms x clock_hz x 2 x sm.fp32_fma_per_clock",
    "datasheet.power_w": "GPUs have no energy model", "datasheet.die_mm2": "GPUs have no area model",
}  # fmt: skip


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
        peaks = self.spec.peaks("fp32")  # of each unit, in whichever type of its products it is fastest
        for dtype in (*_multiplied(self.spec), *CODES):
            with suppress(CascadeSimError):
                peaks |= {unit: max(rate, peaks[unit]) for unit, rate in self.spec.peaks(dtype).items()}
        between = ("link",) if self.spec.parallel.tensor > 1 else ()
        per_sm = (Unit(name, self.spec.sms, peaks.get(name, 0.0) / self.spec.sms) for name in PER_SM)
        return (*per_sm, *map(Unit, (*SHARED, *between)))

    @property
    def attention(self) -> str:
        """What a kernel computes there: scores are stored where no fused kernel is known, or is asked for."""
        return KERNELS[text_on(self.spec)].name

    @property
    def leakage_w(self) -> float:
        return 0.0

    @cached_property
    def capabilities(self) -> Capabilities:
        engine = find_engine(self.spec.engine)
        kinds: tuple[TensorKind, ...] = ("weights", "experts", "activations", "kv", "head")
        stored = Stored(*(DTYPE_BYTES[self.spec.type_of(kind)] for kind in kinds))
        return Capabilities(
            calibrated=True, patterns="all", memory_bytes=self.spec.dram_bytes,
            dram_bytes_per_s=self.spec.dram_ceiling_bytes_per_s, buffer_bytes=self.spec.l2_bytes,
            devices=self.spec.parallel.tensor, stored=stored,
            chosen_types=tuple(name for name, dtype in self.spec.types if dtype is not None), unread=unread(self.spec),
            engine=self.spec.engine, tokens_per_pass=engine.tokens_per_pass, first_alone=engine.first_alone,
            step_overhead_s=overhead_s(engine.steps), start_overhead_s=overhead_s(engine.starts),
        )  # fmt: skip

    def area_um2(self) -> Mapping[str, float] | None:
        return None

    def plan(self, operation: Operation, accounting: Accounting) -> Plan:
        if accounting == "artifact":
            raise CascadeSimError("GPUs have no artifact accounting; use --accounting physical")
        if operation.kind == "attention" and kernel_text(operation.cascade) is None:
            own = operation.name.startswith(PATTERN)  # runs beside the kernel that is asked for
            return plan_text(operation, self.spec.model_copy(update={"kernel": "auto"}) if own else self.spec)
        plan_of = {"attention": plan_attention, "linear": plan_linear, "collective": plan_collective}
        return plan_of.get(operation.kind, plan_elementwise)(operation, self.spec)

    def prepared(self, operations: tuple[Operation, ...], workload: str) -> tuple[Gpu, tuple[Operation, ...]]:
        """The operations as the engine launches them, whatever the workload."""
        return self, tuple(rotated_inside(fused(operations, find_engine(self.spec.engine)), self.spec))

    def notes(self, sequence_length: int) -> tuple[str, ...]:
        """The engine, at any length."""
        return () if self.spec.engine == "none" else (f"kernels are those of engine {self.spec.engine}",)

    def listed_seconds(self, operation: Operation) -> ListedSeconds:
        return listed_seconds(operation, self.spec)

    def cycles_by_length(self, operation: Operation, lengths: IntegerArray) -> Reals | None:
        if operation.kind == "linear":
            return cycles_by_outputs(operation, self.spec, lengths)
        known = operation.kind == "attention" and kernel_text(operation.cascade) is not None
        return cycles_by_keys(operation, self.spec, lengths) if known else None


def unread(device: Device) -> Mapping[str, str]:
    """Fields and groups that no figure depends on, as the device is set up -> why."""
    found, measured, graphs = dict(DOCUMENTATION), device.measured, find_engine(device.engine).graphs
    if device.generation in POWER_LIMITED:
        del found["datasheet.power_w"]
    found |= ({"measured.launch_stream_s": "kernels are launched from graphs: measured.launch_graph_s"} if graphs else
              {"measured.launch_graph_s": "kernels are launched from a stream: measured.launch_stream_s"})
    if device.parallel.tensor == 1:
        found["link"] = "nothing is sent where parallel.tensor is 1"
    if measured.dram_bytes_per_s is None:
        found["measured.of_dram_bytes_per_s"] = "measured.dram_bytes_per_s is not given"
    elif measured.of_dram_bytes_per_s is None:
        found["datasheet.dram_bytes_per_s"] = "measured.dram_bytes_per_s stands in its place, as it is"
    multiplied, known = _multiplied(device), device.sm.tensor_flop_per_clock.known
    for dtype in ByDtype.model_fields:
        if dtype not in multiplied:
            found[f"sm.tensor_flop_per_clock.{dtype}"] = f"nothing is multiplied in {dtype}; set dtype or types, too"
    if multiplied <= set(known):
        found["sm.fp32_fma_per_clock"] = "tensor cores make all products; dtype=fp32 takes the FP32 units"
    return found


def _multiplied(device: Device) -> set[Dtype]:
    """Types of products, of attention with its cache too; those that cannot be are refused when they are planned."""
    found: set[Dtype] = {device.type_of("attention"), device.type_of("kv")}
    for kind in ("weights", "experts", "head", "kv"):
        with suppress(CascadeSimError):
            found.add(OperandTypes(device.type_of("activations"), device.type_of(kind)).product)
    return found


def build(name: str, content: Mapping[str, object], source: str) -> Gpu:
    """Raises SpecError with every problem of `content`, UnknownNameError on a kernel that does not exist."""
    device = validate(Device, content, source)
    find_engine(device.engine)
    if device.kernel != "auto":
        load_kernel(device.kernel)
    return Gpu(name, device)


def device_names() -> tuple[str, ...]:
    """What `cascadesim list devices` prints."""
    folder = __name__.split(".")[-2]
    return tuple(name.split("/")[1] for name in presets() if name.split("/")[0] == folder)
