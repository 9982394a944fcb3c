"""The contract between accelerators and the simulator, and what every plan must satisfy.

An accelerator turns one Operation into a Plan: what goes where (`mapping`), how long each piece takes
(`activities`, `analytical_cycles`), and the program that the cycle-level engine runs. It never decides when. A plan is
`checked` when it is made: a machine whose plan is refused has a fault of ours.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil, isfinite
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cascadesim.accelerators.program import Program
from cascadesim.accelerators.spec import SpatialArray
from cascadesim.einsum_cascades.models.operation import Operation, least_elements, work_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

if TYPE_CHECKING:
    from cascadesim.accelerators.mapping.nest import CascadeMapping

Accounting: TypeAlias = Literal["physical", "artifact"]
_ROUNDING = 1e-9  # of sums of floats: relative, far below one operation, byte or cycle of any plan that is wrong
_ROUNDED_CYCLES = 1  # activities of a phase are whole cycles, its closed form is not


@dataclass(frozen=True, slots=True)
class Unit:
    """A resource that runs one task at a time on `lanes` parallel lanes.

    `operations_per_cycle`: of one class, what a lane finishes in a cycle at most (a lane with a multiplier and an
    adder finishes one of each). A plan that claims more is refused (`checked`).
    """

    name: str
    lanes: int = 1
    operations_per_cycle: float = 1.0


@dataclass(frozen=True, slots=True)
class EinsumActivity:
    """What one Einsum asks of one unit, summed over the operation.

    `operations`: useful ones, in the classes of `passes`; of all activities of an Einsum together those of the cascade
    (`work_of`), however the unit makes them. `occupancy`: the share of its lanes that do useful work meanwhile.
    """

    name: str
    unit: str
    cycles: int
    operations: Mapping[str, int] = field(default_factory=dict)  # operation class -> count of useful operations
    occupancy: float = 1.0


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes moved to and from DRAM."""

    read_bytes: float = 0
    write_bytes: float = 0

    @property
    def total_bytes(self) -> float:
        return self.read_bytes + self.write_bytes

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.read_bytes + other.read_bytes, self.write_bytes + other.write_bytes)


class CycleModel(Protocol):
    """A cycle-level model of an accelerator's own, where tasks on units cannot say what its hardware does."""

    def run(self) -> int:
        """Count the cycles from the first request to the last result."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of work that overlaps with itself only: the phases of a plan run one after another."""

    name: str
    activities: tuple[EinsumActivity, ...]
    traffic: Traffic
    analytical_cycles: float  # lower bound of the cycle level under physical accounting, unless it is calibrated
    program: Callable[[], Program] | None = None
    model: Callable[[], CycleModel] | None = None  # in place of a program; neither: no cycle-level form
    moving_cycles: Mapping[str, float] | None = None  # of DRAM and other memories; None: those of the program


@dataclass(frozen=True, slots=True)
class Plan:
    """One operation on one accelerator."""

    operation: Operation
    accounting: Accounting
    mapping: tuple[str, ...]  # printable lines: loop nest, tiles, residency, chosen dataflow
    phases: tuple[Phase, ...]
    dynamic_energy_j: Mapping[str, float] | None  # component -> joules, None where the model has no energy
    splits: Mapping[str, int] = field(default_factory=dict)  # inner extents that the plan chose, such as M0: 256
    element_bytes: Mapping[str, float] = field(default_factory=dict)
    """Input or output -> bytes of an element in DRAM. One that is missing does not pass by it: `mapping` says why."""
    notes: tuple[str, ...] = ()  # what every report of it must say: for tables, where no mapping is printed
    kernel: str = ""  # the one that runs, where the machine has several
    types: str = ""  # of its operands, where the machine has several
    validated: bool = True  # False: nothing that was published is like it, and no error of the model is stated

    @property
    def traffic(self) -> Traffic:
        return sum((phase.traffic for phase in self.phases), Traffic())


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes of one number in memory, its share of the scales of a group included.

    experts: weights of routed ones. head: of embeddings and of the matrix before the vocabulary, None: as weights.
    """

    weights: float = 2
    experts: float = 2
    activations: float = 2
    kv: float = 2
    head: float | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an accelerator can be asked for, beyond planning.

    `calibrated`: its closed form is fitted to measurements: an estimate, no bound of the cycle level, which runs unless
    that is asked for. `memory_bytes`: of one device, where a model may not fit. `dram_bytes_per_s`: what its DRAM
    delivers at most; `buffer_bytes`: its buffer or last cache. `devices` divide a model (tensor parallelism), each its
    own part. `traces`: it runs the heads of a pruning trace, each with keys of its own. `patterns`: those it takes a
    list of tiles for. `stored`: how wide it keeps numbers; `chosen_types`: of which kinds the type was given. `unread`:
    fields that no figure depends on, as it is set up -> why; to set them is refused. `engine`: whose kernels run.
    """

    cycle_level: bool = True
    calibrated: bool = False
    traces: bool = False
    patterns: Literal["none", "static", "all"] = "none"
    memory_bytes: int | None = None
    dram_bytes_per_s: float | None = None
    buffer_bytes: int | None = None
    devices: int = 1
    stored: Stored = Stored()
    chosen_types: tuple[str, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict, hash=False)
    engine: str = "none"
    tokens_per_pass: int | None = None  # of prompts at once, at most
    first_alone: bool = False  # of requests that start together, one begins before the others
    step_overhead_s: float = 0.0  # of a step besides its operations
    start_overhead_s: float = 0.0  # of requests that start together, once


class Accelerator(Protocol):
    """What the simulator may ask. Built by `accelerators.catalogue.load`; every method is pure."""

    @property
    def name(self) -> str: ...

    @property
    def clock_hz(self) -> float: ...

    @property
    def units(self) -> tuple[Unit, ...]:
        """Every unit a report lists, DRAM included."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def attention(self) -> str:
        """Name of the attention cascade it runs when none is asked for."""

    @property
    def leakage_w(self) -> float:
        """Static power; 0 where the preset states none."""

    def area_um2(self) -> Mapping[str, float] | None:
        """Component -> area; None where the model has no area."""

    def plan(self, operation: Operation, accounting: Accounting) -> Plan:
        """Raises CascadeSimError if the operation cannot be mapped, saying why and what can."""


@runtime_checkable
class Prepares(Protocol):
    """An accelerator that runs the layers of a known model in its own way: pruned by the model's schedule."""

    def prepared(self, operations: tuple[Operation, ...], workload: str) -> tuple[Accelerator, tuple[Operation, ...]]:
        """Replace the machine and the operations. A layer `a:5-10` is layers 5 to 10 of kind a."""

    def notes(self, sequence_length: int) -> tuple[str, ...]:
        """Say what a report of this length has to say of the machine as it is prepared."""


@runtime_checkable
class TimesCaches(Protocol):
    """An accelerator whose closed form takes many lengths of a cache at once."""

    def cycles_by_length(self, operation: Operation, lengths: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Closed-form cycles of the operation with so many keys (m) of an attention, results (n) of a product.

        They are those of its plans with these extents, (lengths) float64. None where it has to be planned one by one.
        """


@dataclass(frozen=True, slots=True)
class ListedSeconds:
    """Attention over a list of key tiles: those it visits, over dense attention's; its time as costs are added."""

    visited: float
    plain_s: float  # tiles without masks, each as fast as in a row
    masked_s: float  # with masks
    total_s: float  # and each tile as slow as one from a list: that of its plan


@runtime_checkable
class TimesLists(Protocol):
    """An accelerator whose kernels take lists of key tiles."""

    def listed_seconds(self, operation: Operation) -> ListedSeconds: ...


@runtime_checkable
class TakesMappings(Protocol):
    """A spatial array that can be told what goes where."""

    @property
    def spec(self) -> SpatialArray: ...

    @property
    def mapping(self) -> CascadeMapping | None: ...

    @property
    def searches(self) -> bool: ...

    def published_plan(self, operation: Operation) -> Plan | None:
        """The plan that is published for the cascade of an operation on this machine, where there is one."""

    def with_mapping(self, mapping: CascadeMapping | None) -> Accelerator:
        """The machine with a mapping for the cascade that it names; None: with the best that is found."""


class PlanError(CascadeSimError):
    """A plan that cannot be: an error of the accelerator, not of the user."""


def checked(plan: Plan, accelerator: Accelerator) -> Plan:
    """Return the plan. Raises PlanError with the accelerator, the operation and the first quantity that is wrong."""
    for problem in problems(plan, accelerator):
        raise PlanError(f"internal error: {accelerator.name}, {plan.operation.name} ({plan.operation.cascade.name}): "
                        f"{problem}; please report it")
    return plan


def problems(plan: Plan, accelerator: Accelerator) -> Iterator[str]:
    """Find everything that is wrong with a plan, a line each.

    Operations are those of the cascade, rates are possible, traffic is at least compulsory, time covers the busiest
    unit, nothing is negative. Published accounting is reproduced with its quirks: only its structure is checked.
    """
    units = {unit.name: unit for unit in accelerator.units}
    broken = [problem for phase in plan.phases for problem in _structure(phase, units)]
    yield from broken
    for component, joules in (plan.dynamic_energy_j or {}).items():
        if not 0 <= joules < float("inf"):
            yield f"energy of {component} is {joules:g} J"
    if plan.accounting == "artifact" or broken:
        return
    rate = accelerator.capabilities.dram_bytes_per_s
    yield from (each for phase in plan.phases for each in _times(phase, units, rate and rate / accelerator.clock_hz))
    if plan.operation.kind != "collective":  # its sum is over devices, each of which adds its share
        yield from _operations(plan)
        if plan.operation.trace is None:  # a trace lists what is fetched
            yield from _traffic(plan)


def _structure(phase: Phase, units: Mapping[str, Unit]) -> Iterator[str]:
    if not 0 < phase.analytical_cycles < float("inf"):
        yield f"phase {phase.name} takes {phase.analytical_cycles:g} cycles"
    for way, amount in (("reads", phase.traffic.read_bytes), ("writes", phase.traffic.write_bytes)):
        if not (isfinite(amount) and amount >= 0):
            yield f"phase {phase.name} {way} {amount:g} bytes of DRAM"
    yield from (f"phase {phase.name}: {memory} moves for {cycles:g} cycles; there are {', '.join(units)}"
                for memory, cycles in (phase.moving_cycles or {}).items() if memory not in units or not cycles >= 0)
    for activity in phase.activities:
        where = f"{activity.name} on {activity.unit}"
        if activity.unit not in units:
            yield f"{where}: there is no such unit; there are {', '.join(units)}"
        if activity.cycles < 0 or any(count < 0 for count in activity.operations.values()):
            yield f"{where}: {activity.cycles} cycles, operations {dict(activity.operations)}"
        if not 0 < activity.occupancy <= 1 + _ROUNDING:
            yield f"{where}: occupancy {activity.occupancy:g}, not above 0 and at most 1"


def _times(phase: Phase, units: Mapping[str, Unit], dram_bytes_per_cycle: float | None) -> Iterator[str]:
    """A unit is busy at most as long as the phase, its useful rate and that of DRAM are at most their peaks."""
    busy: Counter[str] = Counter()
    done: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for activity in phase.activities:
        busy[activity.unit] += activity.cycles
        done[activity.unit].update(activity.operations)
    cycles, moved = ceil(phase.analytical_cycles * (1 + _ROUNDING)), phase.traffic.total_bytes
    if dram_bytes_per_cycle and moved > (most := cycles * dram_bytes_per_cycle) * (1 + _ROUNDING):
        yield f"phase {phase.name} moves {moved:,.0f} bytes of DRAM in {cycles:,} cycles, at most {most:,.0f}"
    for unit, spent in (*busy.items(), *(phase.moving_cycles or {}).items()):
        if spent > cycles:
            yield f"phase {phase.name}: {unit} is busy for {spent} of {phase.analytical_cycles:g} cycles"
        if unit in units:
            peak = units[unit].lanes * units[unit].operations_per_cycle * (spent + _ROUNDED_CYCLES)
            yield from (f"phase {phase.name}: {unit} does {count:,} {kind} in {spent:,} cycles, at most {peak:,.0f}"
                        for kind, count in done[unit].items() if count > peak * (1 + _ROUNDING))


def _operations(plan: Plan) -> Iterator[str]:
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for phase in plan.phases:
        for activity in phase.activities:
            found[activity.name].update(activity.operations)
    expected = work_of(plan.operation, plan.splits)
    for name, counts in expected.items():
        own = {kind: count for kind, count in found.get(name, Counter()).items() if count}
        if own != counts:
            yield f"{name} does {_counts(own)}, the cascade has {_counts(counts)}"
    for name in set(found) - set(expected):
        if any(found[name].values()):
            yield f"{name} does {_counts(found[name])}, the cascade has nothing there"


def _counts(counts: Mapping[str, int]) -> str:
    return " + ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items())) or "nothing"


def _traffic(plan: Plan) -> Iterator[str]:
    """Every input and output that passes by DRAM does so at least once."""
    least = least_elements(plan.operation, plan.splits)
    for way, tensors, moved in (
        ("reads", plan.operation.cascade.inputs, plan.traffic.read_bytes),
        ("writes", plan.operation.cascade.outputs, plan.traffic.write_bytes),
    ):
        needed = sum(least[tensor] * plan.element_bytes.get(tensor, 0.0) for tensor in tensors)
        if moved < needed * (1 - _ROUNDING):
            yield f"it {way} {moved:,.0f} bytes of DRAM, at least {needed:,.0f} are compulsory"
