"""What SpAtten was compared with, as far as it is published (HPCA'21): throughputs reached, and what they must fetch.

A3 and MNNFast at the size of SpAtten-1/8; TITAN Xp by its published utilization (as a roofline: the `titan-xp` preset).
Of the Xeon, Jetson Nano and Raspberry Pi only mean speedups are published: they stand in that ratio to the TITAN Xp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError

BANDWIDTH_BYTES_PER_S = 64e9  # HPCA 2021: SpAtten-1/8, A3 and MNNFast are compared at equal bandwidth ...
MULTIPLIERS = 128  # ... and equal multipliers (64 x 2)
CLOCK_HZ = 1e9  # HPCA 2021
KEY_BITS = VALUE_BITS = 12  # assumed: the width of SpAtten's elements; neither quantizes progressively


@dataclass(frozen=True, slots=True)
class Accelerated:
    """An attention accelerator known by what it reached. `prunes_values`: it skips values of small probability.

    Both read every key, and A3 every value: choosing happens on chip (HPCA 2021, related work).
    """

    name: str
    operations_per_s: float  # of the dense model, "effective"
    operations_per_j: float
    area_mm2: float | None
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

    def joules(self, operation: Operation) -> float:
        return dense_operations(operation) / self.operations_per_j


@dataclass(frozen=True, slots=True)
class Utilized:
    """A processor known by the throughput it reached on attention, by kind of model."""

    name: str
    operations_per_s: Mapping[str, float]  # phase -> of the dense model

    def seconds(self, operation: Operation, phase: str) -> float:
        if phase not in self.operations_per_s:
            raise CascadeSimError(
                f"{self.name}: nothing published for {phase}; known: {', '.join(self.operations_per_s)}"
            )
        return dense_operations(operation) / self.operations_per_s[phase]


A3 = Accelerated("a3", 221e9, 269e9, 2.08, prunes_values=False)  # HPCA 2021, comparison table: likely
MNNFAST = Accelerated("mnnfast", 120e9, 120e9, None, prunes_values=True)  # HPCA 2021, comparison table: likely
TITAN_XP = Utilized("titan-xp", MappingProxyType({
    "prefill": 0.02e12,  # HPCA 2021, roofline figure, BERT: likely, one digit
    "decode": 0.01e12,  # HPCA 2021, roofline figure, GPT-2: likely, one digit
}))  # fmt: skip


MEAN_SPEEDUPS: Mapping[str, float] = MappingProxyType(
    {
        "titan-xp": 162,  # HPCA 2021, abstract: SpAtten over each, mean of 30 benchmarks
        "xeon-e5-2640-v4": 347,  # HPCA 2021, abstract
        "jetson-nano": 1095,  # HPCA 2021, evaluation
        "raspberry-pi-a53": 5071,  # HPCA 2021, evaluation
    }
)


def processor(name: str) -> Utilized:
    """assumed: the ratio of mean speedups holds for every work. Raises UnknownNameError."""
    if name not in MEAN_SPEEDUPS:
        raise UnknownNameError("processor", name, MEAN_SPEEDUPS)
    slower = MEAN_SPEEDUPS[name] / MEAN_SPEEDUPS[TITAN_XP.name]
    return Utilized(name, MappingProxyType({phase: rate / slower for phase, rate in TITAN_XP.operations_per_s.items()}))


def dense_operations(operation: Operation) -> int:
    """Two for each product of queries with keys and of probabilities with values, nothing pruned."""
    size = dict(operation.extents)
    pairs = size["b"] * size["h"] * operation.mask.attended_pairs(size["p"], size["m"])
    return 2 * pairs * (size["e"] + size["f"])
