"""FLAT's choice of a dataflow: the least latency, then the least traffic, then the least energy.

Locations, stationarities, granularity and rows, all at once per block size; pins take choices away. FLAT
(ASPLOS'23), section 5; the objective is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np

from cascadesim.accelerators.flat.dataflow import Dataflow
from cascadesim.accelerators.flat.fused import Bits, Blockings, Choices, Costs
from cascadesim.accelerators.flat.nests import Case
from cascadesim.accelerators.flat.roles import Roles
from cascadesim.accelerators.flat.spec import TENSORS, Pins, Stationarity
from cascadesim.accelerators.flat.words import STATIONARITIES, contraction_least, vector_cycles
from cascadesim.accelerators.spatial.tile_sizes import coarse_sizes, tile_sizes
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

_ROUNDING = 1e-12  # relative, of sums of floats: below it two dataflows are equally fast
_ROOMY = 8  # times the tiles on their way: from there on rows and columns do not compete for the buffer


@dataclass(frozen=True)
class Chosen:
    """A dataflow and what it costs (arrays of one row)."""

    dataflow: Dataflow
    blocks: Blockings
    costs: Costs

    @property
    def case(self) -> Case:
        return self.blocks.case

    @property
    def tiles(self) -> int:
        """Query tiles of a block."""
        return self.blocks.sizes[0]

    @property
    def score_words(self) -> int:
        """Scores of the largest block."""
        return self.case.blocks(self.tiles, self.case.columns_used).largest_points

    @property
    def choice(self) -> Choices:
        return Choices.of(self.dataflow)


def evaluate(case: Case, roles: Roles, dataflow: Dataflow, spilled: float | None = None) -> Chosen:
    """A given dataflow; `spilled`: its published share instead of the one the capacity implies."""
    tiles = case.query_tiles if dataflow.granularity == "head" else _tiles(case, dataflow.rows)
    blocks = Blockings(case, roles, (tiles,))
    share = None if spilled is None else np.array([spilled])
    return Chosen(dataflow, blocks, blocks.costs(Choices.of(dataflow), share))


@lru_cache(maxsize=256)
def search(case: Case, roles: Roles, pins: Pins) -> Chosen:
    """On the largest tiles, and on smaller ones (rows of the array idle) where these could take fewer cycles.

    Raises CascadeSimError if no dataflow satisfies the pins, or if not even what is on its way fits.
    """
    if case.exact or pins.rows is not None:
        found = _search(case, roles, pins)
        if found is None:
            raise CascadeSimError(_nothing_fits(case, pins))
        return found
    largest = _largest(case)
    best, least = _search(largest, roles, pins), _least_cycles(largest, roles)
    for part in _smaller(largest, roles, pins):
        if best is not None and _bound(best) <= max(least, _macs(part) / part.elements_used) * (1 + _ROUNDING):
            continue  # whatever it does, it is not faster
        found = _search(part, roles, pins)
        if found is not None and (best is None or _bound(found) < _bound(best) * (1 - _ROUNDING)):
            best = found
    if best is None:
        raise CascadeSimError(_nothing_fits(case, pins))
    return best


def _largest(case: Case) -> Case:
    """As much of the array as there is work for."""
    array = case.spec.pe_array
    along_rows, along_columns = max(case.queries, case.shape.keys), max(case.extent(rank) for rank in "mef")
    return replace(
        case, tile=tile_sizes(array.rows, along_rows)[0], columns=tile_sizes(array.columns, along_columns)[0]
    )


def _smaller(largest: Case, roles: Roles, pins: Pins) -> list[Case]:
    """Fewer rows, or fewer columns; fewer of both where tiles on their way are no small part of the buffer."""
    shape = largest.shape
    rows = {*coarse_sizes(largest.rows_used, max(largest.queries, shape.keys))}
    rows |= {*coarse_sizes(largest.rows_used, largest.queries), largest.rows_used}
    columns = {*coarse_sizes(largest.columns_used, max(largest.extent(rank) for rank in "mef")), largest.columns_used}
    staged = Blockings(largest, roles, (1,)).least_words(_choices(pins, 1)).min()
    tight = staged > largest.spec.buffer_words / _ROOMY
    return [
        replace(largest, tile=tile, columns=used)
        for tile, used in sorted(product(rows, columns), reverse=True)
        if tight or tile == largest.rows_used or used == largest.columns_used
    ]


def _macs(case: Case) -> int:
    shape = case.shape
    return shape.instances * shape.pairs * (shape.query_depth + shape.value_depth)


def _bound(chosen: Chosen) -> float:
    return float(chosen.costs.bound_cycles(chosen.case.spec)[0])


def _least_cycles(case: Case, roles: Roles) -> float:
    """Of any tiles: the 1D array, and every operand once; and the 2D array, which is fastest on the largest tiles
    where nothing is masked."""
    shape, spec = case.shape, case.spec
    keys = case.tiles(1).combinations[0][2]
    words = shape.instances * (case.queries + keys) * (shape.query_depth + shape.value_depth)
    least = max(vector_cycles(case, roles), words * spec.word_bytes / spec.dram_bytes_per_cycle)
    return max(least, contraction_least(case, roles)) if case.full else least


def _search(case: Case, roles: Roles, pins: Pins) -> Chosen | None:
    """On tiles of one size; None where not even those on their way fit."""
    blocks = Blockings(case, roles, tuple(_sizes(case, pins)))
    choices = _choices(pins, len(blocks.sizes))
    fits = np.flatnonzero(blocks.least_words(choices) <= case.spec.buffer_words)
    if not len(fits):
        return None
    costs = blocks.costs(choices)
    objectives = (costs.bound_cycles(case.spec), costs.dram_words, costs.movement_energy_j(case.spec))
    best = fits[np.lexsort([objective[fits] for objective in reversed(objectives)])[0]]
    dataflow, size = _dataflow(blocks, choices, int(best)), blocks.sizes[choices.size[best]]
    return Chosen(dataflow, Blockings(case, roles, (size,)), costs.of(int(best)))


@lru_cache(maxsize=64)
def _choices(pins: Pins, sizes: int) -> Choices:
    """Every combination that the pins leave open."""
    location = [_options(getattr(pins.location, tensor)) for tensor in TENSORS]
    qk, av = _stationarities(pins.qk_stationarity), _stationarities(pins.av_stationarity)
    rows = list(product(range(sizes), product(*location), qk, av))
    on_chip: Bits = np.array([row[1] for row in rows], dtype=np.bool_)
    size, qk_index, av_index = (np.array([row[column] for row in rows]) for column in (0, 2, 3))
    return Choices(size, on_chip, qk_index, av_index)


def _options(location: str | None) -> tuple[bool, ...]:
    return (False, True) if location is None else (location == "on_chip",)


def _stationarities(pinned: Stationarity | None) -> tuple[int, ...]:
    return tuple(range(len(STATIONARITIES))) if pinned is None else (STATIONARITIES.index(pinned),)


def _sizes(case: Case, pins: Pins) -> Iterator[int]:
    """Query tiles of a block: those of a whole head, or powers of two."""
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


def _tiles(case: Case, rows: int) -> int:
    if rows >= case.queries:
        return case.query_tiles
    if rows % case.rows_used:
        raise CascadeSimError(
            f"dataflow.rows: {rows} query rows do not fill tiles of {case.rows_used} (pe_array.rows); "
            f"give a multiple of it, or at least the {case.queries} rows there are"
        )
    return rows // case.rows_used


def _dataflow(blocks: Blockings, choices: Choices, index: int) -> Dataflow:
    size = int(choices.size[index])
    return Dataflow(
        frozenset(tensor for tensor in TENSORS if choices.kept(tensor)[index]),
        STATIONARITIES[choices.qk[index]],
        STATIONARITIES[choices.av[index]],
        "head" if blocks.sizes[size] >= blocks.case.query_tiles else "row",
        blocks.rows(size),
    )


def _nothing_fits(case: Case, pins: Pins) -> str:
    pinned = "" if pins.empty else " with the dataflow pinned as it is"
    capacity = case.spec.global_buffer.capacity_bytes
    return (
        f"global_buffer.capacity_bytes: {capacity} bytes do not hold two tiles of each tensor on its way to the "
        f"{case.spec.pe_array.rows} x {case.spec.pe_array.columns} array{pinned} or to a part of it; give more"
    )
