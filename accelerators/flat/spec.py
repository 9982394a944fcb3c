"""What a FLAT machine is, and what a dataflow on it is: where tensors live, loop orders, rows worked on together.

Knows fields, their allowed values and their wording; the choice itself is made in `search`. FLAT (ASPLOS'23),
section 4; the loop order of each stationarity is that of the FuseMax artifact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, TypeAlias

from pydantic import model_validator

from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.schema import Positive, Spec

Location: TypeAlias = Literal["on_chip", "off_chip"]
Stationarity: TypeAlias = Literal["output", "weight", "input"]
Granularity: TypeAlias = Literal["head", "row"]

TENSORS = ("Q", "K", "QK", "A", "V", "AV")  # of the 3-pass cascade, in FLAT's order


class Locations(Spec):
    """Where a tensor lives while a block of query rows is worked on; None leaves it to the search."""

    Q: Location | None = None
    K: Location | None = None
    QK: Location | None = None
    A: Location | None = None
    V: Location | None = None
    AV: Location | None = None


class Pins(Spec):
    """Dataflow choices that are given rather than searched. `granularity: row` with `rows` fixes the block."""

    location: Locations = Locations()
    qk_stationarity: Stationarity | None = None
    av_stationarity: Stationarity | None = None
    granularity: Granularity | None = None
    rows: Positive | None = None

    @property
    def empty(self) -> bool:
        return self == Pins()


class FlatArray(SpatialArray):
    """`fusion: row` keeps QK, softmax and AV together, a block of query rows at a time; `none` runs them serially."""

    fusion: Literal["none", "row"]
    dataflow: Pins = Pins()

    @property
    def port_words_per_cycle(self) -> int:
        """Words that all ports of the buffer move in a cycle, a row each."""
        return self.global_buffer.ports * (self.global_buffer.row_bytes // self.word_bytes)

    @model_validator(mode="after")
    def _pins_have_a_use(self) -> Self:
        if self.fusion == "none" and not self.dataflow.empty:
            raise ValueError("dataflow: without fusion (fusion: none) there is no dataflow to pin")
        if self.global_buffer.row_bytes < self.word_bytes:
            raise ValueError("global_buffer.row_bytes: a row holds no word")
        return self


@dataclass(frozen=True, slots=True)
class Dataflow:
    """Tensors `on_chip` stay in the global buffer, the others pass it by; a block has `rows` query rows."""

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
    """The ranks of a contraction: `temporal` runs in full and innermost, `columns` and `rows` spread over the array.

    The loops are, outer to inner: tiles of the rank on the rows, tiles of the rank on the columns, `temporal`.
    """

    temporal: str
    columns: str
    rows: str


QK_LOOPS: Mapping[Stationarity, LoopOrder] = {
    "output": LoopOrder("e", "m", "p"),
    "weight": LoopOrder("p", "e", "m"),
    "input": LoopOrder("m", "e", "p"),
}
AV_LOOPS: Mapping[Stationarity, LoopOrder] = {
    "output": LoopOrder("m", "f", "p"),
    "weight": LoopOrder("p", "f", "m"),
    "input": LoopOrder("f", "m", "p"),
}
STATIONARITIES: tuple[Stationarity, ...] = tuple(QK_LOOPS)
