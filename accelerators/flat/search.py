"""FLAT's choice of a dataflow: the least latency, then the least traffic, then the least energy.

Locations, stationarities, granularity and rows, all at once per block size; pins take choices away. FLAT
(ASPLOS'23), section 5; the objective is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from cascadesim.accelerators.flat.dataflow import Dataflow
from cascadesim.accelerators.flat.fused import Bits, Blockings, Choices, Costs
from cascadesim.accelerators.flat.nests import Case
from cascadesim.accelerators.flat.roles import Roles
from cascadesim.accelerators.flat.spec import TENSORS, Pins, Stationarity
from cascadesim.accelerators.flat.words import STATIONARITIES
from cascadesim.einsum_cascades.errors import CascadeSimError


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
        return self.case.blocks(self.tiles, self.case.spec.pe_array.columns).largest_points

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
    """Raises CascadeSimError if no dataflow satisfies the pins, or if not even the tiles on their way fit."""
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
    if rows % case.tile_rows:
        raise CascadeSimError(
            f"dataflow.rows: {rows} query rows do not fill tiles of {case.tile_rows} (pe_array.rows); "
            f"give a multiple of it, or at least the {case.queries} rows there are"
        )
    return rows // case.tile_rows


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
        f"{case.spec.pe_array.rows} x {case.spec.pe_array.columns} array{pinned}; give more, or a smaller pe_array"
    )
