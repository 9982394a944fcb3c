"""A static batch generated: its prompts in passes, then one step after another, each with a longer cache.

Every step is that of `simulate` in closed form, with what the engine takes besides, in each and once for the batch;
nothing is taken at a mean length.
What does not depend on the cache is timed once and counted; the rest is timed for all lengths at once where the
accelerator can, and summed exactly.
The first token comes from the prompt; `tpot_s` is the mean of the steps after it. Requests start and end together, so
that all have the same latency; none waits or joins, but where an engine takes the first one before the others are
there: then the first token is the mean over requests.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from cascadesim.accelerators.protocol import TimesCaches
from cascadesim.einsum_cascades.analysis.bound_counts import KEY
from cascadesim.einsum_cascades.models.lowering import decode_keys
from cascadesim.einsum_cascades.models.operation import PATTERN, Operation
from cascadesim.einsum_cascades.models.workload import Workload
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.execution import planned_and_executed, whole_cycles
from cascadesim.simulator.report import MemoryUse, Uncertainty
from cascadesim.simulator.request import AnyWorkload, Request, largest_batch, memory, own_operations, refuse_too_large
from cascadesim.simulator.simulate import operations, reports

SCHEMA = "cascadesim.generation/1"
LARGEST_BATCH = 2**16  # assumed: beyond any serving batch
GROWING = {"attention": KEY, "linear": "n"}  # kind of operation -> the rank in which a machine can time many at once
Place: TypeAlias = tuple[str, str]  # layer and name of an operation
Extents: TypeAlias = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Generation:
    """What a batch of `concurrency` requests takes that start together. None: no step follows the first token."""

    architecture: str
    workload: str
    engine: str
    devices: int
    input_length: int
    output_length: int
    concurrency: int
    ttft_s: float
    tpot_s: float | None
    memory: MemoryUse | None  # of one device at the end, None where no capacity is stated
    largest_concurrency: int | None
    bound_by: Mapping[str, str | None]  # phase -> unit
    uncertainty: Uncertainty | None
    notes: tuple[str, ...] = ()
    batching: str = "static"
    latencies: Mapping[str, float] | None = None  # of requests that differ: mean, p50, p90, p99, in seconds
    first_tokens: Mapping[str, float] | None = None  # likewise

    @property
    def latency_s(self) -> float:
        return self.ttft_s + (self.output_length - 1) * (self.tpot_s or 0.0)

    @property
    def tokens_per_s(self) -> float:
        """Output tokens of all requests over all the time, prompts included."""
        return self.concurrency * self.output_length / self.latency_s

    @property
    def requests_per_s(self) -> float:
        return self.concurrency / self.latency_s

    def to_dict(self) -> dict[str, object]:
        """Write the JSON object of the contract (design, section 5)."""
        held = self.memory
        plain = ("architecture", "workload", "engine", "devices", "batching", "input_length", "output_length",
                 "concurrency", "ttft_s", "tpot_s")  # fmt: skip
        return {
            "schema": SCHEMA, **{name: getattr(self, name) for name in plain},
            "latency_s": dict.fromkeys(("mean", "p50", "p90", "p99"), self.latency_s),
            "tokens_per_s": {"total": self.tokens_per_s, "per_device": self.tokens_per_s / self.devices},
            "requests_per_s": self.requests_per_s,
            "memory_bytes": None if held is None else {**asdict(held), "total": held.total},
            "largest_concurrency": self.largest_concurrency, "bound_by": dict(self.bound_by),
            "uncertainty": None if self.uncertainty is None else asdict(self.uncertainty), "notes": list(self.notes),
        }  # fmt: skip

    def to_row(self) -> dict[str, object]:
        """Write one flat row with the unit in every column's name."""
        content = self.to_dict()
        row = {name: value for name, value in content.items() if isinstance(value, str | int | float | None)}
        nested = (("tokens_per_s", self.tokens_per_s), ("latency_s", self.latency_s))
        return row | dict(nested) | {f"memory_{kind}_bytes": size for kind, size in
                                     (asdict(self.memory) if self.memory else {}).items()}  # fmt: skip


@dataclass(frozen=True)
class MeasuredRuns:
    """Published runs of one engine on one device: half of their tokens/s were within `latency`, nine tenths in `p90`.

    `ranges`: of their sizes, smallest and largest; `batching`: whether requests started together, or came and went.
    """

    device: str
    engine: str
    rows: int
    latency: float
    p90: float
    ranges: Mapping[str, Sequence[int]]
    workloads: Sequence[str]
    batching: str = "static"

    @property
    def what(self) -> str:
        return f"published runs of {self.engine} on {self.device} (validation suite models)"


def uncertainty_of(
    asked: Request, input_length: int, output_length: int, batching: str = "static"
) -> Uncertainty | None:
    """The errors of the same engine on the same device, or of another there; None where nothing ran on it."""
    can = asked.accelerator.capabilities
    near = [one for one in _measured() if (one.device, one.batching) == (asked.accelerator.name, batching)]
    if not near:
        return None
    found = min(near, key=lambda one: (one.engine != can.engine, -one.rows))
    sizes = {"devices": can.devices, "batch": asked.sequences, "input_tokens": input_length,
             "output_tokens": output_length}  # fmt: skip
    outside = [f"engine {can.engine}"] * (found.engine != can.engine)
    outside += [asked.workload.name] * (asked.workload.name not in found.workloads)
    outside += [f"{name.replace('_', ' ')} {size:,}" for name, size in sizes.items()
                if not found.ranges[name][0] <= size <= found.ranges[name][1]]  # fmt: skip
    basis = f"outside what was measured: {outside[0]}; nearest: {found.what}" if outside else found.what
    return Uncertainty(found.latency, basis, found.p90, found.rows, not outside)


@cache
def _measured() -> tuple[MeasuredRuns, ...]:
    file = Path(__file__).with_name("generation_uncertainty.json")
    return tuple(MeasuredRuns(**one) for one in json.loads(file.read_text(encoding="utf-8")))


def generate(asked: Request, input_length: int, output_length: int) -> Generation:
    """Generate with the workload, accelerator and batch of `asked`.

    Raises CascadeSimError where the workload generates nothing, the batch does not fit, or as `simulate` does.
    """
    whole, step = phases(asked, input_length, output_length)
    can, last, needed = asked.accelerator.capabilities, step.length, memory_of(whole, step)
    if needed is not None:
        refuse_too_large(whole, needed, partial(needed_by, whole, step))
    begun = starts(whole)
    prompts = {size: reports(replace(whole, batch=size))[0] for _, part in begun for size in part}
    steps, clock_hz = range(input_length + 1, last + 1), asked.accelerator.clock_hz
    after = reports(step) if steps else ()
    return Generation(
        architecture=asked.accelerator.name, workload=asked.workload.name, engine=can.engine, devices=can.devices,
        input_length=input_length, output_length=output_length, concurrency=whole.sequences,
        ttft_s=can.start_overhead_s + sum(
            waiting / whole.sequences * count * (prompts[size].latency_s + can.step_overhead_s)
            for waiting, part in begun for size, count in part.items()),
        tpot_s=can.step_overhead_s + decode_cycles(step, steps) / clock_hz / len(steps) if steps else None,
        memory=needed,
        largest_concurrency=None if needed is None else largest_batch(LARGEST_BATCH, partial(needed_by, whole, step)),
        bound_by={"prefill": next(iter(prompts.values())).bound_by, "decode": after[0].bound_by if after else None},
        uncertainty=uncertainty_of(whole, input_length, output_length),
        notes=tuple(dict.fromkeys(note for report in (*prompts.values(), *after) for note in report.notes)),
    )  # fmt: skip


def phases(asked: Request, input_length: int, output_length: int) -> tuple[Request, Request]:
    """The prompts of a batch and its last step, as requests of a simulation. Raises CascadeSimError as `generate`."""
    workload = asked.workload
    if not isinstance(workload, Workload) or not workload.generates:
        raise CascadeSimError(f"{workload.name}: generates no tokens; no layer of it is causal")
    if output_length < 1:
        raise CascadeSimError(f"output length: must be at least 1, got {output_length}")
    whole = replace(asked, sequence_length=input_length, phase="prefill", scope="model", fidelity="analytical")
    return whole, replace(whole, sequence_length=input_length + output_length - 1, phase="decode")


def passes(prompts: Request) -> Counter[int]:
    """Divide the prompts into passes of as many whole ones as the engine takes at once: prompts -> passes of so many.
    """
    most = prompts.accelerator.capabilities.tokens_per_pass
    each = prompts.sequences if most is None else max(1, min(most // prompts.length, prompts.sequences))
    full, left = divmod(prompts.sequences, each)
    return Counter({size: count for size, count in ((each, full), (left, 1)) if size})


def starts(prompts: Request) -> tuple[tuple[int, Counter[int]], ...]:
    """The passes of those that begin together, one start after another, and how many requests wait for their end."""
    alone = prompts.accelerator.capabilities.first_alone and prompts.sequences > 1
    if not alone:
        return ((prompts.sequences, passes(prompts)),)
    others = prompts.sequences - 1
    return (prompts.sequences, Counter({1: 1})), (others, passes(replace(prompts, batch=others)))


def memory_of(prompts: Request, last_step: Request) -> MemoryUse | None:
    """What a device holds when the cache is fullest, with the activations of the larger of a pass and a step."""
    of_prompts = memory(replace(prompts, batch=max(passes(prompts))))
    held = [memory(replace(last_step, sequence_length=length)) for length in _fullest(last_step)]
    found = [each for each in held if each is not None]
    if not found or of_prompts is None:
        return None
    needed = max(found, key=lambda each: each.kv)
    return replace(needed, activations=max(needed.activations, of_prompts.activations))


def _fullest(last_step: Request) -> set[int]:
    """Lengths of which one has the largest cache: the last, and the last at which a chunk of keys is full."""
    workload, length = last_step.workload, last_step.length
    layers = workload.layers.values() if isinstance(workload, Workload) else ()
    return {length, *(length // layer.chunk * layer.chunk for layer in layers if layer.chunk and layer.chunk <= length)}


def needed_by(prompts: Request, last_step: Request, batch: int) -> MemoryUse | None:
    return memory_of(replace(prompts, batch=batch), replace(last_step, batch=batch))


@dataclass(frozen=True)
class Growth:
    """Extents of one operation over the steps: those of `ranks` are `sizes` long, each in so many steps."""

    ranks: frozenset[str]
    sizes: Mapping[int, int]


def decode_cycles(step: Request, lengths: Sequence[int]) -> float:
    """Cycles of all steps with caches of these lengths, the new token's key included: the sum of their reports'."""
    varying = _varying(step, lengths)
    total = 0.0
    for operation in operations(replace(step, sequence_length=lengths[0])):
        grows = varying.get((operation.layer, operation.name))
        if grows is None:
            spent = len(lengths) * _cycles(operation, step)
        elif isinstance(grows, Growth):
            spent = cycles_over(operation, grows, step)
        else:
            spent = sum(steps * _cycles(replace(operation, extents=each), step) for each, steps in grows.items())
        total += operation.count * spent
    return total


def _varying(step: Request, lengths: Sequence[int]) -> Mapping[Place, Growth | Counter[Extents]]:
    """Operations whose extents change from step to step.

    Attention has as many keys as its layer sees; what a pattern adds grows from the first step to the last, by blocks;
    anything else that changes is as long as the sequence.
    """
    found: dict[Place, Growth | Counter[Extents]] = {}
    ends = (own_operations(replace(step, sequence_length=length)) for length in (lengths[0], lengths[-1]))
    for first, last in zip(*ends, strict=True):
        keys = _keys(step.workload, first, last, lengths)
        changed = frozenset(rank for rank, size in first.extents if size != last.extent(rank))
        if keys is not None:
            found[first.layer, first.name] = Growth(frozenset((KEY,)), keys)
        elif changed and first.name.startswith(PATTERN):
            found[first.layer, first.name] = Counter(_grown(first, last, lengths))
        elif changed:
            if _with(last, changed, lengths[-1]) != last.extents:
                raise AssertionError(f"{first.name} of {step.workload.name} grows otherwise than its sequence")
            found[first.layer, first.name] = Growth(changed, Counter(lengths))
    return found


def _keys(workload: AnyWorkload, first: Operation, last: Operation, lengths: Sequence[int]) -> Counter[int] | None:
    """Keys of the steps where the operation attends the cache of its layer, as it does where it has them at both ends.
    """
    if first.name != "attention" or not isinstance(workload, Workload):
        return None
    sizes, ends = workload.sizes(workload.layers[first.layer]), [one.extent(KEY) for one in (first, last)]
    if sizes.pattern is None and ends == [lengths[0], lengths[-1]]:  # then also in between
        return Counter(lengths)
    return Counter(decode_keys(sizes, length) for length in lengths) if ends == [
        decode_keys(sizes, length) for length in (lengths[0], lengths[-1])] else None  # fmt: skip


def _grown(first: Operation, last: Operation, lengths: Sequence[int]) -> Iterator[Extents]:
    """Extents at each length, in proportion between the first and the last, to the nearest whole number."""
    for length in lengths:
        share = (length - lengths[0]) / (lengths[-1] - lengths[0])
        yield tuple((rank, round(size + (last.extent(rank) - size) * share)) for rank, size in first.extents)


def _with(operation: Operation, ranks: Collection[str], size: int) -> Extents:
    return tuple((rank, size if rank in ranks else own) for rank, own in operation.extents)


def _cycles(operation: Operation, step: Request) -> float:
    return planned_and_executed(operation, step.machine, step.accounting, step.fidelity).exact_cycles


def cycles_over(operation: Operation, grows: Growth, step: Request) -> float:
    """Cycles over steps that differ in the extents of one operation: at once where they do in one that grows."""
    machine, rank = step.machine, GROWING.get(operation.kind, "")
    if isinstance(machine, TimesCaches) and grows.ranks == {rank}:
        cycles = machine.cycles_by_length(operation, np.array(list(grows.sizes), dtype=np.int64))
        if cycles is not None:
            return sum(steps * whole_cycles(each) for steps, each in zip(grows.sizes.values(), cycles, strict=True))
    return sum(steps * _cycles(replace(operation, extents=_with(operation, grows.ranks, size)), step)
               for size, steps in grows.sizes.items())  # fmt: skip
