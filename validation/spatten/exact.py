"""What is exact in the model of SpAtten: the behavioural simulator, the top-k latency model, the DRAM channel.

Columns as in the published tables; lists of a behavioural run become one row a layer and one for the total. Where the
original is undefined (it reads past the end of a list) the model has to say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import islice
from math import sqrt

from cascadesim.einsum_cascades.notation.errors import SpecError, shortened
from cascadesim.validation.claim import Prediction, Settings
from cascadesim.validation.columns import Column, Layout, count, not_negative
from cascadesim.validation.grouped import Group, Member, grouped, member, members, with_cells
from cascadesim.validation.table import Row, Table, parse_table

MEANS_OF = 200  # calls that a published mean of the latency model averages


def whole(text: str) -> int:
    return 0 if text == "0" else count(text, "a whole number of at least 0")


def whole_list(text: str) -> str:
    """`3;4;-1` or `NA`, checked entry by entry."""
    for entry in text.split(";"):
        if entry != "NA":
            whole(entry.removeprefix("-"))
    return text


BEHAVIOURAL = Layout(
    (
        Column("config_id", whole), Column("kind", str), Column("dram_channels", count), Column("multipliers", count),
        Column("topk_parallelism", count), Column("D", count), Column("L", count),
        *(Column(name, whole_list) for name in (
            "heads_per_layer", "fetch_num_per_layer", "key_bit", "value_bit", "topk_per_layer", "cycles_per_layer",
            "cycles_total",
        )),
        Column("part", str, required=False), *(Column(name, whole, required=False) for name in ("cycles", "undefined")),
    ),
    ("config_id",),
)  # fmt: skip
TOPK = Layout(
    (
        Column("kind", str), Column("order", whole_list), Column("size", count), Column("target", whole),
        Column("parallelism", count), Column("cycles", whole, required=False),
        Column("mean", not_negative, required=False), Column("std", not_negative, required=False),
        Column("within", not_negative, required=False),
    ),
    ("kind", "order", "size", "target", "parallelism"),
)  # fmt: skip
DRAM = Layout(
    (
        Column("pattern", str), Column("n", count), Column("stride", whole), Column("gap", whole),
        Column("cycles", count), Column("first", whole), Column("out_of_order", whole),
    ),
    ("pattern", "n", "stride", "gap"),
)  # fmt: skip


_LONGEST = 18  # digits of a number of cycles: within 64 bits


def parse_behavioural(text: str, layout: Layout, source: str) -> Table:
    table = parse_table(text, layout, source)
    return replace(table, rows=tuple(part for run in table.rows for part in _layers(run)))


def _layers(run: Row) -> Iterator[Member]:
    """One row a layer, one for the total."""
    cycles = (*run.text("cycles_per_layer").split(";"), run.text("cycles_total"))
    columns = ("heads_per_layer", "fetch_num_per_layer", "topk_per_layer")
    if any(len(run.text(column).split(";")) != len(cycles) - 1 for column in columns):
        raise SpecError(f"{run.place}: {', '.join(columns)} and cycles_per_layer must have one entry a layer")
    group = Group((run,))
    for place, found in enumerate(cycles):
        part = "total" if place == len(cycles) - 1 else "layer"
        defined = _defined(run, found)
        cells = with_cells(run, part=part, cycles=defined, undefined=int(defined is None)).cells
        yield Member(cells, run.source, run.line, group, place)


def _defined(run: Row, cycles: str) -> int | None:
    if cycles == "NA":
        return None
    if not (cycles.isascii() and cycles.isdigit() and len(cycles) <= _LONGEST):
        raise SpecError(f"{run.place}: cycles must be whole numbers or NA, got {shortened(cycles)!r}")
    return int(cycles)


def behavioural(row: Row, settings: Settings = ()) -> Prediction:
    found = member(row)
    cycles = _run(found.group)[found.position]
    return {"cycles": cycles, "undefined": int(cycles is None)}


@cache
def _run(group: Group) -> tuple[int | None, ...]:
    """Cycles of each layer, then of all."""
    from cascadesim.accelerators.spatten.behavioural import BehaviouralDesign, Head, layer_cycles, total_cycles

    (run,) = group.rows
    design = BehaviouralDesign(*(run.count(name) for name in ("dram_channels", "multipliers", "topk_parallelism", "D")))
    bits = int(run.text("key_bit")), int(run.text("value_bit"))
    lists = [run.text(name).split(";") for name in ("heads_per_layer", "fetch_num_per_layer", "topk_per_layer")]
    layers = [
        layer_cycles([Head(run.count("L"), int(keys), *bits, None if topk == "-1" else int(topk))] * int(heads), design)
        for heads, keys, topk in zip(*lists, strict=True)
    ]
    return (*(layer.total for layer in layers), total_cycles(layers))


def parse_topk(text: str, layout: Layout, source: str) -> Table:
    """Draws in one group; after the means a row that says which share of them lies where chance puts it."""
    table = grouped(parse_table(text, layout, source), lambda row: row.get("kind"))
    means = [row for row in table.rows if row.get("kind") == "mean"]
    if not means:
        return table
    share = members(means)[0]
    cells = (("kind", "share of means"), ("within", 0.954))  # of a normal distribution, two standard deviations
    return replace(table, rows=(*table.rows, replace(share, cells=cells)))


def topk(row: Row, settings: Settings = ()) -> Prediction:
    found = member(row)
    if row.get("kind") == "draw":
        return {"cycles": _draws(found.group)[found.position]}
    if row.get("kind") == "mean":
        return {"mean": _expected(row)}
    return {"within": _within(found.group)}


@cache
def _draws(group: Group) -> tuple[int, ...]:
    from cascadesim.accelerators.spatten.topk import JavaRandom, drawn_cycles

    draw = JavaRandom(1)
    return tuple(drawn_cycles(row.count("size"), row.count("target"), row.count("parallelism"), draw)
                 for row in group.rows)  # fmt: skip


def _expected(row: Row) -> float:
    from cascadesim.accelerators.spatten.topk import expected_cycles

    return expected_cycles(row.count("size"), row.count("target"), row.count("parallelism"))


def _within(group: Group) -> float:
    """Share of the means that lie within two standard errors of the exact one."""
    near = [
        abs((row.number("mean") or 0) - _expected(row)) <= 2 * (row.number("std") or 0) / sqrt(MEANS_OF) + 0.005
        for row in group.rows
    ]  # fmt: skip  (0.005: printed to two decimals)
    return sum(near) / len(near)


def dram(row: Row, settings: Settings = ()) -> Prediction:
    import numpy as np

    from cascadesim.accelerators.dram.reads import read_stream
    from cascadesim.accelerators.dram.standards import HBM2

    addresses = np.array(list(_addresses(row)), dtype=np.int64)
    found = read_stream(HBM2, addresses, row.count("gap"))
    return {"cycles": found.cycles, "first": found.first_latency_cycles, "out_of_order": found.out_of_order}


def _addresses(row: Row) -> Iterator[int]:
    reads, stride, pattern = row.count("n"), row.count("stride"), row.text("pattern")
    if pattern == "rand":
        yield from (32 * (drawn % (1 << 20)) for drawn in islice(glibc_rand(1), reads))
    elif pattern in ("seq", "burst"):
        yield from (index * stride if pattern == "seq" else index // 2 * stride + index % 2 * 32
                    for index in range(reads))  # fmt: skip
    else:
        raise SpecError(f"no pattern '{pattern}'; known: burst, rand, seq")


def glibc_rand(seed: int) -> Iterator[int]:
    """rand() after srand(seed): an additive feedback generator over 31 words (documented; TYPE_3)."""
    state = [seed]
    for _ in range(30):
        state.append(16807 * state[-1] % 2147483647)
    state = (state * 2)[:34][-31:]
    for index in range(10**9):
        state = [*state[1:], (state[0] + state[28]) & 0xFFFFFFFF]
        if index >= 310:
            yield state[-1] >> 1
