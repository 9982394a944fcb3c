"""`config.json` of published models, written down by hand: exact parameters and caches, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.einsum_cascades.models.configurations import FAMILIES, workload_fields, workload_yaml
from cascadesim.einsum_cascades.models.workload import Workload, load_workload
from cascadesim.einsum_cascades.notation.errors import SpecError

TRAINING = {"torch_dtype": "bfloat16", "rope_theta": 1e6, "rms_norm_eps": 1e-6, "bos_token_id": 1, "use_cache": True,
            "architectures": ["SomeForCausalLM"], "attention_dropout": 0.0, "initializer_range": 0.02}  # fmt: skip


def decoder(kind: str, layers: int, hidden: int, heads: int, kv_heads: int, width: int, vocabulary: int,
            **more: Any) -> dict[str, Any]:  # fmt: skip
    return {"model_type": kind, "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
            "num_key_value_heads": kv_heads, "intermediate_size": width, "vocab_size": vocabulary, "hidden_act": "silu",
            **TRAINING, **more}  # fmt: skip


LATENT = {"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
          "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 2048,
          "first_k_dense_replace": 3, "moe_layer_freq": 1, "n_group": 8, "topk_group": 4, "topk_method": "noaux_tc",
          "scoring_func": "sigmoid", "norm_topk_prob": True, "num_nextn_predict_layers": 1}  # fmt: skip
MODELS = {
    "Qwen3-8B": decoder("qwen3", 36, 4096, 32, 8, 12288, 151936, head_dim=128, max_position_embeddings=40960,
                        use_sliding_window=False, sliding_window=None, max_window_layers=36, attention_bias=False),
    "Qwen3-32B": decoder("qwen3", 64, 5120, 64, 8, 25600, 151936, head_dim=128),
    "Mixtral-8x22B": decoder("mixtral", 56, 6144, 48, 8, 16384, 32000, num_local_experts=8, num_experts_per_tok=2,
                             sliding_window=None),
    "Llama-3.1-405B": decoder("llama", 126, 16384, 128, 8, 53248, 128256, mlp_bias=False, attention_bias=False),
    "DeepSeek-R1": decoder("deepseek_v3", 61, 7168, 128, 128, 18432, 129280, **LATENT,
                           quantization_config={"quant_method": "fp8"}),
    "Mistral-7B": decoder("mistral", 32, 4096, 32, 8, 14336, 32000, sliding_window=4096),
    "Qwen2.5-7B": decoder("qwen2", 28, 3584, 28, 4, 18944, 152064, use_sliding_window=False, sliding_window=131072),
    "Phi-3-mini": decoder("phi3", 32, 3072, 32, 32, 8192, 32064, sliding_window=2047, rope_scaling=None),
    "Gemma-2-9B": decoder("gemma2", 42, 3584, 16, 8, 14336, 256000, head_dim=256, sliding_window=4096,
                          hidden_activation="gelu_pytorch_tanh", attn_logit_softcapping=50.0,
                          final_logit_softcapping=30.0, query_pre_attn_scalar=256),
    "Gemma-3-1B": decoder("gemma3_text", 26, 1152, 4, 1, 6912, 262144, head_dim=256, sliding_window=512,
                          sliding_window_pattern=6, hidden_activation="gelu_pytorch_tanh"),
    "Qwen3-30B-A3B": decoder("qwen3_moe", 48, 2048, 32, 4, 6144, 151936, head_dim=128, num_experts=128,
                             num_experts_per_tok=8, moe_intermediate_size=768, decoder_sparse_step=1,
                             mlp_only_layers=[]),
    "gpt-oss-20b": decoder("gpt_oss", 24, 2880, 64, 8, 2880, 201088, head_dim=64, num_local_experts=32,
                           num_experts_per_tok=4, sliding_window=128, attention_bias=True, swiglu_limit=7.0,
                           layer_types=["sliding_attention", "full_attention"] * 12),
}  # fmt: skip
SHIPPED = {"Qwen3-8B": "qwen3-8b", "Qwen3-32B": "qwen3-32b", "Llama-3.1-405B": "llama-3.1-405b",
           "DeepSeek-R1": "deepseek-v3", "Mistral-7B": "mistral-7b-v0.1", "Qwen2.5-7B": "qwen2.5-7b",
           "Phi-3-mini": "phi-3-mini-4k", "Gemma-2-9B": "gemma-2-9b", "Gemma-3-1B": "gemma-3-1b",
           "Qwen3-30B-A3B": "qwen3-30b-a3b", "gpt-oss-20b": "gpt-oss-20b"}  # fmt: skip

SLIDING = {"sliding_window": 4, "use_sliding_window": True}


def written(folder: Path, content: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def loaded(folder: Path, content: object) -> Workload:
    return load_workload(str(written(folder, content)))


@pytest.mark.parametrize(("name", "parameters", "cache"), [  # 4,096 tokens, 16 bit: hand-derived, as published
    ("Qwen3-8B", 8_190_735_360, 603_979_776), ("Qwen3-32B", 32_762_123_264, 1_073_741_824),
    ("Mixtral-8x22B", 140_620_634_112, 939_524_096), ("Llama-3.1-405B", 405_853_388_800, 2_113_929_216),
    ("DeepSeek-R1", 671_026_419_200, 287_834_112),
])  # fmt: skip
def test_parameters_and_caches_are_exact(tmp_path: Path, name: str, parameters: int, cache: int) -> None:
    found = loaded(tmp_path, MODELS[name])
    assert found.parameters() == parameters
    assert found.kv_cache_bytes(4096, 1) == cache


@pytest.mark.parametrize("name", SHIPPED)
def test_the_operations_are_those_of_the_workload_that_comes_along(tmp_path: Path, name: str) -> None:
    """Its length is the shorter one of 4,096 and what the file says."""
    found, known = loaded(tmp_path, MODELS[name]), load_workload(SHIPPED[name])
    assert found.parameters() == known.parameters()
    for phase in ("prefill", "decode"):
        ours, theirs = (model.operations(sequence_length=8192, batch=2, phase=phase) for model in (found, known))  # type: ignore[arg-type]
        assert [(one.name, one.count, one.extents, one.cascade.name) for one in ours] == [
            (one.name, one.count, one.extents, one.cascade.name) for one in theirs]  # fmt: skip


def test_a_folder_and_an_id_name_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "My-Model"
    folder.mkdir()
    written(folder, MODELS["Qwen3-8B"])
    assert load_workload(str(folder)).name == "My-Model"
    assert load_workload("Qwen/Qwen3-32B") == load_workload("qwen3-32b")
    assert load_workload("openai/gpt-oss-20b").name == "gpt-oss-20b"
    assert load_workload(str(folder), ["batch=3"]).batch == 3


def test_the_yaml_reads_back_as_the_same_model(tmp_path: Path) -> None:
    for content in MODELS.values():
        path = written(tmp_path, content)
        (tmp_path / "mine.yaml").write_text(workload_yaml(path), encoding="utf-8")
        assert load_workload(str(tmp_path / "mine.yaml")) == load_workload(str(path))


def test_layers_of_kinds_follow_the_rule_of_their_family(tmp_path: Path) -> None:
    def kinds(content: dict[str, Any]) -> dict[str, tuple[int, int | None]]:
        return {name: (layer.count, layer.window) for name, layer in loaded(tmp_path, content).layers.items()}

    assert kinds(MODELS["Gemma-3-1B"]) == {"local": (22, 512), "global": (4, None)}  # each sixth is global
    assert kinds(MODELS["Gemma-2-9B"]) == {"local": (21, 4096), "global": (21, None)}
    late = {**MODELS["Qwen2.5-7B"], "use_sliding_window": True, "max_window_layers": 20}
    assert kinds(late) == {"global": (20, None), "local": (8, 131072)}
    sparse = {**MODELS["Qwen3-30B-A3B"], "mlp_only_layers": [0, 1]}
    assert kinds(sparse) == {"dense": (2, None), "experts": (46, None)}
    every_second = {**sparse, "decoder_sparse_step": 2}
    assert kinds(every_second)["experts"] == (23, None)  # the 4th, 6th ... 48th; the 2nd is a dense one
    vision = {"model_type": "gemma3", "text_config": MODELS["Gemma-3-1B"], "vision_config": {"hidden_size": 7}}
    assert "the vision encoder" in loaded(tmp_path, vision).not_modelled


@pytest.mark.parametrize(("change", "message"), [
    ({"model_type": "mamba"}, "model_type: 'mamba' is not understood; give one of llama, mistral"),
    ({"attn_output_gate": True}, "attn_output_gate: not understood for model_type qwen3"),
    ({"n_routed_experts": 8}, "n_routed_experts: not understood for model_type qwen3"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: not understood"),
    ({"hidden_act": "relu2"}, "hidden_act: 'relu2'; known: silu"),
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


@given(st.sampled_from(sorted(MODELS)), st.data())
@settings(deadline=None)
def test_any_value_of_any_field_is_a_model_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    content = dict(MODELS[name])
    content[data.draw(st.sampled_from(sorted(content)))] = data.draw(VALUES)
    try:
        found = loaded(tmp_path_factory.getbasetemp(), content)
    except SpecError as error:
        assert len(str(error)) <= 300  # noqa: PT017
        return
    assert found.parameters() > 0


def test_every_family_has_a_model_here(tmp_path: Path) -> None:
    shown = {content["model_type"] for content in MODELS.values()}
    assert set(FAMILIES) - shown == {"qwen3_vl_moe_text", "deepseek_v2", "kimi_k2"}  # as others that are here
    second = written(tmp_path, {**MODELS["DeepSeek-R1"], "model_type": "deepseek_v2"})
    assert workload_fields(second)["kind"] == "decoder"
