"""How many of 90,720 small arrays with little buffer are simulated for their front at cycle level.

The figure is a count, the same on every machine: how near the bound of FuseMax is where tiles wait for each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cascadesim.simulator.explore.explore import explore
from cascadesim.simulator.explore.problem import Digits, Judged, SearchProblem

pytestmark = [pytest.mark.slow, pytest.mark.nightly]  # a minute and more of CPU

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

SIDES = [16, 32, 48, 64, 96, 128, 160, 192, 256]
SPACE: dict[str, Any] = {
    "question": "Which small arrays, little buffers and slow channels give the least latency for their silicon?",
    "architecture": "fusemax",
    "vary": {
        "pe_array.rows": SIDES,
        "pe_array.columns": SIDES,
        "query_tiles": {"range": [1, 10.5, 0.5]},
        "dram.bandwidth_bytes_per_s": {"log_range": [2.0e10, 2.0e12, 56]},
    },
    "derive": {
        "vector_array.lanes": "pe_array.columns",
        "global_buffer.row_bytes": "2 * pe_array.columns",
        "global_buffer.capacity_bytes": "2 * (query_tiles * pe_array.columns * 130 + pe_array.rows * 128)",
        # assumed: a channel costs area like all else, 50 um2 for each MB/s; without a price all channels that are fast
        # enough would be equally good
        "silicon_um2": "18500 * pe_array.rows * pe_array.columns + 42000 * pe_array.columns"
                       " + 5 * global_buffer.capacity_bytes + 5.0e-5 * dram.bandwidth_bytes_per_s",
    },
    "workloads": [{"workload": "bert", "scope": "attention", "sequence_length": "256K", "batch": 64}],
    "objectives": ["latency_s", "silicon_um2"],
    "search": {"fidelity": "cycle", "tolerance": 0.001},
}  # fmt: skip
BEFORE = 924  # simulated with the 1,450 lines of waiting model that `bound` replaced (commit 0b37cc5), in 75 rounds


def test_designs_simulated_for_a_front_of_small_buffers(
    benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds judge the same designs again: what the bound says of them is kept, so that simulations are most of it."""
    judged: dict[int, Judged] = {}
    simulated: list[int] = []

    def judge(problem: SearchProblem, digits: Digits) -> Judged:
        if len(digits) < problem.size:
            return plain(problem, digits)
        if not judged:
            judged[0] = plain(problem, digits)
        return judged[0]

    plain = SearchProblem.judge
    monkeypatch.setattr(SearchProblem, "judge", judge)
    frame = benchmark.pedantic(
        explore, (SPACE,), {"workers": 1, "watches": {"refining": lambda done, _: simulated.append(done)}}, rounds=1
    )
    benchmark.extra_info.update(designs=frame.counts.designs, simulated=simulated[-1], rounds=len(simulated),
                                on_front=len(frame), simulated_before=BEFORE)
    assert frame.counts.designs == 90_720
    assert np.all(frame["cycle_difference"] >= 0)
    assert simulated[-1] <= 2 * BEFORE
