"""The parts of a model as a workload file states them: attention, feed-forward, experts, kinds of layer.

Sizes only: what is multiplied by what is in `projections`, which operations run in `lowering`.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from cascadesim.einsum_cascades.notation.schema import Spec
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval
from cascadesim.einsum_cascades.sparsity.token_layout import NeighborhoodSizes, Size, neighborhood_sizes

Activation: TypeAlias = Literal["gelu", "gelu-tanh", "silu", "relu"]


class Indexer(Spec):
    """DeepSeek sparse attention (DeepSeek-V3.2): a small attention picks the `keys` keys each query attends."""

    heads: Size
    head_dim: Size
    keys: Size


class Latent(Spec):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values unfold from one small vector."""

    q_rank: Size
    kv_rank: Size
    rope_dim: Size  # of head_dim: the part that carries the rotation and is kept beside the latent vector
    indexer: Indexer | None = None


class Attention(Spec):
    """Heads and their sizes. `heads` share `kv_heads` keys and values (GQA; 1 is multi-query attention)."""

    heads: Size
    kv_heads: Size | None = None  # None: as many as heads
    head_dim: Size  # of queries and keys
    value_dim: Size | None = None  # None: head_dim
    bias: Literal["none", "qkv", "all"] = "none"
    rotary: bool = False
    qk_norm: bool = False  # an RMS norm over each head of queries and keys
    latent: Latent | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Attention:
        if self.heads % self.key_heads:
            raise ValueError(f"heads must be a multiple of kv_heads, got {self.heads} and {self.kv_heads}")
        if self.latent is not None and self.latent.rope_dim >= self.head_dim:
            raise ValueError(f"latent.rope_dim must be below head_dim {self.head_dim}, got {self.latent.rope_dim}")
        return self

    @property
    def key_heads(self) -> int:
        """Key/value heads."""
        return self.heads if self.kv_heads is None else self.kv_heads

    @property
    def values(self) -> int:
        """Depth of a value."""
        return self.head_dim if self.value_dim is None else self.value_dim


class FeedForward(Spec):
    """hidden -> width -> hidden; `gated` has a second matrix whose activated product gates the first (GLU)."""

    width: Size
    activation: Activation
    gated: bool = False
    bias: bool = False


class Experts(Spec):
    """A mixture of experts: each token goes to `chosen` of `experts`; `shared` ones see every token."""

    experts: Size
    chosen: Size
    width: Size
    shared: Annotated[int, Field(ge=0, le=2**20)] = 0
    activation: Activation = "silu"
    gated: bool = True
    bias: bool = False  # of router and experts
    balance_bias: bool = False  # one number per expert added to the router's scores (DeepSeek-V3)

    @model_validator(mode="after")
    def _consistent(self) -> Experts:
        if self.chosen > self.experts:
            raise ValueError(f"chosen must be at most experts {self.experts}, got {self.chosen}")
        return self


class Layer(Spec):
    """One kind of layer. Sections and sizes it does not state are the model's."""

    count: Size
    mask: Literal["full", "causal"] = "full"
    window: Size | None = None  # keys a query sees, its own included
    chunk: Size | None = None  # a query sees its own block of so many positions
    # a window around each query in the model's layout; `neighborhood: 7` is a window of 7 in every dimension
    neighborhood: Annotated[NeighborhoodSizes | None, BeforeValidator(neighborhood_sizes)] = None
    dilation: Size = 1  # of that window, in every dimension
    memory: Annotated[int, Field(ge=0, le=2**30)] = 0  # states of the previous segment that are keys too
    cross: Literal["encoder", "text"] | None = None  # a second attention, over these keys
    joint: Literal["two-stream", "one-stream"] | None = None  # text tokens join: with weights of their own, or shared
    feed_forward: Literal["dense", "experts", "none"] = "dense"
    modulation: Annotated[int, Field(ge=0, le=64)] = 0  # vectors of hidden size made from the conditioning, per stream
    merge: Size = 1  # tokens of the input that one token of this layer stands for
    hidden: Size | None = None
    attention: Attention | None = None
    ffn: FeedForward | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Layer:
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
