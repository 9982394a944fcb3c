"""Bounds of patterns that are no neighborhood, on flattened one-dimensional tiles, in the same JSON as neighborhoods.

Static patterns count exactly, block masks too; patterns whose blocks the data chooses give expectations and the cost
of choosing. Patterns are named on the command line: `sink-window:sinks=64,window=4096`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from cascadesim.accelerators.neighborhood_kernels import FLOPS_PER_PAIR
from cascadesim.einsum_cascades.models.layers import layout_sizes
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError, listed, shortened
from cascadesim.einsum_cascades.sparsity import sparse_patterns as patterns
from cascadesim.einsum_cascades.sparsity.block_selection import (
    SELECTED,
    BlockMask,
    Selected,
    read_block_mask,
    selected,
    settings_of,
)
from cascadesim.einsum_cascades.sparsity.sparse_patterns import SparsePattern, sliding_tile
from cascadesim.simulator.gna.report import SCHEMA

# name -> (constructor, fields it takes besides the tokens)
STATIC: Mapping[str, tuple[Callable[..., SparsePattern], tuple[str, ...]]] = {
    "sink-window": (patterns.sink_window, ("sinks", "window")),
    "global-window": (patterns.global_window, ("window", "globals")), "strided": (patterns.strided, ("length",)),
    "fixed": (patterns.fixed, ("length", "columns")), "halo": (patterns.halo, ("block", "halo")),
    "block-causal": (patterns.block_causal, ("block",)),
}  # fmt: skip
_SHAPED: Mapping[str, tuple[str, ...]] = {  # fields of patterns that follow the layout
    "documents": ("lengths", "causal"), "frame-decay": (), "sliding-tile": ("tile", "window"),
}  # fmt: skip


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
            "choice_flops": self.choice_flops, "mean_bound_with_choice": self.bound_with_choice, "predicted": None,
            "recommendations": [],
        }  # fmt: skip


def pattern_answer(
    layout: tuple[int, ...], pattern: str | None, block_mask: Path | None, query_tile: tuple[int, ...],
    key_tile: tuple[int, ...], head_dim: int,
) -> PatternAnswer:  # fmt: skip
    """One of `pattern` (`name:field=value,…`) and `block_mask` (a .npy file whose blocks are the tiles)."""
    tokens, queries, keys, name = prod(layout), prod(query_tile), prod(key_tile), str(block_mask or pattern or "")
    found = named(name, layout) if block_mask is None else read_block_mask(block_mask, queries, keys)
    expected = (-(-tokens // queries), -(-tokens // keys))
    if block_mask is not None and isinstance(found, BlockMask) and found.blocks.shape != expected:
        raise CascadeSimError(f"{block_mask}: {found.blocks.shape} blocks; the layout has {expected} tiles")
    if isinstance(found, Selected | BlockMask):
        tiles = found.tiles(queries, keys)
        pairs = min(found.attended_pairs, tokens**2)
        return PatternAnswer(name, tokens, queries, keys, head_dim, found.causal, pairs, tiles.total,
                             float(tiles.visited.max()), float(tiles.partial.sum()), found.choice_flops)  # fmt: skip
    counts = np.array([
        (part.pairs.sum(), part.visited.sum(), part.visited.max(initial=0), (part.visited - part.full).sum())
        for part in patterns.tile_rows(found, queries, keys)
    ])
    total_pairs, total, _, partial = counts.sum(axis=0).tolist()
    return PatternAnswer(name, tokens, queries, keys, head_dim, patterns.is_causal(found), total_pairs, total,
                         int(counts[:, 2].max()), partial, 0.0)


def pattern_fields() -> Mapping[str, Mapping[str, float | None]]:
    """Each pattern that can be named -> its fields, with the value that one has without being given, or None."""
    static = {name: fields for name, (_, fields) in STATIC.items()} | dict(_SHAPED)
    given: dict[str, Mapping[str, float | None]] = {name: dict.fromkeys(fields) for name, fields in static.items()}
    return given | {name: settings_of(name) for name in SELECTED}


def named(text: str, layout: tuple[int, ...]) -> SparsePattern | Selected | BlockMask:
    """The pattern that a text such as `moba:kept=2` or `documents:lengths=5+12+7` names. Raises CascadeSimError.

    `sliding-tile:tile=6x8x8,window=3x3x3` is in tile order; frames of `frame-decay` are the layout's first dimension.
    """
    name, _, given = text.partition(":")
    settings = _settings(name, given)
    tokens = prod(layout)
    if name in _SHAPED and not set(settings) <= set(_SHAPED[name]):
        raise CascadeSimError(f"pattern {name}: knows the fields {listed(_SHAPED[name]) or '(none)'}; "
                              f"got {listed(settings)}")
    if name == "documents":
        lengths = tuple(_whole(name, "lengths", part) for part in settings.get("lengths", "").split("+"))
        if sum(lengths) != tokens:
            raise CascadeSimError(
                f"pattern documents: lengths add up to {sum(lengths)}, the layout has {tokens} tokens"
            )
        flag = settings.get("causal", "1")
        if flag not in ("0", "1"):
            raise CascadeSimError(f"pattern documents: causal: '{shortened(flag)}'; give 0 or 1")
        return patterns.documents(lengths, flag == "1")
    if name == "frame-decay":
        return patterns.frame_decay(layout[0], tokens // layout[0])
    if name == "sliding-tile":
        return sliding_tile(layout, *(layout_sizes(settings.get(field, ""), f"pattern sliding-tile: {field}")
                                      for field in ("tile", "window")))  # fmt: skip
    if name in SELECTED:
        return selected(name, tokens, **{field: _number(name, field, value) for field, value in settings.items()})
    if name not in STATIC:
        raise UnknownNameError("pattern", name, (*STATIC, *_SHAPED, *SELECTED))
    build, fields = STATIC[name]
    if set(settings) != set(fields):
        raise CascadeSimError(f"pattern {name}: needs the fields {', '.join(fields)}; got "
                              f"{listed(settings) or 'none'}")
    return build(tokens, *(_whole(name, field, settings[field]) for field in fields))


def _settings(name: str, text: str) -> dict[str, str]:
    parts = [part.partition("=") for part in text.split(",") if part]
    if any(not equals or not value for _, equals, value in parts):
        raise CascadeSimError(f"pattern {shortened(name)}: '{shortened(text)}'; give field=value, several separated "
                              "by commas")
    settings = {field.strip(): value.strip() for field, _, value in parts}
    if len(settings) < len(parts):
        raise CascadeSimError(f"pattern {shortened(name)}: '{shortened(text)}' gives a field twice")
    return settings


def _number(name: str, field: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise CascadeSimError(f"pattern {name}: {field}: '{shortened(value)}' is not a number") from None
    if not 0 <= number < 2**53:
        raise CascadeSimError(f"pattern {name}: {field}: {shortened(value)}; give a number from 0 to 2^53")
    return int(number) if number.is_integer() else number


def _whole(name: str, field: str, value: str) -> int:
    number = _number(name, field, value)
    if not isinstance(number, int):
        raise CascadeSimError(f"pattern {name}: {field}: {shortened(value)}; give a whole number")
    return number
