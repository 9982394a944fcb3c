"""Static sparse attention patterns beyond neighborhoods: each is one function that counts keys.

A pattern answers `before(query, key)`: how many of the keys below `key` the query attends. Everything exact follows
from it: pairs, tiles visited, tiles without a masked element. Definitions: Longformer (arXiv 2004.05150), Sparse
Transformer (1904.10509), StreamingLLM (2309.17453), HaloNet (2103.12731), SVG (2502.01776). Patterns that depend on the
data are in `block_selection`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.block_selection import BlockMask, ExpectedTiles, read_block_mask
from cascadesim.einsum_cascades.sparsity.masks import times

Counts = NDArray[np.int64]
LARGEST_BATCH = 1 << 16  # (query, tile edge) pairs counted at a time: what a processor's cache holds
MOST_TILES = 1 << 13  # a side; assumed: published videos have hundreds, and the mask is their square
MOST_EVALUATIONS = 1 << 35  # assumed: some minutes; a million tokens in key tiles of 32


@dataclass(frozen=True, eq=False)
class SparsePattern:
    """A mask over a sequence of `tokens` queries and keys.

    `before(query, key)` counts the attended keys below `key` of each query; the two arrays broadcast, and counts never
    decrease with `key`.
    """

    tokens: int
    before: Callable[[Counts, Counts], Counts]
    block = 0  # no blocks that a tile should keep to
    choice_flops = 0.0
    phases = ("prefill", "decode")

    @property
    def attended_pairs(self) -> int:
        """Exact number of (query, key) pairs."""
        return int(self._keys_of_each.sum())

    @property
    def last_keys(self) -> int:
        """Keys that the last query attends."""
        return int(self._keys_of_each[-1])

    @cached_property
    def causal(self) -> bool:
        """Whether no query attends a key after its own position."""
        queries = np.arange(self.tokens, dtype=np.int64)
        return bool(np.array_equal(self.before(queries, queries + 1), self._keys_of_each))

    @cached_property
    def _keys_of_each(self) -> Counts:
        queries = np.arange(self.tokens, dtype=np.int64)
        return self.before(queries, np.full_like(queries, self.tokens))

    def tiles(self, query_tile: int, key_tile: int) -> ExpectedTiles:
        """Exact: tiles with an attended pair; masked unless all of their pairs are. Raises as `tile_rows`."""
        counts = [(part.visited, part.visited - part.full) for part in tile_rows(self, query_tile, key_tile)]
        return ExpectedTiles(*(np.concatenate(column) for column in zip(*counts, strict=True)))


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


def _in_range(key: Counts, first: Counts | int, end: Counts | int) -> Counts:
    """Keys of the half-open range first .. end that lie below `key`."""
    return np.asarray(np.maximum(np.minimum(key, end) - first, 0))


def sink_window(tokens: int, sinks: int, window: int) -> SparsePattern:
    """The first `sinks` keys and the last `window` keys up to the query's own (StreamingLLM; A-shape)."""
    _positive(tokens, window=window)
    _within(tokens, window=window, sinks=sinks)

    def before(query: Counts, key: Counts) -> Counts:
        first = np.maximum(query - window + 1, sinks)
        return _in_range(np.minimum(key, query + 1), 0, sinks) + _in_range(key, first, query + 1)

    return SparsePattern(tokens, before)


def global_window(tokens: int, window: int, globals_: int) -> SparsePattern:
    """A window around the query; the first `globals_` tokens see all keys and are seen by all queries (Longformer)."""
    _positive(tokens, window=window)
    _within(tokens, window=window, globals=globals_)

    def before(query: Counts, key: Counts) -> Counts:
        first = np.maximum(query - window // 2, globals_)
        end = np.minimum(query - window // 2 + window, tokens)
        local = _in_range(key, 0, globals_) + _in_range(key, first, end)
        return np.where(query < globals_, _in_range(key, 0, tokens), local)

    return SparsePattern(tokens, before)


def strided(tokens: int, length: int) -> SparsePattern:
    """The last `length` keys, and every `length`-th key before them (Sparse Transformer, strided)."""
    _positive(tokens, length=length)
    _within(tokens, length=length)

    def before(query: Counts, key: Counts) -> Counts:
        first = np.maximum(query - length + 1, 0)
        far = np.minimum(key, first) - query % length  # keys k with k mod length = query mod length
        return np.asarray(np.maximum(-(-far // length), 0) + _in_range(key, first, query + 1))

    return SparsePattern(tokens, before)


def fixed(tokens: int, length: int, columns: int) -> SparsePattern:
    """The query's own block, and the last `columns` keys of every earlier block (Sparse Transformer, fixed)."""
    _positive(tokens, length=length, columns=columns)
    _within(length, "length", columns=columns)

    def before(query: Counts, key: Counts) -> Counts:
        block = query // length * length
        far = np.minimum(key, block)
        in_block: Counts = np.maximum(far % length - (length - columns), 0)
        return far // length * columns + in_block + _in_range(key, block, query + 1)

    return SparsePattern(tokens, before)


def halo(tokens: int, block: int, halo: int) -> SparsePattern:
    """Blocks of `block` queries that see their own block and `halo` keys on either side, cut at the ends (HaloNet)."""
    _positive(tokens, block=block)
    _within(tokens, block=block, halo=halo)

    def before(query: Counts, key: Counts) -> Counts:
        start = query // block * block
        return _in_range(key, np.maximum(start - halo, 0), np.minimum(start + block + halo, tokens))

    return SparsePattern(tokens, before)


def block_causal(tokens: int, block: int) -> SparsePattern:
    """Every query sees all blocks up to and including its own: full inside a block, causal between blocks."""
    _positive(tokens, block=block)
    return SparsePattern(tokens, lambda query, key: _in_range(key, 0, np.minimum((query // block + 1) * block, tokens)))


def documents(lengths: Sequence[int], causal: bool = True) -> SparsePattern:
    """Several documents packed in one sequence: a query sees its own document only, causally or whole."""
    if not lengths or min(lengths) < 1:
        raise CascadeSimError(f"pattern: documents need at least one token each, got {list(lengths)}")
    edges = np.concatenate([[0], np.cumsum(lengths)])

    def before(query: Counts, key: Counts) -> Counts:
        document = np.searchsorted(edges, query, side="right") - 1
        return _in_range(key, edges[document], query + 1 if causal else edges[document + 1])

    return SparsePattern(sum(lengths), before)


def frame_decay(frames: int, frame: int) -> SparsePattern:
    """Video: `frames` of `frame` tokens; full inside a frame, and a window that halves with each doubling of distance.

    Radial attention's rule (arXiv 2506.19852): frames at distance d in [2^k, 2^(k+1)) see frame / 2^k neighbours.
    """
    _positive(frames * frame, frames=frames, frame=frame)

    def before(query: Counts, key: Counts) -> Counts:
        total = np.zeros(np.broadcast_shapes(np.shape(query), np.shape(key)), dtype=np.int64)
        own, place = query // frame, query % frame
        for other in range(frames):
            distance = np.maximum(np.abs(own - other), 1)
            width = np.maximum(frame >> np.floor(np.log2(distance)).astype(np.int64), 1)
            first = np.clip(place - width // 2, 0, frame - width)
            total += _in_range(np.clip(key - other * frame, 0, frame), first, first + width)
        return total

    return SparsePattern(frames * frame, before)


def repeated_window(frames: int, frame: int, window: int) -> SparsePattern:
    """Video: each query sees the `window` places around its own in every frame, shifted inwards at a frame's ends.

    Re-ttention's mask (arXiv 2505.22918): 3.1 % of the keys.
    """
    _positive(frames * frame, frames=frames, frame=frame, window=window)
    _within(frame, "a frame", window=window)

    def before(query: Counts, key: Counts) -> Counts:
        first = np.clip(query % frame - window // 2, 0, frame - window)
        return np.asarray(key // frame * window + _in_range(key % frame, first, first + window))

    return SparsePattern(frames * frame, before)


def power(tokens: int, block: int, window: int, sinks: int) -> BlockMask:
    """Blocks at distances of 1, 2, 4, 8, ..., the own one, `window` before it and the first `sinks` (PowerAttention).

    Any token reaches any earlier one in a logarithmic number of layers (arXiv 2503.03588); causal inside the own block.
    """
    _positive(tokens, block=block)
    count = -(-tokens // block)
    _within(count, "blocks", window=window, sinks=sinks)
    if count > MOST_TILES:
        raise CascadeSimError(f"pattern power: {count:,} blocks of {block}; at most {MOST_TILES:,}: give larger blocks")
    distance, key = np.subtract.outer(np.arange(count), np.arange(count)), np.arange(count)
    seen = (distance <= window) | (distance & (distance - 1) == 0) | (key < sinks)
    return BlockMask(seen & (distance >= 0), block, block, diagonal=True)


def _positive(tokens: int, **sizes: int) -> None:
    small = [f"{name} must be at least 1, got {size}" for name, size in {"tokens": tokens, **sizes}.items() if size < 1]
    if small:
        raise CascadeSimError("\n".join(f"pattern: {problem}" for problem in small))


def _within(limit: int, of: str = "tokens", **sizes: int) -> None:
    wrong = [(name, size) for name, size in sizes.items() if not 0 <= size <= limit]
    if wrong:
        lines = [f"pattern: {name} must be 0 to the {limit:,} of {of}, got {size}" for name, size in wrong]
        raise CascadeSimError("\n".join(lines))


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


def block_mask(tokens: int, path: Path, queries: int, keys: int, causal: bool) -> BlockMask:
    """Blocks of queries and keys that a program chose: a `.npy` file of two dimensions, nonzero where attended.

    `causal`: blocks on the diagonal, which are square then, are cut where their query is. Raises CascadeSimError.
    """
    found = read_block_mask(path, queries, keys)
    shape, expected = found.blocks.shape, (-(-tokens // queries), -(-tokens // keys))
    if shape != expected:
        raise CascadeSimError(f"{path}: {shape[0]} x {shape[1]} blocks; {tokens:,} tokens in blocks of {queries} x "
                              f"{keys} are {expected[0]} x {expected[1]}")
    if causal and (queries != keys or np.triu(found.blocks, 1).any()):
        raise CascadeSimError(f"{path}: causal=1: it has blocks above the diagonal, or blocks that are not square")
    return replace(found, diagonal=causal)
