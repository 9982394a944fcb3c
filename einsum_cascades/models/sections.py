"""The parts of a layer as workload files state them: attention, recurrence, feed-forward, experts, layouts of tokens.

Tokens may lie in two or three dimensions, where a layer attends a neighborhood: NAT (CVPR 2023), DiNAT
(arXiv 2209.15001), GNA (2504.16922).

Layers with a recurrence keep a memory that does not grow: gated DeltaNet, Kimi delta attention (KDA), Mamba-2. They
project their input to queries, keys, values, gates and decays; a short convolution mixes neighbouring tokens of each
channel; one state of key_dim x value_dim numbers a head carries everything that came before; a norm with a gate and a
projection follow. Prompts run the chunked text of the recurrence, new tokens its step. Letters are those of attention:
Mamba-2's C, B and x are queries, keys and values, and its groups share queries and keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Annotated, Literal, NamedTuple, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from cascadesim.einsum_cascades.models.operation import Operation, elementwise
from cascadesim.einsum_cascades.notation.errors import CascadeSimError, shortened
from cascadesim.einsum_cascades.notation.schema import Spec
from cascadesim.einsum_cascades.sparsity.masks import Neighborhood, neighborhood, times
from cascadesim.einsum_cascades.texts import find

Each = TypeVar("Each")

Size = Annotated[int, Field(gt=0, le=2**40)]  # no model comes near; keeps every product an honest number
Activation: TypeAlias = Literal["gelu", "gelu-tanh", "silu", "relu", "relu2"]
Form: TypeAlias = Literal["gated-deltanet", "kimi-delta-attention", "mamba-2"]
RECURRENCE = "recurrence"  # the name of the operation
STATE_BYTES = 4  # of a number: engines keep states in fp32 (mamba_ssm_dtype of Qwen3.5's and Nemotron's configurations)
_PROMPTS: Mapping[Form, str] = {"gated-deltanet": "gated-deltanet-chunked", "mamba-2": "mamba-2-ssd",
                                "kimi-delta-attention": "kimi-delta-attention-chunked"}  # fmt: skip
# Text of attention -> the text that goes on from its state, one new token after another.
STEPS: Mapping[str, str] = {
    "linear-attention-chunked": "linear-attention-step", "mamba-2-ssd": "mamba-2-step",
    "gated-deltanet": "gated-deltanet-step", "gated-deltanet-chunked": "gated-deltanet-step",
    "kimi-delta-attention": "kimi-delta-attention-step", "kimi-delta-attention-chunked": "kimi-delta-attention-step",
}  # fmt: skip


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
    rotary: bool | Size = False  # a number: so many elements of a head rotate, not all
    output_gate: bool = False  # queries are twice as wide: a gate for each element of the result
    qk_norm: bool | Literal["full"] = False  # an RMS norm over each head of queries and keys; full: over all heads
    latent: Latent | None = None
    pattern: str | None = None  # sparse self-attention, as `gna --pattern` names it

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

    @property
    def rotated(self) -> int:
        """Elements of a head that rotate."""
        whole = self.head_dim if self.latent is None else self.latent.rope_dim
        return whole if isinstance(self.rotary, bool) else self.rotary


class FeedForward(Spec):
    """hidden -> width -> hidden; `gated` has a second matrix whose activated product gates the first (GLU)."""

    width: Size
    activation: Activation
    gated: bool = False
    bias: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> FeedForward:
        _refuse_gate(self.activation, self.gated)
        return self


def _refuse_gate(activation: Activation, gated: bool) -> None:
    if gated and activation == "relu2":
        raise ValueError("activation: relu2 gates nothing; state gated: false")


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
        _refuse_gate(self.activation, self.gated)
        return self


class Projection(NamedTuple):
    """A product of the layer's input or, for the last one, of the result of its recurrence."""

    name: str
    inputs: int
    outputs: int


class Recurrence(Spec):
    """`heads` states of key_dim x value_dim numbers; `qk_heads` heads of queries and keys serve as many each.

    A convolution of width 4 goes over queries, keys and values. `decay_rank`: of KDA's decays, which go through so few
    numbers; its output gate has full rank.
    """

    form: Form
    heads: Size
    qk_heads: Size | None = None  # None: as many as heads
    key_dim: Size
    value_dim: Size
    convolution: Literal[4] = 4
    decay_rank: Size | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Recurrence:
        if self.heads % self.key_heads:
            raise ValueError(f"heads must be a multiple of qk_heads, got {self.heads} and {self.qk_heads}")
        if (self.form == "kimi-delta-attention") != (self.decay_rank is not None):
            raise ValueError("decay_rank belongs to kimi-delta-attention, which needs it")
        if self.form == "kimi-delta-attention" and self.key_heads != self.heads:
            raise ValueError("kimi-delta-attention has as many qk_heads as heads")
        return self

    @property
    def key_heads(self) -> int:
        """Heads of queries and keys."""
        return self.heads if self.qk_heads is None else self.qk_heads

    @property
    def values(self) -> int:
        return self.heads * self.value_dim

    @property
    def channels(self) -> int:
        """Channels of the convolution."""
        return 2 * self.key_heads * self.key_dim + self.values

    @property
    def state_words(self) -> int:
        """Numbers that one layer keeps of one sequence, however long it is."""
        return self.heads * self.key_dim * self.value_dim

    @property
    def column_words(self) -> int:
        """Inputs of the convolution that one layer keeps of one sequence: those of the last width - 1 tokens."""
        return self.channels * (self.convolution - 1)

    @property
    def vectors(self) -> int:
        """Numbers that a layer stores beside its matrices: taps, biases and scales of decays, skips, its norm."""
        taps = self.channels * self.convolution
        match self.form:
            case "mamba-2":  # a bias of the convolution; scale and bias of the decay, and the skip, of each head
                return taps + self.channels + 3 * self.heads + self.values
            case "gated-deltanet":
                return taps + 2 * self.heads + self.value_dim
        return taps + self.heads + self.heads * self.key_dim + self.value_dim

    def projections(self, hidden: int) -> Iterator[Projection]:
        """What is multiplied by weights: the layer's input, then the result of the recurrence."""
        if self.form == "mamba-2":
            yield Projection("in_proj", hidden, self.channels + self.values + self.heads)
        else:
            yield Projection("qkv_proj", hidden, self.channels)
            yield Projection("gate_proj", hidden, self.values)
            yield Projection("beta_proj", hidden, self.heads)
        if self.form == "gated-deltanet":
            yield Projection("decay_proj", hidden, self.heads)
        if self.decay_rank is not None:
            yield Projection("decay_down_proj", hidden, self.decay_rank)
            yield Projection("decay_proj", self.decay_rank, self.heads * self.key_dim)
        yield Projection("out_proj", self.values, hidden)

    def operations(self, batch: int, tokens: int, *, stepping: bool) -> Iterator[Operation]:
        """What runs between the projections for `tokens` of each sequence; `stepping`: on from a kept state."""
        rows, per_head = batch * tokens, batch * tokens * self.heads
        if stepping:  # columns of earlier tokens come from the cache
            yield elementwise("convolution", find("causal-convolution-step"), rows, self.channels, "kv")
        else:
            yield elementwise("convolution", find("causal-convolution"), rows, self.channels)
        if self.form == "mamba-2":
            yield elementwise("gates", find("mamba-2-gates"), per_head, self.value_dim)
        else:
            for name in ("q_norm", "k_norm"):
                yield elementwise(name, find("unit-norm"), rows * self.key_heads, self.key_dim)
            decays = 1 if self.form == "gated-deltanet" else self.key_dim
            yield elementwise("gates", find("delta-gates"), per_head, decays)
        text = _PROMPTS[self.form]
        extents = (("b", batch), ("h", self.heads), ("g", self.heads // self.key_heads), ("m", tokens),
                   ("p", tokens), ("e", self.key_dim), ("f", self.value_dim))  # fmt: skip
        yield Operation(RECURRENCE, "attention", find(STEPS[text] if stepping else text), extents)
        if self.form == "mamba-2":  # a norm for each group
            yield elementwise("gated_norm", find("mamba-2-norm"), rows * self.key_heads,
                              self.values // self.key_heads)  # fmt: skip
        else:
            yield elementwise("gated_norm", find("gated-rms-norm"), per_head, self.value_dim)


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


def layout_sizes(text: str, what: str = "layout") -> tuple[int, ...]:
    """`30x48x80`. Raises CascadeSimError that starts with `what` it is."""
    try:
        sizes = _sizes(text)
    except ValueError:
        sizes = ()
    if not isinstance(sizes, tuple) or min(sizes, default=0) < 1:
        raise CascadeSimError(f"{what}: expected sizes such as 30x48x80, got '{shortened(text)}'")
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
