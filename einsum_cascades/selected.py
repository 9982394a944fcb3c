"""Sparse attention whose blocks the data chooses: expected tiles per query tile, share masked, cost of choosing.

Which blocks are chosen is not known without the data, so a pattern states how many, by whom (a query, a tile of
queries, a head) and how alike neighbouring choices are; or a file states the blocks themselves (`BlockMask`).
Sources: MoBA (arXiv 2502.13189), FlashMoBA (2511.11571), VMoBA (2506.23858), NSA (2502.11089), VSA (2505.13389),
PBS-Attn (2510.21270), SALE (2505.24179), MInference (2407.02490), XAttention (2503.16428).
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.errors import CascadeSimError
from cascadesim.einsum_cascades.text_files import LARGEST_ARRAY_BYTES, read_bytes

Shares = NDArray[np.float64]


@dataclass(frozen=True)
class ExpectedTiles:
    """Per query tile: key tiles visited on average, and those of them that need a mask."""

    visited: Shares
    partial: Shares

    @property
    def total(self) -> float:
        return float(self.visited.sum())


@dataclass(frozen=True)
class Selected:
    """Each selector picks `kept` of the key blocks it may see.

    `selector`: queries that choose together (1: each query by itself, as MoBA; a tile; 0: a whole head). `always`:
    blocks every selector sees besides (its own, the first: sinks). `alike`: 0 where neighbouring selectors choose
    independently, 1 where they all choose the same; between them the expected union is interpolated (assumed:
    linearly, for want of published overlaps). `choice_flops_per_query`: of scoring and choosing, per head.
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
    choice_flops_per_query: float = 0.0

    def __post_init__(self) -> None:
        problems = [f"{name} must be at least 1, got {size}" for name, size in self._sizes() if size < 1]
        if self.kept < 0 or self.kept > -(-self.tokens // max(self.block, 1)):
            problems.append(f"kept must be 0 to the {-(-self.tokens // max(self.block, 1))} blocks, got {self.kept:g}")
        if not 0 <= self.alike <= 1:
            problems.append(f"alike must be a share from 0 to 1, got {self.alike:g}")
        if self.selector < 0 or self.always < 0:
            problems.append(f"selector and always must be at least 0, got {self.selector} and {self.always}")
        if problems:
            raise CascadeSimError("\n".join(f"pattern {self.name}: {problem}" for problem in problems))

    def _sizes(self) -> tuple[tuple[str, int], ...]:
        return (("tokens", self.tokens), ("block", self.block), ("head_dim", self.head_dim))

    @property
    def choice_flops(self) -> float:
        """Of one head."""
        return self.choice_flops_per_query * self.tokens

    @property
    def attended_pairs(self) -> float:
        """On average: blocks seen by each query, the own block up to the query itself where causal."""
        queries = np.arange(self.tokens)
        blocks = np.minimum(self.kept + self.always, self._candidates(queries))
        pairs = blocks * self.block
        if self.causal and self.always:
            pairs = pairs - (self.block - 1 - queries % self.block)
        return float(np.minimum(pairs, self.tokens).sum())

    def _candidates(self, query: NDArray[np.int64]) -> NDArray[np.int64]:
        """Blocks that a query may see."""
        every = -(-self.tokens // self.block)
        return query // self.block + 1 if self.causal else np.full_like(query, every)

    def tiles(self, query_tile: int, key_tile: int) -> ExpectedTiles:
        """Expected tiles: those that some selector of the query tile sees; masked unless all of its queries see all.

        A key tile of several blocks needs one of them to be visited, and all of them to be full.
        """
        first = np.arange(0, self.tokens, query_tile)
        last = np.minimum(first + query_tile, self.tokens) - 1
        candidates = self._candidates(last).astype(np.float64)
        own = (last // self.block - first // self.block + 1.0) if self.always else np.zeros_like(candidates)
        fixed = np.minimum(self.always + np.maximum(own - 1, 0), candidates)
        some, every = self._seen(candidates - fixed, last - first + 1)
        masked_own = np.minimum(own, fixed) if self.causal else np.zeros_like(fixed)
        per_tile = max(1.0, key_tile / self.block)
        tiles_per_block = max(1.0, self.block / key_tile)
        free = (candidates - fixed) / per_tile
        visited = free * (1 - (1 - some) ** per_tile) + fixed / per_tile
        full = free * every**per_tile + (fixed - masked_own) / per_tile
        return ExpectedTiles(visited * tiles_per_block, np.maximum(visited - full, 0.0) * tiles_per_block)

    def _seen(self, free: Shares, queries: NDArray[np.int64]) -> tuple[Shares, Shares]:
        """Chance that some, and that every, selector of a query tile chooses a given one of its `free` blocks."""
        selectors = 1.0 if self.selector == 0 else np.maximum(queries / self.selector, 1.0)
        share = np.minimum(np.divide(self.kept, free, out=np.zeros_like(free), where=free > 0), 1.0)
        some = self.alike * share + (1 - self.alike) * (1 - (1 - share) ** selectors)
        every = self.alike * share + (1 - self.alike) * share**selectors
        return some, every


@dataclass(frozen=True)
class BlockMask:
    """Blocks as a file or a program chose them: `blocks[i, j]` says that query block i attends key block j whole."""

    blocks: NDArray[np.bool_]
    query_block: int
    key_block: int

    @property
    def density(self) -> float:
        return float(self.blocks.mean())

    def tiles(self, query_tile: int, key_tile: int) -> ExpectedTiles:
        """Exact: tiles that meet a chosen block; masked where they also meet one that was not chosen."""
        rows = _edges(self.blocks.shape[0], self.query_block, query_tile)
        columns = _edges(self.blocks.shape[1], self.key_block, key_tile)
        some = _pooled(_pooled(self.blocks, rows, np.logical_or).T, columns, np.logical_or).T
        every = _pooled(_pooled(self.blocks, rows, np.logical_and).T, columns, np.logical_and).T
        return ExpectedTiles(some.sum(axis=1).astype(float), (some & ~every).sum(axis=1).astype(float))


def read_block_mask(path: Path, query_block: int, key_block: int) -> BlockMask:
    """A two-dimensional array in a `.npy` file, nonzero where a block is attended. Raises CascadeSimError."""
    try:
        blocks = np.load(BytesIO(read_bytes(path, LARGEST_ARRAY_BYTES)), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CascadeSimError(f"{path}: cannot be read as a .npy array: {error}") from None
    if not isinstance(blocks, np.ndarray) or blocks.ndim != 2 or 0 in blocks.shape or blocks.dtype.kind not in "biuf":
        given = getattr(blocks, "shape", type(blocks).__name__)
        raise CascadeSimError(f"{path}: expected a two-dimensional array of numbers or truth values, got {given}")
    if min(query_block, key_block) < 1:
        raise CascadeSimError(f"{path}: blocks must be at least 1 token, got {query_block} and {key_block}")
    return BlockMask(blocks != 0, query_block, key_block)


def _edges(blocks: int, block: int, tile: int) -> list[tuple[int, int]]:
    """Blocks first .. end that each tile meets."""
    tokens = blocks * block
    return [(start // block, -(-min(start + tile, tokens) // block)) for start in range(0, tokens, tile)]


def _pooled(blocks: NDArray[np.bool_], edges: list[tuple[int, int]], how: np.ufunc) -> NDArray[np.bool_]:
    return np.stack([how.reduce(blocks[first:end], axis=0) for first, end in edges])
