"""What a report on a GPU may say of its own error: the median over the scored calls of that device, stratum by stratum.

Devices that nothing was measured on stay without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cascadesim.validation.claims_gpu import LATENCY, SCORED
from cascadesim.validation.cli import verdicts_of
from cascadesim.validation.compare import Cell
from cascadesim.validation.gpu_errors import equal_weights, weighted_median
from cascadesim.validation.gpu_layouts import POOLED

SUITES = ("gpu-prefill", "gpu-decode", "gpu-encoder", "gpu-mla", "gpu-gemm")
BASIS = "validation suites gpu-*, attention and products of {device}, median of {rows:,} published calls"


def of_gpus(digits: int) -> Mapping[str, Mapping[str, object]]:
    """Device -> its latency error and what that rests on."""
    by_device: dict[str, list[Cell]] = {}
    for verdict in verdicts_of(SUITES):
        if verdict.claim.gate == POOLED and verdict.claim.where == SCORED and verdict.claim.metric == LATENCY:
            for cell in verdict.cells:
                by_device.setdefault(str(cell.row.get("device")), []).append(cell)
    return {device: _entry(device, cells, digits) for device, cells in sorted(by_device.items())}


def _entry(device: str, cells: Sequence[Cell], digits: int) -> Mapping[str, object]:
    errors = np.array([cell.error("deviation") for cell in cells])
    median = weighted_median(errors, equal_weights([str(cell.row.get("stratum")) for cell in cells]))
    return {"latency": float(f"{median:.{digits}g}"), "basis": BASIS.format(device=device, rows=len(cells))}
