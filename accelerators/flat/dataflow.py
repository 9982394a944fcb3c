"""One FLAT dataflow: where each tensor lives, what stays in the PEs, how many query rows are worked on together.

Values and their wording only. FLAT (ASPLOS'23), section 4; loop order per stationarity as the FuseMax artifact has it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cascadesim.accelerators.flat.spec import TENSORS, Granularity, Stationarity


@dataclass(frozen=True, slots=True)
class Dataflow:
    """`on_chip`: tensors kept in the global buffer, the others pass it by. `rows`: query rows per block (row only)."""

    on_chip: frozenset[str]
    qk_stationarity: Stationarity
    av_stationarity: Stationarity
    granularity: Granularity
    rows: int

    def __str__(self) -> str:
        kept = ", ".join(tensor for tensor in TENSORS if tensor in self.on_chip) or "nothing"
        block = "a head at a time" if self.granularity == "head" else f"{self.rows:,} query rows at a time"
        return f"{block}; on chip {kept}; QK {self.qk_stationarity}-stationary, AV {self.av_stationarity}-stationary"


@dataclass(frozen=True, slots=True)
class LoopOrder:
    """Ranks of a contraction: `temporal` in full and innermost, `columns` and `rows` spread over the array.

    Outer to inner: tiles of the rank on the rows, tiles of the rank on the columns, then `temporal`.
    """

    temporal: str
    columns: str
    rows: str


QK_LOOPS: dict[Stationarity, LoopOrder] = {
    "output": LoopOrder("e", "m", "p"),
    "weight": LoopOrder("p", "e", "m"),
    "input": LoopOrder("m", "e", "p"),
}
AV_LOOPS: dict[Stationarity, LoopOrder] = {
    "output": LoopOrder("m", "f", "p"),
    "weight": LoopOrder("p", "f", "m"),
    "input": LoopOrder("f", "m", "p"),
}
