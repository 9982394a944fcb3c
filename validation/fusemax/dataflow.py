"""FLAT against its own simulator: in the dataflow that FLAT's search chose, and what our search makes of the same row.

FLAT's simulator (ASPLOS 2023) is bound by the 2D array or by DRAM alone: it gives softmax 2^30 lanes and no traffic of
its own, counts DRAM traffic as all of the energy, and calls the useful work of the 2D array the ideal latency. The
chosen dataflows, and the share of what they keep that spills, are inputs; they ship for every row of its results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.validation.claim import Prediction, Settings
from cascadesim.validation.columns import Value
from cascadesim.validation.fusemax.layouts import CHOICES, DATAFLOW_CHOICES, DATAFLOW_KEY
from cascadesim.validation.fusemax.predictions import BATCH, machine, model
from cascadesim.validation.table import Row, published

if TYPE_CHECKING:
    from cascadesim.accelerators.binding import AttentionBinding
    from cascadesim.accelerators.flat.accelerator import Flat
    from cascadesim.accelerators.flat.fused import Costs
    from cascadesim.accelerators.flat.geometry import FlatCase
    from cascadesim.accelerators.flat.spec import Dataflow, FlatArray, Granularity, Stationarity

ARCHITECTURES: Mapping[str, str] = {"cloud": "flat", "edge": "flat-edge"}
ENERGY_PJ_PER_BYTE = 32  # FLAT's simulator: energy / traffic of all of its rows
TENSORS = ("Q", "K", "QK", "A", "V", "AV")


@dataclass(frozen=True)
class Work:
    """The attention of one row on FLAT's array, any dataflow."""

    case: FlatCase
    binding: AttentionBinding

    @property
    def spec(self) -> FlatArray:
        return self.case.spec

    @property
    def macs(self) -> int:
        shape = self.case.shape
        return shape.instances * shape.pairs * (shape.query_depth + shape.value_depth)


def chosen(row: Row, settings: Settings = ()) -> Prediction:
    """What FLAT's simulator would report, by our counts."""
    from cascadesim.accelerators.flat.search import evaluate

    work, published_choice = work_of(row, settings), choice(row)
    costs = evaluate(work.case, work.binding, dataflow_of(published_choice),
                     published_choice.number("spilled_fraction")).costs  # fmt: skip
    spec = work.spec
    traffic_bytes = float(costs.qk.dram[0] + costs.av.dram[0]) * spec.word_bytes
    busy_s = int(costs.qk_cycles[0] + costs.av_cycles[0]) / spec.clock_hz
    return {
        "traffic_bytes": traffic_bytes,
        "ideal_latency_s": work.macs / spec.pe_array.elements / spec.clock_hz,
        "latency_s": max(traffic_bytes / spec.dram.bandwidth_bytes_per_s, busy_s),
        "energy_pj": traffic_bytes * ENERGY_PJ_PER_BYTE,
    }


def searched(row: Row, settings: Settings = ()) -> Prediction:
    """The published figures, changed as our model sees them change from FLAT's choice to that of our search.

    Both in our model, softmax included, so that the ratio to the published figure is the gain alone.
    """
    from cascadesim.accelerators.flat.search import evaluate, search
    from cascadesim.accelerators.flat.spec import Pins

    work = work_of(row, settings)
    theirs = evaluate(work.case, work.binding, dataflow_of(choice(row))).costs
    ours = search(work.case, work.binding, Pins()).costs
    return {
        "latency_s": _scaled(row.number("latency_s"), _cycles(ours, work), _cycles(theirs, work)),
        "traffic_bytes": _scaled(row.number("traffic_bytes"), float(ours.dram_words[0]), float(theirs.dram_words[0])),
    }


def _cycles(costs: Costs, work: Work) -> float:
    return float(costs.bound_cycles(work.spec)[0])


def _scaled(figure: float | None, ours: float, theirs: float) -> float | None:
    return None if figure is None else figure * (ours / theirs)


def work_of(row: Row, settings: Settings) -> Work:
    from cascadesim.accelerators.binding import bind_attention
    from cascadesim.accelerators.flat.geometry import FlatCase, shape_of

    flat = _flat(ARCHITECTURES[row.text("platform")], settings)
    (operation,) = model(row.text("workload")).operations(
        sequence_length=row.count("sequence_length"), batch=BATCH, scope="attention", attention=flat.attention
    )
    return Work(FlatCase(shape_of(operation), flat.spec), bind_attention(operation.cascade))


def _flat(name: str, settings: Settings) -> Flat:
    from cascadesim.accelerators.flat.accelerator import Flat

    found = machine(name, tuple(settings))
    if not isinstance(found, Flat):
        raise CascadeSimError(f"{name} is no FLAT machine")
    return found


def choice(row: Row) -> Row:
    """The row itself if it brings a dataflow, else the published choice for it. Raises SpecError if there is none."""
    if any(row.get(column.name) is not None for column in CHOICES):
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


def dataflow_of(chosen: Row) -> Dataflow:
    from cascadesim.accelerators.flat.spec import Dataflow

    return Dataflow(
        frozenset(tensor for tensor in TENSORS if chosen.text(f"{tensor.lower()}_location") == "onchip"),
        cast("Stationarity", chosen.text("qk_stationarity")),
        cast("Stationarity", chosen.text("av_stationarity")),
        cast("Granularity", chosen.text("granularity")),
        chosen.count("query_rows"),
    )
