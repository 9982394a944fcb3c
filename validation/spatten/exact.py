"""What is exact in the model of SpAtten: the behavioural simulator, the top-k latency model, the DRAM channel.

Columns as in the published tables; lists of a behavioural run become one row a layer and one for the total. Where the
original is undefined (it reads past the end of a list) the model has to say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from math import sqrt

import numpy as np

from cascadesim.accelerators.dram.delivery import read_stream
from cascadesim.accelerators.dram.standards import HBM2
from cascadesim.accelerators.spatten.behavioural import BehaviouralDesign, Head, layer_cycles, total_cycles
from cascadesim.accelerators.spatten.topk import JavaRandom, drawn_cycles, expected_cycles
from cascadesim.einsum_cascades.notation.errors import SpecError, shortened
from cascadesim.validation import table
from cascadesim.validation.claim import PredictedFigures, Settings, together
from cascadesim.validation.table import Layout, Member, Row, RowGroup, Table, columns_of, count, not_negative, whole

MEANS_OF = 200  # calls that a published mean of the latency model averages


def whole_list(text: str) -> str:
    """`3;4;-1` or `NA`, checked entry by entry."""
    for entry in text.split(";"):
        if entry != "NA":
            whole(entry.removeprefix("-"))
    return text


BEHAVIOURAL = Layout(
    (
        *columns_of(whole, "config_id"), *columns_of(str, "kind"),
        *columns_of(count, "dram_channels multipliers topk_parallelism D L"),
        *columns_of(whole_list, "heads_per_layer fetch_num_per_layer key_bit value_bit topk_per_layer cycles_per_layer "
                                "cycles_total"),
        *columns_of(str, "part", required=False), *columns_of(whole, "cycles undefined", required=False),
    ),
    ("config_id",),
)  # fmt: skip
TOPK = Layout(
    (*columns_of(str, "kind"), *columns_of(whole_list, "order"), *columns_of(count, "size"),
     *columns_of(whole, "target"), *columns_of(count, "parallelism"), *columns_of(whole, "cycles", required=False),
     *columns_of(not_negative, "mean std within", required=False)),
    ("kind", "order", "size", "target", "parallelism"),
)  # fmt: skip
DRAM = Layout(
    (*columns_of(str, "pattern"), *columns_of(count, "n"), *columns_of(whole, "stride gap"),
     *columns_of(count, "cycles"), *columns_of(whole, "first out_of_order")),
    ("pattern", "n", "stride", "gap"),
)  # fmt: skip


_LONGEST = 18  # digits of a number of cycles: within 64 bits
_PER_LAYER = ("heads_per_layer", "fetch_num_per_layer", "topk_per_layer")  # lists of a behavioural run


def parse_behavioural(text: str, layout: Layout, source: str) -> Table:
    parsed = table.parse_table(text, layout, source)
    return replace(parsed, rows=tuple(part for run in parsed.rows for part in _layers(run)))


def _layers(run: Row) -> Iterator[Member]:
    """One row a layer, one for the total."""
    cycles = (*run.text("cycles_per_layer").split(";"), run.text("cycles_total"))
    if any(len(run.text(column).split(";")) != len(cycles) - 1 for column in _PER_LAYER):
        raise SpecError(f"{run.place}: {', '.join(_PER_LAYER)} and cycles_per_layer must have one entry a layer")
    group = RowGroup((run,))
    for place, found in enumerate(cycles):
        if found != "NA" and not (found.isascii() and found.isdigit() and len(found) <= _LONGEST):
            raise SpecError(f"{run.place}: cycles must be whole numbers or NA, got {shortened(found)!r}")
        part = "total" if place == len(cycles) - 1 else "layer"
        defined = None if found == "NA" else int(found)
        cells = table.with_cells(run, part=part, cycles=defined, undefined=int(defined is None)).cells
        yield Member(cells, run.source, run.line, group, place)


@together
def behavioural(rows: Sequence[Row], settings: Settings) -> Sequence[PredictedFigures]:
    """Cycles of each layer, then of all; None where the original is undefined."""
    (run,) = rows
    design = BehaviouralDesign(*(run.count(name) for name in ("dram_channels", "multipliers", "topk_parallelism", "D")))
    bits = int(run.text("key_bit")), int(run.text("value_bit"))
    lists = [run.text(name).split(";") for name in _PER_LAYER]
    layers = [
        layer_cycles([Head(run.count("L"), int(keys), *bits, None if topk == "-1" else int(topk))] * int(heads), design)
        for heads, keys, topk in zip(*lists, strict=True)
    ]
    found = (*(layer.total for layer in layers), total_cycles(layers))
    return [{"cycles": cycles, "undefined": int(cycles is None)} for cycles in found]


def parse_topk(text: str, layout: Layout, source: str) -> Table:
    """Draws in one group; after the means a row that says which share of them lies where chance puts it."""
    parsed = table.grouped(table.parse_table(text, layout, source), lambda row: row.get("kind"))
    means = [row for row in parsed.rows if row.get("kind") == "mean"]
    if not means:
        return parsed
    share = table.members(means)[0]
    cells = (("kind", "share of means"), ("within", 0.954))  # of a normal distribution, two standard deviations
    return replace(parsed, rows=(*parsed.rows, replace(share, cells=cells)))


def topk(row: Row, settings: Settings = ()) -> PredictedFigures:
    """Cycles of a draw, the exact mean, or the share of the means that lie within two standard errors of it."""
    found = table.member(row)
    if row.get("kind") == "draw":
        return {"cycles": _draws(found.group)[found.position]}
    if row.get("kind") == "mean":
        return {"mean": _expected(row)}
    near = [
        abs((one.number("mean") or 0) - _expected(one)) <= 2 * (one.number("std") or 0) / sqrt(MEANS_OF) + 0.005
        for one in found.group.rows
    ]  # fmt: skip  (0.005: printed to two decimals)
    return {"within": sum(near) / len(near)}


@cache
def _draws(group: RowGroup) -> tuple[int, ...]:
    draw = JavaRandom(1)
    return tuple(drawn_cycles(row.count("size"), row.count("target"), row.count("parallelism"), draw)
                 for row in group.rows)  # fmt: skip


def _expected(row: Row) -> float:
    return expected_cycles(row.count("size"), row.count("target"), row.count("parallelism"))


def dram(row: Row, settings: Settings = ()) -> PredictedFigures:
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
