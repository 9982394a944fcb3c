"""Every weight matrix of a layer: what is multiplied by what, how many rows go through it, and what is stored.

The same list gives the linear operations of a run and the parameter count, so a published parameter count tests the
shapes of the operations. Words of the KV cache are here too. Attention itself, norms and activations have no matrix and
are in `lowering`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cascadesim.einsum_cascades.models.layers import Attention, Experts, FeedForward, Latent, Layer
from cascadesim.einsum_cascades.models.operation import Operand

Phase: TypeAlias = Literal["prefill", "decode"]
Norm: TypeAlias = Literal["layer", "rms", "plain"]
_VECTORS_PER_NORM = {"layer": 2, "rms": 1, "plain": 0}  # scale and shift; scale; nothing that is stored

# What one row of a matrix's input is: a token of the run; a token or a remembered state; a text token; a token of
# the encoder; one sequence of the batch; one (token, chosen expert) pair.
Rows: TypeAlias = Literal["tokens", "keys", "text", "encoder", "sequence", "choices"]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Z[rows, outputs] = A[rows, inputs] * W, `copies` times with weights of their own."""

    name: str
    inputs: int
    outputs: int
    rows: Rows = "tokens"
    copies: int = 1
    bias: bool = False
    is_weight: bool = True  # False: the second operand is computed, or stored as part of another matrix
    after_activation: bool = False  # the second half of a feed-forward part

    @property
    def operand(self) -> Operand:
        return "experts" if self.rows == "choices" else "weights"

    @property
    def parameters(self) -> int:
        return self.copies * (self.inputs + self.bias) * self.outputs if self.is_weight else 0


@dataclass(frozen=True, slots=True)
class LayerSizes:
    """The sections that hold for one kind of layer, after the model's defaults; None for those it does not use."""

    layer: Layer
    hidden: int
    text_hidden: int
    attention: Attention
    ffn: FeedForward | None
    experts: Experts | None


def attention_matrices(sizes: LayerSizes, phase: Phase) -> Iterator[Matrix]:
    """Matrices that make queries, keys and values of self-attention, then those of joined text."""
    attention, layer = sizes.attention, sizes.layer
    if attention.latent is not None:
        yield from _latent_matrices(attention, attention.latent, sizes.hidden, phase)
        return
    keys: Rows = "keys" if layer.memory else "tokens"
    yield from _query_key_value(attention, sizes.hidden, sizes.hidden, keys)
    if layer.joint == "two-stream":
        yield from _query_key_value(attention, sizes.hidden, sizes.hidden, "text", "text_", "text")


def output_matrices(sizes: LayerSizes, phase: Phase) -> Iterator[Matrix]:
    """Matrices that the result of attention goes through."""
    attention, latent = sizes.attention, sizes.attention.latent
    if latent is not None and phase == "decode":  # the value half of kv_up_proj, one slice per head
        yield Matrix("v_absorb", latent.kv_rank, attention.values, copies=attention.heads, is_weight=False)
    yield _output(attention, sizes.hidden)
    if sizes.layer.joint == "two-stream":
        yield _output(attention, sizes.hidden, "text_", "text")


def cross_matrices(sizes: LayerSizes) -> Iterator[Matrix]:
    """Cross-attention, but for its output projection."""
    if sizes.layer.cross is not None:
        source_hidden = sizes.text_hidden if sizes.layer.cross == "text" else sizes.hidden
        yield from _query_key_value(sizes.attention, sizes.hidden, source_hidden, sizes.layer.cross, "cross_")


def cross_output(sizes: LayerSizes) -> Matrix:
    return _output(sizes.attention, sizes.hidden, "cross_")


def feed_forward_matrices(sizes: LayerSizes) -> Iterator[Matrix]:
    """The feed-forward part: dense, for joined text too, or a mixture of experts but for its router."""
    if sizes.ffn is not None:
        yield from _feed_forward(sizes.ffn, sizes.hidden, "ffn_", "tokens")
        if sizes.layer.joint == "two-stream":
            yield from _feed_forward(sizes.ffn, sizes.hidden, "text_ffn_", "text")
    if sizes.experts is not None:
        yield from _expert_matrices(sizes.experts, sizes.hidden)


def router_matrices(sizes: LayerSizes) -> Iterator[Matrix]:
    """The matrix that scores the experts, where there are some."""
    if sizes.experts is not None:
        yield Matrix("router", sizes.hidden, sizes.experts.experts, bias=sizes.experts.bias)


def modulation_matrices(sizes: LayerSizes) -> Iterator[Matrix]:
    """Shift, scale and gate vectors made from the conditioning of each sequence (adaLN, DiT, arXiv 2212.09748)."""
    if sizes.layer.modulation:
        streams = 2 if sizes.layer.joint == "two-stream" else 1
        width = sizes.layer.modulation * sizes.hidden
        yield Matrix("modulation_proj", sizes.hidden, width, "sequence", copies=streams, bias=True)


def all_matrices(sizes: LayerSizes) -> Iterator[Matrix]:
    """Everything a layer stores."""
    yield from modulation_matrices(sizes)
    yield from attention_matrices(sizes, "prefill")
    yield from output_matrices(sizes, "prefill")
    yield from cross_matrices(sizes)
    if sizes.layer.cross is not None:
        yield cross_output(sizes)
    yield from router_matrices(sizes)
    yield from feed_forward_matrices(sizes)


def _query_key_value(
    attention: Attention, hidden: int, source_hidden: int, keys: Rows, prefix: str = "", queries: Rows = "tokens"
) -> Iterator[Matrix]:
    bias = attention.bias != "none"
    yield Matrix(f"{prefix}q_proj", hidden, attention.heads * attention.head_dim, queries, bias=bias)
    yield Matrix(f"{prefix}k_proj", source_hidden, attention.key_heads * attention.head_dim, keys, bias=bias)
    yield Matrix(f"{prefix}v_proj", source_hidden, attention.key_heads * attention.values, keys, bias=bias)


def _output(attention: Attention, hidden: int, prefix: str = "", rows: Rows = "tokens") -> Matrix:
    return Matrix(f"{prefix}out_proj", attention.heads * attention.values, hidden, rows, bias=attention.bias == "all")


def _latent_matrices(attention: Attention, latent: Latent, hidden: int, phase: Phase) -> Iterator[Matrix]:
    """Prefill unfolds keys and values; decode folds the unfolding into the queries instead (the absorbed form)."""
    plain = attention.head_dim - latent.rope_dim
    yield Matrix("q_down_proj", hidden, latent.q_rank)
    yield Matrix("q_proj", latent.q_rank, attention.heads * attention.head_dim)
    yield Matrix("kv_down_proj", hidden, latent.kv_rank + latent.rope_dim)
    if phase == "prefill":
        yield Matrix("kv_up_proj", latent.kv_rank, attention.heads * (plain + attention.values))
    else:  # the key half of kv_up_proj, one slice per head
        yield Matrix("q_absorb", plain, latent.kv_rank, copies=attention.heads, is_weight=False)
    if latent.indexer is not None:
        yield Matrix("index_q_proj", latent.q_rank, latent.indexer.heads * latent.indexer.head_dim)
        yield Matrix("index_k_proj", hidden, latent.indexer.head_dim)
        yield Matrix("index_weight_proj", hidden, latent.indexer.heads)


def _feed_forward(ffn: FeedForward, hidden: int, prefix: str, rows: Rows) -> Iterator[Matrix]:
    yield Matrix(f"{prefix}up", hidden, ffn.width, rows, bias=ffn.bias)
    if ffn.gated:
        yield Matrix(f"{prefix}gate", hidden, ffn.width, rows, bias=ffn.bias)
    yield Matrix(f"{prefix}down", ffn.width, hidden, rows, bias=ffn.bias, after_activation=True)


def _expert_matrices(experts: Experts, hidden: int) -> Iterator[Matrix]:
    for name in ("up", "gate") if experts.gated else ("up",):
        yield Matrix(f"expert_{name}", hidden, experts.width, "choices", experts.experts, experts.bias)
    yield Matrix("expert_down", experts.width, hidden, "choices", experts.experts, experts.bias, after_activation=True)
    if experts.shared:
        width = experts.shared * experts.width
        shared = FeedForward(width=width, activation=experts.activation, gated=experts.gated, bias=experts.bias)
        yield from _feed_forward(shared, hidden, "shared_", "tokens")


def norm_parameters(norm: Norm, width: int) -> int:
    return _VECTORS_PER_NORM[norm] * width


def layer_parameters(sizes: LayerSizes, norm: Norm, norms_per_layer: int) -> int:
    """Numbers that one layer stores: matrices, norms of the layer and inside attention, biases of the router."""
    layer, attention, latent = sizes.layer, sizes.attention, sizes.attention.latent
    matrices = sum(matrix.parameters for matrix in all_matrices(sizes))
    # two streams have norms of their own; in one stream attention and feed-forward run side by side on one input
    norms = {"two-stream": 2 * norms_per_layer, "one-stream": 1, None: norms_per_layer}[layer.joint]
    of_layer = (norms + (layer.cross is not None)) * norm_parameters(norm, sizes.hidden)
    streams = 2 if layer.joint == "two-stream" or layer.cross is not None else 1
    of_heads = 2 * attention.head_dim * streams if attention.qk_norm else 0
    if latent is not None:
        of_heads += latent.q_rank + latent.kv_rank
        of_heads += norm_parameters("layer", latent.indexer.head_dim) if latent.indexer is not None else 0
    balance = sizes.experts.experts if sizes.experts is not None and sizes.experts.balance_bias else 0
    return matrices + of_layer + of_heads + balance


def routed_parameters(sizes: LayerSizes) -> int:
    """Numbers of one layer's experts that tokens choose; shared ones count among the other weights."""
    return sum(matrix.parameters for matrix in all_matrices(sizes) if matrix.operand == "experts")


def cached_words(sizes: LayerSizes, sequence_length: int, text_length: int) -> int:
    """Words of the KV cache that one layer holds for one sequence; a layer that sees a window keeps the window.

    Per key a key and a value per key/value head, or one latent vector with its rotated part.
    """
    if sizes.layer.mask != "causal":
        return 0
    attention, latent = sizes.attention, sizes.attention.latent
    if latent is None:
        per_key = attention.key_heads * (attention.head_dim + attention.values)
    elif latent.indexer is None:
        per_key = latent.kv_rank + latent.rope_dim
    else:  # any key may be selected later, so all are kept
        return sequence_length * (latent.kv_rank + latent.rope_dim + latent.indexer.head_dim)
    crossed = {None: 0, "text": text_length, "encoder": sequence_length}[sizes.layer.cross]
    return (sizes.layer.cached_keys(sequence_length) + sizes.layer.memory + crossed) * per_key
