"""Whole prompts and single steps against sums of measured kernels, those of two libraries.

The sums are of one kernel after another, without the host: `simulate` with the library as engine. They count what the
engines launch: a norm with the sum before it, one product of queries, keys and values, attention with what its call
does besides (rotation, cache), the product after it, the sum over devices, and so on to the head.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import log

from cascadesim.accelerators import catalogue
from cascadesim.einsum_cascades.models.layers import Phase
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.simulator.request import Request
from cascadesim.simulator.simulate import reports
from cascadesim.validation.claim import Cell, Claim, PredictedFigures, Settings, Suite, Verdict, default_verdict
from cascadesim.validation.models.rows import DEVICES
from cascadesim.validation.table import Layout, Row, columns_of, count, positive

FILE = "models-kernel-sums.csv"
LIBRARIES = {"vllm": "vllm", "trtllm": "tensorrt-llm"}  # as columns begin -> engine
PHASES: tuple[Phase, ...] = ("prefill", "decode")
COLUMNS = {f"{library}_{phase}_ms": (engine, phase) for library, engine in LIBRARIES.items() for phase in PHASES}
LAYOUT = Layout(
    (*columns_of(str, "device model"), *columns_of(count, "count tp batch tokens"),
     *columns_of(positive, " ".join(COLUMNS))),
    key=("device", "count", "model", "tp", "batch", "tokens"),
)  # fmt: skip


def milliseconds(row: Row, settings: Settings = ()) -> PredictedFigures:
    """The four figures of a row."""
    where = DEVICES[row.text("device")], row.count("tp"), row.text("model"), row.count("batch"), row.count("tokens")
    return {column: _ms(*where, engine, phase, tuple(settings)) for column, (engine, phase) in COLUMNS.items()}


@lru_cache(maxsize=256)
def _ms(device: str, devices: int, model: str, batch: int, tokens: int, engine: str, phase: Phase,
        settings: tuple[str, ...]) -> float:  # fmt: skip
    machine = catalogue.load(device, (f"parallel.tensor={devices}", f"engine={engine}", *settings))
    (report,) = reports(Request(load_workload(model), machine, tokens, batch, phase, "model", "analytical"))
    return report.latency_s * 1e3


def judge(suite: Suite, claim: Claim, source: str, cells: Sequence[Cell]) -> Verdict:
    """Judge by the mean error, or by how far the median ratio is from 1 (`bias`, as a logarithm)."""
    found = default_verdict(suite, claim, source, cells)
    ratios = [cell.ratio for cell in cells if cell.ratio]
    figures = {"mean": found.errors.mean, "bias": abs(statistics.median(map(log, ratios))) if ratios else None}
    return replace(found, figures=figures)
