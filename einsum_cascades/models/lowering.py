"""One layer of a model as operations with their extents bound, in an order in which they can run.

Knows how many rows each matrix sees, which keys each query attends, which statistics and activations come between.
Does not know how often a layer occurs (`workload`) or on what it runs. Left out because they are not arithmetic:
embedding look-ups, reshapes, writes to the KV cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING

from cascadesim.einsum_cascades import sparsity
from cascadesim.einsum_cascades.models.layers import LayerSizes, Matrix, Norm, Phase, Stage, matrices
from cascadesim.einsum_cascades.models.operation import Operand, Operation, causal_by_itself, elementwise, linear
from cascadesim.einsum_cascades.models.sections import (
    STEPS,
    Activation,
    Attention,
    Experts,
    Latent,
    layout_of,
    neighborhood_of,
)
from cascadesim.einsum_cascades.notation.ir import Cascade
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, ExtraKeys, KeyInterval, Mask
from cascadesim.einsum_cascades.texts import find, transformer

if TYPE_CHECKING:
    from cascadesim.einsum_cascades.sparsity.pattern_masks import PatternMask


@dataclass(frozen=True, slots=True)
class LayerRun:
    """How one kind of layer is asked to run; lengths are tokens of that layer, per sequence."""

    batch: int
    sequence_length: int
    text_length: int
    phase: Phase
    attention: Cascade
    norm: Norm
    norms_per_layer: int
    layout: tuple[int, ...] | None = None  # of the model's tokens

    @property
    def queries(self) -> int:
        return 1 if self.phase == "decode" else self.sequence_length

    @property
    def rows(self) -> int:
        return self.batch * self.queries


def layer_operations(sizes: LayerSizes, run: LayerRun) -> Iterator[Operation]:
    """One layer, top to bottom."""
    yield from _linears("modulation", sizes, run)
    if sizes.mixes:
        yield from _norms("attn_norm", sizes, run)
        yield from _linears("attention", sizes, run)
        if sizes.layer.recurrence is not None:
            yield from sizes.layer.recurrence.operations(run.batch, run.queries, stepping=run.phase == "decode")
        if sizes.attention is not None:
            yield from _before_attention(sizes, sizes.attention, run)
            yield from _self_attention(sizes, sizes.attention, run)
        yield from _linears("output", sizes, run)
        if not sizes.layer.parallel:
            yield from _residuals("attn", sizes, run)
    if sizes.attention is not None:
        yield from _cross_attention(sizes, sizes.attention, run)
    if sizes.layer.feed_forward != "none":
        yield from _feed_forward(sizes, run)


def lm_head(hidden: int, vocabulary: int, run: LayerRun) -> Iterator[Operation]:
    """The last norm and the scores of the vocabulary, for the newest position of each sequence only."""
    yield final_norm(run, run.batch, hidden)
    yield linear("lm_head", run.batch, hidden, vocabulary, operand="head")


def final_norm(run: LayerRun, rows: int, hidden: int) -> Operation:
    return elementwise("final_norm", _norm_cascade(run.norm), rows, hidden)


def expected_experts(experts: Experts, tokens: int) -> int:
    """Distinct experts that `tokens` tokens reach when each picks `chosen` at random: E (1 - (1 - k/E)^T), rounded."""
    missed = (1 - experts.chosen / experts.experts) ** tokens
    return max(experts.chosen, round(experts.experts * (1 - missed)))


def _linears(stage: Stage, sizes: LayerSizes, run: LayerRun) -> Iterator[Operation]:
    cached = ("text", "encoder") if run.phase == "decode" else ()  # their keys and values
    for matrix in matrices(sizes, run.phase):
        if matrix.stage == stage and matrix.rows not in cached:
            rows, copies = _rows_and_copies(matrix, sizes, run)
            yield linear(matrix.name, rows, matrix.inputs, matrix.outputs, copies, matrix.operand)


def _rows_and_copies(matrix: Matrix, sizes: LayerSizes, run: LayerRun) -> tuple[int, int]:
    """Rows of each copy. Experts: those expected to be hit share the (token, choice) pairs evenly, rounded up."""
    match matrix.rows:
        case "choices" if sizes.experts is not None:
            hit = expected_experts(sizes.experts, run.rows)
            return -(-run.rows * sizes.experts.chosen // hit), hit
        case "keys" if run.phase == "prefill":
            return run.batch * (run.sequence_length + sizes.layer.memory), matrix.copies
        case "text":
            return run.batch * run.text_length, matrix.copies
        case "encoder":
            return run.batch * run.sequence_length, matrix.copies
        case "sequence":
            return run.batch, matrix.copies
    joined = run.batch * run.text_length if sizes.layer.joint == "one-stream" else 0  # text in the same matrices
    return run.rows + joined, matrix.copies


def _self_attention(sizes: LayerSizes, attention: Attention, run: LayerRun) -> Iterator[Operation]:
    """Decode: one query per sequence attends every key that its layer still sees, so the mask is full.

    In a neighborhood, tokens attend their windows and all text that is joined to them; the text attends everything.
    Softmax is per query, so the queries of the text are an operation of their own.
    """
    joined = run.text_length if sizes.layer.joint is not None else 0
    if (window := sizes.layer.window_sizes) is not None:
        tokens = run.sequence_length
        pattern = neighborhood_of(tokens, run.layout, window)
        yield _attention("attention", attention, run, tokens, tokens + joined,
                         ExtraKeys(pattern, joined) if joined else pattern)
        if joined:
            yield _attention("text_attention", attention, run, joined, tokens + joined, FULL)
    elif run.phase == "decode" and attention.latent is not None:
        yield _absorbed_attention(attention.heads, attention.latent, _keys_and_mask(sizes, attention, run)[0], run)
    elif run.phase == "decode" and run.attention.name in STEPS and sizes.layer.interval == CAUSAL:  # keys in a state
        yield replace(_attention("attention", attention, run, 1, 1, FULL), operand="activations",
                      cascade=find(STEPS[run.attention.name]))
    else:
        keys, mask = _keys_and_mask(sizes, attention, run)
        chosen = _mask_of_pattern(sizes, run)
        before, after = ((), ()) if chosen is None else _choice(chosen, attention, run)
        repeated = chosen is not None and chosen.repeats_keys
        own = attention.model_copy(update={"kv_heads": attention.heads}) if repeated else attention
        yield from before
        yield _attention("attention", own, run, run.queries + joined, keys + joined, mask)
        yield from after
    if attention.output_gate:
        yield elementwise("attn_gate", transformer.SIGMOID_GATE, run.rows, attention.heads * attention.values)


def _attention(name: str, attention: Attention, run: LayerRun, queries: int, keys: int, mask: Mask) -> Operation:
    """A text that walks positions in order is causal as it stands: then a causal mask asks for nothing more.

    Where its heads share keys, they share queries, too (h//G), which those of attention do not: each has its own here.
    """
    in_order = causal_by_itself(run.attention)
    group = 1 if in_order else attention.heads // attention.key_heads
    extents = (("b", run.batch), ("h", attention.heads), ("g", group), ("m", keys), ("p", queries),
               ("e", attention.head_dim), ("f", attention.values))
    mask = FULL if in_order and mask == CAUSAL else mask
    return Operation(name, "attention", run.attention, extents, mask=mask, operand=_keys_from(run))


def _absorbed_attention(heads: int, latent: Latent, keys: int, run: LayerRun) -> Operation:
    """MLA as decoding runs it: all heads share one latent key, whose first kv_rank elements are the value."""
    extents = (("b", run.batch), ("h", heads), ("g", heads), ("m", keys), ("p", 1),
               ("e", latent.kv_rank + latent.rope_dim), ("f", latent.kv_rank))
    return Operation("attention", "attention", run.attention, extents, operand=_keys_from(run))


def _keys_from(run: LayerRun) -> Operand:
    """A prompt's keys and values are multiplied as they are made, a new token's come from the cache."""
    return "kv" if run.phase == "decode" else "activations"


def _keys_and_mask(sizes: LayerSizes, attention: Attention, run: LayerRun) -> tuple[int, Mask]:
    layer, selected = sizes.layer, _selected_keys(attention)
    if run.phase == "decode":
        return decode_keys(sizes, run.sequence_length), FULL
    if (pattern := _mask_of_pattern(sizes, run)) is not None:
        return run.sequence_length, pattern
    if selected is not None:  # as many pairs as a window of so many keys: min(p + 1, selected) for query p
        return run.sequence_length, KeyInterval(causal=True, window=selected).within(run.sequence_length)
    keys = run.sequence_length + layer.memory
    return keys, layer.interval.within(keys)


def decode_keys(sizes: LayerSizes, sequence_length: int) -> int:
    """Keys that a new token attends in a layer, of `sequence_length` positions that end with its own."""
    if sizes.pattern is not None and (mask := _pattern(sizes, (sequence_length,))).runs_in("decode"):
        return mask.last_keys
    keys = sizes.layer.cached_keys(sequence_length) + sizes.layer.memory
    selected = None if sizes.attention is None else _selected_keys(sizes.attention)
    return min(keys, selected or keys)


def _mask_of_pattern(sizes: LayerSizes, run: LayerRun) -> PatternMask | None:
    """The pattern of a layer, where it has one in this phase."""
    if sizes.pattern is None:
        return None
    tokens = run.sequence_length
    one_row = run.phase == "decode" or run.layout is None
    found = _pattern(sizes, (tokens,) if one_row else layout_of(tokens, run.layout))
    return found if found.runs_in(run.phase) else None


def _pattern(sizes: LayerSizes, layout: tuple[int, ...]) -> PatternMask:
    return sparsity.pattern_mask(sizes.pattern or "", layout, sizes.layer.mask == "causal")


def _choice(
    pattern: PatternMask, attention: Attention, run: LayerRun
) -> tuple[tuple[Operation, ...], tuple[Operation, ...]]:
    """What choosing adds before attention and after it; imported here, as most runs have no pattern."""
    module = import_module("cascadesim.einsum_cascades.models.pattern_choice")
    found: tuple[tuple[Operation, ...], tuple[Operation, ...]] = module.choice_operations(
        pattern, attention, run.batch, run.phase == "decode", run.attention)
    return found


def _selected_keys(attention: Attention) -> int | None:
    latent = attention.latent
    return latent.indexer.keys if latent is not None and latent.indexer is not None else None


def _cross_attention(sizes: LayerSizes, attention: Attention, run: LayerRun) -> Iterator[Operation]:
    if sizes.layer.cross is None:
        return
    keys = run.text_length if sizes.layer.cross == "text" else run.sequence_length
    yield elementwise("cross_norm", _norm_cascade(run.norm), run.rows, sizes.hidden)
    yield from _linears("cross", sizes, run)
    yield _attention("cross_attention", attention, run, run.queries, keys, FULL)
    yield from _linears("cross_output", sizes, run)
    yield elementwise("cross_residual", transformer.RESIDUAL_ADD, run.rows, sizes.hidden)


def _before_attention(sizes: LayerSizes, attention: Attention, run: LayerRun) -> Iterator[Operation]:
    """What happens to queries and keys between their projections and the scores."""
    latent = attention.latent
    rows = run.rows + (run.batch * run.text_length if sizes.layer.joint is not None else 0)
    if latent is not None:
        yield elementwise("latent_q_norm", transformer.RMS_NORM, rows, latent.q_rank)
        yield elementwise("latent_kv_norm", transformer.RMS_NORM, rows, latent.kv_rank)
        if (indexer := latent.indexer) is not None:  # one key tensor per sequence, as a product with every query
            yield linear("index_scores", run.queries * indexer.heads, indexer.head_dim, run.sequence_length, run.batch,
                         _keys_from(run))
    heads = (("q", attention.heads), ("k", 1 if latent is not None else attention.key_heads))
    for name, count in heads:
        if attention.qk_norm:
            across = count if attention.qk_norm == "full" else 1  # heads of one norm
            yield elementwise(f"{name}_norm", transformer.RMS_NORM, rows * count // across, across * attention.head_dim)
        if attention.rotary:
            yield elementwise(f"{name}_rotary", transformer.ROTARY, rows * count, -(-attention.rotated // 2))


def _feed_forward(sizes: LayerSizes, run: LayerRun) -> Iterator[Operation]:
    experts, ffn = sizes.experts, sizes.ffn
    own_norm = run.norms_per_layer > 1 or not sizes.layer.parallel
    if sizes.layer.joint != "one-stream" and own_norm:  # otherwise attention's norm serves both
        yield from _norms("ffn_norm", sizes, run)
    yield from _linears("router", sizes, run)
    if experts is not None:
        yield elementwise("router_softmax", transformer.SOFTMAX_ROUTER, run.rows, experts.experts)
    yield from _linears("up", sizes, run)
    if ffn is not None:
        for prefix, rows in _streams(sizes, run):
            yield elementwise(f"{prefix}ffn_activation", activation(ffn.activation, ffn.gated), rows, ffn.width)
    if experts is not None:
        cascade = activation(experts.activation, experts.gated)
        yield elementwise("expert_activation", cascade, run.rows * experts.chosen, experts.width)
        if experts.shared:
            yield elementwise("shared_activation", cascade, run.rows, experts.shared * experts.width)
    yield from _linears("down", sizes, run)
    if experts is not None:
        yield elementwise("expert_sum", transformer.SCALED_ADD, run.rows * experts.chosen, sizes.hidden)
    if sizes.layer.joint != "one-stream":
        yield from _residuals("ffn", sizes, run)


def activation(name: Activation, gated: bool) -> Cascade:
    return (transformer.GATED if gated else transformer.ACTIVATIONS)[name]


def _norms(name: str, sizes: LayerSizes, run: LayerRun) -> Iterator[Operation]:
    for prefix, rows in _streams(sizes, run):
        yield elementwise(f"{prefix}{name}", _norm_cascade(run.norm), rows, sizes.hidden)


def _residuals(name: str, sizes: LayerSizes, run: LayerRun) -> Iterator[Operation]:
    """The sum with the stream; before it, a second norm where the model has four per layer."""
    if run.norms_per_layer == 4:
        yield from _norms(f"{name}_post_norm", sizes, run)
    cascade = (transformer.GATED_RESIDUAL if sizes.layer.modulation else
               transformer.PARALLEL_RESIDUAL if sizes.layer.parallel else transformer.RESIDUAL_ADD)
    for prefix, rows in _streams(sizes, run):
        yield elementwise(f"{prefix}{name}_residual", cascade, rows, sizes.hidden)


def _streams(sizes: LayerSizes, run: LayerRun) -> tuple[tuple[str, int], ...]:
    """Prefix and rows of each stream of tokens that a layer keeps."""
    text = run.batch * run.text_length
    match sizes.layer.joint:
        case "two-stream":
            return (("", run.rows), ("text_", text))
        case "one-stream":
            return (("", run.rows + text),)
    return (("", run.rows),)


def _norm_cascade(norm: Norm) -> Cascade:
    return transformer.RMS_NORM if norm == "rms" else transformer.LAYER_NORM


def cached_words(sizes: LayerSizes, sequence_length: int, text_length: int) -> int:
    """Words of the KV cache that one layer holds for one sequence; a layer that sees a window keeps the window.

    Per key a key and a value per key/value head, or one latent vector with its rotated part.
    """
    attention = sizes.attention
    if sizes.layer.mask != "causal" or attention is None:
        return 0
    latent = attention.latent
    if latent is None:
        per_key = attention.key_heads * (attention.head_dim + attention.values)
    elif latent.indexer is None:
        per_key = latent.kv_rank + latent.rope_dim
    else:  # any key may be selected later, so all are kept
        return sequence_length * (latent.kv_rank + latent.rope_dim + latent.indexer.head_dim)
    crossed = {None: 0, "text": text_length, "encoder": sequence_length}[sizes.layer.cross]
    return (sizes.layer.cached_keys(sequence_length) + sizes.layer.memory + crossed) * per_key
