"""Sparse attention whose blocks the data chooses: expected tiles per query tile, share masked, cost of choosing.

Which blocks are chosen is not known without the data, so a pattern states how many, by whom (a query, a tile of
queries, a head) and how alike neighbouring choices are; or a file states the blocks themselves (`BlockMask`). Published
methods with their published settings are rows of one table, `SELECTED`: what each keeps and what its choice costs; a
multiply and an add are two FLOPs. MInference is arXiv 2407.02490; the others are cited where they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, UnknownNameError, listed, shortened
from cascadesim.einsum_cascades.notation.schema import read_arrays

Shares = NDArray[np.float64]
LARGEST_BATCH = 1 << 20  # queries counted at a time


@dataclass(frozen=True)
class ExpectedTiles:
    """Key tiles that each query tile visits on average, (query tiles,) float64, and those of them that need a mask."""

    visited: Shares
    partial: Shares

    @property
    def total(self) -> float:
        return float(self.visited.sum())


@dataclass(frozen=True)
class Selected:
    """Each selector picks `kept` of the key blocks it may see, or a `share` of them.

    A share counts the blocks that are seen anyway (`always`) among what it keeps. `selector`: queries that choose
    together (1: each query by itself, as MoBA; a tile; 0: a whole head). `always`: blocks every selector sees besides
    (its own, the first: sinks). `alike`: 0 where neighbouring selectors choose independently, 1 where they all choose
    the same; between them the expected union is interpolated (assumed: linearly, for want of published overlaps).
    `choice_flops_per_query`: of scoring and choosing, per head.
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
    share: float = 0.0

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
        return self.choice_flops_per_query * self.tokens

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
        candidates = self._candidates(queries)
        pairs = np.minimum(self._chosen(candidates) + self.always, candidates) * self.block
        if self.causal and self.always:
            pairs = pairs - (self.block - 1 - queries % self.block)
        return np.asarray(np.minimum(pairs, queries + 1 if self.causal else self.tokens), dtype=np.float64)

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
        some, every = (
            _pooled(_pooled(self.blocks, self.query_block, query_tile, how).T, self.key_block, key_tile, how).T
            for how in (np.logical_or, np.logical_and)
        )
        if self.diagonal:
            first, start = np.arange(some.shape[0])[:, None] * query_tile, np.arange(some.shape[1]) * key_tile
            some = some & (start < first + query_tile)
            every = every & (start + key_tile <= first + 1)
        return ExpectedTiles(some.sum(axis=1).astype(float), (some & ~every).sum(axis=1).astype(float))


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


@dataclass(frozen=True)
class Method:
    """How a published method chooses: as `Selected`, and the FLOPs of a choice by tokens, depth and block."""

    flops: Callable[[int, int, int], float]  # per query and head
    block: int
    kept: float | None = None  # of the blocks; None: a `share` of them
    share: float = 0.0
    selector: int | None = None  # None: the queries of a block
    causal: bool = True
    always: int = 1
    alike: float = 0.0


def _mean_keys(tokens: int, depth: int, block: int) -> float:
    """One product with the mean key of each block."""
    return 2 * depth * tokens / block


VERTICAL, SLASH = 1000, 6096  # columns and diagonals of a head (MInference, arXiv 2407.02490)
SELECTED: Mapping[str, Method] = {
    # MoBA (arXiv 2502.13189): each query picks top-3 blocks of 512 by its product with the block's mean key. The own
    # block is one of the three and is always taken, causal inside.
    "moba": Method(_mean_keys, 512, kept=2, selector=1),
    # FlashMoBA (arXiv 2511.11571): MoBA with small blocks; queries are regrouped by block, so that a key block meets
    # only queries that chose it: every selector works on its own choice.
    "flash-moba": Method(_mean_keys, 128, kept=8, selector=0, alike=1.0),
    # VMoBA (arXiv 2506.23858): one choice per head over blocks of a video, by cumulative similarity. assumed: the
    # share, which depends on the threshold and the head.
    "vmoba": Method(_mean_keys, 256, share=0.25, selector=0, causal=False, always=0),
    # NSA (arXiv 2502.11089): 16 blocks of 64 per query and group of heads, 1 first and 2 local ones among them.
    # Choosing is attention over compressed keys, one for every 16 tokens (blocks of 32, step 16), both products;
    # causal: half of them on average. assumed: half alike.
    "nsa": Method(lambda tokens, depth, block: 4 * depth * tokens / 16 / 2, 64, 13, selector=1, always=3, alike=0.5),
    # VSA (arXiv 2505.13389): cubes of 4x4x4 tokens; each query cube picks its top 32 key cubes by pooled attention:
    # both products between cube means, shared by the cube's queries.
    "vsa": Method(lambda tokens, depth, block: 4 * depth * tokens / block / block, 64, 32, causal=False, always=0),
    # MInference: VERTICAL columns and SLASH diagonals in blocks of 64, estimated from the last 64 queries, spread over
    # all. Columns are alike for all query tiles; assumed: each column and each diagonal block lies in a block of its
    # own, the upper bound.
    "vertical-slash": Method(lambda tokens, depth, block: 2 * depth * 64, 64, (VERTICAL + SLASH) / 64),
    # PBS-Attn (arXiv 2510.21270): keys sorted by importance inside segments, then blocks of 128 chosen per query block;
    # the share is of the causal blocks, as table 5 counts (assumed: it depends on the threshold).
    "pbs": Method(lambda tokens, depth, block: 2 * depth * tokens / block / block, 128, share=0.3),
    # SALE (arXiv 2505.24179): 4-bit products of all pairs estimate which blocks matter; the estimate takes about 11% of
    # dense attention. assumed: the share.
    "sale": Method(lambda tokens, depth, block: 0.11 * 4 * depth * tokens / 2, 64, share=0.15),
    # XAttention (arXiv 2503.16428): sums along antidiagonals with stride 8 score blocks of 128. assumed: the share,
    # which depends on the threshold.
    "xattention": Method(lambda tokens, depth, block: 2 * depth * tokens / 8 / 2, 128, share=0.25),
}
_RANGES: Mapping[str, tuple[int, int, bool]] = {  # least, most, whole
    "head_dim": (1, 2**16, True), "block": (1, 2**30, True), "vertical": (0, 2**30, True), "slash": (0, 2**30, True),
    "kept": (0, 2**30, False), "share": (0, 1, False),
}  # fmt: skip


def settings_of(name: str) -> Mapping[str, float | None]:
    """What can be changed of a published pattern, with its published value; None follows from the model."""
    method = SELECTED[name]
    if name == "vertical-slash":
        return {"head_dim": None, "vertical": VERTICAL, "slash": SLASH}
    amount = ("share", method.share) if method.kept is None else ("kept", method.kept)
    return dict((("head_dim", None), ("block", method.block), amount))


def selected(name: str, tokens: int, causal: bool | None = None, **settings: float) -> Selected:
    """A published pattern with some settings changed. Raises CascadeSimError naming what it knows.

    `causal`: whether blocks are chosen among earlier ones; None: as published.
    """
    if name not in SELECTED:
        raise UnknownNameError("pattern", name, SELECTED)
    method, known = SELECTED[name], settings_of(name)
    wrong = sorted(set(settings) - set(known))
    if wrong:
        raise CascadeSimError(f"pattern {name}: no setting '{shortened(wrong[0])}'; known: {', '.join(known)}")
    for field, value in settings.items():
        least, most, whole = _RANGES[field]
        if not least <= value <= most or (whole and value != int(value)):
            kind = "a whole number" if whole else "a number"
            raise CascadeSimError(f"pattern {name}: {field} must be {kind} from {least} to {most}, got {value:g}")
    block, depth = int(settings.get("block", method.block)), int(settings.get("head_dim", 128))
    kept = settings.get("kept", min(method.kept or 0, -(-tokens // block)))  # short sequences have fewer
    if name == "vertical-slash":
        kept = min(tokens / block, (settings.get("vertical", VERTICAL) + settings.get("slash", SLASH)) / block)
    selector = block if method.selector is None else method.selector
    flops, earlier = method.flops(tokens, depth, block), method.causal if causal is None else causal
    return Selected(name, tokens, block, kept, selector, earlier, depth, method.always, method.alike, flops,
                    settings.get("share", method.share))
