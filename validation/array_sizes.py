"""FuseMax arrays of other sizes, as the publication's latency-against-area figure builds them.

The rule is the artifact's (pareto.csv): buffer and registers follow from the array side and the head size, and the
buffer doubles while the model is memory bound. FuseMax (MICRO 2024), figure 12.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.validation.claim import Prediction, Settings
from cascadesim.validation.columns import length
from cascadesim.validation.predictions import Point, report, totals
from cascadesim.validation.table import Row

if TYPE_CHECKING:
    from cascadesim.accelerators.fusemax.spec import FuseMaxSpec
    from cascadesim.simulator.report import Report

ARCHITECTURE = "fusemax"
SEQUENCE_LENGTH = length("256K")  # FuseMax, figure 12
WORD_BYTES = 2  # FuseMax artifact
LARGEST_DOUBLING = 2**10  # assumed: the artifact needs 2; beyond this the array would be all buffer


@dataclass(frozen=True)
class Size:
    """A `dim` x `dim` array whose buffer is `multiple` times the smallest."""

    dim: int
    head_dim: int
    multiple: int = 1

    @property
    def settings(self) -> tuple[str, ...]:
        tiles = 2 * max(1, self.dim // self.head_dim)  # FuseMax artifact: query tiles that registers are sized for
        values = {
            "pe_array.rows": self.dim,
            "pe_array.columns": self.dim,
            "pe_array.register_words_per_pe": 2 * tiles,
            "vector_array.lanes": self.dim,
            "vector_array.register_words_per_lane": 8 * tiles,
            "global_buffer.capacity_bytes": 16 * self.dim * self.head_dim * self.multiple,
            "global_buffer.row_bytes": self.dim * WORD_BYTES,
        }
        return tuple(f"{field}={value}" for field, value in values.items())


def pareto(row: Row, settings: Settings = ()) -> Prediction:
    """Doubles the buffer until compute bounds the run. Raises CascadeSimError if no buffer is large enough."""
    size = Size(row.count("pe_array_dim"), _head_dim(row.text("workload")))
    while size.multiple <= LARGEST_DOUBLING:
        point = Point(ARCHITECTURE, row.text("workload"), SEQUENCE_LENGTH, settings=(*size.settings, *settings))
        found = _figures(point)
        if found["memory_latency_s"] <= found["compute_1d_latency_s"]:
            return found
        size = replace(size, multiple=2 * size.multiple)
    raise CascadeSimError(f"pe_array_dim {size.dim}: memory bound with any buffer")


def _figures(point: Point) -> dict[str, float]:
    spec, found = _spec(point), report(point)
    area_um2 = found.area_um2 or {}
    return {
        "traffic_bytes": found.traffic.total_bytes,
        "memory_latency_s": found.traffic.total_bytes / spec.dram.bandwidth_bytes_per_s,
        "compute_2d_latency_s": _busy_s(found, "array_2d"),
        "compute_1d_latency_s": _busy_s(found, "array_1d"),
        "latency_s": totals(found)["latency_s"] or 0.0,
        "array_2d_area_um2": area_um2.get("array_2d", 0.0),
        "area_um2": sum(area_um2.values()),
    }


def _busy_s(found: Report, unit: str) -> float:
    return sum(each.busy_cycles for each in found.units if each.name == unit) / found.clock_hz


def _spec(point: Point) -> FuseMaxSpec:
    from cascadesim.accelerators.catalogue import load
    from cascadesim.accelerators.fusemax.accelerator import FuseMax

    accelerator = load(point.architecture, point.settings)
    if not isinstance(accelerator, FuseMax):
        raise CascadeSimError(f"{point.architecture} is no FuseMax design")
    return accelerator.spec


def _head_dim(workload: str) -> int:
    from cascadesim.einsum_cascades.zoo import load_workload

    (attention,) = load_workload(workload).operations(scope="attention")
    return attention.extent("e")
