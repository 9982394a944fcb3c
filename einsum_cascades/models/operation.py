"""One piece of work of a model: a cascade with its extents bound, how often it runs, and which pairs it attends.

A workload is a list of operations; an accelerator plans one operation at a time and knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.sparsity.masks import FULL, Mask
from cascadesim.einsum_cascades.sparsity.pruning_trace import PruningTrace

Kind: TypeAlias = Literal["attention", "linear", "elementwise", "collective"]
Operand: TypeAlias = Literal["weights", "experts", "activations", "kv"]
Extents: TypeAlias = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Operation:
    """`cascade` run `count` times on ranks of the sizes in `extents`.

    attention: extents b, h (query heads), g (query heads per key/value head; h is a multiple of g), m (keys),
    p (queries), e (query/key depth), f (value depth); k (values that a query uses, m where it is missing).
    linear: Z[r,n] = A[r,k] * W[k,n], extents r (rows), k, n, and x (independent copies with weights of their own:
    experts, heads).
    elementwise: extents r (rows), d (elements per row).
    collective: the same extents; a sum over several devices, which only accelerators that have them are asked for.
    attention with a `trace`: one query of one head a row, each with keys of its own; extents are the largest of them.
    """

    name: str
    kind: Kind
    cascade: Cascade
    extents: Extents
    count: int = 1
    mask: Mask = FULL
    layer: str = ""  # the kind of layer it belongs to, where a model has several
    trace: PruningTrace | None = None
    operand: Operand = "activations"  # what W of linear is, and K and V of attention: they may have a type of their own

    def __post_init__(self) -> None:
        small = [f"{rank}={size}" for rank, size in (*self.extents, ("count", self.count)) if size < 1]
        if small:
            raise CascadeSimError(f"{self.name}: every extent must be at least 1, got {', '.join(small)}")

    def extent(self, rank: str) -> int:
        return dict(self.extents)[rank]

    def with_cascade(self, cascade: Cascade) -> Operation:
        """The same work written as another cascade (attention in 1 pass instead of 3)."""
        return replace(self, cascade=cascade)
