"""FLAT's choice of a dataflow: the least latency, then the least traffic, then the least energy.

Locations, stationarities, granularity and rows, all at once per block size; pins take choices away. FLAT
(ASPLOS'23), section 5; the objective is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from cascadesim.accelerators.flat.dataflow import Dataflow
from cascadesim.accelerators.flat.fused import STATIONARITIES, Bits, Block, Choices, Costs
from cascadesim.accelerators.flat.nests import Case
from cascadesim.accelerators.flat.roles import Roles
from cascadesim.accelerators.flat.spec import TENSORS, Pins, Stationarity
from cascadesim.einsum_cascades.errors import CascadeSimError


@dataclass(frozen=True)
class Chosen:
    """A dataflow and what it costs (arrays of one row)."""

    dataflow: Dataflow
    block: Block
    costs: Costs


def evaluate(case: Case, roles: Roles, dataflow: Dataflow, spilled: float | None = None) -> Chosen:
    """A given dataflow; `spilled`: its published share instead of the one the capacity implies."""
    tiles = case.query_tiles if dataflow.granularity == "head" else _tiles(case, dataflow.rows)
    block = Block(case, roles, tiles)
    share = None if spilled is None else np.array([spilled])
    return Chosen(dataflow, block, block.costs(Choices.of([dataflow]), share))


@cache
def search(case: Case, roles: Roles, pins: Pins) -> Chosen:
    """Raises CascadeSimError if no dataflow satisfies the pins, or if not even the tiles on their way fit."""
    choices = _choices(pins)
    found = [best for block in _blocks(case, roles, pins) for best in _best(block, choices)]
    if not found:
        raise CascadeSimError(_nothing_fits(case, pins))
    _, _, _, block, index = min(found, key=lambda best: best[:3])
    return evaluate(case, roles, _dataflow(block, choices, index))


def _best(block: Block, choices: Choices) -> Iterator[tuple[float, float, float, Block, int]]:
    """The best dataflow of one block size, if any fits."""
    costs, spec = block.costs(choices), block.case.spec
    fits = np.flatnonzero(block.staged_words(choices) <= spec.buffer_words)
    if len(fits):
        keys = [costs.bound_cycles(spec), costs.dram_words, costs.movement_energy_j(spec)]
        best = fits[np.lexsort([key[fits] for key in reversed(keys)])[0]]
        yield float(keys[0][best]), float(keys[1][best]), float(keys[2][best]), block, int(best)


@cache
def _choices(pins: Pins) -> Choices:
    """Every combination that the pins leave open."""
    location = [_options(getattr(pins.location, tensor)) for tensor in TENSORS]
    qk, av = _stationarities(pins.qk_stationarity), _stationarities(pins.av_stationarity)
    rows = list(product(product(*location), qk, av))
    on_chip: Bits = np.array([row[0] for row in rows], dtype=np.bool_)
    return Choices(on_chip, np.array([row[1] for row in rows]), np.array([row[2] for row in rows]))


def _options(location: str | None) -> tuple[bool, ...]:
    return (False, True) if location is None else (location == "on_chip",)


def _stationarities(pinned: Stationarity | None) -> tuple[int, ...]:
    return tuple(range(len(STATIONARITIES))) if pinned is None else (STATIONARITIES.index(pinned),)


def _blocks(case: Case, roles: Roles, pins: Pins) -> Iterator[Block]:
    """A whole head, or rows in powers of two tiles."""
    if pins.granularity == "head" and pins.rows is not None:
        raise CascadeSimError("dataflow: granularity head works on all rows of a head; leave out dataflow.rows")
    if pins.rows is not None:
        yield Block(case, roles, _tiles(case, pins.rows))
        return
    tiles = 1
    while tiles < case.query_tiles and pins.granularity != "head":
        yield Block(case, roles, tiles)
        tiles *= 2
    if pins.granularity != "row" or case.query_tiles == 1:
        yield Block(case, roles, case.query_tiles)


def _tiles(case: Case, rows: int) -> int:
    if rows >= case.queries:
        return case.query_tiles
    if rows % case.tile_rows:
        raise CascadeSimError(
            f"dataflow.rows: {rows} query rows do not fill tiles of {case.tile_rows} (pe_array.rows); "
            f"give a multiple of it, or at least the {case.queries} rows there are"
        )
    return rows // case.tile_rows


def _dataflow(block: Block, choices: Choices, index: int) -> Dataflow:
    return Dataflow(
        frozenset(tensor for tensor in TENSORS if choices.kept(tensor)[index]),
        STATIONARITIES[choices.qk[index]],
        STATIONARITIES[choices.av[index]],
        "head" if block.whole_head else "row",
        block.rows,
    )


def _nothing_fits(case: Case, pins: Pins) -> str:
    pinned = "" if pins.empty else " with the dataflow pinned as it is"
    capacity = case.spec.global_buffer.capacity_bytes
    return (
        f"global_buffer.capacity_bytes: {capacity} bytes do not hold two tiles of each tensor on its way to the "
        f"{case.spec.pe_array.rows} x {case.spec.pe_array.columns} array{pinned}; give more, or a smaller pe_array"
    )
