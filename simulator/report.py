"""What a simulation found: frozen values in SI units that turn into JSON (`cascadesim.report/1`) and rows.

Knows the meaning of every figure and the one conservation law: each unit's busy + stalled + idle cycles are the
cycles of the run. It does not compute any of them (`execution`), nor print them (`render`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cascadesim.accelerators.protocol import Traffic

SCHEMA = "cascadesim.report/1"


@dataclass(frozen=True)
class UnitTime:
    """This is where every cycle of one unit went.

    stalled: work was ready in its queue and waited for another unit; idle: there was nothing to do yet, or any
    more. `utilization` counts busy cycles weighted by the share of lanes that did useful work; it is None where the
    accounting does not say what the unit does.
    """

    name: str
    busy_cycles: int
    stalled_cycles: int
    idle_cycles: int
    utilization: float | None

    @property
    def cycles(self) -> int:
        return self.busy_cycles + self.stalled_cycles + self.idle_cycles


@dataclass(frozen=True)
class EinsumTime:
    """One Einsum on one unit: `share` is its part of the whole run, `occupancy` the useful part of the lanes."""

    name: str
    operation: str
    unit: str
    operations: Mapping[str, int]  # operation class -> count
    cycles: int
    share: float
    occupancy: float


@dataclass(frozen=True)
class OperationTime:
    """One operation of the model; the figures add up all its `count` repetitions."""

    name: str
    kind: str
    layer: str
    count: int
    cycles: float
    share: float
    dram_bytes: float


@dataclass(frozen=True)
class MemoryUse:
    """Bytes that one device must hold, and `capacity` bytes that it has; `activations` is a bound (`request`)."""

    weights: int
    kv: int
    states: int
    convolutions: int
    activations: int
    workspace: int
    capacity: int

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def parts(self) -> dict[str, int]:
        """Name what is held in words: bytes by kind."""
        return {"weights": self.weights, "KV cache": self.kv, "states": self.states,
                "convolutions": self.convolutions, "activations": self.activations,
                "workspace": self.workspace}  # fmt: skip

    @property
    def fits(self) -> bool:
        return self.total <= self.capacity


@dataclass(frozen=True)
class Uncertainty:
    """Relative errors of the latency that a validation suite found for the nearest of what was published.

    latency: half of the `rows` were within; p90: nine tenths. `covers`: whether the report lies inside what was
    measured; `basis`: on what, and why not.
    """

    latency: float
    basis: str
    p90: float
    rows: int
    covers: bool


@dataclass(frozen=True)
class Report:
    """One workload on one accelerator. None means the model has no such figure, which is not the same as zero."""

    architecture: str
    workload: str
    attention: str | None  # the attention cascade, and with + those of recurrences; None where the scope has neither
    scope: str
    layer: str | None  # which kind of layer, where the scope is one layer
    layers: int  # how many such layers the model has; in scope model: all of them
    parameters: int | None  # of the whole model, whatever the scope
    kv_cache_bytes: int | None  # of the whole model after the run, in its type; None for a model that keeps none
    state_bytes: int | None  # of all its recurrences, and of the inputs that their convolutions keep; None without any
    convolution_bytes: int | None
    memory: MemoryUse | None  # on one device; None in a scope that is no whole model, or where no capacity is stated
    phase: str
    fidelity: str
    accounting: str
    batch: int
    sequence_length: int
    clock_hz: float
    cycles: int
    latency_s: float
    analytical_cycles: int  # the closed-form figure, whatever the fidelity
    fill_cycles: int | None  # cycle level: before the bounding unit's first task, summed over all phases
    drain_cycles: int | None  # cycle level: after its last task
    waiting_cycles: int | None  # cycle level: between them, while it waits for other units
    traffic: Traffic
    energy_j: Mapping[str, float] | None  # by component
    area_um2: Mapping[str, float] | None  # by component
    units: tuple[UnitTime, ...]
    einsums: tuple[EinsumTime, ...]
    operations: tuple[OperationTime, ...]
    bound_by: str | None
    uncertainty: Uncertainty | None
    tokens_per_s: float | None
    time_to_first_token_s: float | None
    notes: tuple[str, ...] = ()
    mapping: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for unit in self.units:
            if unit.cycles != self.cycles or min(unit.busy_cycles, unit.stalled_cycles, unit.idle_cycles) < 0:
                raise ValueError(f"{unit} does not account for {self.cycles} cycles")

    @property
    def total_energy_j(self) -> float | None:
        return None if self.energy_j is None else sum(self.energy_j.values())

    @property
    def total_area_um2(self) -> float | None:
        return None if self.area_um2 is None else sum(self.area_um2.values())

    @property
    def case(self) -> tuple[str, str | None, str, int, int]:
        """Two reports must share this for their ratio to mean something."""
        return (self.workload, self.layer, self.phase, self.sequence_length, self.batch)

    def unit(self, name: str) -> UnitTime | None:
        return next((unit for unit in self.units if unit.name == name), None)

    def to_dict(self) -> dict[str, object]:
        """Write the JSON object of the contract (design, section 5)."""
        held, energy_j, area_um2 = self.memory, self.energy_j, self.area_um2
        moved = {"read": self.traffic.read_bytes, "write": self.traffic.write_bytes, "total": self.traffic.total_bytes}
        return {
            **{name: getattr(self, name) for name in _PLAIN_FIELDS},
            "memory_bytes": None if held is None else {**vars(held), "total": held.total},
            "dram_bytes": {name: int(amount) if amount == int(amount) else amount for name, amount in moved.items()},
            "energy_j": None if energy_j is None else {"total": self.total_energy_j, "by_component": dict(energy_j)},
            "area_um2": None if area_um2 is None else {"total": self.total_area_um2, **area_um2},
            "utilization": {unit.name: unit.utilization for unit in self.units},
            "units": [{key: value for key, value in vars(unit).items() if key != "utilization"} for unit in self.units],
            "einsums": [{**vars(einsum), "operations": dict(einsum.operations)} for einsum in self.einsums],
            "operations": [dict(vars(operation)) for operation in self.operations],
            "uncertainty": None if self.uncertainty is None else dict(vars(self.uncertainty)),
            "notes": list(self.notes), "mapping": list(self.mapping),
        }  # fmt: skip

    def to_row(self) -> dict[str, Cell]:
        """Write one flat row with the unit in every column's name; tables within the report are left out."""
        content = {name: value for name, value in self.to_dict().items() if name not in _NESTED}
        row: dict[str, Cell] = {
            name: value for name, value in content.items() if isinstance(value, str | int | float | None)
        }
        row |= {"dram_read_bytes": self.traffic.read_bytes, "dram_write_bytes": self.traffic.write_bytes,
                "energy_total_j": self.total_energy_j, "area_total_um2": self.total_area_um2}  # fmt: skip
        row |= {f"energy_{component}_j": joules for component, joules in (self.energy_j or {}).items()}
        row |= {f"area_{component}_um2": um2 for component, um2 in (self.area_um2 or {}).items()}
        for unit in self.units:
            row |= {f"{unit.name}_busy_cycles": unit.busy_cycles, f"{unit.name}_stalled_cycles": unit.stalled_cycles,
                    f"{unit.name}_idle_cycles": unit.idle_cycles,
                    f"{unit.name}_utilization": unit.utilization}  # fmt: skip
        found = self.uncertainty
        row |= {f"uncertainty_{name}": None if found is None else getattr(found, name) for name in _OF_UNCERTAINTY}
        return row | {f"memory_{kind}_bytes": size for kind, size in (vars(self.memory) if self.memory else {}).items()}



Cell: TypeAlias = str | int | float | None
_OF_UNCERTAINTY = ("latency", "p90", "rows", "covers")  # in a flat row
_NESTED = ("energy_j", "area_um2", "memory_bytes", "uncertainty")  # objects that may be null
_PLAIN_FIELDS = (
    "architecture", "workload", "attention", "scope", "layer", "layers", "parameters", "kv_cache_bytes",
    "state_bytes", "convolution_bytes",
    "phase", "fidelity", "accounting", "batch",
    "sequence_length", "clock_hz", "cycles", "latency_s", "analytical_cycles", "fill_cycles", "drain_cycles",
    "waiting_cycles", "bound_by", "tokens_per_s", "time_to_first_token_s",
)  # fmt: skip


def document(reports: Sequence[Report]) -> dict[str, object]:
    """Write several reports as `--format json` prints them."""
    return {"schema": SCHEMA, "reports": [report.to_dict() for report in reports]}
