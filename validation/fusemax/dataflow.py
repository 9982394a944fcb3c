"""FLAT against its own simulator: in the dataflow that FLAT's search chose, and what our search makes of the same row.

FLAT's simulator (ASPLOS 2023) is bound by the 2D array or by DRAM alone: it gives softmax 2^30 lanes and no traffic of
its own, counts DRAM traffic as all of the energy, and calls the useful work of the 2D array the ideal latency. The
chosen dataflows, and the share of what they keep that spills, are inputs; they ship for every row of its results.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import cast

from cascadesim.accelerators.binding import AttentionBinding, bind_attention
from cascadesim.accelerators.flat.accelerator import Flat
from cascadesim.accelerators.flat.geometry import FlatCase, shape_of
from cascadesim.accelerators.flat.search import evaluate, search
from cascadesim.accelerators.flat.spec import Dataflow, Granularity, Pins, Stationarity
from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.claim import PredictedFigures, Settings
from cascadesim.validation.columns import Value
from cascadesim.validation.fusemax.layouts import CHOICES, DATAFLOW_CHOICES, DATAFLOW_KEY
from cascadesim.validation.fusemax.predictions import attention_of, machine
from cascadesim.validation.table import Row, published

ARCHITECTURES: Mapping[str, str] = {"cloud": "flat", "edge": "flat-edge"}
ENERGY_PJ_PER_BYTE = 32  # FLAT's simulator: energy / traffic of all of its rows
TENSORS = ("Q", "K", "QK", "A", "V", "AV")


def chosen(row: Row, settings: Settings = ()) -> PredictedFigures:
    """What FLAT's simulator would report, by our counts."""
    (case, mapped), published_choice = _case_of(row, settings), choice(row)
    costs = evaluate(case, mapped, dataflow_of(published_choice), published_choice.number("spilled_fraction")).costs
    spec, shape = case.spec, case.shape
    macs = shape.instances * shape.pairs * (shape.query_depth + shape.value_depth)
    traffic_bytes = float(costs.qk.dram[0] + costs.av.dram[0]) * spec.word_bytes
    busy_s = int(costs.qk_cycles[0] + costs.av_cycles[0]) / spec.clock_hz
    return {
        "traffic_bytes": traffic_bytes,
        "ideal_latency_s": macs / spec.pe_array.elements / spec.clock_hz,
        "latency_s": max(traffic_bytes / spec.dram.bandwidth_bytes_per_s, busy_s),
        "energy_pj": traffic_bytes * ENERGY_PJ_PER_BYTE,
    }


def searched(row: Row, settings: Settings = ()) -> PredictedFigures:
    """The published figures, changed as our model sees them change from FLAT's choice to that of our search.

    Both in our model, softmax included, so that the ratio to the published figure is the gain alone.
    """
    case, mapped = _case_of(row, settings)
    theirs = evaluate(case, mapped, dataflow_of(choice(row))).costs
    ours = search(case, mapped, Pins()).costs
    gains = {
        "latency_s": float(ours.bound_cycles(case.spec)[0]) / float(theirs.bound_cycles(case.spec)[0]),
        "traffic_bytes": float(ours.dram_words[0]) / float(theirs.dram_words[0]),
    }
    return {name: None if (figure := row.number(name)) is None else figure * gain for name, gain in gains.items()}


def _case_of(row: Row, settings: Settings) -> tuple[FlatCase, AttentionBinding]:
    """The attention of one row on FLAT's array, any dataflow."""
    flat = machine(ARCHITECTURES[row.text("platform")], tuple(settings))
    assert isinstance(flat, Flat)
    operation = attention_of(row.text("workload"), row.count("sequence_length"), flat)
    return FlatCase(shape_of(operation), flat.spec), bind_attention(operation.cascade)


def choice(row: Row) -> Row:
    """The row itself if it brings a dataflow, else the published choice for it. Raises SpecError if there is none."""
    if any(row.get(column.name) is not None for column in CHOICES):
        return row
    key = tuple(row.get(column) for column in DATAFLOW_KEY)
    if key not in _choices():
        raise SpecError(f"no dataflow in the row, and none published for {' '.join(map(str, key))}")
    return _choices()[key]


@cache
def _choices() -> Mapping[tuple[Value, ...], Row]:
    rows = published("flat-dataflow-choices.csv", DATAFLOW_CHOICES).rows
    return {tuple(row.get(column) for column in DATAFLOW_KEY): row for row in rows}


def dataflow_of(chosen: Row) -> Dataflow:
    return Dataflow(
        frozenset(tensor for tensor in TENSORS if chosen.text(f"{tensor.lower()}_location") == "onchip"),
        cast(Stationarity, chosen.text("qk_stationarity")),
        cast(Stationarity, chosen.text("av_stationarity")),
        cast(Granularity, chosen.text("granularity")),
        chosen.count("query_rows"),
    )
