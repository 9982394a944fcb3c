"""`python -m cascadesim.validation.models.calibrate`: finds what steps and starts take besides their kernels.

Gaps between graphs, kernels that route and sample, what the device waits for its host: no kernel's time tells. From
runs that are set aside (`rows.CALIBRATION`): later tokens of requests that come and go, first tokens of batches that a
session sets up. Which tokens a step has does not depend on how long it takes, so that each later token takes the time
of the kernels and this one, once, and so does each start. The sum of absolute errors of logarithms is least; intervals
leave out one run at a time. Deterministic.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from cascadesim.accelerators.gpu.calibration import STEP_OVERHEADS_FILE, overhead_s, step_overheads
from cascadesim.accelerators.gpu.engines.engine import find_engine
from cascadesim.validation.gpu.calibrate import jackknife
from cascadesim.validation.models.predictions import asked_by, generated
from cascadesim.validation.models.rows import CALIBRATION, FIRST_TOKEN, LATER_TOKEN
from cascadesim.validation.suites import find_suites, own_data

MOST_S = 0.01  # assumed: as long as a step of a small model
HEADER = """\
# Written by `python -m cascadesim.validation.models.calibrate` from a quarter of the runs in which requests come and
# go, by a hash; do not edit. Seconds that a step of new tokens takes besides the kernels of the model, by whether it is
# one whole CUDA graph or one for each piece (engines.yaml); session: that a batch takes once which a session sets up,
# from a quarter of their first tokens. low and high: 95 % interval, jackknife over runs.
"""


def tokens() -> Mapping[str, Sequence[tuple[float, float]]]:
    """Kind of step or start -> of each run that is set aside: seconds of a token by its kernels, and as measured."""
    (suite,) = find_suites(["models"])
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in step_overheads()}
    for row in own_data(suite).rows:
        if row.text("split") == CALIBRATION and row.text("metric") in (FIRST_TOKEN, LATER_TOKEN):
            run, engine = generated(asked_by(row, ())), find_engine(row.text("engine"))
            first = row.text("metric") == FIRST_TOKEN
            predicted, kind = (run.ttft_s, engine.starts) if first else (run.tpot_s, engine.steps)
            assert predicted is not None
            assert kind is not None
            found[kind].append((predicted - overhead_s(kind), float(row.number("value") or 0)))
    return found


def fitted(runs: Sequence[tuple[float, float]]) -> float:
    """Seconds that bring the runs nearest to what was measured."""
    kernels, measured = np.array(runs).T

    def error(besides_s: float) -> float:
        return float(np.abs(np.log((kernels + besides_s) / measured)).sum())

    return float(minimize_scalar(error, bounds=(0, MOST_S), method="bounded", options={"xatol": 1e-7}).x)


def _without_one(runs: Sequence[tuple[float, float]], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.array([fitted([run for run, keep in zip(runs, kept.tolist(), strict=True) if keep])])


def text(found: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """The file: kind of step -> value, interval, runs."""
    lines = [HEADER.rstrip("\n")]
    for kind, runs in found.items():
        value = fitted(runs)
        (half,) = jackknife(partial(_without_one, runs), np.arange(len(runs)), np.array([value])).tolist()
        lines.append(f"{kind}: {{value: {value:.3e}, low: {max(value - half, 0):.3e}, high: {value + half:.3e}, "
                     f"rows: {len(runs)}}}")
    return "\n".join(lines) + "\n"


def main() -> int:
    STEP_OVERHEADS_FILE.write_text(text(tokens()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
