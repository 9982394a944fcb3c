"""Heads and streams of SpAtten's public RTL against the cycle-level pipeline: one group of rows, one simulation.

A row's low-bit decision and top-k latency are inputs (the RTL decides on random data). All rows of one configuration
run in one simulation, in order: open DRAM rows and score drains carry over to the next. A stream starts with rows open:
its first head takes as long as the same head does behind others, not as the first one of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, groupby

from cascadesim.accelerators.spatten.harness import STORED_BITS, buffer_lines, gathered_keys
from cascadesim.accelerators.spatten.rtl.run import run_heads
from cascadesim.accelerators.spatten.spec import GatherDesign, HeadRow, HeadStream
from cascadesim.validation import table
from cascadesim.validation.claim import (
    Cell,
    Claim,
    PredictedFigures,
    Settings,
    Suite,
    Verdict,
    default_verdict,
    together,
)
from cascadesim.validation.table import Layout, Row, Table, Value, columns_of, count, whole

_PAIRED = ("key_fetch_num", "value_fetch_num", "key_bit", "value_bit")  # equal in both heads of a pair
GAP_CYCLES = 200  # between heads that run alone (own driver around the RTL)
_SIZES = ("multipliers", "buffer_lines", "dram_channels", "fetch_channels", "softmax_lanes", "pad")
SHARED = (
    *columns_of(str, "config"), *columns_of(count, f"{' '.join(_SIZES)} topk_parallelism"), *columns_of(whole, "seed"),
    *columns_of(str, "workload"), *columns_of(whole, "row"), *columns_of(count, " ".join(_PAIRED)),
    *columns_of(whole, "requantized topk_latency"),
)  # fmt: skip
_KEY = ("config", "topk_parallelism", "workload", "row")
HEADS = Layout(
    (*SHARED, *columns_of(count, "latency"), *columns_of(whole, "dram_reads dp_lines"),
     *columns_of(str, "history", required=False),
     *columns_of(whole, "t_report1 t_report2 own_reads own_lines", required=False)),
    _KEY,
)  # fmt: skip
STREAMS = Layout(
    (*SHARED, *columns_of(whole, "t_accept"), *columns_of(count, "t_done dram_reads dp_lines"),
     *columns_of(whole, "t_report1 total total_reads total_lines", required=False)),
    _KEY,
)  # fmt: skip


def parse_heads(text: str, layout: Layout, source: str) -> Table:
    """Rows of one configuration are one group, in order, with those between them that the table leaves out.

    The driver ran the same workloads on every configuration, one after another: a row that one leaves out may stand
    with another, and leaves DRAM rows open and scores to drain for the next one.
    """
    parsed = _checked(table.parse_table(text, layout, source))
    elsewhere = {tuple(row.get(name) for name in ("workload", "topk_parallelism", "row")): row for row in parsed.rows}
    configurations = groupby(parsed.rows, lambda row: row.get("config"))
    return replace(parsed, rows=tuple(one for _, rows in configurations for one in _run(tuple(rows), elsewhere)))


def _run(rows: Sequence[Row], elsewhere: Mapping[tuple[Value, ...], Row]) -> Iterator[Row]:
    """The rows of a configuration as the driver ran them; those that the table has are the members.

    `elsewhere`: (workload, top-k parallelism, number) -> a row of any configuration. A head may fetch low bits in one
    configuration and not in another: what one left behind is known unless it may.
    """
    configuration = {name: rows[0].get(name) for name in ("config", *_SIZES, "seed")}
    undecided = {(key[0], key[2]) for key, row in elsewhere.items() if row.get("requantized")}
    sequence: list[Row] = []
    known: list[bool] = []
    for (workload, parallelism), given in groupby(rows, lambda row: (row.get("workload"), row.get("topk_parallelism"))):
        own = {row.count("row"): row for row in given}
        last, certain = -1, True
        others = {key[2] for key in elsewhere if key[:2] == (workload, parallelism)}
        for number in sorted({*own, *(one for one in others if isinstance(one, int) and one <= max(own))}):
            row = own.get(number) or elsewhere.get((workload, parallelism, number))
            if row is not None:
                known.append(last == number - 1 and certain)
                sequence.append(row if number in own else table.with_cells(row, **configuration))
                last, certain = number, number in own or (workload, number) not in undecided
    listed = {id(row) for row in rows}
    ran = table.members(_with_pairs(sequence, known))
    return (one for one, row in zip(ran, sequence, strict=True) if id(row) in listed)


def _with_pairs(rows: Sequence[Row], known: Sequence[bool]) -> list[Row]:
    """What a head fetched and multiplied; that of both heads of a pair on the first one's row.

    history: whether the head before is there, which leaves DRAM rows open and may still drain its scores.
    """
    is_second = _second(rows)
    reads, lines = (_own(list(accumulate(row.count(name) for row in rows)), is_second)
                    for name in ("dram_reads", "dp_lines"))  # fmt: skip
    found: list[Row] = []
    for place, second in enumerate(is_second):
        history = found[-1].text("history") if second else "yes" if known[place] else "no"
        found.append(table.with_cells(rows[place], own_reads=reads[place], own_lines=lines[place], history=history))
    return found


def parse_streams(text: str, layout: Layout, source: str) -> Table:
    """The last row of a stream also carries its totals."""
    parsed = _checked(table.parse_table(text, layout, source))
    found: list[Row] = []
    for _, stream in groupby(parsed.rows, _stream_of):
        rows = tuple(stream)
        total, reads, lines = (max(row.count(name) for row in rows) for name in ("t_done", "dram_reads", "dp_lines"))
        last = table.with_cells(rows[-1], total=total, total_reads=reads, total_lines=lines)
        found += table.members((*rows[:-1], last))
    return replace(parsed, rows=tuple(found))


def _checked(parsed: Table) -> Table:
    """Raises SpecError with one line for each row that the design cannot take."""
    problems = [f"{row.place}: {problem}" for row in parsed.rows for problem in _problems(row)]
    streams = groupby(parsed.rows, _stream_of)
    table.refuse(problems or [problem for _, rows in streams for problem in _unpaired(list(rows))])
    return parsed


def _problems(row: Row) -> Iterator[str]:
    keys, values = row.count("key_fetch_num"), row.count("value_fetch_num")
    if values > keys:
        yield f"value_fetch_num {values} is above key_fetch_num {keys}"
    for name in ("key_bit", "value_bit"):
        if row.get(name) not in STORED_BITS:
            yield f"{name} {row.get(name)}: the RTL has {', '.join(map(str, STORED_BITS))} bits"
    design = _design(row)
    if not design.vectors_per_line:
        yield f"multipliers {row.get('multipliers')}: fewer than the elements of one key"
        return
    lines = buffer_lines(keys, row.count("key_bit"), design)
    if lines > row.count("buffer_lines"):
        yield f"key_fetch_num {keys} needs {lines} buffer lines, the buffer has {row.count('buffer_lines')}"


def _unpaired(rows: Sequence[Row]) -> Iterator[str]:
    """Heads of 6 bits come in pairs of equal counts."""
    second = _second(rows)
    for place, row in enumerate(rows):
        if second[place] and any(row.get(name) != rows[place - 1].get(name) for name in _PAIRED):
            yield f"{row.place}: the second of two heads of 6 bits has other counts or bits than the first"
        elif not second[place] and _paired(row) and (place + 1 == len(rows) or not second[place + 1]):
            yield f"{row.place}: a head of 6 bits is alone; two heads share a fetch"


def _stream_of(row: Row) -> tuple[object, ...]:
    return tuple(row.get(name) for name in ("config", "topk_parallelism", "workload"))


@together
def heads(rows: Sequence[Row], settings: Settings) -> Sequence[PredictedFigures]:
    found = run_heads(_stream(rows, GAP_CYCLES))
    pairs = _second(rows)
    reads, lines = (_own(list(accumulate(counts.tolist(), max)), pairs)
                    for counts in (found.dram_reads, found.dot_product_lines))  # fmt: skip
    return [
        {
            "latency": int(found.latency[place]), "own_reads": reads[place], "own_lines": lines[place],
            "t_report1": int(found.report[place] - found.accept[place]),
            "t_report2": int(found.second_report[place] - found.accept[place])
            if found.second_report[place] >= 0 else None,
        }
        for place in range(len(rows))
    ]  # fmt: skip


def _second(rows: Sequence[Row]) -> list[bool]:
    """Which heads are the second of a pair."""
    paired = [_paired(row) for row in rows]
    found: list[bool] = []
    for place, each in enumerate(paired):
        found.append(each and place > 0 and paired[place - 1] and not found[-1])
    return found


def _paired(row: Row) -> bool:
    return 6 in (row.get("key_bit"), row.get("value_bit"))


def _own(cumulative: Sequence[int], second: Sequence[bool]) -> list[int]:
    """What each head added; both heads of a pair stand on the first one's row."""
    own = [now - before for now, before in zip(cumulative, [0, *cumulative[:-1]], strict=True)]
    for place, is_second in enumerate(second):
        if is_second:
            own[place - 1], own[place] = own[place - 1] + own[place], 0
    return own


@together
def streams(rows: Sequence[Row], settings: Settings) -> Sequence[PredictedFigures]:
    found = run_heads(replace(_stream(rows, None), rows_open=True))
    return [
        {
            "t_accept": int(found.accept[place]), "t_done": int(found.done[place]), "total": found.cycles,
            "t_report1": int(found.report[place]), "total_reads": int(found.dram_reads.max()),
            "total_lines": int(found.dot_product_lines.max()),
        }
        for place in range(len(rows))
    ]  # fmt: skip


def _stream(rows: Sequence[Row], gap: int | None) -> HeadStream:
    design = _design(rows[0])
    heads = (
        HeadRow(
            number=row.count("row"), keys=row.count("key_fetch_num"), values=row.count("value_fetch_num"),
            key_bits=row.count("key_bit"), value_bits=row.count("value_bit"), low_bits=bool(row.count("requantized")),
            selection_cycles=row.count("topk_latency"),
        )
        for row in rows
    )  # fmt: skip
    stream = HeadStream(design, tuple(heads), gap)
    keys = gathered_keys(stream.longest, design.fetch_channels, design.largest_keys)
    return replace(stream, gathered=keys)


def _design(row: Row) -> GatherDesign:
    return GatherDesign(
        multipliers=row.count("multipliers"), buffer_lines=row.count("buffer_lines"),
        dram_channels=row.count("dram_channels"), fetch_channels=row.count("fetch_channels"),
        softmax_lanes=row.count("softmax_lanes"), count_multiple=row.count("pad"),
    )  # fmt: skip


def judge(slack_cycles: int, suite: Suite, claim: Claim, source: str, cells: Sequence[Cell]) -> Verdict:
    """Gates of these suites: the mean error, and the largest among figures that miss by more than a few cycles."""
    beyond = [cell.error(claim.measure) for cell in cells if cell.difference > slack_cycles]
    worst = max(cells, key=lambda cell: (cell.difference > slack_cycles, cell.error(claim.measure)))
    found = default_verdict(suite, claim, source, cells)
    figures = {"mean": found.errors.mean, "tail": max(beyond, default=0.0), "median": found.errors.median}
    return replace(found, worst=worst, figures=figures)
