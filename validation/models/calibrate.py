"""`python -m cascadesim.validation.models.calibrate`: finds how long a device waits for its host between two steps.

From runs in which requests come and go that are set aside (`rows.CALIBRATION`). Which tokens a step has does not depend
on how long it takes, so that each later token takes the device's time and this one, once. The sum of absolute errors of
logarithms is least; intervals leave out one run at a time. Deterministic.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from cascadesim.accelerators.gpu.calibration import HOST_TIMES_FILE, host_step_s, host_times
from cascadesim.accelerators.gpu.engines.engine import find_engine
from cascadesim.validation.models.predictions import asked_by, generated
from cascadesim.validation.models.rows import CALIBRATION
from cascadesim.validation.suites import find_suites, own_data

MOST_S = 0.01  # assumed: no host takes longer between two steps
HEADER = """\
# Written by `python -m cascadesim.validation.models.calibrate` from a quarter of the runs in which requests come and
# go, by a hash; do not edit. Seconds that a device waits between two steps of a model, by how the engine's host
# prepares them (engines.yaml). low and high: 95 % interval, jackknife over runs.
"""


def tokens() -> Mapping[str, Sequence[tuple[float, float]]]:
    """Kind of host -> of each run that is set aside: seconds of a later token on the device alone, and as measured."""
    (suite,) = find_suites(["models"])
    found: dict[str, list[tuple[float, float]]] = {host: [] for host in host_times()}
    for row in own_data(suite).rows:
        if row.text("split") == CALIBRATION and row.text("metric") == "tpot_s":
            predicted = generated(asked_by(row, ())).tpot_s
            assert predicted is not None
            host = str(find_engine(row.text("engine")).host)
            found[host].append((predicted - host_step_s(host), float(row.number("value") or 0)))
    return found


def fitted(runs: Sequence[tuple[float, float]]) -> float:
    """Seconds that bring the runs nearest to what was measured."""
    device, measured = np.array(runs).T

    def error(host_s: float) -> float:
        return float(np.abs(np.log((device + host_s) / measured)).sum())

    return float(minimize_scalar(error, bounds=(0, MOST_S), method="bounded", options={"xatol": 1e-7}).x)


def text(found: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """The file: kind of host -> value, interval, runs."""
    lines = [HEADER.rstrip("\n")]
    for host, runs in found.items():
        value, count = fitted(runs), len(runs)
        others = [fitted([*runs[:place], *runs[place + 1 :]]) for place in range(count)] if count > 1 else [value]
        half = 1.96 * math.sqrt((count - 1) / count * sum((each - float(np.mean(others))) ** 2 for each in others))
        lines.append(f"{host}: {{value: {value:.3e}, low: {max(value - half, 0):.3e}, high: {value + half:.3e}, "
                     f"rows: {count}}}")
    return "\n".join(lines) + "\n"


def main() -> int:
    HOST_TIMES_FILE.write_text(text(tokens()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
