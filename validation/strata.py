"""Cells of one kind of work as a stratum: half and nine tenths of their errors, and the range of sizes they span."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil, floor, log10
from typing import TypeAlias

from cascadesim.simulator.uncertainty import MeasuredStratum
from cascadesim.validation.compare import Cell

Sizes: TypeAlias = Mapping[str, float]


def within(errors: Iterable[float], share: float) -> float:
    """The smallest figure of two digits that so large a share of the errors does not exceed."""
    ordered = sorted(errors)
    exact = ordered[ceil(share * len(ordered) - 1e-9) - 1]
    if exact == 0:
        return 0.0
    digit = 10.0 ** (floor(log10(exact)) - 1)
    return float(f"{ceil(exact / digit - 1e-9) * digit:.2g}")


def stratum(
    kind: str, what: str, fidelity: str, cells: Sequence[Cell], sizes: Callable[[Cell], Sizes],
    masks: Iterable[str], types: Iterable[str] = ("",), kernel: str = "",
) -> MeasuredStratum:  # fmt: skip
    """Of cells of one kind of work; `sizes`: of each, as a simulation names them."""
    errors, found = [cell.error("deviation") for cell in cells], [sizes(cell) for cell in cells]
    ranges = {name: (min(one[name] for one in found), max(one[name] for one in found)) for name in found[0]}
    half, most, largest = (within(errors, share) for share in (0.5, 0.9, 1.0))
    return MeasuredStratum(kind, what, fidelity, len(cells), half, most, largest, ranges, tuple(sorted(set(masks))),
                   tuple(sorted(set(types))), kernel)  # fmt: skip
