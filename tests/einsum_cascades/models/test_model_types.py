"""Types of models in `config.json`: each has a published model here, and a type, field or value that is not understood
is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_configurations import MODELS, OTHERS, loaded, written

from cascadesim.einsum_cascades.models.configurations import workload_fields
from cascadesim.einsum_cascades.models.model_types import model_types, readable_types
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.einsum_cascades.notation.errors import SpecError

SLIDING = {"sliding_window": 4, "use_sliding_window": True}


@pytest.mark.parametrize(("change", "message"), [
    ({"model_type": "mamba"}, "model_type: 'mamba' is not understood; give one of llama, mistral"),
    ({"attn_output_gate": True}, "attn_output_gate: not understood for model_type qwen3"),
    ({"n_routed_experts": 8}, "n_routed_experts: not understood for model_type qwen3"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: not understood"),
    ({"hidden_act": "mish"}, "hidden_act: 'mish'; known: silu"),
    ({"hidden_act": "relu2"}, "relu2 gates nothing"),
    ({"hidden_size": "4096"}, "hidden_size: expected a whole number, got '4096'"),
    ({"hidden_size": None}, "hidden_size: missing"),
    ({"num_hidden_layers": 0}, "num_hidden_layers: 0; give 1 to 10,000"),
    ({"num_hidden_layers": 10**9}, "give 1 to 10,000"),
    ({"num_attention_heads": 0}, "attention.heads"),
    ({"num_key_value_heads": 5}, "heads must be a multiple of kv_heads"),
    ({"layer_types": ["linear_attention"] * 36, **SLIDING}, "layer_types: expected"),
    ({"layer_types": [[]] * 36, **SLIDING}, "layer_types: expected"),
])  # fmt: skip
def test_what_is_not_understood_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as refused:
        loaded(tmp_path, {**MODELS["Qwen3-8B"], **change})
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) <= 300


def test_queries_without_a_latent_vector_are_refused(tmp_path: Path) -> None:
    """DeepSeek-V2-Lite."""
    with pytest.raises(SpecError, match="q_lora_rank: null"):
        loaded(tmp_path, {**MODELS["DeepSeek-R1"], "model_type": "deepseek_v2", "q_lora_rank": None})


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", '{"model_type": []}', '{"model_type": "llama"}', "nan", '"x"',
                                  '{"model_type": "gemma3", "text_config": 3}', "[" * 5000])  # fmt: skip
def test_what_is_no_configuration_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as refused:
        load_workload(str(path))
    assert str(refused.value).startswith((f"{path}: not valid JSON", "config.json: "))
    assert "\n" not in str(refused.value)


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-3, 2**41), st.floats(), st.text(max_size=5),
                   st.lists(st.text(max_size=3), max_size=2),
                   st.dictionaries(st.text(max_size=3), st.integers(), max_size=2))  # fmt: skip


def test_every_type_has_a_model_here(tmp_path: Path) -> None:
    shown = {content["model_type"] for content in {**MODELS, **OTHERS}.values()}
    parts = {name for name, found in model_types().items() if found.text is not None}
    alike = {"qwen3_vl_moe_text", "deepseek_v2", "kimi_k2"}  # as others that are here
    assert set(readable_types()) - parts - shown == alike
    second = written(tmp_path, {**MODELS["DeepSeek-R1"], "model_type": "deepseek_v2"})
    assert workload_fields(second)["kind"] == "decoder"


@pytest.mark.parametrize(("kind", "missing"), [
    ("deepseek_v4", "compressed sparse attention"), ("glm_moe_dsa", "DSA"), ("step3p7", "gates of attention"),
    ("kimi_k3", "situ"),
])  # fmt: skip
def test_what_no_workload_can_say_is_refused_with_its_name(tmp_path: Path, kind: str, missing: str) -> None:
    with pytest.raises(SpecError, match=missing) as refused:
        loaded(tmp_path, {"model_type": kind, "hidden_size": 7168})
    assert f"model_type {kind} is not modelled" in str(refused.value)
    assert len(str(refused.value)) <= 300


@pytest.mark.parametrize(("name", "change", "message"), [
    ("opt-1.3b", {"do_layer_norm_before": False}, "do_layer_norm_before: False is not understood; only True"),
    ("opt-1.3b", {"word_embed_proj_dim": 512}, "word_embed_proj_dim: 512 is not understood"),
    ("falcon-7b", {"alibi": True}, "alibi: not understood for model_type falcon"),
    ("falcon-180b", {"num_ln_in_parallel_attn": 1}, "num_ln_in_parallel_attn: 1 is not understood; only 2"),
    ("minimax-m2.5", {"shared_intermediate_size": 64}, "shared_intermediate_size: 64 is not understood"),
    ("gemma-4-26b", {"num_kv_shared_layers": 4}, "num_kv_shared_layers: not understood"),
    ("gemma-4-26b", {"intermediate_size": 2000}, "expected a multiple of the experts' width 704"),
    ("nemotron-3-nano", {"hybrid_override_pattern": "MX" * 26}, "hybrid_override_pattern: expected M or - or E or *"),
    ("mimo-v2-flash", {"hybrid_layer_pattern": [0, 1]}, "hybrid_layer_pattern: expected 0 or 1 for each of 48 layers"),
    ("qwen3.5-27b", {"layer_types": ["sliding_attention"] * 64}, "layer_types: expected full_attention or linear"),
    ("glm-4-9b", {"partial_rotary_factor": 2}, "partial_rotary_factor: expected a share up to 1, got 2"),
    ("vit-b-16", {"patch_size": 15}, "image_size: expected a multiple of patch_size, got 224 and 15"),
    ("t5-small", {"feed_forward_proj": "gated-mish"}, "hidden_act: 'gated-mish'; known"),
])  # fmt: skip
def test_what_would_change_the_arithmetic_is_refused(
    tmp_path: Path, name: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as refused:
        loaded(tmp_path, {**OTHERS[name], **change})
    assert message in str(refused.value)
    assert len(str(refused.value)) <= 300


@given(st.sampled_from(sorted({**MODELS, **OTHERS})), st.data())
@settings(deadline=None)
def test_any_value_of_any_field_is_a_model_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    content = dict({**MODELS, **OTHERS}[name])
    content[data.draw(st.sampled_from(sorted(content)))] = data.draw(VALUES)
    try:
        found = loaded(tmp_path_factory.getbasetemp(), content)
    except SpecError as error:
        assert len(str(error)) <= 300  # noqa: PT017
        return
    assert found.parameters() > 0
