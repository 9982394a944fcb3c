"""Which unit of an SM does which operations of an Einsum, and what its busy time is worth.

Structural, as on the spatial arrays: contractions over depth go to the tensor cores, which also add what they
accumulate; exponentials and other functions go to the special-function units, everything else is issued to the FP32
lanes. IntegerArray are those of the cascade at the operation's extents. Knows no kernel and no rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from cascadesim.accelerators.gpu.kernel import key_tiles
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


def shares(operation: Operation, splits: Mapping[str, int], emulated: float = 0.0) -> tuple[EinsumActivity, ...]:
    """What each unit does of each Einsum that computes something, without its time.

    `emulated`: share of the scores' exponentials that FP32 lanes compute.
    """
    counted, scores = work_of(operation, splits), {KEY, *key_tiles(operation.cascade)[-1:]}
    updates = {einsum.name: einsum for einsum in operation.cascade.einsums}  # of a state; its start comes first
    found: dict[tuple[str, str], dict[str, int]] = {}
    for einsum in updates.values():
        for name, count in counted.get(einsum.name, {}).items():
            on_lanes = int(count * emulated) if name == "exp" and scores & set(einsum.ranks) else 0
            for unit, part in ((_unit(einsum, name), count - on_lanes), (ISSUE, on_lanes)):
                if part:
                    found.setdefault((einsum.name, unit), {})[name] = part
    return tuple(EinsumActivity(name, unit, 0, operations) for (name, unit), operations in found.items())


def _unit(einsum: Einsum, operation: str) -> str:
    if operation in FUNCTIONS:
        return SPECIAL
    contracts = operation == "mac" and DEPTH & set(einsum.ranks) and einsum.reduced_ranks
    accumulates = operation == "add" and DEPTH & set(einsum.ranks) and not einsum.reduced_ranks
    return TENSOR if contracts or accumulates else ISSUE


def activities(
    parts: tuple[EinsumActivity, ...], busy_cycles: Mapping[str, float], peak: Mapping[str, float]
) -> Iterator[EinsumActivity]:
    """Each unit's busy time, shared by its Einsums in proportion to their operations, in whole cycles.

    `peak`: operations of one class that all lanes of a unit finish in a cycle.
    """
    for unit, cycles in busy_cycles.items():
        own = [(part, sum(part.operations.values())) for part in parts if part.unit == unit]
        total, done, ended = sum(count for _, count in own), 0, 0
        for part, count in own:
            done += count
            begun, ended = ended, int(cycles * done / total)
            spent = ended - begun
            useful = max(part.operations.values()) / (max(spent, 1) * peak[unit])
            yield replace(part, cycles=spent, occupancy=min(1.0, useful))


def instructions(parts: tuple[EinsumActivity, ...]) -> tuple[int, int]:
    """Instructions of FP32 lanes and of special-function units, for work that no kernel's own counts describe."""
    counts = [item for part in parts for item in part.operations.items()]
    lanes = sum(LANE_INSTRUCTIONS[name] * count for name, count in counts)
    return lanes, sum(SPECIAL_PER_OPERATION.get(name, 0) * count for name, count in counts)
