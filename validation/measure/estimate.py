"""How long a run of `measure` takes, before it runs: what the timer does with each variant, at the predicted times.

Times are those of `predictions.csv` for an H100, so that no model is needed where it is measured. Variants without a
prediction count as UNKNOWN_S. Stated once, so that the default run is held to its nine minutes by a test.
"""

from __future__ import annotations

from collections.abc import Iterable

from cascadesim.validation.kernels.predicted_times import committed
from cascadesim.validation.measure.cases import FLEX, FLEX_TILES, Case
from cascadesim.validation.measure.timing import (
    FEWEST,
    GRAPH_LAUNCHES,
    HIDE_US,
    ROUNDS,
    SHORT_US,
    WARM_UP_S,
    samples_of_round,
)

GPU = "NVIDIA H100 80GB HBM3"
UNKNOWN_S = 1e-3  # assumed: selecting, rates without a model, what torch compiles: up to some milliseconds
FLUSH_S = HIDE_US * 1e-6 + 70e-6  # derived: flushes of 2 x 50 MiB, written and read at 3 TB/s, until HIDE_US is over
SAMPLE_S = 40e-6  # assumed: two events and a wait for the second
PREPARE_S = 0.8  # assumed: inputs, and the driver's clocks before and after
COMPILE_S = 0.6  # kernels note, 2.1: 0.25 to 0.6 s a kernel for sm_90; most variants share one with another case
COMPILED_BY_TORCH_S = 15.0  # assumed: flex_attention through the compiler of torch, the first time
START_S = 30.0  # assumed: torch and a context, and this machine's static counts


def seconds_of(chosen: Iterable[Case]) -> float:
    each = [PREPARE_S + sum(_variant_s(case, name) for name in case.variants) for case in chosen]
    return START_S * bool(each) + sum(each)


def _variant_s(case: Case, variant: str) -> float:
    row = committed().get((GPU, case.suite, case.name, variant))
    launch_s = row.seconds if row is not None and row.seconds is not None else UNKNOWN_S
    compile_s = COMPILED_BY_TORCH_S if variant in (FLEX, FLEX_TILES) else COMPILE_S
    return compile_s + timed_s(launch_s)


def timed_s(launch_s: float) -> float:
    """Warm-up, rounds with cold and hot caches (hot: the call once more, ahead), and the graphs of short kernels."""
    count = ROUNDS * samples_of_round(launch_s * 1e6)
    many = FEWEST * ROUNDS * (2 * GRAPH_LAUNCHES * launch_s + FLUSH_S) if launch_s * 1e6 < SHORT_US else 0.0
    return WARM_UP_S + count * (3 * launch_s + 2 * (FLUSH_S + SAMPLE_S)) + many
