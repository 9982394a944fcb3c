"""How many numbers a model stores: matrices, biases, norms, embeddings, and what its file lists besides."""

from __future__ import annotations

from typing import Literal, TypeAlias

from cascadesim.einsum_cascades.models.projections import LayerSizes, all_matrices

Norm: TypeAlias = Literal["layer", "rms", "plain"]
_VECTORS_PER_NORM = {"layer": 2, "rms": 1, "plain": 0}  # scale and shift; scale; nothing that is stored


def norm_parameters(norm: Norm, width: int) -> int:
    return _VECTORS_PER_NORM[norm] * width


def layer_parameters(sizes: LayerSizes, norm: Norm, norms_per_layer: int) -> int:
    """One layer."""
    matrices = sum(matrix.parameters for matrix in all_matrices(sizes))
    return matrices + _layer_norms(sizes, norm, norms_per_layer) + _head_norms(sizes) + _balance(sizes)


def routed_parameters(sizes: LayerSizes) -> int:
    """Of one layer's experts that tokens choose; shared ones count among the other weights."""
    return sum(matrix.parameters for matrix in all_matrices(sizes) if matrix.operand == "experts")


def _layer_norms(sizes: LayerSizes, norm: Norm, norms_per_layer: int) -> int:
    if sizes.layer.joint == "two-stream":
        norms_per_layer *= 2
    elif sizes.layer.joint == "one-stream":
        norms_per_layer = 1  # attention and feed-forward run side by side on one normalised input
    return (norms_per_layer + (sizes.layer.cross is not None)) * norm_parameters(norm, sizes.hidden)


def _head_norms(sizes: LayerSizes) -> int:
    """Norms inside attention: over heads of queries and keys, over latent vectors, over the indexer's key."""
    attention, latent = sizes.attention, sizes.attention.latent
    streams = 2 if sizes.layer.joint == "two-stream" or sizes.layer.cross is not None else 1
    vectors = 2 * attention.head_dim * streams if attention.qk_norm else 0
    if latent is not None:
        vectors += latent.q_rank + latent.kv_rank
        vectors += norm_parameters("layer", latent.indexer.head_dim) if latent.indexer is not None else 0
    return vectors


def _balance(sizes: LayerSizes) -> int:
    experts = sizes.experts
    uses = sizes.layer.feed_forward == "experts" and experts is not None and experts.balance_bias
    return experts.experts if experts is not None and uses else 0
