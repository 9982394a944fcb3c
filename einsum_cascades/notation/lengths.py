"""How long the dimensions of a result are: whether the text says so, for ranks and for coordinates that are data.

A rank on the left has its length from the right side. One that stands on the left only repeats the result along a rank
whose length other lines know (`RM[h,0,p] = SINK[h]`). A scatter `Y[IDX[e]] += V[e]` writes a dimension without a rank.
Knows one Einsum and those around it, not the text; each problem is a message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cascadesim.einsum_cascades.notation.errors import suggestion
from cascadesim.einsum_cascades.notation.ir import Einsum, bound_ranks, conditions
from cascadesim.einsum_cascades.notation.operators import fiber_operator


def without_length(einsum: Einsum, others: Sequence[Einsum]) -> Iterator[str]:
    """Ranks of the left side that have no length.

    A constant may be repeated along any rank that other lines use, other results along one that they read of an input,
    compare or make by a whole-fiber operator: a misspelt rank is none of these.
    """
    if fiber_operator(einsum) is not None:
        return
    own = set(bound_ranks(einsum.expression)).union(*(each.ranks for each in einsum.scatters))
    known = _measured(einsum, others) if einsum.inputs else {rank for other in others for rank in other.ranks}
    for rank in einsum.written_ranks:
        if rank not in own | known:
            hint = suggestion(rank, own) if einsum.inputs else "; no other line has it"
            yield f"rank '{rank}' of {einsum.name} does not stand on the right side{hint}"


def _measured(einsum: Einsum, others: Sequence[Einsum]) -> set[str]:
    """Ranks of inputs, of conditions and of kept fibers."""
    produced = {einsum.name, *(other.name for other in others)}
    found = {rank for other in others for access in other.inputs if access.tensor not in produced
             for rank in access.ranks}
    found |= {rank for other in others for each in conditions(other.expression) for rank in each.ranks}
    return found | {rank for other in others if fiber_operator(other) is not None for rank in other.written_ranks}


def unsized_scatters(einsum: Einsum, others: Sequence[Einsum]) -> Iterator[str]:
    """Dimensions written at data whose length nothing says.

    Such a dimension is as long as a rank at which another line reads it, or as the extent named after the coordinates
    (IDX), which must be no rank's then.
    """
    for place, index in enumerate(einsum.output.indices):
        if index.gather is None:
            continue
        read = any(access.tensor == einsum.name and len(access.indices) > place and access.indices[place].terms
                   for other in others for access in other.inputs)
        name = index.gather.tensor.upper()
        if not read and name in {rank.upper() for other in (einsum, *others) for rank in other.ranks}:
            yield (f"nothing says how long {einsum.name} is ({name} is the length of rank '{name.lower()}'): rename "
                   f"{index.gather.tensor}, or add a line that reads {einsum.name} by a rank")
