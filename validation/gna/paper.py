"""The paper's analytical figures from our counts: bounds by FLOPs and by tiles, end to end, sparsity, stride lists.

GNA (arXiv 2504.16922), tables 1-5: the bound is rounded to one decimal before Amdahl's law, with the shares of table 1.
Says what a row of `published` claims and what the simulator has for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from math import prod
from typing import TYPE_CHECKING

from cascadesim.validation.claim import Prediction, Settings
from cascadesim.validation.columns import Column, Layout, Value, not_negative
from cascadesim.validation.gna import published
from cascadesim.validation.gna.published import CannotJudge, cell
from cascadesim.validation.table import Row, Table

if TYPE_CHECKING:
    from cascadesim.simulator.gna.neighborhood import Question

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
LAYOUT = Layout(
    (*published.TEXT, Column("value", not_negative), Column("kind", str, required=False)),
    key=published.RAW.key,
)


def parse_paper(text: str, layout: Layout, source: str) -> Table:
    return published.parse_published(text, source, _read)


def _read(row: Row) -> Mapping[str, Value]:
    metric = cell(row, "metric")
    if metric not in KINDS:
        raise CannotJudge("its metric is not analytical")
    if metric.startswith(("end-to-end", "sparse-attention share")):
        attention_share(row), sparse_steps(row)
    if not metric.startswith("sparse-attention share"):
        (published.question if _needs_tiles(metric) else published.pattern)(row)  # refused here, line by line
    return {"kind": _exception(row) or KINDS[metric], "value": published.figure(row), "printed": cell(row, "value")}


def _needs_tiles(metric: str) -> bool:
    return "simulator bound" in metric or "recommended" in metric or metric == "block-sparse"


def _exception(row: Row) -> str | None:
    """The two configurations whose printed figures our counts do not give; their rows are reported, not judged."""
    if KINDS[cell(row, "metric")] != "end-to-end, tiles":
        return None
    layout, window, stride = (cell(row, name) for name in ("token_layout", "window", "stride"))
    if (layout, window, stride) == ("16x44x80", "16x32x48", "1x1x1"):
        return TWICE_ROUNDED
    return BLOCKED if (layout, window, stride) == ("30x48x80", "18x24x24", "18x24x24") else None


def attention_share(row: Row) -> float:
    """Of the model that the use case begins with."""
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


def bounds(row: Row, settings: Settings = ()) -> Prediction:
    """The row's figure from our counts. `settings` change none."""
    metric = cell(row, "metric")
    if metric.startswith("end-to-end"):
        return {"value": _end_to_end(row, round(_bound(row), 1))}
    if metric.startswith("attention speedup"):
        return {"value": round(_bound(row), max(1, _decimals(row)))}  # as printed
    if metric == "sparsity":
        return {"value": round(100 * (1 - 1 / _flop_bound(row)), _decimals(row))}
    if metric.startswith("sparse-attention share"):
        sparse, steps = sparse_steps(row)
        return {"value": round(100 * attention_share(row) * sparse / steps, _decimals(row))}
    if metric == "block-sparse":
        return {"value": float(published.question(row).block_sparse)}
    return {"value": _recommended(row, metric)}


def _decimals(row: Row) -> int:
    return len(row.text("printed").partition(".")[2])


def _bound(row: Row) -> float:
    if "FLOP-wise" in cell(row, "metric"):
        return _flop_bound(row)
    return published.question(row).bound("multidim_static").worst


def _flop_bound(row: Row) -> float:
    pattern = published.pattern(row)
    return pattern.tokens**2 / pattern.pairs


def _end_to_end(row: Row, speedup: float) -> float:
    from cascadesim.simulator.gna.time import end_to_end

    return end_to_end(speedup, attention_share(row), *sparse_steps(row))


def _recommended(row: Row, metric: str) -> float | None:
    """Of the stride search: how many strides it keeps, the last one's size, or the bound of the row's own."""
    asked = published.question(row)
    found = _frontier(asked)
    if metric == "recommended strides":
        return len(found)
    if metric == "coarsest recommended stride":
        return prod(list(found)[-1])
    return found.get(asked.pattern.stride)


@cache
def _frontier(asked: Question) -> Mapping[tuple[int, ...], float]:
    """stride -> worst bound."""
    from cascadesim.simulator.gna.recommend import stride_frontier

    return {option.question.pattern.stride: option.bound.worst for option in stride_frontier(asked)}
