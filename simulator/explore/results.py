"""The answer to a space: designs of its front as columns with units in their names, and where they come from.

A `Frame` prints as a table, is what `pandas.DataFrame(frame.columns)` and polars take, and is written as Parquet or
CSV with the space file and the version embedded. Knows no search.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.simulator.explore.expressions import Column
from cascadesim.simulator.explore.models import Reference
from cascadesim.simulator.views.output import cell, printable

SUFFIXES = (".parquet", ".csv")
_SHOWN_ROWS = 12


@dataclass(frozen=True)
class Counts:
    """How many designs the search met, and what became of them."""

    designs: int  # looked at
    allowed: int  # that hold the conditions
    possible: int  # of these, that can be built and run the work
    good: int  # of these, that hold the constraints
    on_front: int


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
    def largest_difference(self) -> float | None:
        """Between cycle level and closed form; None where nothing was simulated."""
        found = self.columns.get("cycle_difference")
        if found is None or not np.isfinite(found.astype(np.float64)).any():
            return None
        return float(np.nanmax(np.abs(found.astype(np.float64))))

    @property
    def verdict(self) -> str | None:
        """One sentence: closed form and cycle level of all designs; None where nothing was simulated."""
        if self.largest_difference is None:
            return None
        return f"cycle level against closed form: at most {self.largest_difference:.3%} apart"

    def __repr__(self) -> str:
        return "\n".join(table_lines(self))


def table_lines(frame: Frame, most: int = _SHOWN_ROWS) -> Iterator[str]:
    """The front as text: fields, objectives, difference at cycle level; the middle of a long one is left out."""
    names = [*frame.fields, *frame.objectives, *(["cycle_difference"] if frame.largest_difference is not None else [])]
    size = len(frame)
    shown = list(range(size)) if size <= most else [*range(most // 2), *range(size - most // 2, size)]
    cells = [[_cell(name, frame[name][row]) for name in names] for row in shown]
    widths = [max(len(name), *(len(line[column]) for line in cells)) if cells else len(name)
              for column, name in enumerate(names)]
    yield "  ".join(name.rjust(width) for name, width in zip(names, widths, strict=True))
    for position, line in enumerate(cells):
        if size > most and position == most // 2:
            yield f"  … {size - most} more"
        yield "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))


def _cell(name: str, value: object) -> str:
    if name == "cycle_difference":
        return f"{float(str(value)):+.3%}"
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    return f"{value:,}" if type(value) is int or isinstance(value, np.integer) else str(value)


def write(frame: Frame, target: Path, suffix: str) -> None:
    """As Parquet or CSV, by `suffix`; the file `target` is what the caller made for it."""
    if suffix == ".parquet":
        _write_parquet(frame, target)
    else:
        with target.open("w", encoding="utf-8", newline="") as stream:
            write_csv(frame, stream)


def write_csv(frame: Frame, stream: TextIO) -> None:
    """Comment lines first (`#`): version, counts, the space file; then a header and the rows."""
    for line in _remarks(frame):
        stream.write(f"# {printable(line)}\n" if line else "#\n")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(cell, frame.columns))
    for row in frame.rows():
        writer.writerow("" if isinstance(value, float) and np.isnan(value) else cell(value) for value in row.values())


def _remarks(frame: Frame) -> Iterator[str]:
    counts = frame.counts
    yield f"cascadesim {frame.version}, front of {frame.source}; read with comment='#'"
    yield (f"designs {counts.designs}, hold the conditions {counts.allowed}, can be {counts.possible}, "
           f"hold the constraints {counts.good}, on the front {counts.on_front}")
    yield f"objectives {', '.join(frame.objectives)}"
    yield from frame.space_text.splitlines()


def _write_parquet(frame: Frame, target: Path) -> None:
    pyarrow, parquet = parquet_library()
    table = pyarrow.table({name: pyarrow.array(column.tolist()) for name, column in frame.columns.items()})
    counts = ", ".join(f"{name} {value}" for name, value in vars(frame.counts).items())
    embedded = {
        "cascadesim.version": frame.version, "cascadesim.space": frame.space_text,
        "cascadesim.objectives": ", ".join(frame.objectives), "cascadesim.counts": counts,
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


def ordered(columns: Mapping[str, Column], first: str, larger_is_better: bool) -> dict[str, Column]:
    """Rows by the first objective, the best first."""
    order: Sequence[int] = np.argsort(columns[first] * (-1 if larger_is_better else 1), kind="stable").tolist()
    return {name: column[order] for name, column in columns.items()}
