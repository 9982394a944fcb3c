"""Tables of the GPU suites: which files, which operations of them, the baselines beside each row, and its prediction.

A file's rows are predicted all at once and remembered; a row finds its own by its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache

from cascadesim.validation.claim import PredictedFigures, Settings
from cascadesim.validation.gpu.model import (
    neighbour_s,
    predicted_cycle_level_s,
    predicted_s,
    predicted_unseen_s,
    roofline_s,
)
from cascadesim.validation.gpu.rows import read_rows
from cascadesim.validation.gpu.work import Floats, Shapes, shapes_of
from cascadesim.validation.table import ParseTable, Row, RowGroup, Table, member, members, published_text

PUBLISHED = {
    "prefill": "gpu/attn_prefill_aic.csv", "decode": "gpu/attn_decode_aic.csv", "encoder": "gpu/attn_encoder_aic.csv",
    "gemm": "gpu/gemm_aic.csv", "mla": "gpu/mla_aic.csv", "vidur-attention": "gpu/vidur_attn_a100.csv",
    "vidur-linear": "gpu/vidur_linear.csv", "servingsim": "gpu/attn_rtx4090_llmservingsim.csv",
    "papers": "gpu/fa2_fa3_papers.csv", "fa1": "gpu/fa1_tables.csv", "llmcompass": "gpu/llmcompass.csv",
    "neusight": "gpu/neusight_ops.csv", "misc": "gpu/published_misc.csv",
}  # fmt: skip
NOT_OPERATORS = ("prefill", "decode", "encoder", "mla-context", "mla-generation", "gemm")
PredictShapes = Callable[[Shapes], Floats]  # seconds of every row, NaN where nothing is predicted


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
    table = read_rows(text, source, selection.layouts, selection.takes)
    if not table.rows:
        return table
    shapes = shapes_of(table.rows)
    rooflines, neighbours = roofline_s(shapes).tolist(), neighbour_s(shapes, own_shapes(selection)).tolist()
    rows = [replace(row, cells=(*row.cells, ("roofline_s", roofline),
                                ("neighbour_s", None if math.isnan(neighbour) else neighbour)))
            for row, roofline, neighbour in zip(table.rows, rooflines, neighbours, strict=True)]  # fmt: skip
    return replace(table, rows=members(rows))


@cache
def own_shapes(selection: RowSelection) -> Shapes:
    """Every row of the selection that ships with the project."""
    files = zip(selection.layouts, selection.files, strict=True)
    tables = [read_rows(published_text(path), path, (name,), selection.takes) for name, path in files]
    return shapes_of([row for table in tables for row in table.rows])


def predict(row: Row, settings: Settings = ()) -> PredictedFigures:
    """The time of one row; its whole file is predicted the first time."""
    return _own(row, _predicted(member(row).group, tuple(settings)))


def predict_unseen(row: Row, settings: Settings = ()) -> PredictedFigures:
    """The time of one row with constants that have not seen its device."""
    return _own(row, _predicted_otherwise(member(row).group, predicted_unseen_s))


def predict_cycles(row: Row, settings: Settings = ()) -> PredictedFigures:
    """The time of one row with its kernel at cycle level."""
    return _own(row, _predicted_otherwise(member(row).group, predicted_cycle_level_s))


def _own(row: Row, predicted: Floats) -> PredictedFigures:
    seconds = float(predicted[member(row).position])
    return {"latency_s": None if math.isnan(seconds) else seconds}


@lru_cache(maxsize=64)
def _predicted(group: RowGroup, settings: tuple[str, ...]) -> Floats:
    return predicted_s(shapes_of(group.rows), settings)


@lru_cache(maxsize=64)
def _predicted_otherwise(group: RowGroup, predict_shapes: PredictShapes) -> Floats:
    return predict_shapes(shapes_of(group.rows))
