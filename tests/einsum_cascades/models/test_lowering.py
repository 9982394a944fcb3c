"""One layer as operations: how many rows each matrix sees, which keys each query attends, what comes between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascadesim.einsum_cascades.models.layers import Layer, LayerSizes, Phase
from cascadesim.einsum_cascades.models.lowering import LayerRun, expected_experts, layer_operations
from cascadesim.einsum_cascades.models.operation import Operation
from cascadesim.einsum_cascades.models.sections import Attention, Experts, FeedForward, Latent
from cascadesim.einsum_cascades.sparsity.masks import CAUSAL, FULL, ExtraKeys, KeyInterval, neighborhood
from cascadesim.einsum_cascades.texts.transformer import ATTENTION_3PASS

Array = NDArray[np.float64]

ATTENTION = Attention(heads=4, kv_heads=2, head_dim=8)
FFN = FeedForward(width=40, activation="gelu")


def sizes(layer: Layer, attention: Attention = ATTENTION, experts: Experts | None = None) -> LayerSizes:
    ffn = FFN if layer.feed_forward == "dense" else None
    return LayerSizes(layer, hidden=16, text_hidden=24, attention=attention, ffn=ffn, experts=experts)


def layer(**fields: Any) -> Layer:
    return Layer(count=1, **fields)


def operations(of: LayerSizes, *, batch: int = 2, length: int = 9, text: int = 5, phase: Phase = "prefill",
               norms: int = 2, layout: tuple[int, ...] | None = None) -> dict[str, Operation]:  # fmt: skip
    run = LayerRun(batch, length, text, phase, ATTENTION_3PASS, "layer", norms, layout)
    listed = list(layer_operations(of, run))
    named = {operation.name: operation for operation in listed}
    assert len(named) == len(listed), "names within a layer are distinct"
    return named


def extents(operation: Operation) -> tuple[int, ...]:
    return tuple(size for _, size in operation.extents)


def test_an_encoder_layer_of_two_sequences_of_nine() -> None:
    found = {name: extents(operation) for name, operation in operations(sizes(layer())).items()}
    rows = 2 * 9
    assert found == {
        "attn_norm": (rows, 16),
        "q_proj": (rows, 16, 32, 1), "k_proj": (rows, 16, 16, 1), "v_proj": (rows, 16, 16, 1),
        "attention": (2, 4, 2, 9, 9, 8, 8),  # b, h, g, m, p, e, f
        "out_proj": (rows, 32, 16, 1),
        "attn_residual": (rows, 16),
        "ffn_norm": (rows, 16),
        "ffn_up": (rows, 16, 40, 1), "ffn_activation": (rows, 40), "ffn_down": (rows, 40, 16, 1),
        "ffn_residual": (rows, 16),
    }  # fmt: skip


def test_four_norms_a_layer_normalise_before_each_residual_too() -> None:
    found = operations(sizes(layer()), norms=4)
    assert [name for name in found if "norm" in name] == ["attn_norm", "attn_post_norm", "ffn_norm", "ffn_post_norm"]


def test_rotation_and_norms_of_heads_have_a_row_per_head() -> None:
    attention = Attention(heads=4, kv_heads=2, head_dim=9, rotary=True, qk_norm=True)
    found = {name: extents(operation) for name, operation in operations(sizes(layer(), attention)).items()}
    assert found["q_norm"] == (2 * 9 * 4, 9)
    assert found["k_norm"] == (2 * 9 * 2, 9)
    assert found["q_rotary"] == (2 * 9 * 4, 5)  # pairs of elements, rounded up
    assert found["k_rotary"] == (2 * 9 * 2, 5)


def test_memory_gives_keys_and_no_queries() -> None:
    found = operations(sizes(layer(mask="causal", memory=7)))
    assert extents(found["q_proj"])[0] == 2 * 9
    assert extents(found["k_proj"])[0] == extents(found["v_proj"])[0] == 2 * (9 + 7)
    assert (found["attention"].extent("m"), found["attention"].extent("p")) == (16, 9)
    assert found["attention"].mask.attended_pairs(9, 16) == 9 * 7 + 45  # all of the memory, and the causal triangle
    assert operations(sizes(layer(mask="causal", memory=7)), phase="decode")["attention"].extent("m") == 16


def test_cross_attention_to_text_reads_its_own_keys() -> None:
    found = {name: extents(each) for name, each in operations(sizes(layer(cross="text"))).items() if "cross" in name}
    assert found == {
        "cross_norm": (18, 16),
        "cross_q_proj": (18, 16, 32, 1),
        "cross_k_proj": (2 * 5, 24, 16, 1), "cross_v_proj": (2 * 5, 24, 16, 1),  # 5 tokens of text, 24 wide
        "cross_attention": (2, 4, 2, 5, 9, 8, 8),
        "cross_out_proj": (18, 32, 16, 1),
        "cross_residual": (18, 16),
    }  # fmt: skip


def test_decode_keeps_the_keys_of_cross_attention() -> None:
    found = operations(sizes(layer(mask="causal", cross="encoder")), phase="decode")
    assert extents(found["cross_attention"]) == (2, 4, 2, 9, 1, 8, 8)
    assert extents(found["cross_q_proj"])[0] == 2
    assert "cross_k_proj" not in found
    assert "cross_v_proj" not in found


def test_two_streams_have_matrices_of_their_own_and_one_attention() -> None:
    found = operations(sizes(layer(joint="two-stream", modulation=6)))
    assert (found["attention"].extent("m"), found["attention"].extent("p")) == (9 + 5, 9 + 5)
    for name in ("q_proj", "out_proj", "ffn_up", "ffn_down", "attn_norm", "ffn_residual"):
        assert extents(found[name])[0] == 2 * 9
        assert extents(found[f"text_{name}"])[0] == 2 * 5
    assert extents(found["modulation_proj"]) == (2, 16, 6 * 16, 2)  # a row per sequence, a matrix per stream


def test_one_stream_sends_text_through_the_same_matrices() -> None:
    found = operations(sizes(layer(joint="one-stream", modulation=3)))
    rows = 2 * (9 + 5)
    for name in ("attn_norm", "q_proj", "k_proj", "v_proj", "out_proj", "ffn_up", "ffn_activation", "ffn_down"):
        assert extents(found[name])[0] == rows, name
    assert found["attention"].extent("p") == 14
    assert not [name for name in found if name.startswith("text_")]
    assert "ffn_norm" not in found  # attention and feed-forward share a norm and a residual


def test_a_gate_from_the_conditioning_scales_the_residual() -> None:
    assert operations(sizes(layer(modulation=6)))["attn_residual"].cascade.name == "gated-residual"
    assert operations(sizes(layer()))["attn_residual"].cascade.name == "residual-add"


def test_a_neighborhood_is_the_mask_in_a_square_layout_unless_the_model_has_another() -> None:
    assert operations(sizes(layer(neighborhood=3)))["attention"].mask == neighborhood((3, 3), (3, 3))
    window = {"window": "1x6", "stride": (1, 2), "causal": "1,0"}
    found = operations(sizes(layer(neighborhood=window)), length=18, layout=(2, 9))["attention"].mask
    assert found == neighborhood((2, 9), (1, 6), (1, 2), causal=(True, False))


def test_joined_text_is_further_keys_and_attends_everything_itself() -> None:
    """9 tokens and 5 of text: 9 queries with windows of 1 key and 5 of text each, 5 queries with all 14 keys."""
    found = operations(sizes(layer(neighborhood=1, joint="one-stream")))
    tokens, text = found["attention"], found["text_attention"]
    assert (tokens.extent("p"), tokens.extent("m"), text.extent("p"), text.extent("m")) == (9, 14, 5, 14)
    assert tokens.mask == ExtraKeys(neighborhood((3, 3), (1, 1)), 5)
    assert tokens.mask.attended_pairs(9, 14) == 9 * (1 + 5)
    assert text.mask == FULL


@pytest.mark.parametrize(
    ("fields", "mask", "decode_keys"),
    [
        ({"mask": "causal"}, CAUSAL, 9),
        ({"mask": "causal", "window": 4}, KeyInterval(True, 4), 4),
        ({"mask": "causal", "chunk": 4}, KeyInterval(True, None, 4), 1),  # positions 0-3, 4-7, 8
    ],
)
def test_masks_of_prefill_become_keys_of_decode(fields: dict[str, Any], mask: KeyInterval, decode_keys: int) -> None:
    prefill = operations(sizes(layer(**fields)))["attention"]
    decode = operations(sizes(layer(**fields)), phase="decode")["attention"]
    assert (prefill.mask, prefill.extent("m"), prefill.extent("p")) == (mask, 9, 9)
    assert (decode.mask, decode.extent("m"), decode.extent("p")) == (FULL, decode_keys, 1)


# ---- latent attention (DeepSeek-V2, arXiv 2405.04434)

LATENT = Attention(heads=4, head_dim=24, value_dim=16, rotary=True, latent=Latent(q_rank=12, kv_rank=10, rope_dim=8))


def test_latent_prefill_unfolds_keys_and_values() -> None:
    found = {name: extents(each) for name, each in operations(sizes(layer(mask="causal"), LATENT)).items()}
    assert found["q_down_proj"] == (18, 16, 12, 1)
    assert found["q_proj"] == (18, 12, 4 * 24, 1)
    assert found["kv_down_proj"] == (18, 16, 10 + 8, 1)
    assert found["kv_up_proj"] == (18, 10, 4 * ((24 - 8) + 16), 1)
    assert found["attention"] == (2, 4, 1, 9, 9, 24, 16)
    assert found["q_rotary"] == (18 * 4, 4)  # only the rotated part
    assert found["k_rotary"] == (18, 4)  # one key for all heads
    assert found["out_proj"] == (18, 4 * 16, 16, 1)


def test_latent_decode_is_absorbed_into_one_key_head() -> None:
    """Queries are folded through the key half of the unfolding, outputs through its value half, head by head."""
    found = operations(sizes(layer(mask="causal"), LATENT), phase="decode")
    assert extents(found["attention"]) == (2, 4, 4, 9, 1, 10 + 8, 10)  # g = h: all heads share the latent key
    assert extents(found["q_absorb"]) == (2, 24 - 8, 10, 4)
    assert extents(found["v_absorb"]) == (2, 10, 16, 4)
    assert "kv_up_proj" not in found


def test_the_absorbed_form_computes_what_the_unfolded_form_does() -> None:
    """Shapes of the operations above, on numbers: one query, nine keys, four heads; the rotated part left out."""
    generator = np.random.default_rng(0)
    q, latent = generator.normal(size=(4, 16)), generator.normal(size=(9, 10))
    key_up, value_up = generator.normal(size=(4, 10, 16)), generator.normal(size=(4, 10, 16))

    def softmax(scores: Array) -> Array:
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=-1, keepdims=True))

    keys, values = np.einsum("mc,hce->hme", latent, key_up), np.einsum("mc,hcf->hmf", latent, value_up)
    unfolded = np.einsum("hm,hmf->hf", softmax(np.einsum("he,hme->hm", q, keys)), values)
    absorbed_q = np.einsum("he,hce->hc", q, key_up)  # q_absorb
    attended = softmax(absorbed_q @ latent.T) @ latent  # attention over one latent key head
    np.testing.assert_allclose(np.einsum("hc,hcf->hf", attended, value_up), unfolded)  # v_absorb


def test_a_sparse_indexer_scores_all_keys_and_attention_sees_the_best() -> None:
    indexer = {"heads": 3, "head_dim": 5, "keys": 4}
    latent = {"q_rank": 12, "kv_rank": 10, "rope_dim": 8, "indexer": indexer}
    attention = Attention.model_validate({**LATENT.model_dump(), "latent": latent})
    prefill = operations(sizes(layer(mask="causal"), attention))
    decode = operations(sizes(layer(mask="causal"), attention), phase="decode")
    assert extents(prefill["index_q_proj"]) == (18, 12, 3 * 5, 1)
    assert extents(prefill["index_scores"]) == (9 * 3, 5, 9, 2)
    assert prefill["attention"].mask.attended_pairs(9, 9) == 1 + 2 + 3 + 4 * 6  # min(p + 1, 4) keys for query p
    assert extents(decode["index_scores"]) == (3, 5, 9, 2)
    assert decode["attention"].extent("m") == 4


# ---- experts


def test_experts_share_the_choices_of_all_tokens() -> None:
    """18 tokens x 2 choices = 36 over 4 experts, all of them hit: 9 rows each."""
    experts = Experts(experts=4, chosen=2, width=10, shared=1)
    found = operations(sizes(layer(feed_forward="experts"), experts=experts))
    assert list(found)[-12:] == [
        "ffn_norm", "router", "router_softmax", "expert_up", "expert_gate", "shared_up", "shared_gate",
        "expert_activation", "shared_activation", "expert_down", "shared_down", "expert_sum", "ffn_residual",
    ][-12:]  # fmt: skip
    assert extents(found["router"]) == (18, 16, 4, 1)
    assert extents(found["expert_up"]) == extents(found["expert_gate"]) == (9, 16, 10, 4)
    assert extents(found["expert_down"]) == (9, 10, 16, 4)
    assert extents(found["expert_activation"]) == (36, 10)
    assert extents(found["expert_sum"]) == (36, 16)
    assert extents(found["shared_up"]) == (18, 16, 10, 1)


def test_one_token_reaches_exactly_the_experts_it_chooses() -> None:
    assert expected_experts(Experts(experts=256, chosen=8, width=1), 1) == 8


def test_two_tokens_meet_at_one_expert_in_expectation() -> None:
    """16 experts, 4 each: 16 (1 - (3/4)^2) = 7."""
    assert expected_experts(Experts(experts=16, chosen=4, width=1), 2) == 7


@settings(deadline=None)
@given(experts=st.integers(1, 512), tokens=st.integers(1, 10**6), data=st.data())
def test_expected_experts_lie_between_the_chosen_and_all(experts: int, tokens: int, data: st.DataObject) -> None:
    chosen = data.draw(st.integers(1, experts))
    mixture = Experts(experts=experts, chosen=chosen, width=1)
    hit = expected_experts(mixture, tokens)
    assert chosen <= hit <= min(experts, chosen * tokens)
    assert expected_experts(mixture, tokens + 1) >= hit


@settings(deadline=None)
@given(tokens=st.integers(1, 10**5), chosen=st.integers(1, 8))
def test_rows_of_the_experts_cover_every_choice(tokens: int, chosen: int) -> None:
    experts = Experts(experts=8, chosen=chosen, width=1)
    of = sizes(layer(feed_forward="experts"), experts=experts)
    rows, _, _, copies = extents(operations(of, batch=1, length=tokens)["expert_up"])
    assert 0 <= rows * copies - tokens * chosen < copies


@pytest.mark.parametrize(("norms", "named"), [(1, ["attn_norm"]), (2, ["attn_norm", "ffn_norm"])])
def test_attention_and_feed_forward_side_by_side_have_one_sum(norms: int, named: list[str]) -> None:
    """GPT-J: one norm for both; Falcon-180B: one each, of the same input. The sum takes stream, attention and both."""
    found = operations(sizes(layer(mask="causal", parallel=True)), norms=norms)
    assert [name for name in found if name.endswith("norm")] == named
    assert [name for name in found if name.endswith("residual")] == ["ffn_residual"]
    assert found["ffn_residual"].cascade.inputs == ("X", "A", "F")
    assert list(found)[-1] == "ffn_residual"
