"""Times functions on a GPU: every sample kept, variants interleaved in shuffled rounds, with cold and with hot caches.

What is timed never waits for the host: a flush of the L2 cache runs ahead of each sample, long enough for the host to
queue the rest meanwhile, and calls below GRAPH_BELOW_US are replayed from a CUDA graph, so that several launches follow
each other without it. A flush writes a buffer and reads it again, so that no written lines are left to be stored while
a sample runs. Short kernels are also timed many in a row.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias

from cascadesim.validation.measure.device import query

Launch: TypeAlias = Callable[[], object]
Caches: TypeAlias = Literal["cold", "hot"]
WARM_UP_S = 0.3  # of wall clock; a GPU was seen at 345 MHz idle and 1980 MHz after load
ROUND_SAMPLES_S = 0.05  # time for the samples of one variant in one round
ROUNDS = 4
FEWEST, MOST = 5, 125  # samples of a round: 20 to 500 in all
GRAPH_BELOW_US = 300.0  # assumed: what a host takes for the launches of one call, with room
SHORT_US = 20.0  # below, a graph of many launches is timed too
GRAPH_LAUNCHES = 50
ESTIMATES = 3  # samples from which the number of the others follows
CLOCK_TURNS = 50_000  # about a millisecond
FLUSH_SIZES = 2  # L2 caches that are written, and read
HIDE_US = 200.0  # assumed: two events and a graph are queued in less
HIDDEN_TIMES = 2.0  # a flush lasts so many times what the host needs for what it queues behind it


def samples_of_round(estimate_us: float) -> int:
    """How many samples a round takes of a variant that takes so long, with a cold cache, and as many with a hot one."""
    return int(min(max(ROUND_SAMPLES_S * 1e6 / max(estimate_us, 1.0), FEWEST), MOST))


@dataclass
class Samples:
    """Microseconds, and the round of each sample. `host_us`: what the host needs to queue one call."""

    cold: list[float] = field(default_factory=list)
    hot: list[float] = field(default_factory=list)
    many: list[float] = field(default_factory=list)  # of one launch among GRAPH_LAUNCHES in a row
    rounds: list[int] = field(default_factory=list)
    method: Literal["graph", "events"] = "events"
    host_us: float = 0.0


@dataclass(frozen=True)
class Timed:
    """A variant ready to be timed: what is run for a sample, and how many flushes hide the host."""

    run: Launch
    flushes: int
    estimate_us: float


class CudaTimer:
    """`torch` and the clock are given, so that the order of what is queued can be tested without a device."""

    def __init__(self, seed: int, torch: Any, now: Callable[[], float] = time.perf_counter) -> None:
        self._torch, self._now = torch, now
        self._order = random.Random(seed)
        words = FLUSH_SIZES * torch.cuda.get_device_properties(0).L2_cache_size // 4
        self._buffer = torch.empty(words, dtype=torch.float32, device="cuda")
        self._sum = torch.zeros((), dtype=torch.float32, device="cuda")
        self._flush()
        torch.cuda.synchronize()
        nothing = Timed(self._flush, 1, 0.0)
        self.flush_us = max(statistics.median(self._sample(nothing, "hot") for _ in range(ESTIMATES)), 1.0)
        # what two events are apart around a graph that sets one number: in every sample, and never taken off
        replay = self._captured(self._sum.zero_, 1) or self._sum.zero_
        self.floor_us = self._estimate(Timed(replay, self._flushes_that_hide(0.0), 0.0))

    def measure(
        self, variants: Mapping[str, Launch], only: Mapping[str, Caches], running: Callable[[str], None],
        failed: Callable[[str, Exception], None],
    ) -> dict[str, Samples]:  # fmt: skip
        """Rounds over all variants, so that a drift of the clock meets each of them alike. `only`: those of which one
        state of the caches says something. A variant that fails is told and left out from there on; what `failed`
        raises ends the case."""
        found: dict[str, Samples] = {}
        timed: dict[str, Timed] = {}

        def attempt(step: Callable[[str], None], name: str) -> None:
            running(name)
            try:
                step(name)
            except Exception as error:  # a kernel may fail in any way
                timed.pop(name, None)
                found.pop(name, None)
                failed(name, error)

        def warm(name: str) -> None:
            found[name] = Samples()
            timed[name] = self._warmed(variants[name], found[name])

        def sample(number: int, name: str) -> None:
            self._round(number, timed[name], found[name], only.get(name))

        def many(name: str) -> None:
            found[name].many = self._many(variants[name])

        for name in variants:
            attempt(warm, name)
        for number in range(ROUNDS):
            for name in self._order.sample(list(timed), len(timed)):
                attempt(partial(sample, number), name)
        for name in [name for name, each in timed.items() if each.estimate_us < SHORT_US]:
            attempt(many, name)
        return found

    def _warmed(self, launch: Launch, samples: Samples) -> Timed:
        """Runs it for WARM_UP_S, and says how it is timed. Raises what the launch raises."""
        begin = self._now()
        issued: list[float] = []
        while self._now() - begin < WARM_UP_S or not issued:
            start = self._now()
            launch()
            issued.append((self._now() - start) * 1e6)
            self._torch.cuda.synchronize()
        samples.host_us = statistics.median(issued)
        flushes = self._flushes_that_hide(samples.host_us)
        estimate_us = self._estimate(Timed(launch, flushes, 0.0))
        if estimate_us >= GRAPH_BELOW_US or (replay := self._captured(launch, 1)) is None:
            return Timed(launch, flushes, estimate_us)
        samples.method = "graph"
        return Timed(replay, self._flushes_that_hide(0.0), self._estimate(Timed(replay, flushes, 0.0)))

    def _estimate(self, each: Timed) -> float:
        return statistics.median(self._sample(each, "cold") for _ in range(ESTIMATES))

    def _round(self, number: int, each: Timed, samples: Samples, only: Caches | None) -> None:
        """One call ahead of the samples: memory that others gave back is allocated in it."""
        each.run()
        count = samples_of_round(each.estimate_us)
        if only != "hot":
            samples.cold += [self._sample(each, "cold") for _ in range(count)]
        if only != "cold":
            samples.hot += [self._sample(each, "hot") for _ in range(count)]
        samples.rounds += [number] * count

    def _sample(self, each: Timed, caches: Caches) -> float:
        """While the flush runs, the host queues the rest; hot: the same call fills the caches first."""
        start, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(each.flushes):
            self._flush()
        if caches == "hot":
            each.run()
        start.record()
        each.run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e3

    def _flush(self) -> None:
        """Written, so that nothing else stays; read again, so that all that was written is stored before it ends."""
        self._buffer.zero_()
        self._torch.sum(self._buffer, 0, out=self._sum)

    def _flushes_that_hide(self, host_us: float) -> int:
        return math.ceil(max(HIDE_US, HIDDEN_TIMES * host_us) / self.flush_us)

    def _captured(self, launch: Launch, times: int) -> Launch | None:
        """Replays so many calls; None where a graph cannot hold them: they are timed launch by launch."""
        graph = self._torch.cuda.CUDAGraph()
        try:
            with self._torch.cuda.graph(graph):
                for _ in range(times):
                    launch()
            graph.replay()
            self._torch.cuda.synchronize()
        except RuntimeError:
            self._torch.cuda.synchronize()  # raises where more is broken than the capture
            return None
        replay: Launch = graph.replay
        return replay

    def _many(self, launch: Launch) -> list[float]:
        """Times one launch among many in a row."""
        if (replay := self._captured(launch, GRAPH_LAUNCHES)) is None:
            return []
        each = Timed(replay, self._flushes_that_hide(0.0), 0.0)
        return [self._sample(each, "hot") / GRAPH_LAUNCHES for _ in range(FEWEST * ROUNDS)]

    def clock_mhz(self) -> dict[str, Any]:
        """Reads the clock of the multiprocessors in a kernel, and what the driver reports beside it. Sets nothing."""
        from cascadesim.kernels.microbenchmarks.triton import clock_rate

        x = self._torch.full((1,), 0.5, device="cuda")
        counters = self._torch.zeros(2, dtype=self._torch.int64, device="cuda")
        clock_rate[(1,)](x, counters, CLOCK_TURNS, num_warps=1)
        cycles, time_ns = counters.tolist()
        reported = query("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "clocks_event_reasons.active")
        return {"sm_mhz_in_kernel": cycles / time_ns * 1e3 if time_ns else None, **reported}
