"""Pruning traces: what each head fetches once pruning has decided, one query of one head a row, as a CSV file.

The columns are those of SpAtten's public workload files (HPCA'21; mit-han-lab/spatten), which load as they are; the
last two are added: `_COLUMNS` says what each means. `token_rows` makes the rows of a schedule. Knows no hardware:
whether a design takes a row is the accelerator's to say.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import floor
from pathlib import Path
from typing import Any

from cascadesim.einsum_cascades.notation.errors import SpecError, shortened
from cascadesim.einsum_cascades.notation.schema import LARGEST_TABLE_BYTES, read_text
from cascadesim.einsum_cascades.sparsity.pruning_schedules import LOW_BITS, PruningSchedule

MOST_PROBLEMS = 20  # of one file that are described; the others are counted
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class TracedHead:
    """One query of one head. Bits are None where a tensor is not quantized; `line` is where it stood in a file."""

    iteration: int
    layer: int
    head: int
    length: int
    keys: int
    values: int
    key_bits: int | None = None
    value_bits: int | None = None
    query_bits: int | None = None
    head_dim: int = 64
    threshold: float | None = None
    low_bits: bool = False
    low_bit_width: int | None = None
    accumulates: bool = True
    rescales: bool = False
    kept: int | None = None
    queries: int = 1
    low_bit_queries: int | None = None  # None: all, where `low_bits`
    line: int = field(default=0, compare=False)

    @property
    def repeated_queries(self) -> int:
        """Queries whose scores are computed again with the low bits."""
        if self.low_bit_queries is not None:
            return self.low_bit_queries
        return self.queries if self.low_bits else 0


@dataclass(frozen=True, slots=True)
class PruningTrace:
    """Rows in order; `source` names them in errors."""

    source: str
    rows: tuple[TracedHead, ...] = field(repr=False)


def _whole(least: int, optional: bool = False) -> Callable[[str], int | None]:
    """A reader of whole numbers, 993 and 993.0 alike; -1 is None where it is `optional`."""
    def read(text: str) -> int | None:
        value = int(float(text)) if "." in text else int(text)
        if "." in text and float(text) != value:
            raise ValueError
        if optional and value == -1:
            return None
        if not least <= value <= 2**30:
            raise ValueError
        return value

    return read


def _probability_or_none(text: str) -> float | None:
    value = float(text)
    if value != -1 and not 0 <= value <= 1:
        raise ValueError
    return None if value == -1 else value


@dataclass(frozen=True, slots=True)
class _Column:
    """How a cell becomes a field; `otherwise`: its text in a file without the column, None where it must be there."""

    field: str
    read: Callable[[str], object]
    allowed: str
    otherwise: str | None = None


_FROM_0, _FROM_1 = (_whole(0), "a whole number from 0"), (_whole(1), "a whole number from 1")
_FROM_0_OR_NONE = _whole(0, optional=True), "a whole number from 0, or -1"
_FROM_1_OR_NONE = _whole(1, optional=True), "a whole number from 1, or -1"
_EITHER = (lambda text: _TRUTH[text.lower()]), "True or False"
_COLUMNS: Mapping[str, _Column] = {
    "iteration_id": _Column("iteration", *_FROM_0),  # generated token; text here and nothing else is a comment
    "layer_id": _Column("layer", *_FROM_0),
    "head_id": _Column("head", *_FROM_0),
    "embedding_length_D": _Column("head_dim", *_FROM_1, "64"),
    # tokens so far, before any pruning
    "sentence_length_L": _Column("length", _whole(1, optional=True), "a whole number from 1", "-1"),
    "key_fetch_num": _Column("keys", *_FROM_1),  # keys fetched: those that token pruning has kept
    "quant_key_bit": _Column("key_bits", *_FROM_1_OR_NONE),  # fetched first; -1: not quantized
    "quant_query_bit": _Column("query_bits", *_FROM_1_OR_NONE, "-1"),  # -1: not quantized
    # low bits are fetched below this largest probability; -1: never
    "auto_requant_thres": _Column("threshold", _probability_or_none, "0 to 1, or -1", "-1"),
    "if_requant": _Column("low_bits", *_EITHER),  # this head did fetch the low bits of its keys
    "auto_requant_incre": _Column("low_bit_width", *_FROM_1_OR_NONE, "-1"),  # how many; -1: none
    "value_fetch_num": _Column("values", *_FROM_1),  # rows of V fetched: those that local value pruning has kept
    "quant_value_bit": _Column("value_bits", *_FROM_1_OR_NONE),  # -1: not quantized
    "if_accumulate_importance": _Column("accumulates", *_EITHER, "True"),  # adds to the importance of tokens
    "if_rescale_previous_importance": _Column("rescales", *_EITHER, "False"),  # importance from before, first
    "if_topk": _Column("chooses", *_EITHER, "False"),
    "topk": _Column("kept", *_FROM_1_OR_NONE, "-1"),  # tokens chosen after it for the next layers; -1: no choice
    "queries": _Column("queries", *_FROM_1, "1"),  # queries that stream over the same keys and values
    "low_bit_queries": _Column("low_bit_queries", *_FROM_0_OR_NONE, "-1"),  # that use low bits; -1: all, if if_requant
}
COLUMNS = tuple(_COLUMNS)


def read_rows(path: Path | str) -> tuple[TracedHead, ...]:
    """The rows of a file in order. Raises SpecError with one located line for each problem."""
    path = Path(path)
    return parse_rows(read_text(path, LARGEST_TABLE_BYTES), path.name)


def parse_rows(text: str, source: str) -> tuple[TracedHead, ...]:
    """The rows of a text, as `read_rows` reads them; `source` names the text in errors."""
    reader = csv.reader(io.StringIO(text))
    problems: list[str] = []
    rows: list[TracedHead] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        problems += _header_problems(header)
        for cells in reader if not problems else ():
            read = _row(dict(zip(header, cells, strict=False)), reader.line_num, len(cells) - len(header))
            if isinstance(read, TracedHead):
                rows.append(read)
            else:
                problems.extend(f"line {reader.line_num}: {problem}" for problem in read)
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: not CSV: {error}")
    if not rows and not problems:
        problems.append("no rows in it")
    raise_all(source, problems)
    return tuple(rows)


def raise_all(source: str, problems: Sequence[str]) -> None:
    """SpecError with all problems, if there are any; the first MOST_PROBLEMS are kept."""
    if problems:
        kept = [f"{shortened(source)}: {problem}" for problem in problems[:MOST_PROBLEMS]]
        raise SpecError("\n".join(kept), further=len(problems) - len(kept))


def _header_problems(header: Sequence[str]) -> Iterator[str]:
    """Columns that must be there, and columns whose names are nearly those of missing ones; others are not read."""
    for name in sorted({name for name in header if name and header.count(name) > 1}):
        yield f"line 1: column '{shortened(name)}' stands twice"
    for name in COLUMNS:
        if name in header:
            continue
        near = get_close_matches(name, [given for given in header if given not in _COLUMNS], n=1, cutoff=0.8)
        if near:
            yield f"line 1: unknown column '{shortened(near[0])}'; did you mean '{name}'?"
        elif _COLUMNS[name].otherwise is None:
            yield f"line 1: no column '{name}'"


def _row(cells: Mapping[str, str], line: int, surplus: int) -> TracedHead | list[str]:
    """A row, or what is wrong with it; no problem and no row for comments and empty lines."""
    filled = [name for name, cell in cells.items() if cell.strip()]
    if not filled or (filled == ["iteration_id"] and not cells["iteration_id"].strip().isdigit()):
        return []
    if surplus:
        return [f"{abs(surplus)} {'more' if surplus > 0 else 'fewer'} cells than columns"]
    fields: dict[str, Any] = {"line": line}
    problems: list[str] = []
    for name, column in _COLUMNS.items():
        text = cells[name].strip() if name in cells else column.otherwise or ""
        try:
            fields[column.field] = column.read(text)
        except (ValueError, KeyError, OverflowError):
            problems.append(f"{name}: expected {column.allowed}, got '{shortened(text, 40)}'")
    return problems or _checked(fields)


def _checked(fields: dict[str, Any]) -> TracedHead | list[str]:
    chooses = fields.pop("chooses")
    unknown = chooses and fields["kept"] is None
    fields["kept"] = fields["kept"] if chooses else None
    fields["length"] = fields["length"] or fields["keys"]
    row = TracedHead(**fields)
    problems = ["if_topk is True, but topk does not say how many tokens to keep"] if unknown else []
    return [*problems, *row_problems(row)] or row


def row_problems(row: TracedHead) -> Iterator[str]:
    """What no design can do."""
    if row.values > row.keys:
        yield f"value_fetch_num {row.values} is above key_fetch_num {row.keys}"
    if row.keys > row.length:
        yield f"key_fetch_num {row.keys} is above sentence_length_L {row.length}"
    if row.repeated_queries > (row.queries if row.low_bits else 0):
        most = f"the {row.queries} queries" if row.low_bits else "0, as if_requant is False"
        yield f"low_bit_queries {row.low_bit_queries} is above {most}"


def write_rows(rows: Iterable[TracedHead], path: Path | str) -> None:
    """A file that `read_rows` reads back equal: the published columns, two more where a row has several queries."""
    Path(path).write_text(format_rows(rows), encoding="utf-8")


def format_rows(rows: Iterable[TracedHead]) -> str:
    """The text of such a file."""
    rows = tuple(rows)
    several = any(row.queries != 1 or row.low_bit_queries is not None for row in rows)
    columns = COLUMNS if several else COLUMNS[:-2]  # the published ones
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row, _COLUMNS[name].field) for name in columns] for row in rows)
    return text.getvalue()


def _cell(row: TracedHead, field: str) -> object:
    if field == "chooses":
        return row.kept is not None
    value = getattr(row, field)
    return -1 if value is None else float(value) if field == "head_dim" else value


def token_rows(
    schedule: PruningSchedule, length: int, iteration: int = 1, head_dim: int = 64, queries: int = 1
) -> tuple[TracedHead, ...]:
    """Rows of one iteration. In iteration 0 no choice has been made yet: all keys are fetched."""
    rows = []
    seen = replace(schedule, token_keep=(1.0,) * schedule.layers) if iteration == 0 else schedule
    for layer, heads in enumerate(schedule.heads):
        for head in range(heads):
            rows.append(TracedHead(
                iteration, layer, head, length, seen.tokens(layer, length), seen.values(layer, length),
                schedule.key_bits, schedule.value_bits, schedule.query_bits, head_dim, schedule.threshold,
                low_bit_width=None if schedule.threshold is None else LOW_BITS, accumulates=schedule.accumulates,
                queries=queries,
            ))  # fmt: skip
        rows[-1] = replace(rows[-1], kept=_choice(schedule, seen, layer, length))
    rows[-1] = replace(rows[-1], rescales=schedule.rescales)
    share = schedule.low_bit_share  # of low bits every 1/share-th head is due, so that it holds over any stretch
    due = [floor((number + 1) * share) > floor(number * share) for number in range(len(rows))]
    return tuple(replace(row, low_bits=low) if low else row for row, low in zip(rows, due, strict=True))


def _choice(schedule: PruningSchedule, seen: PruningSchedule, layer: int, length: int) -> int | None:
    """How many tokens are chosen after a layer: fewer for the next one, or for the next token's first."""
    if layer + 1 < seen.layers:
        fewer = seen.token_keep[layer + 1] < seen.token_keep[layer]
        return seen.tokens(layer + 1, length) if fewer else None
    return schedule.tokens(0, length) if schedule.token_keep[0] < 1 else None


def encoder_rows(schedule: PruningSchedule, length: int, head_dim: int = 64) -> tuple[TracedHead, ...]:
    """Rows of an encoder over `length` tokens: the tokens a layer keeps are its queries too."""
    rows = token_rows(schedule, length, head_dim=head_dim)
    last = schedule.layers - 1
    return tuple(replace(row, iteration=0, queries=row.keys, kept=None if row.layer == last else row.kept)
                 for row in rows)
