"""Requests that come and go: a closed loop of clients, prompts in chunks beside the steps of those that generate.

A step takes one new token of each running request and, within the engine's budget of tokens, chunks of waiting prompts.
Its time is that of `simulate`: everything but attention for all its tokens together; what new tokens take beyond that,
attention over caches of their mean length; what each chunk takes beyond that, attention over what its prompt already
has and operations that only prompts have; and what a step of the engine takes besides. Times are looked up on a grid of
sizes, and at half of the longest cache and at that; between these they are taken as linear. Between two events (a
prompt, an end) steps differ in the length of the caches alone and are taken together: a thousand requests need some
thousands of events, not a million steps.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heappop, heappush
from typing import Literal, TypeAlias

import numpy as np

from cascadesim.accelerators.protocol import TimesCaches
from cascadesim.einsum_cascades.models.operation import PATTERN, Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.execution import planned_and_executed
from cascadesim.simulator.generate import (
    GROWING,
    LARGEST_BATCH,
    Generation,
    memory_of,
    needed_by,
    phases,
    uncertainty_of,
)
from cascadesim.simulator.request import Request, largest_batch
from cascadesim.simulator.simulate import operations, reports

TOKENS_PER_STEP = 8192  # assumed where no engine says it: the default of vLLM and TensorRT-LLM
FINEST = 16  # tokens of a step, or requests, up to which each number is timed; assumed: a kernel's smallest tile
REQUESTS_PER_CLIENT = 10  # assumed: as many as serving benchmarks send
MOST_REQUESTS = 100_000  # assumed: some seconds
PLASTIC = 1.32471795724474602596  # the real root of x^3 = x + 1
Part: TypeAlias = Literal["rest", "head", "step", "prompt"]
Known: TypeAlias = dict[tuple[Part, int, int], float]  # part of a step, size, keys or number of prompts -> seconds
Chunk: TypeAlias = tuple[int, int]  # tokens of a prompt that its step finds done, and that it leaves done


@dataclass(frozen=True)
class Arrivals:
    """What clients ask for. `requests`: in all, None for ten a client; `spread`: lengths lie evenly within this share
    of the stated ones."""

    requests: int | None = None
    spread: float = 0.0

    def lengths(self, clients: int, prompt: int, tokens: int) -> list[tuple[int, int]]:
        """Tokens of the prompt of each request, and of what follows. Raises CascadeSimError for too many.

        A sequence that fills the square of both evenly, in any number of requests (Roberts, 2018).
        """
        count = self.requests or max(clients, min(REQUESTS_PER_CLIENT * clients, MOST_REQUESTS))
        if count > MOST_REQUESTS:
            raise CascadeSimError(f"requests: {count:,}; at most {MOST_REQUESTS:,}")
        even = (0.5 + np.arange(1, count + 1)[:, None] / PLASTIC ** np.array([1, 2])) % 1
        scale = 1 + self.spread * (2 * even - 1)
        found = np.maximum(np.rint(scale * (prompt, tokens)), 1).astype(int)
        return [(int(own), int(new)) for own, new in found]

    def longest(self, tokens: int) -> int:
        return max(1, round(tokens * (1 + self.spread)))


@dataclass(frozen=True)
class ServedRequest:
    """Seconds of one request: until its first token, and until its last one; tokens that it got."""

    ttft_s: float
    latency_s: float
    tokens: int

    @property
    def tpot_s(self) -> float | None:
        """The mean of its later tokens."""
        return (self.latency_s - self.ttft_s) / (self.tokens - 1) if self.tokens > 1 else None


@dataclass(frozen=True)
class ClosedLoop:
    """Requests in the order in which they ended. `together`: as many as ran at once at most; `fits`: as memory holds,
    None where it is not known; `prompt` and `step`: the longest."""

    requests: Sequence[ServedRequest]
    elapsed_s: float
    together: int
    fits: int | None
    prompt: Request
    step: Request

    @property
    def devices(self) -> int:
        return self.step.accelerator.capabilities.devices

    @property
    def ttft_s(self) -> float:
        return float(np.mean([each.ttft_s for each in self.requests]))

    @property
    def tpot_s(self) -> float | None:
        """The mean over requests; None where none has a later token."""
        later = [each.tpot_s for each in self.requests if each.tpot_s is not None]
        return float(np.mean(later)) if later else None

    @property
    def new_tokens(self) -> int:
        return sum(each.tokens for each in self.requests)

    @property
    def tokens_per_s(self) -> float:
        """New tokens over all the time, from the first request to the end of the last one."""
        return self.new_tokens / self.elapsed_s


@dataclass(frozen=True)
class Served(Generation):
    """Requests that came and went: means over all of them, how they were spread, and the loop itself."""

    loop: ClosedLoop | None = None

    @property
    def latency_s(self) -> float:
        return (self.latencies or {})["mean"]

    @property
    def tokens_per_s(self) -> float:
        return self._loop.tokens_per_s

    @property
    def requests_per_s(self) -> float:
        return len(self._loop.requests) / self._loop.elapsed_s

    @property
    def _loop(self) -> ClosedLoop:
        assert self.loop is not None
        return self.loop

    def to_dict(self) -> dict[str, object]:
        return {**super().to_dict(), "latency_s": dict(self.latencies or {}), "requests": len(self._loop.requests),
                "first_token_s": dict(self.first_tokens or {}), "elapsed_s": self._loop.elapsed_s}  # fmt: skip


def run(
    asked: Request, input_length: int, output_length: int, arrivals: Arrivals, known: Known | None = None
) -> ClosedLoop:  # fmt: skip
    """The loop of `serve`. `known`: parts of steps that were timed for the same workload and accelerator; new ones are
    added."""
    whole, step = phases(asked, arrivals.longest(input_length), arrivals.longest(output_length))
    clients, prompt = whole.sequences, replace(whole, batch=1)
    fits = None if memory_of(whole, step) is None else largest_batch(LARGEST_BATCH, partial(needed_by, whole, step))
    if fits == 0:
        reports(prompt)  # says what does not fit
    if any(each.name.startswith(PATTERN) for each in operations(prompt)):
        raise CascadeSimError("a pattern chooses blocks for whole prompts; chunks of prompts have none: --batching "
                              "static")
    together = clients if fits is None else max(1, min(fits, clients))
    longest, lengths = replace(step, batch=together), arrivals.lengths(clients, input_length, output_length)
    times = StepTimes(prompt, longest, {} if known is None else known)
    budget = asked.accelerator.capabilities.tokens_per_pass or TOKENS_PER_STEP
    found, elapsed_s = closed_loop(lengths, clients, together, budget, times.seconds)
    return ClosedLoop(found, elapsed_s, together, fits, prompt, longest)


def serve(asked: Request, input_length: int, output_length: int, arrivals: Arrivals) -> Served:
    """Requests of the workload, accelerator and batch (clients) of `asked`, each as long as said there.

    Raises CascadeSimError where the workload generates nothing, where not one request fits, or as `simulate` does.
    """
    loop, can = run(asked, input_length, output_length, arrivals), asked.accelerator.capabilities
    first, after = reports(loop.prompt)[0], reports(loop.step)[0]
    clients = asked.sequences
    return Served(
        asked.accelerator.name, asked.workload.name, can.engine, can.devices, input_length, output_length, clients,
        loop.ttft_s, loop.tpot_s, memory_of(replace(loop.prompt, batch=loop.together), loop.step), loop.fits,
        {"prefill": first.bound_by, "decode": None if loop.tpot_s is None else after.bound_by},
        uncertainty_of(asked, input_length, output_length, "continuous"),
        tuple(dict.fromkeys((*_queueing(clients, loop.together), *first.notes, *after.notes))), "continuous",
        _spread([each.latency_s for each in loop.requests]), _spread([each.ttft_s for each in loop.requests]), loop,
    )  # fmt: skip


def _queueing(clients: int, together: int) -> Iterator[str]:
    if together < clients:
        yield f"{together:,} of {clients:,} requests fit at once; the others wait for memory"


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    found = dict(zip(("p50", "p90", "p99"), np.percentile(seconds, (50, 90, 99)).tolist(), strict=True))
    return {"mean": float(np.mean(seconds)), **found}


@dataclass(frozen=True)
class StepTimes:
    """Seconds of steps of one model on one machine. `prompt`: one request's, the longest; `step`: the longest one."""

    prompt: Request
    step: Request
    known: Known = field(default_factory=dict, compare=False, repr=False)
    rests: dict[int, Counter[_Alike]] = field(default_factory=dict, compare=False, repr=False)  # by requests

    def seconds(self, running: int, keys: float, chunks: Sequence[Chunk]) -> float:
        """A step of `running` requests with caches of `keys` tokens in the mean, and of chunks of prompts."""
        tokens = running + sum(after - before for before, after in chunks)
        total = self.step.accelerator.capabilities.step_overhead_s
        total += self._between("rest", tokens) + self._between("head", running + len(chunks))
        if running:
            total += self._over_lengths(running, keys)
        return total + self._of_chunks(chunks)

    def _of_chunks(self, chunks: Sequence[Chunk]) -> float:
        """What chunks take beyond the rest of a step. Prompts that begin in it share their kernels."""
        begun = [after for before, after in chunks if not before]
        later = sum(self._of_prompts(after) - self._of_prompts(before) for before, after in chunks if before)
        return later + (self._of_prompts(round(sum(begun) / len(begun)), len(begun)) if begun else 0.0)

    def _over_lengths(self, running: int, keys: float) -> float:
        """What new tokens take beyond the rest of a step."""
        long, short = self.step.length, max(1, self.step.length // 2)
        most, least = (self._between("step", running, length) for length in (long, short))
        return least + (most - least) * (keys - short) / max(long - short, 1)

    def _of_prompts(self, tokens: int, prompts: int = 1) -> float:
        """What so many tokens of each of some prompts take beyond the rest of a step, from powers of two of them."""
        low = 1 << prompts.bit_length() - 1
        least = self._between("prompt", tokens, low)
        if low == prompts:
            return least
        return least + (self._between("prompt", tokens, 2 * low) - least) * (prompts - low) / low

    def _between(self, part: Part, size: int, other: int = 0) -> float:
        """A part of a step at a size, from the sizes of the grid around it. `other`: of prompts how many, else keys."""
        low, high = around(size)
        ends = [self._at(part, each, other) for each in (low, high)]
        return ends[0] if low == high else ends[0] + (ends[1] - ends[0]) * (size - low) / (high - low)

    def _at(self, part: Part, size: int, other: int) -> float:
        key = part, size, other or self.step.length
        if key not in self.known:
            self.known[key] = self._timed(*key)
        return self.known[key]

    def _rest(self, size: int) -> Counter[_Alike]:
        if size not in self.rests:
            self.rests[size] = _counted(replace(self.step, batch=size), "rest")
        return self.rests[size]

    def _timed(self, part: Part, size: int, other: int) -> float:
        """Time what the part has; of a step and of prompts only what they have beyond the rest of a step."""
        request = (replace(self.prompt, sequence_length=size, batch=other) if part == "prompt" else
                   replace(self.step, batch=size, sequence_length=other))  # fmt: skip
        counts = self._rest(size) if part == "rest" else _counted(request, part)
        if part in ("step", "prompt"):
            counts.subtract(self._rest(size * other if part == "prompt" else size))
        cycles = sum(count * one_cycles(each.operation, request) for each, count in counts.items() if count)
        return cycles / request.accelerator.clock_hz


@dataclass(frozen=True)
class _Alike:
    """An operation, equal to all that take as long."""

    same: tuple[object, ...]
    operation: Operation = field(compare=False)


def _counted(request: Request, part: Part) -> Counter[_Alike]:
    counts: Counter[_Alike] = Counter()
    for each in operations(request):
        if _is_of(each, part):
            same = each.kind, each.cascade, each.extents, each.mask, each.operand, each.numbers, each.fp32
            counts[_Alike(same, each)] += each.count
    return counts


def _is_of(operation: Operation, part: Part) -> bool:
    """Whether a part has the operation: the rest neither attention nor the head, steps and prompts all but the head."""
    head = operation.operand == "head"
    return head if part == "head" else not head and (part != "rest" or operation.kind != "attention")


def one_cycles(operation: Operation, request: Request) -> float:
    """Cycles of an operation, without the plan that explains them where the machine can do without."""
    machine, rank = request.machine, GROWING.get(operation.kind)
    if rank is not None and isinstance(machine, TimesCaches):
        found = machine.cycles_by_length(operation, np.array([operation.extent(rank)], dtype=np.int64))
        if found is not None:
            return float(found[0])
    return planned_and_executed(operation, machine, request.accounting, request.fidelity).exact_cycles


def around(size: int) -> tuple[int, int]:
    """Sizes of the grid below and above: each up to `FINEST`, then four for each doubling."""
    if size <= FINEST:
        return size, size
    step = 2 ** ((size - 1).bit_length() - 3)
    low = size // step * step
    return (low, low) if low == size else (low, low + step)


@dataclass
class PendingPrompt:
    """A request whose prompt is not done: when it came, tokens of its prompt in all and done, tokens to generate."""

    came_s: float
    prompt: int
    tokens: int
    done: int = 0


def closed_loop(
    lengths: Sequence[tuple[int, int]], clients: int, together: int, budget: int,
    times: Callable[[int, float, Sequence[Chunk]], float],
) -> tuple[list[ServedRequest], float]:  # fmt: skip
    """All requests, and the seconds from begin to end.

    `lengths`: tokens of each prompt and of what follows; each client sends one when its last one has ended. At most
    `together` run at once. `budget`: tokens of a step; `times`: seconds of one, as `StepTimes.seconds`.
    """
    clock, step, keys = 0.0, 0, 0  # keys: of all caches together
    left, waiting, found = deque(lengths), deque[PendingPrompt](), list[ServedRequest]()
    running: list[tuple[int, int, float, float, int]] = []  # last step, keys then, when it came, first token, tokens
    free = clients
    while left or waiting or running:
        for _ in range(min(free, len(left))):
            waiting.append(PendingPrompt(clock, *left.popleft()))
        chunks, begun = _chunks(waiting, budget - len(running), together - len(running))
        steps = 1 if chunks else running[0][0] - step
        mean = keys / len(running) + (steps - 1) / 2 if running else 0.0
        clock += steps * times(len(running), mean, chunks)
        step += steps
        keys += len(running) * steps + sum(each.prompt + 1 for each in begun)
        for each in begun:
            heappush(running, (step + each.tokens - 1, each.prompt + each.tokens, each.came_s, clock, each.tokens))
        free = 0
        while running and running[0][0] <= step:
            _, own, came_s, first_s, tokens = heappop(running)
            keys, free = keys - own, free + 1
            found.append(ServedRequest(first_s - came_s, clock - came_s, tokens))
    return found, clock


def _chunks(waiting: deque[PendingPrompt], budget: int, slots: int) -> tuple[list[Chunk], list[PendingPrompt]]:
    """Chunks of the step, in the order in which prompts came, and the requests whose prompts are done with it."""
    chunks: list[Chunk] = []
    begun: list[PendingPrompt] = []
    while waiting and budget > 0 and slots > len(begun):
        first = waiting[0]
        after = min(first.prompt, first.done + budget)
        chunks.append((first.done, after))
        budget -= after - first.done
        first.done = after
        if after == first.prompt:
            begun.append(waiting.popleft())
    return chunks, begun
