"""The roofline of a machine and the operations of a run on it (Williams, Waterman and Patterson, CACM 2009).

An operation is a point: what it computes for each byte of DRAM, and how fast it was. Above it is the lower of what DRAM
delivers at that intensity and what the units that it runs on compute at most. A multiply-accumulate counts as two
operations; where an operation of the model has none, all that it does counts, each as one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite

from cascadesim.accelerators.protocol import Accelerator
from cascadesim.simulator.execution import OperationRun

MAC = "mac"
FLOP_PER_MAC = 2


@dataclass(frozen=True)
class RooflinePoint:
    """All repetitions of one operation together; `peak` of its `units`, None where the machine states none."""

    name: str
    kernel: str
    units: tuple[str, ...]
    operations: float
    dram_bytes: float
    seconds: float
    peak: float | None

    def roof(self, dram_bytes_per_s: float) -> float | None:
        """Operations/s that the machine allows at most at this point's intensity; None where nothing limits it."""
        by_dram = dram_bytes_per_s * self.operations / self.dram_bytes if self.dram_bytes else None
        return min((limit for limit in (by_dram, self.peak) if limit is not None), default=None)


def points(runs: Sequence[OperationRun], machine: Accelerator) -> Iterator[RooflinePoint]:
    """Every operation of a run that computes something."""
    for run in runs:
        plan = run.execution.plan
        by_unit: Counter[str] = Counter()
        macs = any(MAC in activity.operations for phase in plan.phases for activity in phase.activities)
        for activity in (activity for phase in plan.phases for activity in phase.activities):
            counted = activity.operations.get(MAC, 0) if macs else sum(activity.operations.values())
            by_unit[activity.unit] += run.count * counted * (FLOP_PER_MAC if macs else 1)
        units = tuple(unit for unit, amount in by_unit.items() if amount)
        if units and run.cycles:
            each = FLOP_PER_MAC if macs else 1
            peak = sum(each * unit.lanes * unit.operations_per_cycle for unit in machine.units if unit.name in units)
            yield RooflinePoint(
                run.operation.name, plan.kernel, units, sum(by_unit.values()), run.traffic.total_bytes,
                run.exact_cycles / machine.clock_hz, peak * machine.clock_hz if isfinite(peak) and peak else None,
            )  # fmt: skip


def operations_per_s(runs: Sequence[OperationRun], latency_s: float) -> float | None:
    """Operations/s of products over the whole run, two for each multiply-accumulate; None without any."""
    macs = sum(run.count * activity.operations.get(MAC, 0) for run in runs
               for phase in run.execution.plan.phases for activity in phase.activities)  # fmt: skip
    return FLOP_PER_MAC * macs / latency_s if macs else None
