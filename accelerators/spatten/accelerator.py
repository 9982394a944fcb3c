"""SpAtten as the simulator sees it: presets in, plans out. HPCA'21.

Attention is what it is built for; its pruning schedules make layers differ, so a model's attention becomes one
operation for each kind of layer (`prepared`). Single queries run through the cycle-level pipeline of heads, many
queries over one load through the engine. `model: behavioural` is the public behavioural simulator as an architecture:
closed forms, attention layer by layer. The paper runs GPT-2 end to end with 8-bit weights and does not describe other
work; assumed: linear layers take both multiplier arrays, weights stream from DRAM once, activations stay on chip;
element-wise rows come from DRAM and go back, one element a softmax lane and cycle. No publication times this alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, inf, prod

from cascadesim.accelerators.program import After, Program, Queue, Task, TileRun
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
from cascadesim.accelerators.spatten import timing
from cascadesim.accelerators.spatten.behavioural import behavioural_plan
from cascadesim.accelerators.spatten.fused import FUSED, plan_fused
from cascadesim.accelerators.spatten.harness import traced_work
from cascadesim.accelerators.spatten.mapping import (
    CHOICE,
    RESULTS,
    SCORES,
    SOFTMAX,
    HeadWork,
    head_work,
    kept_lines,
    mapping_lines,
    pruned,
    schedule_for,
    smaller_pieces,
    stored_bytes,
    stored_formats,
    units_of,
)
from cascadesim.accelerators.spatten.spec import PRUNING_SHARES, REQUEST_BYTES, HeadStream, SpattenSpec
from cascadesim.einsum_cascades.models.operation import Operation, mask_of, work_of
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.schema import validate

NO_SCHEDULE = "no pruning schedule"
EXPONENTIAL_ORDER = 5  # HPCA 2021: a lane's exponential is a Taylor expansion of order 5, so many multiply-adds a cycle
TIE = 1.01  # assumed: what gains less than this is within the scatter of addresses, and the RTL has none of it
HEAD_CYCLES = 200  # RTL: about 180 cycles of a head do not grow with its keys; what gains less is a way of filling them
TILES = 64  # assumed: weights arrive in so many pieces, the multiplication one piece behind
LINEAR_TASKS = (
    Task("weights", "dram", takes=("halves",)),
    Task("first half", "multiply_qk", (After("weights"),)),
    Task("second half", "multiply_pv", (After("weights"),), gives_back=("halves",)),
)
ROW_TASKS = (Task("rows", "dram"), Task("elements", "softmax", (After("rows", 1, streaming=True),)))


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
    def behavioural(self) -> bool:
        return self.spec.model == "behavioural"

    @property
    def units(self) -> tuple[Unit, ...]:
        """Fill and drain of the behavioural simulator stand with the first product; its other units take no time."""
        softmax, results = (inf, inf) if self.behavioural else (EXPONENTIAL_ORDER, 1.0)
        return (
            Unit("multiply_qk", self.spec.multipliers),
            Unit("softmax", self.spec.softmax_lanes, softmax),
            Unit("top_k", self.spec.topk_parallelism),
            Unit("multiply_pv", self.spec.multipliers, results),
            Unit("dram", self.spec.dram.channels),
        )

    @property
    def attention(self) -> str:
        return "attention-3pass"

    @property
    def capabilities(self) -> Capabilities:
        delivered, kept = self.spec.dram.peak_bytes_per_cycle * self.spec.clock_hz, self.spec.buffer_bytes
        if self.behavioural:
            return Capabilities(cycle_level=False, dram_bytes_per_s=delivered, buffer_bytes=kept)
        word = self.spec.element_bits / 8
        return Capabilities(traces=True, stored=Stored(word, word, word, word), dram_bytes_per_s=delivered,
                            buffer_bytes=kept)  # fmt: skip

    @property
    def leakage_w(self) -> float:
        return 0.0

    def area_um2(self) -> Mapping[str, float] | None:
        return None if self.behavioural else self.spec.area_um2()

    def prepared(self, operations: tuple[Operation, ...], workload: str) -> tuple[Spatten, tuple[Operation, ...]]:
        """The machine and the work under the workload's pruning schedule."""
        found = schedule_for(self.spec.pruning, workload)
        work = tuple(part for operation in operations for part in pruned(operation, found, self.spec))
        if found is None:
            return self, work
        spec = self.spec.model_copy(update={"formats": stored_formats(found, self.spec.formats)})
        own = self.spec.pruning
        given = [f"{name} {share:g}" for name in PRUNING_SHARES if (share := getattr(own, name)) is not None]
        words = f"pruning schedule {found.name} ({found.source})"
        if given:
            words += f", with {', '.join(given)} in place of its own"
        context = found.base if own.token_keep is None else None
        return replace(self, spec=spec, schedule=words, context=context), work

    def notes(self, sequence_length: int) -> tuple[str, ...]:
        memory = self.spec.dram
        gb_per_s = memory.peak_bytes_per_cycle * self.clock_hz / 1e9
        notes = [
            f"DRAM mode {memory.mode}: at most {gb_per_s:g} GB/s; heads run as lanes of {self.spec.head_dim} elements"
        ]
        if self.behavioural:
            notes.insert(0, "published behavioural simulator: fetch, fill and drain one after another")
        if self.schedule != NO_SCHEDULE:
            notes.append(self.schedule)
        if self.context is not None and sequence_length > self.context:
            notes.append(
                f"the schedule is for contexts of {self.context:,} tokens: of {sequence_length:,} each layer keeps the "
                "same shares (assumed)"
            )
        return tuple(notes)

    def plan(self, operation: Operation, accounting: Accounting) -> Plan:
        if self.behavioural and operation.kind == "attention" and operation.cascade in FUSED:
            raise CascadeSimError(
                f"{self.name} times whole rows of scores, as its public simulator does; {operation.cascade.name} walks "
                "keys in tiles: use --attention attention-3pass"
            )
        if accounting == "artifact":
            raise CascadeSimError(f"{self.name} has no artifact accounting; use --accounting physical")
        if operation.kind == "attention":
            plan = self._attention(operation, accounting)
            return behavioural_plan(plan, self.spec) if self.behavioural else plan
        linear = operation.kind == "linear"
        plan_of = plan_linear if linear else plan_elementwise
        plan = plan_of(operation, self.spec, accounting)
        if not self.behavioural:
            return plan
        return replace(plan, phases=tuple(replace(phase, program=None) for phase in plan.phases), dynamic_energy_j=None)

    def _attention(self, operation: Operation, accounting: Accounting) -> Plan:
        operation = replace(operation, mask=mask_of(operation))
        if operation.cascade in FUSED and operation.trace is None:
            return plan_fused(operation, self.spec, self.schedule)
        work = head_work(operation, self.spec) if operation.trace is None else traced_work(operation.trace, self.spec)
        rows = timing.single_queries(work, self.spec)
        if not self.behavioural and (why := timing.misfit(rows, self.spec)):
            raise CascadeSimError(why)
        busy = timing.total(work, rows, self.spec)
        read = busy.transactions * REQUEST_BYTES
        units = units_of(operation.cascade)
        cycles = {SCORES: busy.multiply_qk, SOFTMAX: busy.softmax, RESULTS: busy.multiply_pv}
        einsums = [(einsum.name, units[einsum.name]) for einsum in operation.cascade.einsums]
        spent = timing.shared_activities(einsums, work_of(operation), cycles, self.spec)
        spent += [EinsumActivity("top-k", CHOICE, busy.top_k)] * (busy.top_k > 0)
        spent.append(EinsumActivity("gather", "dram", busy.dram))
        phase = Phase(
            operation.name, tuple(spent), Traffic(read), float(busy.longest),
            None if work.streams else partial(timing.program, work, self.spec),
            partial(Heads, operation, work, self.spec) if work.streams else None,
        )  # fmt: skip
        joules = self.spec.dynamic_energy_j(read, busy.longest)
        schedule = self.schedule if operation.trace is None else "pruned as the trace says"
        lines = (schedule, *kept_lines(operation), *mapping_lines(work, self.spec))
        return Plan(operation, accounting, lines, (phase,), joules, element_bytes=stored_bytes(operation, self.spec))


@dataclass(frozen=True)
class Heads:
    """A stream of heads, to be run as the RTL runs it, or fewer at a time, or cut into pieces, where that is faster."""

    operation: Operation
    work: HeadWork
    spec: SpattenSpec

    def streams(self) -> Iterator[HeadStream]:
        """What the RTL runs, the same with fewer heads at a time, then likewise each cut of it that can run."""
        cuts = (head_work(self.operation, self.spec, part) for part in smaller_pieces(self.work, self.spec))
        for work in (self.work, *cuts):
            if not timing.misfit(timing.single_queries(work, self.spec), self.spec):
                yield from timing.streams(work, self.spec)

    def run(self) -> int:
        """Cycles of the fastest stream, or of the RTL's where that takes hardly more or a head's depth."""
        from cascadesim.accelerators.spatten.rtl.run import run_heads  # loads the compiler, which only this needs

        published, *others = (run_heads(each).cycles for each in self.streams())
        fastest = min(others, default=published)
        return published if published <= max(TIE * fastest, fastest + HEAD_CYCLES) else fastest


def build(name: str, content: Mapping[str, object], source: str) -> Spatten:
    """Raises SpecError with every problem of `content`."""
    return Spatten(name, validate(SpattenSpec, content, source))


def plan_linear(operation: Operation, spec: SpattenSpec, accounting: Accounting) -> Plan:
    size = dict(operation.extents)
    weights_bytes = size["x"] * size["k"] * size["n"] * spec.fully_connected.weight_bits / 8
    macs = size["x"] * size["r"] * size["k"] * size["n"]
    tiles = min(TILES, macs)
    load = ceil(ceil(weights_bytes / tiles) / spec.dram.peak_bytes_per_cycle)
    half = ceil(ceil(macs / (2 * spec.multipliers)) / tiles)  # each array takes half of the products
    einsum = operation.cascade.einsums[0].name
    most = half * tiles * spec.multipliers
    first, second = (
        EinsumActivity(einsum, unit, half * tiles, {"mac": own}, min(1.0, max(1, own) / most))
        for unit, own in (("multiply_qk", macs - macs // 2), ("multiply_pv", macs // 2))
    )
    memory = EinsumActivity("weights", "dram", load * tiles)
    cycles = float(max(load, half) * tiles)
    phase = Phase(operation.name, (first, second, memory), Traffic(weights_bytes), cycles,
                  partial(Program, LINEAR_TASKS, ((load, half, half),), (TileRun(0, tiles),), (Queue("halves", 2),),
                          in_flight=3))  # fmt: skip
    lines = (f"weights of {spec.fully_connected.weight_bits} bits once from DRAM, activations stay on chip; "
             "products on both multiplier arrays",)  # fmt: skip
    weights = {operation.cascade.einsums[0].inputs[1].tensor: spec.fully_connected.weight_bits / 8}
    return Plan(operation, accounting, lines, (phase,), spec.dynamic_energy_j(weights_bytes, cycles),
                element_bytes=weights)  # fmt: skip


def plan_elementwise(operation: Operation, spec: SpattenSpec, accounting: Accounting) -> Plan:
    size, cascade, counted = dict(operation.extents), operation.cascade, work_of(operation)
    activities = []
    for einsum in cascade.einsums:
        ranks = {rank for access in (einsum.output, *einsum.inputs) for rank in access.ranks}
        points = prod(size[rank] for rank in ranks if rank in size)
        cycles = ceil(points / spec.softmax_lanes)
        activities.append(EinsumActivity(einsum.name, "softmax", cycles, counted.get(einsum.name, {}),
                                         points / (cycles * spec.softmax_lanes)))  # fmt: skip
    accesses = {access.tensor: access.ranks for einsum in cascade.einsums for access in (einsum.output, *einsum.inputs)}
    reads, writes = (
        sum(prod(size.get(rank, 1) for rank in accesses[name]) for name in names) * spec.element_bits / 8
        for names in (cascade.inputs, cascade.outputs)
    )
    busy, memory = sum(one.cycles for one in activities), ceil((reads + writes) / spec.dram.peak_bytes_per_cycle)
    activities.append(EinsumActivity("rows", "dram", memory))
    cycles_bound = float(max(busy, memory))
    phase = Phase(operation.name, tuple(activities), Traffic(reads, writes), cycles_bound,
                  partial(Program, ROW_TASKS, ((memory, busy),), (TileRun(0, 1),), in_flight=1))  # fmt: skip
    energy = spec.dynamic_energy_j(reads + writes, cycles_bound)
    stored = dict.fromkeys((*cascade.inputs, *cascade.outputs), spec.element_bits / 8)
    return Plan(operation, accounting, ("one element a softmax lane and cycle; rows by DRAM",), (phase,), energy,
                element_bytes=stored)  # fmt: skip
