"""Which unit of SpAtten an Einsum of an attention cascade runs on, by its structure; names mean nothing.

Products of queries with keys and of probabilities with values have an array each, all else the softmax lanes, which
are made for the exponentials, their sum and the division. The top-k engine chooses by the machine's schedule, not by
the text. Another cascade is refused: the pipeline would not compute it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from cascadesim.accelerators.binding import point_operations
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade, Einsum
from cascadesim.einsum_cascades.notation.operators import fiber_operator

SCORES, SOFTMAX, CHOICE, RESULTS = "multiply_qk", "softmax", "top_k", "multiply_pv"
SOFTMAX_OF_A_SCORE = Counter({"max": 1, "exp": 1, "add": 2, "divide": 1})  # HPCA 2021: exponential, sum, division


@lru_cache(maxsize=64)
def units_of(cascade: Cascade) -> Mapping[str, str]:
    """Einsum -> unit. Raises CascadeSimError on a cascade that the pipeline does not run."""
    if "m0" in cascade.ranks:
        raise CascadeSimError(f"{cascade.name} walks keys in tiles; spatten does so in attention-1pass and "
                              "pruned-1pass only, else use --attention attention-3pass")  # fmt: skip
    if any(fiber_operator(einsum) is not None for einsum in cascade.einsums):
        raise CascadeSimError(f"{cascade.name} chooses in its text; spatten prunes by its own schedule: use "
                              "--attention attention-3pass with --set pruning.value_keep=…")  # fmt: skip
    found = {einsum.name: _unit(einsum) for einsum in cascade.einsums}
    counts = [list(found.values()).count(unit) for unit in (SCORES, RESULTS)]
    if counts != [1, 1]:
        raise CascadeSimError(
            f"{cascade.name} has {counts[0]} products of queries with keys and {counts[1]} of probabilities with "
            "values; spatten runs one of each, as in attention-3pass"
        )
    _refuse_other_softmax(cascade, found)
    return MappingProxyType(found)


def _refuse_other_softmax(cascade: Cascade, units: Mapping[str, str]) -> None:
    """The lanes evaluate max, exp(x - max), sum and division for each score, and nothing else."""
    lanes: Counter[str] = Counter()
    for einsum in cascade.einsums:
        if units[einsum.name] != SOFTMAX:
            continue
        if not {"m", "p"} <= set(einsum.ranks) or "f" in einsum.ranks:
            raise CascadeSimError(f"{cascade.name}: {einsum.name} is no work on scores; spatten divides probabilities "
                                  "before it multiplies values, as in attention-3pass")  # fmt: skip
        lanes.update(point_operations(einsum))
    if lanes != SOFTMAX_OF_A_SCORE:
        does, has = (" + ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "nothing"
                     for counts in (SOFTMAX_OF_A_SCORE, lanes))  # fmt: skip
        raise CascadeSimError(f"{cascade.name}: the softmax lanes of spatten do {does} for each score, the cascade has "
                              f"{has}; use --attention attention-3pass")  # fmt: skip


def _unit(einsum: Einsum) -> str:
    read = {rank for access in einsum.inputs for rank in access.ranks}
    written, operations = set(einsum.output.ranks), point_operations(einsum)
    if "mac" in operations and "e" in read and {"m", "p"} <= written:
        return SCORES
    if "mac" in operations and "e" not in read and {"p", "f"} <= written:
        return RESULTS
    return SOFTMAX
