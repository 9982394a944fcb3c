"""FLAT's choice of a dataflow: the least latency, then the least traffic, then the least energy.

Locations, stationarities, granularity and rows, all at once per block size; pins take choices away. The dataflows
that FLAT's own search published are in `published_dataflows.csv`: the artifact accounting takes one where there is
one, the physical accounting never does. FLAT (ASPLOS'23), section 5; the objective is ours.
"""

from __future__ import annotations

import csv
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from heapq import heappop, heappush
from importlib.resources import files
from itertools import product
from typing import TypeAlias, cast

import numpy as np

from cascadesim.accelerators.binding import AttentionBinding
from cascadesim.accelerators.flat.fused import Blockings, Choices, Costs
from cascadesim.accelerators.flat.geometry import FlatCase
from cascadesim.accelerators.flat.spec import STATIONARITIES, TENSORS, Dataflow, Granularity, Pins, Stationarity
from cascadesim.accelerators.flat.traffic import contraction_cycles, vector_cycles
from cascadesim.accelerators.spatial.attention_tiles import coarse_sizes, tile_sizes
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

PublishedSizes: TypeAlias = tuple[int, int, int, int]  # array side, buffer bytes, head size, length
Sizes: TypeAlias = tuple[int, ...]

_FINE = 32  # sizes of tiles up to it are all tried, and 16 to the octave above: what lies between wastes a 17th at most
_ROUNDING = 1e-12  # relative, of sums of floats: below it two dataflows are equally fast


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


@dataclass(frozen=True)
class Fastest:
    """The fewest cycles, on which part of the array and how."""

    cycles: float
    case: FlatCase
    dataflow: Dataflow


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
    """Find the best dataflow on the largest tiles, and on smaller ones (rows idle) where these are faster.

    Raises CascadeSimError if no dataflow satisfies the pins, or if not even what is on its way fits.
    """
    if case.exact or pins.rows is not None:
        best = _better(None, case, binding, pins)
    else:
        best = _on_all_tiles(case, binding, pins)
    if best is None:
        pinned = "" if pins.empty else " with the dataflow pinned as it is"
        raise CascadeSimError(
            f"global_buffer.capacity_bytes: {case.spec.global_buffer.capacity_bytes} bytes do not hold two tiles of "
            f"each tensor on its way to the {case.spec.pe_array.rows} x {case.spec.pe_array.columns} array{pinned} or "
            "to a part of it; give more"
        )
    return evaluate(best.case, binding, best.dataflow)


@dataclass(frozen=True, order=True)
class TileRange:
    """Tiles of `top` to `bottom` of `rows`, by `left` to `right` of `columns`: places in lists of rising sizes."""

    rows: Sizes
    columns: Sizes
    top: int
    bottom: int
    left: int
    right: int

    @property
    def smallest(self) -> tuple[int, int]:
        return self.rows[self.top], self.columns[self.left]

    @property
    def largest(self) -> tuple[int, int]:
        return self.rows[self.bottom], self.columns[self.right]

    @property
    def order(self) -> tuple[int, int, int]:
        """What is looked at first where bounds are equal: few sizes, large ones."""
        return (self.bottom - self.top + 1) * (self.right - self.left + 1), -self.bottom, -self.right

    def using(self, elements: float) -> TileRange | None:
        """Leave out sizes that have fewer than so many elements with any of the others; None where all have."""
        rows, columns = self.largest
        top = max(self.top, bisect_left(self.rows, elements / columns))
        left = max(self.left, bisect_left(self.columns, elements / rows))
        return None if top > self.bottom or left > self.right else replace(self, top=top, left=left)

    def halves(self) -> tuple[TileRange, TileRange]:
        """Split the sizes that are further apart, at their geometric mean."""
        (fewest, narrowest), (most, widest) = self.smallest, self.largest
        if most * narrowest >= widest * fewest:
            middle = bisect_right(self.rows, (fewest * most) ** 0.5, self.top + 1, self.bottom)
            return replace(self, top=middle), replace(self, bottom=middle - 1)
        middle = bisect_right(self.columns, (narrowest * widest) ** 0.5, self.left + 1, self.right)
        return replace(self, left=middle), replace(self, right=middle - 1)


def _on_all_tiles(case: FlatCase, binding: AttentionBinding, pins: Pins) -> Fastest | None:
    """Branch and bound: a few sizes first, then halves of the sizes of whatever could be faster.

    The sizes do not depend on the array, so a larger one can do what a smaller one does.
    """
    array, extents = case.spec.pe_array, tuple(case.extent(rank) for rank in "mef")
    rows = _sizes_of(array.rows, case.queries, case.shape.queries, case.shape.keys)
    columns = _sizes_of(array.columns, *extents)
    case = replace(case, tile=rows[-1], columns=columns[-1])
    macs = case.shape.instances * case.shape.pairs * (case.shape.query_depth + case.shape.value_depth)
    least, best = _least_cycles(case, binding), _better(None, case, binding, pins)
    few = {*coarse_sizes(rows[-1], max(case.queries, case.shape.keys)), *coarse_sizes(rows[-1], case.queries)}
    for used in [*((rows[-1], size) for size in coarse_sizes(columns[-1], max(extents))),
                 *((size, columns[-1]) for size in sorted(few, reverse=True))]:  # fmt: skip
        if best is None or max(least, macs / (used[0] * used[1])) < best.cycles * (1 - _ROUNDING):
            best = _better(best, replace(case, tile=used[0], columns=used[1]), binding, pins)
    waiting = [(least, (0, 0, 0), TileRange(rows, columns, 0, len(rows) - 1, 0, len(columns) - 1))]
    while waiting and (best is None or waiting[0][0] < best.cycles * (1 - _ROUNDING)):
        tiles = heappop(waiting)[2]
        if tiles.smallest == tiles.largest:
            best = _better(best, replace(case, tile=tiles.largest[0], columns=tiles.largest[1]), binding, pins)
            continue
        elements = 0.0 if best is None else macs / best.cycles
        for half in (half for part in tiles.halves() if (half := part.using(elements)) is not None):
            fewest = max(least, fewest_cycles(half, case, binding, pins))
            if fewest < float("inf"):
                heappush(waiting, (fewest, half.order, half))
    return best


def _sizes_of(side: int, *extents: int) -> Sizes:
    return tuple(sorted({size for extent in extents for size in tile_sizes(side, extent, _FINE)}))


def _better(best: Fastest | None, case: FlatCase, binding: AttentionBinding, pins: Pins) -> Fastest | None:
    """The best dataflow of `case` where it is faster than `best`, else that."""
    found = best_on(case, binding, pins)
    faster = found is not None and (best is None or found.cycles < best.cycles * (1 - _ROUNDING))
    return found if faster else best


def fewest_cycles(tiles: TileRange, case: FlatCase, binding: AttentionBinding, pins: Pins) -> float:
    """Count cycles that none of the tiles undercuts: those of the largest in the room of the smallest.

    Infinite where not even the smallest fit.
    """
    few, many = (
        replace(case, tile=rows, columns=columns, bound=() if case.full else tiles.rows[tiles.top : tiles.bottom + 1])
        for rows, columns in (tiles.smallest, tiles.largest)
    )
    whole = Pins(granularity="head") if pins.granularity == "head" else Pins()
    blocks = Blockings(many, binding, tuple(_sizes(many, whole)), few)
    return float(blocks.costs(_fitting(blocks, pins)).bound_cycles(case.spec).min(initial=np.inf))


def _fitting(blocks: Blockings, pins: Pins) -> Choices:
    """Combine what the pins leave open, where the buffer holds tiles on their way."""
    choices = _choices(pins, len(blocks.sizes))
    return choices.take(np.flatnonzero(blocks.least_words(choices) <= blocks.case.spec.buffer_words))


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


def best_on(case: FlatCase, binding: AttentionBinding, pins: Pins) -> Fastest | None:
    """Find the fewest cycles on tiles of one size, and their dataflow; None where not even tiles on their way fit."""
    blocks = Blockings(case, binding, tuple(_sizes(case, pins)))
    choices = _fitting(blocks, pins)
    if not len(choices.size):
        return None
    costs = blocks.costs(choices)
    objectives = (costs.bound_cycles(case.spec), costs.dram_words, costs.movement_energy_j(case.spec))
    best = int(np.lexsort(objectives[::-1])[0])
    size = blocks.sizes[choices.size[best]]
    return Fastest(float(objectives[0][best]), case, Dataflow(
        frozenset(tensor for tensor in TENSORS if choices.kept(tensor)[best]), STATIONARITIES[choices.qk[best]],
        STATIONARITIES[choices.av[best]], "head" if size >= case.query_tiles else "row", case.rows(size),
    ))  # fmt: skip


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
