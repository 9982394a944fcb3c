"""Tables of the GPU suites: which files, which operations of them, the baselines beside each row, and its prediction.

A file's rows are predicted all at once and remembered; a row finds its own by its place. Imports arrays only when used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from cascadesim.validation.claim import Claim, Prediction, Settings, Suite
from cascadesim.validation.columns import Layout, Value
from cascadesim.validation.gpu.rows import read_rows
from cascadesim.validation.grouped import Group, member, members
from cascadesim.validation.table import Row, Table

if TYPE_CHECKING:
    from cascadesim.validation.compare import Cell, Verdict
    from cascadesim.validation.gpu.work import Floats, Shapes

PUBLISHED = {
    "prefill": "gpu/attn_prefill_aic.csv", "decode": "gpu/attn_decode_aic.csv", "encoder": "gpu/attn_encoder_aic.csv",
    "gemm": "gpu/gemm_aic.csv", "mla": "gpu/mla_aic.csv", "vidur-attention": "gpu/vidur_attn_a100.csv",
    "vidur-linear": "gpu/vidur_linear.csv", "servingsim": "gpu/attn_rtx4090_llmservingsim.csv",
    "papers": "gpu/fa2_fa3_papers.csv", "fa1": "gpu/fa1_tables.csv", "llmcompass": "gpu/llmcompass.csv",
    "neusight": "gpu/neusight_ops.csv", "misc": "gpu/published_misc.csv",
}  # fmt: skip
NOT_OPERATORS = ("prefill", "decode", "encoder", "mla-context", "mla-generation", "gemm")


@dataclass(frozen=True)
class Scope:
    """The layouts that a suite reads, our own files of them, and the operations that it takes from their rows."""

    layouts: tuple[str, ...]
    operations: tuple[str, ...] = ()  # none: every operator that has no suite of its own
    dtypes: tuple[str, ...] = ()  # none: all

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(PUBLISHED[name] for name in self.layouts)

    def takes(self, operation: str) -> bool:
        return operation in self.operations if self.operations else operation not in NOT_OPERATORS


def parser(scope: Scope) -> Callable[[str, Layout, str], Table]:
    """Text of a file -> rows of the suite, each with its baselines."""

    def parse(text: str, layout: Layout, source: str) -> Table:
        return _parsed(scope, text, source)

    return parse


@lru_cache(maxsize=64)
def _parsed(scope: Scope, text: str, source: str) -> Table:
    from cascadesim.validation.gpu.baselines import neighbour_s, roofline_s
    from cascadesim.validation.gpu.work import shapes_of

    table = read_rows(text, source, scope.layouts, scope.takes)
    if not table.rows:
        return table
    shapes = shapes_of(table.rows)
    rooflines, neighbours = roofline_s(shapes), neighbour_s(shapes, own_shapes(scope))
    rows = [replace(row, cells=(*row.cells, ("roofline_s", float(roofline)), ("neighbour_s", _known(neighbour))))
            for row, roofline, neighbour in zip(table.rows, rooflines, neighbours, strict=True)]  # fmt: skip
    return replace(table, rows=members(rows))


def _known(value: float) -> Value:
    return None if math.isnan(value) else float(value)


@cache
def own_shapes(scope: Scope) -> Shapes:
    """Every row of the scope that ships with the project."""
    from cascadesim.validation.gpu.work import shapes_of

    return shapes_of(own_rows(scope))


@cache
def own_rows(scope: Scope) -> tuple[Row, ...]:
    from importlib import resources

    folder = resources.files("cascadesim.validation").joinpath("published")
    found: list[Row] = []
    for name, path in zip(scope.layouts, scope.files, strict=True):
        text = folder.joinpath(path).read_text(encoding="utf-8")
        found += read_rows(text, path, (name,), scope.takes).rows
    return tuple(found)


def predict(row: Row, settings: Settings = ()) -> Prediction:
    """The time of one row; its whole file is predicted the first time."""
    one = member(row)
    predicted = float(_predicted(one.group, tuple(settings))[one.position])
    return {"latency_s": None if math.isnan(predicted) else predicted}


def predict_unseen(row: Row, settings: Settings = ()) -> Prediction:
    """The time of one row with constants that have not seen its device."""
    one = member(row)
    predicted = float(_predicted_unseen(one.group)[one.position])
    return {"latency_s": None if math.isnan(predicted) else predicted}


def predict_cycles(row: Row, settings: Settings = ()) -> Prediction:
    """The time of one row with its kernel at cycle level."""
    one = member(row)
    predicted = float(_predicted_cycles(one.group)[one.position])
    return {"latency_s": None if math.isnan(predicted) else predicted}


@lru_cache(maxsize=64)
def _predicted_cycles(group: Group) -> Floats:
    from cascadesim.validation.gpu.cycles import predicted_cycle_level_s
    from cascadesim.validation.gpu.work import shapes_of

    return predicted_cycle_level_s(shapes_of(group.rows))


@lru_cache(maxsize=64)
def _predicted_unseen(group: Group) -> Floats:
    from cascadesim.validation.gpu.left_out import predicted_unseen_s
    from cascadesim.validation.gpu.work import shapes_of

    return predicted_unseen_s(shapes_of(group.rows))


@lru_cache(maxsize=64)
def _predicted(group: Group, settings: tuple[str, ...]) -> Floats:
    from cascadesim.validation.gpu.model import predicted_s
    from cascadesim.validation.gpu.work import shapes_of

    return predicted_s(shapes_of(group.rows), settings)


def judge(suite: Suite, claim: Claim, source: str, cells: Sequence[Cell]) -> Verdict:
    """With equal weight per stratum, and against the baselines."""
    from cascadesim.validation.gpu.verdict import judge as judged

    return judged(suite, claim, source, cells)
