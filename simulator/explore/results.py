"""The answer to a space: designs of its front as columns with units in their names, and where they come from.

A `Frame` prints as a table, is what `pandas.DataFrame(frame.columns)` and polars take, and is written as Parquet, CSV
or one HTML page to explore (`page.html`: no network, and it reads without scripts). Knows no search.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cascadesim.accelerators.catalogue import Column
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore.models import METRICS, Reference, metric_of
from cascadesim.simulator.explore.problem import Counts
from cascadesim.simulator.views.output import FEWEST_COLUMNS, aligned, cell, printable
from cascadesim.simulator.views.page import embedded, filled, html_cells, html_table

SUFFIXES = (".parquet", ".csv")
MOST_ROWS = 2000  # designs that a page shows, evenly picked: keeps it far below 5 MB
_SHOWN_ROWS = 12
_LEAST_HEADING = 10  # characters of a line of a column's name
_DIFFERENCES = ("analytical_latency_s", "cycle_latency_s", "cycle_difference")  # beside the objectives of a page


@dataclass(frozen=True)
class Frame:
    """One row per design of the front, the best in the first objective first.

    `fields`: columns that say which design it is; `objectives`: those that it was chosen by. Further columns: all
    metrics, `cycle_latency_s`, `cycle_difference` (of latency at cycle level over closed form, minus 1).
    """

    columns: Mapping[str, Column]
    fields: tuple[str, ...]
    objectives: tuple[str, ...]
    counts: Counts
    references: tuple[Reference, ...]
    space_text: str
    source: str
    version: str
    elasticities: Mapping[tuple[str, str], tuple[float, float, float]]  # (field, objective): 10 %, median, 90 %

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def rows(self) -> Iterator[dict[str, object]]:
        for values in zip(*(column.tolist() for column in self.columns.values()), strict=True):
            yield dict(zip(self.columns, values, strict=True))

    @property
    def verdict(self) -> str | None:
        """One sentence: closed form and cycle level of all designs; None where nothing was simulated."""
        differences = np.abs(self.columns.get("cycle_difference", np.empty(0)).astype(np.float64))
        if not np.isfinite(differences).any():
            return None
        return f"cycle level against closed form: at most {float(np.nanmax(differences)):.3%} apart"

    def __repr__(self) -> str:
        return "\n".join(table_lines(self))


def evenly_picked(size: int, most: int) -> list[int]:
    """Picks at most `most` of `size` rows, the first and the last among them."""
    found: list[int] = np.unique(np.linspace(0, size - 1, min(size, most)).astype(int)).tolist()
    return found


def table_lines(frame: Frame, most: int = _SHOWN_ROWS) -> Iterator[str]:
    """The front as text: fields, objectives, difference at cycle level; the middle of a long one is left out."""
    names = [*frame.fields, *frame.objectives, *(["cycle_difference"] if frame.verdict is not None else [])]
    size = len(frame)
    shown = list(range(size)) if size <= most else [*range(most // 2), *range(size - most // 2, size)]
    cells = [[_cell(name, frame[name][row].item()) for name in names] for row in shown]
    headings: list[Sequence[str]] = [names]
    if len(next(aligned([names, *cells]))) > FEWEST_COLUMNS:
        widths = [max(_LEAST_HEADING, *map(len, column)) for column in zip(*cells, strict=True)]
        headings = [*zip(*_level(list(map(_broken, names, widths))), strict=True)]
    lines = list(aligned([*headings, *cells]))
    if size > most:
        lines.insert(len(headings) + most // 2, f"  … {size - most} more")
    yield from lines


def _broken(name: str, width: int) -> list[str]:
    """Break the name of a column after dots and underscores, into lines as short as its figures."""
    lines = [""]
    for part in re.findall(r"[^._]*[._]|[^._]+", name):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return lines


def _level(headings: Sequence[list[str]]) -> Iterator[list[str]]:
    """Fill up above, so that the last lines stand side by side."""
    most = max(map(len, headings))
    return ([*[""] * (most - len(lines)), *lines] for lines in headings)


def _cell(name: str, value: object) -> str:
    if name == "cycle_difference":
        return f"{value:+.3%}"
    return f"{value:.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)


def write(frame: Frame, target: Path, suffix: str) -> None:
    """Writes Parquet or CSV, by `suffix`, to the file `target` that the caller made for it.

    CSV has comment lines first (`#`): version, counts, the space file; then a header and the rows.
    """
    if suffix == ".parquet":
        _write_parquet(frame, target)
        return
    counts = frame.counts
    remarks = [
        f"cascadesim {frame.version}, front of {frame.source}; read with comment='#'",
        f"designs {counts.designs}, hold the conditions {counts.allowed}, can be {counts.possible}, "
        f"hold the constraints {counts.good}, on the front {len(frame)}",
        f"objectives {', '.join(frame.objectives)}",
        *frame.space_text.splitlines(),
    ]
    with target.open("w", encoding="utf-8", newline="") as stream:
        stream.writelines(f"# {printable(line)}\n" if line else "#\n" for line in remarks)
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(map(cell, frame.columns))
        for row in frame.rows():
            writer.writerow("" if isinstance(value, float) and np.isnan(value) else cell(value)
                            for value in row.values())  # fmt: skip


def _write_parquet(frame: Frame, target: Path) -> None:
    pyarrow, parquet = parquet_library()
    table = pyarrow.table({name: pyarrow.array(column.tolist()) for name, column in frame.columns.items()})
    counts = {**frame.counts._asdict(), "on_front": len(frame)}
    embedded = {
        "cascadesim.version": frame.version, "cascadesim.space": frame.space_text,
        "cascadesim.objectives": ", ".join(frame.objectives),
        "cascadesim.counts": ", ".join(f"{name} {value}" for name, value in counts.items()),
    }  # fmt: skip
    parquet.write_table(table.replace_schema_metadata(embedded), target)


def parquet_library() -> tuple[Any, Any]:
    """Raises CascadeSimError where pyarrow is not installed."""
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise CascadeSimError(
            "--output FILE.parquet needs pyarrow: pip install 'cascadesim[explore]', or give a .csv file"
        ) from None


def page(frame: Frame) -> str:
    """`page.html` filled with a frame: the pictures to explore, the table to sort, the space."""
    first = [*frame.fields, *frame.objectives, *(name for name in _DIFFERENCES if name in frame.columns)]
    columns = {name: frame[name] for name in dict.fromkeys((*first, *frame.columns))}
    shown = evenly_picked(len(frame), MOST_ROWS)
    rows = [[_plain(value) for value in row]
            for row in zip(*(column[shown].tolist() for column in columns.values()), strict=True)]
    parts = {
        "TITLE": escape(frame.source), "SUMMARY": escape(_summary(frame)),
        "QUESTION": escape(str(yaml.safe_load(frame.space_text).get("question", frame.source))),
        "ELASTICITIES": _elasticities(frame), "TABLE": _table(list(columns), rows),
        "SHOWN": "" if len(rows) == len(frame) else f"{len(rows):,} of {len(frame):,} designs, evenly picked.",
        "SPACE": escape(frame.space_text), "FOOTER": escape(f"cascadesim {frame.version}, {frame.source}"),
        "DATA": _data(frame, list(columns), rows),
    }  # fmt: skip
    return filled("cascadesim.simulator.explore", "page.html", parts)


def _summary(frame: Frame) -> str:
    counts = frame.counts
    text = (f"{counts.designs:,} designs; {counts.allowed:,} hold the conditions, {counts.possible:,} can run the "
            f"work, {counts.good:,} hold the constraints, {len(frame):,} are on the front of "
            f"{', '.join(metric_of(name).meaning for name in frame.objectives)}.")
    verdict = frame.verdict
    return text if verdict is None else f"{text} {verdict[0].upper()}{verdict[1:]}."


def _plain(value: object) -> object:
    """Turns nan and inf into null, which JSON can say."""
    return None if isinstance(value, float) and not isfinite(value) else value


def _table(names: list[str], rows: list[list[object]]) -> str:
    heads = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in names)
    body = "".join(f'<tr data-row="{number}">{html_cells(_texts(row))}</tr>' for number, row in enumerate(rows))
    return f'<table id="designs"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _elasticities(frame: Frame) -> str:
    rows = (_texts([field, metric_of(objective).meaning, *found])
            for (field, objective), found in frame.elasticities.items())
    return html_table(("field", "objective", "10 %", "median", "90 %"), rows)


def _texts(values: Iterable[object]) -> Iterator[str]:
    return ("–" if value is None else _cell("", value) for value in values)


def _data(frame: Frame, names: list[str], rows: list[list[object]]) -> str:
    content = {
        "names": names, "rows": rows, "fields": list(frame.fields), "objectives": list(frame.objectives),
        "meanings": {name: METRICS[name].meaning for name in names if name in METRICS},
        "references": [{"name": each.name, **{name: _plain(value) for name, value in each.quantities.items()}}
                       for each in frame.references],
        "elasticities": [{"field": field, "objective": objective, "low": low, "middle": middle, "high": high}
                         for (field, objective), (low, middle, high) in frame.elasticities.items()],
    }  # fmt: skip
    return embedded(content)
