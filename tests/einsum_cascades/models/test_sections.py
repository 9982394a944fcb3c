"""Layers with a recurrence: what they multiply by, keep and run, counted by hand from their papers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cascadesim.einsum_cascades.models.layers import Layer, LayerSizes, layer_parameters, matrices
from cascadesim.einsum_cascades.models.lowering import LayerRun, layer_operations
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.sections import Attention, Experts, FeedForward, Recurrence
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_3PASS

DELTANET = Recurrence(form="gated-deltanet", heads=6, qk_heads=2, key_dim=8, value_dim=16)
KIMI = Recurrence(form="kimi-delta-attention", heads=4, key_dim=8, value_dim=16, decay_rank=3)
MAMBA = Recurrence(form="mamba-2", heads=6, qk_heads=2, key_dim=8, value_dim=16)
HIDDEN = 32


def sizes(**fields: Any) -> LayerSizes:
    layer = Layer(count=1, mask="causal", feed_forward="none", **fields)
    own = layer.attention if isinstance(layer.attention, Attention) else None
    return LayerSizes(layer, HIDDEN, HIDDEN, own, None, None)


def run(of: LayerSizes, phase: Any, norms: int = 2) -> dict[str, Operation]:
    found = layer_operations(of, LayerRun(3, 10, 0, phase, ATTENTION_3PASS, "rms", norms))
    return {operation.name: operation for operation in found}


def shapes(of: LayerSizes, phase: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (operation.cascade.name, tuple(size for _, size in operation.extents))
            for name, operation in run(of, phase).items()}  # fmt: skip


def test_a_prompt_in_a_gated_deltanet_layer() -> None:
    """3 sequences of 10 tokens; queries and keys are 2 x 8 wide, values 6 x 16; each q/k head serves 3 value heads."""
    rows, keys, values = 30, 2 * 8, 6 * 16
    assert shapes(sizes(recurrence=DELTANET), "prefill") == {
        "attn_norm": ("rms-norm", (rows, HIDDEN)),
        "qkv_proj": ("linear", (rows, HIDDEN, 2 * keys + values, 1)),
        "gate_proj": ("linear", (rows, HIDDEN, values, 1)),
        "beta_proj": ("linear", (rows, HIDDEN, 6, 1)), "decay_proj": ("linear", (rows, HIDDEN, 6, 1)),
        "convolution": ("causal-convolution", (rows, 2 * keys + values)),
        "q_norm": ("unit-norm", (rows * 2, 8)), "k_norm": ("unit-norm", (rows * 2, 8)),
        "gates": ("delta-gates", (rows * 6, 1)),
        "recurrence": ("gated-deltanet-chunked", (3, 6, 3, 10, 10, 8, 16)),  # b, h, g, m, p, e, f
        "gated_norm": ("gated-rms-norm", (rows * 6, 16)),
        "out_proj": ("linear", (rows, values, HIDDEN, 1)),
        "attn_residual": ("residual-add", (rows, HIDDEN)),
    }  # fmt: skip


def test_a_new_token_takes_a_step_from_what_is_kept() -> None:
    found = run(sizes(recurrence=DELTANET), "decode")
    assert found["recurrence"].cascade.name == "gated-deltanet-step"
    assert tuple(size for _, size in found["recurrence"].extents) == (3, 6, 3, 1, 1, 8, 16)
    assert found["convolution"].cascade.name == "causal-convolution-step"
    assert found["convolution"].operand == "kv"  # its columns come from the cache, the state by itself
    assert found["qkv_proj"].extent("r") == 3


def test_decays_of_kimi_are_as_many_as_keys_are_wide() -> None:
    found = shapes(sizes(recurrence=KIMI), "prefill")
    assert found["decay_down_proj"][1] == (30, HIDDEN, 3, 1)
    assert found["decay_proj"][1] == (30, 3, 4 * 8, 1)
    assert found["gates"] == ("delta-gates", (30 * 4, 8))
    assert found["recurrence"] == ("kimi-delta-attention-chunked", (3, 4, 1, 10, 10, 8, 16))


def test_a_mamba_2_layer_projects_once_and_has_a_norm_for_each_group() -> None:
    """di = 96, 2 groups of states of 8: 2 x 96 + 2 x 2 x 8 + 6 columns; the convolution sees 96 + 2 x 2 x 8."""
    found = shapes(sizes(recurrence=MAMBA), "prefill")
    assert found["in_proj"][1] == (30, HIDDEN, 2 * 96 + 2 * 2 * 8 + 6, 1)
    assert found["convolution"][1] == (30, 96 + 2 * 2 * 8)
    assert found["gates"] == ("mamba-2-gates", (30 * 6, 16))
    assert found["gated_norm"] == ("mamba-2-norm", (30 * 2, 48))
    assert not {"qkv_proj", "gate_proj", "q_norm"} & set(found)


@pytest.mark.parametrize(("recurrence", "vectors"), [
    (DELTANET, 4 * 128 + 6 + 6 + 16),  # taps of 128 channels; A and a bias per head; a norm over a head
    (KIMI, 4 * 128 + 4 + 4 * 8 + 16),  # the bias is per head and key channel
    (MAMBA, 4 * 128 + 128 + 3 * 6 + 96),  # a bias of the convolution, A, bias and skip per head; a norm over all
])  # fmt: skip
def test_what_a_layer_stores(recurrence: Recurrence, vectors: int) -> None:
    of = sizes(recurrence=recurrence)
    assert recurrence.channels == 128
    assert layer_parameters(of, "rms", 1) == sum(matrix.parameters for matrix in matrices(of)) + HIDDEN + vectors


def test_what_a_layer_keeps_of_a_sequence() -> None:
    assert DELTANET.state_words == 6 * 8 * 16
    assert DELTANET.column_words == 3 * (2 * 2 * 8 + 6 * 16)


def test_a_gate_makes_queries_twice_as_wide() -> None:
    attention = Attention(heads=4, kv_heads=2, head_dim=8, value_dim=6, rotary=4, output_gate=True)
    found = shapes(sizes(attention=attention), "prefill")
    assert found["q_proj"][1] == (30, HIDDEN, 4 * 8 + 4 * 6, 1)
    assert found["attn_gate"] == ("sigmoid-gate", (30, 4 * 6))
    assert list(found).index("attention") < list(found).index("attn_gate") < list(found).index("out_proj")
    assert found["q_rotary"][1] == (30 * 4, 2)  # 4 of 8 elements turn, in pairs


def test_a_layer_may_be_its_feed_forward_part_alone() -> None:
    layer = Layer(count=1, mask="causal", attention="none")
    of = LayerSizes(layer, HIDDEN, HIDDEN, None, FeedForward(width=40, activation="relu2"), None)
    assert list(run(of, "decode")) == ["ffn_norm", "ffn_up", "ffn_activation", "ffn_down", "ffn_residual"]
    assert layer_parameters(of, "rms", 1) == 2 * HIDDEN * 40 + HIDDEN


@given(heads=st.integers(1, 8), share=st.integers(1, 4), key=st.integers(1, 32), value=st.integers(1, 32))
def test_all_columns_of_the_input_projections_are_used(heads: int, share: int, key: int, value: int) -> None:
    """Mamba-2: what is projected is what the convolution sees, the gate, and a step per head."""
    found = Recurrence(form="mamba-2", heads=heads * share, qk_heads=heads, key_dim=key, value_dim=value)
    columns = sum(each.outputs for each in found.projections(HIDDEN)) - HIDDEN
    assert columns == 2 * heads * key + 2 * heads * share * value + heads * share
    other = Recurrence(form="gated-deltanet", heads=heads * share, qk_heads=heads, key_dim=key, value_dim=value)
    assert sum(each.outputs for each in other.projections(HIDDEN)) - HIDDEN == columns + heads * share  # beta, decay
    (step,) = (each for each in found.operations(2, 1, stepping=True) if each.name == "recurrence")
    assert step.extent("h") // step.extent("g") == heads


@pytest.mark.parametrize(("fields", "expected"), [
    ({"form": "gated-deltanet", "heads": 6, "qk_heads": 4, "key_dim": 8, "value_dim": 8}, "multiple of qk_heads"),
    ({"form": "gated-deltanet", "heads": 6, "key_dim": 8, "value_dim": 8, "decay_rank": 2}, "decay_rank belongs to"),
    ({"form": "kimi-delta-attention", "heads": 6, "key_dim": 8, "value_dim": 8}, "decay_rank belongs to"),
    ({"form": "kimi-delta-attention", "heads": 6, "qk_heads": 2, "key_dim": 8, "value_dim": 8, "decay_rank": 2},
     "as many qk_heads"),
    ({"form": "mamba-2", "heads": 6, "key_dim": 8, "value_dim": 8, "convolution": 3}, "convolution"),
])  # fmt: skip
def test_recurrences_that_cannot_be(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Recurrence(**fields)


@pytest.mark.parametrize("fields", [
    {"mask": "full"}, {"mask": "causal", "window": 4}, {"mask": "causal", "chunk": 4}, {"mask": "causal", "memory": 1},
    {"mask": "causal", "cross": "encoder"}, {"mask": "causal", "joint": "one-stream"},
    {"mask": "causal", "attention": Attention(heads=1, head_dim=8)},
])  # fmt: skip
def test_a_recurrence_stands_for_all_attention_of_its_layer(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="a recurrence needs mask: causal"):
        Layer(count=1, recurrence=DELTANET, **fields)


def test_a_layer_without_attention_is_something() -> None:
    with pytest.raises(ValidationError, match="cannot be none"):
        Layer(count=1, attention="none", feed_forward="none")


def test_a_squared_relu_gates_nothing() -> None:
    with pytest.raises(ValidationError, match="relu2 gates nothing"):
        FeedForward(width=8, activation="relu2", gated=True)
    with pytest.raises(ValidationError, match="relu2 gates nothing"):
        Experts(experts=4, chosen=2, width=8, activation="relu2")
