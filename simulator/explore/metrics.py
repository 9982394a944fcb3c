"""What designs are compared by: each quantity with its unit and the direction in which it is better.

A model gives a few quantities (latency, energy, ...), the rest follow from them. Knows no model and no space.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Quantities: TypeAlias = Mapping[str, Floats]


@dataclass(frozen=True)
class Metric:
    """`name` carries the unit; `meaning` is how a figure or a table says it."""

    name: str
    meaning: str
    larger_is_better: bool = False

    @property
    def sign(self) -> float:
        """Times which the figure becomes a cost."""
        return -1.0 if self.larger_is_better else 1.0


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("latency_s", "latency (s)"),
        Metric("energy_j", "energy (J)"),
        Metric("energy_delay_j_s", "energy-delay product (J s)"),
        Metric("power_w", "average power (W)"),
        Metric("area_um2", "area (um2)"),
        Metric("area_mm2", "area (mm2)"),
        Metric("dram_bytes", "DRAM traffic (bytes)"),
        Metric("tokens_per_s", "tokens per second", True),
        Metric("tokens_per_s_per_mm2", "tokens per second and mm2", True),
        Metric("tokens_per_j", "tokens per joule", True),
        Metric("kernel_s", "time of the kernel (s)"),
        Metric("permute_s", "time of the token permutation (s)"),
        Metric("speedup", "speedup over dense attention", True),
        Metric("worst_bound", "bound by the busiest tile", True),
        Metric("mean_bound", "bound by the mean tile", True),
        Metric("queries_per_window", "queries that share a window"),
        Metric("attended_pairs", "attended pairs", True),
    )
}
ALIASES: Mapping[str, str] = {
    "latency": "latency_s", "energy": "energy_j", "area": "area_um2", "energy_delay": "energy_delay_j_s",
    "power": "power_w",
}  # fmt: skip
# what follows from what a model gives: name -> (the quantities it needs, how)
_FOLLOWING: Mapping[str, tuple[str, ...]] = {
    "energy_delay_j_s": ("energy_j", "latency_s"),
    "power_w": ("energy_j", "latency_s"),
    "area_mm2": ("area_um2",),
    "tokens_per_s": ("tokens", "latency_s"),
    "tokens_per_s_per_mm2": ("tokens", "latency_s", "area_um2"),
    "tokens_per_j": ("tokens", "energy_j"),
}


def metric_of(name: str) -> Metric:
    """A metric, or a field of the space that is to be small."""
    return METRICS.get(name) or Metric(name, name)


def canonical(name: str) -> str:
    return ALIASES.get(name, name)


def available(given: tuple[str, ...]) -> tuple[str, ...]:
    """Names of all metrics that a model of these quantities has."""
    following = (name for name, needs in _FOLLOWING.items() if set(needs) <= set(given))
    return tuple(name for name in (*given, *following) if name in METRICS)


def with_following(given: Quantities, wanted: Collection[str] | None = None) -> dict[str, Floats]:
    """The quantities of a model and all that follow from them (or those that are wanted)."""
    found = dict(given)
    with np.errstate(divide="ignore", invalid="ignore"):
        for name in available(tuple(given)):
            if name not in found and (wanted is None or name in wanted):
                found[name] = _following(name, given)
    return found


def _following(name: str, given: Quantities) -> Floats:
    match name:
        case "energy_delay_j_s":
            return given["energy_j"] * given["latency_s"]
        case "power_w":
            return given["energy_j"] / given["latency_s"]
        case "area_mm2":
            return given["area_um2"] * 1e-6
        case "tokens_per_s":
            return given["tokens"] / given["latency_s"]
        case "tokens_per_j":
            return given["tokens"] / given["energy_j"]
    return given["tokens"] / given["latency_s"] / (given["area_um2"] * 1e-6)
