"""Static sparse attention patterns beyond neighborhoods: each is one function that counts keys.

A pattern answers `before(query, key)`: how many of the keys below `key` the query attends. Everything exact follows
from it: pairs, tiles visited, tiles without a masked element. Definitions: Longformer (arXiv 2004.05150), Sparse
Transformer (1904.10509), StreamingLLM (2309.17453), HaloNet (2103.12731), SVG (2502.01776). Patterns that depend on the
data are in `block_selection`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.block_selection import BlockMask
from cascadesim.einsum_cascades.sparsity.masks import times

Counts = NDArray[np.int64]
LARGEST_BATCH = 1 << 22  # (query, tile edge) pairs counted at a time: tens of MB
MOST_EVALUATIONS = 1 << 35  # assumed: some minutes; a million tokens in key tiles of 32


class SparsePattern(Protocol):
    """A mask over a sequence of `tokens` queries and keys."""

    @property
    def tokens(self) -> int: ...

    def before(self, query: Counts, key: Counts) -> Counts:
        """Attended keys below `key` of each query; the two arrays broadcast. Never decreases with `key`."""
        ...


@dataclass(frozen=True)
class TilePairs:
    """Attended pairs of every (query tile, key tile), and how many pairs each could have."""

    pairs: Counts
    possible: Counts

    @property
    def visited(self) -> Counts:
        """Key tiles with an attended pair, per query tile."""
        return np.asarray((self.pairs > 0).sum(axis=1))

    @property
    def full(self) -> Counts:
        """Those of them without a masked element."""
        return np.asarray(((self.pairs == self.possible) & (self.pairs > 0)).sum(axis=1))


def tile_rows(pattern: SparsePattern, query_tile: int, key_tile: int) -> Iterator[TilePairs]:
    """Exact counts, some query tiles at a time, from (tokens x key tiles) evaluations of `before`.

    Memory holds LARGEST_BATCH of those, however large a tile is: what is counted of a tile that a batch cuts is kept
    for the next one. Raises CascadeSimError where they would take very long.
    """
    tokens = pattern.tokens
    edges = np.append(np.arange(0, tokens, key_tile), tokens)
    if tokens * len(edges) > MOST_EVALUATIONS:
        raise CascadeSimError(f"pattern: {tokens:,} queries against {len(edges) - 1:,} key tiles take too long to "
                              f"count; at most {MOST_EVALUATIONS:.1e} pairs of them: give larger key tiles")
    step = max(1, LARGEST_BATCH // len(edges))
    step = step // query_tile * query_tile or step
    begun: Counts | int = 0
    for begin in range(0, tokens, step):
        queries = np.arange(begin, min(begin + step, tokens), dtype=np.int64)
        counts = np.diff(pattern.before(queries[:, None], edges), axis=1)
        tiles = np.arange(begin // query_tile, -(-(int(queries[-1]) + 1) // query_tile))
        rows = np.add.reduceat(counts, np.maximum(tiles * query_tile - begin, 0), axis=0)
        rows[0] += begun
        ends = np.minimum((tiles + 1) * query_tile, tokens)
        whole = ends <= queries[-1] + 1
        begun = 0 if whole[-1] else rows[-1]
        yield TilePairs(rows[whole], (ends - tiles * query_tile)[whole, None] * np.diff(edges))


def attended_pairs(pattern: SparsePattern) -> int:
    """Exact number of (query, key) pairs."""
    queries = np.arange(pattern.tokens, dtype=np.int64)
    return int(pattern.before(queries, _ends(queries)).sum())


def is_causal(pattern: SparsePattern) -> bool:
    """Whether no query attends a key after its own position."""
    queries = np.arange(pattern.tokens, dtype=np.int64)
    return bool(np.array_equal(pattern.before(queries, queries + 1), pattern.before(queries, _ends(queries))))


def _ends(queries: Counts) -> Counts:
    return np.full_like(queries, len(queries))


def _in_range(key: Counts, first: Counts | int, end: Counts | int) -> Counts:
    """Keys of the half-open range first .. end that lie below `key`."""
    return np.asarray(np.maximum(np.minimum(key, end) - first, 0))


@dataclass(frozen=True)
class SinkWindow:
    """The first `sinks` keys and the last `window` keys up to the query's own (StreamingLLM; A-shape)."""

    tokens: int
    sinks: int
    window: int

    def __post_init__(self) -> None:
        _positive(self.tokens, window=self.window)
        _within(self.tokens, window=self.window, sinks=self.sinks)

    def before(self, query: Counts, key: Counts) -> Counts:
        first = np.maximum(query - self.window + 1, self.sinks)
        sinks = _in_range(np.minimum(key, query + 1), 0, self.sinks)
        return sinks + _in_range(key, first, query + 1)


@dataclass(frozen=True)
class GlobalWindow:
    """A window around the query; the first `globals_` tokens see all keys and are seen by all queries (Longformer)."""

    tokens: int
    window: int
    globals_: int

    def __post_init__(self) -> None:
        _positive(self.tokens, window=self.window)
        _within(self.tokens, window=self.window, globals=self.globals_)

    def before(self, query: Counts, key: Counts) -> Counts:
        first = np.maximum(query - self.window // 2, self.globals_)
        end = np.minimum(query - self.window // 2 + self.window, self.tokens)
        local = _in_range(key, 0, self.globals_) + _in_range(key, first, end)
        return np.where(query < self.globals_, _in_range(key, 0, self.tokens), local)


@dataclass(frozen=True)
class Strided:
    """The last `length` keys, and every `length`-th key before them (Sparse Transformer, strided)."""

    tokens: int
    length: int

    def __post_init__(self) -> None:
        _positive(self.tokens, length=self.length)
        _within(self.tokens, length=self.length)

    def before(self, query: Counts, key: Counts) -> Counts:
        first = np.maximum(query - self.length + 1, 0)
        far = np.minimum(key, first) - query % self.length  # keys k with k mod length = query mod length
        return np.asarray(np.maximum(-(-far // self.length), 0) + _in_range(key, first, query + 1))


@dataclass(frozen=True)
class Fixed:
    """The query's own block, and the last `columns` keys of every earlier block (Sparse Transformer, fixed)."""

    tokens: int
    length: int
    columns: int

    def __post_init__(self) -> None:
        _positive(self.tokens, length=self.length, columns=self.columns)
        _within(self.length, "length", columns=self.columns)

    def before(self, query: Counts, key: Counts) -> Counts:
        block = query // self.length * self.length
        far = np.minimum(key, block)
        in_block: Counts = np.maximum(far % self.length - (self.length - self.columns), 0)
        return far // self.length * self.columns + in_block + _in_range(key, block, query + 1)


@dataclass(frozen=True)
class Halo:
    """Blocks of `block` queries that see their own block and `halo` keys on either side, cut at the ends (HaloNet)."""

    tokens: int
    block: int
    halo: int

    def __post_init__(self) -> None:
        _positive(self.tokens, block=self.block)
        _within(self.tokens, block=self.block, halo=self.halo)

    def before(self, query: Counts, key: Counts) -> Counts:
        start = query // self.block * self.block
        return _in_range(key, np.maximum(start - self.halo, 0), np.minimum(start + self.block + self.halo, self.tokens))


@dataclass(frozen=True)
class BlockCausal:
    """Every query sees all blocks up to and including its own: full inside a block, causal between blocks."""

    tokens: int
    block: int

    def __post_init__(self) -> None:
        _positive(self.tokens, block=self.block)

    def before(self, query: Counts, key: Counts) -> Counts:
        return _in_range(key, 0, np.minimum((query // self.block + 1) * self.block, self.tokens))


@dataclass(frozen=True)
class Documents:
    """Several documents packed in one sequence: a query sees its own document only, causally or whole."""

    lengths: tuple[int, ...]
    causal: bool = True

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1:
            raise CascadeSimError(f"pattern: documents need at least one token each, got {list(self.lengths)}")

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    def before(self, query: Counts, key: Counts) -> Counts:
        edges = np.concatenate([[0], np.cumsum(self.lengths)])
        document = np.searchsorted(edges, query, side="right") - 1
        end = query + 1 if self.causal else edges[document + 1]
        return _in_range(key, edges[document], end)


@dataclass(frozen=True)
class FrameDecay:
    """Video: `frames` of `frame` tokens; full inside a frame, and a window that halves with each doubling of distance.

    Radial attention's rule (arXiv 2506.19852): frames at distance d in [2^k, 2^(k+1)) see frame / 2^k neighbours.
    """

    frames: int
    frame: int

    def __post_init__(self) -> None:
        _positive(self.frames * self.frame, frames=self.frames, frame=self.frame)

    @property
    def tokens(self) -> int:
        return self.frames * self.frame

    def before(self, query: Counts, key: Counts) -> Counts:
        total = np.zeros(np.broadcast_shapes(np.shape(query), np.shape(key)), dtype=np.int64)
        own, place = query // self.frame, query % self.frame
        for other in range(self.frames):
            distance = np.abs(own - other)
            width = np.maximum(self.frame >> np.floor(np.log2(np.maximum(distance, 1))).astype(np.int64), 1)
            first = np.clip(place - width // 2, 0, self.frame - width)
            inside = np.clip(key - other * self.frame, 0, self.frame)
            total += _in_range(inside, first, first + width)
        return total


def _positive(tokens: int, **sizes: int) -> None:
    small = [f"{name} must be at least 1, got {size}" for name, size in {"tokens": tokens, **sizes}.items() if size < 1]
    if small:
        raise CascadeSimError("\n".join(f"pattern: {problem}" for problem in small))


def _within(limit: int, of: str = "tokens", **sizes: int) -> None:
    wrong = [(name, size) for name, size in sizes.items() if not 0 <= size <= limit]
    if wrong:
        lines = [f"pattern: {name} must be 0 to the {limit:,} of {of}, got {size}" for name, size in wrong]
        raise CascadeSimError("\n".join(lines))


MOST_TILES = 1 << 13  # of a layout; assumed: published videos have hundreds, and the mask is their square


def sliding_tile(layout: Sequence[int], tile: Sequence[int], window: Sequence[int]) -> BlockMask:
    """Sliding Tile Attention (arXiv 2502.04507): whole tiles of queries attend whole tiles of keys, in tile order.

    `window` counts tiles: those around the query's own, shifted inwards at the borders. Tokens are numbered tile by
    tile, so the pattern is a mask of blocks. An odd number of tiles is the neighborhood with window = tiles x tile and
    stride = tile (GNA, arXiv 2504.16922); an even one has no such twin, half a tile off. Raises CascadeSimError.
    """
    if not len(layout) == len(tile) == len(window):
        raise CascadeSimError(f"pattern sliding-tile: layout {times(layout)}, tile {times(tile)} and window "
                              f"{times(window)} differ in dimensions")
    problems = [f"pattern sliding-tile: dimension {number}: {problem}"
                for number, sizes in enumerate(zip(layout, tile, window, strict=True), start=1)
                for problem in _problems(*sizes)]
    if problems:
        raise CascadeSimError("\n".join(problems))
    tiles = prod(layout) // prod(tile)
    if tiles > MOST_TILES:
        raise CascadeSimError(f"pattern sliding-tile: {tiles:,} tiles of {times(tile)}; at most {MOST_TILES:,}")
    bands = [_band(length // size, tiles) for length, size, tiles in zip(layout, tile, window, strict=True)]
    return BlockMask(reduce(np.kron, bands), prod(tile), prod(tile))


def _problems(length: int, tile: int, window: int) -> list[str]:
    if tile < 1 or length % tile:
        return [f"tile {tile} does not divide the layout {length}"]
    if not 1 <= window <= length // tile:
        return [f"window {window}; give 1 to the {length // tile} tiles of the layout"]
    return []


def _band(tiles: int, window: int) -> NDArray[np.bool_]:
    """Along one dimension: `window` tiles, the middle one the query's own; the right one of two middle ones."""
    first = np.clip(np.arange(tiles) - window // 2, 0, tiles - window)[:, None]
    key = np.arange(tiles)
    return np.asarray((key >= first) & (key < first + window))
