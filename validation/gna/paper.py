"""Published figures of neighborhood attention, and the paper's analytical ones from our counts.

Reads a long table (ours or a user's: a configuration, a metric, a value, how certain), hands each row to a suite, and
keeps the rows that the suite can judge; the others are counted by reason. Analytical figures are those of GNA (arXiv
2504.16922), tables 1-5: bounds by FLOPs and by tiles, end to end, sparsity, stride lists. The bound is rounded to one
decimal before Amdahl's law, with the shares of table 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import prod
from typing import TypeAlias

from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.einsum_cascades.sparsity.masks import Neighborhood, neighborhood
from cascadesim.simulator.gna.neighborhood import Question, end_to_end
from cascadesim.simulator.gna.neighborhood import question as asked_on
from cascadesim.simulator.gna.recommend import stride_frontier
from cascadesim.validation import table
from cascadesim.validation.claim import PredictedFigures, Settings
from cascadesim.validation.table import CannotJudge, Layout, Row, Table, Value

COLUMNS = ("source", "use_case", "gpu", "dtype", "token_layout", "window", "stride", "dilation", "causal", "q_tile",
           "kv_tile", "metric", "unit", "certainty")  # fmt: skip
REQUIRED = ("token_layout", "window", "metric", "certainty", "value")
TEXT = tuple(table.Column(name, str, required=False) for name in COLUMNS)
RAW = Layout((*TEXT, table.Column("value", str, required=False)), key=(*COLUMNS, "value"))
NEVER_JUDGED = ("config-unclear", "uncertain-definition", "lower-bound")  # how a certainty begins
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
FULL_AXIS = 24  # assumed: stands for 'T', a dimension seen whole, which cancels out of every ratio

# Share of self-attention in the end-to-end time: of the DiT x DiT's of the run (GNA, table 1)
ATTENTION_SHARE = {"Cosmos-7B": 0.587, "HunyuanVideo": 0.654 * 0.928, "FLUX.1-dev 4K": 0.568 * 0.912}
_STEPS = re.compile(r"dense-attention steps (\d+)/(\d+)|(\d+)/(\d+) dense steps")

KINDS = {  # metric -> what is claimed
    "end-to-end speedup, simulator bound": "end-to-end, tiles",
    "end-to-end speedup, FLOP-wise bound": "end-to-end, FLOPs",
    "attention speedup, simulator bound": "attention",
    "attention speedup, FLOP-wise bound": "attention",
    "sparsity": "sparsity",
    "sparse-attention share of end-to-end after keeping dense steps": "share",
    "recommended stride, simulator bound": "stride",
    "recommended strides": "strides",
    "coarsest recommended stride": "coarsest stride",
    "block-sparse": "block-sparse",
}
TWICE_ROUNDED, BLOCKED = "printed bound rounded twice", "printed for another bound"
EXCEPTIONS = {  # (layout, window, stride): printed end-to-end figures that our counts do not give, reported only
    ("16x44x80", "16x32x48", "1x1x1"): TWICE_ROUNDED,
    ("30x48x80", "18x24x24", "18x24x24"): BLOCKED,
}
LAYOUT = Layout((*TEXT, *table.columns_of(table.not_negative, "value"), *table.columns_of(str, "kind", required=False)),
                RAW.key)  # fmt: skip
ReadCells: TypeAlias = Callable[[Row], Mapping[str, Value]]  # raises CannotJudge; ValueError for a cell that is wrong


def parse_published(text: str, source: str, read: ReadCells) -> Table:
    """The rows that `read` can judge, with the cells it adds, and how many it cannot for which reason.

    Raises SpecError with every wrong row, or if no row is left.
    """
    raw = raw_table(text, source)

    def read_row(row: Row) -> Row:
        certainty = cell(row, "certainty")
        if never := next((begin for begin in NEVER_JUDGED if certainty.startswith(begin)), None):
            raise CannotJudge(never)
        kept = {name: value for name, value in row.cells if name != "value"}
        return Row(tuple({**kept, **read(row)}.items()), row.source, row.line)

    rows, why = table.judgeable(raw.rows, read_row)
    left_out = tuple(why.most_common())
    if not rows:
        reasons = "; ".join(f"{count} because {reason}" for reason, count in left_out)
        raise SpecError(f"{source}: no row that can be judged: {reasons}")
    return Table(tuple(rows), raw.comments, raw.unread_columns, left_out)


def raw_table(text: str, source: str) -> Table:
    """All rows, as text. Raises SpecError where a column is missing."""
    header = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    names = [name.strip().lower() for name in header.split(",")]
    if missing := [name for name in REQUIRED if name not in names]:
        raise SpecError(f"{source}: no column '{missing[0]}'; expected the columns {', '.join((*COLUMNS, 'value'))}")
    return table.parse_table(text, RAW, source)


def cell(row: Row, name: str) -> str:
    """Its text; empty where the file says nothing."""
    value = row.get(name)
    return value if isinstance(value, str) else ""


def figure(row: Row) -> float:
    """Raises ValueError unless the value is a finite number above 0."""
    text = cell(row, "value")
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"column 'value': expected a number, got '{text}'") from None
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"column 'value': expected a finite number above 0, got '{text}'")
    return value


def seconds(row: Row) -> float:
    unit = cell(row, "unit")
    if unit not in SECONDS:
        raise ValueError(f"column 'unit': expected {', '.join(SECONDS)}, got '{unit}'")
    return figure(row) * SECONDS[unit]


def sizes(row: Row, name: str) -> tuple[int, ...]:
    """`30x48x80`; T is a dimension seen whole."""
    text = cell(row, name)
    parts = [str(FULL_AXIS) if part == "T" else part for part in text.split("x")]
    if not all(part.isascii() and part.isdigit() and len(part) < 12 for part in parts):
        raise ValueError(f"column '{name}': expected sizes such as 30x48x80, got '{text}'")
    return tuple(map(int, parts))


def pattern(row: Row) -> Neighborhood:
    """Stride, dilation 1 and no causality where the row leaves them out. Raises CascadeSimError on sizes that clash."""
    if not cell(row, "token_layout") or not cell(row, "window"):
        raise CannotJudge("it states no layout or no window")
    layout = sizes(row, "token_layout")
    stride, dilation = (sizes(row, name) if cell(row, name) else None for name in ("stride", "dilation"))
    return neighborhood(layout, sizes(row, "window"), stride, dilation, _causal(cell(row, "causal"), len(layout)))


def _causal(text: str, dimensions: int) -> Sequence[bool]:
    """`none`, `time` (the first dimension), `all`, or a 0 or 1 for each dimension."""
    if text in ("", "none", "no", "false", "False"):
        return (False,) * dimensions
    if text in ("all", "true", "True"):
        return (True,) * dimensions
    if text in ("time", "temporal"):
        return (True, *(False,) * (dimensions - 1))
    flags = text.replace("x", ",").split(",")
    if len(flags) == dimensions and set(flags) <= {"0", "1"}:
        return tuple(flag == "1" for flag in flags)
    raise ValueError(f"column 'causal': expected none, time, all or a flag for each dimension, got '{text}'")


def question(row: Row) -> Question:
    """The pattern on the tiles that the row states."""
    if not cell(row, "q_tile") or not cell(row, "kv_tile"):
        raise CannotJudge("it names no tile shape")
    return asked_on(pattern(row), sizes(row, "q_tile"), sizes(row, "kv_tile"))


def attention_share(row: Row) -> float:
    """The share of attention in the model that the use case begins with."""
    for name, share in ATTENTION_SHARE.items():
        if cell(row, "use_case").startswith(name):
            return share
    raise CannotJudge("no share of attention was published for its use case")


def sparse_steps(row: Row) -> tuple[int, int]:
    """(steps with the pattern, all steps)."""
    found = _STEPS.search(cell(row, "use_case"))
    if found is None:
        raise CannotJudge("it does not say how many steps stay dense")
    dense, steps = (int(group) for group in found.groups() if group is not None)
    if not dense <= steps or not steps:
        raise ValueError(f"column 'use_case': {dense} of {steps} steps cannot be dense")
    return steps - dense, steps


def end_to_end_speedup(row: Row, speedup: float) -> float:
    """The speedup of the whole run, by Amdahl's law, where attention gains `speedup`."""
    return end_to_end(speedup, attention_share(row), *sparse_steps(row))


def parse_paper(text: str, layout: Layout, source: str) -> Table:
    return parse_published(text, source, _analytical_cells)


def _analytical_cells(row: Row) -> Mapping[str, Value]:
    metric = cell(row, "metric")
    if metric not in KINDS:
        raise CannotJudge("its metric is not analytical")
    share = metric.startswith("sparse-attention share")
    if share or metric.startswith("end-to-end"):
        attention_share(row), sparse_steps(row)
    if not share:  # refused here, line by line
        needs_tiles = "simulator bound" in metric or "recommended" in metric or metric == "block-sparse"
        (question if needs_tiles else pattern)(row)
    kind = KINDS[metric]
    if kind == "end-to-end, tiles":
        layout, window, stride = (cell(row, name) for name in ("token_layout", "window", "stride"))
        kind = EXCEPTIONS.get((layout, window, stride), kind)
    return {"kind": kind, "value": figure(row), "printed": cell(row, "value")}


def bounds(row: Row, settings: Settings = ()) -> PredictedFigures:
    """The row's figure from our counts, rounded as printed. `settings` change none."""
    metric = cell(row, "metric")
    decimals = len(row.text("printed").partition(".")[2])
    if metric.startswith("sparse-attention share"):
        sparse, steps = sparse_steps(row)
        return {"value": round(100 * attention_share(row) * sparse / steps, decimals)}
    if metric == "block-sparse":
        return {"value": float(question(row).block_sparse)}
    if "recommended" in metric:
        return {"value": _recommended(row, metric)}
    found = pattern(row)
    bound = found.tokens**2 / found.pairs
    if metric == "sparsity":
        return {"value": round(100 * (1 - 1 / bound), decimals)}
    if "FLOP-wise" not in metric:
        bound = question(row).bound("multidim_static").worst
    if metric.startswith("end-to-end"):
        return {"value": end_to_end_speedup(row, round(bound, 1))}
    return {"value": round(bound, max(1, decimals))}


def _recommended(row: Row, metric: str) -> float | None:
    """How many strides the search keeps, the last one's size, or the bound of the row's own stride."""
    asked = question(row)
    found = _frontier(asked)
    if metric == "recommended strides":
        return len(found)
    if metric == "coarsest recommended stride":
        return prod(list(found)[-1])
    return found.get(asked.pattern.stride)


@cache
def _frontier(asked: Question) -> Mapping[tuple[int, ...], float]:
    """Stride -> worst bound."""
    return {option.question.pattern.stride: option.bound.worst for option in stride_frontier(asked)}
