"""How much of measured attention a pattern keeps: the share of its mass, of the head that keeps least.

Maps are attention weights of heads, as a program saved them; rows are queries. Static patterns keep what they attend.
Of what the data chooses, an oracle picks the blocks with most mass, as many as the pattern keeps and its own one among
them where it is always seen: no method with these blocks keeps more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascadesim.einsum_cascades.notation.errors import CascadeSimError, listed
from cascadesim.einsum_cascades.notation.schema import read_arrays
from cascadesim.einsum_cascades.sparsity.block_selection import BlockMask, Selected
from cascadesim.einsum_cascades.sparsity.pattern_names import named
from cascadesim.einsum_cascades.sparsity.sparse_patterns import SparsePattern

Weights = NDArray[np.float64]
LONGEST_MAP = 1 << 13  # assumed: a map is the square of it, 512 MB a head in float64


def read_maps(path: Path) -> Weights:
    """Weights of (heads, queries, keys), or of one head, from a `.npy` file. Raises CascadeSimError."""
    arrays = read_arrays(path)
    maps = arrays.get("")
    if maps is None or maps.ndim not in (2, 3) or maps.dtype.kind not in "iuf" or maps.shape[-1] != maps.shape[-2]:
        given = f"{maps.shape} of {maps.dtype}" if maps is not None else f"a .npz of {listed(arrays)}"
        raise CascadeSimError(f"{path}: expected weights of heads x queries x as many keys, got {given}")
    if not 1 <= maps.shape[-1] <= LONGEST_MAP or 0 in maps.shape:
        raise CascadeSimError(f"{path}: expected maps of 1 to {LONGEST_MAP:,} tokens, got {maps.shape}")
    weights = np.asarray(maps.reshape(-1, *maps.shape[-2:]), dtype=np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and (weights.sum(axis=2) > 0).all()):
        raise CascadeSimError(f"{path}: weights must be finite and at least 0, and no row of a head all 0")
    return np.asarray(weights / weights.sum(axis=2, keepdims=True))


def least_recall(text: str, maps: Weights) -> float:
    """The share of each head's mass that the pattern keeps over a map's own length, of the head that keeps least."""
    pattern = named(text, (maps.shape[-1],))
    if isinstance(pattern, Selected):
        kept = [_chosen(pattern, head) for head in maps]
    else:
        mask = _attended(pattern, maps.shape[-1])
        kept = [float(head[mask].sum()) for head in maps]
    return min(kept) / int(maps.shape[-1])


def _attended(pattern: SparsePattern | BlockMask, tokens: int) -> NDArray[np.bool_]:
    """The mask of a pattern that is known before, (queries, keys)."""
    if isinstance(pattern, BlockMask):
        mask = np.kron(pattern.blocks, np.ones((pattern.query_block, pattern.key_block), dtype=bool))[:tokens, :tokens]
        return np.tril(mask) if pattern.diagonal else mask
    keys = np.arange(tokens + 1)
    return np.asarray(np.diff(pattern.before(keys[:-1, None], keys), axis=1) > 0)


def _chosen(pattern: Selected, head: Weights) -> float:
    """Mass of the best blocks of every group of queries that choose together."""
    tokens, block, group = len(head), pattern.block, min(max(pattern.selector, 1), len(head))
    rows, blocks = -(-tokens // group), -(-tokens // block)
    padded = np.pad(head, ((0, rows * group - tokens), (0, blocks * block - tokens)))
    mass = padded.reshape(rows, group, blocks, block).sum(axis=(1, 3))
    last = np.minimum(np.arange(1, rows + 1) * group, tokens) - 1
    ranked = mass.copy()
    if pattern.always:
        ranked[np.arange(rows), last // block] = np.inf
    order = np.argsort(-ranked, axis=1)
    seen = np.arange(blocks) < np.round(pattern.blocks_seen(last))[:, None]
    return float((np.take_along_axis(mass, order, axis=1) * seen).sum())
