"""Which unit an Einsum is bound to, by its structure: contractions on one array, everything else on another.

Names of tensors mean nothing; ranks keep the papers' letters: p queries, m keys (m1, m0 in tiles), e and f the depths
of keys and of values, k that of a matrix product. Knows what an Einsum computes and reads; knows no extent and no
machine: each accelerator says which of its units runs which part. FLAT (ASPLOS'23), FuseMax (MICRO'24).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from cascadesim.accelerators.spec import point_operations
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade, Einsum


class OtherFormError(CascadeSimError):
    """A cascade is of another form than a published mapping is for: it needs a mapping of its own."""


Part: TypeAlias = Literal["scores", "statistics", "output", "update"]
DEPTHS = frozenset("efk")  # ranks of a contraction
_KEYS = frozenset({"m", "m1", "m0"})


def contracts(einsum: Einsum) -> bool:
    """Tell whether the Einsum multiplies along a depth and sums: work for an array of multiply-accumulate units."""
    return bool(DEPTHS & set(einsum.ranks) and einsum.reduced_ranks) and "mac" in point_operations(einsum)


def part_of(einsum: Einsum) -> Part:
    """Tell which part the Einsum plays in attention.

    `scores`: queries meet keys over the depth e. `output`: weights meet values over the keys. `statistics`: work on
    scores or rows of them, without a depth. `update`: other work along a depth, such as a correction of results.
    """
    read = {rank for access in einsum.inputs for rank in access.ranks}
    written = set(einsum.output.ranks)
    if contracts(einsum) and "e" in read and "p" in written and _KEYS & written:
        return "scores"
    if contracts(einsum) and "e" not in read and {"p", "f"} <= written:
        return "output"
    return "update" if {"e", "f"} & (read | written) else "statistics"


@dataclass(frozen=True)
class AttentionBinding:
    """The Einsums of 3-pass attention by part, and the tensor of the cascade that each of the six tensors is.

    `epilogue`: what happens to finished rows of the output on their way out, such as a deferred division.
    """

    scores: Einsum
    softmax: tuple[Einsum, ...]
    output: Einsum
    epilogue: tuple[Einsum, ...]
    tensors: tuple[tuple[str, str], ...]  # Q, K, QK, A, V, AV -> the name in the cascade

    @property
    def on_1d(self) -> tuple[Einsum, ...]:
        return self.softmax + self.epilogue

    def tensor(self, name: str) -> str:
        return dict(self.tensors)[name]


def bind_attention(cascade: Cascade) -> AttentionBinding:
    """Split a cascade that is a contraction over e, statistics of whole rows of scores, a contraction over m.

    Raises CascadeSimError for a cascade of another form (one that partitions or iterates over the keys), and for one
    with operands or results beside queries, keys, values and the output.
    """
    end = next((index for index, einsum in enumerate(cascade.einsums) if _is_product(einsum, "m")), 0)
    scores, softmax = cascade.einsums[0], cascade.einsums[1:end]
    output, epilogue = cascade.einsums[end], cascade.einsums[end + 1 :]
    if (
        not softmax or not _is_product(scores, "e")
        or any(not {"m"} <= set(einsum.ranks) <= {"h", "m", "p"} for einsum in softmax)
        or any(set(einsum.ranks) != {"h", "p", "f"} or einsum.reduced_ranks for einsum in epilogue)
    ):  # fmt: skip
        raise OtherFormError(
            f"{cascade.name}: this machine runs a contraction over e, statistics of whole rows of scores, a contraction"
            " over m, such as attention-3pass; a cascade with partitioned or running ranks needs another architecture"
        )
    tensors = {
        "Q": _operand(scores, "p"), "K": _operand(scores, "m"), "QK": scores.name,
        "A": _operand(output, "p"), "V": _operand(output, "f"), "AV": output.name,
    }  # fmt: skip
    more = sorted({*cascade.inputs} - {tensors[name] for name in ("Q", "K", "V")})
    more += sorted({*cascade.outputs} - {cascade.einsums[-1].name})
    if more:
        raise OtherFormError(
            f"{cascade.name}: this machine loads queries, keys and values and stores one result; "
            f"it has no place for {', '.join(more)} (a bias, statistics); leave it out or take another architecture"
        )
    return AttentionBinding(scores, softmax, output, epilogue, tuple(tensors.items()))


def _is_product(einsum: Einsum, rank: str) -> bool:
    """Tell whether the Einsum is a plain product of two tensors, summed over `rank`."""
    return point_operations(einsum) == {"mac": 1} and len(einsum.inputs) == 2 and einsum.reduced_ranks == (rank,)


def _operand(einsum: Einsum, rank: str) -> str:
    return next(access.tensor for access in einsum.inputs if rank in access.ranks)
