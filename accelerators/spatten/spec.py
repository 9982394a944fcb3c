"""What SpAtten is made of: two multiplier arrays with a buffer each, softmax lanes, a top-k engine, HBM channels.

HPCA'21, sections IV and V; sizes as its public RTL takes them. Knows no cascade and no time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import model_validator

from cascadesim.accelerators.spatten.head_stream import GatherDesign
from cascadesim.einsum_cascades.notation.schema import Fraction, Positive, PositiveFloat, Spec, validate

STANDARDS: Mapping[str, str] = {"rtl": "hbm2", "nominal": "hbm2-nominal"}  # mode -> simulator.dram_standards
READ_GAP: Mapping[str, int] = {"rtl": 2, "nominal": 1}  # cycles between reads of a channel at its peak (HBM2 spec, 5)
REQUEST_BYTES = 32  # RTL: one DRAM transaction
# Cycles, bert.cpp (drain of a layer); assumed: to floating point, exponential of 5th order, sum, division, and the
# quantizer back to fixed point, in the order in which HPCA 2021 draws them.
SOFTMAX_STAGES = (7, 21, 23, 29, 7)


class Memory(Spec):
    mode: Literal["rtl", "nominal"]
    channels: Positive
    energy_pj_per_bit: PositiveFloat

    @property
    def peak_bytes_per_cycle(self) -> float:
        return self.channels * REQUEST_BYTES / READ_GAP[self.mode]


class Formats(Spec):
    """Bits that a head fetches first, and the share of heads that fetch 4 more of their keys."""

    key_bits: Literal[4, 6, 8]
    value_bits: Literal[4, 6, 8]
    low_bit_share: Fraction


class Pruning(Spec):
    """`schedule`: published (the workload's own), none, or the name of one. The shares replace what it says."""

    schedule: str
    token_keep: Fraction | None = None
    head_keep: Fraction | None = None
    value_keep: Fraction | None = None
    low_bit_share: Fraction | None = None


class FullyConnected(Spec):
    weight_bits: Literal[4, 8, 12]


class Published(Spec):
    """Figures that hold for one size only; None where there is none."""

    multipliers: Positive
    area_mm2: PositiveFloat | None
    topk_area_share: Fraction | None
    logic_w: PositiveFloat | None
    sram_w: PositiveFloat | None


class SpattenSpec(Spec):
    architecture: str
    model: Literal["pipeline", "behavioural"] = "pipeline"
    clock_hz: PositiveFloat
    multipliers: Positive
    buffer_lines: Positive
    fetch_channels: Positive
    softmax_lanes: Positive
    topk_parallelism: Positive
    topk_model: Literal["latency-model", "engine"]
    softmax_model: Literal["pass-through", "pipeline"]
    head_dim: Positive
    element_bits: Positive
    count_multiple: Positive
    dram: Memory
    formats: Formats
    pruning: Pruning
    fully_connected: FullyConnected
    published: Published

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.multipliers % self.head_dim:
            raise ValueError(f"multipliers ({self.multipliers}) must be a multiple of head_dim ({self.head_dim})")
        if self.dram.channels & (self.dram.channels - 1):
            raise ValueError(f"dram.channels ({self.dram.channels}) must be a power of two")
        if self.count_multiple > self.largest_keys:
            raise ValueError(f"count_multiple ({self.count_multiple}) exceeds the buffer's {self.largest_keys} vectors")
        if self.formats.value_bits == 6 and self.formats.key_bits != 6:
            raise ValueError("formats.value_bits 6 needs formats.key_bits 6: two heads share a fetch")
        return self

    @property
    def vectors_per_line(self) -> int:
        return self.multipliers // self.head_dim

    @property
    def largest_keys(self) -> int:
        return self.vectors_per_line * self.buffer_lines

    @property
    def softmax_cycles(self) -> int:
        """From a score to its probability, besides the scores it is summed with."""
        return sum(SOFTMAX_STAGES) if self.softmax_model == "pipeline" else 0

    @property
    def as_published(self) -> bool:
        return self.multipliers == self.published.multipliers

    def design(self) -> GatherDesign:
        return GatherDesign(
            self.multipliers, self.buffer_lines, self.dram.channels, self.fetch_channels, self.softmax_lanes,
            self.count_multiple, self.head_dim, STANDARDS[self.dram.mode], self.softmax_cycles,
        )  # fmt: skip


def read_spec(content: Mapping[str, object], source: str) -> SpattenSpec:
    """Raises SpecError with every problem."""
    return validate(SpattenSpec, content, source)
