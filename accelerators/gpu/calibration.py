"""The constants of the GPU model that no document gives: achieved fractions, overlap, latencies, instruction counts.

Read from `calibration.yaml`, which `cascadesim.validation.gpu.calibrate` writes from rows set aside for it, with their
intervals; `rows: 0` marks a stated guess. Those of `SHARED` are the same on every device; devices share the others with
their generation. They are what a script fits; docs/constants.md lists them with everything else that is assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from cascadesim.accelerators.gpu.spec import Generation
from cascadesim.einsum_cascades.notation.schema import NonNegative, NonNegativeFloat, Spec, read_yaml, validate

FILE = Path(__file__).parent / "calibration.yaml"
STEP_OVERHEADS_FILE = FILE.with_name("step_overheads.yaml")
Share = Annotated[float, Field(gt=0, lt=1)]  # an achieved fraction: below 1
Section: TypeAlias = Generation | Literal["shared"]
NEAREST: Mapping[Generation, Generation] = {
    "maxwell": "ampere", "pascal": "ampere", "volta": "ampere", "turing": "ampere", "blackwell-consumer": "ada",
    "cdna2": "ampere", "cdna3": "hopper", "cdna4": "hopper",
}  # fmt: skip # assumed: generations without public rows are taken like the nearest one that has them
SHARED = (
    "special_fraction", "overlap_specialised", "instructions_specialised", "instructions_plain",
    "element_instructions", "conversion_instructions", "spilled_rate", "persistent_share",
    "copied_bytes_per_clock", "gemm_fraction", "narrow_share", "tensor_energy_pj", "l2_fraction", "block_latency_s",
)  # fmt: skip


class Constants(Spec):
    """What is calibrated, as a device of one generation reads it.

    Fractions are of the device's peak or of its measured ceiling; instructions are issued for one element each.
    """

    tensor_fraction: Share  # of the tensor peak, in the inner loop of attention
    special_fraction: Share  # of the special-function peak
    overlap_specialised: Share  # of the shorter of products and softmax that warp-specialised kernels hide; others none
    instructions_specialised: NonNegativeFloat  # of a score, beside products and exponentials, in specialised kernels
    instructions_plain: NonNegativeFloat  # the same, in all others
    element_instructions: NonNegativeFloat  # of an element of the cache that is multiplied on FP32 units
    conversion_instructions: NonNegativeFloat  # of one that is converted, transposed, or loaded by itself
    spilled_rate: Share  # of the tensor rate that is left where accumulators spill from registers
    persistent_share: Share  # of the block latency that is left in persistent kernels, which load ahead
    gemm_fraction: Share  # of the tensor peak, in the inner loop of products of matrices
    narrow_share: Share  # of that, which 8-bit products reach of theirs
    tensor_energy_pj: NonNegativeFloat  # of a 16-bit operation of mma.sync in products, at 1 GHz; as the clock squared
    dram_fraction: Share  # of the measured DRAM ceiling, in attention that reads so much that its beginning is nothing
    dram_ramp_s: NonNegativeFloat  # what it loses at most, until as much is in flight as DRAM can answer
    l2_fraction: Share  # of the measured L2 ceiling
    copied_bytes_per_clock: NonNegativeFloat  # of one SM that copies by index, a row of a head at a time; both ways
    block_latency_s: NonNegativeFloat  # from one thread block of an SM to its next: last stores, first loads
    kernel_latency_s: NonNegativeFloat  # the first loads and the last stores of a kernel, besides the launch
    memory_overlap: Share  # how far memory and compute hide each other: 0 adds them, 1 takes the longer


class CycleConstants(Spec):
    """What the cycle level of attention reads besides, where dependences make the overlap."""

    cycle_tensor_fraction: Share  # of the tensor peak, in the place of `tensor_fraction`
    cycle_exponential_share: Share  # of the time of exponentials, in which the schedulers of an SM issue nothing else


class Estimate(Spec):
    """`low` and `high`: an interval of confidence; `rows`: how many measurements it rests on, 0 for a guess."""

    value: float
    low: float
    high: float
    rows: NonNegative

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"value {self.value} is not between low {self.low} and high {self.high}")
        return self


class CalibrationFile(Spec):
    """The file: `shared` or architecture -> constant -> estimate."""

    sections: Mapping[Section, Mapping[str, Estimate]]


@cache
def estimates() -> Mapping[Section, Mapping[str, Estimate]]:
    return validate(CalibrationFile, {"sections": read_yaml(FILE)}, FILE.name).sections


@cache
def constants(generation: Generation) -> Constants:
    """The constants of a generation, or of the nearest one that has any, with the shared ones."""
    found = {**estimates()["shared"], **estimates()[NEAREST.get(generation, generation)]}
    known = {name: found[name].value for name in Constants.model_fields if name in found}
    return validate(Constants, known, FILE.name)


@cache
def cycle_constants(generation: Generation) -> CycleConstants:
    """Those of the cycle level, likewise."""
    found = estimates()[NEAREST.get(generation, generation)]
    known = {name: found[name].value for name in CycleConstants.model_fields if name in found}
    return validate(CycleConstants, known, FILE.name)


class StepOverheadsFile(Spec):
    """How an engine runs a step, or starts a batch -> seconds that it takes besides the kernels of the model."""

    steps: Mapping[Literal["pieces", "whole", "session"], Estimate]


@cache
def step_overheads() -> Mapping[str, Estimate]:
    """As `cascadesim.validation.models.calibrate` found them in runs of whole models that are set aside for it."""
    found = validate(StepOverheadsFile, {"steps": read_yaml(STEP_OVERHEADS_FILE)}, STEP_OVERHEADS_FILE.name).steps
    return {str(name): one for name, one in found.items()}


def overhead_s(kind: str | None) -> float:
    """Of a step or a start of this kind; 0 where no run tells."""
    return 0.0 if kind is None else step_overheads()[kind].value
