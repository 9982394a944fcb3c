"""What the models say where a table of FuseMax has a figure: one row in, the model's figures of its columns out.

The publications' own accounting (`artifact`), except for what is named cycle level or physical. Headline figures are
means of ratios between configurations over 4 models x 6 lengths (FuseMax, MICRO 2024, figures 6 to 11); arrays of
other sizes are those of figure 12. Knows our models' names and nothing of claims.

FLAT's own simulator (ASPLOS 2023) is bound by the 2D array or by DRAM alone: it gives softmax 2^30 lanes and no traffic
of its own, counts DRAM traffic as all of the energy, and calls the useful work of the 2D array the ideal latency. The
dataflows that its search chose, and the share of what they keep that spills, ship for every row of its results.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import cast

from cascadesim.accelerators.binding import AttentionBinding, bind_attention
from cascadesim.accelerators.catalogue import load
from cascadesim.accelerators.flat.accelerator import Flat
from cascadesim.accelerators.flat.geometry import FlatCase, shape_of
from cascadesim.accelerators.flat.search import evaluate, published_dataflow, search
from cascadesim.accelerators.flat.spec import TENSORS, Dataflow, Granularity, Pins, Stationarity
from cascadesim.accelerators.fusemax.accelerator import FuseMax
from cascadesim.accelerators.fusemax.exploration import square_spec
from cascadesim.accelerators.mapping.text import find_mapping
from cascadesim.accelerators.protocol import Accelerator, Accounting
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.workload import Scope, load_workload
from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.simulator.report import Report
from cascadesim.simulator.request import Fidelity
from cascadesim.simulator.simulate import simulate
from cascadesim.validation.claim import PredictedFigures, Settings
from cascadesim.validation.fusemax import layouts
from cascadesim.validation.fusemax.layouts import length
from cascadesim.validation.table import Row, Value, published

PICOJOULES_PER_JOULE = 1e12
ENERGY_PJ_PER_BYTE = 32  # FLAT's simulator: energy / traffic of all of its rows
FLAT_OF_PLATFORM: Mapping[str, str] = {"cloud": "flat", "edge": "flat-edge"}
workload_of = cache(load_workload)
BATCH = 64  # FuseMax, section VI: every evaluation
PARETO_LENGTH = length("256K")  # FuseMax, figure 12
LENGTHS = tuple(length(text) for text in ("1K", "4K", "16K", "64K", "256K", "1M"))  # FuseMax, figures 6 to 11
STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "arithmetic_mean": statistics.fmean,
    "geometric_mean": lambda values: math.exp(statistics.fmean(map(math.log, values))),
    "minimum": min,
    "maximum": max,
}


@dataclass(frozen=True)
class Point:
    """One layer of a model at a length, on an architecture."""

    architecture: str
    workload: str
    sequence_length: int
    scope: Scope = "attention"
    fidelity: Fidelity = "analytical"
    accounting: Accounting = "artifact"
    settings: tuple[str, ...] = ()


def point_of(row: Row, settings: Settings) -> Point:
    return Point(row.text("architecture"), row.text("workload"), row.count("sequence_length"), settings=tuple(settings))


@cache
def machine(name: str, settings: tuple[str, ...] = ()) -> Accelerator:
    return load(name, settings)


@cache
def report(point: Point) -> Report:
    """The simulator's only report of the point. Points recur in several suites, so they are remembered."""
    return _only_report(machine(point.architecture, point.settings), point)


def _only_report(accelerator: Accelerator, point: Point) -> Report:
    """The layers of these models are all alike."""
    (only,) = simulate(
        workload_of(point.workload), accelerator, sequence_length=point.sequence_length, batch=BATCH,
        scope=point.scope, fidelity=point.fidelity, accounting=point.accounting,
    )  # fmt: skip
    return only


def attention_of(workload: str, sequence_length: int, accelerator: Flat | FuseMax) -> Operation:
    (operation,) = workload_of(workload).operations(
        sequence_length=sequence_length, batch=BATCH, scope="attention", attention=accelerator.attention
    )
    return operation


def totals(found: Report) -> dict[str, float | None]:
    joules = found.total_energy_j
    energy_pj = None if joules is None else joules * PICOJOULES_PER_JOULE
    return {"traffic_bytes": found.traffic.total_bytes, "latency_s": found.latency_s, "energy_pj": energy_pj}


def utilizations(found: Report) -> dict[str, float | None]:
    return {f"utilization_{unit.name}": unit.utilization for unit in found.units}


def attention(row: Row, settings: Settings = ()) -> PredictedFigures:
    """Totals, utilizations, and the activity of the 2D array for each Einsum.

    Activity is the share of the run in which the array works on it x the share of the array in use; None if it never
    does.
    """
    found = report(point_of(row, settings))
    figures = totals(found) | utilizations(found)
    for name in layouts.EINSUMS_2D:
        parts = [part for part in found.einsums if part.name == name and part.unit == "array_2d"]
        figures[f"activity_{name}"] = sum(part.share * part.occupancy for part in parts) if parts else None
    return figures


def attention_cycles(row: Row, settings: Settings = ()) -> PredictedFigures:
    """Totals at cycle level, in physical accounting: what the publication can be compared with."""
    point = replace(point_of(row, settings), fidelity="cycle", accounting="physical")
    if point.architecture == "flat":
        pinned = _published_dataflow(point.workload, point.sequence_length)
        point = replace(point, settings=(*pinned, *point.settings))
    return totals(report(point))


def attention_by_text(row: Row, settings: Settings = ()) -> PredictedFigures:
    """Totals of the mapping text of the same name, in closed form and physical accounting."""
    return _by_text(replace(point_of(row, settings), accounting="physical"))


def attention_cycles_by_text(row: Row, settings: Settings = ()) -> PredictedFigures:
    """Totals of the mapping text of the same name at cycle level."""
    return _by_text(replace(point_of(row, settings), fidelity="cycle", accounting="physical"))


@cache
def _by_text(point: Point) -> PredictedFigures:
    array = machine(point.architecture, point.settings)
    assert isinstance(array, Flat | FuseMax)
    return totals(_only_report(array.with_mapping(find_mapping(point.architecture)), point))


def _published_dataflow(workload: str, sequence_length: int) -> tuple[str, ...]:
    """Settings of the FLAT machine that take the dataflow that FLAT's own search published, nothing if it has none."""
    flat = machine("flat")
    assert isinstance(flat, Flat)
    operation = attention_of(workload, sequence_length, flat)
    found = published_dataflow(FlatCase(shape_of(operation), flat.spec, exact=True))
    if found is None:
        return ()
    places = {tensor: "on_chip" if tensor in found.on_chip else "off_chip" for tensor in TENSORS}
    return (
        *(f"dataflow.location.{tensor}={place}" for tensor, place in places.items()),
        f"dataflow.qk_stationarity={found.qk_stationarity}",
        f"dataflow.av_stationarity={found.av_stationarity}",
        f"dataflow.granularity={found.granularity}",
        *([f"dataflow.rows={found.rows}"] if found.granularity == "row" else []),
    )


def linear(row: Row, settings: Settings = ()) -> PredictedFigures:
    return totals(report(replace(point_of(row, settings), scope="linear")))


def energy(row: Row, settings: Settings = ()) -> PredictedFigures:
    return _by_component(report(point_of(row, settings)))


def physical_energy(row: Row, settings: Settings = ()) -> PredictedFigures:
    """What hardware would burn, where the artifact leaves things out."""
    return _by_component(report(replace(point_of(row, settings), accounting="physical")))


def _by_component(found: Report) -> PredictedFigures:
    by_component = found.energy_j or {}
    parts = {f"{ours}_pj": by_component.get(ours, 0.0) * PICOJOULES_PER_JOULE for ours in layouts.ENERGY_COMPONENTS}
    return {**parts, "energy_pj": totals(found)["energy_pj"]}


def area(row: Row, settings: Settings = ()) -> PredictedFigures:
    by_component = machine(row.text("architecture"), tuple(settings)).area_um2() or {}
    parts = {f"{name}_area_um2": by_component.get(name) for name in ("array_2d", "global_buffer")}
    return {**parts, "area_um2": sum(by_component.values())}


def pareto(row: Row, settings: Settings = ()) -> PredictedFigures:
    """A square FuseMax array of the row's side. Raises CascadeSimError if no buffer keeps DRAM from being the bound."""
    workload, side = row.text("workload"), row.count("pe_array_dim")
    default = machine("fusemax", tuple(settings))
    assert isinstance(default, FuseMax)
    operation = attention_of(workload, PARETO_LENGTH, default)
    accelerator = FuseMax(f"{side} x {side}", square_spec(default.spec, side, operation))
    found = _only_report(accelerator, Point("fusemax", workload, PARETO_LENGTH))
    busy_s = {unit.name: unit.busy_cycles / found.clock_hz for unit in found.units}
    traffic_bytes = found.traffic.total_bytes
    return {
        "traffic_bytes": traffic_bytes, "latency_s": found.latency_s,
        "memory_latency_s": traffic_bytes / accelerator.spec.dram.bandwidth_bytes_per_s,
        "compute_2d_latency_s": busy_s.get("array_2d"), "compute_1d_latency_s": busy_s.get("array_1d"),
        "array_2d_area_um2": (found.area_um2 or {}).get("array_2d"), "area_um2": found.total_area_um2,
    }  # fmt: skip


def headline(row: Row, settings: Settings = ()) -> PredictedFigures:
    """A statistic of the row's quantity over all points, each normalised to the baseline at its model and length.

    `settings` change the architecture of the row, not the baseline.
    """
    quantity, values = row.text("quantity"), []
    column = "latency_s" if quantity.endswith("speedup") else "energy_pj"
    for workload, sequence_length in product(layouts.WORKLOADS, LENGTHS):
        subject = Point(row.text("architecture"), workload, sequence_length, settings=tuple(settings))
        if quantity.startswith("utilization"):
            values.append(_sum(quantity, subject, ("attention",)))
            continue
        # end to end is attention plus the linear layers of one layer
        scopes: tuple[Scope, ...] = ("attention", "linear") if quantity.startswith("end_to_end") else ("attention",)
        ours, theirs = (_sum(column, point, scopes)
                        for point in (subject, Point(row.text("baseline"), workload, sequence_length)))  # fmt: skip
        values.append(theirs / ours if column == "latency_s" else ours / theirs)
    return {"value": STATISTICS[row.text("statistic")](values)}


def _sum(column: str, point: Point, scopes: Sequence[Scope]) -> float:
    """NaN where a scope has no such figure."""
    reports = [report(replace(point, scope=scope)) for scope in scopes]
    figures = [(totals(found) | utilizations(found))[column] for found in reports]
    return sum(math.nan if figure is None else figure for figure in figures)


def flat_chosen(row: Row, settings: Settings = ()) -> PredictedFigures:
    """What FLAT's simulator would report, by our counts."""
    (case, mapped), published_choice = _flat_case(row, settings), choice(row)
    costs = evaluate(case, mapped, dataflow_of(published_choice), published_choice.number("spilled_fraction")).costs
    spec, shape = case.spec, case.shape
    macs = shape.instances * shape.pairs * (shape.query_depth + shape.value_depth)
    traffic_bytes = float(costs.qk.dram[0] + costs.av.dram[0]) * spec.word_bytes
    busy_s = int(costs.qk_cycles[0] + costs.av_cycles[0]) / spec.clock_hz
    return {
        "traffic_bytes": traffic_bytes, "energy_pj": traffic_bytes * ENERGY_PJ_PER_BYTE,
        "ideal_latency_s": macs / spec.pe_array.elements / spec.clock_hz,
        "latency_s": max(traffic_bytes / spec.dram.bandwidth_bytes_per_s, busy_s),
    }  # fmt: skip


def flat_searched(row: Row, settings: Settings = ()) -> PredictedFigures:
    """The published figures, changed as our model sees them change from FLAT's choice to that of our search.

    Both in our model, softmax included, so that the ratio to the published figure is the gain alone.
    """
    case, mapped = _flat_case(row, settings)
    theirs = evaluate(case, mapped, dataflow_of(choice(row))).costs
    ours = search(case, mapped, Pins()).costs
    gains = {
        "latency_s": float(ours.bound_cycles(case.spec)[0]) / float(theirs.bound_cycles(case.spec)[0]),
        "traffic_bytes": float(ours.dram_words[0]) / float(theirs.dram_words[0]),
    }
    return {name: None if (figure := row.number(name)) is None else figure * gain for name, gain in gains.items()}


def _flat_case(row: Row, settings: Settings) -> tuple[FlatCase, AttentionBinding]:
    """The attention of one row on FLAT's array, any dataflow."""
    flat = machine(FLAT_OF_PLATFORM[row.text("platform")], tuple(settings))
    assert isinstance(flat, Flat)
    operation = attention_of(row.text("workload"), row.count("sequence_length"), flat)
    return FlatCase(shape_of(operation), flat.spec), bind_attention(operation.cascade)


def choice(row: Row) -> Row:
    """The row itself if it brings a dataflow, else the published choice for it. Raises SpecError if there is none."""
    if any(row.get(column.name) is not None for column in layouts.CHOICES):
        return row
    key = tuple(row.get(column) for column in layouts.DATAFLOW_KEY)
    if key not in _choices():
        raise SpecError(f"no dataflow in the row, and none published for {' '.join(map(str, key))}")
    return _choices()[key]


@cache
def _choices() -> Mapping[tuple[Value, ...], Row]:
    rows = published("flat-dataflow-choices.csv", layouts.DATAFLOW_CHOICES).rows
    return {tuple(row.get(column) for column in layouts.DATAFLOW_KEY): row for row in rows}


def dataflow_of(chosen: Row) -> Dataflow:
    return Dataflow(
        frozenset(tensor for tensor in TENSORS if chosen.text(f"{tensor.lower()}_location") == "onchip"),
        cast(Stationarity, chosen.text("qk_stationarity")),
        cast(Stationarity, chosen.text("av_stationarity")),
        cast(Granularity, chosen.text("granularity")),
        chosen.count("query_rows"),
    )
