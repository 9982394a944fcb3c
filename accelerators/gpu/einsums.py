"""Which unit of an SM runs each Einsum of attention, and how many useful operations that is.

Structural, as on the spatial arrays: contractions over depth go to the tensor cores, exponentials to the special
function units, everything else is issued to the FP32 units. Knows no time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cascadesim.accelerators.counting import point_operations
from cascadesim.einsum_cascades.ir import Einsum
from cascadesim.einsum_cascades.operation import Operation

TENSOR, SPECIAL, ISSUE = "tensor", "special", "issue"


@dataclass(frozen=True, slots=True)
class Share:
    """An Einsum, its unit, its useful points and operations per point."""

    name: str
    unit: str
    points: int
    operations: dict[str, int]


def shares(operation: Operation, key_tile: int) -> tuple[Share, ...]:
    """Every Einsum that computes something."""
    return tuple(_shares(operation, key_tile))


def _shares(operation: Operation, key_tile: int) -> Iterator[Share]:
    for einsum in operation.cascade.einsums:
        operations = dict(point_operations(einsum))
        if operations:
            yield Share(einsum.name, _unit(einsum, operations), _points(einsum, operation, key_tile), operations)


def _unit(einsum: Einsum, operations: dict[str, int]) -> str:
    if "mac" in operations and len(einsum.inputs) > 1 and {"e", "f"} & set(einsum.ranks) and einsum.reduced_ranks:
        return TENSOR
    return SPECIAL if "exp" in operations else ISSUE


def _points(einsum: Einsum, operation: Operation, key_tile: int) -> int:
    """Attended pairs where it runs over keys, queries (times key tiles) elsewhere."""
    size = dict(operation.extents)
    ranks = set(einsum.ranks)
    if ranks & {"m", "m0"}:
        points = operation.mask.attended_pairs(size["p"], size["m"])
    elif "p" in ranks:
        points = size["p"] * (-(-size["m"] // key_tile) if "m1" in ranks else 1)
    else:
        points = size["m"]
    for rank in ranks & {"e", "f"}:
        points *= size[rank]
    return size["b"] * size["h"] * points
