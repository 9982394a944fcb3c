"""What SpAtten is made of: two multiplier arrays with a buffer each, softmax lanes, a top-k engine, HBM channels.

HPCA'21, sections IV and V; sizes as its public RTL takes them, and the stream of heads that the RTL runs, as data.
Energy and area follow the published breakdown (40 nm), which holds for the published sizes only. Knows no cascade and
no time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Literal, Self

from pydantic import model_validator

from cascadesim.einsum_cascades.notation.schema import Fraction, Positive, PositiveFloat, Spec

STANDARDS: Mapping[str, str] = {"rtl": "hbm2", "nominal": "hbm2-nominal"}  # mode -> accelerators.dram.standards
READ_GAP: Mapping[str, int] = {"rtl": 2, "nominal": 1}  # cycles between reads of a channel at its peak (HBM2 spec, 5)
REQUEST_BYTES = 32  # RTL: one DRAM transaction
# Cycles, bert.cpp (drain of a layer); assumed: to floating point, exponential of 5th order, sum, division, and the
# quantizer back to fixed point, in the order in which HPCA 2021 draws them.
SOFTMAX_STAGES = (7, 21, 23, 29, 7)
UM2_PER_MM2 = 1e6
JOULES_PER_PJ = 1e-12


class HbmMemory(Spec):
    """`mode`: what the RTL's memory delivers, or the nominal rate of HBM2, which is twice that."""

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


PRUNING_SHARES = ("token_keep", "head_keep", "value_keep", "low_bit_share")  # of `Pruning`, in place of a schedule's


class FullyConnected(Spec):
    """Weights of linear layers stream from DRAM in so many bits."""

    weight_bits: Literal[4, 8, 12]


class PublishedFigures(Spec):
    """Figures that hold for one size only; None where there is none."""

    multipliers: Positive
    area_mm2: PositiveFloat | None
    topk_area_share: Fraction | None
    logic_w: PositiveFloat | None
    sram_w: PositiveFloat | None


class SpattenSpec(Spec):
    """A configured machine, as its preset states it."""

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
    dram: HbmMemory
    formats: Formats
    pruning: Pruning
    fully_connected: FullyConnected
    published: PublishedFigures

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
    def buffer_bytes(self) -> int:
        """Bytes of the key and the value buffer together."""
        return 2 * self.buffer_lines * self.multipliers * self.element_bits // 8

    @property
    def softmax_cycles(self) -> int:
        """Cycles from a score to its probability, besides the scores it is summed with."""
        return sum(SOFTMAX_STAGES) if self.softmax_model == "pipeline" else 0

    def design(self) -> GatherDesign:
        """What a stream of heads runs on."""
        return GatherDesign(
            self.multipliers, self.buffer_lines, self.dram.channels, self.fetch_channels, self.softmax_lanes,
            self.count_multiple, self.head_dim, STANDARDS[self.dram.mode], self.softmax_cycles,
        )  # fmt: skip

    def dynamic_energy_j(self, dram_bytes: float, cycles: float) -> Mapping[str, float] | None:
        """Component -> joules; None where the breakdown of this size is not published.

        DRAM is charged by the bit. assumed: logic and SRAM draw their published mean power, whatever the work.
        """
        figures = self.published
        if self.multipliers != figures.multipliers or figures.logic_w is None or figures.sram_w is None:
            return None
        seconds = cycles / self.clock_hz
        return {
            "dram": 8 * dram_bytes * self.dram.energy_pj_per_bit * JOULES_PER_PJ,
            "logic": figures.logic_w * seconds,
            "sram": figures.sram_w * seconds,
        }

    def area_um2(self) -> Mapping[str, float] | None:
        """Component -> area; None where that of this size is not published."""
        figures = self.published
        if self.multipliers != figures.multipliers or figures.area_mm2 is None:
            return None
        total = figures.area_mm2 * UM2_PER_MM2
        if figures.topk_area_share is None:
            return {"chip": total}
        return {"top_k": figures.topk_area_share * total, "rest_of_chip": (1 - figures.topk_area_share) * total}


@dataclass(frozen=True, slots=True)
class GatherDesign:
    """The sizes that a stream of heads runs on. Keys and values are rounded up to multiples of `count_multiple`."""

    multipliers: int  # of each of the two products; a multiple of the head size
    buffer_lines: int  # of each of the key and the value buffer; a line holds `multipliers` elements
    dram_channels: int
    fetch_channels: int
    softmax_lanes: int
    count_multiple: int = 8
    head_dim: int = 64
    dram: str = "hbm2"  # name of a standard in `accelerators.dram.standards`
    softmax_cycles: int = 0  # from a head's last score to its largest probability, which decides

    @property
    def vectors_per_line(self) -> int:
        return self.multipliers // self.head_dim

    @property
    def largest_keys(self) -> int:
        return self.vectors_per_line * self.buffer_lines


@dataclass(frozen=True, slots=True)
class HeadRow:
    """One query of one head. Heads with 6-bit keys come in pairs of equal counts.

    `low_bits`: whether the head fetches the low bits of its keys and multiplies again. `selection_cycles`: of the
    top-k engine, where values are fewer than keys, or where `chosen`: they are chosen among the keys of a larger head,
    of which these keys are a piece. `number` places its keys and values in memory.
    """

    number: int
    keys: int
    values: int
    key_bits: int  # 4, 6 or 8
    value_bits: int
    low_bits: bool = False
    selection_cycles: int = 0
    chosen: bool = False

    def selects(self, design: SpattenSpec | GatherDesign) -> bool:
        """Whether the scores pass the top-k engine: where all that is fetched is used, none is selected."""
        return self.chosen or padded(self.values, design) < padded(self.keys, design)


@dataclass(frozen=True)
class HeadStream:
    """Heads in order. `gap_cycles`: None sends them back to back, otherwise each (or each pair) runs alone.

    `gathered`: numbers of the keys that every head gathers, in order, at least as many as the longest head has;
    empty for consecutive keys. `rows_open`: every DRAM bank has another row open, as after other work; otherwise none.
    """

    design: GatherDesign
    rows: tuple[HeadRow, ...]
    gap_cycles: int | None = None
    gathered: tuple[int, ...] = ()
    rows_open: bool = False

    @property
    def longest(self) -> int:
        """Keys of the longest head, as they are fetched."""
        return padded(max(row.keys for row in self.rows), self.design)


def padded(count: int, design: SpattenSpec | GatherDesign) -> int:
    """Keys or values as they are fetched: whole multiples."""
    return ceil(count / design.count_multiple) * design.count_multiple


def lines(vectors: int, design: SpattenSpec | GatherDesign) -> int:
    """Buffer lines of a head: an even number, because two ports fill them."""
    return 2 * ceil(ceil(vectors / design.vectors_per_line) / 2)
