"""Published figures of neighborhood attention in one long table: a configuration, a metric, a value, how certain.

Reads such a table (ours or a user's), hands each row to a suite, and keeps the rows that the suite can judge; the
others are counted by reason. Knows how sizes, units and causality are spelt, and no model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, SpecError
from cascadesim.validation.columns import Column, Layout, Value
from cascadesim.validation.table import Row, Table, parse_table

if TYPE_CHECKING:
    from cascadesim.einsum_cascades.sparsity.neighborhood import Neighborhood
    from cascadesim.simulator.gna.neighborhood import Question

COLUMNS = ("source", "use_case", "gpu", "dtype", "token_layout", "window", "stride", "dilation", "causal", "q_tile",
           "kv_tile", "metric", "unit", "certainty")  # fmt: skip
REQUIRED = ("token_layout", "window", "metric", "certainty")
TEXT = tuple(Column(name, str, required=False) for name in COLUMNS)
RAW = Layout((*TEXT, Column("value", str, required=False)), key=(*COLUMNS, "value"))
NEVER_JUDGED = ("config-unclear", "uncertain-definition", "lower-bound")  # how a certainty begins
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
FULL_AXIS = 24  # assumed: stands for 'T', a dimension seen whole, which cancels out of every ratio


class CannotJudge(Exception):
    """Why a suite says nothing about a row."""


Read: TypeAlias = Callable[[Row], Mapping[str, Value]]  # raises CannotJudge; ValueError for a cell that is wrong


def parse_published(text: str, source: str, read: Read) -> Table:
    """The rows that `read` can judge, with the cells it adds, and how many it cannot for which reason."""
    raw = raw_table(text, source)
    rows, why, problems = [], Counter[str](), []
    for row in raw.rows:
        try:
            rows.append(_read_row(row, read))
        except CannotJudge as reason:
            why[str(reason)] += 1
        except (ValueError, CascadeSimError) as error:
            problems.append(f"{row.place}: {error}")
    if problems:
        raise SpecError("\n".join(problems))
    left_out = tuple(why.most_common())
    if not rows:
        reasons = "; ".join(f"{count} because {reason}" for reason, count in left_out)
        raise SpecError(f"{source}: no row that can be judged: {reasons}")
    return Table(tuple(rows), raw.comments, raw.unread_columns, left_out)


def raw_table(text: str, source: str) -> Table:
    """All rows, as text. Raises SpecError where a column is missing."""
    header = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    names = [name.strip().lower() for name in header.split(",")]
    if missing := [name for name in (*REQUIRED, "value") if name not in names]:
        raise SpecError(f"{source}: no column '{missing[0]}'; expected the columns {', '.join((*COLUMNS, 'value'))}")
    return parse_table(text, RAW, source)


def _read_row(row: Row, read: Read) -> Row:
    certainty = cell(row, "certainty")
    if certainty.startswith(NEVER_JUDGED):
        raise CannotJudge(next(begin for begin in NEVER_JUDGED if certainty.startswith(begin)))
    kept = {name: value for name, value in row.cells if name != "value"}
    return Row(tuple({**kept, **read(row)}.items()), row.source, row.line)


def cell(row: Row, name: str) -> str:
    """Its text; empty where the file says nothing."""
    value = row.get(name)
    return value if isinstance(value, str) else ""


def figure(row: Row) -> float:
    text = cell(row, "value")
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"column 'value': expected a number, got '{text}'") from None
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"column 'value': expected a finite number above 0, got '{text}'")
    return value


def printed_decimals(row: Row) -> int:
    """How many the value was printed with."""
    return len(cell(row, "value").partition(".")[2])


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
    from cascadesim.einsum_cascades.sparsity.neighborhood import neighborhood

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
    from cascadesim.simulator.gna.neighborhood import question as asked

    if not cell(row, "q_tile") or not cell(row, "kv_tile"):
        raise CannotJudge("it names no tile shape")
    return asked(pattern(row), sizes(row, "q_tile"), sizes(row, "kv_tile"))
