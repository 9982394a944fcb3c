"""Tile counts of neighborhood patterns against an oracle that enumerates every (query, key) pair.

Reads the oracle's JSON: cases of a configuration and its counts, in up to four tiling modes. A case is a row; lists of
counts per query tile become the number of query tiles that differ, which must be 0. Knows nothing of how counts are
derived (`simulator.gna.neighborhood`; GNA, arXiv 2504.16922, section 3).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache

from cascadesim.einsum_cascades.notation.errors import SpecError, shown
from cascadesim.einsum_cascades.notation.schema import LARGEST_NUMBER
from cascadesim.einsum_cascades.sparsity.masks import neighborhood
from cascadesim.simulator.gna.neighborhood import Mode, Question, question
from cascadesim.validation.claim import PredictedFigures, Settings
from cascadesim.validation.table import LARGEST_COUNT, Layout, Row, Table, Value, columns_of, not_negative, refuse

MODES: tuple[Mode, ...] = ("multidim_static", "multidim_dynamic", "flat_union", "flat_span")
CONFIGURATION = ("layout", "window", "stride", "dilation", "causal", "q_tile", "kv_tile")
WHOLE = ("tokens", "attended_pairs", "dense_tile_pairs", "dense_kv_tiles")
RATIOS = ("density", "flop_bound")
MODE_WHOLE, MODE_RATIOS = ("total", "max"), ("bound", "worst_bound", "efficiency")
TILE_LIST, DIFFERING = "per_q_tile", "differing_q_tiles"

COUNTS = (*WHOLE, *(f"{mode}_{field}" for mode in MODES for field in MODE_WHOLE))
BOUNDS = (*RATIOS, *(f"{mode}_{field}" for mode in MODES for field in MODE_RATIOS))
LISTS = tuple(f"{mode}_{DIFFERING}" for mode in MODES)
LAYOUT = Layout(
    (*columns_of(str, f"case dimensions {' '.join(CONFIGURATION)}"),
     *columns_of(str, " ".join(f"{mode}_{TILE_LIST}" for mode in MODES), required=False),
     *columns_of(not_negative, " ".join((*COUNTS, *BOUNDS, *LISTS, "block_sparse")), required=False)),
    key=("case",),
)  # fmt: skip


def parse_oracle(text: str, layout: Layout, source: str) -> Table:
    """Raises SpecError with every malformed case. Fields that a case leaves out are not judged."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{source}: not JSON: {error}; expected an oracle's file: {{\"cases\": [...]}}") from None
    cases = document.get("cases") if isinstance(document, dict) else document
    if not isinstance(cases, list) or not cases:
        raise SpecError(f"{source}: holds no list of cases under 'cases'")
    cited = (document.get("source") or document.get("generator") or "") if isinstance(document, dict) else ""
    lines = [text.count("\n", 0, found.start()) + 1 for found in re.finditer(r'"config"\s*:', text)]
    problems: list[str] = []
    rows = []
    for number, case in enumerate(cases):
        try:
            line = lines[number] if len(lines) == len(cases) else number + 1
            rows.append(Row(tuple(_cells(case, number).items()), source, line))
        except ValueError as error:
            problems.append(f"{source}: case {number}: {error}")
    refuse(problems)
    return Table(tuple(rows), (f"Source: {cited}",) if cited else ())


def _cells(case: object, number: int) -> dict[str, Value]:
    config, result = _member(case, "config"), _member(case, "result")
    cells: dict[str, Value] = {"case": str(case.get("id", number)) if isinstance(case, dict) else str(number)}
    cells |= {name: _sizes(config, name) for name in CONFIGURATION}
    cells["dimensions"] = str(len(str(cells["layout"]).split()))
    cells |= {name: _figure(result, name) for name in (*WHOLE, *RATIOS) if name in result}
    if "block_sparse" in result:
        if not isinstance(flag := result["block_sparse"], bool):
            raise ValueError(f"'block_sparse' must be true or false, got {shown(flag)}")
        cells["block_sparse"] = float(flag)
    for mode in MODES:
        if mode in result:
            counts = _member(result, mode)
            names = [name for name in (*MODE_WHOLE, *MODE_RATIOS) if name in counts]
            cells |= {f"{mode}_{name}": _figure(counts, name) for name in names}
            if TILE_LIST in counts:
                cells |= {f"{mode}_{TILE_LIST}": _sizes(counts, TILE_LIST), f"{mode}_{DIFFERING}": 0.0}
    return cells


def _member(owner: object, name: str) -> Mapping[str, object]:
    found = owner.get(name) if isinstance(owner, dict) else None
    if not isinstance(found, dict):
        raise ValueError(f"no object '{name}'")
    return found


def _sizes(owner: Mapping[str, object], name: str) -> str:
    """A list of whole numbers (flags: 0 and 1) as text, so that a row stays a row of cells."""
    found = owner.get(name)
    if not isinstance(found, list) or not all(isinstance(size, int) and 0 <= size <= LARGEST_COUNT for size in found):
        raise ValueError(f"'{name}' must be a list of whole numbers up to 2^40, got {shown(found)}")
    return " ".join(str(int(size)) for size in found)


def _figure(owner: Mapping[str, object], name: str) -> float:
    found = owner[name]
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= LARGEST_NUMBER:
        raise ValueError(f"'{name}' must be a number from 0 to {LARGEST_NUMBER:g}, got {shown(found)}")
    return found


def counts(row: Row, settings: Settings = ()) -> PredictedFigures:
    """Everything the oracle knows, from the closed forms. `settings` change no count."""
    asked = _question(*(row.text(name) for name in CONFIGURATION))
    found: dict[str, float | None] = {
        "tokens": asked.pattern.tokens, "attended_pairs": asked.attended_pairs, "density": 1 / asked.flop_bound,
        "flop_bound": asked.flop_bound, "dense_tile_pairs": asked.dense_query_tiles * asked.dense_key_tiles,
        "dense_kv_tiles": asked.dense_key_tiles, "block_sparse": float(asked.block_sparse),
    }  # fmt: skip
    for mode in MODES:
        if not any(name.startswith(mode) for name, _ in row.cells):
            continue
        bound = asked.bound(mode)
        found |= {
            f"{mode}_total": bound.total, f"{mode}_max": bound.largest, f"{mode}_bound": bound.mean,
            f"{mode}_worst_bound": bound.worst, f"{mode}_efficiency": bound.efficiency,
        }  # fmt: skip
        if row.get(f"{mode}_{TILE_LIST}") is not None:
            theirs = [int(count) for count in row.text(f"{mode}_{TILE_LIST}").split()]
            ours = asked.per_query_tile(mode).tolist()
            alike = sum(one == other for one, other in zip(ours, theirs, strict=False))
            found[f"{mode}_{DIFFERING}"] = max(len(ours), len(theirs)) - alike
    return found


@cache
def _question(layout: str, window: str, stride: str, dilation: str, causal: str, q_tile: str, kv_tile: str) -> Question:
    sizes: Callable[[str], list[int]] = lambda text: [int(size) for size in text.split()]  # noqa: E731
    causal_flags = [flag != 0 for flag in sizes(causal)]
    pattern = neighborhood(sizes(layout), sizes(window), sizes(stride), sizes(dilation), causal_flags)
    return question(pattern, sizes(q_tile), sizes(kv_tile))
