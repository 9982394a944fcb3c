"""`config.json` of published models, written down by hand: exact parameters and caches, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascadesim.einsum_cascades.models.configurations import workload_fields, workload_yaml
from cascadesim.einsum_cascades.models.layers import Layer
from cascadesim.einsum_cascades.models.model_types import model_types, readable_types
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
    for content in {**MODELS, **OTHERS}.values():
        path = written(tmp_path, content)
        fields = workload_fields(path)
        (tmp_path / "mine.yaml").write_text(workload_yaml(path), encoding="utf-8")
        assert workload_fields(tmp_path / "mine.yaml") == fields


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
    assert "encoders of images and other things" in loaded(tmp_path, vision).not_modelled


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


def hybrid(kind: str, **more: Any) -> dict[str, Any]:
    """Qwen3.5: three layers with a recurrence, then one with attention."""
    linear = {"linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16,
              "linear_value_head_dim": 128, "mamba_ssm_dtype": "float32", "attn_output_gate": True,
              "full_attention_interval": 4, "mtp_num_hidden_layers": 1, "mlp_only_layers": [],
              "rope_parameters": {"rope_theta": 1e7, "partial_rotary_factor": 0.25}}  # fmt: skip
    return {**TRAINING, "model_type": kind, "vocab_size": 248320, "head_dim": 256, **linear, **more}


def state_space(pattern: str, **more: Any) -> dict[str, Any]:
    """Nemotron-H: M, *, - and E are layers of Mamba-2, attention, a perceptron and experts."""
    mamba = {"conv_kernel": 4, "mamba_head_dim": 64, "n_groups": 8, "expand": 2, "chunk_size": 128, "use_bias": False,
             "mamba_proj_bias": False, "mlp_bias": False, "use_conv_bias": True, "mamba_hidden_act": "silu",
             "time_step_limit": [0.0, 1e9], "mlp_hidden_act": "relu2", "residual_in_fp32": False}  # fmt: skip
    return {**TRAINING, "model_type": "nemotron_h", "vocab_size": 131072, "hybrid_override_pattern": pattern,
            "num_hidden_layers": len(pattern), **mamba, **more}  # fmt: skip


def kinds_of(count: int, each: int, other: str, word: str = "full_attention") -> list[str]:
    return [word if (number + 1) % each == 0 else other for number in range(count)]


def half_rotated(kind: str, **more: Any) -> dict[str, Any]:
    return {**decoder(kind, 0, 0, 0, 0, 0, 0), "partial_rotary_factor": 0.5, **more}


MIMO = [0, 1, 1, 1, 1, *[0, 1, 1, 1, 1, 1] * 7, 0]  # 48 layers: full where 0
OTHERS: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "n_ctx": 1024,
             "vocab_size": 50257, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.1,
             "summary_type": "cls_index", "task_specific_params": {"text-generation": {"do_sample": True}}},
    "gpt-j-6b": {"model_type": "gptj", "n_embd": 4096, "n_layer": 28, "n_head": 16, "n_inner": None, "rotary_dim": 64,
                 "vocab_size": 50400, "n_positions": 2048, "activation_function": "gelu_new", "rotary": True,
                 "tie_word_embeddings": False},
    "falcon-7b": {"model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71, "num_hidden_layers": 32,
                  "multi_query": True, "new_decoder_architecture": False, "parallel_attn": True, "bias": False,
                  "alibi": False, "vocab_size": 65024, "apply_residual_connection_post_layernorm": False},
    "falcon-180b": {"model_type": "falcon", "hidden_size": 14848, "num_attention_heads": 232, "num_hidden_layers": 80,
                    "num_kv_heads": 8, "new_decoder_architecture": True, "parallel_attn": True, "multi_query": True,
                    "bias": False, "vocab_size": 65024},
    "opt-1.3b": {"model_type": "opt", "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32,
                 "ffn_dim": 8192, "vocab_size": 50272, "max_position_embeddings": 2048, "word_embed_proj_dim": 2048,
                 "do_layer_norm_before": True, "activation_function": "relu", "layerdrop": 0.0, "prefix": "</s>"},
    "bert-base": {"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                  "intermediate_size": 3072, "vocab_size": 30522, "type_vocab_size": 2, "hidden_act": "gelu",
                  "max_position_embeddings": 512, "position_embedding_type": "absolute", "hidden_dropout_prob": 0.1},
    "roberta-base": {"model_type": "roberta", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                     "intermediate_size": 3072, "vocab_size": 50265, "type_vocab_size": 1, "hidden_act": "gelu",
                     "max_position_embeddings": 514},
    "vit-b-16": {"model_type": "vit", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                 "intermediate_size": 3072, "image_size": 224, "patch_size": 16, "num_channels": 3, "qkv_bias": True,
                 "id2label": {str(number): "a label" for number in range(1000)}, "encoder_stride": 16},
    "t5-small": {"model_type": "t5", "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
                 "vocab_size": 32128, "n_positions": 512, "feed_forward_proj": "relu", "is_encoder_decoder": True,
                 "relative_attention_num_buckets": 32},
    "flan-t5-base": {"model_type": "t5", "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12,
                     "num_decoder_layers": 12, "vocab_size": 32128, "feed_forward_proj": "gated-gelu",
                     "tie_word_embeddings": False},
    "glm-4-9b": half_rotated("glm4", num_hidden_layers=40, hidden_size=4096, num_attention_heads=32, head_dim=128,
                            num_key_value_heads=2, intermediate_size=13696, vocab_size=151552, attention_bias=True),
    "glm-4.5-air": half_rotated(
        "glm4_moe", num_hidden_layers=46, hidden_size=4096, num_attention_heads=96, num_key_value_heads=8, head_dim=128,
        intermediate_size=10944, vocab_size=151552, attention_bias=True, moe_intermediate_size=1408, use_qk_norm=False,
        n_routed_experts=128, n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=1, n_group=1,
        num_nextn_predict_layers=1),
    "glm-4.5": half_rotated(
        "glm4_moe", num_hidden_layers=92, hidden_size=5120, num_attention_heads=96, num_key_value_heads=8, head_dim=128,
        intermediate_size=12288, vocab_size=151552, attention_bias=True, moe_intermediate_size=1536, use_qk_norm=True,
        n_routed_experts=160, n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=3),
    "minimax-m2.5": decoder("minimax_m2", 62, 3072, 48, 8, 1536, 200064, head_dim=128, num_local_experts=256,
                            num_experts_per_tok=8, rotary_dim=64, use_qk_norm=True, qk_norm_type="per_layer",
                            scoring_func="sigmoid", use_routing_bias=True, use_mtp=True, shared_intermediate_size=0),
    "llama-4-scout": decoder("llama4_text", 48, 5120, 40, 8, 8192, 202048, head_dim=128, intermediate_size_mlp=16384,
                             num_local_experts=16, num_experts_per_tok=1, attention_chunk_size=8192, use_qk_norm=True,
                             interleave_moe_layer_step=1),
    "gemma-4-26b": decoder(
        "gemma4_text", 30, 2816, 16, 8, 2112, 262144, head_dim=256, global_head_dim=512, num_global_key_value_heads=2,
        moe_intermediate_size=704, num_experts=128, top_k_experts=8, enable_moe_block=True, attention_k_eq_v=True,
        sliding_window=1024, layer_types=kinds_of(30, 6, "sliding_attention"), hidden_activation="gelu_pytorch_tanh",
        rope_parameters={"full_attention": {"partial_rotary_factor": 0.25}, "sliding_attention": {"rope_theta": 1e4}},
        tie_word_embeddings=True, hidden_size_per_layer_input=0),
    "qwen3.5-27b": hybrid("qwen3_5_text", hidden_size=5120, num_hidden_layers=64, num_attention_heads=24,
                          num_key_value_heads=4, intermediate_size=17408, linear_num_value_heads=48,
                          layer_types=kinds_of(64, 4, "linear_attention")),
    "qwen3.5-35b-a3b": hybrid("qwen3_5_moe_text", hidden_size=2048, num_hidden_layers=40, num_attention_heads=16,
                              num_key_value_heads=2, linear_num_value_heads=32, num_experts=256, num_experts_per_tok=8,
                              moe_intermediate_size=512, shared_expert_intermediate_size=512),
    "nemotron-h-56b": state_space(
        "M-M-M-M*-" + "M-M-M-M-M*-" * 9 + "M-M-M-M-M-", hidden_size=8192, num_attention_heads=64,
        num_key_value_heads=8, intermediate_size=32768, mamba_num_heads=256, ssm_state_size=256,
        attention_head_dim=128),
    "nemotron-3-nano": state_space(
        "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", hidden_size=2688, num_attention_heads=32, head_dim=128,
        num_key_value_heads=2, intermediate_size=1856, mamba_num_heads=64, ssm_state_size=128, n_routed_experts=128,
        n_shared_experts=1, num_experts_per_tok=6, moe_intermediate_size=1856,
        moe_shared_expert_intermediate_size=3712),
    "mimo-v2-flash": decoder(
        "mimo_v2_flash", 48, 4096, 64, 4, 16384, 152576, head_dim=192, v_head_dim=128, sliding_window=128,
        partial_rotary_factor=0.334, swa_num_attention_heads=64, swa_num_key_value_heads=8, swa_head_dim=192,
        swa_v_head_dim=128, hybrid_layer_pattern=MIMO, moe_layer_freq=[0] + [1] * 47, moe_intermediate_size=2048,
        n_routed_experts=256, num_experts_per_tok=8, layernorm_epsilon=1e-5, attention_chunk_size=128),
}  # fmt: skip
BESIDE = pytest.mark.skipif("parallel" not in Layer.model_fields, reason="no layer has attention beside a perceptron")


@pytest.mark.parametrize(("name", "parameters"), [  # as the files of the models have them
    ("gpt2", 124_439_808), ("opt-1.3b", 1_315_758_080), ("bert-base", 109_482_240), ("roberta-base", 124_645_632),
    ("vit-b-16", 86_567_656), ("t5-small", 60_506_624), ("flan-t5-base", 247_577_856),
    pytest.param("gpt-j-6b", 6_050_882_784, marks=BESIDE), pytest.param("falcon-7b", 7_217_189_760, marks=BESIDE),
    pytest.param("falcon-180b", 179_522_565_120, marks=BESIDE),
])  # fmt: skip
def test_parameters_of_older_models_are_exact(tmp_path: Path, name: str, parameters: int) -> None:
    assert abs(loaded(tmp_path, OTHERS[name]).parameters() - parameters) <= 1000  # biases of positions beside scores


@pytest.mark.parametrize(("name", "billions"), [  # as their authors round them
    ("glm-4-9b", 9.40), ("glm-4.5-air", 106), ("glm-4.5", 355),
    ("minimax-m2.5", 229), ("gemma-4-26b", 25.2), ("llama-4-scout", 107.8),
    ("qwen3.5-27b", 26.9), ("nemotron-h-56b", 56.3), ("nemotron-3-nano", 31.6), ("mimo-v2-flash", 309),
])  # fmt: skip
def test_parameters_of_newer_models_are_within_a_percent(tmp_path: Path, name: str, billions: float) -> None:
    assert loaded(tmp_path, OTHERS[name]).parameters() == pytest.approx(billions * 1e9, rel=0.01)


@pytest.mark.parametrize("name", ["qwen3.5-27b", "qwen3.5-35b-a3b", "nemotron-h-56b", "mimo-v2-flash", "bert-base",
                                  "vit-b-16", "t5-small"])  # fmt: skip
def test_other_operations_are_those_of_the_workload_that_comes_along(tmp_path: Path, name: str) -> None:
    """Kinds of layers may come in another order, and images have a layout there."""
    found, known = loaded(tmp_path, OTHERS[name]), load_workload(name)
    assert abs(found.parameters() - known.parameters()) <= sum(known.other_parameters.values())

    def listed(model: Workload, phase: str) -> list[tuple[object, ...]]:
        return sorted((one.name, one.count, one.extents, one.cascade.name, str(one.mask))
                      for one in model.operations(sequence_length=197, batch=2, phase=phase))  # type: ignore[arg-type]

    for phase in ("prefill", "decode") if found.generates else ("prefill",):
        assert listed(found, phase) == listed(known, phase)


def test_caches_of_hybrids_are_exact(tmp_path: Path) -> None:
    """After 256K tokens, deployment of Qwen3.5-27B: 16 layers of 2 x 4 x 256 numbers a token, 48 states in fp32."""
    found = loaded(tmp_path, OTHERS["qwen3.5-27b"])
    assert found.kv_cache_bytes(2**18, 1) == 17_179_869_184
    assert found.state_bytes(1) == (150_994_944, 2_949_120)


def test_norms_over_all_heads_have_a_scale_for_each_of_their_numbers(tmp_path: Path) -> None:
    """MiniMax-M2: 48 query heads and 8 key heads of 128, in 62 layers."""
    full = loaded(tmp_path, OTHERS["minimax-m2.5"])
    attention = full.attention
    assert attention is not None
    each = full.model_copy(update={"attention": attention.model_copy(update={"qk_norm": True})})
    assert full.parameters() - each.parameters() == 62 * 128 * (48 + 8 - 2)
    (norm,) = [one for one in full.operations(sequence_length=10, batch=3) if one.name == "q_norm"]
    assert (norm.extent("r"), norm.extent("d")) == (30, 48 * 128)


def test_layers_say_which_window_chunk_rotation_and_heads_they_have(tmp_path: Path) -> None:
    scout = loaded(tmp_path, OTHERS["llama-4-scout"])
    assert {name: (layer.count, layer.chunk) for name, layer in scout.layers.items()} == {
        "local": (36, 8192), "global": (12, None)}  # fmt: skip
    assert scout.sizes(scout.layers["global"]).attention.rotary is False  # type: ignore[union-attr]
    assert scout.experts is not None
    assert scout.experts.shared == 1
    gemma = loaded(tmp_path, OTHERS["gemma-4-26b"])
    own = gemma.sizes(gemma.layers["global"]).attention
    assert own is not None
    assert (own.head_dim, own.kv_heads, own.rotated) == (512, 2, 128)
    assert gemma.attention is not None
    assert (gemma.attention.head_dim, gemma.attention.kv_heads, gemma.attention.rotated) == (256, 8, 256)
    assert gemma.experts is not None
    assert gemma.experts.shared == 3  # the dense part of 2,112 beside experts of 704
    roberta = loaded(tmp_path, OTHERS["roberta-base"])
    assert (roberta.max_context, roberta.generates) == (512, False)


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


def test_lists_of_layers_say_more_than_rules(tmp_path: Path) -> None:
    """Llama 4 lists layers that rotate, or those with experts; Gemma 4 without experts is dense everywhere."""
    turns = [1, 0, 0, *[1] * 45]
    scout = loaded(tmp_path, {**OTHERS["llama-4-scout"], "no_rope_layers": turns})
    assert {name: layer.count for name, layer in scout.layers.items()} == {"local": 46, "global": 2}
    maverick = loaded(tmp_path, {**OTHERS["llama-4-scout"], "moe_layers": list(range(1, 48, 2))})
    assert sum(layer.count for layer in maverick.layers.values() if layer.feed_forward == "experts") == 24
    gemma = loaded(tmp_path, {**OTHERS["gemma-4-26b"], "enable_moe_block": False})
    assert gemma.experts is None
    assert gemma.ffn is not None
    assert gemma.ffn.width == 2112


def test_a_text_part_takes_what_the_whole_file_says_of_its_embeddings(tmp_path: Path) -> None:
    inner = OTHERS["qwen3.5-27b"]
    tied = loaded(tmp_path, {"model_type": "qwen3_5", "text_config": inner, "tie_word_embeddings": True})
    apart = loaded(tmp_path, {"model_type": "qwen3_5", "text_config": inner, "tie_word_embeddings": False})
    assert apart.parameters() - tied.parameters() == 248320 * 5120
    assert "encoders of images and other things" in tied.not_modelled
