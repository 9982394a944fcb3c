"""The suite `claims`: rows of the ledger with our answer to each, and how claims about them are judged.

`compared` says what a row counts for: `dense` and `mechanism` are times and rates of forward passes whose every
parameter is known; `ratio` speedups that are published, and those of two rows of one table (same system, device, model,
batch and length; the dense one over the other); `amount` FLOPs, bytes, shares. Medians are over systems, since one
system has a third of the rows. What we cannot predict counts as an infinite error, unless it waits for backward passes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial

from cascadesim.validation.claim import Cell, Claim, PredictedFigures, Settings, StratumErrors, Suite, Verdict, errors
from cascadesim.validation.systems.claim_row import CLEAN, ClaimRow
from cascadesim.validation.systems.ledger import line_of
from cascadesim.validation.systems.rows import parse_ledger
from cascadesim.validation.table import Layout, Row, Table, Value, columns_of

TIMES = ("latency_s", "throughput_per_s", "flop_per_s")
AMOUNTS = ("density", "kept", "saved", "flop", "bytes", "count")
ROLES = {"dense": "dense", "mechanism": "mechanism", "total": "mechanism", "choice": "choice", "baseline": "baseline"}
ALIKE = ("system", "device", "devices", "model", "quantity", "layers", "head_dim", "batch", "seq_len", "generated",
         "phase")  # fmt: skip
FACTOR = 1.3  # within which a speedup counts as right
LAYOUT = Layout((*CLEAN.columns, *columns_of(str, "compared answer"),
                 *columns_of(float, "predicted rounding", required=False)),
                key=("id",))  # fmt: skip


def parse_claims(text: str, layout: Layout, source: str) -> Table:
    """The rows with our answers, and the speedups that follow from two of them."""
    ledger = parse_ledger(text, source)
    answered = [_answered(row, source, number) for number, row in enumerate(ledger.rows, start=2)]
    dropped: dict[str, int] = {}
    for _, why in ledger.dropped:
        dropped[why] = dropped.get(why, 0) + 1
    comments = tuple(line.lstrip("# ").rstrip() for line in text.splitlines() if line.startswith("#"))
    return Table((*answered, *_ratios(answered)), comments, (), tuple(dropped.items()))


def _answered(row: ClaimRow, source: str, line: int) -> Row:
    found = line_of(row)
    answer = f"{found.kind}: {found.why}"
    if found.prediction is not None:
        answer = "fitted" if found.prediction.rule.fitted else "predicted"
    cells: dict[str, Value] = asdict(row)
    cells |= {"compared": _compared(row, answer), "answer": answer, "predicted": found.value,
              "rounding": found.prediction.rounding if found.prediction else 0.0}  # fmt: skip
    return Row(tuple(cells.items()), source, line)


def _compared(row: ClaimRow, answer: str) -> str:
    if row.backward or answer.startswith("later"):
        return "later"
    if not row.known or answer == "fitted":
        return "reported"
    if row.quantity in TIMES:
        return ROLES.get(row.role, "reported")
    if row.quantity == "speedup":
        return "ratio"
    return "reported" if answer.startswith("lacks") else "amount"  # what lacks something follows from nothing


def _ratios(rows: Sequence[Row]) -> Iterator[Row]:
    """Times of a dense run over those of every other one that is alike: the run that is its stated baseline, or the
    fastest."""
    dense: dict[tuple[Value, ...], list[Row]] = {}
    for row in rows:
        if row.get("compared") == "dense":
            dense.setdefault(_alike(row), []).append(row)
    for row in rows:
        if row.get("compared") != "mechanism" or row.get("quantity") not in TIMES or _alike(row) not in dense:
            continue
        over = max(dense[_alike(row)], key=partial(_fitness, row))
        measured, ours = (_over(over.number(name), row.number(name), row.text("quantity"))
                          for name in ("value", "predicted"))
        if measured is not None:
            cells = dict(row.cells) | {"id": f"{row.text('id')} over {over.text('id')}", "quantity": "speedup",
                                       "value": measured, "predicted": ours, "compared": "ratio"}  # fmt: skip
            yield Row(tuple(cells.items()), row.source, row.line)


def _alike(row: Row) -> tuple[Value, ...]:
    return tuple(row.get(name) for name in ALIKE)


def _fitness(other: Row, dense: Row) -> tuple[bool, float]:
    """Whether the other names this column of the table as its baseline, and how fast it is."""
    part, value = str(dense.get("part") or ""), dense.number("value") or 0.0
    named = bool(part) and part in str(other.get("baseline") or "").split()
    return named, -value if dense.get("quantity") == "latency_s" else value


def _over(dense: float | None, other: float | None, quantity: str) -> float | None:
    """How much faster the other is."""
    if dense is None or other is None:
        return None
    return dense / other if quantity == "latency_s" else other / dense


def figures(row: Row, settings: Settings = ()) -> PredictedFigures:
    """What was worked out when the row was read."""
    return {"value": row.number("predicted")}


def judge(suite: Suite, claim: Claim, source: str, cells: Sequence[Cell]) -> Verdict:
    """The verdict of `claim` on its cells: medians over systems, shares, ranks, gaps."""
    by_system = _by_system(cells)
    worst = max(cells, key=lambda cell: cell.error(claim.measure))
    strata = tuple(StratumErrors("system", name, errors(own, claim.measure), {"bias": _bias(own)})
                   for name, own in by_system.items())  # fmt: skip
    found = {
        "systems": statistics.median(statistics.median(cell.error("deviation") for cell in own)
                                     for own in by_system.values()),
        "bias": abs(math.expm1(statistics.median(_bias(own) for own in by_system.values()))),
        "within": sum(not _within(cell) for cell in cells) / len(cells),
        "ranking": _disorder(cells), "rounded": max(map(_beyond_rounding, cells)),
        "gaps": float(len({str(cell.row.get("system")) for cell in cells
                           if str(cell.row.get("answer")).startswith("missing")})),
    }  # fmt: skip
    return Verdict(suite.name, claim, source, errors(cells, claim.measure), worst, strata, tuple(cells), figures=found)


def _by_system(cells: Iterable[Cell]) -> Mapping[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(str(cell.row.get("system")), []).append(cell)
    return found


def _bias(cells: Sequence[Cell]) -> float:
    """The median of ln(predicted / measured); 0 where nothing is predicted."""
    return statistics.median([math.log(cell.ratio) for cell in cells if cell.ratio] or [0.0])


def _within(cell: Cell) -> bool:
    return cell.ratio is not None and 1 / FACTOR <= cell.ratio <= FACTOR


def _disorder(cells: Sequence[Cell]) -> float:
    """1 - Spearman's rank correlation, one pair (the medians) for each system and length."""
    groups: dict[tuple[Value, Value], list[Cell]] = {}
    for cell in cells:
        if cell.predicted is not None:
            groups.setdefault((cell.row.get("system"), cell.row.get("seq_len")), []).append(cell)
    ours = [statistics.median(cell.predicted or 0.0 for cell in own) for own in groups.values()]
    theirs = [statistics.median(cell.measured for cell in own) for own in groups.values()]
    if min(len(set(ours)), len(set(theirs))) < 3:
        return 1.0  # too few to rank
    from scipy.stats import spearmanr  # heavy: only where claims are ranked

    return 1 - float(spearmanr(ours, theirs).statistic)


def _beyond_rounding(cell: Cell) -> float:
    """The relative error that last printed digits, of the figure and of its configuration, do not explain."""
    if cell.predicted is None:
        return math.inf
    explained = (cell.row.number("half_width") or 0.0) + (cell.row.number("rounding") or 0.0)
    return max(0.0, cell.difference - explained) / cell.measured
