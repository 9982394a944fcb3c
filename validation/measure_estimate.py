"""How long a run of `measure` takes, before it runs: what the timer does with each variant, at the model's times.

Variants without a prediction count as UNKNOWN_S. Stated once, so that the default run is held to its nine minutes by a
test; no device is asked.
"""

from __future__ import annotations

from collections.abc import Iterable

from cascadesim.validation.measure_cases import Case
from cascadesim.validation.measure_timing import (
    FEWEST,
    FLUSHES,
    GRAPH_LAUNCHES,
    ROUNDS,
    SHORT_US,
    WARM_UP_S,
    samples_of_round,
)

UNKNOWN_S = 2e-3  # assumed: the library's kernels, and rates: up to a few milliseconds
SAMPLE_S = 60e-6  # assumed: two events and a wait for the second
PREPARE_S = 2.5  # assumed: inputs, checks against the library, and the driver's clocks before and after
COMPILE_S = 0.6  # kernels note, 2.1: 0.25 to 0.6 s a kernel for sm_90; most variants share one with another case


def seconds_of(cases: Iterable[Case], preset: str = "h100-sxm") -> float:
    return sum(PREPARE_S + _variants_s(case, preset) for case in cases)


def _variants_s(case: Case, preset: str) -> float:
    """Predicted variants first; as many more as the case may have."""
    from cascadesim.validation.measured_calls import calls_of
    from cascadesim.validation.measured_claims import seconds_of as predicted_s

    known = [predicted_s(calls, preset) for calls in calls_of(case.suite, case.shape, case.work).values()]
    longest = sorted((found for found in known if found is not None), reverse=True)[: case.variants]
    rest = [UNKNOWN_S] * (case.variants - len(longest))
    return sum(COMPILE_S + timed_s(each, preset) for each in (*longest, *rest))


def timed_s(launch_s: float, preset: str) -> float:
    """Warm-up, rounds with cold and hot caches, and the graphs of short kernels."""
    from cascadesim.validation.gpu_model import device

    on = device(preset)
    flush_s = FLUSHES * on.l2_bytes / on.dram_ceiling_bytes_per_s
    count = ROUNDS * samples_of_round(launch_s * 1e6)
    graphs = FEWEST * ROUNDS * GRAPH_LAUNCHES if launch_s * 1e6 < SHORT_US else 0
    return WARM_UP_S + count * (2 * (launch_s + SAMPLE_S) + flush_s) + graphs * launch_s
