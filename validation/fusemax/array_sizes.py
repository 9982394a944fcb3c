"""FuseMax arrays of other sizes against the publication's latency-area front: FuseMax (MICRO 2024), figure 12.

How an array of a given side is built is the accelerator's knowledge (`accelerators.fusemax.pareto`); here is only
what the published table says of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.validation.claim import Prediction, Settings
from cascadesim.validation.columns import length
from cascadesim.validation.fusemax.predictions import BATCH, machine, model, only_report, totals
from cascadesim.validation.table import Row

if TYPE_CHECKING:
    from cascadesim.accelerators.fusemax.accelerator import FuseMax
    from cascadesim.simulator.report import Report

ARCHITECTURE = "fusemax"
SEQUENCE_LENGTH = length("256K")  # FuseMax, figure 12


def pareto(row: Row, settings: Settings = ()) -> Prediction:
    """Raises CascadeSimError if no buffer keeps DRAM from being the bound."""
    accelerator = _square(row.text("workload"), row.count("pe_array_dim"), settings)
    found = only_report(row.text("workload"), accelerator, SEQUENCE_LENGTH)
    area_um2 = found.area_um2 or {}
    return {
        "traffic_bytes": found.traffic.total_bytes,
        "memory_latency_s": found.traffic.total_bytes / accelerator.spec.dram.bandwidth_bytes_per_s,
        "compute_2d_latency_s": _busy_s(found, "array_2d"),
        "compute_1d_latency_s": _busy_s(found, "array_1d"),
        "latency_s": totals(found)["latency_s"],
        "array_2d_area_um2": area_um2.get("array_2d"),
        "area_um2": found.total_area_um2,
    }


def _square(workload: str, side: int, settings: Settings) -> FuseMax:
    from cascadesim.accelerators.fusemax.accelerator import FuseMax
    from cascadesim.accelerators.fusemax.exploration import square_spec

    accelerator = machine(ARCHITECTURE, tuple(settings))
    if not isinstance(accelerator, FuseMax):
        raise CascadeSimError(f"{ARCHITECTURE} is no FuseMax design")
    (operation,) = model(workload).operations(sequence_length=SEQUENCE_LENGTH, batch=BATCH, scope="attention",
                                              attention=accelerator.attention)  # fmt: skip
    return FuseMax(f"{side} x {side}", square_spec(accelerator.spec, side, operation))


def _busy_s(found: Report, unit: str) -> float | None:
    time = found.unit(unit)
    return None if time is None else time.busy_cycles / found.clock_hz
