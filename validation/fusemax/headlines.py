"""Headline figures: means of ratios between configurations over 4 models x 6 lengths, as the model gives them.

FuseMax (MICRO 2024), figures 6 to 11: each point is normalised to the baseline at the same model and length, and the
abstract quotes arithmetic means of such ratios. End to end is attention plus the linear layers of one layer.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product

from cascadesim.validation.claim import Prediction, Settings
from cascadesim.validation.columns import length
from cascadesim.validation.fusemax.layouts import WORKLOADS
from cascadesim.validation.fusemax.predictions import Point, report, totals, utilizations
from cascadesim.validation.table import Row

LENGTHS = tuple(length(text) for text in ("1K", "4K", "16K", "64K", "256K", "1M"))  # FuseMax, figures 6 to 11
STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "arithmetic_mean": statistics.fmean,
    "geometric_mean": lambda values: math.exp(statistics.fmean(map(math.log, values))),
    "minimum": min,
    "maximum": max,
}


def headline(row: Row, settings: Settings = ()) -> Prediction:
    """`settings` change the architecture of the row, not the baseline."""
    values = [_value(row, workload, size, tuple(settings)) for workload, size in product(WORKLOADS, LENGTHS)]
    return {"value": STATISTICS[row.text("statistic")](values)}


def _value(row: Row, workload: str, sequence_length: int, settings: tuple[str, ...]) -> float:
    quantity, subject = row.text("quantity"), Point(row.text("architecture"), workload, sequence_length,
                                                    settings=settings)  # fmt: skip
    if quantity.startswith("utilization"):
        return _known(utilizations(report(subject))[quantity])
    baseline = Point(row.text("baseline"), workload, sequence_length)
    end_to_end = quantity.startswith("end_to_end")
    if quantity.endswith("speedup"):
        return _figure("latency_s", baseline, end_to_end) / _figure("latency_s", subject, end_to_end)
    return _figure("energy_pj", subject, end_to_end) / _figure("energy_pj", baseline, end_to_end)


def _figure(column: str, point: Point, end_to_end: bool) -> float:
    attention = _known(totals(report(point))[column])
    if not end_to_end:
        return attention
    return attention + _known(totals(report(replace(point, scope="linear")))[column])


def _known(value: float | None) -> float:
    return math.nan if value is None else value
