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

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from heapq import heappop, heappush

import numpy as np

from cascadesim.einsum_cascades.models.operation import PATTERN
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.generate import (
    LARGEST_BATCH,
    Generation,
    memory_of,
    needed_by,
    phases,
    uncertainty_of,
)
from cascadesim.simulator.request import Request, largest_batch
from cascadesim.simulator.simulate import operations, reports
from cascadesim.simulator.step_times import Chunk, Known, StepTimes

TOKENS_PER_STEP = 8192  # assumed where no engine says it: the default of vLLM and TensorRT-LLM
REQUESTS_PER_CLIENT = 10  # assumed: as many as serving benchmarks send
MOST_REQUESTS = 100_000  # assumed: some seconds
PLASTIC = 1.32471795724474602596  # the real root of x^3 = x + 1


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
