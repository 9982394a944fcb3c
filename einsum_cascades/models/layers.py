"""The parts of a model as a workload file states them: attention, feed-forward, experts, kinds of layer, layouts.

Sizes only: what is multiplied by what is in `projections`, which operations run in `lowering`. Tokens may lie in two or
three dimensions, where a layer attends a neighborhood: NAT (CVPR 2023), DiNAT (arXiv 2209.15001), GNA (2504.16922).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Annotated, Literal, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.notation.schema import Spec
from cascadesim.einsum_cascades.sparsity.masks import FULL, KeyInterval, Neighborhood, neighborhood, times

Activation: TypeAlias = Literal["gelu", "gelu-tanh", "silu", "relu"]
Each = TypeVar("Each")
_LONGEST = 14  # digits: beyond the largest size, and Python refuses to read thousands of them


def _sizes(given: object) -> object:
    """`80x80`, [80, 80], or 80 for every dimension. Raises ValueError on other text."""
    if isinstance(given, str):
        parts = given.lower().split("x")
        if not all(part.isascii() and part.isdigit() and len(part) < _LONGEST for part in parts):
            raise ValueError("should be sizes such as 80x80")
        return tuple(map(int, parts))
    return (given,) if isinstance(given, int) and not isinstance(given, bool) else given


def _flags(given: object) -> object:
    """`1,0,0`, [1, 0, 0], [true, false, false], or one for every dimension."""
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, tuple) else (given,)
    known = {"0": False, "1": True, "false": False, "true": True}
    flags = [known.get(str(part).strip().lower()) for part in parts]
    if None in flags:
        raise ValueError("should be 0 or 1 for each dimension, such as 1,0,0")
    return tuple(flags)


Size = Annotated[int, Field(gt=0, le=2**40)]  # no model comes near; keeps every product an honest number
AxisSizes: TypeAlias = Annotated[tuple[Size, ...], BeforeValidator(_sizes), Field(min_length=1, max_length=3)]
AxisFlags: TypeAlias = Annotated[tuple[bool, ...], BeforeValidator(_flags), Field(min_length=1, max_length=3)]


class NeighborhoodSizes(Spec):
    """A neighborhood as a workload states it, per dimension of the layout; one size holds for every dimension."""

    window: AxisSizes
    stride: AxisSizes = (1,)
    dilation: AxisSizes = (1,)
    causal: AxisFlags = (False,)


def neighborhood_sizes(given: object) -> object:
    """`neighborhood: 7` is short for `neighborhood: {window: 7}`."""
    return {"window": given} if isinstance(given, int | str) and not isinstance(given, bool) else given


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


def layout_sizes(text: str) -> tuple[int, ...]:
    """`30x48x80`. Raises CascadeSimError."""
    try:
        sizes = _sizes(text)
    except ValueError:
        sizes = ()
    if not isinstance(sizes, tuple) or min(sizes, default=0) < 1:
        raise CascadeSimError(f"layout: expected sizes such as 30x48x80, got '{text}'")
    return sizes


def neighborhood_of(tokens: int, layout: Sequence[int] | None, sizes: NeighborhoodSizes) -> Neighborhood:
    """The neighborhood of a layer of `tokens` in a model of that layout (None: a square).

    A window given by one size for all dimensions (NAT's) shrinks to the dilation groups of a layout too small for it,
    and its stride with it; sizes given per dimension must fit. Raises CascadeSimError.
    """
    def per_dimension(given: tuple[Each, ...]) -> tuple[Each, ...]:
        return given * len(sides) if len(given) == 1 else given

    sides = layout_of(tokens, layout)
    window, stride, dilation = map(per_dimension, (sizes.window, sizes.stride, sizes.dilation))
    if len(sizes.window) == 1:
        dilation = tuple(map(min, dilation, sides))
        window = tuple(min(size, side // apart) for size, side, apart in zip(window, sides, dilation, strict=True))
        stride = tuple(map(min, stride, window))
    return neighborhood(sides, window, stride, dilation, per_dimension(sizes.causal))


def layout_of(tokens: int, layout: Sequence[int] | None) -> tuple[int, ...]:
    """The sides of `tokens` tokens: the model's layout, or one of the same proportions. Raises CascadeSimError."""
    sides = tuple(layout or (1, 1))
    larger, smaller = _root(tokens, prod(sides), len(sides)), _root(prod(sides), tokens, len(sides))
    if larger is not None:
        return tuple(side * larger for side in sides)
    if smaller is not None and all(side % smaller == 0 for side in sides):
        return tuple(side // smaller for side in sides)
    edge = _root(tokens, 1, len(sides))
    if edge is not None and len(set(sides)) == 1:
        return (edge,) * len(sides)
    needed = "a square layout" if set(sides) == {sides[0]} and len(sides) == 2 else (
        f"the {prod(sides):,} tokens of its layout {times(sides)}, or one scaled by a whole number")
    raise CascadeSimError(f"sequence length: neighborhood attention needs {needed}, got {tokens} tokens")


def _root(number: int, divisor: int, degree: int) -> int | None:
    """The whole number whose `degree`-th power is number / divisor, if there is one."""
    quotient, rest = divmod(number, divisor)
    if rest:
        return None
    near = round(quotient ** (1 / degree))
    return next((root for root in (near - 1, near, near + 1) if root > 0 and root**degree == quotient), None)
