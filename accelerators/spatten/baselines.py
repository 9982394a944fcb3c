"""What SpAtten was compared with, as far as it is published (HPCA'21): throughputs reached, and what they must fetch.

A3 and MNNFast at the size of SpAtten-1/8; TITAN Xp by its published utilization (as a roofline: the `titan-xp` preset).
Knows operations; knows nothing of how these processors work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError

BANDWIDTH_BYTES_PER_S = 64e9  # HPCA 2021: SpAtten-1/8, A3 and MNNFast are compared at equal bandwidth
KEY_BITS = VALUE_BITS = 12  # assumed: the width of SpAtten's elements; neither quantizes progressively


@dataclass(frozen=True, slots=True)
class Accelerated:
    """An attention accelerator known by what it reached. `prunes_values`: it skips values of small probability.

    Both read every key, and A3 every value: choosing happens on chip (HPCA 2021, related work).
    """

    operations_per_s: float  # of the dense model, "effective"
    prunes_values: bool

    def seconds(self, operation: Operation, value_keep: float = 1.0) -> float:
        """The published throughput, or the fetch, whichever is slower. `value_keep`: share of the values used.

        assumed: the published throughput holds for every work that its memory can feed.
        """
        bound = self.fetched_bytes(operation, value_keep) / BANDWIDTH_BYTES_PER_S
        return max(bound, dense_operations(operation) / self.operations_per_s)

    def fetched_bytes(self, operation: Operation, value_keep: float = 1.0) -> float:
        """Keys and values of each head once, whatever its queries."""
        size = dict(operation.extents)
        vectors = size["b"] * size["h"] // size["g"] * size["m"]
        used = value_keep if self.prunes_values and size["p"] * size["g"] == 1 else 1.0
        return vectors * (size["e"] * KEY_BITS + used * size["f"] * VALUE_BITS) / 8


@dataclass(frozen=True, slots=True)
class Utilized:
    """A processor known by the throughput it reached on attention, by kind of model."""

    name: str
    operations_per_s: Mapping[str, float]  # phase -> of the dense model

    def seconds(self, operation: Operation, phase: str) -> float:
        """Raises CascadeSimError for a phase of which nothing is published."""
        if phase not in self.operations_per_s:
            raise CascadeSimError(
                f"{self.name}: nothing published for {phase}; known: {', '.join(self.operations_per_s)}"
            )
        return dense_operations(operation) / self.operations_per_s[phase]


A3 = Accelerated(221e9, prunes_values=False)  # HPCA 2021, comparison table: likely
MNNFAST = Accelerated(120e9, prunes_values=True)  # HPCA 2021, comparison table: likely
TITAN_XP = Utilized("titan-xp", MappingProxyType({
    "prefill": 0.02e12,  # HPCA 2021, roofline figure, BERT: likely, one digit
    "decode": 0.01e12,  # HPCA 2021, roofline figure, GPT-2: likely, one digit
}))  # fmt: skip


def dense_operations(operation: Operation) -> int:
    """Two for each product of queries with keys and of probabilities with values, nothing pruned."""
    size = dict(operation.extents)
    pairs = size["b"] * size["h"] * operation.mask.attended_pairs(size["p"], size["m"])
    return 2 * pairs * (size["e"] + size["f"])
