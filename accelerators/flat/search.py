"""FLAT's choice of a dataflow: the least latency, then the least traffic, then the least energy.

Locations, stationarities, granularity and rows, all at once per block size; pins take choices away. The dataflows
that FLAT's own search published are in `published_dataflows.csv`: the artifact accounting takes one where there is
one, the physical accounting never does. FLAT (ASPLOS'23), section 5; the objective is ours.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from itertools import product
from typing import TypeAlias, cast

import numpy as np

from cascadesim.accelerators.binding import AttentionBinding
from cascadesim.accelerators.flat.fused import Blockings, Choices, Costs
from cascadesim.accelerators.flat.geometry import FlatCase
from cascadesim.accelerators.flat.spec import STATIONARITIES, TENSORS, Dataflow, Granularity, Pins, Stationarity
from cascadesim.accelerators.flat.traffic import contraction_cycles, vector_cycles
from cascadesim.accelerators.spatial.blocking import coarse_sizes, tile_sizes
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

PublishedSizes: TypeAlias = tuple[int, int, int, int]  # array side, buffer bytes, head size, length

_ROUNDING = 1e-12  # relative, of sums of floats: below it two dataflows are equally fast
_ROOMY = 8  # times the tiles on their way: from there on rows and columns do not compete for the buffer


@dataclass(frozen=True)
class Chosen:
    """A dataflow and what it costs (arrays of one row)."""

    dataflow: Dataflow
    blocks: Blockings
    costs: Costs

    @property
    def case(self) -> FlatCase:
        return self.blocks.case

    @property
    def tiles(self) -> int:
        """Query tiles of a block."""
        return self.blocks.sizes[0]


@cache
def published_dataflows() -> Mapping[PublishedSizes, tuple[Dataflow, float]]:
    """Read each published dataflow, and the share of what it keeps that does not fit."""
    text = files("cascadesim.accelerators.flat").joinpath("published_dataflows.csv").read_text(encoding="utf-8")
    found = {}
    for row in csv.DictReader(line for line in text.splitlines() if not line.startswith("#")):
        dataflow = Dataflow(
            frozenset(row["on_chip"].split()), cast(Stationarity, row["qk_stationarity"]),
            cast(Stationarity, row["av_stationarity"]), cast(Granularity, row["granularity"]), int(row["rows"]),
        )  # fmt: skip
        sizes = int(row["array_side"]), int(row["buffer_bytes"]), int(row["head_size"]), int(row["length"])
        found[sizes] = dataflow, float(row["spilled_share"])
    return found


def published_dataflow(case: FlatCase) -> Dataflow | None:
    """Find the published choice for these very sizes, if there is one (batch and number of heads do not matter)."""
    array, shape = case.spec.pe_array, case.shape
    square = array.rows == array.columns and shape.query_depth == shape.value_depth and shape.queries == shape.keys
    sizes = (array.rows, case.spec.global_buffer.capacity_bytes, shape.query_depth, shape.keys)
    if not square or shape.group > 1 or not case.full or sizes not in published_dataflows():
        return None
    return published_dataflows()[sizes][0]


def evaluate(case: FlatCase, binding: AttentionBinding, dataflow: Dataflow, spilled: float | None = None) -> Chosen:
    """Cost a given dataflow; `spilled` is its published share instead of the one the capacity implies.

    Raises CascadeSimError where its rows fill no tiles.
    """
    tiles = case.query_tiles if dataflow.granularity == "head" else _tiles(case, dataflow.rows)
    blocks = Blockings(case, binding, (tiles,))
    share = None if spilled is None else np.array([spilled])
    return Chosen(dataflow, blocks, blocks.costs(Choices.of(dataflow), share))


@lru_cache(maxsize=256)
def search(case: FlatCase, binding: AttentionBinding, pins: Pins) -> Chosen:
    """Find the best dataflow on the largest tiles, and on smaller ones (rows idle) where these could be faster.

    Raises CascadeSimError if no dataflow satisfies the pins, or if not even what is on its way fits.
    """
    parts, least = [case], 0.0
    if not case.exact and pins.rows is None:
        array = case.spec.pe_array  # as much of it as there is work for
        rows = tile_sizes(array.rows, max(case.queries, case.shape.keys))[0]
        largest = replace(case, tile=rows, columns=tile_sizes(array.columns, max(map(case.extent, "mef")))[0])
        parts, least = [largest, *_smaller(largest, binding, pins)], _least_cycles(largest, binding)
    best: tuple[float, FlatCase, Dataflow] | None = None
    for part in parts:
        macs = part.shape.instances * part.shape.pairs * (part.shape.query_depth + part.shape.value_depth)
        fewest = max(least, macs / (part.rows_used * part.columns_used))
        if best is not None and best[0] <= fewest * (1 + _ROUNDING):
            continue  # whatever it does, it is not faster
        found = _search(part, binding, pins)
        if found is not None and (best is None or found[0] < best[0] * (1 - _ROUNDING)):
            best = found[0], part, found[1]
    if best is None:
        pinned = "" if pins.empty else " with the dataflow pinned as it is"
        raise CascadeSimError(
            f"global_buffer.capacity_bytes: {case.spec.global_buffer.capacity_bytes} bytes do not hold two tiles of "
            f"each tensor on its way to the {case.spec.pe_array.rows} x {case.spec.pe_array.columns} array{pinned} or "
            "to a part of it; give more"
        )
    return evaluate(best[1], binding, best[2])


def _smaller(largest: FlatCase, binding: AttentionBinding, pins: Pins) -> list[FlatCase]:
    """Use fewer rows, or fewer columns; fewer of both where tiles on their way are no small part of the buffer."""
    rows = {*coarse_sizes(largest.rows_used, max(largest.queries, largest.shape.keys))}
    rows |= {*coarse_sizes(largest.rows_used, largest.queries), largest.rows_used}
    columns = {*coarse_sizes(largest.columns_used, max(largest.extent(rank) for rank in "mef")), largest.columns_used}
    staged = Blockings(largest, binding, (1,)).least_words(_choices(pins, 1)).min()
    tight = staged > largest.spec.buffer_words / _ROOMY
    return [
        replace(largest, tile=tile, columns=used)
        for tile, used in sorted(product(rows, columns), reverse=True)
        if tight or tile == largest.rows_used or used == largest.columns_used
    ]


def _least_cycles(case: FlatCase, binding: AttentionBinding) -> float:
    """No tiles take fewer: the 1D array, every operand once, and, where nothing is masked, the largest tiles."""
    shape, spec = case.shape, case.spec
    keys = case.tiles(1).combinations[0][2]
    words = shape.instances * (case.queries + keys) * (shape.query_depth + shape.value_depth)
    least = words * spec.word_bytes / spec.dram_bytes_per_cycle
    least = max(sum(vector_cycles(case, einsum) for einsum in binding.on_1d), least)
    if not case.full:
        return least
    contractions = (contraction_cycles(case, binding, einsum, (1,)) for einsum in (binding.scores, binding.output))
    return max(least, sum(float(cycles.min()) for cycles in contractions))


def _search(case: FlatCase, binding: AttentionBinding, pins: Pins) -> tuple[float, Dataflow] | None:
    """Find the fewest cycles on tiles of one size, and their dataflow; None where not even tiles on their way fit."""
    blocks = Blockings(case, binding, tuple(_sizes(case, pins)))
    choices = _choices(pins, len(blocks.sizes))
    fits = np.flatnonzero(blocks.least_words(choices) <= case.spec.buffer_words)
    if not len(fits):
        return None
    costs = blocks.costs(choices)
    objectives = (costs.bound_cycles(case.spec), costs.dram_words, costs.movement_energy_j(case.spec))
    best = int(fits[np.lexsort([objective[fits] for objective in reversed(objectives)])[0]])
    size = blocks.sizes[choices.size[best]]
    return float(objectives[0][best]), Dataflow(
        frozenset(tensor for tensor in TENSORS if choices.kept(tensor)[best]), STATIONARITIES[choices.qk[best]],
        STATIONARITIES[choices.av[best]], "head" if size >= case.query_tiles else "row", case.rows(size),
    )  # fmt: skip


@lru_cache(maxsize=64)
def _choices(pins: Pins, sizes: int) -> Choices:
    """Combine everything that the pins leave open."""
    locations = [getattr(pins.location, tensor) for tensor in TENSORS]
    on_chip = product(*((False, True) if place is None else (place == "on_chip",) for place in locations))
    qk, av = (
        range(len(STATIONARITIES)) if pinned is None else (STATIONARITIES.index(pinned),)
        for pinned in (pins.qk_stationarity, pins.av_stationarity)
    )
    size, kept, qk_index, av_index = zip(*product(range(sizes), on_chip, qk, av), strict=True)
    return Choices(np.array(size), np.array(kept, dtype=np.bool_), np.array(qk_index), np.array(av_index))


def _sizes(case: FlatCase, pins: Pins) -> Iterator[int]:
    """Yield sizes of a block in query tiles: powers of two, or a whole head.

    Raises CascadeSimError for pins that contradict each other.
    """
    if pins.granularity == "head" and pins.rows is not None:
        raise CascadeSimError("dataflow: granularity head works on all rows of a head; leave out dataflow.rows")
    if pins.rows is not None:
        yield _tiles(case, pins.rows)
        return
    tiles = 1
    while tiles < case.query_tiles and pins.granularity != "head":
        yield tiles
        tiles *= 2
    if pins.granularity != "row" or case.query_tiles == 1:
        yield case.query_tiles


def _tiles(case: FlatCase, rows: int) -> int:
    """Count the query tiles of a block of `rows` query rows. Raises CascadeSimError where they fill no tiles."""
    if rows >= case.queries:
        return case.query_tiles
    if rows % case.rows_used:
        raise CascadeSimError(
            f"dataflow.rows: {rows} query rows do not fill tiles of {case.rows_used} (pe_array.rows); "
            f"give a multiple of it, or at least the {case.queries} rows there are"
        )
    return rows // case.rows_used
