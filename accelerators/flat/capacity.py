"""How much of the global buffer a dataflow asks for, and which share of what it keeps does not fit.

Inferred: the rule reproduces every `proportion_spilled` that FLAT's own search published (FuseMax artifact,
flat_validation.csv, 13 rows that spill and 83 that do not). Scores and weights share one block in place.
"""

from __future__ import annotations

from collections.abc import Mapping

from cascadesim.accelerators.flat.dataflow import AV_LOOPS, QK_LOOPS, LoopOrder
from cascadesim.accelerators.flat.nests import Case
from cascadesim.accelerators.flat.spec import Stationarity

RANKS: Mapping[str, str] = {"Q": "pe", "K": "me", "QK": "mp", "A": "mp", "V": "mf", "AV": "pf"}
_READ_BY_QK = ("Q", "K", "QK")
_COPIES = 2  # one at work, one on its way from or to DRAM


def staged_words(case: Case, tensor: str, stationarity: Stationarity, block_rows: int) -> int:
    """A tensor that passes the buffer by: two tiles of it on their way.

    A rank that runs in time and is not summed over is there in full, because a tile of results is.
    """
    order = (QK_LOOPS if tensor in _READ_BY_QK else AV_LOOPS)[stationarity]
    summed = "e" if tensor in _READ_BY_QK else "m"
    words = _COPIES
    for rank in RANKS[tensor]:
        words *= _staged_extent(case, order, rank, summed, block_rows)
    return words


def _staged_extent(case: Case, order: LoopOrder, rank: str, summed: str, block_rows: int) -> int:
    whole = block_rows if rank == "p" else case.extent(rank)
    if rank == order.temporal and rank != summed:
        return whole
    side = case.spec.pe_array.rows if rank == order.rows else case.spec.pe_array.columns
    return min(side, whole)


def kept_words(case: Case, tensor: str, block_rows: int, whole_head: bool) -> int:
    """A tensor that stays: for a whole head with one tile of the next, for a block of rows together with the next."""
    side = case.spec.pe_array.columns
    rank, depth = RANKS[tensor]
    depth_extent = case.extent(depth)
    if rank == "p" and not whole_head:
        return _COPIES * block_rows * depth_extent
    tile = min(side, case.extent(rank)) * min(side, depth_extent)
    return case.extent(rank) * depth_extent + tile


def spilled_share(footprint_words: float, capacity_words: int) -> float:
    return 1 - min(1.0, capacity_words / footprint_words)
