"""Bounds of patterns that are no neighborhood, on flattened one-dimensional tiles, in the same JSON as neighborhoods.

Static patterns count exactly, block masks too; patterns whose blocks the data chooses give expectations and the cost
of choosing. Patterns are named on the command line: `sink-window:sinks=64,window=4096`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from cascadesim.accelerators.neighborhood_kernels import FLOPS_PER_PAIR
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, shortened
from cascadesim.einsum_cascades.sparsity.pattern_masks import PatternMask
from cascadesim.einsum_cascades.sparsity.pattern_names import named
from cascadesim.simulator.gna.pattern_times import PatternPrediction, pattern_prediction
from cascadesim.simulator.gna.report import SCHEMA, Scenario


@dataclass(frozen=True)
class PatternAnswer:
    """Visited tiles (exact or expected) of one head, and what they bound.

    Bounds are against dense attention under the same mask: where the pattern is causal, dense causal attention.
    """

    name: str
    tokens: int
    query_tile: int
    key_tile: int
    head_dim: int
    causal: bool
    attended_pairs: float
    visited: float
    largest: float
    partial: float
    choice_flops: float  # of selecting blocks, where data does
    prediction: PatternPrediction | None = None

    def __post_init__(self) -> None:
        if not (self.attended_pairs > 0 and self.visited > 0):
            raise CascadeSimError(f"pattern {shortened(self.name)}: no query attends any key")

    @property
    def dense_tiles(self) -> int:
        """Tile pairs; causal: key tiles up to the last query of each query tile."""
        ends = np.minimum(np.arange(self.query_tile, self.tokens + self.query_tile, self.query_tile), self.tokens)
        seen = ends if self.causal else np.full_like(ends, self.tokens)
        return int((-(-seen // self.key_tile)).sum())

    @property
    def dense_pairs(self) -> int:
        return self.tokens * (self.tokens + 1) // 2 if self.causal else self.tokens**2

    @property
    def flop_bound(self) -> float:
        return self.dense_pairs / self.attended_pairs

    @property
    def sparsity(self) -> float:
        return 1 - self.attended_pairs / self.dense_pairs

    @property
    def mean_bound(self) -> float:
        return self.dense_tiles / self.visited

    @property
    def worst_bound(self) -> float:
        return -(-self.tokens // self.key_tile) / self.largest

    @property
    def efficiency(self) -> float:
        return self.attended_pairs / (self.visited * self.query_tile * self.key_tile)

    @property
    def bound_with_choice(self) -> float:
        """The mean bound when choosing costs what it computes, at the rate of the attention itself."""
        tile_flops = FLOPS_PER_PAIR * self.query_tile * self.key_tile * self.head_dim
        return self.dense_tiles * tile_flops / (self.visited * tile_flops + self.choice_flops)

    def to_dict(self) -> dict[str, object]:
        mode = {
            "total": self.visited, "max": self.largest, "mean_bound": self.mean_bound,
            "worst_bound": self.worst_bound, "efficiency": self.efficiency,
        }  # fmt: skip
        return {
            "schema": SCHEMA, "pattern": self.name, "tokens": self.tokens, "attended_pairs": self.attended_pairs,
            "causal": self.causal, "flop_bound": self.flop_bound, "sparsity": self.sparsity,
            "block_sparse": self.partial == 0, "masked_tiles": self.partial, "modes": {"flat_union": mode},
            "choice_flops": self.choice_flops, "mean_bound_with_choice": self.bound_with_choice,
            "predicted": self.prediction and self.prediction.to_dict(), "recommendations": [],
        }  # fmt: skip


def pattern_answer(
    layout: tuple[int, ...], pattern: str | None, block_mask: Path | None, query_tile: tuple[int, ...],
    key_tile: tuple[int, ...], run: Scenario | None = None,
) -> PatternAnswer:  # fmt: skip
    """One of `pattern` (`name:field=value,…`) and `block_mask` (a .npy file whose blocks are the tiles).

    Times are those of a pattern on the scenario's device, where it has one.
    """
    run = run or Scenario()
    tokens, queries, keys = prod(layout), prod(query_tile), prod(key_tile)
    text = pattern or f"block-mask:file={block_mask},queries={queries},keys={keys}"
    mask = PatternMask(text, layout, named(text, layout).causal)
    found, tiles = mask.pattern, mask.visited(queries, keys)
    pairs = min(found.attended_pairs, tokens**2)
    prediction = None if run.device is None else pattern_prediction(mask, run)
    return PatternAnswer(pattern or str(block_mask), tokens, queries, keys, run.head_dim, found.causal, pairs,
                         tiles.total, tiles.visited.max().item(), tiles.partial.sum().item(), found.choice_flops,
                         prediction)  # fmt: skip
