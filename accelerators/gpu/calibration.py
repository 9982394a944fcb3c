"""The few constants of an architecture that no document gives: achieved fractions, overlap, latencies.

Read from `calibration.yaml`, which `cascadesim.validation.gpu.calibrate` writes from rows set aside for it, with their
intervals; `rows: 0` marks a stated guess. Devices share the constants of their generation. They are what a script
fits; other numbers of the model were chosen with data in view, too (docs/gpu.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from cascadesim.accelerators.gpu.spec import Generation
from cascadesim.einsum_cascades.notation.schema import NonNegative, NonNegativeFloat, Spec, read_yaml, validate

FILE = Path(__file__).parent / "calibration.yaml"
Share = Annotated[float, Field(gt=0, lt=1)]  # an achieved fraction: below 1
NEAREST: Mapping[Generation, Generation] = {
    "maxwell": "ampere", "pascal": "ampere", "volta": "ampere", "turing": "ampere", "blackwell-consumer": "ada",
    "cdna2": "ampere", "cdna3": "hopper", "cdna4": "hopper",
}  # fmt: skip # assumed: generations without public rows are taken like the nearest one that has them


class Constants(Spec):
    """The constants of an architecture: at most 12 are calibrated, and each has one that none of its rows speaks of.

    Fractions are of the device's peak or of its measured ceiling.
    """

    tensor_fraction: Share  # of the tensor peak, in the inner loop of attention
    special_fraction: Share  # of the special-function peak
    overlap_specialised: Share  # of the shorter of products and softmax that warp-specialised kernels hide
    overlap_plain: Share  # the same, of kernels whose warps all do everything
    gemm_fraction: Share  # of the tensor peak, in the inner loop of 16-bit products of matrices
    gemm_fp8_fraction: Share  # the same for 8-bit products
    gemm_dram_fraction: Share  # of the measured DRAM ceiling, in products of few rows
    dram_fraction: Share  # of the measured DRAM ceiling, elsewhere
    l2_fraction: Share  # of the measured L2 ceiling
    block_latency_s: NonNegativeFloat  # from one thread block of an SM to its next: last stores, first loads
    kernel_latency_s: NonNegativeFloat  # the first loads and the last stores of a kernel, besides the launch
    memory_overlap: Share  # how far memory and compute hide each other: 0 adds them, 1 takes the longer


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
    """The file: architecture -> constant -> estimate."""

    architectures: Mapping[Generation, Mapping[str, Estimate]]


@cache
def estimates() -> Mapping[Generation, Mapping[str, Estimate]]:
    return validate(CalibrationFile, {"architectures": read_yaml(FILE)}, FILE.name).architectures


@cache
def constants(generation: Generation) -> Constants:
    """The constants of a generation, or of the nearest one that has any."""
    found = estimates()[NEAREST.get(generation, generation)]
    return validate(Constants, {name: estimate.value for name, estimate in found.items()}, FILE.name)
