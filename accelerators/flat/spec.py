"""What a FLAT machine is: a spatial array, whether it fuses, and which dataflow choices are pinned.

Knows fields and their allowed values; the choice itself is made in `search`. FLAT (ASPLOS'23), section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.schema import Positive, Spec, validate

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


def read_spec(content: Mapping[str, Any], source: str) -> FlatArray:
    """Raises SpecError naming every wrong field."""
    return validate(FlatArray, content, source)
