"""Heads and streams of SpAtten's public RTL against the cycle-level pipeline: one group of rows, one simulation.

A row's low-bit decision and top-k latency are inputs (the RTL decides on random data). All rows of one configuration
run in one simulation, in order: open DRAM rows and score drains carry over to the next. A stream starts with rows open:
its first head takes as long as the same head does behind others, not as the first one of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import accumulate, groupby
from statistics import fmean, median

from cascadesim.accelerators.spatten.harness import STORED_BITS, buffer_lines
from cascadesim.accelerators.spatten.spec import GatherDesign, HeadRow, HeadStream
from cascadesim.einsum_cascades.notation.errors import SpecError
from cascadesim.validation.claim import Claim, Prediction, Settings, Suite
from cascadesim.validation.columns import Column, Layout, Value, count
from cascadesim.validation.compare import Cell, Stratum, Verdict, errors
from cascadesim.validation.grouped import Group, grouped, member, members, members_among, with_cells
from cascadesim.validation.spatten.exact import whole
from cascadesim.validation.table import Row, Table, parse_table

_PAIRED = ("key_fetch_num", "value_fetch_num", "key_bit", "value_bit")  # equal in both heads of a pair
GAP_CYCLES = 200  # between heads that run alone (own driver around the RTL)
_SIZES = ("multipliers", "buffer_lines", "dram_channels", "fetch_channels", "softmax_lanes", "pad")
SHARED = (
    Column("config", str), *(Column(name, count) for name in (*_SIZES, "topk_parallelism")),
    Column("seed", whole), Column("workload", str), Column("row", whole), Column("key_fetch_num", count),
    Column("value_fetch_num", count), Column("key_bit", count), Column("value_bit", count),
    Column("requantized", whole), Column("topk_latency", whole),
)  # fmt: skip
_KEY = ("config", "topk_parallelism", "workload", "row")
HEADS = Layout(
    (*SHARED, Column("latency", count), Column("dram_reads", whole), Column("dp_lines", whole),
     Column("history", str, required=False),
     *(Column(name, whole, required=False) for name in ("t_report1", "t_report2", "own_reads", "own_lines"))),
    _KEY,
)  # fmt: skip
STREAMS = Layout(
    (*SHARED, Column("t_accept", whole), Column("t_done", count), Column("dram_reads", count),
     Column("dp_lines", count),
     *(Column(name, whole, required=False) for name in ("t_report1", "total", "total_reads", "total_lines"))),
    _KEY,
)  # fmt: skip


def parse_heads(text: str, layout: Layout, source: str) -> Table:
    """Rows of one configuration are one group, in order, with those between them that the table leaves out.

    The driver ran the same workloads on every configuration, one after another: a row that one leaves out may stand
    with another, and leaves DRAM rows open and scores to drain for the next one.
    """
    table = grouped(_checked(parse_table(text, layout, source)), lambda row: row.get("config"))
    elsewhere = _elsewhere(table.rows)
    rows = [one for _, run in _groups(table) for one in _run(run, elsewhere)]
    return replace(table, rows=tuple(rows))


def _elsewhere(rows: Sequence[Row]) -> Mapping[tuple[object, ...], Row]:
    """(workload, top-k parallelism, number) -> a row of any configuration."""
    return {tuple(row.get(name) for name in ("workload", "topk_parallelism", "row")): row for row in rows}


def _run(rows: Sequence[Row], elsewhere: Mapping[tuple[object, ...], Row]) -> Iterator[Row]:
    """The rows of a configuration as the driver ran them; those that the table has are the members.

    A head may fetch low bits in one configuration and not in another: what one left behind is known unless it may.
    """
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
                sequence.append(row if number in own else with_cells(row, **_sizes(rows[0])))
                last, certain = number, number in own or (workload, number) not in undecided
    listed = {id(row) for row in rows}
    return iter(members_among(_with_pairs(sequence, known), [id(row) in listed for row in sequence]))


def _sizes(row: Row) -> dict[str, Value]:
    """Columns that belong to the configuration."""
    return {name: row.get(name) for name in ("config", *_SIZES, "seed")}


def _with_pairs(rows: Sequence[Row], known: Sequence[bool]) -> list[Row]:
    """What a head fetched and multiplied; that of both heads of a pair on the first one's row.

    history: whether the head before is there, which leaves DRAM rows open and may still drain its scores.
    """
    cumulative = [list(accumulate(row.count(name) for row in rows)) for name in ("dram_reads", "dp_lines")]
    reads, lines = (_own(counts, _second(rows)) for counts in cumulative)
    found: list[Row] = []
    for place, second in enumerate(_second(rows)):
        history = found[-1].text("history") if second else "yes" if known[place] else "no"
        found.append(with_cells(rows[place], own_reads=reads[place], own_lines=lines[place], history=history))
    return found


def parse_streams(text: str, layout: Layout, source: str) -> Table:
    """The last row of a stream also carries its totals."""
    table = _checked(parse_table(text, layout, source))
    found: list[Row] = []
    for _, rows in _groups(grouped(table, _stream_of)):
        total = max(row.count("t_done") for row in rows)
        reads, lines = (max(row.count(name) for row in rows) for name in ("dram_reads", "dp_lines"))
        last = with_cells(rows[-1], total=total, total_reads=reads, total_lines=lines)
        found += members((*rows[:-1], last))
    return replace(table, rows=tuple(found))


def _checked(table: Table) -> Table:
    """Raises SpecError with one line for each row that the design cannot take."""
    problems = [f"{row.place}: {problem}" for row in table.rows for problem in _problems(row)]
    streams = groupby(table.rows, _stream_of)
    problems = problems or [problem for _, rows in streams for problem in _unpaired(list(rows))]
    if problems:
        raise SpecError("\n".join(problems))
    return table


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


def _groups(table: Table) -> Iterator[tuple[Group, tuple[Row, ...]]]:
    for group in dict.fromkeys(member(row).group for row in table.rows):
        yield group, group.rows


def heads(row: Row, settings: Settings = ()) -> Prediction:
    found = member(row)
    return _alone(found.group)[found.position]


@cache
def _alone(group: Group) -> tuple[Prediction, ...]:
    from cascadesim.accelerators.spatten.rtl.run import run_heads

    found = run_heads(_stream(group.rows, GAP_CYCLES))
    pairs = _second(group.rows)
    reads, lines = (_own(list(accumulate(counts.tolist(), max)), pairs)
                    for counts in (found.dram_reads, found.dot_product_lines))  # fmt: skip
    return tuple(
        {
            "latency": int(found.latency[place]), "own_reads": reads[place], "own_lines": lines[place],
            "t_report1": int(found.report[place] - found.accept[place]),
            "t_report2": int(found.second_report[place] - found.accept[place])
            if found.second_report[place] >= 0 else None,
        }
        for place in range(len(group.rows))
    )  # fmt: skip


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


def streams(row: Row, settings: Settings = ()) -> Prediction:
    found = member(row)
    return _together(found.group)[found.position]


@cache
def _together(group: Group) -> tuple[Prediction, ...]:
    from cascadesim.accelerators.spatten.rtl.run import run_heads

    found = run_heads(replace(_stream(group.rows, None), rows_open=True))
    return tuple(
        {
            "t_accept": int(found.accept[place]), "t_done": int(found.done[place]), "total": found.cycles,
            "t_report1": int(found.report[place]), "total_reads": int(found.dram_reads.max()),
            "total_lines": int(found.dot_product_lines.max()),
        }
        for place in range(len(group.rows))
    )  # fmt: skip


def _stream(rows: Sequence[Row], gap: int | None) -> HeadStream:
    from cascadesim.accelerators.spatten.harness import gathered_keys

    design = _design(rows[0])
    stream = HeadStream(design, tuple(_head(row) for row in rows), gap)
    keys = gathered_keys(stream.longest, design.fetch_channels, design.largest_keys)
    return replace(stream, gathered=keys)


def _design(row: Row) -> GatherDesign:
    return GatherDesign(
        multipliers=row.count("multipliers"), buffer_lines=row.count("buffer_lines"),
        dram_channels=row.count("dram_channels"), fetch_channels=row.count("fetch_channels"),
        softmax_lanes=row.count("softmax_lanes"), count_multiple=row.count("pad"),
    )  # fmt: skip


def _head(row: Row) -> HeadRow:
    return HeadRow(
        number=row.count("row"), keys=row.count("key_fetch_num"), values=row.count("value_fetch_num"),
        key_bits=row.count("key_bit"), value_bits=row.count("value_bit"), low_bits=bool(row.count("requantized")),
        selection_cycles=row.count("topk_latency"),
    )  # fmt: skip


def judge(slack_cycles: int, suite: Suite, claim: Claim, source: str, cells: Sequence[Cell]) -> Verdict:
    """Gates of these suites: the mean error, and the largest among figures that miss by more than a few cycles."""
    strata = tuple(
        Stratum(column, value, errors(chosen, claim.measure))
        for column in suite.strata
        for value in dict.fromkeys(cell.row.get(column) for cell in cells)
        if (chosen := [cell for cell in cells if cell.row.get(column) == value])
    )
    found = [cell.error(claim.measure) for cell in cells]
    beyond = [error for cell, error in zip(cells, found, strict=True) if cell.difference > slack_cycles]
    figures: dict[str, float | None] = {"mean": fmean(found), "tail": max(beyond, default=0.0), "median": median(found)}
    worst = max(cells, key=lambda cell: (cell.difference > slack_cycles, cell.error(claim.measure)))
    return Verdict(suite.name, claim, source, errors(cells, claim.measure), worst, strata, tuple(cells), (), figures)


def judge_with(slack_cycles: int) -> Callable[[Suite, Claim, str, Sequence[Cell]], Verdict]:
    return partial(judge, slack_cycles)
