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
from cascadesim.accelerators.tile_sizes import coarse_sizes, tile_sizes
from cascadesim.einsum_cascades.errors import CascadeSimError

_ROUNDING = 1e-12  # relative, of sums of floats: below it two dataflows are equally fast


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
        return _search(case, roles, pins)
    longest = max(case.queries, case.shape.keys)
    largest = tile_sizes(case.spec.pe_array.rows, longest)[0]
    sizes = dict.fromkeys((largest, *coarse_sizes(largest, longest), *coarse_sizes(largest, case.queries)))
    cases = [replace(case, tile=size) for size in sorted(sizes, reverse=True)]
    best, least = _search(cases[0], roles, pins), _least_cycles(cases[0], roles)
    for smaller in cases[1:]:
        cycles = _bound(best)
        if cycles > max(least, contraction_least(smaller, roles)) * (1 + _ROUNDING):
            found = _search(smaller, roles, pins)
            best = found if _bound(found) < cycles * (1 - _ROUNDING) else best
    return best


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


def _search(case: Case, roles: Roles, pins: Pins) -> Chosen:
    blocks = Blockings(case, roles, tuple(_sizes(case, pins)))
    choices = _choices(pins, len(blocks.sizes))
    fits = np.flatnonzero(blocks.least_words(choices) <= case.spec.buffer_words)
    if not len(fits):
        raise CascadeSimError(_nothing_fits(case, pins))
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
        f"global_buffer.capacity_bytes: {capacity} bytes do not hold two rows of {case.spec.global_buffer.row_bytes} "
        f"bytes of each tensor on its way{pinned}; give more, or narrower rows"
    )
