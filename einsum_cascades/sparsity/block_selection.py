"""Sparse attention whose blocks the data chooses: expected tiles per query tile, share masked, cost of choosing.

Which blocks are chosen is not known without the data, so a pattern states how many, by whom (a query, a tile of
queries, a head) and how alike neighbouring choices are; or a file states the blocks themselves (`BlockMask`). Published
methods with their published settings are rows of one table (`selection_methods`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, listed
from cascadesim.einsum_cascades.notation.schema import read_arrays
from cascadesim.einsum_cascades.sparsity.choice_passes import Pass, flops_of

Shares = NDArray[np.float64]
LARGEST_BATCH = 1 << 20  # queries counted at a time
SAMPLED = 1 << 12  # queries, evenly spread, that the blocks seen on average are taken from


@dataclass(frozen=True)
class ExpectedTiles:
    """Key tiles that each query tile visits, (query tiles,), and those of them that need a mask: averages or counts."""

    visited: Shares | NDArray[np.int64]
    partial: Shares | NDArray[np.int64]

    @property
    def total(self) -> float:
        total: float = self.visited.sum().item()
        return total


@dataclass(frozen=True)
class Selected:
    """Each selector picks `kept` of the key blocks it may see, or a `share` of them.

    A share counts the blocks that are seen anyway (`always`) among what it keeps. `selector`: queries that choose
    together (1: each query by itself, as MoBA; a tile; 0: a whole head). `always`: blocks every selector sees besides
    (its own, the first: sinks). `alike`: 0 where neighbouring selectors choose independently, 1 where they all choose
    the same; between them the expected union is interpolated (assumed: linearly, for want of published overlaps).
    `passes`: what is computed and moved besides attention; `phases`: where it runs, dense attention elsewhere;
    `repeats_keys`: its kernel has keys of its own for each query head.
    """

    name: str
    tokens: int
    block: int
    kept: float
    selector: int
    causal: bool
    head_dim: int
    always: int = 0
    alike: float = 0.0
    share: float = 0.0
    passes: tuple[Pass, ...] = ()
    phases: tuple[str, ...] = ("prefill", "decode")
    repeats_keys: bool = False

    def __post_init__(self) -> None:
        sizes = {"tokens": self.tokens, "block": self.block, "head_dim": self.head_dim}
        problems = [f"{name} must be at least 1, got {size}" for name, size in sizes.items() if size < 1]
        if self.kept < 0 or self.kept > -(-self.tokens // max(self.block, 1)):
            problems.append(f"kept must be 0 to the {-(-self.tokens // max(self.block, 1))} blocks, got {self.kept:g}")
        for name, share in (("alike", self.alike), ("share", self.share)):
            if not 0 <= share <= 1:
                problems.append(f"{name} must be a share from 0 to 1, got {share:g}")
        if self.selector < 0 or self.always < 0:
            problems.append(f"selector and always must be at least 0, got {self.selector} and {self.always}")
        if problems:
            raise CascadeSimError("\n".join(f"pattern {self.name}: {problem}" for problem in problems))

    @property
    def choice_flops(self) -> float:
        """FLOPs of scoring and choosing in one head."""
        sizes = self.sizes(self.tokens)
        return sum(flops_of(each, sizes, self.head_dim) for each in self.passes)

    def sizes(self, queries: int) -> dict[str, int]:
        """What passes count: tokens, queries, a head's depth, blocks of each, those that a query sees on average."""
        sample = np.linspace(0 if queries > 1 else self.tokens - 1, self.tokens - 1, SAMPLED, dtype=np.int64)
        return {"tokens": self.tokens, "queries": queries, "depth": self.head_dim, "block": self.block,
                "blocks": -(-self.tokens // self.block), "query-blocks": -(-queries // self.block),
                "kept": max(round(float(self._blocks(sample).mean())), 1)}

    @property
    def attended_pairs(self) -> float:
        """Pairs on average: blocks seen by each query, the own block up to the query itself where causal."""
        return sum(float(self._keys(np.arange(first, min(first + LARGEST_BATCH, self.tokens))).sum())
                   for first in range(0, self.tokens, LARGEST_BATCH))

    @property
    def last_keys(self) -> float:
        """Keys that the last query attends, on average."""
        return float(self._keys(np.array([self.tokens - 1]))[0])

    def _keys(self, queries: NDArray[np.int64]) -> Shares:
        """Keys that each query attends, on average."""
        pairs = self._blocks(queries) * self.block
        if self.causal and self.always:
            pairs = pairs - (self.block - 1 - queries % self.block)
        return np.asarray(np.minimum(pairs, queries + 1 if self.causal else self.tokens), dtype=np.float64)

    def _blocks(self, queries: NDArray[np.int64]) -> Shares:
        """Blocks that each query sees, on average, its own one whole."""
        candidates = self._candidates(queries)
        return np.minimum(self._chosen(candidates) + self.always, candidates)

    def _candidates(self, query: NDArray[np.int64]) -> NDArray[np.int64]:
        """Blocks that a query may see."""
        every = -(-self.tokens // self.block)
        return query // self.block + 1 if self.causal else np.full_like(query, every)

    def _chosen(self, candidates: NDArray[np.int64] | Shares) -> Shares:
        """Blocks that a selector picks besides those that it always sees."""
        return np.maximum(self.share * candidates - self.always, self.kept)

    def tiles(self, query_tile: int, key_tile: int) -> ExpectedTiles:
        """Expected tiles: those that some selector of the query tile sees; masked unless all of its queries see all.

        A key tile of several blocks needs one of them to be visited, and all of them to be full.
        """
        first = np.arange(0, self.tokens, query_tile)
        last = np.minimum(first + query_tile, self.tokens) - 1
        candidates = self._candidates(last).astype(np.float64)
        own = (last // self.block - first // self.block + 1.0) if self.always else np.zeros_like(candidates)
        fixed = np.minimum(self.always + np.maximum(own - 1, 0), candidates)
        some, every = self._seen(self._chosen(candidates), candidates - fixed, last - first + 1)
        per_tile, per_block = max(1.0, key_tile / self.block), max(1.0, self.block / key_tile)
        free = (candidates - fixed) / per_tile * per_block
        chosen, full = free * (1 - (1 - some) ** per_tile), free * every**per_tile
        diagonal, later = self._own(first, last, np.minimum(own, fixed) / per_tile, key_tile)
        visited = chosen + fixed / per_tile * per_block - later
        return ExpectedTiles(visited, np.minimum(np.maximum(chosen - full, 0.0) + diagonal, visited))

    def _own(
        self, first: NDArray[np.int64], last: NDArray[np.int64], own: Shares, key_tile: int
    ) -> tuple[Shares, Shares]:
        """Key tiles of a causal query tile's own blocks: on its diagonal, and wholly after it, which none visits.

        `own`: its own blocks, in key tiles where those are no smaller.
        """
        if not (self.causal and self.always):
            return np.zeros_like(own), np.zeros_like(own)
        if self.block <= key_tile:
            return own, np.zeros_like(own)
        end = -(-(last + 1) // key_tile)
        later = (last // self.block + 1) * self.block / key_tile - end
        return (end - (first + 1) // key_tile).astype(np.float64), np.maximum(later, 0.0)

    def _seen(self, chosen: Shares, free: Shares, queries: NDArray[np.int64]) -> tuple[Shares, Shares]:
        """Chance that some, and that every, selector of a query tile chooses a given one of its `free` blocks."""
        selectors = 1.0 if self.selector == 0 else np.maximum(queries / self.selector, 1.0)
        share = np.minimum(np.divide(chosen, free, out=np.zeros_like(free), where=free > 0), 1.0)
        some = self.alike * share + (1 - self.alike) * (1 - (1 - share) ** selectors)
        every = self.alike * share + (1 - self.alike) * share**selectors
        return some, every


@dataclass(frozen=True)
class BlockMask:
    """Blocks as a file or a program chose them: `blocks[i, j]` says that query block i attends key block j whole.

    `diagonal`: no query attends what comes after it, which cuts the blocks of its own position (as many keys as queries
    in a block).
    """

    blocks: NDArray[np.bool_]
    query_block: int
    key_block: int
    diagonal: bool = False

    choice_flops = 0.0
    phases = ("prefill", "decode")

    @property
    def block(self) -> int:
        """Keys of a block, which a kernel's tiles should not straddle."""
        return self.key_block

    @property
    def attended_pairs(self) -> int:
        """Pairs in chosen blocks; blocks at the ends count as whole ones."""
        cut = int(np.trace(self.blocks)) * self.query_block * (self.query_block - 1) // 2 if self.diagonal else 0
        return int(self.blocks.sum()) * self.query_block * self.key_block - cut

    @property
    def last_keys(self) -> int:
        """Keys that the last query attends."""
        return int(self.blocks[-1].sum()) * self.key_block

    @property
    def causal(self) -> bool:
        """Whether it chooses among earlier blocks: some below the diagonal of tokens, and none wholly above it.

        Blocks on the diagonal alone are those of windows and documents, causal or not: they say nothing.
        """
        queries, keys = (np.arange(size) for size in self.blocks.shape)
        after = keys * self.key_block >= (queries[:, None] + 1) * self.query_block
        before = (keys + 1) * self.key_block <= queries[:, None] * self.query_block
        return self.diagonal or bool(self.blocks[before].any() and not self.blocks[after].any())

    def tiles(self, query_tile: int, key_tile: int) -> ExpectedTiles:
        """Exact: tiles that meet a chosen block; masked where they also meet one that was not chosen."""
        if self.query_block % query_tile == 0:
            return self._tiles_within(query_tile, key_tile)
        some, every = (
            _pooled(_pooled(self.blocks, self.query_block, query_tile, how).T, self.key_block, key_tile, how).T
            for how in (np.logical_or, np.logical_and)
        )
        if self.diagonal:
            first, start = np.arange(some.shape[0])[:, None] * query_tile, np.arange(some.shape[1]) * key_tile
            some = some & (start < first + query_tile)
            every = every & (start + key_tile <= first + 1)
        return ExpectedTiles(some.sum(axis=1).astype(float), (some & ~every).sum(axis=1).astype(float))

    def _tiles_within(self, query_tile: int, key_tile: int) -> ExpectedTiles:
        """The same where query tiles are parts of blocks, whose keys are those of their block up to their diagonal."""
        ways = (np.logical_or, np.logical_and)
        some, every = (_pooled(self.blocks.T, self.key_block, key_tile, how).T for how in ways)
        first = np.arange(self.blocks.shape[0] * self.query_block // query_tile) * query_tile
        row, tiles = first // self.query_block, some.shape[1]
        seen = np.minimum(-(-(first + query_tile) // key_tile), tiles) if self.diagonal else tiles
        uncut = np.minimum((first + 1) // key_tile, tiles) if self.diagonal else tiles
        visited, full = (np.pad(np.cumsum(which, axis=1, dtype=np.int32), ((0, 0), (1, 0)))[row, end]
                         for which, end in ((some, seen), (some & every, uncut)))  # fmt: skip
        return ExpectedTiles(visited.astype(float), (visited - full).astype(float))


def read_block_mask(path: Path, query_block: int, key_block: int) -> BlockMask:
    """A two-dimensional array in a `.npy` file, nonzero where a block is attended. Raises CascadeSimError."""
    arrays = read_arrays(path)
    blocks = arrays.get("")
    if blocks is None or blocks.ndim != 2 or 0 in blocks.shape or blocks.dtype.kind not in "biuf":
        given = f"{blocks.shape} of {blocks.dtype}" if blocks is not None else f"a .npz of {listed(arrays)}"
        raise CascadeSimError(f"{path}: expected a two-dimensional array of numbers or truth values, got {given}")
    if min(query_block, key_block) < 1:
        raise CascadeSimError(f"{path}: blocks must be at least 1 token, got {query_block} and {key_block}")
    return BlockMask(blocks != 0, query_block, key_block)


def _pooled(blocks: NDArray[np.bool_], block: int, tile: int, how: np.ufunc) -> NDArray[np.bool_]:
    """Rows of blocks that each tile meets, put together."""
    tokens = blocks.shape[0] * block
    return np.stack([how.reduce(blocks[start // block : -(-min(start + tile, tokens) // block)], axis=0)
                     for start in range(0, tokens, tile)])
