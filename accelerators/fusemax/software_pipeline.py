"""The published software pipeline as a table, and the smallest distances between its tiles that hide every drain.

Each epoch works on four tiles, a the oldest and d the newest, in a fixed order on each array. FuseMax (MICRO'24),
section V and figure 4. Knows the tile cycles of each Einsum; knows no extents and no program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

from cascadesim.accelerators.fusemax.spec import Distances
from cascadesim.accelerators.program import turns

Letter: TypeAlias = Literal["a", "b", "c", "d"]


@dataclass(frozen=True, slots=True)
class Slot:
    """An Einsum's place in the epoch: of the tile `letter`; interleaved with its neighbours where `shared`."""

    einsum: str
    letter: Letter
    shared: bool = False


EPOCH_2D = (  # ( SLNV[b] | BQK[d] ) -> LM[d] -> SLN[c] -> SLD[c]
    Slot("SLNV", "b", shared=True),
    Slot("QK", "d", shared=True),
    Slot("LM", "d"),
    Slot("SLN", "c"),
    Slot("SLD", "c"),
)
EPOCH_1D = (  # ( SPNV[a] | RNV[a] | RM[c] ) -> RD[a] -> PRM[c] -> SPD[c]; AV[a] once per query tile
    Slot("SPNV", "a", shared=True),
    Slot("RNV", "a", shared=True),
    Slot("RM", "c", shared=True),
    Slot("RD", "a"),
    Slot("PRM", "c"),
    Slot("SPD", "c"),
    Slot("AV", "a"),
)


def smallest_distances(cycles: Mapping[str, int], drain_cycles: int) -> Distances:
    """Distances for which an epoch lasts as long as its busier array, no result waited for.

    The 1D array starts its part of the epoch a fixed time after the 2D array (figure 4): of all such times that
    let RM be ready for SLN, the one with the shortest pipeline.
    """
    return _smallest(tuple(sorted(cycles.items())), drain_cycles)


@cache
def _smallest(sorted_cycles: tuple[tuple[str, int], ...], drain_cycles: int) -> Distances:
    cycles = dict(sorted_cycles)
    latest = _times(EPOCH_2D, cycles, 0)["SLN"][0] - _times(EPOCH_1D, cycles, 0)["RM"][1]  # RM is ready for SLN
    found = [_at(skew, cycles, drain_cycles) for skew in range(min(_period(cycles), latest) + 1)]
    return min(found, key=lambda d: (d.a, d.b, d.c)) if found else _unhidden()


def _period(cycles: Mapping[str, int]) -> int:
    """AV is no part of it: it comes once per query tile."""
    rows = (sum(cycles[slot.einsum] for slot in row if slot.einsum != "AV") for row in (EPOCH_2D, EPOCH_1D))
    return max(rows)


def _at(skew: int, cycles: Mapping[str, int], drain: int) -> Distances:
    """With the 1D array `skew` cycles behind."""
    times = {**_times(EPOCH_2D, cycles, 0), **_times(EPOCH_1D, cycles, skew)}
    start, finish = ({name: pair[which] for name, pair in times.items()} for which in (0, 1))
    epoch = _period(cycles)
    c = _epochs(finish["LM"] + drain - start["RM"], epoch)
    b = c + max(1, _epochs(finish["SLN"] - start["SLNV"], epoch))
    streams = max(start["SLNV"] + drain - start["RNV"], finish["SLNV"] + drain - finish["RNV"])
    denominator = max(finish["SLD"] + drain, finish["SPD"]) - start["RD"]
    a = max(b + _epochs(streams, epoch), c + _epochs(max(denominator, finish["PRM"] - start["SPNV"]), epoch))
    return Distances(a=max(a, b), b=b, c=c)


def _epochs(wait_cycles: int, epoch: int) -> int:
    """Whole epochs that cover a wait."""
    return max(0, -(-wait_cycles // epoch))


def _unhidden() -> Distances:
    """Where RM always comes too late: the shortest pipeline, whose waits the schedule shows."""
    return Distances(a=3, b=2, c=1)


def _times(row: Sequence[Slot], cycles: Mapping[str, int], begin: int) -> dict[str, tuple[int, int]]:
    """Start and finish of each slot of a row without waits: shared slots take turns, the others follow."""
    shared = [cycles[slot.einsum] for slot in row if slot.shared]
    times: dict[str, tuple[int, int]] = {}
    at = begin + sum(shared)
    for position, slot in enumerate(row):
        if slot.shared:
            times[slot.einsum] = (begin, begin + turns(shared, position))
        else:
            times[slot.einsum] = (at, at + cycles[slot.einsum])
            at += cycles[slot.einsum]
    return times
