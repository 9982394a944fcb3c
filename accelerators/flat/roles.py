"""Which Einsum of a cascade plays which part on a machine that does contractions on one array, all else on another.

The machine runs any cascade of the form: a contraction over the depth, statistics of scores, a contraction over the
keys. Structure only: no names of tensors, no extents.
"""

from __future__ import annotations

from dataclasses import dataclass

from cascadesim.accelerators.access_counts import point_operations
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Access, Cascade, Einsum


@dataclass(frozen=True)
class Roles:
    """The Einsums by part, and the tensor of the cascade that each of FLAT's six tensors is.

    `epilogue`: what happens to finished rows of the output on their way out, such as a deferred division.
    """

    scores: Einsum
    softmax: tuple[Einsum, ...]
    output: Einsum
    epilogue: tuple[Einsum, ...]
    tensors: tuple[tuple[str, str], ...]  # FLAT's name -> the cascade's

    @property
    def on_1d(self) -> tuple[Einsum, ...]:
        return self.softmax + self.epilogue

    def tensor(self, name: str) -> str:
        return dict(self.tensors)[name]


def roles(cascade: Cascade) -> Roles:
    """Raises CascadeSimError for a cascade of another form (one that partitions or iterates over the keys).

    So it does for one with operands or results that the dataflows have no place for.
    """
    einsums = cascade.einsums
    end = next((index for index, einsum in enumerate(einsums) if _contracts(einsum, "m")), None)
    if end is None or not _fits(einsums[0], einsums[1:end], einsums[end + 1 :]):
        raise CascadeSimError(
            f"{cascade.name}: this machine runs a contraction over e, statistics of whole rows of scores, a contraction"
            " over m, such as attention-3pass; a cascade with partitioned or running ranks needs another architecture"
        )
    first, last = einsums[0], einsums[end]
    query, key = _by_rank(first, "p"), _by_rank(first, "m")
    weights, value = _by_rank(last, "p"), _by_rank(last, "f")
    found = {"Q": query, "K": key, "QK": first.output, "A": weights, "V": value, "AV": last.output}
    tensors = tuple((name, access.tensor) for name, access in found.items())
    _check_outside(cascade, {query.tensor, key.tensor, value.tensor})
    return Roles(first, einsums[1:end], last, einsums[end + 1 :], tensors)


def _check_outside(cascade: Cascade, operands: set[str]) -> None:
    """Nothing but queries, keys and values comes in, nothing but the last result goes out."""
    more = sorted({*cascade.inputs} - operands) + sorted({*cascade.outputs} - {cascade.einsums[-1].name})
    if more:
        raise CascadeSimError(
            f"{cascade.name}: this machine loads queries, keys and values and stores one result; "
            f"it has no place for {', '.join(more)} (a bias, statistics); leave it out or take another architecture"
        )


def _contracts(einsum: Einsum, rank: str) -> bool:
    return point_operations(einsum) == {"mac": 1} and len(einsum.inputs) == 2 and einsum.reduced_ranks == (rank,)


def _fits(first: Einsum, softmax: tuple[Einsum, ...], epilogue: tuple[Einsum, ...]) -> bool:
    rows = all(set(einsum.ranks) <= {"h", "m", "p"} and "m" in einsum.ranks for einsum in softmax)
    finished = all(set(einsum.ranks) == {"h", "p", "f"} and not einsum.reduced_ranks for einsum in epilogue)
    return _contracts(first, "e") and rows and bool(softmax) and finished


def _by_rank(einsum: Einsum, rank: str) -> Access:
    return next(access for access in einsum.inputs if rank in access.ranks)


def reads_of_scores(einsum: Einsum, before: Einsum | None) -> frozenset[str]:
    """Operands that the buffer holds: all, but for a row that the Einsum just before hands over as it makes it."""
    names = {access.tensor for access in (*einsum.inputs, einsum.output)}
    if before is not None and before.name in names and "m" in before.output.ranks and "m" in einsum.reduced_ranks:
        names.discard(before.name)
    return frozenset(names)
