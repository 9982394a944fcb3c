"""What a FLAT machine is: a spatial array, whether it fuses, and which dataflow choices are pinned.

Knows fields and their allowed values; the choice itself is made in `search`. FLAT (ASPLOS'23), section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

from pydantic import model_validator

from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.notation.schema import Positive, Spec, validate

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
    """`fusion: row` keeps QK, softmax and AV together, a block of query rows at a time; `none` runs them in turn."""

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


def read_spec(content: Mapping[str, Any], source: str) -> FlatArray:
    """Raises SpecError naming every wrong field."""
    return validate(FlatArray, content, source)
