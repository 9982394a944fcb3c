"""SpAtten as the simulator sees it: presets in, plans out. HPCA'21.

Attention is what it is built for; its pruning schedules make layers differ, so a model's attention becomes one
operation for each kind of layer (`prepared`). Single queries run through the cycle-level pipeline of heads, many
queries over one load through the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf

from cascadesim.accelerators.protocol import (
    Accounting,
    Capabilities,
    EinsumActivity,
    Phase,
    Plan,
    Stored,
    Traffic,
    Unit,
)
from cascadesim.accelerators.spatten import energy, layers, timing
from cascadesim.accelerators.spatten.fused import FUSED, plan_fused
from cascadesim.accelerators.spatten.head_stream import HeadStream
from cascadesim.accelerators.spatten.layerwise import behavioural_plan
from cascadesim.accelerators.spatten.mapping import HeadWork, head_work, kept_lines, mapping_lines, stored_bytes
from cascadesim.accelerators.spatten.roles import CHOICE, RESULTS, SCORES, SOFTMAX, units_of
from cascadesim.accelerators.spatten.spec import SpattenSpec, read_spec
from cascadesim.accelerators.spatten.traced import traced_work
from cascadesim.einsum_cascades.models.operation import Operation, mask_of, work_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

SHARES = ("token_keep", "head_keep", "value_keep", "low_bit_share")  # of `Pruning`: they replace the schedule's
NO_SCHEDULE = "no pruning schedule"
EXPONENTIAL_ORDER = 5  # HPCA 2021: a lane's exponential is a Taylor expansion of order 5, so many multiply-adds a cycle


@dataclass(frozen=True)
class Spatten:
    """A configured machine; `schedule` says in words what it prunes, `context` up to which length it was published."""

    name: str
    spec: SpattenSpec
    schedule: str = NO_SCHEDULE
    context: int | None = None

    @property
    def clock_hz(self) -> float:
        return self.spec.clock_hz

    @property
    def units(self) -> tuple[Unit, ...]:
        return (
            Unit("multiply_qk", self.spec.multipliers),
            Unit("softmax", self.spec.softmax_lanes, EXPONENTIAL_ORDER),
            Unit("top_k", self.spec.topk_parallelism),
            Unit("multiply_pv", self.spec.multipliers),
            Unit("dram", self.spec.dram.channels),
        )

    @property
    def attention(self) -> str:
        return "attention-3pass"

    @property
    def capabilities(self) -> Capabilities:
        word = self.spec.element_bits / 8
        return Capabilities(traces=True, stored=Stored(word, word, word, word))

    @property
    def leakage_w(self) -> float:
        return 0.0

    def area_um2(self) -> Mapping[str, float] | None:
        return energy.area_um2(self.spec)

    def prepared(self, operations: tuple[Operation, ...], workload: str) -> tuple[Spatten, tuple[Operation, ...]]:
        """The machine and the work under the workload's pruning schedule."""
        found = layers.schedule_for(self.spec.pruning, workload)
        work = tuple(part for operation in operations for part in layers.pruned(operation, found, self.spec))
        if found is None:
            return self, work
        spec = self.spec.model_copy(update={"formats": layers.formats(found, self.spec.formats)})
        own = self.spec.pruning
        given = [f"{name} {share:g}" for name in SHARES if (share := getattr(own, name)) is not None]
        words = f"pruning schedule {found.name} ({found.source})"
        if given:
            words += f", with {', '.join(given)} in place of its own"
        context = found.base if own.token_keep is None else None
        return replace(self, spec=spec, schedule=words, context=context), work

    def notes(self, sequence_length: int) -> tuple[str, ...]:
        memory = self.spec.dram
        gb_per_s = memory.peak_bytes_per_cycle * self.clock_hz / 1e9
        delivered = (
            f"DRAM mode {memory.mode}: at most {gb_per_s:g} GB/s; heads run as lanes of {self.spec.head_dim} elements"
        )
        pruned: tuple[str, ...] = () if self.schedule == NO_SCHEDULE else (self.schedule,)
        if self.context is not None and sequence_length > self.context:
            pruned += (
                f"the schedule is for contexts of {self.context:,} tokens: of {sequence_length:,} each layer keeps the "
                "same shares (assumed)",
            )
        return (delivered, *pruned)

    def plan(self, operation: Operation, accounting: Accounting) -> Plan:
        if accounting == "artifact":
            raise CascadeSimError(f"{self.name} has no artifact accounting; use --accounting physical")
        if operation.kind == "attention":
            return self._attention(operation, accounting)
        from cascadesim.accelerators.spatten import fully_connected

        if operation.kind == "linear":
            return fully_connected.plan_linear(operation, self.spec, accounting)
        return fully_connected.plan_elementwise(operation, self.spec, accounting)

    def _attention(self, operation: Operation, accounting: Accounting) -> Plan:
        operation = replace(operation, mask=mask_of(operation))
        if operation.cascade in FUSED and operation.trace is None:
            return plan_fused(operation, self.spec, self.schedule)
        work = head_work(operation, self.spec) if operation.trace is None else traced_work(operation.trace, self.spec)
        rows = timing.head_rows(work, self.spec)
        if self.spec.model == "pipeline":
            timing.refuse_odd_lines(rows, self.spec)
        busy = timing.total(work, rows, self.spec)
        read = timing.transferred_bytes(busy)
        phase = Phase(
            operation.name, _activities(operation, busy, self.spec), Traffic(read),
            float(busy.longest),
            None if work.streams else partial(timing.program, work, self.spec),
            partial(_heads, work, self.spec) if work.streams else None,
        )  # fmt: skip
        joules = energy.dynamic_energy_j(read, busy.longest, self.spec)
        schedule = self.schedule if operation.trace is None else "pruned as the trace says"
        lines = (schedule, *kept_lines(operation), *mapping_lines(work, self.spec))
        return Plan(operation, accounting, lines, (phase,), joules, element_bytes=stored_bytes(operation, self.spec))


@dataclass(frozen=True)
class Heads:
    """A stream of heads, to be run as the RTL runs it."""

    stream: HeadStream

    def run(self) -> int:
        from cascadesim.accelerators.spatten.rtl.run import run_heads  # compiles, as the engine does

        return run_heads(self.stream).cycles


def _heads(work: HeadWork, spec: SpattenSpec) -> Heads:
    return Heads(timing.stream(work, spec))


def _activities(
    operation: Operation, busy: timing.Busy, spec: SpattenSpec
) -> tuple[EinsumActivity, ...]:
    """Multiplications of scores and values on their arrays, everything between them on the softmax lanes."""
    units, counted = units_of(operation.cascade), work_of(operation)
    cycles_of = dict(zip(_UNITS, busy.values, strict=False))
    found = []
    for einsum in operation.cascade.einsums:
        unit, operations = units[einsum.name], counted.get(einsum.name, {})
        cycles = cycles_of.pop(unit, 0)  # a unit is one pipeline: its Einsums share their beats
        lanes = spec.softmax_lanes if unit == SOFTMAX else spec.multipliers
        points = max(operations.values(), default=1)
        share = min(1.0, points / (cycles * lanes)) if cycles else 1.0
        found.append(EinsumActivity(einsum.name, unit, cycles, operations, share))
    if cycles_of.get(CHOICE):
        found.append(EinsumActivity("top-k", CHOICE, busy.top_k))
    return (*found, EinsumActivity("gather", "dram", busy.dram))


_UNITS = ("dram", SCORES, SOFTMAX, CHOICE, RESULTS)  # in the order of `timing.Busy`


@dataclass(frozen=True)
class Behavioural:
    """The public behavioural simulator as an architecture: closed forms, attention layer by layer."""

    machine: Spatten

    @property
    def name(self) -> str:
        return self.machine.name

    @property
    def clock_hz(self) -> float:
        return self.machine.clock_hz

    @property
    def units(self) -> tuple[Unit, ...]:
        """Its fill and drain stand with the first product; it gives no time to the other units, whatever they do."""
        return tuple(replace(unit, operations_per_cycle=inf) if unit.name in (SOFTMAX, RESULTS) else unit
                     for unit in self.machine.units)  # fmt: skip

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(cycle_level=False)

    @property
    def attention(self) -> str:
        return self.machine.attention

    @property
    def leakage_w(self) -> float:
        return 0.0

    def area_um2(self) -> None:
        return None

    def prepared(self, operations: tuple[Operation, ...], workload: str) -> tuple[Behavioural, tuple[Operation, ...]]:
        machine, work = self.machine.prepared(operations, workload)
        return Behavioural(machine), work

    def notes(self, sequence_length: int) -> tuple[str, ...]:
        behaviour = "published behavioural simulator: fetch, fill and drain one after another"
        return (behaviour, *self.machine.notes(sequence_length))

    def plan(self, operation: Operation, accounting: Accounting) -> Plan:
        if operation.kind == "attention" and operation.cascade in FUSED:
            raise CascadeSimError(
                f"{self.name} times whole rows of scores, as its public simulator does; {operation.cascade.name} walks "
                "keys in tiles: use --attention attention-3pass"
            )
        plan = self.machine.plan(operation, accounting)
        if operation.kind == "attention":
            return behavioural_plan(plan, self.machine.spec)
        return replace(plan, phases=tuple(replace(phase, program=None) for phase in plan.phases), dynamic_energy_j=None)


def build(name: str, content: Mapping[str, object], source: str) -> Spatten | Behavioural:
    """Raises SpecError with every problem of `content`."""
    spec = read_spec(content, source)
    machine = Spatten(name, spec)
    return Behavioural(machine) if spec.model == "behavioural" else machine
