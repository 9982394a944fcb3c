"""Which rows of the public GPU files a suite reads, with the baselines of each, and how a whole file is predicted.

A file's rows are predicted all at once and remembered; a row finds its own by its place. A fifth of all shapes
calibrates the model and is never scored (`layouts.split_of`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from cascadesim.validation import table
from cascadesim.validation.claim import Predict, PredictedFigures, Settings, together
from cascadesim.validation.gpu import model
from cascadesim.validation.gpu.layouts import Floats, Shapes, shapes_of
from cascadesim.validation.gpu.rows import read_rows
from cascadesim.validation.table import ParseTable, Row, Table

PUBLISHED = {
    "prefill": "gpu/attn_prefill_aic.csv", "decode": "gpu/attn_decode_aic.csv", "encoder": "gpu/attn_encoder_aic.csv",
    "gemm": "gpu/gemm_aic.csv", "mla": "gpu/mla_aic.csv", "vidur-attention": "gpu/vidur_attn_a100.csv",
    "vidur-linear": "gpu/vidur_linear.csv", "servingsim": "gpu/attn_rtx4090_llmservingsim.csv",
    "papers": "gpu/fa2_fa3_papers.csv", "fa1": "gpu/fa1_tables.csv", "llmcompass": "gpu/llmcompass.csv",
    "neusight": "gpu/neusight_ops.csv", "misc": "gpu/published_misc.csv",
}  # fmt: skip
NOT_OPERATORS = ("prefill", "decode", "encoder", "mla-context", "mla-generation", "gemm")
# of every row, NaN where nothing is predicted; settings change the device
PredictShapes = Callable[[Shapes, tuple[str, ...]], Floats]


@dataclass(frozen=True)
class RowSelection:
    """The layouts that a suite reads, our own files of them, and the operations that it takes from their rows."""

    layouts: tuple[str, ...]
    operations: tuple[str, ...] = ()  # none: every operator that has no suite of its own

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(PUBLISHED[name] for name in self.layouts)

    def takes(self, operation: str) -> bool:
        return operation in self.operations if self.operations else operation not in NOT_OPERATORS


def parser(selection: RowSelection) -> ParseTable:
    """Text of a file -> rows of the suite, each with its baselines."""
    return lambda text, layout, source: _parsed(selection, text, source)


@lru_cache(maxsize=64)
def _parsed(selection: RowSelection, text: str, source: str) -> Table:
    found = read_rows(text, source, selection.layouts, selection.takes)
    if not found.rows:
        return found
    shapes = shapes_of(found.rows)
    baselines = model.roofline_s(shapes).tolist(), model.neighbour_s(shapes, own_shapes(selection)).tolist()
    rows = [table.with_cells(row, roofline_s=roofline, neighbour_s=None if math.isnan(neighbour) else neighbour)
            for row, roofline, neighbour in zip(found.rows, *baselines, strict=True)]  # fmt: skip
    return replace(found, rows=table.members(rows))


@cache
def own_shapes(selection: RowSelection) -> Shapes:
    """Every row of the selection that ships with the project."""
    files = zip(selection.layouts, selection.files, strict=True)
    tables = [read_rows(table.published_text(path), path, (name,), selection.takes) for name, path in files]
    return shapes_of(table.joined(tables).rows)


def predictor(seconds_of: PredictShapes = model.predicted_s) -> Predict:
    """The time of one row as `seconds_of` has it; the row's whole file is predicted the first time."""

    def figures_of(rows: Sequence[Row], settings: Settings) -> Sequence[PredictedFigures]:
        found = seconds_of(shapes_of(rows), tuple(settings)).tolist()
        return [{LATENCY: None if math.isnan(seconds) else seconds} for seconds in found]

    return together(figures_of)


LATENCY = "latency_s"

PREFILL = RowSelection(("prefill", "vidur-attention", "servingsim"), ("prefill",))
DECODE = RowSelection(("decode", "vidur-attention", "servingsim"), ("decode",))
ENCODER = RowSelection(("encoder", "papers"), ("encoder",))
MLA = RowSelection(("mla",), ("mla-context", "mla-generation"))
GEMM = RowSelection(("gemm", "vidur-linear"), ("gemm",))
PAPERS = RowSelection(("papers", "fa1", "misc"), ("encoder", "prefill"))
OPS = RowSelection(("neusight", "llmcompass", "vidur-linear"))
CALIBRATED = RowSelection(
    ("encoder", "prefill", "decode", "mla", "gemm", "vidur-attention", "servingsim", "vidur-linear"),
    ("encoder", "prefill", "decode", "mla-context", "mla-generation", "gemm"),
)  # what calibrates, all of it in one table
CYCLES = RowSelection(("encoder", "decode"), ("encoder", "decode"))
