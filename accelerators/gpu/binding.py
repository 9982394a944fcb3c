"""Which unit of an SM does which operations of an Einsum, and what its busy time is worth.

Structural, as on the spatial arrays: contractions over depth go to the tensor cores, which also add what they
accumulate; exponentials and other functions go to the special-function units, everything else is issued to the FP32
lanes. Counts are those of the cascade at the operation's extents. Knows no kernel and no rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cascadesim.accelerators.gpu.texts import key_tiles
from cascadesim.accelerators.protocol import EinsumActivity
from cascadesim.einsum_cascades.analysis.bound_counts import KEY
from cascadesim.einsum_cascades.models.operation import Operation, work_of
from cascadesim.einsum_cascades.notation.ir import Einsum

TENSOR, SPECIAL, ISSUE = "tensor", "special", "issue"
FUNCTIONS = ("exp", "log", "sqrt", "tanh", "erf", "sin", "cos")  # in the names of `passes`
DEPTH = frozenset("efk")  # ranks of a contraction, and of what it accumulates
# assumed: instructions of an FP32 lane per operation beside one of a special function (CUDA's libraries, as recalled:
# a range reduction and a scale for exp2, a Newton step and its checks for IEEE division, a polynomial for erf)
LANE_INSTRUCTIONS: Mapping[str, int] = {
    **dict.fromkeys(("add", "multiply", "mac", "max", "min", "compare", "round"), 1),
    "divide": 8, "exp": 2, "log": 2, "sqrt": 4, "tanh": 1, "sin": 2, "cos": 2, "erf": 16,
}  # fmt: skip
SPECIAL_PER_OPERATION: Mapping[str, int] = {**dict.fromkeys(FUNCTIONS, 1), "divide": 1}  # a reciprocal


@dataclass(frozen=True, slots=True)
class Share:
    """What one unit does of one Einsum."""

    name: str
    unit: str
    operations: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.operations.values())


def shares(operation: Operation, splits: Mapping[str, int], emulated: float = 0.0) -> tuple[Share, ...]:
    """Every Einsum that computes something. `emulated`: of the scores' exponentials, those that FP32 lanes compute."""
    return tuple(_shares(operation, splits, emulated))


def _shares(operation: Operation, splits: Mapping[str, int], emulated: float) -> Iterator[Share]:
    counted, scores = work_of(operation, splits), {KEY, *key_tiles(operation.cascade)[-1:]}
    updates = {einsum.name: einsum for einsum in operation.cascade.einsums}  # of a state; its start comes first
    for einsum in updates.values():
        by_unit: dict[str, dict[str, int]] = {}
        for name, count in counted.get(einsum.name, {}).items():
            on_lanes = int(count * emulated) if name == "exp" and scores & set(einsum.ranks) else 0
            for unit, part in ((_unit(einsum, name), count - on_lanes), (ISSUE, on_lanes)):
                if part:
                    by_unit.setdefault(unit, {})[name] = part
        yield from (Share(einsum.name, unit, operations) for unit, operations in by_unit.items())


def _unit(einsum: Einsum, operation: str) -> str:
    if operation in FUNCTIONS:
        return SPECIAL
    contracts = operation == "mac" and DEPTH & set(einsum.ranks) and einsum.reduced_ranks
    accumulates = operation == "add" and DEPTH & set(einsum.ranks) and not einsum.reduced_ranks
    return TENSOR if contracts or accumulates else ISSUE


def activities(
    parts: tuple[Share, ...], busy_cycles: Mapping[str, float], peak: Mapping[str, float]
) -> Iterator[EinsumActivity]:
    """Each unit's busy time, shared by its Einsums in proportion to their operations, in whole cycles.

    `peak`: operations of one class that all lanes of a unit finish in a cycle.
    """
    for unit, cycles in busy_cycles.items():
        own = [part for part in parts if part.unit == unit]
        total, done, ended = sum(part.total for part in own), 0, 0
        for part in own:
            done += part.total
            begun, ended = ended, int(cycles * done / total)
            spent = ended - begun
            useful = max(part.operations.values()) / (max(spent, 1) * peak[unit])
            yield EinsumActivity(part.name, unit, spent, part.operations, min(1.0, useful))


def instructions(parts: tuple[Share, ...]) -> tuple[int, int]:
    """Of FP32 lanes and of special-function units, for work that no kernel's own counts describe."""
    counts = [item for part in parts for item in part.operations.items()]
    lanes = sum(LANE_INSTRUCTIONS[name] * count for name, count in counts)
    return lanes, sum(SPECIAL_PER_OPERATION.get(name, 0) * count for name, count in counts)
