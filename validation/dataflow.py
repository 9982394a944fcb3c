"""FLAT against its own simulator: the dataflow that FLAT's search chose, pinned, and the one our search chooses.

FLAT's simulator (ASPLOS 2023) gives softmax 2^30 lanes, counts DRAM traffic as all of the energy, and calls the 2D
array's useful work alone the ideal latency. The chosen dataflows ship as a table, for every row of its results.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from cascadesim.einsum_cascades.errors import SpecError
from cascadesim.validation.claim import Prediction, Settings
from cascadesim.validation.columns import Value
from cascadesim.validation.layouts import DATAFLOW_CHOICES, DATAFLOW_KEY
from cascadesim.validation.predictions import Point, report
from cascadesim.validation.table import Row, published

if TYPE_CHECKING:
    from cascadesim.accelerators.protocol import Accounting

ARCHITECTURES: Mapping[str, str] = {"cloud": "flat", "edge": "flat-edge"}
SOFTMAX_LANES = "vector_array.lanes=1073741824"  # FLAT's simulator: 2^30, so that softmax bounds nothing
ENERGY_PJ_PER_BYTE = 32  # FLAT's simulator: energy / traffic of all of its rows
LOCATIONS: Mapping[Value, str] = {"onchip": "on_chip", "offchip": "off_chip"}


def chosen(row: Row, settings: Settings = ()) -> Prediction:
    """In the dataflow of FLAT's search, by the published accounting."""
    point = _point(row, (*pins(choice(row)), SOFTMAX_LANES, *settings), "artifact")
    return _figures(point)


def searched(row: Row, settings: Settings = ()) -> Prediction:
    """In the dataflow of our search, in physical accounting."""
    return _figures(_point(row, (SOFTMAX_LANES, *settings), "physical"))


def _point(row: Row, settings: Settings, accounting: Accounting) -> Point:
    return Point(ARCHITECTURES[row.text("platform")], row.text("workload"), row.count("sequence_length"),
                 accounting=accounting, settings=tuple(settings))  # fmt: skip


def _figures(point: Point) -> Prediction:
    from cascadesim.accelerators.catalogue import load

    found = report(point)
    (elements,) = (unit.lanes for unit in load(point.architecture, point.settings).units if unit.name == "array_2d")
    macs = sum(part.operations.get("mac", 0) for part in found.einsums if part.unit == "array_2d")
    return {
        "traffic_bytes": found.traffic.total_bytes,
        "ideal_latency_s": macs / elements / found.clock_hz,
        "latency_s": found.latency_s,
        "energy_pj": found.traffic.total_bytes * ENERGY_PJ_PER_BYTE,
    }


def choice(row: Row) -> Row:
    """The row itself if it brings its dataflow, else the published choice for it. Raises SpecError if there is none."""
    if row.get("qk_stationarity") is not None:
        return row
    key = _key(row)
    if key not in _choices():
        raise SpecError(f"no dataflow in the row, and none published for {' '.join(map(str, key))}")
    return _choices()[key]


@cache
def _choices() -> Mapping[tuple[Value, ...], Row]:
    return {_key(row): row for row in published("flat-dataflow-choices.csv", DATAFLOW_CHOICES).rows}


def _key(row: Row) -> tuple[Value, ...]:
    return tuple(row.get(column) for column in DATAFLOW_KEY)


def pins(chosen: Row) -> tuple[str, ...]:
    """Settings of the architecture that leave its search no choice."""
    location = {f"location.{tensor}": LOCATIONS[chosen.get(f"{tensor.lower()}_location")]
                for tensor in ("Q", "K", "QK", "A", "V", "AV")}  # fmt: skip
    names = ("qk_stationarity", "av_stationarity", "granularity")
    fields = location | {name: chosen.text(name) for name in names}
    if chosen.text("granularity") == "row":  # a whole head has all rows
        fields["rows"] = str(chosen.count("query_rows"))
    return tuple(f"dataflow.{field}={value}" for field, value in fields.items())
