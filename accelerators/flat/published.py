"""The dataflows that FLAT's own search published, and how the search here compares with them.

Data in `published_dataflows.csv`. The artifact accounting takes a published dataflow where there is one; the physical
accounting never does.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TypeAlias, cast

from cascadesim.accelerators.flat.dataflow import Dataflow
from cascadesim.accelerators.flat.nests import Case
from cascadesim.accelerators.flat.roles import Roles
from cascadesim.accelerators.flat.search import Chosen, evaluate, search
from cascadesim.accelerators.flat.spec import FlatArray, Granularity, Pins, Stationarity
from cascadesim.accelerators.fusemax.mapping import AttentionShape

Key: TypeAlias = tuple[int, int, int, int]  # array side, buffer bytes, head size, length


@dataclass(frozen=True, slots=True)
class Published:
    """A published choice and the share of what it keeps that does not fit."""

    dataflow: Dataflow
    spilled_share: float


@cache
def published_dataflows() -> Mapping[Key, Published]:
    text = files("cascadesim.accelerators.flat").joinpath("published_dataflows.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {_key(row): _published(row) for row in rows}


def _key(row: Mapping[str, str]) -> Key:
    return int(row["array_side"]), int(row["buffer_bytes"]), int(row["head_size"]), int(row["length"])


def _published(row: Mapping[str, str]) -> Published:
    dataflow = Dataflow(
        frozenset(row["on_chip"].split()),
        cast(Stationarity, row["qk_stationarity"]),
        cast(Stationarity, row["av_stationarity"]),
        cast(Granularity, row["granularity"]),
        int(row["rows"]),
    )
    return Published(dataflow, float(row["spilled_share"]))


def published_dataflow(case: Case) -> Dataflow | None:
    """The published choice for these very sizes, if there is one (the batch and the number of heads do not matter)."""
    array, shape = case.spec.pe_array, case.shape
    square = array.rows == array.columns and shape.query_depth == shape.value_depth and shape.queries == shape.keys
    key = (array.rows, case.spec.global_buffer.capacity_bytes, shape.query_depth, shape.keys)
    found = published_dataflows().get(key) if square and shape.group == 1 and case.full else None
    return found.dataflow if found else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One published row against the search, for one head, under the same model (physical accounting)."""

    array_side: int
    head_size: int
    length: int
    published: Dataflow
    published_cycles: float
    published_dram_bytes: float
    searched: Dataflow
    searched_cycles: float
    searched_dram_bytes: float

    @property
    def verdict(self) -> str:
        """faster | equally fast, less traffic | equal | worse."""
        if self.searched_cycles < self.published_cycles * (1 - 1e-12):
            return "faster"
        if self.searched_cycles > self.published_cycles * (1 + 1e-12):
            return "worse"
        return "equally fast, less traffic" if self.searched_dram_bytes < self.published_dram_bytes else "equal"


def compare_with_published(spec: FlatArray, roles: Roles) -> tuple[Comparison, ...]:
    """Every published row of this array and buffer, in order of head size and length."""
    size = (spec.pe_array.rows, spec.global_buffer.capacity_bytes)
    return tuple(
        _compare(Case(AttentionShape(1, length, length, head_size, head_size), spec), roles, choice.dataflow)
        for (side, capacity, head_size, length), choice in published_dataflows().items()
        if (side, capacity) == size
    )


def _compare(case: Case, roles: Roles, dataflow: Dataflow) -> Comparison:
    published, found = evaluate(case, roles, dataflow), search(case, roles, Pins())
    return Comparison(
        case.spec.pe_array.rows, case.shape.query_depth, case.shape.keys,
        published.dataflow, *_latency_and_traffic(published), found.dataflow, *_latency_and_traffic(found),
    )  # fmt: skip


def _latency_and_traffic(chosen: Chosen) -> tuple[float, float]:
    spec, costs = chosen.case.spec, chosen.costs
    return float(costs.bound_cycles(spec)[0]), float(costs.dram_words[0]) * spec.word_bytes
