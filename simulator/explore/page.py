"""The answer to a space as one page: the pictures to explore, the table to sort, the space; no network, one file.

Fills `page.html` with a frame. What the page does is in that file; it reads without scripts, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from html import escape
from importlib import resources
from math import isfinite
from pathlib import Path

import numpy as np

from cascadesim.simulator.explore.metrics import METRICS, metric_of
from cascadesim.simulator.explore.results import Frame

MOST_ROWS = 2000  # designs that a page shows, evenly picked: keeps it far below 5 MB
_DIFFERENCES = ("analytical_latency_s", "cycle_latency_s", "cycle_difference")  # beside the objectives
_TEMPLATE = "page.html"


def write_page(frame: Frame, target: Path) -> None:
    target.write_text(page(frame), encoding="utf-8")


def page(given: Frame) -> str:
    first = [*given.fields, *given.objectives, *(name for name in _DIFFERENCES if name in given.columns)]
    names = dict.fromkeys((*first, *given.columns))
    frame = replace(given, columns={name: given[name] for name in names})
    rows = _rows(frame)
    parts = {
        "TITLE": escape(frame.source), "QUESTION": escape(_question(frame)), "SUMMARY": escape(_summary(frame)),
        "ELASTICITIES": _elasticities(frame), "TABLE": _table(frame, rows), "SHOWN": _shown(frame, rows),
        "SPACE": escape(frame.space_text), "FOOTER": escape(f"cascadesim {frame.version}, {frame.source}"),
        "DATA": _data(frame, rows),
    }  # fmt: skip
    text = (resources.files("cascadesim.simulator.explore") / _TEMPLATE).read_text(encoding="utf-8")
    return re.sub(r"@([A-Z]+)@", lambda name: parts[name[1]], text)


def _question(frame: Frame) -> str:
    import yaml

    return str(yaml.safe_load(frame.space_text).get("question", frame.source))


def _summary(frame: Frame) -> str:
    counts = frame.counts
    text = (f"{counts.designs:,} designs; {counts.allowed:,} hold the conditions, {counts.possible:,} can run the "
            f"work, {counts.good:,} hold the constraints, {counts.on_front:,} are on the front of "
            f"{', '.join(metric_of(name).meaning for name in frame.objectives)}.")
    verdict = frame.verdict
    return text if verdict is None else f"{text} {verdict[0].upper()}{verdict[1:]}."


def _rows(frame: Frame) -> list[list[object]]:
    """Each design's columns; nan becomes null."""
    chosen = np.unique(np.linspace(0, len(frame) - 1, min(len(frame), MOST_ROWS)).astype(int)).tolist()
    columns = [column[chosen].tolist() for column in frame.columns.values()]
    return [[_plain(value) for value in row] for row in zip(*columns, strict=True)]


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not isfinite(value) else value


def _shown(frame: Frame, rows: list[list[object]]) -> str:
    return "" if len(rows) == len(frame) else f"{len(rows):,} of {len(frame):,} designs, evenly picked."


def _table(frame: Frame, rows: list[list[object]]) -> str:
    heads = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in frame.columns)
    body = "".join(f'<tr data-row="{number}">{_cells(row)}</tr>' for number, row in enumerate(rows))
    return f'<table id="designs"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _elasticities(frame: Frame) -> str:
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("field", "objective", "10 %", "median", "90 %"))
    body = "".join(f"<tr>{_cells([field, metric_of(objective).meaning, *found])}</tr>"
                   for (field, objective), found in frame.elasticities.items())
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _cells(values: Iterable[object]) -> str:
    return "".join(f"<td>{escape(_text(value))}</td>" for value in values)


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)


def _data(frame: Frame, rows: list[list[object]]) -> str:
    content = {
        "names": list(frame.columns), "rows": rows, "fields": list(frame.fields), "objectives": list(frame.objectives),
        "meanings": {name: metric_of(name).meaning for name in frame.columns if name in METRICS},
        "references": [{"name": each.name, **{name: _plain(value) for name, value in each.quantities.items()}}
                       for each in frame.references],
        "elasticities": [{"field": field, "objective": objective, "low": low, "middle": middle, "high": high}
                         for (field, objective), (low, middle, high) in frame.elasticities.items()],
    }  # fmt: skip
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")  # no </script> inside
