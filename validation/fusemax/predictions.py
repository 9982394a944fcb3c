"""What the models say where a table has a figure: one row in, the figures of the model in that table's columns out.

The publications' own accounting (`artifact`), except for what is named cycle level. Knows our models' names and
nothing of claims; the simulator is imported when the first row is predicted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from cascadesim.validation.claim import Prediction, Settings
from cascadesim.validation.fusemax.layouts import EINSUMS_2D, ENERGY_COMPONENTS
from cascadesim.validation.table import Row

if TYPE_CHECKING:
    from cascadesim.accelerators.protocol import Accelerator, Accounting
    from cascadesim.einsum_cascades.models.workload import Scope, Workload
    from cascadesim.simulator.execution import Fidelity
    from cascadesim.simulator.report import Report

PICOJOULES_PER_JOULE = 1e12
BATCH = 64  # FuseMax, section VI: every evaluation


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


@cache
def report(point: Point) -> Report:
    """The simulator's only report of the point. Points recur in several suites, so they are remembered."""
    accelerator = machine(point.architecture, point.settings)
    return only_report(point.workload, accelerator, point.sequence_length, point.scope, point.fidelity,
                       point.accounting)  # fmt: skip


@cache
def machine(name: str, settings: tuple[str, ...]) -> Accelerator:
    from cascadesim.accelerators.catalogue import load

    return load(name, settings)


@cache
def model(name: str) -> Workload:
    from cascadesim.einsum_cascades.models.workload import load_workload

    return load_workload(name)


def only_report(
    workload: str,
    accelerator: Accelerator,
    sequence_length: int,
    scope: Scope = "attention",
    fidelity: Fidelity = "analytical",
    accounting: Accounting = "artifact",
) -> Report:
    """Of a model whose layers are all alike."""
    from cascadesim.simulator.simulate import simulate

    (only,) = simulate(
        model(workload), accelerator, sequence_length=sequence_length, batch=BATCH, scope=scope,
        fidelity=fidelity, accounting=accounting,
    )  # fmt: skip
    return only


def point_of(row: Row, settings: Settings, scope: Scope = "attention") -> Point:
    architecture, workload = row.text("architecture"), row.text("workload")
    return Point(architecture, workload, row.count("sequence_length"), scope, settings=tuple(settings))


def attention(row: Row, settings: Settings = ()) -> Prediction:
    found = report(point_of(row, settings))
    return totals(found) | utilizations(found) | {f"activity_{name}": activity(found, name) for name in EINSUMS_2D}


def attention_cycles(row: Row, settings: Settings = ()) -> Prediction:
    """At cycle level, in physical accounting; only what the publication can be compared with."""
    architecture, workload, length = row.text("architecture"), row.text("workload"), row.count("sequence_length")
    pinned = _published_dataflow(workload, length) if architecture == "flat" else ()
    return totals(report(Point(architecture, workload, length, "attention", "cycle", "physical",
                               (*pinned, *settings))))  # fmt: skip


def _published_dataflow(workload: str, length: int) -> tuple[str, ...]:
    """Settings of the FLAT machine that take the dataflow that FLAT's own search published, nothing if it has none."""
    from cascadesim.accelerators.flat.accelerator import Flat
    from cascadesim.accelerators.flat.geometry import shape_of
    from cascadesim.accelerators.flat.nests import Case
    from cascadesim.accelerators.flat.published import published_dataflow
    from cascadesim.accelerators.flat.spec import TENSORS

    flat = machine("flat", ())
    assert isinstance(flat, Flat)
    (operation,) = model(workload).operations(
        sequence_length=length, batch=BATCH, scope="attention", attention=flat.attention
    )
    found = published_dataflow(Case(shape_of(operation), flat.spec, exact=True))
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


def linear(row: Row, settings: Settings = ()) -> Prediction:
    return totals(report(point_of(row, settings, "linear")))


def energy(row: Row, settings: Settings = ()) -> Prediction:
    return _by_component(report(point_of(row, settings)))


def physical_energy(row: Row, settings: Settings = ()) -> Prediction:
    """What hardware would burn, where the artifact leaves things out."""
    return _by_component(report(replace(point_of(row, settings), accounting="physical")))


def _by_component(found: Report) -> Prediction:
    by_component = found.energy_j or {}
    parts = {f"{ours}_pj": by_component.get(ours, 0.0) * PICOJOULES_PER_JOULE for ours in ENERGY_COMPONENTS}
    return {**parts, "energy_pj": totals(found)["energy_pj"]}


def area(row: Row, settings: Settings = ()) -> Prediction:
    by_component = machine(row.text("architecture"), tuple(settings)).area_um2() or {}
    return {
        "array_2d_area_um2": by_component.get("array_2d"),
        "global_buffer_area_um2": by_component.get("global_buffer"),
        "area_um2": sum(by_component.values()),
    }


def totals(found: Report) -> dict[str, float | None]:
    joules = found.total_energy_j
    return {
        "traffic_bytes": found.traffic.total_bytes,
        "latency_s": found.latency_s,
        "energy_pj": None if joules is None else joules * PICOJOULES_PER_JOULE,
    }


def utilizations(found: Report) -> dict[str, float | None]:
    return {f"utilization_{unit.name}": unit.utilization for unit in found.units}


def activity(found: Report, einsum: str) -> float | None:
    """Share of the run in which the 2D array works on the Einsum x the share of it in use; None if it never does."""
    parts = [part for part in found.einsums if part.name == einsum and part.unit == "array_2d"]
    return sum(part.share * part.occupancy for part in parts) if parts else None
