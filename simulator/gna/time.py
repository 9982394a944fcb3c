"""Predicts the time of a neighborhood kernel on a device: visited tiles, full and masked priced apart, in CTA waves.

    time = waves x mean over query tiles of (full + masked x masked_cost + overhead) x time of one full tile per SM

The counts come from `neighborhood`, the time of a tile from the constants that the accelerator offers for its kernels,
dense attention from the model of the device; one without constants has no prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.neighborhood_kernels import KernelConstants
from cascadesim.accelerators.protocol import checked
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.texts.attention import ATTENTION_1PASS
from cascadesim.simulator.gna.neighborhood import Question


@dataclass(frozen=True)
class Prediction:
    """Times of one attention operation, forward. `dense_s`: dense attention on the device, as `simulate` has it."""

    device: str
    kernel_s: float
    permute_s: float
    dense_s: float

    @property
    def total_s(self) -> float:
        return self.kernel_s + self.permute_s

    @property
    def kernel_speedup(self) -> float:
        return self.dense_s / self.kernel_s

    @property
    def speedup(self) -> float:
        """Speedup over dense attention, the token permutation before and after included."""
        return self.dense_s / self.total_s


def predict(
    question: Question, on: KernelConstants, heads: int = 24, head_dim: int = 128, batch: int = 1,
    element_bytes: int = 2, layers_per_permutation: int = 1,
) -> Prediction:  # fmt: skip
    """One attention of `batch` x `heads` heads with the tiles of the question.

    `layers_per_permutation`: layers that work on tokens in tile order between one permutation and its inverse. They
    must share tiles and dilation and treat tokens alike; positions in rotary embeddings are permuted once, too.
    """
    permute_bytes = permuted_bytes(question, heads, head_dim, batch, element_bytes)
    tokens = question.pattern.tokens
    return Prediction(
        on.name, kernel_s(question, on, heads, head_dim, batch),
        permute_bytes / on.copy_bytes_per_s / layers_per_permutation if on.kernels.permutes else 0.0,
        dense_s(on.name, tokens, tokens + question.extra_keys, heads, head_dim, batch),
    )  # fmt: skip


@lru_cache(maxsize=4096)
def dense_s(device_name: str, queries: int, keys: int, heads: int, head_dim: int, batch: int) -> float:
    """Dense attention by the kernel that the model of the device takes: the closed form of `simulate`, 16 bits."""
    accelerator = catalogue.load(device_name)
    sizes = {"b": batch, "h": heads, "g": 1, "m": keys, "p": queries, "e": head_dim, "f": head_dim}
    operation = Operation("dense attention", "attention", ATTENTION_1PASS, tuple(sizes.items()))
    plan = checked(accelerator.plan(operation, "physical"), accelerator)
    return sum(phase.analytical_cycles for phase in plan.phases) / accelerator.clock_hz


def kernel_s(question: Question, on: KernelConstants, heads: int, head_dim: int, batch: int) -> float:
    """Seconds of the kernel alone. A backend that masks all does so as soon as one visited tile needs a mask."""
    visits = question.visits(on.kernels.mode)
    masked = visits.total if on.kernels.masks_all and not question.block_sparse else visits.partial
    return on.kernel_s(question.tiles, visits.total - masked, masked, question.extra_key_tiles, visits.query_tiles,
                       heads * batch, head_dim)  # fmt: skip


def permuted_bytes(question: Question, heads: int, head_dim: int, batch: int, element_bytes: int) -> int:
    """Q, K and V into tile order, O back: each read once and written once; padding is written (spec: 8 N H D e)."""
    pattern = question.pattern
    if len(pattern.layout) == 1 and pattern.dilation == (1,):
        return 0  # already in order
    padded_queries, padded_keys = (
        prod(axis.dilation * -(-axis.longest_group // size) * size
             for axis, size in zip(pattern.axes, tile, strict=True))
        for tile in (question.tiles.query, question.tiles.key)
    )  # dilation groups filled up to whole tiles
    tokens = pattern.tokens
    moved = (tokens + padded_queries) + 2 * (tokens + padded_keys) + (padded_queries + tokens)
    return element_bytes * batch * heads * head_dim * moved


def end_to_end(speedup: float, attention_share: float, sparse_steps: int = 1, steps: int = 1) -> float:
    """Amdahl: `attention_share` of the run is attention, of which `sparse_steps` of `steps` are `speedup` faster."""
    changed = attention_share * sparse_steps / steps
    return 1 / (1 - changed + changed / speedup)


def end_to_end_layers(speedups: Sequence[tuple[float, int]], attention_share: float) -> float:
    """Several layers with patterns of their own: (speedup, layers) pairs that share the attention time equally."""
    layers = sum(count for _, count in speedups)
    return 1 / (1 - attention_share + attention_share / layers * sum(count / speedup for speedup, count in speedups))
