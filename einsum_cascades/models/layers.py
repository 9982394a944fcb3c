"""The kinds of layer of a model as a workload file states them, and every weight matrix of a layer.

Each has the sections of `sections` or the model's. One list of matrices says what is multiplied by what, how many rows
go through it and what is stored, so that a published parameter count tests the shapes of the operations. Attention
itself, norms and activations have no matrix and are in `lowering`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from cascadesim.einsum_cascades.models.operation import Operand
from cascadesim.einsum_cascades.models.sections import (
    Attention,
    Experts,
    FeedForward,
    Latent,
    NeighborhoodSizes,
    Recurrence,
    Size,
    neighborhood_sizes,
)
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, shortened
from cascadesim.einsum_cascades.notation.schema import Spec
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval

Phase: TypeAlias = Literal["prefill", "decode"]
Norm: TypeAlias = Literal["layer", "rms", "plain"]
_VECTORS_PER_NORM = {"layer": 2, "rms": 1, "plain": 0}  # scale and shift; scale; nothing that is stored

# What one row of a matrix's input is: a token of the run; a token or a remembered state; a text token; a token of
# the encoder; one sequence of the batch; one (token, chosen expert) pair.
Rows: TypeAlias = Literal["tokens", "keys", "text", "encoder", "sequence", "choices"]
# Where in a layer a matrix is multiplied by: before attention or after it, before the activation or after it.
Stage: TypeAlias = Literal["modulation", "attention", "output", "cross", "cross_output", "router", "up", "down"]


class Layer(Spec):
    """One kind of layer. Sections and sizes it does not state are the model's."""

    count: Size
    mask: Literal["full", "causal"] = "full"
    window: Size | None = None  # keys a query sees, its own included
    chunk: Size | None = None  # a query sees its own block of so many positions
    # a window around each query in the model's layout; `neighborhood: 7` is a window of 7 in every dimension
    neighborhood: Annotated[NeighborhoodSizes | None, BeforeValidator(neighborhood_sizes)] = None
    dilation: Size = 1  # of that window, in every dimension
    pattern: str | None = None  # in place of the attention's; none: without one
    memory: Annotated[int, Field(ge=0, le=2**30)] = 0  # states of the previous segment that are keys too
    cross: Literal["encoder", "text"] | None = None  # a second attention, over these keys
    joint: Literal["two-stream", "one-stream"] | None = None  # text tokens join: with weights of their own, or shared
    parallel: bool = False  # attention and feed-forward read the same input and are added together (GPT-J)
    feed_forward: Literal["dense", "experts", "none"] = "dense"
    modulation: Annotated[int, Field(ge=0, le=64)] = 0  # vectors of hidden size made from the conditioning, per stream
    merge: Size = 1  # tokens of the input that one token of this layer stands for
    hidden: Size | None = None
    attention: Attention | Literal["none"] | None = None  # none: the layer is its feed-forward part alone
    recurrence: Recurrence | None = None  # in the place of attention
    ffn: FeedForward | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Layer:
        if self.recurrence and (self.attention or self.mask != "causal" or self.window or self.chunk or self.memory
                                or self.cross or self.joint):  # fmt: skip
            raise ValueError("a recurrence needs mask: causal, and stands for all attention of its layer")
        if self.parallel and (self.feed_forward == "none" or self.attention == "none" or self.cross or self.joint):
            raise ValueError("parallel needs attention and a feed-forward part, and no cross attention or joined text")
        if self.attention == "none" and (self.feed_forward == "none" or self.cross or self.joint):
            raise ValueError("attention: none leaves a feed-forward part alone, which cannot be none")
        if self.mask == "full" and (self.window or self.chunk):
            raise ValueError("a window or chunk needs mask: causal")
        if self.neighborhood and (self.mask == "causal" or self.memory):
            raise ValueError("a neighborhood needs mask: full and no memory; its own `causal` is per dimension")
        if self.neighborhood and self.dilation > 1 and self.neighborhood.dilation != (1,):
            raise ValueError("dilation and neighborhood.dilation exclude each other")
        if self.window and self.chunk:
            raise ValueError("window and chunk exclude each other")
        return self

    @property
    def window_sizes(self) -> NeighborhoodSizes | None:
        """The neighborhood, the layer's own dilation in it."""
        if self.neighborhood is None or self.dilation == 1:
            return self.neighborhood
        return self.neighborhood.model_copy(update={"dilation": (self.dilation,)})

    @property
    def interval(self) -> KeyInterval:
        """The mask of self-attention where it is an interval of keys."""
        return KeyInterval(True, self.window, self.chunk) if self.mask == "causal" else FULL

    def cached_keys(self, sequence_length: int) -> int:
        """Keys the newest query attends, of `sequence_length` positions that end with its own."""
        return self.interval.attended_pairs(1, sequence_length)


@dataclass(frozen=True, slots=True)
class Matrix:
    """Z[rows, outputs] = A[rows, inputs] * W, `copies` times with weights of their own."""

    name: str
    inputs: int
    outputs: int
    stage: Stage
    rows: Rows = "tokens"
    copies: int = 1
    bias: bool = False
    is_weight: bool = True  # False: the second operand is computed, or stored as part of another matrix

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
    attention: Attention | None
    ffn: FeedForward | None
    experts: Experts | None

    @property
    def pattern(self) -> str | None:
        """The sparse pattern of its self-attention. Raises CascadeSimError beside another limit of its keys."""
        layer, latent = self.layer, self.attention and self.attention.latent
        text = layer.pattern or (self.attention and self.attention.pattern)
        if not text or text == "none":
            return None
        others = {"window": layer.window, "chunk": layer.chunk, "neighborhood": layer.neighborhood,
                  "memory": layer.memory, "joined text": layer.joint, "indexer": latent and latent.indexer}
        found = [name for name, value in others.items() if value]
        if found:
            raise CascadeSimError(f"pattern {shortened(text)} and {' and '.join(found)} exclude each other in a layer; "
                                  f"layers.NAME.pattern=none leaves it out of one")
        return text

    @property
    def mixes(self) -> bool:
        """Whether tokens see each other: it has attention, or a recurrence."""
        return self.attention is not None or self.layer.recurrence is not None


def matrices(sizes: LayerSizes, phase: Phase = "prefill") -> Iterator[Matrix]:
    """Every matrix of a layer, those of joined text after the tokens' own; prefill's are all that it stores."""
    layer, hidden, attention = sizes.layer, sizes.hidden, sizes.attention
    two_streams = layer.joint == "two-stream"
    if layer.modulation:  # shift, scale and gate from the conditioning of each sequence (adaLN, DiT, arXiv 2212.09748)
        yield Matrix("modulation_proj", hidden, layer.modulation * hidden, "modulation", "sequence",
                     2 if two_streams else 1, bias=True)
    if layer.recurrence is not None:
        *before, after = layer.recurrence.projections(hidden)
        yield from (Matrix(*each, "attention") for each in before)
        yield Matrix(*after, "output")
    if attention is not None:
        yield from _attention_matrices(sizes, attention, phase)
    if sizes.ffn is not None:
        yield from _feed_forward(sizes.ffn, hidden, "ffn_", "tokens")
        if two_streams:
            yield from _feed_forward(sizes.ffn, hidden, "text_ffn_", "text")
    if sizes.experts is not None:
        yield from _expert_matrices(sizes.experts, hidden)


def _attention_matrices(sizes: LayerSizes, attention: Attention, phase: Phase) -> Iterator[Matrix]:
    layer, hidden, two_streams = sizes.layer, sizes.hidden, sizes.layer.joint == "two-stream"
    if attention.latent is not None:
        yield from _latent_matrices(attention, attention.latent, hidden, phase)
    else:
        yield from _query_key_value(attention, hidden, hidden, "attention", "keys" if layer.memory else "tokens")
        if two_streams:
            yield from _query_key_value(attention, hidden, hidden, "attention", "text", "text_", "text")
    yield _output(attention, hidden, "output")
    if two_streams:
        yield _output(attention, hidden, "output", "text_", "text")
    if layer.cross is not None:
        source_hidden = sizes.text_hidden if layer.cross == "text" else hidden
        yield from _query_key_value(attention, hidden, source_hidden, "cross", layer.cross, "cross_")
        yield _output(attention, hidden, "cross_output", "cross_")


def _query_key_value(
    attention: Attention, hidden: int, source_hidden: int, stage: Stage, keys: Rows, prefix: str = "",
    queries: Rows = "tokens",
) -> Iterator[Matrix]:  # fmt: skip
    bias = attention.bias != "none"
    wide = attention.heads * attention.head_dim + attention.output_gate * attention.heads * attention.values
    yield Matrix(f"{prefix}q_proj", hidden, wide, stage, queries, bias=bias)
    yield Matrix(f"{prefix}k_proj", source_hidden, attention.key_heads * attention.head_dim, stage, keys, bias=bias)
    yield Matrix(f"{prefix}v_proj", source_hidden, attention.key_heads * attention.values, stage, keys, bias=bias)


def _output(attention: Attention, hidden: int, stage: Stage, prefix: str = "", rows: Rows = "tokens") -> Matrix:
    depth = attention.heads * attention.values
    return Matrix(f"{prefix}out_proj", depth, hidden, stage, rows, bias=attention.bias == "all")


def _latent_matrices(attention: Attention, latent: Latent, hidden: int, phase: Phase) -> Iterator[Matrix]:
    """Prefill unfolds keys and values; decode folds the unfolding into queries and results (the absorbed form)."""
    plain = attention.head_dim - latent.rope_dim
    yield Matrix("q_down_proj", hidden, latent.q_rank, "attention")
    yield Matrix("q_proj", latent.q_rank, attention.heads * attention.head_dim, "attention")
    yield Matrix("kv_down_proj", hidden, latent.kv_rank + latent.rope_dim, "attention")
    if phase == "prefill":
        yield Matrix("kv_up_proj", latent.kv_rank, attention.heads * (plain + attention.values), "attention")
    else:  # the key half and the value half of kv_up_proj, one slice per head
        yield Matrix("q_absorb", plain, latent.kv_rank, "attention", copies=attention.heads, is_weight=False)
        yield Matrix("v_absorb", latent.kv_rank, attention.values, "output", copies=attention.heads, is_weight=False)
    if latent.indexer is not None:
        yield Matrix("index_q_proj", latent.q_rank, latent.indexer.heads * latent.indexer.head_dim, "attention")
        yield Matrix("index_k_proj", hidden, latent.indexer.head_dim, "attention")
        yield Matrix("index_weight_proj", hidden, latent.indexer.heads, "attention")


def _feed_forward(ffn: FeedForward, hidden: int, prefix: str, rows: Rows) -> Iterator[Matrix]:
    for name in ("up", "gate") if ffn.gated else ("up",):
        yield Matrix(f"{prefix}{name}", hidden, ffn.width, "up", rows, bias=ffn.bias)
    yield Matrix(f"{prefix}down", ffn.width, hidden, "down", rows, bias=ffn.bias)


def _expert_matrices(experts: Experts, hidden: int) -> Iterator[Matrix]:
    """The router, the experts that tokens choose, and the shared ones."""
    count, width, bias, gated = experts.experts, experts.width, experts.bias, experts.gated
    yield Matrix("router", hidden, count, "router", bias=bias)
    for name in ("up", "gate") if gated else ("up",):
        yield Matrix(f"expert_{name}", hidden, width, "up", "choices", count, bias)
    yield Matrix("expert_down", width, hidden, "down", "choices", count, bias)
    if experts.shared:
        shared = FeedForward(width=experts.shared * width, activation=experts.activation, gated=gated, bias=bias)
        yield from _feed_forward(shared, hidden, "shared_", "tokens")


def norm_parameters(norm: Norm, width: int) -> int:
    return _VECTORS_PER_NORM[norm] * width


def layer_parameters(sizes: LayerSizes, norm: Norm, norms_per_layer: int) -> int:
    """Numbers that one layer stores: matrices, norms of the layer and inside attention, biases of the router."""
    layer = sizes.layer
    weights = sum(matrix.parameters for matrix in matrices(sizes))
    # two streams have norms of their own; in one stream attention and feed-forward run side by side on one input
    norms = {"two-stream": 2 * norms_per_layer, "one-stream": 1, None: norms_per_layer}[layer.joint]
    of_layer = (norms + (layer.cross is not None)) * norm_parameters(norm, sizes.hidden)
    of_heads = 0 if sizes.attention is None else _of_heads(layer, sizes.attention)
    of_heads += 0 if layer.recurrence is None else layer.recurrence.vectors
    balance = sizes.experts.experts if sizes.experts is not None and sizes.experts.balance_bias else 0
    return weights + of_layer + of_heads + balance


def _of_heads(layer: Layer, attention: Attention) -> int:
    """Numbers that norms inside attention store."""
    latent, streams = attention.latent, 2 if layer.joint == "two-stream" or layer.cross is not None else 1
    normed = attention.heads + attention.key_heads if attention.qk_norm == "full" else 2 if attention.qk_norm else 0
    found = normed * attention.head_dim * streams
    if latent is not None:
        found += latent.q_rank + latent.kv_rank
        found += norm_parameters("layer", latent.indexer.head_dim) if latent.indexer is not None else 0
    return found
