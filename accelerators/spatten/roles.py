"""Which unit of SpAtten an Einsum of an attention cascade runs on, by its structure; names mean nothing.

Products of queries with keys and of probabilities with values have an array each, choices the top-k engine, all else
the softmax lanes. A cascade without those two products is no softmax attention, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from cascadesim.accelerators.counting import point_operations
from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.einsum_cascades.ir import Cascade, Einsum

SCORES, SOFTMAX, CHOICE, RESULTS = "multiply_qk", "softmax", "top_k", "multiply_pv"


@lru_cache(maxsize=64)
def units_of(cascade: Cascade) -> Mapping[str, str]:
    """Einsum -> unit. Raises CascadeSimError on a cascade that the pipeline does not run."""
    if "m0" in cascade.ranks:
        raise CascadeSimError(f"{cascade.name} walks keys in tiles; spatten does so in attention-1pass and "
                              "pruned-1pass only, else use --attention attention-3pass")  # fmt: skip
    found = {einsum.name: _unit(einsum) for einsum in cascade.einsums}
    counts = [list(found.values()).count(unit) for unit in (SCORES, RESULTS)]
    if counts != [1, 1]:
        raise CascadeSimError(
            f"{cascade.name} has {counts[0]} products of queries with keys and {counts[1]} of probabilities with "
            "values; spatten runs one of each, as in attention-3pass"
        )
    return MappingProxyType(found)


def _unit(einsum: Einsum) -> str:
    read = {rank for access in einsum.inputs for rank in access.ranks}
    written, operations = set(einsum.output.ranks), point_operations(einsum)
    if "mac" in operations and "e" in read and {"m", "p"} <= written:
        return SCORES
    if "mac" in operations and "e" not in read and {"p", "f"} <= written:
        return RESULTS
    return CHOICE if set(operations) == {"max"} and not written <= read else SOFTMAX
