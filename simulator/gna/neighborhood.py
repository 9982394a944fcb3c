"""The GNA simulator: what a neighborhood pattern can give on given tiles, how long it takes on a device, why not less.

Counts the key tiles that each query tile visits, exactly, in four tilings; bounds the speedup over dense attention on
the same tiles. GNA (arXiv 2504.16922), section 3; the paper's figure is the worst bound: dense key tiles over the
LARGEST number of visited key tiles. Times price visited tiles, full and masked apart, in waves of thread blocks:

    time = waves x mean over query tiles of (full + masked x masked_cost + overhead) x time of one full tile per SM

The time of a tile comes from the constants that the accelerator offers for its kernels, dense attention from the model
of the device; one without constants has no prediction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from math import prod
from typing import Literal, TypeAlias

import numpy as np

from cascadesim.accelerators import catalogue
from cascadesim.accelerators.neighborhood_kernels import KernelConstants, TileShapes
from cascadesim.accelerators.protocol import Accelerator, checked
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.masks import FULL, Axis, Mask, Neighborhood, Positions
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_1PASS
from cascadesim.simulator.gna.visits import (
    DeadTiles,
    Tiling,
    Visits,
    axis_tiles,
    backward_tiles,
    flat_tiles,
    group_tiles,
)

Mode: TypeAlias = Literal["multidim_static", "multidim_dynamic", "flat_union", "flat_span"]
MODES: tuple[Mode, ...] = ("multidim_static", "multidim_dynamic", "flat_union", "flat_span")
TILINGS: Mapping[Mode, Tiling] = {"multidim_static": "static", "multidim_dynamic": "dynamic"}


@dataclass(frozen=True)
class Question:
    """A pattern, the tiles it runs on, and `extra_keys` further keys that every query attends (text tokens)."""

    pattern: Neighborhood
    tiles: TileShapes
    extra_keys: int = 0
    dead_tiles: DeadTiles = "skip"

    def __post_init__(self) -> None:
        ranks = {"query tile": len(self.tiles.query), "key/value tile": len(self.tiles.key)}
        wrong = [f"{name} has {rank}" for name, rank in ranks.items() if rank != len(self.pattern.layout)]
        if wrong:
            raise CascadeSimError(f"the layout has {len(self.pattern.layout)} dimensions, but {', '.join(wrong)}")
        if self.extra_keys < 0:
            raise CascadeSimError(f"extra key/value tokens must be at least 0, got {self.extra_keys}")

    @property
    def attended_pairs(self) -> int:
        """(query, key) pairs: those inside the layout, and every query with every extra key."""
        return self.pattern.pairs + self.pattern.tokens * self.extra_keys

    @property
    def sparsity(self) -> float:
        return 1 - self.attended_pairs / self._dense_pairs

    @property
    def flop_bound(self) -> float:
        """Speedup if every attended pair cost the same and no other was computed."""
        return self._dense_pairs / self.attended_pairs

    @property
    def _dense_pairs(self) -> int:
        return self.pattern.tokens * (self.pattern.tokens + self.extra_keys)

    @property
    def dense_key_tiles(self) -> int:
        """Key tiles a query tile of dense attention visits, on one-dimensional tiles of the same size."""
        return -(-(self.pattern.tokens + self.extra_keys) // self.tiles.keys)

    @property
    def dense_query_tiles(self) -> int:
        return -(-self.pattern.tokens // self.tiles.queries)

    @property
    def extra_key_tiles(self) -> int:
        return -(-self.extra_keys // self.tiles.keys)

    @property
    def sides(self) -> tuple[tuple[Axis, int, int], ...]:
        """Axis, side of the query tile and side of the key tile, dimension by dimension."""
        return tuple(zip(self.pattern.axes, self.tiles.query, self.tiles.key, strict=True))

    @cached_property
    def block_sparse(self) -> bool:
        """Says whether no visited tile pair needs a mask (multi-dimensional static tiling)."""
        return all(axis_tiles(*side).partial == 0 for side in self.sides)

    def visits(self, mode: Mode) -> Visits:
        """Counts visited tile pairs inside the layout; the extra keys come on top."""
        if mode in TILINGS:
            return _product(axis_tiles(*side, TILINGS[mode], self.dead_tiles) for side in self.sides)
        counts = self._flat[mode]
        return Visits(int(counts.sum()), int(counts.max()), 0, len(counts))

    def per_query_tile(self, mode: Mode) -> Positions:
        """Counts the key tiles that each query tile visits: (query tiles,) int64.

        Multi-dimensional tilings are ordered by dilation group, then row by row.
        """
        if mode not in TILINGS:
            return self._flat[mode]
        parts = [
            np.stack([group_tiles(axis, members, query, key, TILINGS[mode])[0]
                      for members, count in axis.groups for _ in range(count)])
            for axis, query, key in self.sides
        ]  # (dilation groups, query tiles of a group), dimension by dimension
        return reduce(_outer, parts).reshape(-1)

    @cached_property
    def _flat(self) -> Mapping[Mode, Positions]:
        """Both flattened modes: the enumeration is the only work here that grows with the layout."""
        union, span = flat_tiles(self.pattern, self.tiles.queries, self.tiles.keys)
        return {"flat_union": union, "flat_span": span}

    def bound(self, mode: Mode) -> Bound:
        return Bound(self, self.visits(mode))

    def backward(self) -> Bound:
        """The backward pass with these tiles: key tiles outside, query tiles inside (static tiling).

        The extra keys are further key tiles, each visited by every query tile.
        """
        return Bound(self, _product(backward_tiles(*side) for side in self.sides), backward=True)


@dataclass(frozen=True)
class Bound:
    """The speedup over dense attention on the same tiles that the visited tiles allow.

    `visits` are those inside the layout. The extra keys fill further key tiles, and every query tile visits each.
    """

    question: Question
    visits: Visits
    backward: bool = False

    @property
    def total(self) -> int:
        """Visited tile pairs, those of the extra keys among them."""
        return self.visits.total + self.visits.query_tiles * self.question.extra_key_tiles

    @property
    def largest(self) -> int:
        """Key tiles that the busiest query tile visits; backward: query tiles that visit the busiest key tile."""
        extra = self.question.extra_key_tiles
        if self.backward:
            return max(self.visits.largest, self.visits.query_tiles if extra else 0)
        return self.visits.largest + extra

    @property
    def worst(self) -> float:
        """Dense key tiles over the most that one query tile visits: what GNA's tables print."""
        dense = self.question.dense_query_tiles if self.backward else self.question.dense_key_tiles
        return dense / self.largest

    @property
    def mean(self) -> float:
        """Dense tile pairs over visited ones, padding of the query tiles included."""
        return self.question.dense_query_tiles * self.question.dense_key_tiles / self.total

    @property
    def efficiency(self) -> float:
        """Share of the work in visited tiles that is attended: 1 means no multiply-add is wasted."""
        return self.question.attended_pairs / (self.total * self.question.tiles.queries * self.question.tiles.keys)


def question(
    pattern: Neighborhood, query_tile: Sequence[int], key_tile: Sequence[int], extra_keys: int = 0,
    dead_tiles: DeadTiles = "skip",
) -> Question:  # fmt: skip
    return Question(pattern, TileShapes(tuple(query_tile), tuple(key_tile)), extra_keys, dead_tiles)


def _product(dimensions: Iterable[Visits]) -> Visits:
    """Every count of all dimensions together is the product of those along each."""
    along = [(each.total, each.largest, each.full, each.query_tiles) for each in dimensions]
    return Visits(*map(prod, zip(*along, strict=True)))


def _outer(left: Positions, right: Positions) -> Positions:
    """Groups by tiles of two dimensions together: all pairs of groups, then all pairs of tiles."""
    both = left[:, None, :, None] * right[None, :, None, :]
    return np.asarray(both.reshape(len(left) * len(right), -1))


@dataclass(frozen=True)
class Prediction:
    """Times of one attention operation, forward. `dense_s`: dense attention on the device, as `simulate` has it.

    `permute_s`: tokens, or rows of heads, moved before and after. `choice_s`: passes that choose what is attended.
    """

    device: str
    kernel_s: float
    permute_s: float
    dense_s: float
    choice_s: float = 0.0

    @property
    def total_s(self) -> float:
        return self.kernel_s + self.permute_s + self.choice_s

    @property
    def kernel_speedup(self) -> float:
        return self.dense_s / self.kernel_s

    @property
    def speedup(self) -> float:
        """Speedup over dense attention, what is moved and chosen included."""
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
    keys = tokens + question.extra_keys
    least_s = floor_s(on.name, tokens, keys, heads * batch * head_dim * element_bytes)
    return Prediction(
        on.name, max(kernel_s(question, on, heads, head_dim, batch), least_s),
        permute_bytes / on.copy_bytes_per_s / layers_per_permutation if on.kernels.permutes else 0.0,
        dense_s(on.name, tokens, keys, heads, head_dim, batch),
    )  # fmt: skip


@lru_cache(maxsize=4096)
def dense_s(
    device_name: str, queries: int, keys: int, heads: int, head_dim: int, batch: int, mask: Mask = FULL
) -> float:
    """Attention by the kernel that the model of the device takes: the closed form of `simulate`, 16 bits."""
    sizes = {"b": batch, "h": heads, "g": 1, "m": keys, "p": queries, "e": head_dim, "f": head_dim}
    return planned_s(Operation("dense attention", "attention", ATTENTION_1PASS, tuple(sizes.items()), mask=mask),
                     catalogue.load(device_name))  # fmt: skip


def floor_s(device_name: str, queries: int, keys: int, row_bytes: int) -> float:
    """No kernel ends before one for a single query and key would, nor before all rows have passed by DRAM once."""
    dram_bytes_per_s = catalogue.load(device_name).capabilities.dram_bytes_per_s
    moved_s = 2 * (queries + keys) * row_bytes / dram_bytes_per_s if dram_bytes_per_s else 0.0
    return max(dense_s(device_name, 1, 1, 1, 64, 1), moved_s)


def planned_s(operation: Operation, accelerator: Accelerator) -> float:
    """The closed form of an operation, as often as it runs."""
    plan = checked(accelerator.plan(operation, "physical"), accelerator)
    return operation.count * sum(phase.analytical_cycles for phase in plan.phases) / accelerator.clock_hz


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
