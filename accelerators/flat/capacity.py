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

    A rank that runs in time and is not summed over is there in full, because a tile of results is; FLAT itself
    counts one tile of AV rows for a whole head.
    """
    order = (QK_LOOPS if tensor in _READ_BY_QK else AV_LOOPS)[stationarity]
    summed = "e" if tensor in _READ_BY_QK else "m"
    in_full = order.temporal != summed and not (case.exact and tensor == "AV" and block_rows == case.queries)
    words = _COPIES
    for rank in RANKS[tensor]:
        whole = block_rows if rank == "p" else case.extent(rank)
        words *= whole if in_full and rank == order.temporal else min(_side(case, order, rank), whole)
    return words


def _side(case: Case, order: LoopOrder, rank: str) -> int:
    return case.rows_used if rank == order.rows else case.columns_used


def kept_words(case: Case, tensor: str, block_rows: int) -> int:
    """A tensor that stays for a block or a head, together with that of the next."""
    words = _COPIES
    for rank in RANKS[tensor]:
        words *= block_rows if rank == "p" else case.extent(rank)
    return words
