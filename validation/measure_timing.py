"""Times functions on a GPU: every sample kept, variants interleaved in shuffled rounds, cold and hot cache, graphs.

Cold: the L2 cache is overwritten before each sample. Short kernels are also timed inside a CUDA graph, because an event
pair around them measures the launch. The clock of the multiprocessors is read in a kernel, beside the samples.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Launch = Callable[[], object]
WARM_UP_S = 0.3  # a GPU was seen at 345 MHz idle and 1980 MHz after load
ROUND_SAMPLES_S = 0.05  # time for the samples of one variant in one round
ROUNDS = 4
FEWEST, MOST = 5, 125  # samples of a round: 20 to 500 in all
SHORT_US = 20.0  # below, a graph of many launches is timed too
GRAPH_LAUNCHES = 50
CLOCK_TURNS = 50_000  # about a millisecond
FLUSHES = 2  # sizes of the L2 cache that are written


def samples_of_round(estimate_us: float) -> int:
    """Of a variant that takes so long, with a cold cache, and as many with a hot one."""
    return int(min(max(ROUND_SAMPLES_S * 1e6 / max(estimate_us, 1.0), FEWEST), MOST))


@dataclass
class Samples:
    """Microseconds, and the round of each sample."""

    cold: list[float] = field(default_factory=list)
    hot: list[float] = field(default_factory=list)
    graph: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)


class CudaTimer:
    """Everything here needs the device; `measure_run` takes any object with `measure` and `clock_mhz`."""

    def __init__(self, seed: int) -> None:
        import torch

        self._torch: Any = torch
        self._order = random.Random(seed)
        bytes_of_l2 = torch.cuda.get_device_properties(0).L2_cache_size
        self._flush = torch.empty(FLUSHES * bytes_of_l2, dtype=torch.int8, device="cuda")

    def measure(self, variants: Mapping[str, Launch]) -> dict[str, Samples]:
        """Rounds over all variants, so that a drift of the clock meets each of them alike."""
        found = {name: Samples() for name in variants}
        estimates = {name: self._warm_up(launch) for name, launch in variants.items()}
        for number in range(ROUNDS):
            order = list(variants)
            self._order.shuffle(order)
            for name in order:
                self._round(number, variants[name], estimates[name], found[name])
        for name, launch in variants.items():
            if estimates[name] < SHORT_US:
                found[name].graph = self._graph(launch)
        return found

    def _round(self, number: int, launch: Launch, estimate_us: float, samples: Samples) -> None:
        count = samples_of_round(estimate_us)
        samples.cold += [self._sample(launch, cold=True) for _ in range(count)]
        samples.hot += [self._sample(launch, cold=False) for _ in range(count)]
        samples.rounds += [number] * count

    def _sample(self, launch: Launch, cold: bool) -> float:
        start, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        if cold:
            self._flush.zero_()
        start.record()
        launch()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e3

    def _warm_up(self, launch: Launch) -> float:
        """Microseconds of a launch, after WARM_UP_S of them."""
        launch()
        self._torch.cuda.synchronize()
        spent, latest = 0.0, 0.0
        while spent < WARM_UP_S * 1e6:
            latest = self._sample(launch, cold=False)
            spent += max(latest, 1.0)
        return latest

    def _graph(self, launch: Launch) -> list[float]:
        """Per launch, from a graph of GRAPH_LAUNCHES of them."""
        graph = self._torch.cuda.CUDAGraph()
        try:
            with self._torch.cuda.graph(graph):
                for _ in range(GRAPH_LAUNCHES):
                    launch()
        except RuntimeError:  # what allocates in ways that a graph cannot hold has event times only
            return []
        return [self._sample(graph.replay, cold=False) / GRAPH_LAUNCHES for _ in range(FEWEST * ROUNDS)]

    def clock_mhz(self) -> dict[str, Any]:
        """Of the multiprocessors, read in a kernel; of the rest what the driver reports. Read only."""
        from cascadesim.kernels.microbenchmarks.triton import clock_rate
        from cascadesim.validation.measure_device import query

        x = self._torch.full((1,), 0.5, device="cuda")
        counters = self._torch.zeros(2, dtype=self._torch.int64, device="cuda")
        clock_rate[(1,)](x, counters, CLOCK_TURNS, num_warps=1)
        cycles, time_ns = counters.tolist()
        reported = query("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "clocks_event_reasons.active")
        return {"sm_mhz_in_kernel": cycles / time_ns * 1e3 if time_ns else None, **reported}
