"""What a GPU is: streaming multiprocessors, their rates per clock, caches, DRAM, launch cost.

Datasheet values and measured ceilings are kept apart and named as such. Peaks are products of the fields: the tests
hold them against the datasheet. Types of operands decide at which rate they are multiplied. Nothing here is calibrated
(`calibration`), and nothing knows a kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

from pydantic import model_validator

from cascadesim.accelerators.gpu.engines.engine import find_engine
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.schema import NonNegative, Positive, PositiveFloat, Spec

Dtype: TypeAlias = Literal["int4", "fp4", "mxfp4", "nvfp4", "fp8", "int8", "fp16", "bf16", "tf32", "fp32"]
TensorKind: TypeAlias = Literal["weights", "experts", "head", "activations", "kv", "attention"]
Generation: TypeAlias = Literal[
    "maxwell", "pascal", "volta", "turing", "ampere", "ada", "hopper", "blackwell", "blackwell-consumer", "cdna2",
    "cdna3", "cdna4",
]  # fmt: skip
DTYPE_BYTES: Mapping[Dtype, float] = {  # with the scales of their groups
    "fp4": 0.5,  # bare: the type of the products, no scales counted
    "int4": 4.25 / 8,  # a scale and a zero of 16 bits for 128 numbers (GPTQ, AWQ)
    "mxfp4": 4.25 / 8,  # OCP microscaling: a scale of 8 bits for 32 numbers
    "nvfp4": 4.5 / 8,  # NVIDIA: a scale of 8 bits for 16 numbers
    "fp8": 1, "int8": 1, "fp16": 2, "bf16": 2, "tf32": 4, "fp32": 4,
}  # fmt: skip
MULTIPLIED_AS: Mapping[Dtype, Dtype] = {"mxfp4": "fp4", "nvfp4": "fp4"}  # with their scales, by the same unit
_FLOATS = ("fp32", "tf32", "bf16", "fp16")  # what every narrower type converts to
_OTHER_CONVERSIONS: Mapping[Dtype, tuple[Dtype, ...]] = {  # PTX ISA, mma of mixed 4 and 8 bits; W4A8: QServe, AWQ
    "fp8": ("fp4", "mxfp4", "nvfp4", "int4"), "int8": ("int4",),
}  # fmt: skip


class ByDtype(Spec):
    """One number per type of operand; None where the device does not multiply it on tensor cores."""

    fp4: PositiveFloat | None = None
    fp8: PositiveFloat | None = None
    int4: PositiveFloat | None = None  # of queries and keys in codes, not of weights that are converted first
    int8: PositiveFloat | None = None
    fp16: PositiveFloat | None = None
    bf16: PositiveFloat | None = None
    tf32: PositiveFloat | None = None

    @property
    def known(self) -> dict[str, float]:
        return {name: value for name, value in self.model_dump().items() if value is not None}


class Datasheet(Spec):
    """What the vendor states, dense; None where it states nothing."""

    tensor_tflops: ByDtype = ByDtype()
    fp32_tflops: PositiveFloat
    dram_bytes_per_s: PositiveFloat
    power_w: Positive | None = None
    die_mm2: PositiveFloat | None = None
    process: str | None = None


class Link(Spec):
    """What joins a device to its neighbour in a ring; bytes in one direction, as the vendor states them."""

    kind: Literal["nvlink", "infinity-fabric", "pcie"]
    bytes_per_s: PositiveFloat


class Parallel(Spec):
    """Devices of one node that divide a model."""

    tensor: Positive = 1


class Types(Spec):
    """Types of what is stored and moved; None: the device's `dtype`, of `experts` and `head` that of the weights.

    attention: of queries, and of what attention multiplies. kv: of the cache that decoding reads. experts: weights of
    routed experts. head: of embeddings and of the matrix before the vocabulary, which 8-bit checkpoints leave as it is.
    """

    weights: Dtype | None = None
    experts: Dtype | None = None
    head: Dtype | None = None
    activations: Dtype | None = None
    kv: Dtype | None = None
    attention: Dtype | None = None


class Measured(Spec):
    """Ceilings that public benchmarks reached; None where none is known to us.

    of_dram_bytes_per_s: the datasheet's rate of the device that they ran on. A device of another rate reaches the same
    share of its own; None: `dram_bytes_per_s` is what this very device reaches, whatever its datasheet says.
    """

    dram_bytes_per_s: PositiveFloat | None = None
    of_dram_bytes_per_s: PositiveFloat | None = None
    l2_bytes_per_s: PositiveFloat | None = None
    launch_stream_s: PositiveFloat | None = None
    launch_graph_s: PositiveFloat | None = None


class Multiprocessor(Spec):
    """Rates per clock and sizes of one SM (of one compute unit on AMD devices)."""

    tensor_flop_per_clock: ByDtype = ByDtype()
    fp32_fma_per_clock: Positive
    special_per_clock: Positive  # exponentials and other special functions
    shared_memory_bytes: Positive  # at most, for all thread blocks together
    l1_bytes: Positive
    shared_memory_bytes_per_clock: Positive
    register_file_bytes: Positive
    tensor_memory_bytes: NonNegative = 0


class Device(Spec):
    """A GPU. `clock_hz` is the clock behind the vendor's tensor peak, the one that cycles are counted in.

    `kernel`: the attention kernel, by name, or `auto` for the first that runs. `engine`: whose fused kernels run
    (`engines`).
    """

    architecture: Literal["gpu"]
    device: str
    generation: Generation
    compute_capability: str
    sms: Positive
    clock_hz: PositiveFloat
    max_clock_hz: PositiveFloat
    sm: Multiprocessor
    l2_bytes: Positive
    l2_partitions: Positive = 1  # each keeps its own copy of the lines that its SMs read
    dram_bytes: Positive
    datasheet: Datasheet
    measured: Measured = Measured()
    link: Link | None = None
    parallel: Parallel = Parallel()
    kernel: str = "auto"
    dtype: Dtype = "bf16"
    types: Types = Types()
    engine: str = "none"

    @model_validator(mode="after")
    def _clock_and_peers_are_reachable(self) -> Self:
        if self.clock_hz > self.max_clock_hz:
            raise ValueError(f"clock_hz ({self.clock_hz:.0f}) exceeds max_clock_hz ({self.max_clock_hz:.0f})")
        if self.parallel.tensor > 1 and self.link is None:
            raise ValueError(f"parallel.tensor: no link between two {self.device} is known; give 1, or a link")
        return self

    @property
    def dram_ceiling_bytes_per_s(self) -> float:
        """What benchmarks reached; where nobody measured, the share of the datasheet that others reach."""
        reached, stated = self.measured.dram_bytes_per_s, self.datasheet.dram_bytes_per_s
        if reached is None:
            return 0.90 * stated  # devices.csv: 0.87 to 0.98
        return reached * (stated / (self.measured.of_dram_bytes_per_s or stated))

    @property
    def l2_ceiling_bytes_per_s(self) -> float:
        """assumed, where nobody measured: 35 bytes per clock and SM (devices.csv: 15, L40S, to 41, H100).

        Those of an H100 on B200, whose products outrun 35.
        """
        per_clock = 41.0 if self.generation == "blackwell" else 35.0
        return self.measured.l2_bytes_per_s or per_clock * self.sms * self.clock_hz

    @property
    def l2_kept_bytes(self) -> float:
        """Distinct bytes that SMs everywhere find in L2."""
        return self.l2_bytes / self.l2_partitions

    @property
    def launch_s(self) -> float:
        """A kernel in a CUDA graph, or from a stream where the engine has no graphs."""
        if not find_engine(self.engine).graphs:
            return self.measured.launch_stream_s or 2.4e-6  # devices.csv: 1.6 to 2.4 us
        return self.measured.launch_graph_s or 1.5e-6  # devices.csv: 1.0 to 1.7 us

    def type_of(self, kind: TensorKind) -> Dtype:
        own: Dtype | None = getattr(self.types, kind)
        if own is None and kind in ("experts", "head"):
            own = self.types.weights
        return own or self.dtype

    def flop_per_clock_sm(self, dtype: Dtype) -> float:
        """Rate of products: tensor cores where they take `dtype`, otherwise FP32 units (half precision converts)."""
        rates = self.sm.tensor_flop_per_clock.known
        if dtype in rates:
            return rates[dtype]
        if dtype in ("fp32", "fp16", "bf16"):
            return 2.0 * self.sm.fp32_fma_per_clock
        raise CascadeSimError(f"{self.device} multiplies no {dtype}; it multiplies {', '.join(rates) or 'fp32'}")

    def peaks(self, dtype: Dtype) -> dict[str, float]:
        """Operations of one class that all SMs finish in a cycle: multiply-accumulates of `dtype`, functions, lanes."""
        each = {
            "tensor": self.flop_per_clock_sm(dtype) / 2,
            "special": self.sm.special_per_clock,
            "issue": self.sm.fp32_fma_per_clock,
        }
        return {unit: float(self.sms * rate) for unit, rate in each.items()}


@dataclass(frozen=True)
class OperandTypes:
    """Types in which a product reads its rows (activations) and its second operand (weights, or a cache).

    The narrower operand is converted to the type of the wider one on its way from shared memory to the tensor cores, so
    that weights in 4 or 8 bits beside 16-bit activations run at the 16-bit rate and move at their own width (W4A16,
    W8A16). Only operands that are both narrow run at a narrow rate. assumed: the conversion hides behind the products,
    as in Marlin (arXiv 2408.11743) for up to some dozen rows; for more it is not charged.
    """

    rows: Dtype
    second: Dtype

    @property
    def product(self) -> Dtype:
        """The type that the tensor cores multiply. Raises CascadeSimError where neither converts to the other."""
        narrow, wide = sorted((self.rows, self.second), key=DTYPE_BYTES.__getitem__)
        if narrow == wide:
            return MULTIPLIED_AS.get(wide, wide)
        narrower = DTYPE_BYTES[narrow] < DTYPE_BYTES[wide]
        if narrower and (wide in _FLOATS or narrow in _OTHER_CONVERSIONS.get(wide, ())):
            return wide
        raise CascadeSimError(
            f"no product of activations in {self.rows} and a second operand in {self.second}: neither converts to the "
            f"other; --set types.activations=bf16, or types.weights (types.experts, types.kv) like the activations"
        )

    @property
    def named(self) -> str:
        """`bf16`; `bf16 x int4 in bf16` where they differ."""
        return self.rows if self.rows == self.second else f"{self.rows} x {self.second} in {self.product}"


def with_cache(attention: str, cache: str) -> str:
    """`bf16`; `bf16, cache in fp8`."""
    return attention if attention == cache else f"{attention}, cache in {cache}"
